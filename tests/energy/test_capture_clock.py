"""The meter's clock from bursts and packets, against truth.

The hidden model, of which the estimator is told nothing but its documented prior. Sends at irregular times over 12 s on
a meter's clock that drifts by up to 200 ppm and whose start is known to 2 s. A stamp is late by a least latency
(uniform, 0 to 300 us), by an excess (half of the draws: gamma, shape 0.7 to 4, scale 20 to 150 us; half: lognormal,
median 40 to 300 us, sigma 0.4 to 1), and 5 % of them by up to 15 ms of a scheduler besides. 20 % of the packets are
lost, 3 % of the bursts are not seen, 15 % more bursts have no packet, and packets before and after the recording have
no burst in it.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from rig.energy import (
    AlignmentError,
    AmbiguousMatch,
    Bounds,
    CaptureClock,
    Contradiction,
    TooFewMatches,
    Waveform,
    compare_with_wire,
    find_bursts,
    match_bursts,
)

START = Bounds(998.0, 1002.0, "the arming of the meter")
INTERVAL_S = 20e-6
NOISE_A = np.random.default_rng(1).normal(0, 3e-4, 1 << 20).astype(np.float32)


@dataclass(frozen=True)
class Draw:
    """One bench: what happened on it, and what its meter and its router have recorded of that."""

    bursts_s: NDArray[np.float64]
    packets_s: NDArray[np.float64]
    offset_s: float
    drift: float
    duration_s: float

    def clock(self, start: Bounds = START, **prior: float) -> CaptureClock:
        return match_bursts(self.bursts_s, self.packets_s, duration_s=self.duration_s, start=start, **prior)

    def to_rig_s(self, capture_s: float) -> float:
        return self.offset_s + capture_s * (1 + self.drift)

    def errors(self, clock: CaptureClock) -> NDArray[np.float64]:
        """Return error and stated uncertainty at beginning, middle and end, shape (2, 3)."""
        at = (0.0, self.duration_s / 2, self.duration_s)
        return np.array([[clock.to_rig_s(t) - self.to_rig_s(t) for t in at], [clock.uncertainty_s(t) for t in at]])


def draw(rng: np.random.Generator, count: int, *, period_s: float | None = None) -> Draw:
    duration_s = 12.0 if period_s is None else (count + 1) * period_s
    at_random_s = np.sort(rng.uniform(0.05, duration_s - 0.05, count))
    sent_s = at_random_s if period_s is None else period_s / 2 + np.arange(count, dtype=np.float64) * period_s
    offset_s, drift = float(1000 + rng.uniform(-2, 2)), float(rng.uniform(-200e-6, 200e-6))
    stamps_s = offset_s + sent_s * (1 + drift) + rng.uniform(0, 300e-6) + excess(rng, count)
    before_s = rng.uniform(offset_s - 3, offset_s - 0.01, rng.poisson(count / 4))
    after_s = offset_s + duration_s + rng.uniform(0.01, 3, rng.poisson(count / 4))
    packets_s = np.sort(np.concatenate([before_s, stamps_s[rng.random(count) > 0.2], after_s]))
    others_s = rng.uniform(0.01, duration_s - 0.01, rng.poisson(0.15 * count))
    bursts_s = np.sort(np.concatenate([sent_s[rng.random(count) > 0.03], others_s]))
    return Draw(bursts_s, packets_s, offset_s, drift, duration_s)


def excess(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    stragglers_s = (rng.random(count) < 0.05) * rng.uniform(0, 15e-3, count)
    if rng.random() < 0.5:
        return stragglers_s + rng.gamma(rng.uniform(0.7, 4), rng.uniform(20e-6, 150e-6), count)
    return stragglers_s + rng.lognormal(np.log(rng.uniform(40e-6, 300e-6)), rng.uniform(0.4, 1.0), count)


def recorded(bench: Draw, rng: np.random.Generator) -> Waveform:
    """Return what a meter with an integrating aperture records of the bench's bursts, over an idle radio."""
    starts_s = bench.bursts_s
    ends_s = np.minimum(starts_s + rng.uniform(150e-6, 1.5e-3, len(starts_s)), np.append(starts_s[1:], np.inf) - 1e-4)
    times = np.stack([starts_s, ends_s], axis=1).ravel() / INTERVAL_S
    charge = np.repeat(np.cumsum(np.append(0.0, (ends_s - starts_s) * 0.255 / INTERVAL_S)), 2)[1:-1]
    edges = np.arange(round(bench.duration_s / INTERVAL_S) + 1)
    samples = 0.021 + np.diff(np.interp(edges, times, charge))
    return Waveform((samples + NOISE_A[: len(samples)]).astype(np.float32), INTERVAL_S, INTERVAL_S, (1.0,))


