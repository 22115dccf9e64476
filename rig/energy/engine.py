"""Sums over equally spaced samples: one pass over the recording, then any window of it at once.

The pass works on blocks that stay in the processor's cache, and widens them to float64 there once for all sums. It
leaves a table of running sums at the borders of blocks, so that a window costs two rows of the table and the samples
of two partial blocks. A recording of any length has no more than ``MOST_BLOCKS`` blocks, and the pages of a mapped
file are given back while the pass goes on: memory is bounded whatever the file holds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rig.energy.mapped import Pages
from rig.energy.pyramid import Pyramid

#: Samples of a block; twice as many, and so on, where there would be more than MOST_BLOCKS of them.
BLOCK = 4096
MOST_BLOCKS = 1 << 18
#: Samples summed at a time: they and their float64 copies, 3 to 6 MB, stay in the last-level cache.
BATCH = 1 << 18

#: What is summed: samples that are there, their currents, the squares of those, and voltage times current.
COUNT, CURRENT, SQUARE, POWER = range(4)

Floats = NDArray[np.float32]
Sums = NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """Currents in ampere and what goes with them, shape (n,), with NaN where a sample is lost.

    ``voltage`` in volt may be absent; a sample is lost where either is no finite number. The range is ``index[k]``, one
    of ``ranges``, from sample ``starts[k]`` on; ``starts`` ascend strictly from 0.
    """

    current: Floats
    voltage: Floats | None
    starts: NDArray[np.int64]
    index: NDArray[np.uint8]
    ranges: int


@dataclass(frozen=True)
class Totals:
    """Of a stretch of whole samples: the four sums for each range, shape (ranges, 4), and the extremes.

    Where every sample is lost ``low`` is infinite and ``high`` minus infinite.
    """

    sums: Sums
    low: float
    high: float


class Engine:
    """The sums of a track, made by one pass over it."""

    def __init__(self, track: Track) -> None:
        self._track = track
        # A memory map's own slices are several times slower than those of a plain array on the same memory.
        self._columns = [np.asarray(track.current)]
        if track.voltage is not None:
            self._columns.append(np.asarray(track.voltage))
        self._block = _block_length(len(track.current))
        blocks = len(track.current) // self._block
        low, high = np.empty(blocks, np.float32), np.empty(blocks, np.float32)
        self._running, self._rest = _running(self._pass(low, high))
        self.pyramid = Pyramid(self._columns[0], self._block, low, high)

    def totals(self, first: int, last: int) -> Totals:
        """Return the totals of samples [first, last)."""
        begin, end = -(-first // self._block), last // self._block
        if begin >= end:
            return self._tally(first, last)
        left, right = self._tally(first, begin * self._block), self._tally(end * self._block, last)
        inside = (self._running[end] - self._running[begin]) + (self._rest[end] - self._rest[begin])
        low, high = self.pyramid.extremes(begin, end)
        sums = left.sums + inside + right.sums
        return Totals(sums, min(left.low, low, right.low), max(left.high, high, right.high))

    def _pass(self, low: Floats, high: Floats) -> Sums:
        """Return the sums of every whole block, shape (blocks, ranges, 4); fill in the extremes of the blocks."""
        blocks, block = len(low), self._block
        sums = np.zeros((blocks, self._track.ranges, 4))
        at_a_time = max(BATCH // block, 1)
        wide = np.empty((len(self._columns), at_a_time, block))
        mapped = [Pages(array) for array in (self._track.current, self._track.voltage) if array is not None]
        for first in range(0, blocks, at_a_time):
            last = min(first + at_a_time, blocks)
            batch = slice(first, last)
            self._sum(first * block, wide[:, : last - first], sums[batch], low[batch], high[batch])
            for pages in mapped:
                pages.read_until(last * block)
        return sums

    def _tally(self, first: int, last: int) -> Totals:
        """Return the totals of a stretch shorter than two blocks from its samples."""
        sums = np.zeros((1, self._track.ranges, 4))
        low, high = np.array([np.inf], np.float32), np.array([-np.inf], np.float32)
        if first < last:
            self._sum(first, np.empty((len(self._columns), 1, last - first)), sums, low, high)
        return Totals(sums[0], float(low[0]), float(high[0]))

    def _sum(self, first: int, wide: Sums, sums: Sums, low: Floats, high: Floats) -> None:
        """Sum up rows of samples from *first* on into *sums*, shape (rows, ranges, 4), with *wide* for the copies."""
        _, rows, length = wide.shape
        stretch = slice(first, first + rows * length)
        blocks = [column[stretch].reshape(rows, length) for column in self._columns]
        for copy, block in zip(wide, blocks, strict=True):
            np.copyto(copy, block)
        cuts, cells = self._cuts(first, rows, length)
        totals = _totals(wide, cuts)
        lossy = np.unique(cuts[~np.isfinite(totals).all(axis=0)] // length)
        if len(lossy) and rows == 1:
            there = np.logical_and.reduce(np.isfinite(wide))
            wide[:, ~there] = 0
            totals = _totals(wide, cuts)
            totals[COUNT] = np.add.reduceat(there.ravel(), cuts, dtype=np.int64)
            np.min(blocks[0], axis=1, where=there, initial=np.inf, out=low)
            np.max(blocks[0], axis=1, where=there, initial=-np.inf, out=high)
        else:
            np.min(blocks[0], axis=1, out=low)
            np.max(blocks[0], axis=1, out=high)
        if len(cuts) == rows:
            sums.reshape(-1, 4)[cells] = totals.T
        else:
            for quantity, of_cuts in enumerate(totals):
                sums[..., quantity] = np.bincount(cells, of_cuts, rows * self._track.ranges).reshape(rows, -1)
        if rows > 1:
            # Few rows have lost samples: these are done again, each by itself.
            for row in lossy:
                only = slice(row, row + 1)
                self._sum(first + row * length, wide[:, only], sums[only], low[only], high[only])

    def _cuts(self, first: int, rows: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where rows begin and ranges change, counted from *first*, and of which cell (row, range) each is."""
        starts, index = self._track.starts, self._track.index
        begin, end = np.searchsorted(starts, (first + 1, first + rows * length))
        rows_from = np.arange(rows)
        if begin == end:
            return rows_from * length, rows_from * self._track.ranges + index[begin - 1]
        cuts = np.union1d(rows_from * length, starts[begin:end] - first)
        range_of = index[np.searchsorted(starts, cuts + first, side="right") - 1]
        return cuts, cuts // length * self._track.ranges + range_of


