"""The zero of a meter: taken with the board off, subtracted from what follows, and in the budget."""

from pathlib import Path
from typing import Any

import pytest

from rig.energy.recording import load_header
from rig.meter import Accuracy, Meter, MeterError, measure_floor

DOCUMENT = Path("rig/virtual/meter/accuracy-34465a-virtual.yaml")


def test_a_zero_takes_the_offset_away_and_the_recording_says_so(
    meter: Meter, board: Any, tmp_path: Path, accuracy: Accuracy
) -> None:
    board.current(0.0)
    found = meter.zero([100e-6, 1.0])
    offset_limit_a = accuracy.figures(100e-6).range_ppm * 1e-6 * 100e-6  # type: ignore[operator]
    assert 0 < abs(found[100e-6].mean_a) < offset_limit_a
    assert found[100e-6].standard_uncertainty_a < offset_limit_a / 20
    board.current(5e-6)
    mean_a = measure_floor(meter, wanted=0.001, max_duration_s=0.5).measurement("floor").value
    # What is left is the gain, 500 ppm, and noise: the offset could be 10 nA.
    assert mean_a == pytest.approx(5e-6, abs=4e-9)
    path = tmp_path / "x.f32"
    with meter.capture(range_a=1.0, interval_s=1e-3, duration_s=0.05, path=path) as capture:
        capture.result(timeout_s=10)
    assert load_header(path).zero_a == {1.0: found[1.0].mean_a}


def test_a_current_that_flows_is_no_zero(meter: Meter, board: Any) -> None:
    board.current(21e-3)
    with pytest.raises(MeterError, match=r"is no zero: switch the board off, or disconnect it"):
        meter.zero([1.0])
