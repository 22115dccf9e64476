"""Deep sleep: RSM-05, ENE-04, ENE-06, ENE-09, ENE-10, ENE-19."""

from contextlib import suppress

import pytest

from rig.board import Console
from rig.clock import now_s
from rig.coap import NoAnswer, Session
from rig.coap.probe import Prober, request
from rig.dtls.client import Silence
from rig.dtls.coap import PUT
from rig.energy import Mark, Phase, duration, energy, mean_current
from rig.errors import DeviceError
from rig.evidence.declaration import Declaration, DeepSleep
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.fixtures.sleep import deep_sleep_of, put_to_sleep
from rig.formats.impairment import Impairment
from rig.router import Router
from rig.testplans.energy.windows import CONSOLE_LATENCY_S, WAKE

WAKE_TIMEOUT_S = 10.0
WAKE_SLEEP_S = 2.0
WAKE_CAPTURE_S = 4.0
EDGE_S = 0.1
FLOOR_SLEEP_S = 8.0
FLOOR_S = 4.0
WANTED = 0.002
"""The share of the floor that the readings' spread may leave unknown: a tenth of what U is wanted to be."""


@pytest.mark.requirement("RSM-05")
def test_new_handshake_after_deep_sleep(
    coap: Coaps, console: Console, router: Router, dut: Declaration, measure: Measure
) -> None:
    figures = dut.figures
    if figures is None or figures.boot_count is None:
        pytest.skip("the declaration names no resource that tells the boot count")
    path, count = figures.path, figures.boot_count
    with measure.packets("sleep") as capture:
        with coap.session(ack_timeout_s=0.25, max_retransmit=3) as old:
            before = old.get(path).json()
            slept_s = _sleep_unheard(coap, console, router, deep_sleep_of(dut), 2.0)
            console.wait_mark("network_up", since_s=slept_s, timeout_s=WAKE_TIMEOUT_S)
            stale = _ask(old, path)
        with coap.session() as new:
            after = new.get(path)
    woke = after.json()[count] == before[count] + 1
    measure.check(
        "RSM-05",
        "after deep sleep the old session stays unanswered, a new handshake and request work",
        stale is None and after.code == "2.05" and woke,
        observed=f"old session: {stale or 'no answer'}; new session: {after.code}; "
        f"boot count {before[count]} before, {after.json()[count]} after",
        evidence=[capture.path],
    )


@pytest.mark.requirement("ENE-04")
@pytest.mark.usefixtures("meter")
def test_deep_sleep_current(coap: Coaps, console: Console, dut: Declaration, measure: Measure) -> None:
    coap.prove_alive()
    slept_s = put_to_sleep(coap, console, deep_sleep_of(dut), FLOOR_SLEEP_S)
    floor, readings = measure.floor("deep-sleep", wanted=WANTED, max_duration_s=FLOOR_S)
    woke = console.wait_line(WAKE, since_s=slept_s, timeout_s=FLOOR_SLEEP_S + WAKE_TIMEOUT_S)
    console.wait_mark("network_up", since_s=woke.at_s, timeout_s=WAKE_TIMEOUT_S)
    coap.prove_alive()
    if woke.at_s < floor.raised_s or not floor.settled:
        told = "it woke before the last reading" if woke.at_s < floor.raised_s else "the current had not settled"
        statement = "the board sleeps, and its current is steady, while it is measured"
        measure.inconclusive("ENE-04", statement, observed=told, evidence=[readings])
    measure(
        "ENE-04",
        floor.measurement("deep_sleep_current"),
        evidence=[readings],
        notes=[
            f"{len(floor.readings)} readings of {floor.readings.aperture_s * 1000:g} ms on the {floor.range_a:g} A "
            f"range: as many as make their spread less than {WANTED * 100:g} % of the mean, a second at least",
            f"{len(floor.steps)} wider ranges before it; raised {woke.at_s - floor.raised_s:.1f} s before the wake",
        ],
    )


