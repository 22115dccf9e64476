"""The NGU201 and NGM202 through the meter protocol and PyVISA, against their virtual instruments."""

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.energy import Supply, charge, energy, load_recording, mean_current, mean_of_readings
from rig.errors import BenchError
from rig.meter import Accuracy, CaptureInvalid, MeterError, Trigger, open_meter
from rig.meter.drivers import Driver
from rig.meter.scpi.meter import Output
from rig.meter.scpi.ngu import SlotCount, rate_hz
from rig.meter.scpi.ranging import WidestPossible
from rig.meter.visa import VisaSession

#: The virtual leads are 0.04 ohm, give or take 2 %.
LEADS_OHM = 0.04
DEEP_SLEEP_A = 5e-6
WAKE_A = 0.05
SLOT_S = 0.25


@pytest.fixture
def driver() -> Driver:
    return "rohde-schwarz-ngu201"


def wanted(path: Path, **changes: Any) -> dict[str, Any]:
    return {"range_a": 0.1, "interval_s": 20e-6, "duration_s": 0.6, "path": path / "x.f32"} | changes


def test_the_output_is_switched_on_where_it_is_off_and_left_on(virtual: Any, board: Any, accuracy: Accuracy) -> None:
    with open_meter("rohde-schwarz-ngu201", virtual.visa, accuracy) as meter:
        assert meter.identity.model == "NGU201"
        assert meter.capabilities.triggers == ("immediate",)
        assert meter.capabilities.max_samples is None
        assert [meter.capabilities.voltage, meter.capabilities.seamless, meter.capabilities.output] == [True] * 3
    assert board.voltages() == [0.0]
    for _ in range(2):
        with open_meter("rohde-schwarz-ngu201", virtual.visa, accuracy, output=Output(3.0, 0.5)) as meter:
            assert meter.errors == ()
    # It was switched on once, and never off again.
    assert board.voltages() == [3.0]
    board.current(0.1)
    assert board.voltages() == [pytest.approx(3.0 - 0.1 * LEADS_OHM, abs=1e-3)]


def test_fastlog_at_its_full_rate_has_the_energy_that_was_taken(feeding: Any, tmp_path: Path) -> None:
    feeding.current(0.02)
    with feeding.opened() as meter, meter.capture(**wanted(tmp_path, interval_s=2e-6)) as capture:
        start_ns = feeding.current(0.08, time.monotonic_ns() + 50_000_000)
        feeding.current(0.02, start_ns + 50_000_000)
        waveform = capture.result(timeout_s=20)
    assert waveform.interval_s == 2e-6
    assert len(waveform) == 300_000
    assert waveform.voltage is not None
    assert np.asarray(waveform.voltage).mean() == pytest.approx(3.3, rel=1e-3)
    truth_c = 0.05 * 0.08 + 0.55 * 0.02
    truth_j = 3.3 * truth_c - LEADS_OHM * (0.05 * 0.08**2 + 0.55 * 0.02**2)
    window = waveform.whole()
    for result, truth in ((charge("burst", window), truth_c), (energy("burst", window, Supply(0.0)), truth_j)):
        assert result.expanded_uncertainty is not None
        assert result.value == pytest.approx(truth, abs=result.expanded_uncertainty)
        assert result.expanded_uncertainty < 2e-3 * truth


def test_sampling_began_within_the_times_that_are_stated(feeding: Any, tmp_path: Path) -> None:
    feeding.current(0.02)
    with feeding.opened() as meter, meter.capture(**wanted(tmp_path)) as capture:
        rise_ns = feeding.current(0.08, time.monotonic_ns() + 30_000_000)
        waveform = capture.result(timeout_s=20)
    assert waveform.t0_s is not None
    seen_s = waveform.t0_s + int(np.argmax(np.asarray(waveform.samples) > 0.05)) * waveform.interval_s
    assert seen_s == pytest.approx(rise_ns * 1e-9, abs=waveform.t0_uncertainty_s + 1e-3)


