import math

import numpy as np
import pytest

from rig.energy import (
    Contribution,
    Mark,
    Measurement,
    RangeAccuracy,
    Supply,
    Waveform,
    WaveformError,
    charge,
    combine_repeats,
    duration,
    energy,
    mean_current,
    mean_of_readings,
    phases_between,
)
from rig.energy.uncertainty import coverage_factor, effective_degrees_of_freedom, measured
from rig.errors import BenchError

ACCURACY = RangeAccuracy(
    document="test",
    range_a=1.0,
    gain_rel=1e-3,
    offset_a=1e-4,
    noise_rms_a=1e-4,
    timebase_ppm=10,
    series_ohm=0.3,
    series_uncertainty_ohm=0.01,
)


def steady(current_a: float, count: int, accuracy: RangeAccuracy | None = ACCURACY) -> Waveform:
    samples = np.full(count, current_a, np.float32)
    return Waveform(samples, 1e-3, 1e-3, (1.0,), (accuracy and (accuracy,)) or (), t0_s=0.0, t0_uncertainty_s=1e-4)


def budget(measurement: Measurement) -> dict[str, float]:
    return {line.source: line.standard_uncertainty for line in measurement.budget}


def test_gain_and_offset_do_not_shrink_with_the_number_of_samples() -> None:
    short, long = budget(charge("q", steady(0.1, 100).whole())), budget(charge("q", steady(0.1, 10_000).whole()))
    assert long["meter gain"] == pytest.approx(100 * short["meter gain"])
    assert long["meter offset"] == pytest.approx(100 * short["meter offset"])
    assert long["meter noise"] == pytest.approx(10 * short["meter noise"])
    assert short["meter gain"] == pytest.approx(0.01 * 1e-3, rel=1e-6)
    assert short["meter offset"] == pytest.approx(0.1 * 1e-4)


def test_energy_budget_has_voltage_and_burden() -> None:
    result = energy("e", steady(0.1, 1000).whole(), Supply(3.3, 0.01))
    lines = budget(result)
    assert result.value == pytest.approx(0.1 * (3.3 - 0.03), rel=1e-6)
    assert lines["supply voltage"] == pytest.approx(0.1 * 0.01, rel=1e-6)
    assert lines["series resistance"] == pytest.approx(0.01 * 0.01, rel=1e-6)
    assert lines["meter gain"] == pytest.approx((0.33 - 2 * 0.3 * 0.01) * 1e-3, rel=1e-6)
    assert lines["meter offset"] == pytest.approx((3.3 - 0.06) * 1e-4, rel=1e-6)
    assert result.expanded_uncertainty == pytest.approx(2 * math.hypot(*lines.values()))


def test_an_edge_costs_the_step_times_half_a_sample() -> None:
    samples = np.zeros(2000, np.float32)
    samples[1000:] = 0.08
    wave = Waveform(samples, 1e-4, 1e-4, (1.0,), (ACCURACY,), t0_s=0.0)
    lines = budget(charge("q", wave.window(0.1, 0.15)))
    assert lines["start edge"] == pytest.approx(0.08 * 1e-4 / math.sqrt(12), rel=1e-6)


def test_a_mark_that_is_late_widens_its_own_edge_only() -> None:
    samples = np.zeros(2000, np.float32)
    samples[1000:] = 0.08
    wave = Waveform(samples, 1e-4, 1e-4, (1.0,), (ACCURACY,), t0_s=0.0)
    sharp, vague = wave.window(0.1, 0.15), wave.window(0.1, 0.15, start_uncertainty_s=2e-3)
    assert budget(charge("q", vague))["start edge"] > 40 * budget(charge("q", sharp))["start edge"]
    assert budget(charge("q", vague))["end edge"] == budget(charge("q", sharp))["end edge"]


def test_alignment_moves_both_edges_together() -> None:
    lines = budget(charge("q", steady(0.1, 1000).window(0.1, 0.2)))
    assert lines["alignment to the rig's clock"] == pytest.approx(0, abs=1e-12)
    assert lines["start edge"] > 0


def test_without_an_accuracy_document_there_is_a_value_and_no_uncertainty() -> None:
    wave = steady(0.1, 100, None)
    for result in (
        charge("q", wave.whole()),
        energy("e", wave.whole(), Supply(3.3)),
        mean_current("i", wave.whole()),
        mean_of_readings("i", wave),
        combine_repeats("q", [charge("q", wave.whole())] * 3),
    ):
        assert result.value > 0
        assert result.expanded_uncertainty is None
        assert result.k is None
        assert result.standard_uncertainty is None


