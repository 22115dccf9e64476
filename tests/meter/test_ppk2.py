"""The PPK2 driver against the virtual instrument on its pseudo-terminal; the test plays the board."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rig.energy import load_recording
from rig.energy.recording import Change, load_changes
from rig.meter import (
    Accuracy,
    CaptureInvalid,
    CaptureTimeout,
    MeterError,
    Output,
    Trigger,
    load_accuracy,
    measure_floor,
    open_meter,
)
from rig.meter.ppk2.driver import Ppk2
from rig.virtual.meter.bench import VirtualMeter
from tests.meter.conftest import SupplyPlayer

DOCUMENT = Path("rig/virtual/meter/accuracy-nordic-ppk2-virtual.yaml")
FED = Output(voltage_v=3.3, current_limit_a=1.0)
#: What the virtual instrument may be off by, its ranges 0 to 3 and 4.
GAIN, WIDE_GAIN = 0.1, 0.15


@dataclass
class Bench:
    """A virtual PPK2 with a board on its supply wire."""

    port: str
    board: SupplyPlayer

    def driver(self, accuracy: Accuracy | None = None, output: Output | None = FED) -> Ppk2:
        return Ppk2(self.port, accuracy, output=output)


@pytest.fixture
def accuracy() -> Accuracy:
    return load_accuracy(DOCUMENT)


@pytest.fixture
def benches(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Return what makes a bench whose instrument has the oddities it is given."""
    with contextlib.ExitStack() as stack:

        def make(**oddities: Any) -> Bench:
            supply = tmp_path / "supply"
            virtual = VirtualMeter(
                model="nordic-ppk2",
                accuracy=DOCUMENT,
                supply=supply,
                seed=3,
                serial="T3",
                supply_voltage_v=3.0,
                oddities=oddities,
            )
            virtual.start()
            stack.enter_context(closing(virtual))
            wire = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            wire.connect(str(supply))
            return Bench(virtual.facts["port"], SupplyPlayer(wire))

        yield make


@pytest.fixture
def bench(benches: Callable[..., Bench]) -> Bench:
    return benches()


def settings(path: Path, **changes: Any) -> dict[str, Any]:
    return {"range_a": None, "interval_s": 1e-5, "duration_s": 0.15, "path": path / "x.f32"} | changes


def test_entering_feeds_the_board_and_leaving_lets_it_run_on(bench: Bench) -> None:
    assert bench.board.voltages() == [0.0]
    with bench.driver() as meter:
        assert str(meter.identity) == "Nordic Semiconductor PPK2, serial , firmware HW 9173"
        assert meter.identity.options == ("source mode at 3.3 V",)
        assert meter.capabilities.seamless
        assert meter.capabilities.ranges_a == ()
        assert bench.board.voltages() == [3.3]
        meter.switch(False)
        assert bench.board.voltages() == [0.0]
        meter.switch(True)
        assert bench.board.voltages() == [3.3]
    with bench.driver() as meter:
        assert meter.errors == ()
    assert bench.board.voltages() == []


def test_in_ampere_mode_the_supply_is_that_of_the_bench(bench: Bench) -> None:
    with bench.driver(output=None) as meter:
        assert meter.identity.options == ("ampere mode",)
        assert bench.board.voltages()[-1] == 3.0


def test_a_capture_holds_the_current_on_the_rigs_clock_with_the_ranges_it_went_through(
    bench: Bench, accuracy: Accuracy, tmp_path: Path
) -> None:
    bench.board.current(5e-6)
    with bench.driver(accuracy) as meter, meter.capture(**settings(tmp_path, duration_s=0.4)) as capture:
        start_ns = bench.board.current(0.2, time.monotonic_ns() + 100_000_000)
        bench.board.current(5e-6, start_ns + 100_000_000)
        waveform = capture.result(timeout_s=20)
    assert len(waveform) == capture.received == 40_000
    assert waveform.interval_s == 1e-5
    assert waveform.gaps == waveform.invalid == ()
    assert waveform.ranges_a == (50e-6, 500e-6, 5e-3, 50e-3, 1.0)
    assert [figures.range_a for figures in waveform.accuracy] == list(waveform.ranges_a)
    assert waveform.spans is not None
    assert waveform.spans.index[[0, -1]].tolist() == [0, 0]
    assert waveform.spans.index.max() == 4
    samples = np.asarray(waveform.samples)
    rise = int(np.argmax(samples > 0.05))
    assert rise - 1 <= waveform.spans.starts[1] <= rise
    assert waveform.t0_s is not None
    assert waveform.t0_s + rise * 1e-5 == pytest.approx(start_ns * 1e-9, abs=waveform.t0_uncertainty_s + 2e-5)
    assert samples[: rise - 2].mean() == pytest.approx(5e-6, rel=GAIN, abs=0.2e-6)
    assert samples[rise + 10 : rise + 9900].mean() == pytest.approx(0.2, rel=WIDE_GAIN, abs=2e-3)


