"""One acquisition of a PPK2: it streams from the start, so trigger and samples before it are found here."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.clock import now_s
from rig.energy.recording import Change
from rig.meter.acquisition import Block, CapturePlan, Conclusion, Drained
from rig.meter.capture import OVERLOAD_READING
from rig.meter.ppk2.port import Ppk2Port
from rig.meter.ppk2.stream import SETTLING, STALE, Lost, Stream
from rig.meter.ppk2.words import (
    ADC_FULL_SCALE,
    INTERVAL_S,
    LOGIC_SHIFT,
    RANGE_SHIFT,
    RANGES,
    UNCERTAIN_SAMPLES,
    Words,
    changes,
    currents_a,
)
from rig.meter.protocol import MeterError, Trigger

#: Without a byte for so long the instrument has stopped measuring.
SILENT_S = 1.0
#: How long the samples before a trigger may take beyond their own time.
START_UP_S = 3.0
#: The instrument measures up to this; what reads higher reads as too much.
MAX_A = 1.0
#: The logic input that an external trigger is looked for on: D0.
TRIGGER_LINE = np.uint32(1 << LOGIC_SHIFT)

Noted = tuple[Change, NDArray[Any], NDArray[Any]]


class Ppk2Acquisition:
    """See ``rig.meter.acquisition.Acquisition``. *table* has the current of every converter value of every range."""

    poll_s = 0.0
    """``drain`` itself waits for samples."""

    def __init__(self, port: Ppk2Port, plan: CapturePlan, table: NDArray[np.float32]) -> None:
        self._port = port
        self._plan = plan
        self._table = limited(table)
        self._stream = Stream()
        self._finder = Finder(plan.trigger, self._table)
        self._ring: deque[Words | Lost] = deque()
        self._ring_count = 0
        self._armed = False
        self._triggered = plan.trigger.source == "immediate"
        self._taken = 0
        self._end: int | None = None
        self._blocks: list[Block] = []
        self._before: int | None = None
        self._lost = 0
        self._open_ended = self._silent = False
        self._stopped = False
        self._heard_s = 0.0

    def start(self) -> tuple[float, float]:
        started_s = self._heard_s = self._port.start()
        deadline_s = started_s + START_UP_S + self._plan.pretrigger * INTERVAL_S
        while not self._ready():
            self._receive()
            if now_s() > deadline_s:
                raise MeterError(
                    f"{self._port.where}: has sent no samples that could be made out: take its cable out and in"
                )
        self._armed = True
        assert self._stream.latest_start_s is not None
        return started_s + (SETTLING - STALE) * INTERVAL_S, self._stream.latest_start_s

    def drain(self) -> Drained:
        if not self._complete:
            self._receive()
        if self._complete and self._lost:
            self._blocks.append(Block(np.empty(0, np.float32), lost=self._lost))
            self._lost = 0
        blocks, self._blocks = self._blocks, []
        return Drained(blocks, self._complete)

    def conclude(self, received: int) -> Conclusion:
        self._port.stop()
        reasons = []
        if self._open_ended:
            reasons.append("how many samples were lost is open: the counter wraps every 64, and the time does not tell")
        if self._silent:
            reasons.append("the samples took longer than their number says: some were lost in exact multiples of 64")
        if self._stream.discarded:
            reasons.append(f"{self._stream.discarded} bytes belonged to no sample")
        triggered = self._plan.trigger.source != "immediate"
        return Conclusion(tuple(reasons), self._plan.pretrigger if triggered and received else None)

    def abort(self) -> None:
        try:
            if self._armed and not self._stopped:
                self._prove()
        finally:
            self._stopped = True
            self._port.stop()
        for data, arrived_s in self._port.take(0.0):
            self._take(self._stream.feed(data, arrived_s))
        self._take(self._stream.finish())

    @property
    def _complete(self) -> bool:
        return self._stopped or (self._end is not None and self._stream.proven >= self._end)

    def _prove(self) -> None:
        """Receive until nothing of what has come so far can have been lost without a sign."""
        end = self._stream.counted
        while self._stream.proven < end:
            self._receive()

    def _ready(self) -> bool:
        return self._stream.latest_start_s is not None and self._ring_count >= (
            0 if self._triggered else self._plan.pretrigger
        )

    def _receive(self) -> None:
        chunks = self._port.take(timeout_s=0.1)
        for data, arrived_s in chunks:
            self._heard_s = arrived_s
            self._take(self._stream.feed(data, arrived_s))
        if now_s() - self._heard_s > SILENT_S:
            raise MeterError(f"{self._port.where}: has stopped sending samples: take its cable out and in")

    def _take(self, pieces: list[Words | Lost]) -> None:
        for piece in pieces:
            if isinstance(piece, Lost):
                self._lose(piece)
            elif self._triggered:
                self._record(piece)
            else:
                self._look(piece)

    def _look(self, words: Words) -> None:
        found = self._finder.find(words)
        if found is None or not self._armed:
            self._keep(words)
            return
        # The line is read at some instant of a sample: only the next one begins after the edge for certain.
        first = found + 1
        self._keep(words[:first])
        self._triggered = True
        for piece in self._ring:
            self._take([piece])
        self._ring.clear()
        self._record(words[first:])

    def _keep(self, piece: Words | Lost) -> None:
        """Put *piece* into the ring, and out of it what is older than the samples before the trigger."""
        self._ring.append(piece)
        self._ring_count += _samples(piece)
        while self._ring and (spare := self._ring_count - self._plan.pretrigger) > 0:
            oldest = self._ring.popleft()
            self._ring_count -= _samples(oldest)
            if _samples(oldest) > spare:
                kept = Lost(oldest.count - spare, oldest.certain) if isinstance(oldest, Lost) else oldest[spare:]
                self._ring.appendleft(kept)
                self._ring_count += _samples(kept)

    def _lose(self, lost: Lost) -> None:
        self._finder.forget()
        if not self._triggered:
            self._keep(lost)
            return
        self._silent |= lost.silent
        count = self._room(lost.count)
        self._open_ended |= count > 0 and not (lost.certain or lost.silent)
        self._lost += count
        self._count(count)

    def _record(self, words: Words) -> None:
        words = words[: self._room(len(words))]
        if not len(words):
            return
        self._count(len(words))
        self._blocks.append(Block(currents_a(words, self._table), None, self._lost, self._changes(words)))
        self._lost = 0

    def _count(self, samples: int) -> None:
        self._taken += samples
        if self._taken == self._plan.count:
            self._end = self._stream.counted

    def _room(self, count: int) -> int:
        return count if self._plan.count is None else min(count, self._plan.count - self._taken)

    def _changes(self, words: Words) -> tuple[Noted, ...]:
        first = self._before is None
        before = int(words[0]) if self._before is None else self._before
        found = changes(words, before)
        self._before = int(words[-1])
        ranged = _differs(found.ranges, before >> RANGE_SHIFT & 7)
        lined = _differs(found.logic, before >> LOGIC_SHIFT)
        noted: list[Noted] = [
            (Change.RANGE, found.samples[ranged], found.ranges[ranged]),
            (Change.LOGIC, found.samples[lined], found.logic[lined]),
            (Change.UNCERTAIN, *self._uncertain(words, found.samples[ranged])),
        ]
        if first:
            zero = np.zeros(1, np.int64)
            noted.insert(0, (Change.LOGIC, zero, np.array([before >> LOGIC_SHIFT])))
            noted.insert(0, (Change.RANGE, zero, np.array([before >> RANGE_SHIFT & 7])))
        return tuple(change for change in noted if len(change[1]))

    @staticmethod
    def _uncertain(words: Words, changed: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the samples after each range change, and those at the end of the converter, with how many they are.

        A step that is faster than the ranging leaves such a sample: the current was higher than it says.
        """
        full = np.flatnonzero((words & np.uint32(ADC_FULL_SCALE)) == ADC_FULL_SCALE)
        samples = np.concatenate((changed, full))
        counts = np.concatenate((np.full(len(changed), UNCERTAIN_SAMPLES), np.ones(len(full), np.int64)))
        order = np.argsort(samples, kind="stable")
        return samples[order], counts[order]