def test_mean_current_of_a_window_and_of_readings() -> None:
    wave = steady(0.1, 400)
    window, readings = mean_current("i", wave.whole()), mean_of_readings("i", wave)
    assert window.value == pytest.approx(0.1)
    assert window.value == pytest.approx(readings.value)
    assert budget(window)["meter offset"] == budget(readings)["meter offset"] == pytest.approx(1e-4)
    assert budget(window)["meter noise"] == pytest.approx(1e-4 / 20)
    assert "time base" not in budget(window)
    with pytest.raises(WaveformError, match="at least two"):
        mean_of_readings("i", steady(0.1, 1))


def test_repeats_add_their_spread_and_share_what_is_systematic() -> None:
    repeats = [charge("q", steady(current_a, 100).whole()) for current_a in (0.10, 0.11, 0.12, 0.11)]
    combined = combine_repeats("mean charge", repeats)
    lines = budget(combined)
    assert combined.value == pytest.approx(0.011, rel=1e-6)
    assert lines["spread of 4 repeats"] == pytest.approx(np.std([0.010, 0.011, 0.012, 0.011], ddof=1) / 2, rel=1e-6)
    assert lines["meter gain"] == pytest.approx(0.011e-3, rel=1e-6)
    assert lines["meter offset"] == budget(repeats[0])["meter offset"]
    assert "meter noise" not in lines
    assert combined.k == 3.31  # three degrees of freedom, the spread dominates


def test_repeats_of_different_things_are_refused() -> None:
    wave = steady(0.1, 100)
    with pytest.raises(BenchError, match="different"):
        combine_repeats("x", [charge("q", wave.whole()), mean_current("i", wave.whole())])
    with pytest.raises(BenchError, match="nothing"):
        combine_repeats("x", [])


def test_coverage_factors_are_those_of_the_guide() -> None:
    assert [coverage_factor(nu) for nu in (0.5, 1, 2.9, 10, 19.9, 49, 99, 1e9)] == [
        *(13.97, 13.97, 4.53, 2.28, 2.14, 2.06, 2.05, 2.0),
    ]


def test_welch_satterthwaite_by_the_example_of_the_guide() -> None:
    # GUM G.4.1: relative standard uncertainties 0.25 %, 0.57 %, 0.82 % with 10, 5 and 15 readings give 19.0
    lines = [
        Contribution("p", value, "1", "A", degrees_of_freedom=n - 1) for value, n in ((0.25, 10), (0.57, 5), (0.82, 15))
    ]
    assert effective_degrees_of_freedom(lines) == pytest.approx(19.0, abs=0.2)
    tiny = [Contribution("p", 1e-100, "1", "A", degrees_of_freedom=3)]
    assert effective_degrees_of_freedom(tiny) == pytest.approx(3)
    assert measured("x", 1.0, "1", []).expanded_uncertainty == 0


def test_duration_has_both_marks_and_the_clock() -> None:
    result = duration("t", 1.0, 3.0, start_uncertainty_s=0.003, end_uncertainty_s=0.004, clock_ppm=100)
    expected = 2 * math.hypot(0.003, 0.004, 2e-4) / math.sqrt(3)
    assert result.value == 2.0
    assert result.expanded_uncertainty == pytest.approx(expected)
    assert str(result) == f"t = 2 s +- {expected:.2g} (k = 2)"


def test_phases_are_pairs_of_marks() -> None:
    marks = [
        Mark(name, t_s) for name, t_s in (("boot", 1), ("boot", 2), ("up", 3), ("start", 4), ("end", 5), ("up", 6))
    ]
    phases = phases_between(reversed(marks), {"handshake": ("start", "end"), "boot": ("boot", "up")})
    assert [(phase.name, phase.start.t_s, phase.end.t_s) for phase in phases] == [("boot", 2, 3), ("handshake", 4, 5)]
    assert phases[1].duration_s == 1
    wave = Waveform(np.full(100, 0.1, np.float32), 0.1, 0.1, (1.0,), t0_s=0.0)
    assert phases[1].window(wave).statistics.charge_c == pytest.approx(0.1)