def _totals(wide: Sums, cuts: NDArray[np.int64]) -> Sums:
    """Return the four sums from each cut to the next, shape (4, cuts); not finite where a lost sample is in them."""
    current, *voltage = wide
    totals = np.zeros((4, len(cuts)))
    if len(cuts) == len(current):
        totals[COUNT] = current.shape[1]
        np.add.reduce(current, axis=1, out=totals[CURRENT])
        np.vecdot(current, current, out=totals[SQUARE])
        if voltage:
            np.vecdot(current, voltage[0], out=totals[POWER])
    else:
        totals[COUNT] = np.diff(cuts, append=current.size)
        np.add.reduceat(current.ravel(), cuts, out=totals[CURRENT])
        np.add.reduceat((current * current).ravel(), cuts, out=totals[SQUARE])
        if voltage:
            np.add.reduceat((current * voltage[0]).ravel(), cuts, out=totals[POWER])
    return totals


def _block_length(samples: int) -> int:
    length = BLOCK
    while samples // length > MOST_BLOCKS:
        length *= 2
    return length


def _running(sums: Sums) -> tuple[Sums, Sums]:
    """Return running sums with a zero before the first, and what rounding has taken from each of them so far.

    A stretch of sleep after hours of radio is a small difference of two large sums: without the second part it would
    have lost the digits that the large ones have no room for.
    """
    running = np.concatenate((np.zeros((1, *sums.shape[1:])), sums))
    np.cumsum(running, axis=0, out=running)
    before, after = running[:-1], running[1:]
    # Knuth's error of each addition, exact in binary floating point.
    added = after - before
    error = (before - (after - added)) + (sums - added)
    rest = np.zeros_like(running)
    np.cumsum(error, axis=0, out=rest[1:])
    return running, rest
