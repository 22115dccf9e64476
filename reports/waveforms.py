"""Reading a recorded waveform, and thinning it for a plot without losing a peak."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.reports.model import Run, Waveform

_OVERLOAD_A = 1e30
"""Instruments answer 9.9e37 for an overload; no board draws that."""

_PART = 1 << 18
"""Samples looked at in one go, so that a long capture need not fit the memory."""


@dataclass(frozen=True)
class Trace:
    """A waveform as plotted: ``time_s`` from its first sample, ``current_a`` with NaN at every gap.

    ``samples`` were read, ``missing`` are those that the record announces and the file lacks, ``unusable`` those that
    are no number or an overload.
    """

    time_s: NDArray[np.float64]
    current_a: NDArray[np.float64]
    samples: int
    missing: int
    unusable: int

    @property
    def duration_s(self) -> float:
        """Time of the last point."""
        return float(self.time_s[-1]) if self.time_s.size else 0.0


def read_samples(run: Run, waveform: Waveform) -> NDArray[np.float32]:
    """Return the samples of a waveform in amperes, as many whole ones as its file holds; none when it is absent.

    They stay in the file until they are looked at.
    """
    path = run.path(waveform.file)
    count = 0 if path is None else path.stat().st_size // 4
    return np.memmap(path, "<f4", "r", shape=(count,)) if path and count else np.empty(0, np.float32)


def trace(run: Run, waveform: Waveform, bins: int) -> Trace:
    """Return a waveform thinned to the lowest and the highest sample of each of *bins* stretches of equal length."""
    samples = read_samples(run, waveform)
    index = envelope(samples, bins)
    kept = samples[index]
    usable = sum(int(np.count_nonzero(_usable(part))) for part in _parts(samples, _PART))
    return Trace(
        time_s=index.astype(np.float64) * np.float64(waveform.interval_s),
        current_a=np.where(_usable(kept), kept, np.nan).astype(np.float64),
        samples=samples.size,
        missing=max(0, waveform.samples - samples.size),
        unusable=samples.size - usable,
    )


def envelope(values: NDArray[np.floating[Any]], bins: int) -> NDArray[np.int64]:
    """Return the indices, rising, of the samples that keep the outline of *values*.

    They are the lowest and the highest of each bin, the first and the last of all, and every sample when there are no
    more than two a bin. A bin without a usable number keeps one, so that the gap stays visible.
    """
    if values.size <= 2 * bins:
        return np.arange(values.size)
    width = -(-values.size // bins)
    kept = [np.array([0, values.size - 1])]
    first = 0
    for part in _parts(values, max(_PART // width, 1) * width):
        whole = part.size // width * width
        for rows in (part[:whole].reshape(-1, width), part[whole:].reshape(1, -1)):
            if rows.size:
                kept += [first + _extremes(rows)]
            first += rows.size
    return np.unique(np.concatenate(kept))


def _extremes(rows: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    starts = np.arange(rows.shape[0]) * rows.shape[1]
    usable = _usable(rows)
    low = starts + np.where(usable, rows, np.inf).argmin(axis=1)
    high = starts + np.where(usable, rows, -np.inf).argmax(axis=1)
    return np.concatenate((low, high))


def _parts(values: NDArray[np.floating[Any]], size: int) -> Iterator[NDArray[np.floating[Any]]]:
    return (values[first : first + size] for first in range(0, values.size, size))


def _usable(values: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    usable: NDArray[np.bool_] = np.abs(values) < _OVERLOAD_A
    return usable
