"""Boot, sleep and whole cycles of waking and sleeping: ENE-01, ENE-12, ENE-20."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rig.board import Board, Console
from rig.clock import now_s
from rig.coap.probe import Prober
from rig.energy import Bounds, Contribution, Mark, Measurement, Phase, Waveform, charge, combine_repeats, energy
from rig.energy.measurement import measured
from rig.energy.regression import compare
from rig.errors import DeviceError
from rig.evidence.declaration import Declaration
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.fixtures.sleep import deep_sleep_of, put_to_sleep
from rig.meter import Floor
from rig.testplans.energy.windows import CONSOLE_LATENCY_S, ROOT_3, UNKNOWN, WAKE, steady, triggered

pytestmark = pytest.mark.usefixtures("router", "meter")

RESET = r"rst:0x[0-9a-f]+ \("
BOOTS = 4
BOOT_S = 3.0
FINE_S = 200e-6
CYCLES = 3
CYCLE_SLEEP_S = 4.0
"""Long enough to step the range down, read, and step it up again before the wake."""
CYCLE_FLOOR_S = 0.4
BOOTLOADER_S, AWAKE_S = 0.6, 1.3
"""What is recorded before and after the edge of a wake: ROM and bootloader, and all that the board is awake for."""
LATEST_S = 1.5
FLOOR_SLEEP_S = 5.0
FLOOR_S = 1.5
WANTED = 0.005
"""The share of its mean that the readings' spread may leave unknown."""
CRYSTAL_S = 1e-4
"""How far an interval of a second between two marks on the board's own clock may be off."""


@pytest.mark.requirement("ENE-12")
def test_energy_of_a_boot(board: Board, console: Console, measure: Measure) -> None:
    repeats: list[Measurement] = []
    evidence: list[Path] = []
    for _ in range(BOOTS):
        with steady(measure, "boot", BOOT_S, FINE_S) as current:
            began_s = now_s()
            board.hard_reset()
            started_s = console.wait_line(RESET, since_s=began_s).at_s
            ready_s = console.wait_mark("network_up", since_s=started_s).at_s
            waveform = current.result(timeout_s=BOOT_S + 10)
        boot = Phase("boot", Mark("ROM", started_s, CONSOLE_LATENCY_S), Mark("ready", ready_s, CONSOLE_LATENCY_S))
        repeats.append(energy("boot_energy", boot.window(waveform), measure.supply))
        evidence.append(measure.keep(waveform, [boot]))
    notes = [f"mean of {BOOTS} resets through EN, from the ROM's text to network_up on the console"]
    measure("ENE-12", combine_repeats("boot_energy", repeats), evidence=evidence, notes=notes)


@pytest.mark.requirement("ENE-01")
def test_sleep_is_as_deep_after_refused_handshakes(
    board: Board, coap: Coaps, console: Console, dut: Declaration, measure: Measure
) -> None:
    if dut.deep_sleep is None:
        pytest.skip("deep sleep is not declared")
    board.hard_reset()
    board.wait_network()
    before, first = _floor(coap, console, dut, measure, "before")
    coap.attempt(identity=UNKNOWN, psk=coap.psk)
    after, second = _floor(coap, console, dut, measure, "after")
    measure(
        "ENE-01",
        _rise(before, after),
        evidence=[first, second],
        notes=[
            "deep sleep after a handshake, a message and a refused handshake, less that after handshake and message "
            f"alone; both on the {after.range_a:g} A range, whose offset is in both and drops out",
        ],
    )


