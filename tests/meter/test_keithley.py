"""The DMM6500 and the DMM7510 through the meter protocol, against their virtual instruments."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.energy import charge
from rig.meter import Accuracy, CaptureInvalid, CaptureTimeout, Meter, MeterError, Trigger, measure_floor, open_meter
from rig.meter.drivers import Driver
from rig.meter.scpi import keithley
from rig.meter.visa import VisaSession
from rig.virtual.meter.bench import VirtualMeter
from rig.virtual.meter.models import MODELS


@pytest.fixture
def driver() -> Driver:
    return "keithley-dmm6500"


class Here(VirtualMeter):
    """A virtual DMM6500 in this process, where the test can reach into it, and draws the board's current itself."""

    def __init__(self, folder: Path, **oddities: Any) -> None:
        super().__init__(
            model="keithley-dmm6500",
            accuracy=MODELS["keithley-dmm6500"].accuracy,
            supply=folder / "s",
            seed=1,
            serial="1",
            supply_voltage_v=3.3,
            oddities=oddities,
        )

    @property
    def visa(self) -> str:
        return self.facts["visa"]

    def current(self, amps: float, t_ns: int | None = None) -> int:
        """Draw *amps* from *t_ns* (now) on; return that instant."""
        t_ns = time.monotonic_ns() if t_ns is None else t_ns
        with self.instrument.lock:
            self.instrument.timeline.set_current(t_ns, amps)
        return t_ns

    def line(self, level: int) -> int:
        """Set the trigger line; return the instant."""
        t_ns = time.monotonic_ns()
        with self.instrument.lock:
            self.instrument.timeline.set_level(t_ns, level)
        return t_ns


@contextmanager
def here(folder: Path, **oddities: Any) -> Iterator[Here]:
    virtual = Here(folder, **oddities)
    virtual.start()
    with closing(virtual):
        yield virtual


@pytest.fixture
def virtual(tmp_path: Path) -> Iterator[Here]:
    with here(tmp_path) as virtual:
        yield virtual


@pytest.fixture
def board(virtual: Here) -> Here:
    return virtual


def setup(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"range_a": 1.0, "interval_s": 20e-6, "duration_s": 0.2, "path": folder / "x.f32"} | changes


def test_opening_leaves_the_board_supplied_and_says_who_answered(meter: Meter, board: Here) -> None:
    assert meter.identity.model == "MODEL DMM6500"
    assert meter.capabilities.min_interval_s == 1e-6
    assert meter.capabilities.max_samples is None
    assert meter.capabilities.triggers == ("immediate", "external", "level")
    board.current(0.276)
    assert board.instrument.board_voltage_v() > 3.2
    assert meter.errors == ()


def test_the_dmm7510_is_another_model_of_the_same_family(virtual: Here) -> None:
    other = open_meter("keithley-dmm7510", virtual.visa, None)
    with pytest.raises(MeterError, match="this driver is for DMM7510"), other:
        pass


def test_another_command_set_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with here(tmp_path, language="SCPI34401") as virtual:
        meter = open_meter("keithley-dmm6500", virtual.visa, None)
        with pytest.raises(MeterError, match=r"command set is SCPI34401.*choose SCPI in the instrument's menu"), meter:
            pass


def test_immediate_capture_agrees_with_the_truth_on_the_rigs_clock(meter: Meter, board: Here, tmp_path: Path) -> None:
    board.current(0.02)
    with meter.capture(**setup(tmp_path, duration_s=0.4)) as capture:
        start_ns = board.current(0.1, time.monotonic_ns() + 100_000_000)
        end_ns = board.current(0.02, start_ns + 100_000_000)
        waveform = capture.result(timeout_s=10)
    assert len(waveform) == 20_000
    assert 0 < waveform.t0_uncertainty_s < 0.1
    result = charge("burst", waveform.window(start_ns * 1e-9 - 0.05, end_ns * 1e-9 + 0.05))
    assert result.expanded_uncertainty is not None
    assert result.value == pytest.approx(0.1 * 0.1 + 0.1 * 0.02, abs=result.expanded_uncertainty)
    assert meter.errors == ()


