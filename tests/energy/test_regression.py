"""Changes against a baseline: seen where they are, not called where there is none."""

import math
from dataclasses import replace

import numpy as np
import pytest

from rig.energy import Measurement, RangeAccuracy, Supply, Waveform, combine_repeats, energy
from rig.energy.regression import compare
from rig.errors import BenchError

#: A meter of 10 %, as the Nordic PPK2 is said to be.
TEN_PERCENT = RangeAccuracy(
    document="typical accuracy",
    range_a=1.0,
    gain_rel=0.1 / 3**0.5,
    offset_a=20e-6,
    noise_rms_a=50e-6,
    timebase_ppm=50,
    series_ohm=0.3,
    series_uncertainty_ohm=0.1,
)
REPEATS = 10
SPREAD = 0.01
MEAN_A = 0.09


def run(rng: np.random.Generator, gain: float, offset_a: float, change: float = 1.0) -> Measurement:
    """Return the energy of a handshake as a meter with these errors finds it, the mean of some repeats."""
    repeats = []
    for _ in range(REPEATS):
        current_a = MEAN_A * change * (1 + SPREAD * rng.normal()) * (1 + gain) + offset_a
        samples = (current_a + rng.normal(0, TEN_PERCENT.noise_rms_a, 100)).astype(np.float32)
        waveform = Waveform(samples, 5e-3, 5e-3, (1.0,), (TEN_PERCENT,))
        repeats.append(energy("handshake_energy", waveform.whole(), Supply(3.3, 0.0)))
    return combine_repeats("handshake_energy", repeats)


def pairs(count: int, change: float, seed: int) -> list[tuple[Measurement, Measurement]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        gain, offset_a = rng.uniform(-0.1, 0.1), rng.normal(0, TEN_PERCENT.offset_a)
        found.append((run(rng, gain, offset_a, change), run(rng, gain, offset_a)))
    return found


def test_a_meter_of_ten_percent_sees_a_change_of_three() -> None:
    for now, before in pairs(20, 1.03, seed=1):
        found = compare(now, before, same_meter=True)
        assert found.change == "higher"
        assert found.relative == pytest.approx(0.03, abs=0.02)
        assert compare(before, now, same_meter=True).change == "lower"


def test_no_change_is_called_one_no_more_often_than_stated() -> None:
    """The uncertainty is stated for 95.45 %: of many pairs without a change so many at most are called changed."""
    changes = [compare(now, before, same_meter=True).change for now, before in pairs(400, 1.0, seed=2)]
    called = sum(change != "unchanged" for change in changes)
    # 4.55 % of 400 are 18; 31 and more have a probability of 0.3 %.
    assert called <= 30
    assert called >= 5


def test_the_gain_counts_for_the_change_and_the_offset_for_the_duration() -> None:
    ((now, before),) = pairs(1, 1.03, seed=3)
    lines = {line.source: line.standard_uncertainty for line in compare(now, before, same_meter=True).difference.budget}
    assert lines["meter gain, shared"] == pytest.approx(TEN_PERCENT.gain_rel * (now.value - before.value), rel=0.02)
    assert lines["meter offset, shared"] < 1e-3 * before.value
    assert "meter gain" not in lines
    assert lines["spread of 10 repeats"] > 0
    assert lines["spread of 10 repeats, baseline"] > 0


def test_another_meter_shares_nothing() -> None:
    ((now, before),) = pairs(1, 1.03, seed=4)
    found = compare(now, before, same_meter=False)
    assert found.change == "unchanged"
    both_gains = 2 * math.hypot(now.value, before.value) * TEN_PERCENT.gain_rel
    assert found.difference.expanded_uncertainty == pytest.approx(both_gains, rel=0.15)
    assert {"meter gain", "meter gain, baseline"} <= {line.source for line in found.difference.budget}


def test_a_range_that_only_one_of_them_used_is_not_shared() -> None:
    ((now, before),) = pairs(1, 1.0, seed=5)
    other = replace(now, budget=tuple(replace(one, source=f"{one.source}, 3 A range") for one in now.budget))
    lines = {
        line.source: line.standard_uncertainty for line in compare(other, before, same_meter=True).difference.budget
    }
    gain = next(one.standard_uncertainty for one in now.budget if one.source == "meter gain")
    assert lines["meter gain, 3 A range, shared"] == pytest.approx(gain)
    assert lines["meter gain, shared"] == pytest.approx(gain, rel=0.05)  # of the baseline alone


def test_what_has_no_uncertainty_is_not_compared() -> None:
    ((now, before),) = pairs(1, 1.5, seed=6)
    unknown = replace(before, expanded_uncertainty=None, reservations=("no page 17",))
    found = compare(now, unknown, same_meter=True)
    assert (found.change, found.reasons) == ("inconclusive", ("baseline: no page 17",))
    overdue = replace(now, reservations=("due since May",))
    assert compare(overdue, before, same_meter=True).change == "higher"
    assert compare(overdue, before, same_meter=False).reasons == ("due since May",)


def test_different_quantities_are_not_compared() -> None:
    ((now, before),) = pairs(1, 1.0, seed=7)
    with pytest.raises(BenchError, match="has request_energy in J as baseline"):
        compare(now, replace(before, name="request_energy"), same_meter=True)
