"""Reading a recorded waveform, and thinning it for a plot without losing a peak."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rig.reports.model import Run, Waveform

_OVERLOAD_A = 1e30
"""Instruments answer 9.9e37 for an overload; no board draws that."""


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
    """Return the samples of a waveform in amperes, as many whole ones as its file holds; none when it is absent."""
    path = run.path(waveform.file)
    if path is None:
        return np.empty(0, np.float32)
    return np.fromfile(path, dtype="<f4", count=path.stat().st_size // 4)


def trace(run: Run, waveform: Waveform, bins: int) -> Trace:
    """Return a waveform thinned to the lowest and the highest sample of each of *bins* stretches of equal length."""
    samples = read_samples(run, waveform)
    usable = np.isfinite(samples) & (np.abs(samples) < _OVERLOAD_A)
    current_a = np.where(usable, samples, np.nan).astype(np.float64)
    index = envelope(current_a, bins)
    return Trace(
        time_s=index.astype(np.float64) * np.float64(waveform.interval_s),
        current_a=current_a[index],
        samples=samples.size,
        missing=max(0, waveform.samples - samples.size),
        unusable=int(samples.size - np.count_nonzero(usable)),
    )


def envelope(values: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return the indices, rising, of the samples that keep the outline of *values*.

    They are the lowest and the highest of each bin, the first and the last of all, and every sample when there are no
    more than two a bin. A bin without a number keeps one, so that the gap stays visible.
    """
    if values.size <= 2 * bins:
        return np.arange(values.size)
    width = -(-values.size // bins)
    padded = np.full(width * -(-values.size // width), np.nan)
    padded[: values.size] = values
    rows = padded.reshape(-1, width)
    starts = np.arange(rows.shape[0]) * width
    empty = np.isnan(rows)
    low = starts + np.where(empty, np.inf, rows).argmin(axis=1)
    high = starts + np.where(empty, -np.inf, rows).argmax(axis=1)
    return np.unique(np.concatenate((low, high, [0, values.size - 1])))