def test_the_samples_of_a_range_change_are_named_and_not_smoothed(bench: Bench, tmp_path: Path) -> None:
    bench.board.current(5e-6)
    with bench.driver() as meter, meter.capture(**settings(tmp_path)) as capture:
        bench.board.current(0.2, time.monotonic_ns() + 40_000_000)
        waveform = capture.result(timeout_s=20)
    changes = load_changes(tmp_path / "x.f32")
    uncertain = changes[changes["what"] == Change.UNCERTAIN]
    assert waveform.spans is not None
    assert uncertain["sample"].tolist() == waveform.spans.starts[1:].tolist()
    assert set(uncertain["value"].tolist()) == {3}
    settled = float(waveform.samples[-1])
    assert waveform.samples[int(uncertain["sample"][-1]) + 1] == pytest.approx(1.1 * settled, rel=0.05)


def test_the_logic_inputs_are_on_the_clock_of_the_current(bench: Bench, tmp_path: Path) -> None:
    with bench.driver() as meter, meter.capture(**settings(tmp_path)) as capture:
        edge_ns = time.monotonic_ns() + 40_000_000
        bench.board.line(1, edge_ns)
        bench.board.current(0.02, edge_ns)
        samples = np.asarray(capture.result(timeout_s=20).samples)
    changes = load_changes(tmp_path / "x.f32")
    logic = changes[changes["what"] == Change.LOGIC]
    assert logic["value"].tolist() == [0, 1]
    assert abs(int(logic["sample"][1]) - int(np.argmax(samples > 0.01))) <= 1


@pytest.mark.parametrize(
    ("trigger", "before", "after", "lag_s"),
    [
        (Trigger.external_rising(), 0.002, 0.05, 1e-5),
        (Trigger.level_falling(0.02), 0.05, 0.002, 2.5e-5),
    ],
)
def test_a_trigger_with_samples_before_it(
    bench: Bench, tmp_path: Path, trigger: Trigger, before: float, after: float, lag_s: float
) -> None:
    bench.board.line(int(not trigger.rising))
    bench.board.current(before)
    plan = settings(tmp_path, duration_s=0.05, pretrigger_s=0.05, trigger=trigger)
    with bench.driver() as meter, meter.capture(**plan) as capture:
        edge_ns = bench.board.current(after)
        bench.board.line(int(trigger.rising), edge_ns)
        waveform = capture.result(timeout_s=20)
    assert len(waveform) == 10_000
    assert waveform.trigger_index == 5000
    assert waveform.trigger_lag_s == waveform.trigger_lag_uncertainty_s == pytest.approx(lag_s)
    index, samples = waveform.trigger_index, np.asarray(waveform.samples)
    assert samples[: index - 10].mean() == pytest.approx(before, rel=0.2)
    assert samples[index + 110 :].mean() == pytest.approx(after, rel=0.2)
    latest = index - round(2 * lag_s / 1e-5)
    assert abs(samples[latest - 3] - before) < abs(samples[latest - 3] - after)
    assert abs(samples[index] - after) < abs(samples[index] - before)


def test_a_trigger_without_samples_before_it(bench: Bench, tmp_path: Path) -> None:
    with bench.driver() as meter:
        with meter.capture(**settings(tmp_path, trigger=Trigger.external_rising())) as capture:
            with pytest.raises(CaptureTimeout, match="its trigger has not come"):
                capture.result(timeout_s=0.2)
            edge_ns = bench.board.line(1)
            bench.board.current(0.02, edge_ns)
            waveform = capture.result(timeout_s=20)
        assert len(waveform) == 15_000
        assert waveform.trigger_index == 0
        assert waveform.samples[5] > 0.01
        with meter.capture(**settings(tmp_path, duration_s=0.01)) as capture:
            assert len(capture.result(timeout_s=20)) == 1000


def test_a_capture_that_goes_on_until_it_is_stopped_is_on_disk_meanwhile(bench: Bench, tmp_path: Path) -> None:
    bench.board.current(0.02)
    with bench.driver() as meter, meter.capture(**settings(tmp_path, duration_s=None)) as capture:
        until_s = time.monotonic() + 20
        while capture.received <= 15_000 and time.monotonic() < until_s:
            time.sleep(0.02)
        assert len(load_recording(tmp_path / "x.f32")) > 15_000
        waveform = capture.stop(timeout_s=20)
    assert len(waveform) == capture.received > 15_000
    assert float(waveform.samples[10:].mean(dtype=np.float64)) == pytest.approx(0.02, rel=GAIN)