def test_a_sleep_and_a_wake_in_one_capture_have_their_own_ranges(feeding: Any, tmp_path: Path) -> None:
    feeding.current(DEEP_SLEEP_A)
    with feeding.opened() as meter, meter.capture(**wanted(tmp_path, range_a=None, duration_s=None)) as capture:
        wake_ns = feeding.current(WAKE_A, time.monotonic_ns() + 100_000_000)
        feeding.current(DEEP_SLEEP_A, wake_ns + 100_000_000)
        time.sleep(0.9)
        waveform = capture.stop(timeout_s=10)
    assert len(waveform) % 12_500 == 0
    assert len(waveform) >= 50_000
    assert waveform.ranges_a == (10e-6, 100e-6, 1e-3, 10e-3, 0.1, 10.0)
    assert waveform.spans is not None
    named = [waveform.ranges_a[index] for index in waveform.spans.index]
    assert named[0] == 10.0  # what it was on before nobody knows
    assert named[1] == 10e-6
    assert 0.1 in named
    assert named[-1] == 10e-6
    end_s = waveform.end_s
    asleep = mean_current("asleep", waveform.window(end_s - 0.25, end_s - 0.01))
    assert asleep.expanded_uncertainty is not None
    assert asleep.value == pytest.approx(DEEP_SLEEP_A, abs=asleep.expanded_uncertainty)
    assert asleep.value == pytest.approx(DEEP_SLEEP_A, rel=0.02)
    assert asleep.expanded_uncertainty < 0.02 * asleep.value
    whole = energy("all", waveform.window(wake_ns * 1e-9 - 0.05, wake_ns * 1e-9 + 0.15), Supply(0.0))
    truth_j = 3.3 * 0.1 * (WAKE_A + DEEP_SLEEP_A) - LEADS_OHM * 0.1 * WAKE_A**2
    assert whole.expanded_uncertainty is not None
    assert whole.value == pytest.approx(truth_j, abs=whole.expanded_uncertainty)


def test_a_slow_seamless_capture_is_taken_fast_enough_to_tell_its_ranges(feeding: Any, tmp_path: Path) -> None:
    feeding.current(DEEP_SLEEP_A)
    asked = wanted(tmp_path, range_a=None, interval_s=1e-3, duration_s=0.2)
    with feeding.opened() as meter, meter.capture(**asked) as capture:
        waveform = capture.result(timeout_s=10)
    assert waveform.interval_s == 20e-6
    assert len(waveform) == 10_000
    assert waveform.spans is not None
    assert waveform.ranges_a[waveform.spans.index[-1]] == 10e-6


def test_five_microamperes_within_two_percent_on_the_lowest_range(feeding: Any) -> None:
    feeding.current(DEEP_SLEEP_A)
    with feeding.opened() as meter:
        readings = meter.read_current(range_a=10e-6, aperture_s=0.02, count=20)
    assert readings.interval_s == 0.01
    assert len(readings) == 40  # the rate is the next faster one, the time is what was asked for
    result = mean_of_readings("sleep", readings)
    assert result.value == pytest.approx(DEEP_SLEEP_A, rel=0.02)
    assert result.expanded_uncertainty is not None
    assert result.value == pytest.approx(DEEP_SLEEP_A, abs=result.expanded_uncertainty)
    assert result.expanded_uncertainty < 0.02 * DEEP_SLEEP_A


@pytest.mark.parametrize("oddities", [{"lost_slots": [2]}])
def test_a_slot_that_never_came_is_counted_and_makes_the_capture_invalid(feeding: Any, tmp_path: Path) -> None:
    feeding.current(0.05)
    with (
        feeding.opened() as meter,
        meter.capture(**wanted(tmp_path, duration_s=1.0)) as capture,
        pytest.raises(CaptureInvalid, match="12500 samples lost"),
    ):
        capture.result(timeout_s=10)
    recorded = load_recording(tmp_path / "x.f32")
    assert recorded.gaps == ((12_500, 12_500),)
    assert len(recorded) == 50_000
    assert np.isnan(recorded.samples[12_500:25_000]).all()
    assert recorded.samples[25_000:].min() > 0.04


