"""Where the mean of a recorded current changes, found in the recording itself.

Three steps, each on what the one before has left, so that the time goes mostly into one pass over the file:

1. Samples are averaged to cells of 20 us (or one sample), and cells to tiles of 128. The scatter of each tile is the
   lower quartile of its parts' differences from cell to cell, which edges and spikes do not reach. A tile whose range
   is explained by its scatter is quiet and is its mean from then on.
2. Loud tiles are looked at cell by cell: a median over five cells takes spikes out, then the means of three cells
   before and after each place are compared. Between the changes found so, the tiles' means are compared in the same way
   at scales of 4, 8, 16, ... tiles, which finds steps far below the scatter of one sample.
3. Each change is placed among the samples themselves by likelihood, given the levels beside it. How far the posterior
   reaches, plus half a sample (inside which no sample tells anything), plus half of a slope where the edge is none, is
   its half-width at 95 % or more.

A change shorter than three cells (60 us) is a spike. A step below 3 % of the larger level is none: supplies and
temperatures do that.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rig.energy.waveform import Waveform, WaveformError

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Index = NDArray[np.int64]

CELL_S = 20e-6
#: Cells of a tile, and of the parts that its scatter is taken from.
TILE, PART = 128, 16
#: Tiles looked at in one go: 128 Ki cells stay in the cache.
BATCH = 1024
#: Cells on each side that are compared, and half of the median that comes before.
REACH, MEDIAN = 3, 2
#: What is a change, in standard deviations of what is compared; and the range of a quiet tile, in those of a cell.
CLEAR, QUIET = 6.0, 9.0
#: What the lower quartile of eight mean squares of 16 differences is, compared to their expectation.
QUARTILE = 0.75
#: Least step, as a share of the larger level.
LEAST_STEP = 0.03
#: Tiles on each side that a weak change is first looked for with.
WEAK_REACH = 4
#: Cells on each side that a clear change is placed with.
PLACING = 20
#: Samples held at a time while changes are placed.
HELD = 1 << 21
#: Share of the posterior that the half-width holds.
COVERED = 0.975

#: From which mean current on a segment is what. The borders are geometric means between neighbours in the ESP32-C3's
#: datasheet (v2.4, tables 5-7 to 5-9): light sleep 130 uA and modem sleep 13 mA; processor 28 mA and receiver 84 mA;
#: receiver 84 mA and transmitter 276 mA.
KINDS = ((0.0, "sleep"), (1.3e-3, "idle"), (49e-3, "active"), (152e-3, "burst"))


@dataclass(frozen=True)
class Segment:
    """A stretch of one level: from and to, with the half-width of each in second (at least 95 %), and its mean.

    Times are the rig's where the waveform is aligned, else they count from its first sample. The edges of the recording
    are exact. *kind* is sleep, idle, active or burst, by :data:`KINDS`.
    """

    start_s: float
    end_s: float
    start_uncertainty_s: float
    end_uncertainty_s: float
    mean_a: float
    kind: str


def segment(waveform: Waveform) -> list[Segment]:
    """Return the segments of *waveform*, in order and without holes; lost samples belong to the segment around them.

    Raises:
        WaveformError: the recording has no samples.
    """
    if len(waveform) == 0:
        raise WaveformError("the recording is empty: there is nothing to find phases in")
    changes = find_changes(np.asarray(waveform.samples), waveform.interval_s, waveform.gaps)
    ends = np.concatenate([[0], changes.at, [len(waveform)]])
    half_s = np.concatenate([[0.0], changes.half_width, [0.0]]) * waveform.interval_s
    t0_s = waveform.t0_s or 0.0
    segments = []
    for i in range(len(ends) - 1):
        mean_a = waveform.statistics(float(ends[i]), float(ends[i + 1])).mean_a
        start_s, end_s = (t0_s + float(ends[k]) * waveform.interval_s for k in (i, i + 1))
        segments.append(Segment(start_s, end_s, float(half_s[i]), float(half_s[i + 1]), mean_a, kind_of(mean_a)))
    return segments


def kind_of(mean_a: float) -> str:
    """Return what a board does that draws *mean_a* (ampere), by :data:`KINDS`; NaN, where all is lost, is sleep."""
    return next((kind for least_a, kind in reversed(KINDS) if mean_a >= least_a), KINDS[0][1])


@dataclass(frozen=True)
class Changes:
    """Positions, counted in samples (a change at k lies between samples k - 1 and k), with their half-widths."""

    at: Wide
    half_width: Wide


def find_changes(samples: Floats, interval_s: float, gaps: tuple[tuple[int, int], ...] = ()) -> Changes:
    """Return where the mean of *samples* (ampere, shape (n,), NaN where lost) changes."""
    per_cell = max(1, round(CELL_S / interval_s))
    tiles = _Tiles.of(samples, per_cell)
    weak = _weak_changes(tiles)
    at = np.concatenate([tiles.changes, weak.at])
    reach = np.concatenate([np.full(len(tiles.changes), PLACING), weak.reach])
    order = np.argsort(at, kind="stable")
    at, reach = at[order] * per_cell, reach[order] * per_cell
    scatter = tiles.scatter_at(at // per_cell) * np.sqrt(per_cell)
    placed = _place(samples, at, reach, scatter, per_cell)
    return _across_gaps(placed, gaps, len(samples))


@dataclass(frozen=True)
class _Tiles:
    """Means and scatters (of one cell) of all tiles, and the clear changes, counted in cells."""

    mean: Wide
    scatter: Wide
    changes: Index

    @classmethod
    def of(cls, samples: Floats, per_cell: int) -> "_Tiles":
        batches = list(_batches(samples, per_cell))
        if not batches:
            return cls(np.empty(0), np.empty(0), np.empty(0, np.int64))
        return cls(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))

    def scatter_at(self, cell: Index) -> Wide:
        """Return the scatter of the loudest tile around each cell; 0 where no tile is."""
        if not len(self.scatter):
            return np.zeros(len(cell))
        tile = np.clip(cell // TILE, 0, len(self.scatter) - 1)
        return np.asarray(_around(self.scatter)[tile])


def _batches(samples: Floats, per_cell: int) -> Iterator[tuple[Wide, Wide, Index]]:
    """Yield (means, scatters, changes) of one batch of tiles after the other.

    The last tile is filled up with the last cell. Each batch sees one tile more on both sides, for its edges.
    """
    cells = len(samples) // per_cell
    tiles = -(-cells // TILE)
    for first in range(0, tiles, BATCH):
        last = min(first + BATCH, tiles)
        begin, end = max(first - 1, 0), min(last + 1, tiles)
        values = _cells(samples[begin * TILE * per_cell : min(end * TILE, cells) * per_cell], per_cell)
        missing = (end - begin) * TILE - len(values)
        values = np.concatenate([values, np.full(missing, values[-1])]) if missing else values
        mean, scatter, changes = _look(values)
        own = slice(first - begin, last - begin)
        changes = changes + begin * TILE
        changes = changes[(changes >= first * TILE) & (changes < min(last * TILE, cells))]
        yield mean[own], scatter[own], changes


def _cells(samples: Floats, per_cell: int) -> Floats:
    """Return the mean of each cell; a lost one keeps the value before it."""
    values = samples.reshape(-1, per_cell).mean(axis=1, dtype=np.float32) if per_cell > 1 else samples
    lost = np.isnan(values)
    if not lost.any():
        return values
    there = np.where(lost, 0, np.arange(len(values)))
    first = int(np.argmin(lost))
    there = np.maximum(np.maximum.accumulate(there), first)
    return np.nan_to_num(values[there])


def _look(cells: Floats) -> tuple[Wide, Wide, Index]:
    """Return mean and scatter of each tile, and the clear changes among *cells*."""
    rows = cells.reshape(-1, TILE)
    scatter = _scatter(cells)
    low, high = rows.min(axis=1), rows.max(axis=1)
    mean = rows.mean(axis=1, dtype=np.float64)
    loud = _loud(low, high, scatter)
    if not loud.any():
        return mean, scatter, np.empty(0, np.int64)
    tile = np.flatnonzero(loud)
    # Lost on each side: two cells to the median, three to the comparison, two to seeing what is a peak.
    margin = MEDIAN + REACH + 2
    reach = np.arange(-margin, TILE + margin)
    smooth = _median5(cells[np.clip(tile[:, None] * TILE + reach, 0, len(cells) - 1)])
    mean[tile] = smooth[:, margin - MEDIAN : margin - MEDIAN + TILE].mean(axis=1, dtype=np.float64)
    return mean, scatter, _clear_changes(smooth, _around(scatter)[tile], tile)


def _scatter(cells: Floats) -> Wide:
    """Return each tile's standard deviation from cell to cell, without its loudest parts."""
    steps = np.empty_like(cells)
    np.subtract(cells[1:], cells[:-1], out=steps[1:])
    steps[0] = 0
    parts = steps.reshape(-1, PART)
    squares = np.einsum("ij,ij->i", parts, parts).reshape(-1, TILE // PART)
    quartile = np.partition(squares, 2, axis=1)[:, 2].astype(np.float64)
    # Float32 has seven digits: what it cannot tell apart is not a scatter of nothing.
    digits = 1e-6 * np.abs(cells.reshape(-1, TILE)[:, 0]) + 1e-12
    return np.asarray(np.sqrt(quartile / (2 * PART * QUARTILE)) + digits)


def _around(scatter: Wide) -> Wide:
    """Return the largest scatter of each tile and its two neighbours: an edge may have a louder side."""
    padded = np.concatenate([scatter[:1], scatter, scatter[-1:]])
    return np.asarray(np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:]))


