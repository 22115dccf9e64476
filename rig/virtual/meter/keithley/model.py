"""The trigger model: a numbered list of blocks, and their execution against the timeline.

Sources: DMM7510 reference manual, section 6 (TRIGger subsystem); the templates' blocks and the times they take as
users have measured them on a DMM6500.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.keithley.buffers import ReadingBuffer
from rig.virtual.meter.specification import Channel
from rig.virtual.meter.timeline import Timeline

CLEARING_NS = 300e3
STARTING_NS = 800e3
BLOCK_NS = 1e3
#: From a crossing of the analog trigger's level to the reading that is called the first after it.
COMPARATOR_NS = 7.3e3
#: The state says WAITING only after this long in the same wait block.
WAITING_SHOWN_NS = 100e6
CHUNK = 1 << 17


@dataclass(frozen=True)
class Clear:
    """Empty a buffer."""

    buffer: str


@dataclass(frozen=True)
class Delay:
    """Let time pass."""

    delay_s: float


@dataclass(frozen=True)
class Wait:
    """Wait for an event; with *clear* only those after the wait has begun count."""

    event: str
    clear: bool


@dataclass(frozen=True)
class Digitize:
    """Take readings: *count* of them, in the background until the next such block (inf), or end that (0)."""

    buffer: str
    count: float


@dataclass(frozen=True)
class BranchCounter:
    """Go to *target* until the block has been reached *count* times."""

    count: int
    target: int


@dataclass(frozen=True)
class BranchAlways:
    """Go to *target*."""

    target: int


@dataclass(frozen=True)
class Nothing:
    """NOP and NOTify: nobody listens."""


Block = Clear | Delay | Wait | Digitize | BranchCounter | BranchAlways | Nothing


@dataclass(frozen=True)
class Plan:
    """What the readings of a run are, frozen when it begins. Nanoseconds are of the host's clock."""

    channel: Channel
    aperture_s: float
    aperture_ns: float
    interval_ns: float
    host_ns_per_s: float
    edge: str
    level_a: float | None
    rising: bool
    latency_ns: float


@dataclass
class _Stream:
    """Readings that are being taken: the *next* one begins at ``start + next * interval``."""

    buffer: ReadingBuffer
    start: float
    next: int = 0


