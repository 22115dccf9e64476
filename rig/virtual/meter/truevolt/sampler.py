"""From the timeline to readings: trigger states, sampling grid, reading memory, the errors of the instrument."""

import enum
import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.specification import Channel
from rig.virtual.meter.timeline import Timeline

#: Readings computed in one go: bounds the memory of a step after a long sleep of the host.
CHUNK = 1 << 17


class ReadingMemory:
    """The instrument's reading memory: a ring that overwrites its oldest readings and only notes that it did."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._chunks: deque[NDArray[np.float64]] = deque()
        self.count = 0
        self.overflowed = False
        self.last: float | None = None

    def append(self, readings: NDArray[np.float64]) -> None:
        if len(readings):
            self._chunks.append(readings)
            self.count += len(readings)
            self.last = float(readings[-1])
        if self.count > self._capacity:
            self.overflowed = True
            self.keep_newest(self._capacity)

    def keep_newest(self, count: int) -> None:
        """Drop the oldest readings beyond *count*."""
        if self.count > count:
            self.take(self.count - count)

    def take(self, count: int) -> NDArray[np.float64]:
        """Remove and return the *count* oldest readings, fewer if there are fewer."""
        taken: list[NDArray[np.float64]] = []
        left = min(count, self.count)
        self.count -= left
        while left:
            chunk = self._chunks.popleft()
            taken.append(chunk[:left])
            if len(chunk) > left:
                self._chunks.appendleft(chunk[left:])
            left -= len(taken[-1])
        return np.concatenate(taken) if taken else np.empty(0)

    def all(self) -> NDArray[np.float64]:
        return np.concatenate(self._chunks) if self._chunks else np.empty(0)


class Source(enum.Enum):
    """TRIGger:SOURce."""

    IMMEDIATE = "IMM"
    EXTERNAL = "EXT"
    BUS = "BUS"
    INTERNAL = "INT"


@dataclass(frozen=True)
class Setup:
    """Everything an acquisition needs to know, frozen at INITiate. Nanoseconds are of the host's clock."""

    channel: Channel
    aperture_s: float
    aperture_ns: float
    interval_ns: float
    count: int
    pretrigger: int
    triggers: int
    source: Source
    rising: bool
    level_a: float
    delay_ns: float
    latency_ns: float

    @property
    def free_running(self) -> bool:
        """Whether samples are taken before the trigger: for the pretrigger readings, or to find the level."""
        return self.pretrigger > 0 or self.source is Source.INTERNAL


class Acquisition:
    """One acquisition from INITiate to idle, advanced to any horizon: it takes every sample that ended before it."""

    def __init__(
        self, setup: Setup, timeline: Timeline, memory: ReadingMemory, armed_ns: int, rng: np.random.Generator
    ) -> None:
        self._setup = setup
        self._timeline = timeline
        self._memory = memory
        self._rng = rng
        self._base_ns = armed_ns
        self._triggers_left = setup.triggers
        self.overloaded = False
        self._bus_ns: float | None = None
        self._arm(0.0)

    @property
    def done(self) -> bool:
        return self._triggers_left == 0

    @property
    def waiting(self) -> bool:
        """Whether the trigger is still to come."""
        return not self.done and self._first_post is None

    def bus_trigger(self, t_ns: int) -> bool:
        """Take *TRG; False when it was not waited for."""
        if self._setup.source is not Source.BUS or not self.waiting or self._bus_ns is not None:
            return False
        self._bus_ns = float(t_ns - self._base_ns)
        return True

    def advance(self, horizon_ns: int) -> None:
        """Take all samples that end before *horizon_ns*."""
        while not self.done and self._step(horizon_ns):
            pass

    def needed_from_ns(self, horizon_ns: int) -> int:
        """Return the instant before which no event of the timeline matters any more."""
        if self.done or self._start is None:
            return horizon_ns
        return min(horizon_ns, self._base_ns + int(self._start + self._next * self._setup.interval_ns))

    def _arm(self, armed: float) -> None:
        self._armed = armed
        self._start: float | None = armed if self._setup.free_running else None
        self._next = 0
        self._first_post: int | None = None
        self._previous: float | None = None

    def _step(self, horizon_ns: int) -> bool:
        setup = self._setup
        if self._first_post is None:
            self._look_for_trigger(horizon_ns)
        if self._start is None:
            return False
        complete = (horizon_ns - self._base_ns - self._start - setup.aperture_ns) / setup.interval_ns
        end = min(math.floor(complete) + 1, self._next + CHUNK)
        if self._first_post is not None:
            last = self._first_post + setup.count - setup.pretrigger
            end = min(end, self._first_post if self._next < self._first_post else last)
        if end <= self._next:
            return False
        self._take(end)
        if self._first_post is not None and self._next == self._first_post + setup.count - setup.pretrigger:
            self._finish_trigger()
        return True

    def _look_for_trigger(self, horizon_ns: int) -> None:
        instant = self._trigger_instant(horizon_ns)
        if instant is None:
            return
        instant += self._setup.delay_ns
        if self._start is None:
            self._start, self._first_post = instant, 0
        else:
            self._first_post = max(math.ceil((instant - self._start) / self._setup.interval_ns), self._next)

    def _trigger_instant(self, horizon_ns: int) -> float | None:
        setup = self._setup
        if setup.source is Source.IMMEDIATE:
            return self._armed
        if setup.source is Source.BUS and self._bus_ns is not None:
            instant, self._bus_ns = self._bus_ns + setup.latency_ns, None
            return instant
        if setup.source is Source.EXTERNAL:
            edge = self._timeline.first_edge_ns(self._base_ns + self._armed, horizon_ns, setup.rising)
            return None if edge is None else edge - self._base_ns + setup.latency_ns
        return None

    def _take(self, end: int) -> None:
        readings = self._measure(self._next, end)
        if self._first_post is None and self._setup.source is Source.INTERNAL:
            readings = self._until_level(readings)
        self._next += len(readings)
        self._previous = float(readings[-1])
        self._memory.append(readings)
        if self._first_post is None or self._next <= self._first_post:
            self._memory.keep_newest(self._setup.pretrigger)

    def _until_level(self, readings: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cut at the reading that crosses the level: it is the last one before the trigger."""
        before = np.concatenate(([readings[0] if self._previous is None else self._previous], readings[:-1]))
        level = self._setup.level_a
        crossed = (
            (before < level) & (readings >= level) if self._setup.rising else (before > level) & (readings <= level)
        )
        if not crossed.any():
            return readings
        cut = int(np.argmax(crossed)) + 1
        self._first_post = self._next + cut
        return readings[:cut]

    def _finish_trigger(self) -> None:
        self._triggers_left -= 1
        if not self.done:
            assert self._start is not None
            self._arm(self._start + self._next * self._setup.interval_ns)

    def _measure(self, first: int, end: int) -> NDArray[np.float64]:
        assert self._start is not None
        setup, channel = self._setup, self._setup.channel
        starts = self._start + np.arange(first, end, dtype=np.float64) * setup.interval_ns
        current = self._timeline.means_a(self._base_ns, starts, setup.aperture_ns)
        self.overloaded |= bool(channel.overloaded(current).any())
        return channel.read(current, setup.aperture_s, self._rng)