@pytest.mark.parametrize("pretrigger_s", [0.05, 0.0])
def test_external_trigger_aligns_to_microseconds(
    meter: Meter, board: Here, tmp_path: Path, pretrigger_s: float
) -> None:
    board.current(5e-6)
    settings = setup(tmp_path, pretrigger_s=pretrigger_s, trigger=Trigger.external_rising())
    with meter.capture(**settings) as capture:
        edge_ns = board.line(1)
        board.current(0.1, edge_ns)
        board.current(0.0, edge_ns + 50_000_000)
        waveform = capture.result(timeout_s=10)
    assert waveform.trigger_index == round(pretrigger_s / 20e-6)
    assert len(waveform) == 10_000 + waveform.trigger_index
    aligned = waveform.aligned(edge_ns * 1e-9, 0.0)
    assert aligned.t0_uncertainty_s == pytest.approx(15e-6)
    result = charge("burst", aligned.window(edge_ns * 1e-9 + 0.01, edge_ns * 1e-9 + 0.06))
    assert result.expanded_uncertainty is not None
    assert result.value == pytest.approx(0.1 * 0.04, abs=result.expanded_uncertainty)


def test_falling_edge(meter: Meter, board: Here, tmp_path: Path) -> None:
    board.line(1)
    with meter.capture(**setup(tmp_path, trigger=Trigger.external_falling())) as capture:
        board.line(0)
        assert capture.result(timeout_s=10).trigger_index == 0


def test_the_current_itself_is_a_trigger(meter: Meter, board: Here, tmp_path: Path) -> None:
    board.current(0.02)
    with meter.capture(**setup(tmp_path, pretrigger_s=0.01, trigger=Trigger.level_rising(0.1))) as capture:
        board.current(0.25)
        waveform = capture.result(timeout_s=10)
    assert waveform.trigger_index == 500
    first = int(np.flatnonzero(waveform.samples > 0.1)[0])
    assert abs(first - 500) <= 1


def test_a_trigger_that_never_comes_is_a_timeout_and_nothing_stays_armed(
    meter: Meter, board: Here, tmp_path: Path
) -> None:
    board.line(0)
    with (
        meter.capture(**setup(tmp_path, pretrigger_s=0.01, trigger=Trigger.external_rising())) as capture,
        pytest.raises(CaptureTimeout, match="its trigger has not come"),
    ):
        capture.result(timeout_s=0.3)
    with meter.capture(**setup(tmp_path, duration_s=0.01)) as capture:
        assert len(capture.result(timeout_s=10)) == 500
    assert meter.errors == ()


def test_rounded_intervals_are_read_back_and_long_ones_are_means(meter: Meter, board: Here, tmp_path: Path) -> None:
    board.current(0.05)
    with meter.capture(**setup(tmp_path, interval_s=33.4e-6, duration_s=0.01)) as capture:
        assert capture.result(timeout_s=10).interval_s == pytest.approx(33e-6)
    with meter.capture(**setup(tmp_path, interval_s=2.5e-3, duration_s=0.25)) as capture:
        slow = capture.result(timeout_s=10)
    assert slow.interval_s == pytest.approx(3 * 833e-6)
    assert slow.aperture_s == pytest.approx(3 * 833e-6)
    assert slow.samples == pytest.approx(0.05, rel=2e-3)
    readings = meter.read_current(range_a=0.1, aperture_s=0.02, count=5)
    assert readings.interval_s == pytest.approx(0.02)
    assert readings.samples == pytest.approx(0.05, rel=1e-3)