def _loud(low: Floats, high: Floats, scatter: Wide) -> NDArray[np.bool_]:
    """Tell which tiles have more between them and the next one than scatter explains."""
    loud = high - low > QUIET * scatter
    across = np.maximum(high[1:], high[:-1]) - np.minimum(low[1:], low[:-1])
    edge = across > QUIET * np.maximum(scatter[1:], scatter[:-1])
    loud[1:] |= edge
    loud[:-1] |= edge
    return np.asarray(loud)


def _median5(rows: Floats) -> Floats:
    """Return the median of each five neighbours, shape (rows, columns - 4)."""
    a, b, c, d, e = (rows[:, k : rows.shape[1] - 4 + k] for k in range(5))
    # The third of five: drop the smaller of the two smaller ones and the larger of the two larger ones.
    f = np.maximum(np.minimum(a, b), np.minimum(c, d))
    g = np.minimum(np.maximum(a, b), np.maximum(c, d))
    return np.asarray(np.maximum(np.minimum(f, g), np.minimum(np.maximum(f, g), e)))


def _clear_changes(smooth: Floats, scatter: Wide, tile: Index) -> Index:
    """Return the cells at which the means of three before and three after differ most, and clearly."""
    sums = smooth[:, :-2] + smooth[:, 1:-1] + smooth[:, 2:]
    step = np.abs(sums[:, REACH:] - sums[:, :-REACH]) / REACH
    level = np.maximum(np.abs(sums[:, REACH:]), np.abs(sums[:, :-REACH])) / REACH
    least = np.maximum(CLEAR * scatter[:, None] * np.sqrt(2 / REACH), LEAST_STEP * level)
    # Column k compares the cells k .. k+2 of `smooth` with k+3 .. k+5: the change lies before the latter.
    peak = step > least
    middle = slice(2, -2)
    width = step.shape[1]
    for k in (0, 1, 3, 4):
        beside = step[:, k : width - 4 + k]
        peak[:, middle] &= step[:, middle] >= beside if k > 2 else step[:, middle] > beside
    row, column = np.nonzero(peak[:, middle])
    # Column 0 of what is looked at here is the first cell of the tile: the margin was chosen so.
    at = tile[row] * TILE + column
    inside = (at >= tile[row] * TILE) & (at < (tile[row] + 1) * TILE)
    return np.asarray(at[inside])