@pytest.mark.requirement("ENE-06", "ENE-19")
@pytest.mark.usefixtures("meter")
def test_wake_to_first_answer(coap: Coaps, console: Console, dut: Declaration, measure: Measure) -> None:
    coap.prove_alive()
    with measure.current("wake", interval_s=200e-6, duration_s=WAKE_CAPTURE_S) as current:
        slept_s = put_to_sleep(coap, console, deep_sleep_of(dut), WAKE_SLEEP_S)
        woke_s = console.wait_line(WAKE, since_s=slept_s, timeout_s=WAKE_TIMEOUT_S).at_s
        ready_s = console.wait_mark("network_up", since_s=slept_s, timeout_s=WAKE_TIMEOUT_S).at_s
        with coap.session() as session:
            response = session.get(dut.figures.path if dut.figures else "/.well-known/core")
        if response.code != "2.05":
            raise DeviceError(f"the first request after the wake was answered {response.code}")
        waveform = current.result(timeout_s=WAKE_CAPTURE_S + WAKE_TIMEOUT_S)
    ready, answered = (
        _phase("wake to ready", woke_s, ready_s),
        _phase("wake to first answer", woke_s, response.received_s),
    )
    phases = [_phase("deep sleep", slept_s, woke_s), ready, answered]
    file = measure.keep(waveform, [phase for phase in phases if phase.end.t_s < waveform.end_s])
    measure(
        "ENE-06",
        duration(
            "wake_to_first_answer",
            woke_s,
            response.received_s,
            start_uncertainty_s=CONSOLE_LATENCY_S,
            end_uncertainty_s=CONSOLE_LATENCY_S,
        ),
        evidence=[file],
    )
    for name, phase in (("wake_energy", ready), ("wake_to_first_answer_energy", answered)):
        notes = [f"one {phase.name}, {phase.duration_s:.3f} s: its own spread is not known"]
        measure("ENE-19", energy(name, phase.window(waveform), measure.supply), evidence=[file], notes=notes)


@pytest.mark.requirement("ENE-09")
def test_the_request_to_sleep_is_answered(
    probe: Prober, console: Console, router: Router, dut: Declaration, measure: Measure
) -> None:
    del router
    way = deep_sleep_of(dut)
    probe.prove_alive()
    with measure.packets("sleep-request") as capture:
        session, began_s = probe.connect(), now_s()
        try:
            body = way.body.format(ms=round(WAKE_SLEEP_S * 1000)).encode()
            answer = session.ask(request(PUT, way.path, payload=body), WAKE_SLEEP_S / 2).code_text
        except Silence:
            answer = "no answer"
        slept_s = console.wait_mark("sleep_entry", since_s=began_s).at_s
        console.wait_mark("network_up", since_s=slept_s, timeout_s=WAKE_SLEEP_S + WAKE_TIMEOUT_S)
    measure.check(
        "ENE-09",
        f"PUT {way.path} is answered 2.04 before the device sleeps",
        answer == "2.04",
        observed=answer,
        evidence=[capture.path],
    )


@pytest.mark.requirement("ENE-10")
@pytest.mark.usefixtures("meter")
def test_asleep_for_the_whole_period(coap: Coaps, console: Console, dut: Declaration, measure: Measure) -> None:
    coap.prove_alive()
    with measure.current("period", interval_s=200e-6, duration_s=WAKE_CAPTURE_S) as current:
        slept_s = put_to_sleep(coap, console, deep_sleep_of(dut), WAKE_SLEEP_S)
        console.wait_mark("network_up", since_s=slept_s, timeout_s=WAKE_SLEEP_S + WAKE_TIMEOUT_S)
        waveform = current.result(timeout_s=WAKE_CAPTURE_S + WAKE_TIMEOUT_S)
    asleep = _phase("period of sleep", slept_s + EDGE_S, slept_s + WAKE_SLEEP_S - EDGE_S)
    file = measure.keep(waveform, [asleep])
    measure("ENE-10", mean_current("sleep_period_current", asleep.window(waveform)), evidence=[file])


def _phase(name: str, start_s: float, end_s: float) -> Phase:
    return Phase(name, Mark("", start_s, CONSOLE_LATENCY_S), Mark("", end_s, CONSOLE_LATENCY_S))


def _sleep_unheard(coap: Coaps, console: Console, router: Router, way: DeepSleep, duration_s: float) -> float:
    """Put the board to sleep while nothing reaches the client: its close_notify is lost, as out of range."""
    with coap.session() as session, router.impaired(to_client=Impairment(loss=100.0)):
        began_s = now_s()
        with suppress(NoAnswer):
            session.put(way.path, way.body.format(ms=round(duration_s * 1000)), confirmable=False, timeout_s=0.5)
        return console.wait_mark("sleep_entry", since_s=began_s).at_s


def _ask(session: Session, path: str) -> str | None:
    """Return the code that *session* is answered with, None for silence."""
    try:
        return session.get(path, timeout_s=5.0).code
    except NoAnswer:
        return None