def test_floor_goes_down_to_the_narrowest_range_that_fits(meter: Meter, board: Here) -> None:
    board.current(5e-6)
    floor = measure_floor(meter, wanted=0.01, max_duration_s=0.3)
    assert floor.range_a == 100e-6
    result = floor.measurement("sleep")
    assert result.expanded_uncertainty is not None
    assert result.value == pytest.approx(5e-6, abs=result.expanded_uncertainty)
    board.current(0.276)
    assert board.instrument.board_voltage_v() == pytest.approx(3.3 - 0.276 * 0.31, abs=3e-3)


def test_a_capture_begins_when_a_new_range_is_in_force(meter: Meter, board: Here, tmp_path: Path) -> None:
    board.current(0.02)
    with meter.capture(**setup(tmp_path, range_a=0.1)) as capture:
        step_ns = board.current(0.05, time.monotonic_ns() + 100_000_000)
        waveform = capture.result(timeout_s=10)
    assert waveform.t0_s is not None
    found_s = waveform.t0_s + float(np.flatnonzero(waveform.samples > 0.04)[0]) * waveform.interval_s
    assert found_s == pytest.approx(step_ns * 1e-9, abs=waveform.t0_uncertainty_s + waveform.interval_s)
    assert waveform.t0_uncertainty_s < 0.05


def test_one_interface_controls_it_at_a_time(virtual: Here) -> None:
    address = ("127.0.0.1", int(virtual.visa.split("::")[2]))
    with socket.create_connection(address) as second, socket.create_connection(address) as third:
        second.sendall(b"*LANG?\n")
        assert second.recv(100) == b"SCPI\n"
        third.sendall(b"*LANG?\n")
        assert not select.select([third], [], [], 0.2)[0]
        second.close()
        assert third.recv(100) == b"SCPI\n"


def test_overrange_makes_a_capture_invalid_also_within_a_mean(meter: Meter, board: Here, tmp_path: Path) -> None:
    board.current(0.13)
    for interval_s in (20e-6, 20e-3):
        with (
            meter.capture(**setup(tmp_path, range_a=0.1, interval_s=interval_s)) as capture,
            pytest.raises(CaptureInvalid, match="readings beyond the range"),
        ):
            capture.result(timeout_s=10)


def test_a_capture_until_stopped_goes_through_a_buffer_that_wraps(
    meter: Meter, board: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keithley, "MAX_CAPACITY", 20_000)
    board.current(0.02)
    with meter.capture(**setup(tmp_path, duration_s=None)) as capture:
        start_ns = board.current(0.1, time.monotonic_ns() + 200_000_000)
        end_ns = board.current(0.02, start_ns + 700_000_000)
        while capture.received < 50_000:
            time.sleep(0.05)
        waveform = capture.stop(timeout_s=10)
    assert len(waveform) >= 50_000
    result = charge("burst", waveform.window(start_ns * 1e-9 - 0.05, end_ns * 1e-9 + 0.05))
    assert result.expanded_uncertainty is not None
    assert result.value == pytest.approx(0.1 * 0.7 + 0.1 * 0.02, abs=result.expanded_uncertainty)


def test_a_long_capture_ends_with_its_last_sample(
    meter: Meter, board: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keithley, "MAX_CAPACITY", 20_000)
    board.current(0.02)
    with meter.capture(**setup(tmp_path, duration_s=0.6)) as capture:
        assert len(capture.result(timeout_s=10)) == 30_000
    with meter.capture(**setup(tmp_path, duration_s=0.01)) as capture:
        assert len(capture.result(timeout_s=10)) == 500
    with (
        pytest.raises(MeterError, match="holds 20000 samples around a trigger"),
        meter.capture(**setup(tmp_path, duration_s=0.6, trigger=Trigger.external_rising())),
    ):
        pass


def test_readings_written_over_before_they_were_fetched_are_counted_and_the_capture_is_invalid(
    virtual: Here, meter: Meter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keithley, "MAX_CAPACITY", 5_000)
    virtual.current(0.05)
    with meter.capture(**setup(tmp_path, duration_s=0.6)) as capture:
        time.sleep(0.2)
        with virtual.instrument.lock:  # it does not answer for three times the length of its buffer
            time.sleep(0.3)
        with pytest.raises(CaptureInvalid, match=r"\d+ samples lost"):
            capture.result(timeout_s=10)
        assert capture.received == 30_000


