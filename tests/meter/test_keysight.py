import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rig.clock import now_s
from rig.energy import charge, load_recording
from rig.errors import BenchError
from rig.meter import Accuracy, CaptureInvalid, CaptureTimeout, Meter, MeterError, Trigger, measure_floor, open_meter
from rig.meter.visa import VisaSession
from rig.virtual.meter.bench import VirtualMeter
from rig.virtual.meter.truevolt.instrument import QUES_MEMORY_OVERFLOW, QUES_TIMING_VIOLATION

DOCUMENT = Path("rig/virtual/meter/accuracy-34465a-virtual.yaml")


def settings(path: Path, **changes: Any) -> dict[str, Any]:
    return {"range_a": 1.0, "interval_s": 20e-6, "duration_s": 0.2, "path": path / "x.f32"} | changes


def test_opening_leaves_the_board_supplied_and_says_who_answered(meter: Meter, board: Any) -> None:
    assert meter.identity.model == "34465A"
    assert str(meter.identity).startswith("coaps-rig virtual bench 34465A, serial T3")
    assert meter.capabilities.min_interval_s == 20e-6
    assert meter.capabilities.max_pretrigger == 2_000_000
    board.current(0.276)
    assert min(board.voltages()) > 3.2
    assert meter.errors == ()


def test_immediate_capture_agrees_with_the_truth_on_the_rigs_clock(meter: Meter, board: Any, tmp_path: Path) -> None:
    board.current(0.02)
    with meter.capture(**settings(tmp_path, duration_s=0.4)) as capture:
        start_ns = board.current(0.1, time.monotonic_ns() + 100_000_000)
        end_ns = board.current(0.02, start_ns + 100_000_000)
        waveform = capture.result(timeout_s=10)
    assert len(waveform) == 20_000
    assert waveform.t0_s is not None
    assert 0 < waveform.t0_uncertainty_s < 0.1
    result = charge("burst", waveform.window(start_ns * 1e-9 - 0.05, end_ns * 1e-9 + 0.05))
    assert result.expanded_uncertainty is not None
    assert result.value == pytest.approx(0.1 * 0.1 + 0.1 * 0.02, abs=result.expanded_uncertainty)


def test_external_trigger_with_pretrigger_aligns_to_microseconds(meter: Meter, board: Any, tmp_path: Path) -> None:
    board.current(5e-6)
    with meter.capture(**settings(tmp_path, pretrigger_s=0.05, trigger=Trigger.external_rising())) as capture:
        assert meter.errors == ()
        edge_ns = board.line(1)
        board.current(0.1, edge_ns)
        board.current(0.0, edge_ns + 50_000_000)
        waveform = capture.result(timeout_s=10)
    assert waveform.trigger_index == 2500
    assert len(waveform) == 12_500
    assert waveform.t0_s is None
    aligned = waveform.aligned(edge_ns * 1e-9, 0.0)
    assert aligned.t0_uncertainty_s == pytest.approx(15e-6)
    result = charge("burst", aligned.window(edge_ns * 1e-9 + 0.01, edge_ns * 1e-9 + 0.06))
    assert result.expanded_uncertainty is not None
    assert result.value == pytest.approx(0.1 * 0.04, abs=result.expanded_uncertainty)
    assert result.expanded_uncertainty < 0.01 * result.value


def test_falling_edge(meter: Meter, board: Any, tmp_path: Path) -> None:
    board.line(1)
    with meter.capture(**settings(tmp_path, trigger=Trigger.external_falling())) as capture:
        board.line(0)
        assert capture.result(timeout_s=10).trigger_index == 0


def test_samples_and_what_they_are_can_be_read_by_themselves(
    meter: Meter, board: Any, tmp_path: Path, accuracy: Accuracy
) -> None:
    board.current(0.05)
    with meter.capture(**settings(tmp_path)) as capture:
        waveform = capture.result(timeout_s=10)
    sidecar = json.loads((tmp_path / "x.f32.json").read_text())
    assert sidecar["complete"]
    assert sidecar["interval_s"] == 20e-6
    assert sidecar["instrument"]["serial"] == "T3"
    assert sidecar["accuracy"][0]["document"] == accuracy.document
    assert sidecar["errors"] == []
    assert np.fromfile(tmp_path / "x.f32", "<f4") == pytest.approx(waveform.samples)
    again = load_recording(tmp_path / "x.f32")
    assert again.accuracy == waveform.accuracy == (accuracy.of_range(1.0, 20e-6),)
    assert again.t0_s == waveform.t0_s


