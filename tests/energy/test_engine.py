import subprocess
import sys
from math import fsum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rig.energy import RangeSpans, Waveform, engine
from rig.energy.engine import BLOCK, COUNT, CURRENT, POWER, SQUARE, Engine, Track

INTERVAL_S = 1e-5


def track(seed: int, count: int, *, voltage: bool, lost: float, ranges: int, spans: int) -> Track:
    """Currents from microamperes to amperes, of both signs, and with all that a recording may have besides."""
    rng = np.random.default_rng(seed)
    current = (rng.normal(1, 0.3, count) * 10 ** rng.uniform(-6, 0, count)).astype(np.float32)
    current[rng.random(count) < lost] = np.nan
    volts = rng.normal(3.3, 0.01, count).astype(np.float32) if voltage else None
    if volts is not None:
        volts[rng.random(count) < lost] = np.nan
    starts = np.union1d([0], rng.integers(0, count, spans))
    return Track(current, volts, starts, rng.integers(0, ranges, len(starts)).astype(np.uint8), ranges)


LONG = 5 * BLOCK + 777
TRACKS = {
    "plain": track(1, LONG, voltage=False, lost=0, ranges=1, spans=0),
    "voltage": track(2, LONG, voltage=True, lost=0, ranges=1, spans=0),
    "lost": track(3, LONG, voltage=True, lost=0.001, ranges=1, spans=0),
    "ranges": track(4, LONG, voltage=False, lost=0, ranges=5, spans=3),
    "all": track(5, LONG, voltage=True, lost=0.0005, ranges=5, spans=400),
}
ENGINES = {name: Engine(each) for name, each in TRACKS.items()}


def exactly(of: Track, first: int, last: int, edges: tuple[float, float] = (0, 0)) -> list[list[float]]:
    """Return the four sums of each range, each correctly rounded; *edges* are what the outer samples lack."""
    current = of.current[first:last].astype(np.float64)
    voltage = np.zeros_like(current) if of.voltage is None else of.voltage[first:last].astype(np.float64)
    weights = np.ones(last - first)
    weights[0] -= edges[0]
    weights[-1] -= edges[1]
    there = np.isfinite(current) & np.isfinite(voltage)
    range_of = of.index[np.searchsorted(of.starts, np.arange(first, last), side="right") - 1]
    # A product of two float32 is exact in float64.
    terms = (np.ones_like(current), current, current * current, current * voltage)
    masks = [there & (range_of == index) for index in range(of.ranges)]
    return [[fsum((weights * term)[mask].tolist()) for term in terms] for mask in masks]


def compare(found: NDArray[np.float64], of: Track, exact: list[list[float]], first: int, last: int) -> None:
    size = np.nan_to_num(np.abs(of.current[first:last].astype(np.float64)))
    scale = {COUNT: 1.0, CURRENT: size.sum(), SQUARE: size @ size, POWER: 4 * size.sum()}
    for quantity, whole in scale.items():
        assert found[:, quantity] == pytest.approx([sums[quantity] for sums in exact], rel=1e-12, abs=1e-13 * whole)


@pytest.mark.parametrize("name", TRACKS)
@settings(max_examples=60, deadline=None)
@given(st.integers(0, LONG - 1), st.integers(1, LONG))
def test_a_window_of_whole_samples_agrees_with_exact_arithmetic(name: str, first: int, length: int) -> None:
    of, last = TRACKS[name], min(first + length, LONG)
    found = ENGINES[name].totals(first, last)
    compare(found.sums, of, exactly(of, first, last), first, last)
    there = np.isfinite(of.current) if of.voltage is None else np.isfinite(of.current) & np.isfinite(of.voltage)
    inside = of.current[first:last][there[first:last]]
    assert (found.low, found.high) == (inside.min(initial=np.inf), inside.max(initial=-np.inf))


def as_waveform(of: Track) -> Waveform:
    ranges_a = tuple(10.0**-index for index in range(of.ranges))
    spans = RangeSpans(of.starts, of.index)
    return Waveform(of.current, INTERVAL_S, INTERVAL_S, ranges_a, spans=spans, voltage=of.voltage)


