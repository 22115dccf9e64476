"""The two ways in which an N6781A records: an acquisition into memory, and the external data log."""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.n6705.settings import COARSE_INTERVAL_S, Sense, Source
from rig.virtual.meter.probes import Probes
from rig.virtual.meter.timeline import Timeline

#: Samples computed in one go: bounds the memory of a step after a long sleep of the host.
CHUNK = 1 << 17
#: How much the FIFO of the external data log holds. What comes after that overwrites the oldest, and nothing says so.
LOG_HOLDS_S = 20.0


@dataclass(frozen=True)
class Start:
    """When recording began or may begin, and what begins it."""

    armed_ns: int
    source: Source
    rising: bool
    level_a: float
    latency_ns: float


class Sweep:
    """One acquisition from INITiate to its last point.

    With points before the trigger it samples from arming on, and a trigger that comes before all of those are there
    is ignored (N6705C User's Guide, page 213).
    """

    def __init__(
        self,
        start: Start,
        probes: Probes,
        timeline: Timeline,
        *,
        points: int,
        offset: int,
        interval_s: float,
        aperture_s: float,
        host_ns: float,
    ) -> None:
        self._how = start
        self._probes = probes
        self._timeline = timeline
        self._points = points
        self._before = max(-offset, 0)
        self._delay = max(offset, 0)
        self._interval_ns = interval_s * host_ns
        self._aperture_s = aperture_s
        self._host_ns = host_ns
        self._free = self._before > 0 or start.source == "CURR1"
        self._start: float | None = 0.0 if self._free else None
        self._next = 0
        self._first: int | None = None
        self._looked: float = self._before * self._interval_ns
        self._blocks: deque[NDArray[np.float64]] = deque()
        self._previous: float | None = None

    @property
    def done(self) -> bool:
        return self._first is not None and self._next >= self._end

    @property
    def _end(self) -> int:
        assert self._first is not None
        return self._first + self._points - self._before

    def readings(self) -> NDArray[np.float64]:
        """Return the points in memory, current and voltage, shape (2, n)."""
        return np.concatenate(self._blocks, axis=1) if self._blocks else np.empty((2, 0))

    def trigger(self, t_ns: int) -> None:
        """Take a trigger at once (TRIGger:ACQuire, *TRG)."""
        if self._first is None and t_ns - self._how.armed_ns >= self._looked:
            self._begin(float(t_ns - self._how.armed_ns))

    def advance(self, horizon_ns: int) -> None:
        """Take all points that end before *horizon_ns*."""
        while not self.done and self._step(horizon_ns):
            pass

    def needed_from_ns(self, horizon_ns: int) -> int:
        """Return the instant before which no event of the timeline matters any more."""
        if self._start is None or self.done:
            return horizon_ns
        return min(horizon_ns, self._how.armed_ns + int(self._start + self._next * self._interval_ns))

    def _begin(self, instant: float) -> None:
        instant += self._how.latency_ns
        if self._start is None:
            self._start, self._first = instant + self._delay * self._interval_ns, 0
        else:
            self._first = max(math.ceil((instant - self._start) / self._interval_ns), self._next) + self._delay

    def _step(self, horizon_ns: int) -> bool:
        self._look_for_edge(horizon_ns)
        if self._start is None:
            return False
        elapsed = horizon_ns - self._how.armed_ns - self._start - self._aperture_s * self._host_ns
        end = min(math.floor(elapsed / self._interval_ns) + 1, self._next + CHUNK)
        if self._first is not None:
            end = min(end, self._first if self._next < self._first else self._end)
        if end <= self._next:
            return False
        self._take(end)
        return True

    def _look_for_edge(self, horizon_ns: int) -> None:
        if self._first is not None or self._how.source not in ("EXT", "PIN1"):
            return
        edge = self._timeline.first_edge_ns(self._how.armed_ns + self._looked, horizon_ns, self._how.rising)
        if edge is not None:
            self._begin(float(edge - self._how.armed_ns))

    def _take(self, end: int) -> None:
        assert self._start is not None
        starts = self._start + np.arange(self._next, end, dtype=np.float64) * self._interval_ns
        readings = self._probes.read(self._how.armed_ns, starts, self._aperture_s, self._host_ns)
        if self._first is None and self._how.source == "CURR1":
            readings = self._until_level(readings)
        self._next += readings.shape[1]
        self._previous = float(readings[0, -1])
        self._blocks.append(readings)
        if self._first is None or self._next <= self._first:
            self._keep_newest(self._before)

    def _until_level(self, readings: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cut at the reading that crosses the level, if the points before it are all there."""
        now, how = readings[0], self._how
        before = np.concatenate(([now[0] if self._previous is None else self._previous], now[:-1]))
        up = (before < how.level_a) & (now >= how.level_a)
        down = (before > how.level_a) & (now <= how.level_a)
        crossed = (up if how.rising else down) & (self._next + np.arange(len(now)) + 1 >= self._before)
        if not crossed.any():
            return readings
        cut = int(np.argmax(crossed)) + 1
        self._first = self._next + cut + self._delay
        return readings[:, :cut]

    def _keep_newest(self, count: int) -> None:
        held = sum(block.shape[1] for block in self._blocks)
        while held > count:
            first = self._blocks.popleft()
            drop = min(held - count, first.shape[1])
            if drop < first.shape[1]:
                self._blocks.appendleft(first[:, drop:])
            held -= drop


class ExternalLog:
    """The external data log: rows of averages (and minimum and maximum) over a period, in a FIFO."""

    def __init__(
        self,
        start: Start,
        probes: Probes,
        timeline: Timeline,
        *,
        sense: Sense,
        period_s: float,
        holds_s: float,
        host_ns: float,
    ) -> None:
        self._how = start
        self._probes = probes
        self._timeline = timeline
        self._sense = sense
        self._samples = round(period_s / COARSE_INTERVAL_S)
        self._host_ns = host_ns
        self._holds = max(int(holds_s / period_s), 1)
        self._start: float | None = 0.0 if start.source == "IMM" else None
        self._next = 0
        self._rows: deque[NDArray[np.float64]] = deque(maxlen=self._holds)

    def trigger(self, t_ns: int) -> None:
        """Begin at once."""
        if self._start is None:
            self._start = t_ns - self._how.armed_ns + self._how.latency_ns

    def take(self, count: int) -> NDArray[np.float64]:
        """Remove and return the *count* oldest rows, fewer if there are fewer; shape (rows, parameters)."""
        rows = [self._rows.popleft() for _ in range(min(count, len(self._rows)))]
        return np.array(rows) if rows else np.empty((0, self._sense.parameters))

    def advance(self, horizon_ns: int) -> None:
        """Take all rows that end before *horizon_ns*."""
        if self._start is None and self._how.source in ("EXT", "PIN1"):
            edge = self._timeline.first_edge_ns(self._how.armed_ns, horizon_ns, self._how.rising)
            if edge is not None:
                self.trigger(edge)
        while self._start is not None and self._step(horizon_ns):
            pass

    def needed_from_ns(self, horizon_ns: int) -> int:
        """Return the instant before which no event of the timeline matters any more."""
        if self._start is None:
            return horizon_ns
        return min(horizon_ns, self._how.armed_ns + int(self._start + self._next * self._period_ns))

    @property
    def _period_ns(self) -> float:
        return self._samples * COARSE_INTERVAL_S * self._host_ns

    def _step(self, horizon_ns: int) -> bool:
        assert self._start is not None
        due = math.floor((horizon_ns - self._how.armed_ns - self._start) / self._period_ns)
        rows = min(due - self._next, max(CHUNK // self._samples, 1))
        if rows <= 0:
            return False
        first = self._start + self._next * self._period_ns
        starts = first + np.arange(rows * self._samples, dtype=np.float64) * (COARSE_INTERVAL_S * self._host_ns)
        readings = self._probes.read(self._how.armed_ns, starts, COARSE_INTERVAL_S, self._host_ns)
        self._rows.extend(self._row_values(readings.reshape(2, rows, self._samples)))
        self._next += rows
        return True

    def _row_values(self, readings: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return average, and minimum and maximum, of current and then of voltage; shape (rows, parameters)."""
        columns = []
        sense = self._sense
        kinds = ((sense.current, sense.current_min_max), (sense.voltage, sense.voltage_min_max))
        for (wanted, min_max), values in zip(kinds, readings, strict=True):
            if not wanted:
                continue
            # An overloaded reading makes the whole row one.
            highest = np.abs(values).max(axis=1)
            columns.append(np.where(highest > 1e37, 9.9e37, values.mean(axis=1)))
            if min_max:
                columns += [values.min(axis=1), values.max(axis=1)]
        return np.array(columns).T
