"""What a capture makes of an acquisition, whatever instrument it comes from."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rig.energy import load_recording
from rig.meter import CaptureInvalid, Identity, MeterError, Trigger
from rig.meter.acquisition import Block, CapturePlan, Conclusion, Drained
from rig.meter.capture import MeterCapture

PLAN = CapturePlan(
    path=Path("x.f32"),
    ranges_a=(1.0,),
    interval_s=1e-3,
    aperture_s=1e-3,
    count=None,
    pretrigger=0,
    trigger=Trigger.immediate(),
    trigger_latency_s=0.0,
    identity=Identity("maker", "model", "serial", "1"),
    accuracy=(),
    voltage=False,
    zero_a={1.0: 0.5},
)


class Blocks:
    """An acquisition that gives one block after the other; the last one again and again, until it is aborted."""

    poll_s = 0.001

    def __init__(self, *blocks: Block | Exception) -> None:
        self._blocks: Iterator[Block | Exception] = iter(blocks)
        self.aborted = 0

    def start(self) -> tuple[float, float]:
        return 10.0, 10.2

    def drain(self) -> Drained:
        block = next(self._blocks, None)
        if isinstance(block, Exception):
            raise block
        return Drained([block] if block else [], finished=bool(self.aborted))

    def conclude(self, received: int) -> Conclusion:
        del received
        return Conclusion((), None)

    def abort(self) -> None:
        self.aborted += 1


def block(*readings_a: float, lost: int = 0) -> Block:
    return Block(np.array(readings_a), lost=lost)


def test_a_capture_until_stopped_holds_all_that_came_before(tmp_path: Path) -> None:
    plan, acquisition = replace(PLAN, path=tmp_path / "x.f32"), Blocks(block(1.0, 1.5), block(0.75))
    with MeterCapture("meter m", plan, acquisition, []) as capture:
        while capture.received < 3:
            pass
        waveform = capture.stop(timeout_s=10)
    assert waveform.samples.tolist() == [0.5, 1.0, 0.25]
    assert waveform.t0_s == pytest.approx(10.1)
    assert waveform.t0_uncertainty_s == pytest.approx(0.1)
    assert acquisition.aborted == 1


@pytest.mark.parametrize(
    ("broken", "reason", "gaps"),
    [
        (block(1.0, lost=3), "3 samples lost", ((1, 3),)),
        (block(9.9e37, -9.9e37, 1.0, 9.9e37), r"3 readings beyond the range, the first 0\.001000 s", ((1, 2), (4, 1))),
    ],
)
def test_what_is_lost_is_a_gap_and_makes_the_capture_invalid(
    tmp_path: Path, broken: Block, reason: str, gaps: tuple[tuple[int, int], ...]
) -> None:
    plan = replace(PLAN, path=tmp_path / "x.f32")
    with MeterCapture("meter m", plan, Blocks(block(0.5), broken), []) as capture:
        while capture.received < 5:
            pass
        with pytest.raises(CaptureInvalid, match=f"meter m: capture on the 1 A range is invalid: {reason}"):
            capture.stop(timeout_s=10)
    kept = load_recording(plan.path)
    assert kept.gaps == gaps
    assert kept.invalid
    lost = {sample for first, count in gaps for sample in range(first, first + count)}
    assert set(np.flatnonzero(np.isnan(kept.samples)).tolist()) == lost


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (block(3.0), r"readings up to 3 A on the 1 A range are no currents"),
        (block(float("nan")), r"are no currents"),
        (MeterError("meter m: gone"), "meter m: gone"),
        (RuntimeError("a fault of the driver"), r"the capture broke off: RuntimeError\('a fault of the driver'\)"),
    ],
)
def test_what_breaks_off_is_no_capture(tmp_path: Path, broken: Block | Exception, reason: str) -> None:
    plan = replace(PLAN, path=tmp_path / "x.f32", count=2)
    acquisition = Blocks(block(0.5), broken)
    with (
        pytest.raises(MeterError, match=reason),
        MeterCapture("meter m", plan, acquisition, []) as capture,
    ):
        capture.result(timeout_s=10)
    assert acquisition.aborted == 1
    assert len(load_recording(plan.path)) == 1
