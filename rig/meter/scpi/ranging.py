"""Which range the readings of a seamlessly ranging instrument may have been taken on, where it does not say so.

The amplitude tells: a reading that is well inside a range, after a while of such readings, was taken on it. Wherever
more than one range is possible the widest of them is named: its offset is the largest, so the budget errs to the safe
side.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.energy.recording import Change

#: Up to this share of a range readings count as inside it; between that and all of it the next one is possible too.
INSIDE = 0.8

Changes = tuple[tuple[Change, NDArray[Any], NDArray[Any]], ...]


class WidestPossible:
    """Names ranges for readings that come in blocks.

    For *settling* samples after one that needs a range the instrument may still be on that range; what it was on before
    the first block nobody knows. With *top_first* it may, for as long after a change upwards, be on the widest one
    whatever the amplitude.
    """

    def __init__(self, ranges_a: tuple[float, ...], settling: int, *, top_first: bool = False) -> None:
        self._limits = np.array(ranges_a[:-1]) * INSIDE
        self._settling = settling
        self._top_first = top_first
        self._since_needed = np.ones(len(ranges_a), np.int64)
        self._since_rise = settling + 1
        self._needed = len(ranges_a) - 1
        self._named = -1

    def changes(self, highest_a: NDArray[Any]) -> Changes:
        """Return where the range changes in a block whose samples reached *highest_a*, shape (n,), in ampere."""
        if not len(highest_a) or not len(self._limits):
            return ()
        index = self._possible(np.searchsorted(self._limits, np.abs(highest_a), side="right"))
        before = np.concatenate(([self._named], index[:-1]))
        self._named = int(index[-1])
        at = np.flatnonzero(index != before)
        return ((Change.RANGE, at, index[at]),) if len(at) else ()

    def _possible(self, needed: NDArray[np.int64]) -> NDArray[np.int64]:
        position = np.arange(len(needed))
        index = np.zeros(len(needed), np.int64)
        for number in range(1, len(self._since_needed)):
            since = _since(needed >= number, position, int(self._since_needed[number]))
            index[since <= self._settling] = number
            self._since_needed[number] = since[-1] + 1
        if self._top_first:
            before = np.concatenate(([self._needed], index[:-1]))
            since = _since(index > before, position, self._since_rise)
            self._since_rise, self._needed = int(since[-1]) + 1, int(index[-1])
            index[since <= self._settling] = len(self._limits)
        return index


def _since(there: NDArray[np.bool_], position: NDArray[np.int64], before: int) -> NDArray[np.int64]:
    """Return how many samples ago *there* last was, *before* of them before the block's first one."""
    return position - np.maximum.accumulate(np.where(there, position, -before))
