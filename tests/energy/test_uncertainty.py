import math
from dataclasses import replace

import numpy as np
import pytest

from rig.energy import (
    Contribution,
    InvalidRecording,
    Mark,
    Measurement,
    RangeAccuracy,
    RangeSpans,
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
from rig.energy.measurement import coverage_factor, effective_degrees_of_freedom, measured
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


FINE = replace(
    ACCURACY, range_a=1e-3, gain_rel=5e-4, offset_a=1e-8, noise_rms_a=1e-8, series_ohm=100.3, series_uncertainty_ohm=1.0
)


def two_ranges(**more: object) -> Waveform:
    """Return 600 samples of 0.1 mA on the 1 mA range and then 400 of 0.1 A on the 1 A range, a millisecond each."""
    samples = np.concatenate((np.full(600, 1e-4, np.float32), np.full(400, 0.1, np.float32)))
    spans = RangeSpans(np.array([0, 600]), np.array([0, 1], np.uint8))
    whole = Waveform(samples, 1e-3, 1e-3, (1e-3, 1.0), (FINE, ACCURACY), spans=spans)
    return replace(whole, **more)  # type: ignore[arg-type]


def test_every_range_has_errors_of_its_own() -> None:
    result = charge("q", two_ranges().whole())
    lines = budget(result)
    assert lines["meter gain, 0.001 A range"] == pytest.approx(0.6e-4 * 5e-4, rel=1e-6)
    assert lines["meter gain, 1 A range"] == pytest.approx(0.04 * 1e-3, rel=1e-6)
    assert lines["meter offset, 0.001 A range"] == pytest.approx(0.6 * 1e-8, rel=1e-6)
    assert lines["meter offset, 1 A range"] == pytest.approx(0.4 * 1e-4, rel=1e-6)
    assert lines["meter noise"] == pytest.approx(1e-3 * math.hypot(1e-8 * math.sqrt(600), 1e-4 * math.sqrt(400)))
    assert result.ranges_a == (1e-3, 1.0)
    assert result.value == pytest.approx(0.6e-4 + 0.04)


def test_the_energy_of_each_range_has_its_own_burden() -> None:
    result = energy("e", two_ranges().whole(), Supply(3.3, 0.0))
    small_j, large_j = 0.6e-4 * (3.3 - 1e-4 * 100.3), 0.04 * (3.3 - 0.1 * 0.3)
    assert result.value == pytest.approx(small_j + large_j, rel=1e-6)
    # What is wrong with the leads is in series with both shunts.
    assert budget(result)["series resistance"] == pytest.approx(0.6 * 1e-8 * 1.0 + 0.4 * 0.01 * 0.01, rel=1e-5)


def test_gains_that_come_from_one_reference_add_linearly() -> None:
    shared = (replace(FINE, common_reference=True), replace(ACCURACY, common_reference=True))
    lines = budget(charge("q", two_ranges(accuracy=shared).whole()))
    assert lines["meter gain, one reference for all ranges"] == pytest.approx(0.6e-4 * 5e-4 + 0.04 * 1e-3, rel=1e-6)
    assert "meter gain, 1 A range" not in lines
    assert lines["meter offset, 1 A range"] == pytest.approx(0.4e-4)
    # A window on one range alone has one gain.
    alone = charge("q", replace(two_ranges(accuracy=shared), t0_s=0.0).window(0.7, 0.9))
    assert budget(alone)["meter gain"] == pytest.approx(0.02 * 1e-3, rel=1e-6)


def test_measured_voltage_is_integrated_and_has_its_own_figures() -> None:
    voltage = np.linspace(3.2, 3.4, 1000, dtype=np.float32)
    accuracy = replace(ACCURACY, voltage_gain_rel=1e-3, voltage_offset_v=2e-3)
    samples = np.linspace(0.05, 0.15, 1000, dtype=np.float32)
    wave = Waveform(samples, 1e-3, 1e-3, (1.0,), (accuracy,), voltage=voltage)
    result = energy("e", wave.whole(), Supply(3.3, 0.01))
    wide_v, wide_a = voltage.astype(np.float64), samples.astype(np.float64)
    sense_j = 1e-3 * float(wide_v @ wide_a)
    assert result.value == pytest.approx(sense_j - 0.3 * 1e-3 * float(wide_a @ wide_a), rel=1e-9)
    lines = budget(result)
    assert lines["voltage gain"] == pytest.approx(sense_j * 1e-3)
    assert lines["voltage offset"] == pytest.approx(1e-3 * wide_a.sum() * 2e-3)
    assert "supply voltage" not in lines
    unread = replace(accuracy, not_obtained={"voltage": "the voltage table cannot be had"})
    unknown = energy("e", replace(wave, accuracy=(unread,)).whole(), Supply(3.3, 0.01))
    assert (unknown.expanded_uncertainty, unknown.reservations) == (None, ("the voltage table cannot be had",))
    assert charge("q", replace(wave, accuracy=(unread,)).whole()).expanded_uncertainty is not None


def holey(lost: int) -> Waveform:
    samples = np.full(10_000, 0.1, np.float32)
    samples[:1000] = 0.3
    samples[5000 : 5000 + lost] = np.nan
    return Waveform(samples, 1e-4, 1e-4, (1.0,), (ACCURACY,), gaps=((5000, lost),))


def test_lost_samples_are_bounded_by_the_worst_state() -> None:
    result = charge("q", holey(50).whole())
    mean_a = (1000 * 0.3 + 8950 * 0.1) / 9950
    assert result.value == pytest.approx(mean_a, rel=1e-6)  # one second, the lost part filled with the mean
    assert result.gap_share == pytest.approx(0.005)
    assert budget(result)["lost samples"] == pytest.approx(0.005 * (0.3 - mean_a) / math.sqrt(3), rel=1e-6)
    assert mean_current("i", holey(50).whole()).value == pytest.approx(mean_a, rel=1e-6)


def test_more_than_the_stated_share_lost_is_invalid_and_not_wider() -> None:
    assert charge("q", holey(100).whole()).expanded_uncertainty is not None
    for measure in (charge, mean_current):
        with pytest.raises(InvalidRecording, match=r"1\.01% of it are lost, more than 1%"):
            measure("q", holey(101).whole())


def test_what_the_instrument_calls_invalid_is_not_measured() -> None:
    invalid = replace(steady(0.1, 100), invalid=("current overload (status bit 1)",))
    assert invalid.whole().statistics.charge_c == pytest.approx(0.01)
    for attempt in (
        lambda: charge("q", invalid.whole()),
        lambda: energy("e", invalid.whole(), Supply(3.3)),
        lambda: mean_current("i", invalid.whole()),
        lambda: mean_of_readings("i", invalid),
    ):
        with pytest.raises(InvalidRecording, match=r"current overload \(status bit 1\)"):
            attempt()


def test_noise_that_no_document_states_is_seen_in_sub_windows() -> None:
    rng = np.random.default_rng(3)
    silent = replace(ACCURACY, noise_rms_a=0.0, not_obtained={"noise": "no page states it"})
    samples = (0.1 + rng.normal(0, 1e-3, 20_000)).astype(np.float32)
    wave = Waveform(samples, 1e-3, 1e-3, (1.0,), (silent,))
    (line,) = (one for one in charge("q", wave.whole()).budget if one.source.startswith("meter noise"))
    assert (line.kind, line.degrees_of_freedom, line.systematic) == ("A", 19, False)
    assert line.standard_uncertainty == pytest.approx(20 * 1e-3 / math.sqrt(20_000), rel=0.5)
    # Slow noise does not average away: its sub-windows differ by all of it.
    slow = (0.1 + np.repeat(rng.normal(0, 1e-3, 20), 1000)).astype(np.float32)
    (seen,) = (one for one in charge("q", replace(wave, samples=slow).whole()).budget if one.kind == "A")
    assert seen.standard_uncertainty == pytest.approx(20 * 1e-3 / math.sqrt(20), rel=0.5)
    few = charge("q", Waveform(samples[:19], 1e-3, 1e-3, (1.0,), (silent,)).whole())
    assert few.expanded_uncertainty is None
    assert few.reservations == ("no page states it, and fewer than 20 samples do not show it",)


def test_slow_noise_of_readings_is_that_of_their_batches() -> None:
    rng = np.random.default_rng(4)
    slow = (5e-6 + np.repeat(rng.normal(0, 1e-7, 20), 10)).astype(np.float32)
    (line,) = (one for one in mean_of_readings("i", Waveform(slow, 0.02, 0.02, (1.0,))).budget if one.kind == "A")
    assert line.degrees_of_freedom == 19
    assert line.standard_uncertainty == pytest.approx(1e-7 / math.sqrt(20), rel=0.5)


def test_zero_and_temperature_stand_in_the_budget() -> None:
    wave = steady(0.1, 1000)
    warm = replace(ACCURACY, zero_a=3e-6, temperature="temperature (35 °C)", temperature_gain_rel=4e-4)
    warm = replace(warm, temperature_offset_a=3e-5)
    lines = budget(charge("q", replace(wave, accuracy=(warm,)).whole()))
    assert lines["zero of the meter"] == pytest.approx(3e-6)
    assert lines["temperature (35 °C)"] == pytest.approx(math.hypot(0.1 * 4e-4, 3e-5), rel=1e-6)
    unknown = replace(ACCURACY, temperature="temperature (taken to be 18 to 28 °C)")
    told = budget(mean_of_readings("i", replace(wave, accuracy=(unknown,))))
    assert told["temperature (taken to be 18 to 28 °C)"] == 0


def test_a_figure_that_is_missing_leaves_the_value_and_its_statistical_part() -> None:
    unread = replace(ACCURACY, gain_rel=0.0, not_obtained={"gain": "page 17 cannot be had"})
    results = [charge("q", replace(steady(current_a, 400), accuracy=(unread,)).whole()) for current_a in (0.1, 0.11)]
    assert results[0].value == pytest.approx(0.04)
    assert results[0].reservations == ("page 17 cannot be had",)
    assert "meter gain" not in budget(results[0])
    combined = combine_repeats("q", results)
    assert (combined.expanded_uncertainty, combined.repeats) == (None, 2)
    assert combined.reservations == ("page 17 cannot be had",)
    assert budget(combined)["spread of 2 repeats"] == pytest.approx(0.002, rel=1e-5)
    clockless = replace(ACCURACY, timebase_ppm=0.0, not_obtained={"time base": "none stated"})
    wave = replace(steady(0.1, 400), accuracy=(clockless,))
    assert charge("q", wave.whole()).expanded_uncertainty is None
    assert mean_current("i", wave.whole()).expanded_uncertainty is not None


def test_a_reservation_leaves_the_uncertainty_and_goes_with_the_result() -> None:
    overdue = replace(ACCURACY, reservation="the calibration was due on 2026-01-01")
    result = charge("q", replace(steady(0.1, 400), accuracy=(overdue,)).whole())
    assert result.expanded_uncertainty == charge("q", steady(0.1, 400).whole()).expanded_uncertainty
    assert combine_repeats("q", [result, result]).reservations == ("the calibration was due on 2026-01-01",)
    assert charge("q", steady(0.1, 400, None).whole()).reservations == (
        "the meter has no accuracy document: name one (accuracy:)",
    )


def test_readings_on_several_ranges_have_the_figures_of_those_in_use() -> None:
    readings = np.full(50, 5e-6, np.float32)
    spans = RangeSpans(np.array([0]), np.array([0], np.uint8))
    result = mean_of_readings("i", Waveform(readings, 0.02, 0.02, (1e-3, 1.0), (FINE, ACCURACY), spans=spans))
    assert budget(result)["meter offset"] == pytest.approx(1e-8)
    assert result.ranges_a == (1e-3,)


def test_a_mark_that_may_lie_in_a_gap_counts_all_that_it_may_hide() -> None:
    wave = replace(holey(50), t0_s=0.0)
    result = charge("q", wave.window(0.4985, 0.4999, end_uncertainty_s=2e-3))
    assert budget(result)["end edge"] > 0


def test_readings_of_which_some_are_lost() -> None:
    readings = np.full(200, 5e-6, np.float32)
    readings[:100] = 7e-6
    readings[150:152] = np.nan
    wave = Waveform(readings, 0.02, 0.02, (1e-3,), (FINE,), gaps=((150, 2),))
    result = mean_of_readings("i", wave)
    mean_a = (100 * 7e-6 + 98 * 5e-6) / 198
    assert result.value == pytest.approx(mean_a, rel=1e-6)
    assert budget(result)["lost samples"] == pytest.approx(0.01 * (mean_a - 5e-6) / math.sqrt(3), rel=1e-5)
    with pytest.raises(InvalidRecording, match=r"66\.67%"):
        mean_of_readings("i", replace(wave, samples=np.array([1e-6, np.nan, np.nan], np.float32), gaps=((1, 2),)))


def test_what_flows_between_the_apertures_is_in_the_budget() -> None:
    """Bursts of a third of a millisecond, looked at for five microseconds every millisecond."""
    rng = np.random.default_rng(8)
    exact = replace(ACCURACY, gain_rel=0.0, offset_a=0.0, noise_rms_a=1e-9, timebase_ppm=0.0)
    grid_s = np.arange(500) * 1e-3
    within, stated = 0, []
    for _ in range(400):
        starts_s = np.sort(rng.uniform(0, 0.4995, 25))
        widths_s = rng.uniform(0.3e-3, 3e-3, 25)
        charge_c = 0.005 * 0.5 + 0.3 * float(np.minimum(widths_s, 0.5 - starts_s).sum())
        current_a = np.full(500, 0.005)
        for start_s, width_s in zip(starts_s, widths_s, strict=True):
            current_a[(grid_s >= start_s) & (grid_s < start_s + width_s)] += 0.3
        wave = Waveform(current_a.astype(np.float32), 1e-3, 5e-6, (1.0,), (exact,))
        found = charge("q", wave.whole())
        assert found.expanded_uncertainty is not None
        within += abs(found.value - charge_c) <= found.expanded_uncertainty
        stated.append(found.expanded_uncertainty / charge_c)
    assert within >= 0.93 * 400
    assert np.median(stated) < 0.25
    full = replace(wave, aperture_s=1e-3)
    assert "current between the apertures" not in budget(charge("q", full.whole()))


def test_chunks_leave_out_no_change_between_apertures(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(9).normal(0.1, 0.05, 1000).astype(np.float32)
    wave = Waveform(samples, 1e-3, 5e-6, (1.0,), (ACCURACY,))
    whole = budget(charge("q", wave.whole()))["current between the apertures"]
    monkeypatch.setattr("rig.energy.uncertainty.CHUNK", 7)
    assert budget(charge("q", wave.whole()))["current between the apertures"] == pytest.approx(whole)


def test_the_offset_of_a_board_that_takes_nothing_is_that_of_its_voltage() -> None:
    samples = np.tile(np.array([1e-6, -1e-6], np.float32), 5_000)
    voltage = np.full(10_000, 3.3, np.float32)
    voltage[::700] = np.nan
    wave = Waveform(samples, 1e-4, 1e-4, (1.0,), (ACCURACY,), voltage=voltage)
    assert budget(energy("e", wave.whole(), Supply(5.0)))["meter offset"] == pytest.approx(3.3e-4, rel=1e-6)


def test_noise_of_a_measured_voltage_is_seen_in_it() -> None:
    rng = np.random.default_rng(11)
    voltage = (3.3 + rng.normal(0, 2e-3, 20_000) - np.repeat([0, 0.05], 10_000)).astype(np.float32)
    wave = Waveform(np.full(20_000, 0.1, np.float32), 1e-4, 1e-4, (1.0,), (ACCURACY,), voltage=voltage)
    seen = budget(energy("e", wave.whole(), Supply(3.3)))["voltage noise"]
    assert seen == pytest.approx(2e-3 * 0.1 * 2.0 / math.sqrt(20_000), rel=0.15)
