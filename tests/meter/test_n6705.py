"""The N6705C through the meter protocol and PyVISA, against its virtual instrument."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.clock import now_s
from rig.energy import Supply, charge, energy, load_recording
from rig.meter import Accuracy, CaptureInvalid, CaptureTimeout, MeterError, Trigger, measure_floor, open_meter
from rig.meter.drivers import Driver
from rig.meter.scpi.meter import Output
from rig.meter.scpi.n6705 import Pace
from rig.meter.visa import VisaSession

#: The virtual leads are 0.04 ohm, give or take 2 %.
LEADS_OHM = 0.04
DEEP_SLEEP_A = 5e-6
WAKE_A = 0.05


@pytest.fixture
def driver() -> Driver:
    return "keysight-n6705c"


def wanted(path: Path, **changes: Any) -> dict[str, Any]:
    return {"range_a": 3.0, "interval_s": 20.48e-6, "duration_s": 0.2, "path": path / "x.f32"} | changes


def test_the_output_is_switched_on_where_it_is_off_and_left_on(virtual: Any, board: Any, accuracy: Accuracy) -> None:
    with open_meter("keysight-n6705c", virtual.visa, accuracy) as meter:
        assert meter.identity.model == "N6705C"
        assert meter.capabilities.triggers == ("immediate", "external", "level")
        assert meter.capabilities.max_samples is None
        assert [meter.capabilities.voltage, meter.capabilities.seamless, meter.capabilities.output] == [True] * 3
    assert board.voltages() == [0.0]
    for _ in range(2):
        with open_meter("keysight-n6705c", virtual.visa, accuracy, output=Output(3.0, 0.5)) as meter:
            assert meter.errors == ()
    # It was switched on once, and never off again.
    assert board.voltages() == [3.0]
    board.current(0.1)
    assert board.voltages() == [pytest.approx(3.0 - 0.1 * LEADS_OHM, abs=1e-3)]


def test_a_tripped_output_is_not_taken_for_a_board_that_is_fed(feeding: Any) -> None:
    with feeding.opened(), VisaSession(feeding.here.facts["visa"]) as front_panel:
        front_panel.command("protecting", "CURR:PROT:STAT ON,(@1)")
        feeding.current(0.8)
        time.sleep(0.1)
    feeding.current(0.0)
    with pytest.raises(MeterError, match="output stays off: a protection has tripped"), feeding.opened():
        pass


def test_an_acquisition_has_the_energy_that_was_taken(feeding: Any, tmp_path: Path) -> None:
    feeding.current(0.02)
    with feeding.opened() as meter, meter.capture(**wanted(tmp_path, interval_s=10.24e-6, range_a=0.1)) as capture:
        start_ns = feeding.current(0.08, time.monotonic_ns() + 50_000_000)
        end_ns = feeding.current(0.02, start_ns + 50_000_000)
        waveform = capture.result(timeout_s=10)
    assert waveform.interval_s == pytest.approx(10.24e-6)
    assert waveform.ranges_a == (0.1,)
    assert waveform.voltage is not None
    assert len(waveform.voltage) == len(waveform) == 19532
    window = waveform.window(start_ns * 1e-9 - 0.02, end_ns * 1e-9 + 0.02)
    truth_c = 0.05 * 0.08 + 0.04 * 0.02
    truth_j = 3.3 * truth_c - LEADS_OHM * (0.05 * 0.08**2 + 0.04 * 0.02**2)
    for result, truth in ((charge("burst", window), truth_c), (energy("burst", window, Supply(0.0)), truth_j)):
        assert result.expanded_uncertainty is not None
        assert result.value == pytest.approx(truth, abs=result.expanded_uncertainty)
        assert result.expanded_uncertainty < 2e-3 * truth


def test_external_trigger_with_pretrigger(feeding: Any, tmp_path: Path) -> None:
    feeding.current(1e-3)
    asked = wanted(tmp_path, duration_s=0.05, pretrigger_s=0.1, trigger=Trigger.external_rising())
    with feeding.opened() as meter, meter.capture(**asked) as capture:
        # Entering waited until the pretrigger was full: an edge at once is not ignored.
        edge_ns = feeding.line(1)
        feeding.current(0.1, edge_ns)
        waveform = capture.result(timeout_s=10)
    assert waveform.trigger_index == 4883
    aligned = waveform.aligned(edge_ns * 1e-9, 0.0)
    assert aligned.t0_s is not None
    rise_s = aligned.t0_s + int(np.argmax(np.asarray(waveform.samples) > 0.09)) * waveform.interval_s
    assert rise_s == pytest.approx(edge_ns * 1e-9, abs=2 * waveform.interval_s)


def test_a_trigger_before_the_pretrigger_is_full_is_ignored_and_the_next_one_counts(
    feeding: Any, tmp_path: Path
) -> None:
    asked = wanted(tmp_path, duration_s=0.05, pretrigger_s=0.4, trigger=Trigger.external_falling())
    feeding.line(1)
    early = threading.Timer(0.25, feeding.line, (0,))
    with feeding.opened() as meter:
        early.start()
        with meter.capture(**asked) as capture:
            early.join()
            with pytest.raises(CaptureTimeout, match="its trigger has not come"):
                capture.result(timeout_s=0.2)
            feeding.line(1)
            time.sleep(0.02)
            feeding.line(0)
            assert len(capture.result(timeout_s=10)) == 19532 + 2442


def test_level_trigger(feeding: Any, tmp_path: Path) -> None:
    feeding.current(1e-3)
    asked = wanted(tmp_path, duration_s=0.05, pretrigger_s=0.05, trigger=Trigger.level_rising(0.05), range_a=0.1)
    with feeding.opened() as meter, meter.capture(**asked) as capture:
        feeding.current(0.09)
        waveform = capture.result(timeout_s=10)
    assert waveform.trigger_index is not None
    # The reading that crosses the level is the last before the trigger; the edge may have begun in the one before.
    assert waveform.samples[waveform.trigger_index - 3] < 0.01 < waveform.samples[waveform.trigger_index]


def test_the_log_streams_until_it_is_stopped_and_names_ranges_by_amplitude(feeding: Any, tmp_path: Path) -> None:
    feeding.current(DEEP_SLEEP_A)
    with feeding.opened() as meter:
        asked = wanted(tmp_path, range_a=None, interval_s=1e-3, duration_s=None)
        with meter.capture(**asked) as capture:
            time.sleep(0.5)
            wake_ns = feeding.current(WAKE_A)
            end_ns = feeding.current(DEEP_SLEEP_A, wake_ns + 100_000_000)
            until_s = now_s() + 10
            while capture.received < 600 and now_s() < until_s:
                time.sleep(0.02)
            assert (tmp_path / "x.f32").stat().st_size >= 2400
            time.sleep(0.3)
            waveform = capture.stop(timeout_s=10)
    assert waveform.interval_s == pytest.approx(49 * 20.48e-6)
    assert waveform.ranges_a == (1e-3, 0.1, 3.0)  # it does not go to 10 uA by itself
    assert waveform.spans is not None
    named = [waveform.ranges_a[index] for index in waveform.spans.index]
    # What it was on before nobody knows.
    assert named == [3.0, 1e-3, 0.1, 1e-3]
    asleep = charge("asleep", waveform.window(wake_ns * 1e-9 - 0.3, wake_ns * 1e-9 - 0.01))
    assert asleep.expanded_uncertainty is not None
    assert asleep.value == pytest.approx(0.29 * DEEP_SLEEP_A, abs=asleep.expanded_uncertainty)
    awake = energy("awake", waveform.window(wake_ns * 1e-9 - 0.05, end_ns * 1e-9 + 0.05), Supply(0.0))
    truth_j = 3.3 * (0.1 * WAKE_A + 0.1 * DEEP_SLEEP_A) - LEADS_OHM * 0.1 * WAKE_A**2
    assert awake.expanded_uncertainty is not None
    assert awake.value == pytest.approx(truth_j, abs=awake.expanded_uncertainty)
    assert awake.expanded_uncertainty < 0.02 * truth_j


def test_the_log_starts_at_an_external_edge(feeding: Any, tmp_path: Path) -> None:
    feeding.current(0.01)
    asked = wanted(tmp_path, interval_s=1e-3, duration_s=0.2, trigger=Trigger.external_rising())
    with feeding.opened() as meter, meter.capture(**asked) as capture:
        time.sleep(0.3)
        edge_ns = feeding.line(1)
        feeding.current(0.1, edge_ns + 100_000_000)
        waveform = capture.result(timeout_s=10).aligned(edge_ns * 1e-9, 0.0)
    assert waveform.trigger_index == 0
    assert len(waveform) == 200
    assert charge("second half", waveform.window(edge_ns * 1e-9 + 0.11, edge_ns * 1e-9 + 0.19)).value == pytest.approx(
        0.08 * 0.1, rel=5e-3
    )


@pytest.mark.parametrize("oddities", [{"log_holds_s": 0.4, "late_reply": {"to": "FETC:ELOG?", "delay_s": 1.2}}])
def test_a_log_that_overwrote_rows_is_invalid_and_has_a_gap(feeding: Any, tmp_path: Path) -> None:
    feeding.current(0.01)
    asked = wanted(tmp_path, interval_s=1e-3, duration_s=2.0)
    with (
        feeding.opened() as meter,
        meter.capture(**asked) as capture,
        pytest.raises(CaptureInvalid, match=r"(\d+) samples lost") as invalid,
    ):
        capture.result(timeout_s=10)
    lost = int(str(invalid.value).split(" samples lost")[0].split()[-1])
    # The reply took 1.2 s, and the FIFO holds 0.4 s of that.
    assert lost == pytest.approx(800, abs=250)
    recorded = load_recording(tmp_path / "x.f32")
    assert sum(count for _, count in recorded.gaps) == lost
    assert len(recorded) == 1993
    assert recorded.invalid


def test_five_microamperes_within_two_percent_on_the_lowest_range(feeding: Any) -> None:
    feeding.current(DEEP_SLEEP_A)
    with feeding.opened() as meter:
        floor = measure_floor(meter, wanted=0.01, max_duration_s=0.6)
    # On an instrument that feeds the board a range limits nothing: half of the lowest one is no reason not to enter it.
    assert floor.range_a == 10e-6
    assert [step.range_a for step in floor.steps] == [3.0, 0.1, 1e-3]
    result = floor.measurement("sleep")
    assert result.value == pytest.approx(DEEP_SLEEP_A, rel=0.02)
    assert result.expanded_uncertainty is not None
    assert result.value == pytest.approx(DEEP_SLEEP_A, abs=result.expanded_uncertainty)
    assert result.expanded_uncertainty < 0.02 * DEEP_SLEEP_A


def test_a_reading_beyond_a_fixed_range_makes_a_capture_invalid_and_the_board_lives(
    feeding: Any, tmp_path: Path
) -> None:
    feeding.current(0.01)
    for interval_s in (20.48e-6, 1e-3):
        with (
            feeding.opened() as meter,
            meter.capture(**wanted(tmp_path, range_a=1e-3, interval_s=interval_s)) as capture,
        ):
            with pytest.raises(CaptureInvalid, match="readings beyond the range"):
                capture.result(timeout_s=10)
            assert feeding.voltage_v > 3.29


@pytest.mark.parametrize("interval_s", [20.48e-6, 1e-3])
def test_a_current_limit_however_short_makes_a_capture_invalid(feeding: Any, tmp_path: Path, interval_s: float) -> None:
    feeding.current(0.1)
    asked = wanted(tmp_path, interval_s=interval_s, duration_s=0.4)
    with feeding.opened() as meter, meter.capture(**asked) as capture:
        start_ns = feeding.current(0.6, time.monotonic_ns() + 50_000_000)
        feeding.current(0.1, start_ns + 2_000_000)
        with pytest.raises(CaptureInvalid, match=r"in its current limit \(QUES bit 7\)"):
            capture.result(timeout_s=10)


def test_what_tripped_before_is_not_held_against_a_capture(feeding: Any, tmp_path: Path) -> None:
    with feeding.opened() as meter:
        feeding.current(0.6)
        time.sleep(0.1)
        feeding.current(0.1)
        time.sleep(0.1)
        with meter.capture(**wanted(tmp_path)) as capture:
            capture.result(timeout_s=10)


def test_what_neither_way_of_recording_can_do_is_refused(feeding: Any, tmp_path: Path) -> None:
    with feeding.opened() as meter:
        for changes, reason in (
            ({"duration_s": None}, "a capture without end at 2.048e-05 s does not fit its memory of 524288"),
            ({"duration_s": 60.0}, "2929688 samples .* does not fit its memory"),
            ({"interval_s": 5.12e-6}, "less than its 1.024e-05 s"),
            ({"range_a": 0.5}, "has no 0.5 A range"),
        ):
            with pytest.raises(MeterError, match=reason), meter.capture(**wanted(tmp_path, **changes)):
                pass
        assert meter.configure(range_a=None, interval_s=15e-6).interval_s == pytest.approx(10.24e-6)
        assert meter.configure(range_a=None, interval_s=1e-3).interval_s == pytest.approx(1.00352e-3)
        # A shorter interval than was asked for means more samples, not a shorter time.
        with meter.capture(**wanted(tmp_path, interval_s=15e-6, duration_s=0.1)) as capture:
            assert len(capture.result(timeout_s=10)) * 10.24e-6 == pytest.approx(0.1, rel=1e-3)


def test_a_voltage_that_it_cannot_give_is_refused(feeding: Any) -> None:
    with pytest.raises(MeterError, match="refused its output settings: -222"), feeding.opened(Output(25.0, 0.5)):
        pass
    assert feeding.voltage_v == 0.0


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 2.0)), min_size=1, max_size=40),
    st.floats(-1e-4, 1e-4),
    st.sampled_from([409.6e-6, 20.48e-3, 1.0]),
)
def test_a_slow_host_is_never_taken_for_lost_rows(
    waits: list[tuple[float, float]], clock_error: float, interval_s: float
) -> None:
    """The host may take any time before it asks, and the answer any time on its way."""
    pace, t_s, fetched = Pace(interval_s), 100.0, 0
    pace.begun(t_s + 0.01)
    for pause_s, answer_s in waits:
        before_s = t_s + pause_s
        t_s = before_s + answer_s
        there = int((before_s + answer_s / 2 - 100.0) / (interval_s * (1 + clock_error)))
        assert pace.lost(there - fetched, before_s, t_s) == 0
        fetched = there


@settings(deadline=None, max_examples=100)
@given(st.integers(1000, 100_000), st.integers(1, 30))
def test_overwritten_rows_are_counted(lost: int, drains: int) -> None:
    pace, interval_s = Pace(1e-3), 1e-3
    pace.begun(0.0)
    for number in range(1, drains + 1):
        assert pace.lost(200, number * 0.2, number * 0.2 + 1e-3) == 0
    t_s = drains * 0.2 + (lost + 100) * interval_s
    assert pace.lost(100, t_s, t_s + 1e-3) == pytest.approx(lost, abs=5 + lost * 1e-3)