def test_lost_samples_are_gaps_and_make_a_capture_invalid(benches: Callable[..., Bench], tmp_path: Path) -> None:
    bench = benches(lose=[[0.2, 7]])
    with (
        bench.driver() as meter,
        meter.capture(**settings(tmp_path)) as capture,
        pytest.raises(CaptureInvalid, match=r"\d+ samples lost"),
    ):
        capture.result(timeout_s=20)
    waveform = load_recording(tmp_path / "x.f32")
    assert "samples lost" in waveform.invalid[-1]
    ((first, count),) = waveform.gaps
    assert count % 64 == 7
    assert np.isnan(waveform.samples[first : first + count]).all()
    assert np.isfinite(waveform.samples[:first]).all()
    assert np.isfinite(waveform.samples[first + count :]).all()
    assert len(waveform) == 15_000


def test_a_torn_word_makes_a_capture_invalid_and_the_next_one_is_whole(
    benches: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = benches(tear=[0.2])
    bench.board.current(0.02)
    with bench.driver() as meter:
        with (
            meter.capture(**settings(tmp_path)) as capture,
            pytest.raises(CaptureInvalid, match="2 bytes belonged to no sample"),
        ):
            capture.result(timeout_s=20)
        torn = load_recording(tmp_path / "x.f32")
        assert np.nanmax(torn.samples) < 0.03
        with meter.capture(**settings(tmp_path)) as capture:
            assert len(capture.result(timeout_s=20)) == 15_000


def test_switching_the_boards_power_in_a_capture_makes_it_invalid_and_no_reading_wrong(
    bench: Bench, tmp_path: Path
) -> None:
    bench.board.current(0.02)
    with bench.driver() as meter:
        with meter.capture(**settings(tmp_path, duration_s=0.3)) as capture:
            time.sleep(0.05)
            meter.switch(False)
            time.sleep(0.05)
            meter.switch(True)
            with pytest.raises(CaptureInvalid):
                capture.result(timeout_s=20)
        assert np.nanmax(load_recording(tmp_path / "x.f32").samples) < 0.03
        with meter.capture(**settings(tmp_path)) as capture:
            assert len(capture.result(timeout_s=20)) == 15_000


@pytest.mark.parametrize("stale", [1, 62, 4096])
def test_what_a_stop_left_behind_enters_no_capture(benches: Callable[..., Bench], tmp_path: Path, stale: int) -> None:
    bench = benches(stale_bytes=stale)
    with bench.driver() as meter:
        for amps in (0.2, 0.002):
            bench.board.current(amps)
            with meter.capture(**settings(tmp_path, duration_s=0.1)) as capture:
                waveform = capture.result(timeout_s=20)
            assert float(waveform.samples.max()) < 1.3 * amps
            assert len(waveform) == 10_000


def test_a_current_beyond_the_instruments_limit_makes_a_capture_invalid(bench: Bench, tmp_path: Path) -> None:
    bench.board.current(0.02)
    with bench.driver() as meter, meter.capture(**settings(tmp_path)) as capture:
        start_ns = bench.board.current(1.5, time.monotonic_ns() + 40_000_000)
        bench.board.current(0.02, start_ns + 10_000_000)
        with pytest.raises(CaptureInvalid, match="readings beyond the range"):
            capture.result(timeout_s=20)
    waveform = load_recording(tmp_path / "x.f32")
    assert sum(count for _, count in waveform.gaps) == pytest.approx(1000, abs=5)
    assert np.nanmax(waveform.samples) < 1.0


def test_an_instrument_that_is_unplugged_is_one_sentence(benches: Callable[..., Bench], tmp_path: Path) -> None:
    bench = benches(disconnect_s=0.3)

    def capture_until_it_goes() -> None:
        with bench.driver() as meter, meter.capture(**settings(tmp_path, duration_s=60.0)) as capture:
            capture.result(timeout_s=30)

    with pytest.raises(MeterError, match=rf"^meter {bench.port}: .*still connected$"):
        capture_until_it_goes()
    assert not load_recording(tmp_path / "x.f32").invalid
    assert not json.loads((tmp_path / "x.f32.json").read_text())["complete"]
    with pytest.raises(MeterError, match="cannot be opened"), bench.driver():
        pass


def test_a_port_that_is_no_ppk2_is_named(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="cannot be opened"), Ppk2(str(tmp_path / "nothing"), None):
        pass
    master, device = os.openpty()
    with (
        open(master, "rb"),
        open(device, "rb"),
        pytest.raises(MeterError, match="no metadata within"),
        Ppk2(os.ttyname(device), None),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "reason"),
    [("Calibrated: 1\nR0: x\nEND\n", "R0 is 'x' and no number"), ("\xff\nEND\n", "not text")],
)
def test_bad_metadata_is_refused_on_entering(benches: Callable[..., Bench], text: str, reason: str) -> None:
    with pytest.raises(MeterError, match=reason), benches(metadata=text).driver():
        pass


