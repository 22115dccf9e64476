"""Changes of the mean found in a recording alone, against traces whose changes are known."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rig.energy import Phase, Supply, Waveform, WaveformError, energy, phases_of, segment
from rig.energy.change_points import Segment, find_changes, kind_of

#: What an ESP32-C3 draws: deep and light sleep, modem sleep, processor, receiver, transmitter.
LEVELS_A = (5e-6, 130e-6, 13e-3, 21e-3, 28e-3, 84e-3, 276e-3, 335e-3)


@dataclass(frozen=True)
class Trace:
    """A recording and where (counted in samples) its current truly changed, and to what."""

    samples: NDArray[np.float32]
    changes: NDArray[np.float64]
    levels_a: NDArray[np.float64]


def trace(changes: NDArray[np.float64], levels_a: NDArray[np.float64], noise: NDArray[np.float64]) -> Trace:
    """Return what an integrating meter records of *levels_a* that change at *changes*, with *noise*, shape (n,)."""
    ends = np.concatenate([[0.0], changes, [float(len(noise))]])
    charge = np.concatenate([[0.0], np.cumsum(levels_a * np.diff(ends))])
    samples = np.diff(np.interp(np.arange(len(noise) + 1), ends, charge)) + noise
    return Trace(samples.astype(np.float32), changes, levels_a)


def device(rng: np.random.Generator, interval_s: float, count: int, noise_a: float, gain_noise: float) -> Trace:
    """Return a device in random states: bursts of 150 us to 3 ms, other states of 0.5 to 500 ms.

    The noise of a sample is *noise_a* and *gain_noise* times its level, as of a meter that ranges by itself.
    """
    at, levels = [0.0], [float(rng.choice(LEVELS_A))]
    while at[-1] < count:
        burst = levels[-1] > 0.2
        length_s = rng.uniform(150e-6, 3e-3) if burst else np.exp(rng.uniform(np.log(5e-4), np.log(0.5)))
        at.append(at[-1] + max(length_s / interval_s, 4))
        levels.append(float(rng.choice([level for level in LEVELS_A if level != levels[-1]])))
    changes = np.array([one for one in at[1:] if one < count - 4])
    of = np.array(levels[: len(changes) + 1])
    scatter = noise_a + gain_noise * of[np.searchsorted(changes, np.arange(count), side="right")]
    return trace(changes, of, rng.normal(0, 1, count) * scatter)


@dataclass
class Score:
    """Changes that there are, were stated, are stated within their half-width, and were found."""

    true: int = 0
    stated: int = 0
    covered: int = 0
    found: int = 0

    def add(self, of: Trace, interval_s: float) -> None:
        changes = find_changes(of.samples, interval_s)
        self.true += len(of.changes)
        self.stated += len(changes.at)
        if len(changes.at):
            away = np.abs(changes.at[:, None] - of.changes)
            self.covered += int((away.min(axis=1) <= changes.half_width).sum())
            self.found += len(np.unique(away.argmin(axis=1)[away.min(axis=1) <= changes.half_width + 3]))


@pytest.mark.parametrize("interval_s", [2e-6, 10e-6, 20e-6, 100e-6])
@pytest.mark.parametrize(("noise_a", "gain_noise"), [(2e-8, 2e-3), (3e-4, 0.0)], ids=["seamless", "one range"])
def test_stated_boundaries_hold_the_true_ones(interval_s: float, noise_a: float, gain_noise: float) -> None:
    score = Score()
    for seed in range(6):
        score.add(device(np.random.default_rng(seed), interval_s, 150_000, noise_a, gain_noise), interval_s)
    assert score.covered >= 0.95 * score.stated
    assert score.found >= 0.95 * score.true
    assert score.stated <= 1.02 * score.true


@pytest.mark.parametrize(
    ("noise_a", "low_a", "high_a"),
    [(3e-4, 5e-6, 130e-6), (2e-3, 21e-3, 28e-3), (3e-4, 5e-6, 1e-3)],
    ids=["half of the noise", "three times", "three and a half times"],
)
def test_steps_in_the_noise_are_found_with_a_wider_half_width(noise_a: float, low_a: float, high_a: float) -> None:
    score = Score()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        changes = np.cumsum(rng.uniform(12_000, 40_000, 8))
        changes = changes[changes < 138_000]
        levels_a = np.array([(low_a, high_a)[k % 2] for k in range(len(changes) + 1)])
        score.add(trace(changes, levels_a, rng.normal(0, noise_a, 150_000)), 20e-6)
    assert score.covered >= 0.95 * score.stated
    assert score.found == score.true == score.stated


@pytest.mark.parametrize("kind", ["white", "mains hum", "wandering", "heavy tails", "digits"])
def test_what_does_not_change_is_one_segment(kind: str) -> None:
    rng = np.random.default_rng(3)
    count = 500_000
    white = rng.normal(0.02, 3e-4, count)
    samples = {
        "white": white,
        "mains hum": white + 3e-4 * np.sin(2 * np.pi * 50 * 20e-6 * np.arange(count)),
        "wandering": white + np.cumsum(rng.normal(0, 5e-7, count)),
        "heavy tails": 0.02 + 3e-4 * rng.standard_t(3, count),
        "digits": np.round(white, 3),
    }[kind]
    assert find_changes(samples.astype(np.float32), 20e-6).at.tolist() == []


def test_spikes_are_no_segments_and_do_not_move_boundaries() -> None:
    score, plain = Score(), Score()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        of = device(rng, 20e-6, 150_000, 2e-8, 2e-3)
        plain.add(of, 20e-6)
        of.samples[rng.integers(0, 150_000, 30)] += rng.choice([-0.3, 0.3], 30).astype(np.float32)
        score.add(of, 20e-6)
    assert score.covered >= 0.95 * score.stated
    assert score.stated <= plain.stated + 2
    assert score.found >= plain.found - 5


def test_a_slope_is_stated_as_wide_as_it_is() -> None:
    """A bypass capacitor behind the shunt: the current falls with a time constant of 25 samples."""
    decay = 0.084 * np.exp(-np.arange(50_000) / 25)
    samples = np.concatenate([np.full(50_000, 0.084), decay + 5e-6]).astype(np.float32)
    changes = find_changes(samples + np.random.default_rng(1).normal(0, 1e-6, 100_000).astype(np.float32), 20e-6)
    assert changes.half_width[0] >= 5
    assert changes.at[0] - changes.half_width[0] <= 50_003
    assert changes.at[-1] < 50_500


def test_a_change_that_happened_in_a_gap_may_be_anywhere_in_it() -> None:
    samples = np.full(20_000, 21e-3, np.float32)
    samples[9_000:] = 84e-3
    samples[8_500:9_500] = np.nan
    changes = find_changes(samples, 20e-6, ((8_500, 1_000),))
    assert changes.at.tolist() == [9_000.0]
    assert changes.half_width[0] >= 500


@settings(max_examples=60, deadline=None)
@given(
    samples=st.lists(st.floats(-1, 1, width=32) | st.just(float("nan")), min_size=1, max_size=600),
    repeat=st.integers(1, 20),
    interval_s=st.sampled_from([1e-6, 20e-6, 1e-3]),
)
def test_any_recording_is_cut_into_segments_without_holes(samples: list[float], repeat: int, interval_s: float) -> None:
    waveform = Waveform(np.repeat(np.array(samples, np.float32), repeat), interval_s, interval_s, (1.0,))
    segments = segment(waveform)
    assert segments[0].start_s == 0
    assert segments[-1].end_s == pytest.approx(waveform.duration_s)
    for one, after in pairwise(segments):
        assert one.end_s == after.start_s > one.start_s
        assert one.end_uncertainty_s == after.start_uncertainty_s >= 0.5 * interval_s


def test_an_empty_recording_is_refused() -> None:
    with pytest.raises(WaveformError, match="empty"):
        segment(Waveform(np.empty(0, np.float32), 1e-3, 1e-3, (1.0,)))


def test_a_file_is_read_where_it_is_and_batches_leave_no_seams(tmp_path: Path) -> None:
    of = device(np.random.default_rng(5), 20e-6, 700_000, 2e-8, 2e-3)
    of.samples.tofile(tmp_path / "long.f32")
    mapped = np.memmap(tmp_path / "long.f32", "<f4", "r")
    score = Score()
    score.add(Trace(mapped, of.changes, of.levels_a), 20e-6)
    assert score.found >= 0.97 * score.true
    assert score.covered >= 0.95 * score.stated
    # Cut at other places, the same changes are found.
    ahead = find_changes(of.samples[50_001:], 20e-6).at + 50_001
    whole = find_changes(of.samples, 20e-6).at
    common = np.abs(whole[whole > 60_000][:, None] - ahead).min(axis=1) < 2
    assert common.mean() > 0.98


def test_kinds_are_those_of_the_data_sheet() -> None:
    expected = ("sleep", "sleep", "idle", "idle", "idle", "active", "burst", "burst")
    assert tuple(kind_of(level_a) for level_a in LEVELS_A) == expected


def segments(*parts: tuple[str, float]) -> list[Segment]:
    """Return segments of these kinds and durations."""
    ends = np.concatenate([[0.0], np.cumsum([duration_s for _, duration_s in parts])])
    return [Segment(ends[k], ends[k + 1], 1e-5, 2e-5, 0.0, kind) for k, (kind, _) in enumerate(parts)]


def names(phases: list[Phase]) -> list[tuple[str, float]]:
    return [(phase.name, round(phase.duration_s, 6)) for phase in phases]


def test_phases_join_what_belongs_together() -> None:
    found = segments(
        *(("sleep", 1.0), ("idle", 0.3), ("active", 0.01), ("burst", 0.001), ("active", 0.01), ("idle", 0.02)),
        *(("burst", 0.001), ("active", 0.01), ("idle", 0.2), ("sleep", 0.01), ("idle", 0.2), ("sleep", 2.0)),
    )
    expected = [("sleep", 1.0), ("idle", 0.3), ("active", 0.052), ("idle", 0.41), ("sleep", 2.0)]
    assert names(phases_of(found)) == expected
    assert names(phases_of(found, pause_s=0.005))[2:5] == [("active", 0.021), ("idle", 0.02), ("active", 0.011)]
    active = phases_of(found)[2]
    assert (active.start.uncertainty_s, active.end.uncertainty_s) == (1e-5, 2e-5)
    assert phases_of([]) == []


def test_phases_of_a_recording_add_up_to_its_energy() -> None:
    samples = np.full(150_000, 5e-6, np.float32)
    samples[50_000:100_000] = 28e-3
    samples[70_000:80_000] = 84e-3
    samples[75_000:75_020] = 0.276
    samples += np.random.default_rng(1).normal(0, 1e-6, len(samples)).astype(np.float32)
    waveform = Waveform(samples, 20e-6, 20e-6, (1.0,), t0_s=100.0)
    phases = phases_of(segment(waveform))
    assert names(phases) == [("sleep", 1.0), ("idle", 0.4), ("active", 0.2), ("idle", 0.4), ("sleep", 1.0)]
    total = sum(energy(phase.name, phase.window(waveform), Supply(3.3)).value for phase in phases)
    assert total == pytest.approx(energy("all", waveform.whole(), Supply(3.3)).value, rel=1e-6)
