"""Minimum and maximum at every scale: for the extremes of any window, and for plots that lose no peak."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

#: Entries of one level that make one of the next.
FACTOR = 64
#: With fewer blocks than this in a bin, borders between blocks would make the bins too unequal for a plot.
BLOCKS_PER_BIN = 4

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Envelope:
    """The outline of a stretch: bin k is samples ``borders[k]`` to ``borders[k + 1]`` and lies in [low[k], high[k]].

    Shapes (bins + 1,), (bins,) and (bins,). A bin in which every sample is lost has NaN for both.
    """

    borders: NDArray[np.int64]
    low: Floats
    high: Floats


class Pyramid:
    """The lowest and the highest of blocks of samples, of 64 such blocks, of 64 of those, and so on.

    A block without any sample has +infinity for its minimum and -infinity for its maximum, which change no other.
    """

    def __init__(self, samples: Floats, block: int, low: Floats, high: Floats) -> None:
        """Build on the minima and maxima of all whole blocks of *block* samples, both of shape (n // block,)."""
        self._samples, self._block = samples, block
        self._low, self._high = low, high

    def extremes(self, first: int, last: int) -> tuple[float, float]:
        """Return minimum and maximum of blocks [first, last), looking at no more than 128 entries of each level."""
        lowest, highest = np.inf, -np.inf
        for level, (low, high) in enumerate(self._levels):
            coarser = len(self._levels[level + 1][0]) if level + 1 < len(self._levels) else 0
            begin, end = -(-first // FACTOR), min(last // FACTOR, coarser)
            inner = begin < end
            sides = (slice(first, begin * FACTOR), slice(end * FACTOR, last)) if inner else (slice(first, last),)
            for side in sides:
                lowest = min(lowest, float(low[side].min(initial=np.inf)))
                highest = max(highest, float(high[side].max(initial=-np.inf)))
            if not inner:
                break
            first, last = begin, end
        return lowest, highest

    def envelope(self, first: int, last: int, bins: int) -> Envelope:
        """Return the outline of samples [first, last) in about *bins* bins of about equal length, none of them empty.

        Where a bin holds several blocks, only blocks are looked at, and the bins begin and end at their borders.
        """
        if last - first < bins * BLOCKS_PER_BIN * self._block:
            borders = np.unique(np.linspace(first, last, min(bins, last - first) + 1).astype(np.int64))
            low, high = _fold(self._samples[first:last], self._samples[first:last], borders - first)
            return Envelope(borders, low, high)
        begin, end = -(-first // self._block), last // self._block
        blocks = np.linspace(begin, end, bins + 1).astype(np.int64)
        low, high = _fold(self._low[begin:end], self._high[begin:end], blocks - begin)
        for at, rest in (
            (0, self._samples[first : begin * self._block]),
            (-1, self._samples[end * self._block : last]),
        ):
            low[at] = np.fmin(low[at], np.fmin.reduce(rest, initial=np.inf))
            high[at] = np.fmax(high[at], np.fmax.reduce(rest, initial=-np.inf))
        low[np.isposinf(low)], high[np.isneginf(high)] = np.nan, np.nan
        return Envelope(np.concatenate(([first], blocks[1:-1] * self._block, [last])), low, high)

    @cached_property
    def _levels(self) -> list[tuple[Floats, Floats]]:
        levels = [(self._low, self._high)]
        while len(levels[-1][0]) >= 2 * FACTOR:
            low, high = levels[-1]
            whole = len(low) // FACTOR * FACTOR
            levels.append((low[:whole].reshape(-1, FACTOR).min(axis=1), high[:whole].reshape(-1, FACTOR).max(axis=1)))
        return levels


def _fold(low: Floats, high: Floats, borders: NDArray[np.int64]) -> tuple[Floats, Floats]:
    return np.fmin.reduceat(low, borders[:-1]), np.fmax.reduceat(high, borders[:-1])
