"""What the board draws from the supply, and its trigger line, against CLOCK_MONOTONIC in nanoseconds."""

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray


class Timeline:
    """Piecewise-constant current and trigger levels, kept as long as somebody may still ask for them.

    Events may come out of order and ahead of time. One that comes for an instant already read takes effect at the
    end of what was read, and is counted in ``late_events``.
    """

    def __init__(self) -> None:
        self._times_ns = [0]
        self._amps = [0.0]
        self._levels: list[tuple[int, int]] = [(0, 0)]
        self._read_ns = 0
        self.late_events = 0

    def __len__(self) -> int:
        return len(self._times_ns) + len(self._levels)

    def set_current(self, t_ns: int, amps: float) -> None:
        """Let the current be *amps* from *t_ns* until the next event."""
        t_ns = self._in_time(t_ns)
        index = bisect_right(self._times_ns, t_ns)
        self._times_ns.insert(index, t_ns)
        self._amps.insert(index, amps)

    def set_level(self, t_ns: int, level: int) -> None:
        """Let the trigger line be *level* (0 or 1) from *t_ns*."""
        t_ns = self._in_time(t_ns)
        self._levels.insert(bisect_right(self._levels, t_ns, key=lambda entry: entry[0]), (t_ns, level))

    def current_at(self, t_ns: int) -> float:
        """Return the current in ampere at *t_ns*."""
        return self._amps[max(bisect_right(self._times_ns, t_ns) - 1, 0)]

    def next_change_ns(self, after_ns: int) -> int | None:
        """Return when the current next changes after *after_ns*, None when nothing is known of it."""
        index = bisect_right(self._times_ns, after_ns)
        return self._times_ns[index] if index < len(self._times_ns) else None

    def first_edge_ns(self, after_ns: float, until_ns: int, rising: bool) -> int | None:
        """Return the first edge of the trigger line later than *after_ns* and not later than *until_ns*."""
        for (_, before), (t_ns, level) in zip(self._levels, self._levels[1:], strict=False):
            if after_ns < t_ns <= until_ns and level != before and bool(level) == rising:
                return t_ns
        return None

    def means_a(self, base_ns: int, starts_ns: NDArray[np.float64], aperture_ns: float) -> NDArray[np.float64]:
        """Return the mean current, in ampere, over an aperture from each of *starts_ns* (ascending, after *base_ns*).

        The charge up to any instant is linear between events, so two interpolations give every mean exactly.
        """
        ends_ns = starts_ns + aperture_ns
        first = max(bisect_right(self._times_ns, base_ns + int(starts_ns[0])) - 1, 0)
        last = bisect_left(self._times_ns, base_ns + int(ends_ns[-1]) + 1)
        times = np.array([t - base_ns for t in self._times_ns[first:last]], dtype=np.float64)
        amps = np.array(self._amps[first:last])
        # The state before the first start began long ago: the integral need not begin with it.
        times[0] = min(starts_ns[0], times[1] if len(times) > 1 else starts_ns[0])
        knots = np.append(times, max(ends_ns[-1], times[-1]))
        charge = np.concatenate(([0.0], np.cumsum(amps * np.diff(knots))))
        return np.asarray((np.interp(ends_ns, knots, charge) - np.interp(starts_ns, knots, charge)) / aperture_ns)

    def mark_read(self, t_ns: int) -> None:
        """Declare that everything before *t_ns* has been read: it is dropped, and late events go after it."""
        self._read_ns = max(self._read_ns, t_ns)
        keep = max(bisect_right(self._times_ns, self._read_ns) - 1, 0)
        del self._times_ns[:keep], self._amps[:keep]
        keep = max(bisect_right(self._levels, self._read_ns, key=lambda entry: entry[0]) - 1, 0)
        del self._levels[:keep]

    def _in_time(self, t_ns: int) -> int:
        self.late_events += t_ns < self._read_ns
        return max(t_ns, self._read_ns)