@pytest.mark.requirement("ENE-20")
def test_mean_current_of_whole_cycles(
    coap: Coaps, probe: Prober, console: Console, dut: Declaration, measure: Measure
) -> None:
    coap.prove_alive()
    slept_s = put_to_sleep(coap, console, deep_sleep_of(dut), CYCLE_SLEEP_S)
    cycles: list[Measurement] = []
    evidence: list[Path] = []
    for _ in range(CYCLES):
        _refuse_late(measure, "ENE-20", slept_s)
        floor, readings = measure.floor("asleep", wanted=WANTED, max_duration_s=CYCLE_FLOOR_S)
        woken = _woken(coap, probe, console, dut, measure, slept_s)
        file = measure.keep(woken.waveform, [woken.awake])
        measure.ranges([_awake_row(woken)])
        cycles.append(_cycle(floor, woken, slept_s))
        evidence += [readings, file]
        slept_s = woken.slept_s
    measure(
        "ENE-20",
        combine_repeats("duty_cycle_current", cycles),
        evidence=evidence,
        notes=[
            f"mean of {CYCLES} cycles: {CYCLE_SLEEP_S:g} s of sleep, boot, a handshake with a request, one with the "
            "request to sleep",
            "asleep on the range that fits, awake on one on which the board can transmit",
        ],
    )


@dataclass(frozen=True)
class Woken:
    """What a board did between two sleeps; ``woke_s`` and ``slept_s`` are those instants as the console told them."""

    waveform: Waveform
    awake: Phase
    woke_s: float
    slept_s: float


def _woken(coap: Coaps, probe: Prober, console: Console, dut: Declaration, measure: Measure, slept_s: float) -> Woken:
    """Wait for the wake of a board that sleeps since *slept_s*, ask it something, and put it to sleep again."""
    with triggered(measure, "awake", AWAKE_S, before_s=BOOTLOADER_S, interval_s=FINE_S) as current:
        armed_s = now_s()
        woke_s = console.wait_line(WAKE, since_s=slept_s, timeout_s=2 * CYCLE_SLEEP_S).at_s
        if woke_s < armed_s:
            told = f"it woke {woke_s - slept_s:.2f} s after it went to sleep, before the range was raised"
            measure.inconclusive("ENE-20", "the range is raised before the wake", observed=told)
        boot = console.wait_mark("boot", since_s=slept_s)
        console.wait_mark("network_up", since_s=boot.at_s)
        with coap.session() as session:
            session.get(probe.life)
        again_s = put_to_sleep(coap, console, deep_sleep_of(dut), CYCLE_SLEEP_S)
        recorded = current.result(timeout_s=AWAKE_S + 10)
    asleep_again = next(mark for mark in reversed(console.marks()) if mark.name == "sleep_entry")
    waveform = measure.align(recorded, boot, Bounds(woke_s - CONSOLE_LATENCY_S, boot.at_s, "the wake's text"))
    # The board's own clock tells the time between the trigger's edge and its going to sleep.
    down_s = _edge_s(waveform) + (asleep_again.device_us - boot.device_us) * 1e-6
    awake = Phase("awake", Mark("ROM", woke_s, CONSOLE_LATENCY_S), Mark("sleep entry", down_s, CRYSTAL_S))
    return Woken(waveform, awake, woke_s, again_s)


def _floor(coap: Coaps, console: Console, dut: Declaration, measure: Measure, name: str) -> tuple[Floor, Path]:
    """Measure the deep sleep that a session of its own begins, and see the board wake after it."""
    coap.prove_alive()
    slept_s = put_to_sleep(coap, console, deep_sleep_of(dut), FLOOR_SLEEP_S)
    _refuse_late(measure, "ENE-01", slept_s)
    floor, readings = measure.floor(f"asleep-{name}", wanted=WANTED, max_duration_s=FLOOR_S)
    woke_s = console.wait_line(WAKE, since_s=slept_s, timeout_s=2 * FLOOR_SLEEP_S).at_s
    console.wait_mark("network_up", since_s=woke_s)
    if woke_s < floor.raised_s or not floor.settled:
        told = "it woke before the last reading" if woke_s < floor.raised_s else "the current had not settled"
        measure.inconclusive("ENE-01", "the board sleeps while it is measured", observed=told, evidence=[readings])
    return floor, readings