class Finder:
    """Looks for the trigger in one block of samples after the other."""

    def __init__(self, trigger: Trigger, table: NDArray[np.float32]) -> None:
        self._trigger = trigger
        self._table = table
        self.forget()

    def forget(self) -> None:
        """Begin anew after lost samples: nothing is an edge across them."""
        self._word: int | None = None
        self._high: bool | None = None
        self._distrusted = 0

    def find(self, words: Words) -> int | None:
        """Return the sample at which line or current is first seen beyond the edge; None where there is none."""
        if self._trigger.level_a is None:
            samples, high = np.arange(len(words)), (words & TRIGGER_LINE) != 0
        else:
            samples = self._trusted(words)
            high = currents_a(words, self._table)[samples] >= self._trigger.level_a
        if not len(samples):
            return None
        before = np.concatenate(([high[0] if self._high is None else self._high], high[:-1]))
        self._high = bool(high[-1])
        crossed = (high != before) & (high == self._trigger.rising)
        return int(samples[np.argmax(crossed)]) if crossed.any() else None

    def _trusted(self, words: Words) -> NDArray[np.int64]:
        """Return the samples that no range change has made uncertain: a level is not crossed by a spike."""
        before = int(words[0]) if self._word is None else self._word
        found = changes(words, before)
        trusted = np.ones(len(words) + UNCERTAIN_SAMPLES, bool)
        trusted[: self._distrusted] = False
        for sample in found.samples[_differs(found.ranges, before >> RANGE_SHIFT & 7)]:
            trusted[sample : sample + UNCERTAIN_SAMPLES] = False
        self._word = int(words[-1])
        self._distrusted = int(np.count_nonzero(~trusted[len(words) :]))
        return np.flatnonzero(trusted[: len(words)])


def limited(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return *table* with what is beyond the instrument's limit reading as too much (SCPI's 9.9e37)."""
    copy = table.copy()
    widest = copy[(RANGES - 1) << RANGE_SHIFT : RANGES << RANGE_SHIFT]
    widest[widest > MAX_A] = 10 * OVERLOAD_READING
    return copy


def _samples(piece: Words | Lost) -> int:
    return piece.count if isinstance(piece, Lost) else len(piece)


def _differs(values: NDArray[np.uint8], before: int) -> NDArray[np.bool_]:
    return np.asarray(np.diff(values.astype(np.int64), prepend=before) != 0)