@pytest.mark.parametrize("name", ["voltage", "lost", "all"])
@settings(max_examples=60, deadline=None)
@given(st.floats(0, LONG - 1), st.floats(1e-3, LONG))
def test_parts_of_samples_count_in_proportion_in_every_statistic(name: str, start: float, length: float) -> None:
    of, end = TRACKS[name], min(start + length, float(LONG))
    waveform = as_waveform(of)
    first, last = int(np.floor(start)), int(np.ceil(end))
    exact = exactly(of, first, last, (start - first, last - end))
    statistics, by_range = waveform.statistics(start, end), waveform.by_range(start, end)
    close = {"rel": 1e-9, "abs": 1e-12 * INTERVAL_S * LONG}
    count, current, square, power = (fsum(column) for column in zip(*exact, strict=True))
    assert statistics.charge_c == pytest.approx(current * INTERVAL_S, **close)
    assert statistics.square_a2s == pytest.approx(square * INTERVAL_S, **close)
    assert statistics.sense_j == pytest.approx(power * INTERVAL_S, **close)
    assert statistics.gap_share == pytest.approx(1 - count / (end - start), abs=1e-9)
    if count > 1e-6:
        assert statistics.mean_a == pytest.approx(current / count, rel=1e-6, abs=1e-9)
        assert statistics.rms_a == pytest.approx((square / count) ** 0.5, rel=1e-6, abs=1e-9)
    for index, sums in enumerate(exact):
        share = by_range.get(index)
        found = (0.0,) * 4 if share is None else (share.duration_s, share.charge_c, share.square_a2s, share.sense_j)
        assert found == pytest.approx([each * INTERVAL_S for each in sums], **close)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_short_recordings_of_any_shape_agree_with_exact_arithmetic(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 40))
    currents = data.draw(st.lists(st.floats(-3, 3, width=32) | st.just(np.nan), min_size=count, max_size=count))
    starts = sorted({0, *data.draw(st.lists(st.integers(0, count - 1), max_size=8))})
    index = data.draw(st.lists(st.integers(0, 2), min_size=len(starts), max_size=len(starts)))
    of = Track(np.array(currents, np.float32), None, np.array(starts), np.array(index, np.uint8), 3)
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first + 1, count))
    compare(Engine(of).totals(first, last).sums, of, exactly(of, first, last), first, last)


def test_sleep_after_hours_of_radio_keeps_its_digits() -> None:
    samples = np.full(4 * BLOCK, 5e-6, np.float32)
    samples[: 2 * BLOCK] = 1e6
    asleep = Waveform(samples, 1.0, 1.0, (1.0,)).statistics(2 * BLOCK, 4 * BLOCK)
    assert asleep.charge_c == pytest.approx(2 * BLOCK * float(np.float32(5e-6)), rel=1e-12)
    assert asleep.square_a2s == pytest.approx(2 * BLOCK * float(np.float32(5e-6)) ** 2, rel=1e-12)


def test_a_realistic_trace_is_summed_to_the_last_digits() -> None:
    """Where a running sum in float32 is wrong by percents, because it has no digits for the sleep any more."""
    rng = np.random.default_rng(5)
    samples = np.abs(rng.normal(5e-6, 1e-6, 2_000_000)).astype(np.float32)
    for burst in range(0, len(samples), 10_000):
        samples[burst : burst + 500] = rng.normal(0.2, 0.08, 500)
    exact = fsum(samples.tolist())
    assert Waveform(samples, 1.0, 1.0, (1.0,)).whole().statistics.charge_c == pytest.approx(exact, rel=1e-13)
    assert float(np.cumsum(samples)[-1]) != pytest.approx(exact, rel=1e-5)


