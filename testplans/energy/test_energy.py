"""Energy of handshakes, requests and idleness: ENE-01, ENE-03, ENE-05, ENE-07, ENE-08."""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rig.bench.bench import Bench
from rig.board import Board, Console
from rig.clock import now_s
from rig.coap.probe import Prober
from rig.energy import Bounds, Mark, Measurement, Phase, Waveform, combine_repeats, energy, mean_current
from rig.errors import DeviceError
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.meter import Capture as CurrentCapture
from rig.meter import Trigger
from rig.router import Capture

pytestmark = pytest.mark.usefixtures("router", "meter", "quiet_board")

REPEATS = 5
UNKNOWN = "nobody-of-this-bench"
HELLOS_PER_S = 10
ATTACK_S = 2.0
IDLE_S = 6.0
SHORT_IDLE_S = 1.0
SETTLE_S = 0.3
RADIO_TAIL_S = 0.05
"""How long after the last packet the receiver is counted to what it was switched on for."""


@pytest.fixture
def quiet_board(board: Board, coap: Coaps) -> None:
    """A board just reset: one that still answers a handshake given up by an earlier test would be paid for here."""
    board.hard_reset()
    board.wait_network()
    coap.prove_alive()


@pytest.mark.requirement("ENE-03")
def test_energy_of_a_handshake(bench: Bench, coap: Coaps, console: Console, measure: Measure) -> None:
    repeats: list[Measurement] = []
    evidence: list[Path] = []
    for _ in range(REPEATS):
        with measure.packets("handshake") as packets, _current(measure, "handshake") as current:
            began_s = now_s()
            session = coap.connect()
            started = console.wait_mark("handshake_start", since_s=began_s)
            recorded = current.result(timeout_s=10)
        session.close()
        exchange = _exchange(packets, bench.board_config.coaps_port)
        waveform = measure.align(recorded, started, exchange.reaction)
        phase = exchange.on_the_air("handshake")
        repeats.append(energy("handshake_energy", phase.window(waveform), measure.supply))
        evidence += [packets.path, measure.keep(waveform, [phase])]
    measure("ENE-03", combine_repeats("handshake_energy", repeats), evidence=evidence, notes=_notes("handshakes"))


@pytest.mark.requirement("ENE-05")
def test_energy_of_a_request(bench: Bench, coap: Coaps, probe: Prober, console: Console, measure: Measure) -> None:
    repeats: list[Measurement] = []
    evidence: list[Path] = []
    with coap.session() as session:
        for _ in range(REPEATS):
            with measure.packets("request") as packets, _current(measure, "request") as current:
                began_s = now_s()
                response = session.get(probe.life)
                started = console.wait_mark("request_start", since_s=began_s)
                recorded = current.result(timeout_s=10)
            if response.code != "2.05":
                raise DeviceError(f"GET {probe.life} was answered {response.code}: there is no request to measure")
            exchange = _exchange(packets, bench.board_config.coaps_port)
            waveform = measure.align(recorded, started, exchange.reaction)
            phase = exchange.on_the_air("request")
            repeats.append(energy("request_energy", phase.window(waveform), measure.supply))
            evidence += [packets.path, measure.keep(waveform, [phase])]
    measure("ENE-05", combine_repeats("request_energy", repeats), evidence=evidence, notes=_notes("requests"))


@pytest.mark.requirement("ENE-01")
def test_energy_of_a_refused_handshake_and_of_an_attack(
    bench: Bench, board: Board, coap: Coaps, probe: Prober, console: Console, measure: Measure
) -> None:
    with measure.packets("refused") as packets, _current(measure, "refused") as current:
        began_s = now_s()
        coap.attempt(identity=UNKNOWN, psk=coap.psk)
        started = console.wait_mark("handshake_start", since_s=began_s)
        recorded = current.result(timeout_s=10)
    exchange = _exchange(packets, bench.board_config.coaps_port)
    waveform = measure.align(recorded, started, exchange.reaction)
    phase = exchange.on_the_air("refused handshake")
    evidence = [packets.path, measure.keep(waveform, [phase])]
    measure("ENE-01", energy("failed_handshake_energy", phase.window(waveform), measure.supply), evidence=evidence)
    with _steady(measure, "attack", ATTACK_S) as current:
        for _ in range(round(ATTACK_S * HELLOS_PER_S)):
            client = probe.client()
            probe.run(client.send(client.client_hello()), client)
            time.sleep(1 / HELLOS_PER_S)
        attacked = current.result(timeout_s=10)
    # What the device still holds of these clients is not to be paid for, or waited for, by the next test.
    board.hard_reset()
    board.wait_network()
    measure(
        "ENE-01",
        mean_current("attack_current", attacked.whole()),
        evidence=[measure.keep(attacked)],
        notes=[f"{HELLOS_PER_S} ClientHellos a second, each from a port of its own, none with a cookie"],
    )