def study(count: int, draws: int) -> tuple[NDArray[np.float64], Counter[str]]:
    """Return errors and stated uncertainties of those who got an answer, shape (answers, 2, 3), and who got none."""
    found, refused = [], Counter[str]()
    for seed in range(draws):
        bench = draw(np.random.default_rng([count, seed]), count)
        try:
            found.append(bench.errors(bench.clock()))
        except AlignmentError as error:
            refused[type(error).__name__] += 1
    return np.array(found), refused


def covered(found: NDArray[np.float64]) -> float:
    return float(np.mean(np.abs(found[:, 0]) <= found[:, 1]))


def test_thirty_bursts_in_a_recorded_current_are_aligned_as_well_as_stated() -> None:
    found = []
    for seed in range(100):
        rng = np.random.default_rng([30, seed])
        bench = draw(rng, 30)
        waveform = recorded(bench, rng)
        bursts = find_bursts(waveform)
        clock = match_bursts(bursts.start_s, bench.packets_s, duration_s=waveform.duration_s, start=START)
        found.append(bench.errors(clock))
    errors = np.abs(np.array(found)[:, 0])
    assert np.median(errors) < 100e-6
    assert np.quantile(errors, 0.95) < 300e-6
    assert covered(np.array(found)) >= 0.95


def test_few_bursts_state_more_or_refuse() -> None:
    stated = {}
    everything = []
    for count, least_answers in ((3, 0.2), (5, 0.6), (10, 0.8), (100, 1.0)):
        draws = 80 if count < 100 else 5
        found, _ = study(count, draws)
        assert len(found) >= least_answers * draws
        assert np.abs(found[:, 0, 1]).max() < 5e-3, f"{count} bursts: one was put into a wrong place"
        stated[count] = float(np.median(found[:, 1]))
        everything.append(found)
    assert covered(np.concatenate(everything)) >= 0.95
    assert stated[3] > 1.5 * stated[10] > 1.5 * stated[100]


@pytest.mark.parametrize("period_s", [0.05, 0.3, 1.0])
def test_regular_traffic_is_refused_unless_the_start_is_known_better_than_its_period(period_s: float) -> None:
    for seed in range(8):
        bench = draw(np.random.default_rng(seed), 30, period_s=period_s)
        with pytest.raises(AmbiguousMatch, match=r"fit each other at one place and .* at another"):
            bench.clock()
        near = Bounds(bench.offset_s - 0.3 * period_s, bench.offset_s + 0.3 * period_s, "the arming of the meter")
        error_s = bench.clock(near).to_rig_s(1.0) - bench.to_rig_s(1.0)
        assert abs(error_s) < 1e-3


def test_regular_traffic_with_bursts_that_were_not_seen_is_refused_too() -> None:
    for seed in range(20):
        rng = np.random.default_rng([77, seed])
        bench = draw(rng, 20, period_s=0.37)
        seen = bench.bursts_s[rng.random(len(bench.bursts_s)) > 0.2]
        with pytest.raises(AlignmentError):
            match_bursts(seen, bench.packets_s, duration_s=bench.duration_s, start=START)


def test_what_does_not_belong_together_is_refused() -> None:
    rng = np.random.default_rng(5)
    for count in (3, 10, 30, 100):
        for _ in range(10):
            bursts_s, packets_s = np.sort(rng.uniform(0, 12, count)), np.sort(rng.uniform(1000, 1012, count))
            with pytest.raises(AlignmentError, match=f"{count} bursts and {count} packets"):
                match_bursts(bursts_s, packets_s, duration_s=12.0, start=START)


def test_too_few_are_named() -> None:
    none = np.empty(0)
    with pytest.raises(TooFewMatches, match="0 bursts and 0 packets are too few"):
        match_bursts(none, none, duration_s=10.0, start=START)
    apart_s = np.array([1.0, 2.0, 3.0])
    with pytest.raises(TooFewMatches, match="3 bursts and 3 packets fit each other within the time"):
        match_bursts(apart_s, apart_s + 2000.0, duration_s=10.0, start=START)


def test_bursts_that_send_several_packets_close_together_are_one_place() -> None:
    rng = np.random.default_rng(9)
    for _ in range(10):
        flights_s = np.repeat(np.sort(rng.uniform(0.1, 11.9, 12)), 3) + np.tile([0.0, 0.7e-3, 1.5e-3], 12)
        packets_s = np.sort(1000.5 + flights_s + 50e-6 + rng.gamma(2, 60e-6, 36))
        clock = match_bursts(np.sort(flights_s), packets_s, duration_s=12.0, start=START)
        assert abs(clock.to_rig_s(6.0) - 1006.5) < clock.uncertainty_s(6.0)


def test_an_hour_is_aligned_throughout() -> None:
    rng = np.random.default_rng(2)
    sent_s = np.sort(rng.uniform(0, 3600, 1500))
    stamps_s = (1000.7 + sent_s * (1 - 180e-6) + 80e-6 + rng.gamma(1.5, 80e-6, 1500))[rng.random(1500) > 0.2]
    clock = match_bursts(sent_s, np.sort(stamps_s), duration_s=3600.0, start=START)
    for at_s in (0.0, 1800.0, 3600.0):
        assert abs(clock.to_rig_s(at_s) - (1000.7 + at_s * (1 - 180e-6))) < clock.uncertainty_s(at_s) < 300e-6
    assert clock.matched > 1100