def test_readings_are_on_disk_while_they_arrive(meter: Meter, board: Any, tmp_path: Path) -> None:
    board.current(0.05)
    with meter.capture(**settings(tmp_path, duration_s=60.0)):
        until_s = now_s() + 20
        while (tmp_path / "x.f32").stat().st_size < 40_000 and now_s() < until_s:
            time.sleep(0.02)
        partial = load_recording(tmp_path / "x.f32")
        assert len(partial) >= 10_000
        assert partial.t0_s is not None
    # Leaving has aborted the acquisition: the next capture is not refused.
    with meter.capture(**settings(tmp_path, duration_s=0.01)) as capture:
        assert len(capture.result(timeout_s=10)) == 500
    assert meter.errors == ()


def test_interval_is_what_the_instrument_makes_of_it(meter: Meter, tmp_path: Path) -> None:
    with meter.capture(**settings(tmp_path, interval_s=33.1e-6, duration_s=0.01)) as capture:
        waveform = capture.result(timeout_s=10)
    assert waveform.interval_s == pytest.approx(34e-6)
    assert waveform.aperture_s == pytest.approx(32e-6)


def test_overload_makes_a_capture_invalid(meter: Meter, board: Any, tmp_path: Path) -> None:
    board.current(0.02)
    with meter.capture(**settings(tmp_path, range_a=0.1)) as capture:
        board.current(0.13)
        with pytest.raises(CaptureInvalid, match=r"current overload \(QUES bit 1\).*readings beyond the range"):
            capture.result(timeout_s=10)


def test_a_setting_changed_from_elsewhere_makes_a_capture_invalid(virtual: Any, meter: Meter, tmp_path: Path) -> None:
    with meter.capture(**settings(tmp_path, duration_s=1.0)) as capture, VisaSession(virtual.visa) as somebody:
        somebody.command("meddling", "CURR:DC:APER 0.1")
        with pytest.raises(CaptureInvalid, match="readings instead of 50000"):
            capture.result(timeout_s=10)


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (QUES_TIMING_VIOLATION, r"sample timing violation \(QUES bit 2\)"),
        (QUES_MEMORY_OVERFLOW, r"reading memory overflow \(QUES bit 14\)"),
    ],
)
def test_what_the_instrument_says_of_itself_makes_a_capture_invalid(
    tmp_path: Path, accuracy: Accuracy, bits: int, text: str
) -> None:
    here = VirtualMeter(
        model="keysight-34465a",
        accuracy=DOCUMENT,
        supply=tmp_path / "s",
        seed=1,
        serial="1",
        supply_voltage_v=3.3,
    )
    here.start()
    with (
        closing(here),
        open_meter("keysight-34465a", here.facts["visa"], accuracy) as meter,
        meter.capture(**settings(tmp_path)) as capture,
    ):
        with here.instrument.lock:
            here.instrument.status.questionable.set_condition(bits)
        with pytest.raises(CaptureInvalid, match=text):
            capture.result(timeout_s=10)


def test_a_trigger_that_never_comes_is_a_timeout_and_nothing_stays_armed(
    meter: Meter, board: Any, tmp_path: Path
) -> None:
    board.line(0)
    with (
        meter.capture(**settings(tmp_path, pretrigger_s=0.01, trigger=Trigger.external_rising())) as capture,
        pytest.raises(CaptureTimeout, match="its trigger has not come"),
    ):
        capture.result(timeout_s=0.3)
    with meter.capture(**settings(tmp_path, duration_s=0.01)) as capture:
        assert len(capture.result(timeout_s=10)) == 500


def test_impossible_settings_are_refused_before_anything_is_armed(meter: Meter, tmp_path: Path) -> None:
    for changes, reason in (
        ({"interval_s": 1e-6}, "less than its 2e-05 s"),
        ({"range_a": 10.0}, "no 10 A range"),
        ({"pretrigger_s": 0.1}, "no time before it"),
        ({"duration_s": 50.0, "pretrigger_s": 0.1, "trigger": Trigger.external_rising()}, "it holds 1 to 2000000"),
    ):
        with pytest.raises(MeterError, match=reason), meter.capture(**settings(tmp_path, **changes)):
            pass