class Run:
    """One execution of the trigger model, from INITiate on."""

    def __init__(
        self,
        blocks: list[Block],
        plan: Plan,
        buffers: Callable[[str], ReadingBuffer],
        timeline: Timeline,
        base_ns: int,
        rng: np.random.Generator,
    ) -> None:
        self._blocks = blocks
        self._plan = plan
        self._buffers = buffers
        self._timeline = timeline
        self._base_ns = base_ns
        self._rng = rng
        self._clock = 0.0
        self._stream: _Stream | None = None
        self._left: float = 0
        self._counters: dict[int, int] = {}
        self._entered: float | None = None
        self._crossed: float | None = None
        self._previous: float | None = None
        self._command_ns: float | None = None
        self.block = 1
        self.overloaded = False
        self.discarded = False

    @property
    def done(self) -> bool:
        return self.block > len(self._blocks)

    def advance(self, horizon_ns: int) -> None:
        """Execute what happens before *horizon_ns*."""
        horizon = float(horizon_ns - self._base_ns)
        while not self.done and self._step(self._blocks[self.block - 1], horizon):
            pass
        if self.done:
            self._stream = None

    def waiting(self, now_ns: int) -> bool:
        """Return whether the state is shown as WAITING at *now_ns*."""
        waits = not self.done and isinstance(self._blocks[self.block - 1], Wait) and self._entered is not None
        return waits and now_ns - self._base_ns - (self._entered or 0.0) > WAITING_SHOWN_NS

    def needed_from_ns(self, horizon_ns: int) -> int:
        """Return the instant before which no event of the timeline matters any more."""
        if self._stream is not None:
            return min(horizon_ns, self._base_ns + int(self._stream.start + self._stream.next * self._plan.interval_ns))
        if not self.done and isinstance(self._blocks[self.block - 1], Wait | Delay):
            return horizon_ns
        return min(horizon_ns, self._base_ns + int(self._clock))

    def command(self, now_ns: int) -> bool:
        """Take ``*TRG``; False when nothing waits for it."""
        block = None if self.done else self._blocks[self.block - 1]
        if not isinstance(block, Wait) or block.event != "COMM":
            return False
        self._command_ns = float(now_ns - self._base_ns)
        return True

    def _step(self, block: Block, horizon: float) -> bool:
        """Execute *block* as far as *horizon*; False when it goes on after it."""
        if self._clock > horizon:
            return False
        if isinstance(block, Clear):
            self._buffers(block.buffer).clear()
            return self._go(self._clock + CLEARING_NS)
        if isinstance(block, Delay):
            return self._delay(block, horizon)
        if isinstance(block, Wait):
            return self._wait(block, horizon)
        if isinstance(block, Digitize):
            return self._digitize(block, horizon)
        if isinstance(block, BranchCounter):
            reached = self._counters[self.block] = self._counters.get(self.block, 0) + 1
            if reached >= block.count:
                self._counters[self.block] = 0
                return self._go(self._clock + BLOCK_NS)
            return self._go(self._clock + BLOCK_NS, block.target)
        if isinstance(block, BranchAlways):
            return self._go(self._clock + BLOCK_NS, block.target)
        return self._go(self._clock + BLOCK_NS)

    def _go(self, clock: float, target: int | None = None) -> bool:
        self._clock = clock
        self._entered = self._crossed = None
        self.block = self.block + 1 if target is None else target
        return True

    def _delay(self, block: Delay, horizon: float) -> bool:
        until = self._clock + block.delay_s * self._plan.host_ns_per_s
        self._take_in_background(min(until, horizon))
        return horizon >= until and self._go(until)

    def _wait(self, block: Wait, horizon: float) -> bool:
        if self._entered is None:
            self._entered = self._clock
        instant = self._event(block, horizon)
        self._take_in_background(horizon if instant is None else instant, watch=block.event == "ATR")
        if block.event == "ATR":
            instant = self._crossed
        return instant is not None and self._go(max(instant, self._clock))

    def _event(self, block: Wait, horizon: float) -> float | None:
        """Return when the event of the external input or the bus came."""
        assert self._entered is not None
        if block.event == "COMM":
            instant, self._command_ns = self._command_ns, None
            return instant
        if block.event != "EXT":
            return None
        after_ns, until_ns = self._base_ns + (self._entered if block.clear else 0.0), self._base_ns + int(horizon)
        slopes = {"RIS": (True,), "FALL": (False,)}.get(self._plan.edge, (True, False))
        found = [self._timeline.first_edge_ns(after_ns, until_ns, rising) for rising in slopes]
        edges = [edge for edge in found if edge is not None]
        return min(edges) - self._base_ns + self._plan.latency_ns if edges else None

    def _digitize(self, block: Digitize, horizon: float) -> bool:
        buffer = self._buffers(block.buffer)
        if block.count == 0:
            self._stream = None
            return self._go(self._clock + BLOCK_NS)
        if self._entered is None:
            self._entered = self._clock
            self._left = block.count + self._join(buffer)
        if math.isinf(block.count):
            return self._go(self._clock + BLOCK_NS)
        assert self._stream is not None
        while self._left and (taken := self._take(horizon, int(min(self._left, CHUNK)))):
            self._left -= taken
        if self._left:
            return False
        end = self._stream.start + (self._stream.next - 1) * self._plan.interval_ns + self._plan.aperture_ns
        self._stream = None
        return self._go(max(end, self._clock))

    def _join(self, buffer: ReadingBuffer) -> int:
        """Begin to take readings, or go on in step with those in the background; return how many began before now."""
        if self._stream is None:
            self._stream = _Stream(buffer, self._clock + STARTING_NS)
            return 0
        self._stream.buffer = buffer
        return math.ceil((self._clock - self._stream.start) / self._plan.interval_ns) - self._stream.next

    def _take_in_background(self, until: float, watch: bool = False) -> None:
        """Take the readings of an infinite block that begin before *until*."""
        while self._stream is not None and self._crossed is None:
            room = math.ceil((until - self._stream.start) / self._plan.interval_ns) - self._stream.next
            if room < 1 or not self._take(until, min(room, CHUNK), watch):
                return

    def _take(self, horizon: float, count: int, watch: bool = False) -> int:
        """Take at most *count* readings that are over at *horizon*; return how many."""
        plan, stream = self._plan, self._stream
        assert stream is not None
        over = math.floor((horizon - stream.start - plan.aperture_ns) / plan.interval_ns) + 1
        end = min(over, stream.next + count)
        if end <= stream.next:
            return 0
        starts = stream.start + np.arange(stream.next, end, dtype=np.float64) * plan.interval_ns
        current = self._timeline.means_a(self._base_ns, starts, plan.aperture_ns)
        readings = plan.channel.read(current, plan.aperture_s, self._rng)
        if watch:
            readings = self._until_crossed(readings, starts)
        self.overloaded |= bool(plan.channel.overloaded(current[: len(readings)]).any())
        stored = stream.buffer.append(readings, starts[: len(readings)] / plan.host_ns_per_s)
        self.discarded |= not stored
        stream.next += len(readings)
        self._previous = float(readings[-1])
        return len(readings)

    def _until_crossed(self, readings: NDArray[np.float64], starts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cut at the reading that crosses the analog trigger's level: what follows comes after the event."""
        level = self._plan.level_a
        if level is None:
            return readings
        before = np.concatenate(([readings[0] if self._previous is None else self._previous], readings[:-1]))
        crossed = (
            (before < level) & (readings >= level) if self._plan.rising else (before > level) & (readings <= level)
        )
        if not crossed.any():
            return readings
        cut = int(np.argmax(crossed))
        self._crossed = float(starts[cut] + COMPARATOR_NS)
        return readings[: cut + 1]


def simple_loop(count: int, delay_s: float, buffer: str) -> list[Block]:
    """Return the template SimpleLoop: so many readings, one by one."""
    return [Clear(buffer), Delay(delay_s), Digitize(buffer, 1), BranchCounter(count, 2)]


def duration_loop(duration_s: float, delay_s: float, buffer: str) -> list[Block]:
    """Return the template DurationLoop: readings for so long."""
    return [Clear(buffer), Delay(delay_s), Digitize(buffer, math.inf), Delay(duration_s), Digitize(buffer, 0)]


def loop_until_event(
    event: str, position_percent: float, clear: bool, delay_s: float, buffer: str, capacity: int
) -> list[Block]:
    """Return the template LoopUntilEvent: readings until the event, and so many after it that the buffer is full."""
    after = capacity - math.floor(capacity * position_percent / 100)
    return [
        Clear(buffer),
        Delay(delay_s),
        Digitize(buffer, math.inf),
        Wait(event, clear),
        Digitize(buffer, after),
        Nothing(),
    ]