def test_the_uncertainty_grows_away_from_the_bursts() -> None:
    clock = draw(np.random.default_rng(3), 30).clock()
    assert clock.uncertainty_s(-100.0) > 2 * clock.uncertainty_s(clock.reference_s) < clock.uncertainty_s(100.0)


def test_a_wire_takes_the_least_latency_out_of_the_budget() -> None:
    """What one recording's wire tells of the latency makes the next one of the same bench better."""
    found = []
    for seed in range(5):
        rng = np.random.default_rng([4, seed])
        first, second = steady(rng, 250e-6), steady(rng, 250e-6)
        edge_s = first.to_rig_s(3.0)
        told = compare_with_wire(first.clock(), 3.0, Bounds(edge_s - 5e-6, edge_s + 5e-6, "the trigger wire"))
        assert told.difference_s == pytest.approx(first.clock().to_rig_s(3.0) - edge_s)
        assert told.latency_s == pytest.approx(250e-6, abs=60e-6)
        clock = second.clock(latency_s=told.latency_s, latency_uncertainty_s=told.latency_uncertainty_s)
        assert clock.uncertainty_s(6.0) < second.clock().uncertainty_s(6.0) / 3
        found.append(second.errors(clock))
    assert covered(np.array(found)) >= 0.95


def steady(rng: np.random.Generator, least_s: float) -> Draw:
    """Return a bench whose stamps are late by little more than the least latency."""
    sent_s = np.sort(rng.uniform(0, 12, 60))
    packets_s = 1000.5 + sent_s * (1 + 50e-6) + least_s + rng.gamma(1.5, 30e-6, 60)
    return Draw(sent_s, np.sort(packets_s), 1000.5, 50e-6, 12.0)


def test_a_wire_that_excludes_the_match_is_told() -> None:
    clock = draw(np.random.default_rng(6), 30).clock()
    far_s = clock.to_rig_s(3.0) + 5e-3
    with pytest.raises(Contradiction, match="bursts and packets and the trigger wire contradict each other by 4"):
        compare_with_wire(clock, 3.0, Bounds(far_s - 1e-4, far_s + 1e-4, "the trigger wire"))


def test_a_placed_waveform_carries_offset_drift_and_doubt() -> None:
    rng = np.random.default_rng(8)
    bench = draw(rng, 30)
    clock = bench.clock()
    placed = clock.place(recorded(bench, rng))
    assert placed.t0_s == clock.to_rig_s(0.0)
    assert placed.times_s()[-1] == pytest.approx(clock.to_rig_s((len(placed) - 1) * INTERVAL_S), abs=1e-9)
    assert placed.t0_uncertainty_s == pytest.approx(max(clock.uncertainty_s(0.0), clock.uncertainty_s(12.0)))


def test_edges_of_bursts_are_found_inside_a_sample() -> None:
    rng = np.random.default_rng(10)
    bench = draw(rng, 100)
    found = find_bursts(recorded(bench, rng))
    nearest_s = np.abs(found.start_s[:, None] - bench.bursts_s).min(axis=1)
    assert len(found) >= 0.95 * len(bench.bursts_s)
    assert np.quantile(nearest_s, 0.98) < 1e-6
    assert ((found.end_s - found.start_s) > 50e-6).all()


def test_spikes_cut_bursts_and_bursts_beside_lost_samples_are_no_bursts() -> None:
    samples = np.full(100, 0.021, np.float32)
    samples[[0, 1, 2, 3]] = 0.276
    samples[10] = 0.3
    samples[20:30] = 0.276
    samples[40:44] = np.nan
    samples[44:54] = 0.276
    samples[95:] = 0.276
    found = find_bursts(Waveform(samples, 20e-6, 20e-6, (1.0,)))
    assert found.start_s.tolist() == pytest.approx([400e-6])
    assert found.end_s.tolist() == pytest.approx([600e-6])


@pytest.mark.soak
@pytest.mark.parametrize("count", [3, 5, 10, 30, 100])
def test_many_draws(count: int) -> None:
    found, refused = study(count, 500)
    errors_us = np.abs(found[:, 0]) * 1e6
    print(
        f"{count} bursts: {len(found)} answers, refused {dict(refused)}, error median {np.median(errors_us):.0f} us, "
        f"95 % {np.quantile(errors_us, 0.95):.0f} us, largest {errors_us.max():.0f} us; stated uncertainty median "
        f"{np.median(found[:, 1]) * 1e6:.0f} us, covers {covered(found):.1%}"
    )
    assert covered(found) >= 0.95
    if count >= 30:
        assert np.median(errors_us) < 100
        assert np.quantile(errors_us, 0.95) < 300
        assert not refused
