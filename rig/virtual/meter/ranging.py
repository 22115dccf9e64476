"""The ammeter of an instrument that ranges by itself: no sample is lost, and none says which range it was taken on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.specification import Channel, ranges_followed, ranges_needed


class Ammeter:
    """Readings on one range, or seamlessly on several (ascending).

    It goes to a lower range when *hold* samples in a row have fitted that range. With *top_first* it goes to the
    highest range whenever the present one is exceeded, and down from there after the same hold.
    """

    def __init__(
        self, channels: Sequence[Channel], rng: np.random.Generator, *, hold: int = 0, top_first: bool = False
    ) -> None:
        self._channels = channels
        self._rng = rng
        self._hold = hold
        self._top_first = top_first
        self._before = np.empty(0, np.uint8)
        self._since_rise = hold

    def read(self, current_a: NDArray[np.float64], aperture_s: float) -> NDArray[np.float64]:
        """Return the readings of the true mean currents *current_a*, which follow those of the last call."""
        if len(self._channels) == 1:
            return self._channels[0].read(current_a, aperture_s, self._rng)
        index = self._followed(current_a)
        readings = np.empty_like(current_a)
        for number in np.unique(index):
            here = index == number
            readings[here] = self._channels[number].read(current_a[here], aperture_s, self._rng)
        return readings

    def _followed(self, current_a: NDArray[np.float64]) -> NDArray[np.uint8]:
        index = ranges_followed(self._channels, current_a, self._hold, self._before)
        if self._top_first:
            last = self._before[-self._hold :].max(initial=0) if len(self._before) else index[0]
            index = self._to_the_top(index, last)
        needed = ranges_needed(self._channels, current_a)
        self._before = np.concatenate((self._before, needed))[-self._hold :] if self._hold else needed[:0]
        return index

    def _to_the_top(self, index: NDArray[np.uint8], last: int) -> NDArray[np.uint8]:
        """Put what follows a step up on the highest range until the hold has passed."""
        rises = np.concatenate(([last], index[:-1])) < index
        position = np.arange(len(index))
        latest = np.maximum.accumulate(np.where(rises, position, -self._since_rise - 1))
        since = position - latest
        self._since_rise = min(int(since[-1]), self._hold)
        return np.where(since < self._hold, len(self._channels) - 1, index).astype(np.uint8)