def test_a_stretch_of_nothing_but_lost_samples_has_no_mean_and_no_extremes() -> None:
    samples = np.full(3 * BLOCK, 0.1, np.float32)
    samples[BLOCK : 2 * BLOCK] = np.nan
    waveform = Waveform(samples, 1e-3, 1e-3, (1.0,))
    lost = waveform.statistics(BLOCK, 2 * BLOCK)
    assert (lost.charge_c, lost.gap_share) == (0, 1)
    assert np.isnan([lost.mean_a, lost.rms_a, lost.min_a, lost.max_a]).all()
    whole = waveform.whole().statistics
    assert whole.gap_share == pytest.approx(1 / 3)
    assert (whole.min_a, whole.max_a) == (np.float32(0.1), np.float32(0.1))
    assert whole.mean_a == pytest.approx(0.1)


@pytest.mark.parametrize("name", TRACKS)
def test_very_long_recordings_have_longer_blocks_instead_of_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_BLOCKS", 2)
    of = TRACKS[name]
    compare(Engine(of).totals(3, LONG - 5).sums, of, exactly(of, 3, LONG - 5), 3, LONG - 5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, LONG - 2), st.integers(2, LONG), st.integers(1, 60))
def test_an_outline_loses_no_peak_and_no_sample(first: int, length: int, bins: int) -> None:
    last = min(first + length, LONG)
    samples = TRACKS["lost"].current
    outline = ENGINES["lost"].pyramid.envelope(first, last, bins)
    assert (outline.borders[0], outline.borders[-1]) == (first, last)
    assert (np.diff(outline.borders) > 0).all()
    assert len(outline.low) == len(outline.high) == len(outline.borders) - 1 <= bins
    for begin, end, low, high in zip(outline.borders, outline.borders[1:], outline.low, outline.high, strict=False):
        inside = samples[begin:end][np.isfinite(samples[begin:end])]
        expected = (inside.min(), inside.max()) if len(inside) else (np.nan, np.nan)
        assert (low, high) == pytest.approx(expected, nan_ok=True)


def test_outlines_at_every_scale_of_a_recording_of_many_blocks() -> None:
    rng = np.random.default_rng(6)
    samples = rng.random(200 * BLOCK + 11, dtype=np.float32)
    samples[70 * BLOCK : 90 * BLOCK] = np.nan
    summed = Engine(Track(samples, None, np.zeros(1, np.int64), np.zeros(1, np.uint8), 1))
    for first, last, bins in ((0, len(samples), 7), (5, 190 * BLOCK + 1, 40), (BLOCK - 1, 5 * BLOCK, 1)):
        outline = summed.pyramid.envelope(first, last, bins)
        parts = [samples[begin:end] for begin, end in zip(outline.borders, outline.borders[1:], strict=False)]
        assert outline.low == pytest.approx([np.fmin.reduce(part) for part in parts], nan_ok=True)
        assert outline.high == pytest.approx([np.fmax.reduce(part) for part in parts], nan_ok=True)
    for first, last in (
        (0, len(samples)),
        (3 * BLOCK, 150 * BLOCK),
        (64 * BLOCK, 192 * BLOCK),
        (75 * BLOCK, 77 * BLOCK),
    ):
        found, inside = summed.totals(first, last), samples[first:last]
        there = inside[np.isfinite(inside)]
        assert (found.low, found.high) == (there.min(initial=np.inf), there.max(initial=-np.inf))


RESIDENT = """
import re, sys
from pathlib import Path
import numpy as np
from rig.energy import Waveform

def most_resident_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = most_resident_kib()
samples = np.memmap(sys.argv[1], "<f4", "r")
Waveform(samples, 1e-6, 1e-6, (1.0,), voltage=np.memmap(sys.argv[1], "<f4", "r")).whole().statistics
print(most_resident_kib() - before)
"""


def test_a_recording_is_summed_in_a_fraction_of_its_size(tmp_path: Path) -> None:
    with (tmp_path / "long.f32").open("wb") as file:
        file.truncate(400 << 20)
    command = [sys.executable, "-c", RESIDENT, str(tmp_path / "long.f32")]
    grown_kib = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown_kib < 40 << 10
