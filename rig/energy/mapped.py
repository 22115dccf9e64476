"""Reading through a memory-mapped file without keeping it in memory."""

import mmap

import numpy as np
from numpy.typing import NDArray

#: Bytes that are read before they are given back.
STEP = 1 << 22


class Pages:
    """The pages of a mapped array that is read from its beginning; of an array in memory there are none."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        # What was written to a private mapping ("c") is nowhere else.
        whole = isinstance(array, np.memmap) and array.offset == 0 and array.mode != "c"
        self._map = array.base if whole and isinstance(array.base, mmap.mmap) else None
        self._given_back = 0

    def read_until(self, index: int) -> None:
        """Give back to the system what lies before *index*, as soon as it is worth a call."""
        if self._map is None:
            return
        while self._given_back + STEP <= index * np.dtype(np.float32).itemsize:
            self._map.madvise(mmap.MADV_DONTNEED, self._given_back, STEP)
            self._given_back += STEP
