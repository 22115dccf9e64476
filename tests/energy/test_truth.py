"""Is the stated 95 % interval one? Two thousand captures each, and beside it the shortest Monte Carlo interval.

Everything is drawn within the stated accuracy: the board's states and how long they last, the sample interval, the
range or ranges, gain and offset of each, the clock, the leads, the supply or its voltmeter, and the noise. The
measurand is the energy of this capture. The model is written down here once more and shares no code with the budget.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from rig.energy import RangeSpans, Supply, Waveform, energy
from rig.meter import Accuracy, load_accuracy
from rig.meter.accuracy import RangeFigures

DOCUMENT = Path("rig/virtual/meter/accuracy-34465a-virtual.yaml")
CAPTURES = 2_000
#: Each such capture is simulated again and again (JCGM 101), the others only once.
EVERY = 10
TRIALS = 10_000
SUPPLY_V = 3.3
STATES_A = np.array([5e-6, 130e-6, 1.4e-3, 21e-3, 28e-3, 84e-3, 276e-3])
#: The ranges of the meter that follows the current, and those of which one is set and kept.
FOLLOWED_A = (1e-3, 10e-3, 100e-3, 1.0)
KEPT_A = (1.0, 3.0)
VOLTAGE = {"range_v": 6.0, "reading_ppm": 1000, "range_ppm": 300}
VOLTAGE_NOISE_V = 2e-3

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """Of one capture: the error in units of U, and how much wider the statement is than the shortest interval."""

    deviation: float
    width: float | None


class Laboratory:
    """Captures with instruments that meet one accuracy document, as it is written at *path*."""

    def __init__(self, path: Path, rng: np.random.Generator) -> None:
        content = yaml.safe_load(path.read_text())
        self._rng = rng
        self._accuracy: Accuracy = load_accuracy(path)
        self._k = content["coverage"].get("k")
        self._timebase = content["timebase_ppm"] * 1e-6
        self._lead_ohm = content["lead_ohm"]
        self._series = content["series_tolerance_ppm"] * 1e-6
        self._measures_voltage = "voltage" in content

    def capture(self, *, follows: bool, simulate: bool) -> Outcome:
        rng = self._rng
        interval_s = float(rng.choice([20e-6, 100e-6, 1e-3]))
        current_a = self._current()
        ranges_a = FOLLOWED_A if follows else (float(rng.choice(KEPT_A)),)
        index = np.searchsorted(np.array(ranges_a[:-1]), 1.05 * current_a) if follows else np.zeros(len(current_a), int)
        figures = [self._accuracy.figures(range_a) for range_a in ranges_a]
        gain = np.array([self._error(one.reading_ppm, 1.0) for one in figures])
        offset_a = np.array([self._error(one.range_ppm, one.range_a) for one in figures])
        noise_a = np.array([one.noise_rms_a * np.sqrt(20e-6 / interval_s) for one in figures])  # type: ignore[operator]
        doubt_v = 0.0 if self._measures_voltage else float(rng.choice([0.0, 1e-3, 1e-2]))
        supply_v = SUPPLY_V + doubt_v * rng.normal()
        clock = self._timebase * rng.uniform(-1, 1)
        series_ohm = np.array([one.shunt_ohm + self._lead_ohm for one in figures])
        true_ohm = series_ohm * (1 + self._series * rng.uniform(-1, 1))
        true_j = float(((supply_v - current_a * true_ohm[index]) * current_a).sum()) * interval_s * (1 + clock)
        readings = current_a * (1 + gain[index]) + offset_a[index] + noise_a[index] * rng.normal(size=len(index))
        first = np.flatnonzero(np.diff(index, prepend=-1))
        waveform = Waveform(
            readings.astype(np.float32),
            interval_s,
            interval_s,
            ranges_a,
            tuple(self._accuracy.of_range(range_a, interval_s) for range_a in ranges_a),
            spans=RangeSpans(first.astype(np.int64), index[first].astype(np.uint8)),
            voltage=self._voltage(len(index)) if self._measures_voltage else None,
        )
        found = energy("energy", waveform.whole(), Supply(SUPPLY_V, doubt_v))
        assert found.expanded_uncertainty is not None
        width = None
        if simulate:
            errors_j = self._simulated(current_a, index, figures, series_ohm, noise_a, interval_s, doubt_v)
            width = 2 * found.expanded_uncertainty / shortest(errors_j)
        return Outcome((found.value - true_j) / found.expanded_uncertainty, width)

    def _current(self) -> Array:
        """Return the currents of some states, each as long as it happens to last."""
        rng = self._rng
        samples, states = int(rng.integers(200, 2_000)), int(rng.integers(2, 12))
        cuts = np.sort(rng.integers(0, samples, states - 1))
        levels = rng.choice(STATES_A, states) * rng.uniform(0.9, 1.1, states)
        return np.repeat(levels, np.diff([0, *cuts, samples]))

    def _voltage(self, count: int) -> NDArray[np.float32]:
        """Return what the voltmeter reads of the supply, all at the same voltage."""
        gain, offset_v = self._error(VOLTAGE["reading_ppm"], 1.0), self._error(VOLTAGE["range_ppm"], VOLTAGE["range_v"])
        noise_v = VOLTAGE_NOISE_V * self._rng.normal(size=count)
        return np.asarray(SUPPLY_V * (1 + gain) + offset_v + noise_v, np.float32)

    def _error(self, ppm: float | None, scale: float, count: int | None = None) -> Array:
        assert ppm is not None
        limit = ppm * 1e-6 * scale
        drawn = self._rng.normal(0, limit / self._k, count) if self._k else self._rng.uniform(-limit, limit, count)
        return np.asarray(drawn)

    def _simulated(
        self,
        current_a: Array,
        index: NDArray[np.intp],
        figures: list[RangeFigures],
        series_ohm: Array,
        noise_a: Array,
        interval_s: float,
        doubt_v: float,
    ) -> Array:
        """Return the errors of the energy in TRIALS draws of all that may be wrong, in joule."""
        rng, ranges = self._rng, len(figures)
        seconds, charge_c, square = (
            np.bincount(index, weights, ranges) * interval_s
            for weights in (np.ones_like(current_a), current_a, current_a**2)
        )
        errors_j = (SUPPLY_V * charge_c.sum() - series_ohm @ square) * self._timebase * rng.uniform(-1, 1, TRIALS)
        errors_j += charge_c.sum() * doubt_v * rng.normal(size=TRIALS)
        if self._measures_voltage:
            errors_j += SUPPLY_V * charge_c.sum() * self._error(VOLTAGE["reading_ppm"], 1.0, TRIALS)
            errors_j += charge_c.sum() * self._error(VOLTAGE["range_ppm"], VOLTAGE["range_v"], TRIALS)
            errors_j += VOLTAGE_NOISE_V * np.sqrt(square.sum() * interval_s) * rng.normal(size=TRIALS)
        errors_j += series_ohm @ square * self._series * rng.uniform(-1, 1, TRIALS)
        noise_j = (SUPPLY_V - 2 * current_a * series_ohm[index]) * noise_a[index] * interval_s
        errors_j += np.linalg.norm(noise_j) * rng.normal(size=TRIALS)
        for one, figure in enumerate(figures):
            per_gain = SUPPLY_V * charge_c[one] - 2 * series_ohm[one] * square[one]
            per_ampere = SUPPLY_V * seconds[one] - 2 * series_ohm[one] * charge_c[one]
            errors_j += per_gain * self._error(figure.reading_ppm, 1.0, TRIALS)
            errors_j += per_ampere * self._error(figure.range_ppm, figure.range_a, TRIALS)
        return errors_j


def shortest(errors: Array, coverage: float = 0.95) -> float:
    """Return the length of the shortest interval that holds *coverage* of *errors* (JCGM 101 7.7)."""
    ordered = np.sort(errors)
    inside = int(np.ceil(coverage * len(ordered)))
    return float((ordered[inside:] - ordered[:-inside]).min())


RECTANGULAR, EXPANDED = {"coverage": {"distribution": "rectangular"}}, {"coverage": {"k": 2}}


@pytest.mark.parametrize(
    ("changes", "follows"),
    [
        pytest.param(RECTANGULAR, False, id="rectangular, one range"),
        pytest.param(RECTANGULAR, True, id="rectangular, several ranges"),
        pytest.param(EXPANDED, False, id="k = 2, one range"),
        pytest.param(EXPANDED, True, id="k = 2, several ranges"),
        pytest.param(EXPANDED | {"voltage": [VOLTAGE]}, True, id="k = 2, several ranges, voltage measured"),
    ],
)
def test_the_stated_interval_holds_the_truth_and_is_hardly_wider_than_it_must_be(
    tmp_path: Path, changes: dict[str, object], follows: bool
) -> None:
    path = tmp_path / "accuracy.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(DOCUMENT.read_text()) | changes))
    laboratory = Laboratory(path, np.random.default_rng(2026))
    outcomes = [laboratory.capture(follows=follows, simulate=n % EVERY == 0) for n in range(CAPTURES)]
    covered = float(np.mean([abs(outcome.deviation) <= 1 for outcome in outcomes]))
    width = float(np.median([outcome.width for outcome in outcomes if outcome.width is not None]))
    print(f"coverage {covered:.2%}, median width {width:.3f} of the shortest interval")
    assert covered >= 0.94
    assert width <= 1.25