@dataclass(frozen=True)
class _Weak:
    """Weak changes in cells, and how many cells on each side they are to be placed with."""

    at: Index
    reach: Index


def _weak_changes(tiles: _Tiles) -> _Weak:
    """Return the changes of the tiles' means between the clear changes."""
    borders = np.concatenate([[0], np.unique(tiles.changes), [len(tiles.mean) * TILE]])
    first, last = -(-borders[:-1] // TILE), borders[1:] // TILE
    long = last - first >= 2 * WEAK_REACH
    found = [_weak_between(tiles.mean[a:b]) for a, b in zip(first[long], last[long], strict=True)]
    at = [(a + where) * TILE for a, (where, _) in zip(first[long], found, strict=True)]
    reach = [scale * TILE for _, scale in found]
    none = np.empty(0, np.int64)
    return _Weak(np.concatenate([none, *at]), np.concatenate([none, *reach]))


def _weak_between(mean: Wide) -> tuple[Index, Index]:
    """Return the tiles before which a stretch of tiles changes, and the scale at which that was seen.

    Smaller scales go first: a larger one adds what no smaller one has seen within its reach.
    """
    deviation = float(np.median(np.abs(np.diff(mean)))) / 0.954 + 1e-12
    running = np.concatenate([[0.0], np.cumsum(mean - mean[0])])
    at, scales = np.empty(0, np.int64), np.empty(0, np.int64)
    scale = WEAK_REACH
    while 2 * scale <= len(mean):
        sums = running[scale:] - running[:-scale]
        before, after = sums[:-scale] / scale, sums[scale:] / scale
        step = np.abs(after - before)
        level = np.maximum(np.abs(before + mean[0]), np.abs(after + mean[0]))
        least = np.maximum(CLEAR * deviation * np.sqrt(2 / scale), LEAST_STEP * level)
        peaks = _peaks(np.where(step > least, step, 0.0), scale) + scale
        if len(at) and len(peaks):
            peaks = peaks[np.abs(peaks[:, None] - at).min(axis=1) > scale]
        at, scales = np.concatenate([at, peaks]), np.concatenate([scales, np.full(len(peaks), scale)])
        scale *= 2
    return at, scales


def _peaks(step: Wide, scale: int) -> Index:
    """Return the places of the largest value within *scale* on both sides, of those above 0."""
    if not step.any():
        return np.empty(0, np.int64)
    found = np.flatnonzero(step)
    order = found[np.argsort(-step[found], kind="stable")]
    taken: list[int] = []
    free = np.ones(len(step), np.bool_)
    for place in order:
        if free[place]:
            taken.append(int(place))
            free[max(place - scale, 0) : place + scale + 1] = False
    return np.array(sorted(taken), np.int64)


def _place(samples: Floats, at: Index, reach: Index, scatter: Wide, per_cell: int) -> Changes:
    """Return where among the samples the changes near *at* lie, with half-widths; what is no step is left out."""
    borders = np.concatenate([[0], at, [len(samples)]])
    left, right = at - borders[:-2], borders[2:] - at
    position, half_width, steps = np.empty(len(at)), np.empty(len(at)), np.zeros(len(at), np.bool_)
    for size in np.unique(reach):
        members = np.flatnonzero(reach == size)
        for rows in np.array_split(members, -(-len(members) * 2 * int(size) // HELD)):
            found = _placed(samples, at[rows], int(size), left[rows], right[rows], scatter[rows], per_cell)
            position[rows], half_width[rows], steps[rows] = found
    order = np.argsort(position[steps], kind="stable")
    position, half_width = position[steps][order], half_width[steps][order]
    apart = np.concatenate([np.diff(position) >= 1, np.ones(min(len(position), 1), np.bool_)])
    inside = (position > 0) & (position < len(samples)) & apart
    return Changes(position[inside], half_width[inside])


def _placed(
    samples: Floats, at: Index, reach: int, left: Index, right: Index, scatter: Wide, per_cell: int
) -> tuple[Wide, Wide, NDArray[np.bool_]]:
    """Place the changes near *at* (rows) with *reach* samples on each side, or those up to the neighbours.

    Returns positions, half-widths, and whether the levels on both sides differ at all.
    """
    k = np.arange(-reach, reach)
    values = samples[np.clip(at[:, None] + k, 0, len(samples) - 1)].astype(np.float64)
    valid = (k >= -left[:, None]) & (k < right[:, None]) & np.isfinite(values)
    guard = 2 * per_cell
    before, spread_before = _level(values, valid & _clear_of(k, -left, np.zeros_like(left), guard), valid & (k < 0))
    after, spread_after = _level(values, valid & _clear_of(k, np.zeros_like(right), right, guard), valid & (k >= 0))
    step = after - before
    deviation = np.maximum(np.maximum(scatter, np.maximum(spread_before, spread_after)), 0.01 * np.abs(step) + 1e-12)
    low, high = np.minimum(before, after), np.maximum(before, after)
    room = np.minimum(3 * deviation, np.abs(step))
    values = np.clip(np.where(valid, values, 0.0), (low - room)[:, None], (high + room)[:, None])
    # The log of the likelihood ratio of "after" to "before", sample by sample; summed up to each possible place.
    ratio = np.where(valid, step[:, None] * (values - ((before + after) / 2)[:, None]), 0.0) / (deviation**2)[:, None]
    total = np.concatenate([np.zeros((len(at), 1)), np.cumsum(ratio, axis=1)], axis=1)
    places = np.concatenate([k, [reach]])
    # A place keeps a cell's distance from its neighbours: between two changes there is a segment.
    allowed = (places > -left[:, None]) & (places < right[:, None])
    total = np.where(allowed, total, np.inf)
    weight = np.exp(-(total - total.min(axis=1, keepdims=True)))
    best = np.argmin(total, axis=1)
    half_width = _half_width(weight, best) + 0.5 + _slope(values, low, high, best) / 2
    return at + places[best], half_width, np.abs(step) > np.maximum(LEAST_STEP * high, 1e-12)


def _clear_of(k: Index, begin: Index, end: Index, guard: int) -> NDArray[np.bool_]:
    """Tell which places lie between *begin* and *end* of each row, and at least *guard* from both."""
    return np.asarray((k >= begin[:, None] + guard) & (k < end[:, None] - guard))


def _level(values: Wide, clear: NDArray[np.bool_], near: NDArray[np.bool_]) -> tuple[Wide, Wide]:
    """Return median and scatter (from the median deviation) of what is *clear* in each row; else of what is *near*."""
    use = np.where(clear.any(axis=1, keepdims=True), clear, near)
    level = _median(values, use)
    spread = 1.48 * _median(np.abs(values - level[:, None]), use)
    # Few samples say little about their scatter.
    return level, np.where(use.sum(axis=1) >= 8, spread, 0.0)


def _median(values: Wide, use: NDArray[np.bool_]) -> Wide:
    """Return the median of the used values of each row, 0 where none is."""
    count = use.sum(axis=1)
    ordered = np.sort(np.where(use, values, np.inf), axis=1)
    rows = np.arange(len(values))
    lower, upper = ordered[rows, np.maximum(count - 1, 0) // 2], ordered[rows, np.minimum(count // 2, count.max() - 1)]
    return np.asarray(np.where(count > 0, (lower + upper) / 2, 0.0))


def _half_width(weight: Wide, best: Index) -> Wide:
    """Return how many places on each side of the best one hold the share COVERED of each row's weight."""
    share = np.cumsum(weight, axis=1)
    share = np.concatenate([np.zeros((len(weight), 1)), share / share[:, -1:]], axis=1)
    rows, last = np.arange(len(weight)), weight.shape[1]
    low, high = np.zeros(len(weight), np.int64), np.full(len(weight), last)
    while (high > low).any():
        middle = (low + high) // 2
        held = share[rows, np.minimum(best + middle + 1, last)] - share[rows, np.maximum(best - middle, 0)]
        enough = held >= COVERED
        high, low = np.where(enough, middle, high), np.where(enough, low, np.minimum(middle + 1, high))
    return high.astype(np.float64)


def _slope(values: Wide, low: Wide, high: Wide, best: Index) -> Wide:
    """Return how many samples in a row around the change lie between the levels, less the one that any edge has."""
    step = (high - low)[:, None]
    between = (values > low[:, None] + 0.15 * step) & (values < high[:, None] - 0.15 * step)
    columns = np.arange(values.shape[1])
    right = columns >= best[:, None]
    end = np.where(~between & right, columns, len(columns)).min(axis=1)
    begin = np.where(~between & ~right, columns, -1).max(axis=1)
    return np.asarray(np.maximum(end - begin - 2, 0), np.float64)


def _across_gaps(changes: Changes, gaps: tuple[tuple[int, int], ...], count: int) -> Changes:
    """Return *changes* with those at the edge of a gap anywhere in it: nobody saw when it was."""
    at, half_width = changes.at.copy(), changes.half_width.copy()
    for first, lost in gaps:
        touched = (at >= first - half_width) & (at <= first + lost + half_width)
        half_width[touched] += lost / 2
        at[touched] = min(first + lost / 2, count)
    keep = np.concatenate([np.diff(at) > 0, np.ones(min(len(at), 1), np.bool_)])
    return Changes(at[keep], half_width[keep])
