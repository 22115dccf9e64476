"""FastLog: voltage and current pairs, handed over in slots of 250 ms of which only the newest is kept."""

import math

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.probes import Probes

#: Names of the sample rates, and samples per second.
RATES_HZ = {"S100": 100, "S001K": 1_000, "S010K": 10_000, "S050K": 50_000, "S250K": 250_000, "S500K": 500_000}
SLOT_S = 0.25
#: The converter is not faster than 500 kSa/s; slower rates are means of what it takes every 20 us at most.
SLOWEST_CONVERSION_S = 20e-6


class FastLog:
    """One FastLog run. *lost_slots* are numbers (from 1) of slots that nobody can fetch in time."""

    def __init__(
        self, started_ns: int, rate: str, probes: Probes, host_ns: float, lost_slots: frozenset[int] = frozenset()
    ) -> None:
        interval_s = 1 / RATES_HZ[rate]
        self._started_ns = started_ns
        self._probes = probes
        self._host_ns = host_ns
        self._lost_slots = lost_slots
        self._conversion_s = min(interval_s, SLOWEST_CONVERSION_S)
        self._means = round(interval_s / self._conversion_s)
        self._per_slot = round(SLOT_S / interval_s)
        self._slot = 0
        self._filling: list[NDArray[np.float32]] = []
        self._filled = 0
        self.published: NDArray[np.float32] | None = None
        """The newest complete slot, voltage and current in turn; fetching it removes it."""

    @property
    def _next(self) -> int:
        return self._slot * self._per_slot + self._filled

    @property
    def _interval_ns(self) -> float:
        return self._means * self._conversion_s * self._host_ns

    def advance(self, horizon_ns: int) -> None:
        """Take all samples that end before *horizon_ns*; a slot that is full takes the place of the one before."""
        due = math.floor((horizon_ns - self._started_ns) / self._interval_ns)
        while self._next < due:
            count = min(due - self._next, self._per_slot - self._filled)
            self._filling.append(self._take(count))
            self._filled += count
            if self._filled == self._per_slot:
                self._publish()

    def needed_from_ns(self) -> int:
        """Return the instant before which no event of the timeline matters any more."""
        return self._started_ns + int(self._next * self._interval_ns)

    def _publish(self) -> None:
        self._slot += 1
        if self._slot not in self._lost_slots:
            self.published = np.concatenate(self._filling)
        self._filling, self._filled = [], 0

    def _take(self, count: int) -> NDArray[np.float32]:
        conversion_ns = self._conversion_s * self._host_ns
        starts = self._next * self._interval_ns + np.arange(count * self._means, dtype=np.float64) * conversion_ns
        current, voltage = self._probes.read(self._started_ns, starts, self._conversion_s, self._host_ns)
        # What is beyond the range is not a number here.
        current = np.where(np.abs(current) > 1e37, np.nan, current)
        pairs = np.stack((voltage, current), axis=1).reshape(count, self._means, 2).mean(axis=1)
        return np.asarray(pairs, np.float32).ravel()