@pytest.mark.requirement("ENE-07")
def test_idle_current_with_and_after_a_session(coap: Coaps, probe: Prober, measure: Measure) -> None:
    with coap.session() as session:
        session.get(probe.life)
        with_session = _idle(measure, "open-session", IDLE_S)
    without = _idle(measure, "closed-session", SHORT_IDLE_S)
    for what, waveform in (("a session open", with_session), ("the session closed", without)):
        measure(
            "ENE-07",
            mean_current("idle_current", waveform.whole()),
            evidence=[measure.keep(waveform)],
            notes=[f"{waveform.duration_s:.1f} s with {what} and no request"],
        )


@pytest.mark.requirement("ENE-08")
def test_idle_current_after_a_refused_handshake(coap: Coaps, measure: Measure) -> None:
    outcome = coap.attempt(identity=UNKNOWN, psk=coap.psk)
    waveform = _idle(measure, "after-refusal", SHORT_IDLE_S)
    measure(
        "ENE-08",
        mean_current("idle_current", waveform.whole()),
        evidence=[measure.keep(waveform)],
        notes=[f"after a handshake with an unknown identity: {outcome}"],
    )


def _idle(measure: Measure, name: str, duration_s: float) -> Waveform:
    """Record while nothing is asked of the board, its radio's tail being over."""
    time.sleep(SETTLE_S)
    with _steady(measure, name, duration_s) as current:
        return current.result(timeout_s=duration_s + 10)


def _steady(measure: Measure, name: str, duration_s: float) -> AbstractContextManager[CurrentCapture]:
    """Record from now on, coarsely."""
    return measure.current(name, range_a=1.0, interval_s=1e-3, duration_s=duration_s)


def _current(measure: Measure, name: str) -> AbstractContextManager[CurrentCapture]:
    """Record from the next rising edge of the board's trigger line."""
    return measure.current(
        name, range_a=1.0, interval_s=20e-6, duration_s=0.25, pretrigger_s=0.05, trigger=Trigger.external_rising()
    )


@dataclass(frozen=True)
class Exchange:
    """A client's packets at the board: the first one to it, the first and the last one back, on the rig's clock."""

    first_s: float
    first_back_s: float
    last_back_s: float
    uncertainty_s: float

    @property
    def reaction(self) -> Bounds:
        """The bounds of the trigger's edge: after the packet that caused it, before the board's answer."""
        earliest_s, latest_s = self.first_s - self.uncertainty_s, self.first_back_s + self.uncertainty_s
        return Bounds(earliest_s, latest_s, "the packets at the board")

    def on_the_air(self, name: str) -> Phase:
        """Return the phase from the first packet to the radio's tail after the last one."""
        return Phase(
            name,
            Mark("first packet at the board", self.first_s, self.uncertainty_s),
            Mark("end of the radio's tail", self.last_back_s + RADIO_TAIL_S, self.uncertainty_s),
        )


def _exchange(packets: Capture, board_port: int) -> Exchange:
    """Return the exchange that the first packet to *board_port* begins."""
    seen = [packet for packet in packets.packets() if packet.side == "board"]
    first = next(packet for packet in seen if packet.destination[1] == board_port)
    back_s = [packet.t_s for packet in seen if packet.destination == first.source]
    return Exchange(first.t_s, min(back_s), max(back_s), packets.clock.uncertainty_s)


def _notes(what: str) -> list[str]:
    return [f"mean of {REPEATS} {what}", f"with a radio tail of {RADIO_TAIL_S * 1000:g} ms after the last packet"]