@pytest.mark.parametrize(
    ("oddities", "lost"),
    [
        ({"late_reply": {"to": "FLOG:DATA?", "delay_s": 0.12}}, 0),
        ({"late_reply": {"to": "FLOG:DATA?", "delay_s": 0.8}}, 2),
    ],
)
def test_a_late_reply_is_survived_while_no_slot_was_overwritten(feeding: Any, tmp_path: Path, lost: int) -> None:
    feeding.current(0.05)
    with feeding.opened() as meter, meter.capture(**wanted(tmp_path, duration_s=1.5)) as capture:
        if not lost:
            assert len(capture.result(timeout_s=10)) == 75_000
            return
        with pytest.raises(CaptureInvalid, match=r"\d+ samples lost"):
            capture.result(timeout_s=10)
    gaps = load_recording(tmp_path / "x.f32").gaps
    assert sum(count for _, count in gaps) in (lost * 12_500, (lost + 1) * 12_500)


def test_a_reading_beyond_a_fixed_range_makes_a_capture_invalid_and_the_board_lives(
    feeding: Any, tmp_path: Path
) -> None:
    feeding.current(0.01)
    with feeding.opened() as meter, meter.capture(**wanted(tmp_path, range_a=1e-3, duration_s=0.2)) as capture:
        with pytest.raises(CaptureInvalid, match="10000 readings beyond the range"):
            capture.result(timeout_s=10)
        assert feeding.voltage_v > 3.29


def test_a_current_limit_however_short_makes_a_capture_invalid(feeding: Any, tmp_path: Path) -> None:
    feeding.current(0.1)
    asked = wanted(tmp_path, range_a=10.0)
    with feeding.opened() as meter, meter.capture(**asked) as capture:
        start_ns = feeding.current(0.6, time.monotonic_ns() + 50_000_000)
        feeding.current(0.1, start_ns + 2_000_000)
        with pytest.raises(CaptureInvalid, match=r"in its current limit \(QUES:INST:ISUM1 bit 0\)"):
            capture.result(timeout_s=10)


def test_a_fuse_that_trips_makes_a_capture_invalid(feeding: Any, tmp_path: Path) -> None:
    feeding.current(0.1)
    with feeding.opened() as meter, VisaSession(feeding.here.facts["visa"]) as front_panel:
        front_panel.command("protecting", "FUSE ON")
        with meter.capture(**wanted(tmp_path, range_a=10.0)) as capture:
            feeding.current(0.6)
            with pytest.raises(CaptureInvalid, match="the electronic fuse has tripped"):
                capture.result(timeout_s=10)
        assert feeding.voltage_v == 0.0
        # What happened before is not held against the next one.
        feeding.current(0.0)
        front_panel.command("again", "FUSE OFF;:OUTP:SEL 1")
        with meter.capture(**wanted(tmp_path, duration_s=0.2)) as capture:
            capture.result(timeout_s=10)


def test_what_it_cannot_do_is_refused(feeding: Any, tmp_path: Path) -> None:
    with feeding.opened() as meter:
        for changes, reason in (
            ({"interval_s": 1e-6}, "less than its 2e-06 s"),
            ({"trigger": Trigger.external_rising()}, "has no external trigger"),
            ({"range_a": 0.5}, "has no 0.5 A range"),
        ):
            with pytest.raises(MeterError, match=reason), meter.capture(**wanted(tmp_path, **changes)):
                pass
        for asked_s, taken_s in ((1.0, 10e-3), (5e-3, 1e-3), (30e-6, 20e-6), (2e-6, 2e-6)):
            assert meter.configure(range_a=0.1, interval_s=asked_s).interval_s == pytest.approx(taken_s)


class TestNgm202:
    """What is different on the NGM202."""

    @pytest.fixture
    def driver(self) -> Driver:
        return "rohde-schwarz-ngm202"

    def test_it_feeds_from_its_first_output_and_is_judged_by_the_widest_range(
        self, feeding: Any, tmp_path: Path
    ) -> None:
        feeding.current(0.02)
        with feeding.opened() as meter, meter.capture(**wanted(tmp_path, range_a=None, duration_s=0.3)) as capture:
            assert meter.capabilities.ranges_a == (10e-3, 0.1, 1.0, 10.0)
            waveform = capture.result(timeout_s=10)
            assert meter.errors == ()
        assert waveform.ranges_a == (10.0,)
        result = energy("all", waveform.whole(), Supply(0.0))
        assert result.expanded_uncertainty is not None
        truth_j = 0.3 * (3.3 * 0.02 - LEADS_OHM * 0.02**2)
        assert result.value == pytest.approx(truth_j, abs=result.expanded_uncertainty)