def test_readings_are_means_of_samples(bench: Bench, accuracy: Accuracy) -> None:
    bench.board.current(5e-6)
    with bench.driver(accuracy) as meter:
        waveform = meter.read_current(range_a=None, aperture_s=0.01, count=10)
        assert waveform.samples == pytest.approx([5e-6] * 10, rel=GAIN, abs=0.2e-6)
        assert waveform.interval_s == waveform.aperture_s == pytest.approx(0.01)
        assert waveform.ranges_a == (50e-6,)
        assert waveform.accuracy == (accuracy.of_range(50e-6, 0.01),)
        bench.board.current(5e-6)
        floor = measure_floor(meter, wanted=0.05, max_duration_s=1.0)
        result = floor.measurement("sleep")
        assert result.expanded_uncertainty is not None
        assert result.value == pytest.approx(5e-6, abs=result.expanded_uncertainty)


def test_a_zero_is_subtracted_and_is_none_while_a_current_flows(bench: Bench, tmp_path: Path) -> None:
    with bench.driver() as meter:
        bench.board.current(2e-3)
        with pytest.raises(MeterError, match=r"0\.00\d+ A is no zero"):
            meter.zero((50e-6,))
        bench.board.current(0.0)
        zero = meter.zero(())[50e-6]
        assert 0 < abs(zero.mean_a) < 0.3e-6
        assert 0 < zero.standard_uncertainty_a < 5e-9
        with meter.capture(**settings(tmp_path)) as capture:
            waveform = capture.result(timeout_s=20)
        mean_a = float(waveform.samples.mean(dtype=np.float64))
        assert mean_a == pytest.approx(0.0, abs=5 * zero.standard_uncertainty_a)
        assert json.loads((tmp_path / "x.f32.json").read_text())["zero_a"] == {"5e-05": zero.mean_a}
        with pytest.raises(MeterError, match="only its 5e-05 A range"):
            meter.zero((1.0,))


def test_impossible_settings_are_refused(bench: Bench, tmp_path: Path) -> None:
    with bench.driver() as meter:
        assert meter.configure(range_a=None, interval_s=1e-3).interval_s == 1e-5
        for changes, reason in (
            ({"range_a": 1.0}, "has no fixed range"),
            ({"interval_s": 1e-6}, "less than its 1e-05 s"),
            ({"pretrigger_s": 0.1}, "no time before it"),
            ({"pretrigger_s": 60.0, "trigger": Trigger.external_rising()}, "at most 1000000 samples"),
            ({"trigger": Trigger("level")}, "has a level_a"),
        ):
            with pytest.raises(MeterError, match=reason), meter.capture(**settings(tmp_path, **changes)):
                pass
    for output, reason in ((Output(12.0, 1.0), "feeds 0.8 V to 5 V"), (Output(3.3, 0.1), "cannot limit the current")):
        with pytest.raises(MeterError, match=reason), bench.driver(output=output):
            pass


def test_it_is_opened_by_the_name_of_its_driver_and_a_killed_process_is_an_unplugged_one(tmp_path: Path) -> None:
    config = {
        "name": "p1",
        "model": "nordic-ppk2",
        "accuracy": str(DOCUMENT),
        "supply": str(tmp_path / "supply"),
        "seed": 3,
        "serial": "T3",
        "supply_voltage_v": 3.3,
    }
    (tmp_path / "meter.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "rig.virtual.meter", "--config", str(tmp_path / "meter.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        with open_meter("nordic-ppk2", port, None, output=FED) as meter:
            with meter.capture(**settings(tmp_path, duration_s=0.1)) as capture:
                assert len(capture.result(timeout_s=20)) == 10_000
            with meter.capture(**settings(tmp_path, duration_s=60.0)) as capture:
                process.kill()
                with pytest.raises(MeterError, match="still connected"):
                    capture.result(timeout_s=30)
