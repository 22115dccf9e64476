"""Energy of handshakes, requests and idleness: ENE-01, ENE-03, ENE-05, ENE-07, ENE-08."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rig.board import Board
from rig.coap import Session
from rig.coap.probe import Prober
from rig.energy import Waveform, energy, mean_current
from rig.errors import DeviceError
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.testplans.energy.windows import UNKNOWN, Exchanges, steady

pytestmark = pytest.mark.usefixtures("router", "meter", "quiet_board")

REPEATS = 5
HELLOS_PER_S = 10
ATTACK_S = 2.0
IDLE_S = 6.0
SHORT_IDLE_S = 1.0
SETTLE_S = 0.3


@pytest.mark.requirement("ENE-03")
def test_energy_of_a_handshake(exchanges: Exchanges, coap: Coaps, measure: Measure) -> None:
    found = exchanges.repeated("handshake_energy", "handshake", coap.session, mark="handshake_start", repeats=REPEATS)
    measure("ENE-03", found.measurement, evidence=found.evidence, notes=found.notes)


@pytest.mark.requirement("ENE-05")
def test_energy_of_a_request(exchanges: Exchanges, coap: Coaps, probe: Prober, measure: Measure) -> None:
    with coap.session() as session:
        found = exchanges.repeated(
            "request_energy", "request", lambda: _answered(session, probe.life), mark="request_start", repeats=REPEATS
        )
    measure("ENE-05", found.measurement, evidence=found.evidence, notes=found.notes)


@pytest.mark.requirement("ENE-01")
def test_energy_of_a_refused_handshake_and_of_an_attack(
    exchanges: Exchanges, board: Board, coap: Coaps, probe: Prober, measure: Measure
) -> None:
    refused = exchanges.repeated(
        "failed_handshake_energy",
        "refused handshake",
        lambda: _refused(coap),
        mark="handshake_start",
        repeats=REPEATS,
    )
    measure(
        "ENE-01",
        refused.measurement,
        evidence=refused.evidence,
        notes=[*refused.notes, "an identity that the board does not know"],
    )
    hellos = round(ATTACK_S * HELLOS_PER_S)
    with steady(measure, "attack", ATTACK_S) as current:
        for _ in range(hellos):
            client = probe.client()
            probe.run(client.send(client.client_hello()), client)
            time.sleep(1 / HELLOS_PER_S)
        attacked = current.result(timeout_s=10)
    # What the device still holds of these clients is not to be paid for, or waited for, by the next test.
    board.hard_reset()
    board.wait_network()
    file = measure.keep(attacked)
    notes = [f"{HELLOS_PER_S} ClientHellos a second, each from a port of its own, none with a cookie"]
    measure("ENE-01", mean_current("attack_current", attacked.whole()), evidence=[file], notes=notes)
    flood = energy("attack_energy", attacked.whole(), measure.supply)
    each = (
        f"{flood.value / hellos * 1000:.3g} mJ for each of {hellos} ClientHellos, the idle current in between included"
    )
    measure("ENE-01", flood, evidence=[file], notes=[*notes, each])


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
    with steady(measure, name, duration_s) as current:
        return current.result(timeout_s=duration_s + 10)


@contextmanager
def _answered(session: Session, path: str) -> Iterator[None]:
    response = session.get(path)
    if response.code != "2.05":
        raise DeviceError(f"GET {path} was answered {response.code}: there is no request to measure")
    yield


@contextmanager
def _refused(coap: Coaps) -> Iterator[None]:
    coap.attempt(identity=UNKNOWN, psk=coap.psk)
    yield
