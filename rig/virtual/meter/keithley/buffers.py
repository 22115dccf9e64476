"""Reading buffers: rings with indexes from 1, read without being emptied (DMM7510 reference manual, page 3-15)."""

import numpy as np
from numpy.typing import NDArray

DEFAULT_CAPACITY = 100_000
MIN_CAPACITY = 10
MAX_CAPACITY = 7_000_000


class ReadingBuffer:
    """One reading buffer: readings with the time since the first one.

    In the fill mode CONTinuous the newest readings overwrite the oldest and nothing says so: after 150 readings into a
    buffer of 100 the newest stands at 50 and the oldest at 51. In the mode ONCE what does not fit is discarded.
    """

    def __init__(self, capacity: int, continuous: bool) -> None:
        self.capacity = capacity
        self.continuous = continuous
        self.clear()

    def clear(self) -> None:
        self._values = np.empty(self.capacity)
        self._times_s = np.empty(self.capacity)
        self._first_s = 0.0
        self._written = 0

    @property
    def count(self) -> int:
        return min(self._written, self.capacity)

    @property
    def start(self) -> int:
        """Return the index of the oldest reading, 0 when there is none."""
        if self._written > self.capacity:
            return self._written % self.capacity + 1
        return min(self._written, 1)

    @property
    def end(self) -> int:
        """Return the index of the newest reading, 0 when there is none."""
        return (self._written - 1) % self.capacity + 1 if self._written else 0

    def append(self, values: NDArray[np.float64], times_s: NDArray[np.float64]) -> bool:
        """Store readings taken at *times_s* of the instrument's clock; False when some were discarded."""
        if not self._written and len(values):
            self._first_s = float(times_s[0])
        room = len(values) if self.continuous else min(len(values), self.capacity - self._written)
        # Of more than the whole ring only the newest stay.
        first = max(room - self.capacity, 0)
        places = (self._written + np.arange(first, room)) % self.capacity
        self._values[places] = values[first:room]
        self._times_s[places] = times_s[first:room] - self._first_s
        self._written += room
        return room == len(values)

    def read(self, first: int, last: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the readings and their times at the indexes *first* to *last*; raise IndexError for what is not."""
        if not 1 <= first <= last <= self.count:
            raise IndexError(f"{first} to {last} of {self.count}")
        return self._values[first - 1 : last], self._times_s[first - 1 : last]