def test_error_queue_is_kept_and_reported(virtual: Any, accuracy: Accuracy) -> None:
    reported: list[str] = []
    with VisaSession(virtual.visa) as before:
        before.query("BOGUS:CMD 1;*IDN?")
    with open_meter("keysight-34465a", virtual.visa, accuracy, on_errors=reported.extend) as meter:
        assert meter.errors == ('found on opening: -113,"Undefined header; BOGUS:CMD"',)
    assert reported == list(meter.errors)


def test_without_a_document_there_is_no_accuracy(virtual: Any, board: Any, tmp_path: Path) -> None:
    board.current(5e-6)
    with open_meter("keysight-34465a", virtual.visa, None) as meter:
        with meter.capture(**settings(tmp_path, duration_s=0.01)) as capture:
            waveform = capture.result(timeout_s=10)
        assert not waveform.accuracy
        assert measure_floor(meter, wanted=0.01, max_duration_s=0.1).measurement("floor").expanded_uncertainty is None


def test_a_meter_that_dies_in_a_capture_is_one_clear_error(
    virtual: Any, accuracy: Accuracy, board: Any, tmp_path: Path
) -> None:
    board.current(0.05)
    meter = open_meter("keysight-34465a", virtual.visa, accuracy)

    def capture_until_it_dies() -> None:
        with meter, meter.capture(**settings(tmp_path, duration_s=60.0)) as capture:
            virtual.process.kill()
            capture.result(timeout_s=30)

    with pytest.raises(BenchError, match=r"meter TCPIP::127\.0\.0\.1::.*: (no proper answer|does not answer)"):
        capture_until_it_dies()
    assert any("on closing" in entry for entry in meter.errors)
    assert not json.loads((tmp_path / "x.f32.json").read_text())["complete"]


def test_floor_goes_down_only_as_far_as_it_may_and_comes_back(meter: Meter, board: Any) -> None:
    for current_a, range_a, last_step_a in ((5e-6, 100e-6, 10e-3), (800e-6, 10e-3, 10e-3), (21e-3, 0.1, 0.1)):
        board.current(current_a)
        board.voltages()
        floor = measure_floor(meter, wanted=0.01, max_duration_s=0.2)
        assert floor.range_a == range_a
        assert [step.range_a for step in floor.steps] == [1.0, last_step_a]
        assert all(len(step.readings_a) == 10 for step in floor.steps)
        result = floor.measurement("sleep")
        assert result.expanded_uncertainty is not None
        assert result.value == pytest.approx(current_a, abs=result.expanded_uncertainty)
        assert min([3.3, *board.voltages()]) > 3.2
        board.current(0.276)
        assert board.voltages()[-1] == pytest.approx(3.3 - 0.276 * 0.31, abs=2e-3)


def test_a_board_that_wakes_on_the_lowest_range_loses_its_supply_and_the_floor_is_invalid(
    meter: Meter, board: Any
) -> None:
    board.current(5e-6)
    board.current(28e-3, time.monotonic_ns() + 1_000_000_000)
    with pytest.raises(CaptureInvalid, match="overload"):
        measure_floor(meter, wanted=0.01, max_duration_s=2.0)
    assert 0.0 in board.voltages()
    board.current(28e-3)
    assert board.voltages() == []  # it is back on the 1 A range already, at the voltage last announced


def test_the_virtual_meter_serves_a_board_that_comes_again(virtual: Any, meter: Meter, tmp_path: Path) -> None:
    for amps in (0.05, 0.1):
        with virtual.board() as board:
            assert board.voltages() == [3.3]
            board.current(amps)
            with meter.capture(**settings(tmp_path, duration_s=0.02)) as capture:
                mean_a = capture.result(timeout_s=10).whole().statistics.mean_a
            assert mean_a == pytest.approx(amps, rel=0.01)
    with meter.capture(**settings(tmp_path, duration_s=0.02)) as capture:
        assert capture.result(timeout_s=10).whole().statistics.mean_a == pytest.approx(0.0, abs=2e-4)
