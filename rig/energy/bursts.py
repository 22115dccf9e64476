"""Transmit bursts in a recorded current: when the radio was sending."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rig.energy.waveform import Waveform

#: Midway between the receiver (84 to 87 mA) and the weakest full transmission (276 mA): ESP32-C3 datasheet v2.4, 5-7.
TRANSMIT_THRESHOLD_A = 0.18
#: What is shorter is a spike, or an acknowledgement that the radio sends by itself, and no datagram.
SHORTEST_BURST_S = 50e-6
#: Samples looked at in one go.
CHUNK = 1 << 20


@dataclass(frozen=True)
class Bursts:
    """Starts and ends of transmit bursts, both shape (n,), ascending, in second after the first sample began."""

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.start_s)


def find_bursts(waveform: Waveform, *, threshold_a: float = TRANSMIT_THRESHOLD_A) -> Bursts:
    """Return the stretches above *threshold_a* (ampere) that begin and end inside the recording.

    An edge lies inside the sample that it divides, and that sample's mean tells where: edges are found to a small part
    of a sample where the aperture fills the interval. A burst that touches lost samples is left out. Samples longer
    than a burst hide it.
    """
    edges = np.concatenate([np.empty(0, np.int64), *_crossings(waveform.samples, threshold_a)])
    rises, falls = edges[0::2], edges[1::2]
    rises = rises[: len(falls)]
    whole = (rises > 0) & (falls < len(waveform.samples))
    rises, falls = rises[whole], falls[whole]
    before, after = _levels(waveform, rises - 2), _levels(waveform, falls + 1)
    top = _tops(waveform, rises, falls)
    start = rises + 1 - _share(waveform, rises, before, top) - _share(waveform, rises - 1, before, top)
    end = falls - 1 + _share(waveform, falls - 1, after, top) + _share(waveform, falls, after, top)
    known = np.isfinite(start) & np.isfinite(end)
    known &= (end - start) * waveform.interval_s >= SHORTEST_BURST_S
    return Bursts(start[known] * waveform.interval_s, end[known] * waveform.interval_s)


def _crossings(samples: NDArray[np.float32], threshold_a: float) -> Iterator[NDArray[np.int64]]:
    """Yield the first sample of each stretch above or below the threshold, in turn; the first stretch is below."""
    last = False
    for first in range(0, len(samples), CHUNK):
        above = np.asarray(samples[first : first + CHUNK]) > threshold_a
        changes = np.flatnonzero(above[1:] != above[:-1]) + 1
        if above[0] != last:
            changes = np.concatenate([[0], changes])
        last = bool(above[-1])
        yield changes + first
    if last:
        yield np.array([len(samples)])


def _levels(waveform: Waveform, index: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(waveform.samples[np.clip(index, 0, len(waveform.samples) - 1)], np.float64)


def _tops(waveform: Waveform, rises: NDArray[np.int64], falls: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the level of each burst: that of the middle sample, which no edge divides if three samples are above."""
    middle = _levels(waveform, (rises + falls - 1) // 2)
    short = falls - rises < 3
    return np.where(short, np.maximum(middle, _levels(waveform, falls - 1)), middle)


def _share(
    waveform: Waveform, index: NDArray[np.int64], low: NDArray[np.float64], top: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how much of a sample beside an edge belongs to the burst, 0 to 1; NaN stays NaN."""
    return np.clip((_levels(waveform, index) - low) / (top - low), 0.0, 1.0)