def _refuse_late(measure: Measure, requirement: str, slept_s: float) -> None:
    """Leave the range as it is where the board would wake on a narrow one, which takes its supply away."""
    late_s = now_s() - slept_s
    if late_s > LATEST_S:
        told = f"the session that asked for sleep was over {late_s:.1f} s after the board slept"
        measure.inconclusive(requirement, "the sleep is measured from its beginning", observed=told)


def _rise(before: Floor, after: Floor) -> Measurement:
    """Return how much more *after* is than *before*; what one range of a meter does wrong is in both and drops out."""
    one, other = (floor.measurement("sleep_current_rise") for floor in (before, after))
    found = compare(other, one, same_meter=before.range_a == after.range_a)
    return replace(found.difference, reservations=found.reasons)


def _edge_s(waveform: Waveform) -> float:
    """Return when the trigger's edge was, on the rig's clock."""
    assert waveform.t0_s is not None
    assert waveform.trigger_index is not None
    return waveform.t0_s + waveform.trigger_index * waveform.interval_s - waveform.trigger_lag_s


def _cycle(floor: Floor, woken: Woken, slept_s: float) -> Measurement:
    """Return the mean current between two sleep entries: asleep at the floor's current, and the charge awake."""
    asleep_s, cycle_s = woken.woke_s - slept_s, woken.slept_s - slept_s
    if not 0 < asleep_s < cycle_s:
        raise DeviceError(f"asleep for {asleep_s:.3f} s of a cycle of {cycle_s:.3f} s: its marks are out of order")
    awake = charge("charge", woken.awake.window(woken.waveform))
    sleep = floor.measurement("sleep")
    mean_a = (awake.value + sleep.value * asleep_s) / cycle_s
    doubt_s = CONSOLE_LATENCY_S * 2**0.5 / ROOT_3
    budget = [
        *_together(awake, 1 / cycle_s, sleep, asleep_s / cycle_s),
        Contribution("length of the cycle", mean_a * doubt_s / cycle_s, "A", "B", systematic=False),
    ]
    return _both("duty_cycle_current", mean_a, budget, awake, sleep)


def _together(one: Measurement, share: float, other: Measurement, other_share: float) -> list[Contribution]:
    """Return the budget of so much of *one* and of *other*, in ampere.

    What is the same in every repeat comes from one meter and adds linearly, a source at a time; the rest is apart.
    """
    rows = [
        replace(row, standard_uncertainty=row.standard_uncertainty * factor, unit="A")
        for measurement, factor in ((one, share), (other, other_share))
        for row in measurement.budget
    ]
    same: dict[str, Contribution] = {}
    for row in rows:
        if row.systematic:
            before = same[row.source].standard_uncertainty if row.source in same else 0.0
            same[row.source] = replace(row, standard_uncertainty=before + row.standard_uncertainty)
    return [*same.values(), *(row for row in rows if not row.systematic)]


def _both(
    name: str, value_a: float, budget: Sequence[Contribution], one: Measurement, other: Measurement
) -> Measurement:
    """Return what was made of two measurements, with what speaks against a verdict on either."""
    known = one.expanded_uncertainty is not None and other.expanded_uncertainty is not None
    return replace(
        measured(name, value_a, "A", budget, known=known),
        reservations=tuple(dict.fromkeys((*one.reservations, *other.reservations))),
        ranges_a=tuple(sorted({*one.ranges_a, *other.ranges_a})),
        gap_share=max(one.gap_share, other.gap_share),
    )


def _awake_row(woken: Woken) -> dict[str, object]:
    return {
        "what": "awake",
        "range_a": woken.waveform.range_a,
        "start_s": woken.awake.start.t_s,
        "end_s": woken.awake.end.t_s,
        "mean_a": woken.awake.window(woken.waveform).statistics.mean_a,
        "note": "boot, two handshakes, a request, and the request to sleep",
    }