def test_an_instrument_that_dies_in_a_capture_is_one_clear_error(
    virtual: Any, accuracy: Accuracy, tmp_path: Path
) -> None:
    meter = open_meter("rohde-schwarz-ngu201", virtual.visa, accuracy)

    def capture_until_it_dies() -> None:
        with meter, meter.capture(**wanted(tmp_path, duration_s=None)) as capture:
            virtual.process.kill()
            capture.result(timeout_s=20)

    with pytest.raises(BenchError, match=r"meter TCPIP::127\.0\.0\.1::.*: (no proper answer|does not answer)"):
        capture_until_it_dies()
    assert len(load_recording(tmp_path / "x.f32")) >= 12_500


@pytest.mark.soak
def test_fastlog_at_its_full_rate_goes_on_in_bounded_memory(
    virtual: Any, board: Any, accuracy: Accuracy, tmp_path: Path
) -> None:
    asked = wanted(tmp_path, interval_s=2e-6, duration_s=None)
    with open_meter("rohde-schwarz-ngu201", virtual.visa, accuracy, output=Output(3.3, 0.5)) as meter:
        board.current(0.05)
        with meter.capture(**asked) as capture:
            time.sleep(20)
            before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            time.sleep(280)
            waveform = capture.stop(timeout_s=10)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 20_000
    assert waveform.gaps == ()
    assert waveform.duration_s > 299


@pytest.mark.parametrize(("name", "hz"), [("S100", 100), ("S001k", 1000), ("S500K", 500_000), (" S250K\n", 250_000)])
def test_names_of_rates(name: str, hz: int) -> None:
    assert rate_hz(name) == hz


@pytest.mark.parametrize("name", ["", "500K", "S", "S0", "S5M", "Sk"])
def test_what_is_no_rate_is_refused(name: str) -> None:
    with pytest.raises(MeterError, match="is not a rate"):
        rate_hz(name)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.one_of(st.just(0.02), st.floats(0.001, 1.2)), min_size=1, max_size=60),
    st.floats(0.001, 0.05),
    st.floats(-1e-4, 1e-4),
)
def test_no_overwritten_slot_goes_uncounted(pauses_s: list[float], answer_s: float, clock_error: float) -> None:
    """The rig looks at any times; what it counts is never less than what was overwritten."""
    count, t_s, slot_s = SlotCount(SLOT_S), 0.0, SLOT_S * (1 + clock_error)
    fetched = counted = 0
    prompt = True
    count.empty(0.0)
    for pause_s in pauses_s:
        before_s = t_s + pause_s
        looked_s, t_s = before_s + answer_s / 2, before_s + answer_s
        newest = int(looked_s / slot_s)
        prompt = prompt and pause_s + answer_s < 0.1
        if newest == fetched:
            count.empty(before_s)
            continue
        missing = count.taken(before_s, t_s)
        counted += 1 + (missing if fetched else newest - 1)
        fetched = newest
        assert counted >= newest
        if prompt:
            assert counted == newest


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.floats(0.0, 0.5).map(lambda x: x**6), min_size=1, max_size=300),
    st.integers(1, 50),
    st.integers(0, 20),
    st.booleans(),
)
def test_ranges_named_do_not_depend_on_the_blocks_and_always_hold_the_reading(
    currents: list[float], block: int, settling: int, top_first: bool
) -> None:
    ranges_a, values = (10e-6, 1e-3, 0.1, 3.0), np.array(currents)

    def named(size: int) -> list[int]:
        ranger = WidestPossible(ranges_a, settling, top_first=top_first)
        found, now = [], -1
        for first in range(0, len(values), size):
            part = values[first : first + size]
            changes = {
                int(at): int(to)
                for _, where, index in ranger.changes(part)
                for at, to in zip(where, index, strict=True)
            }
            for position in range(len(part)):
                now = changes.get(position, now)
                found.append(now)
        return found

    whole = named(len(values))
    assert named(block) == whole
    for position, index in enumerate(whole):
        recent = values[max(position - settling, 0) : position + 1]
        assert ranges_a[index] >= recent.max()
