"""Energy of a handshake and of a request: ENE-03, ENE-05."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from rig.board import Board, Console
from rig.clock import now_s
from rig.energy import Bounds, Mark, Measurement, Phase, combine_repeats, energy
from rig.errors import DeviceError
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.meter import Capture as CurrentCapture
from rig.meter import Trigger
from rig.router import Capture

pytestmark = pytest.mark.usefixtures("router", "meter", "quiet_board")

REPEATS = 5
COAPS_PORT = 5684
RADIO_TAIL_S = 0.05
"""How long after the last packet the receiver is counted to what it was switched on for."""


@pytest.fixture
def quiet_board(board: Board, coap: Coaps) -> None:
    """A board just reset: one that still answers a handshake given up by an earlier test would be paid for here."""
    board.hard_reset()
    board.wait_network()
    coap.prove_alive()


@pytest.mark.requirement("ENE-03")
def test_energy_of_a_handshake(coap: Coaps, console: Console, measure: Measure) -> None:
    repeats: list[Measurement] = []
    evidence: list[Path] = []
    for _ in range(REPEATS):
        with measure.packets("handshake") as packets, _current(measure, "handshake") as current:
            began_s = now_s()
            session = coap.connect()
            started = console.wait_mark("handshake_start", since_s=began_s)
            recorded = current.result(timeout_s=10)
        session.close()
        waveform = measure.align(recorded, started, _reaction(packets))
        phase = _on_the_air("handshake", packets)
        repeats.append(energy("handshake_energy", phase.window(waveform), measure.supply))
        evidence += [packets.path, measure.keep(waveform, [phase])]
    measure("ENE-03", combine_repeats("handshake_energy", repeats), evidence=evidence, notes=_notes("handshakes"))


@pytest.mark.requirement("ENE-05")
def test_energy_of_a_request(coap: Coaps, console: Console, measure: Measure) -> None:
    repeats: list[Measurement] = []
    evidence: list[Path] = []
    with coap.session() as session:
        for _ in range(REPEATS):
            with measure.packets("request") as packets, _current(measure, "request") as current:
                began_s = now_s()
                response = session.get("/light")
                started = console.wait_mark("request_start", since_s=began_s)
                recorded = current.result(timeout_s=10)
            if response.code != "2.05":
                raise DeviceError(f"GET /light was answered {response.code}: there is no request to measure")
            waveform = measure.align(recorded, started, _reaction(packets))
            phase = _on_the_air("request", packets)
            repeats.append(energy("request_energy", phase.window(waveform), measure.supply))
            evidence += [packets.path, measure.keep(waveform, [phase])]
    measure("ENE-05", combine_repeats("request_energy", repeats), evidence=evidence, notes=_notes("requests"))


def _current(measure: Measure, name: str) -> AbstractContextManager[CurrentCapture]:
    """Record from the next rising edge of the board's trigger line."""
    return measure.current(
        name, range_a=1.0, interval_s=20e-6, duration_s=0.25, pretrigger_s=0.05, trigger=Trigger.external_rising()
    )


def _exchange(packets: Capture) -> tuple[float, list[float]]:
    """Return when the client's first packet was at the board, and when each one back to that client was."""
    seen = [packet for packet in packets.packets() if packet.side == "board"]
    first = next(packet for packet in seen if packet.destination[1] == COAPS_PORT)
    return first.t_s, [packet.t_s for packet in seen if packet.destination == first.source]


def _reaction(packets: Capture) -> Bounds:
    """Return the bounds that the packets set to the trigger's edge: after what caused it, before the board's answer."""
    first_s, back_s = _exchange(packets)
    uncertainty_s = packets.clock.uncertainty_s
    return Bounds(first_s - uncertainty_s, min(back_s) + uncertainty_s, "the packets at the board")


def _on_the_air(name: str, packets: Capture) -> Phase:
    """Return the phase from the first packet at the board to the radio's tail after the last one back to its sender."""
    first_s, back_s = _exchange(packets)
    uncertainty_s = packets.clock.uncertainty_s
    return Phase(
        name,
        Mark("first packet at the board", first_s, uncertainty_s),
        Mark("end of the radio's tail", max(back_s) + RADIO_TAIL_S, uncertainty_s),
    )


def _notes(what: str) -> list[str]:
    return [f"mean of {REPEATS} {what}", f"with a radio tail of {RADIO_TAIL_S * 1000:g} ms after the last packet"]