def test_what_the_event_log_says_makes_a_capture_invalid(virtual: Here, meter: Meter, tmp_path: Path) -> None:
    with meter.capture(**setup(tmp_path, trigger=Trigger.external_rising())) as capture:
        with virtual.instrument.lock:
            virtual.instrument.status.report_once(4915, "Attempting to store past capacity of reading buffer", 2)
        virtual.line(1)
        with pytest.raises(CaptureInvalid, match="readings discarded, the buffer being full"):
            capture.result(timeout_s=10)
    assert [entry.split(";")[0] for entry in meter.errors] == [
        'capture: 4915,"Attempting to store past capacity of reading buffer'
    ]


def test_an_instrument_stopped_from_its_panel_makes_a_capture_invalid(
    virtual: Here, meter: Meter, tmp_path: Path
) -> None:
    with meter.capture(**setup(tmp_path, duration_s=5.0)) as capture:
        virtual.instrument.abort()
        with pytest.raises(CaptureInvalid, match="samples instead of 250000"):
            capture.result(timeout_s=10)


def test_bytes_in_the_wrong_order_are_no_readings(virtual: Here, meter: Meter, tmp_path: Path) -> None:
    virtual.current(0.05)
    with meter.capture(**setup(tmp_path, trigger=Trigger.external_rising())) as capture:
        with virtual.instrument.lock:
            virtual.instrument.settings.swapped = False
        virtual.line(1)
        with pytest.raises(MeterError, match="the byte order"):
            capture.result(timeout_s=10)


def test_an_answer_that_comes_too_late_never_answers_another_question(tmp_path: Path, accuracy: Accuracy) -> None:
    late = {"to": "TRAC:DATA?", "delay_s": 2.4}
    with (
        here(tmp_path, late_reply=late) as virtual,
        open_meter("keithley-dmm6500", virtual.visa, accuracy) as meter,
    ):
        virtual.current(0.05)
        with (
            meter.capture(**setup(tmp_path)) as capture,
            pytest.raises(MeterError, match=r"no proper answer to ':TRAC:DATA.*nothing within 2 s"),
        ):
            capture.result(timeout_s=10)
        with meter.capture(**setup(tmp_path)) as capture:
            assert capture.result(timeout_s=10).samples == pytest.approx(0.05, abs=2e-3)


def test_an_error_queue_that_ran_over_is_kept_as_such(virtual: Here, accuracy: Accuracy) -> None:
    with VisaSession(virtual.visa) as before:
        before.query("BOGUS;" * 30 + "*IDN?")
    with open_meter("keithley-dmm6500", virtual.visa, accuracy) as meter:
        assert [entry.split(",")[0] for entry in meter.errors] == [
            *["found on opening: -113"] * 19,
            "found on opening: -350",
        ]


@settings(deadline=None)
@given(st.integers(1, 7), st.lists(st.tuples(st.integers(0, 20), st.sampled_from([0, 0, 0, 1, 5, 30])), max_size=8))
def test_means_keep_their_places_whatever_is_lost(of: int, arrivals: list[tuple[int, int]]) -> None:
    mean, position, samples = keithley.Mean(of), 0, []
    gone: set[int] = set()
    for size, lost in arrivals:
        gone.update(range(position, position + lost))
        position += lost
        block = mean.block(np.arange(position, position + size, dtype=np.float32), lost)
        position += size
        samples += [np.nan] * block.lost + list(block.current_a)
    for index, sample in enumerate(samples):
        readings = range(index * of, (index + 1) * of)
        if gone.isdisjoint(readings):
            assert sample == pytest.approx(np.mean(readings))
        else:
            assert np.isnan(sample)
    assert position - len(samples) * of < of or gone
