"""What is odd about Keithley's DMM6500 and DMM7510.

Sources: DMM7510 Reference Manual DMM7510-901-01 Rev. B; behaviour of the trigger model as users have measured it.

- A trigger model of numbered blocks takes the place of sample counts. Readings go on in the background until another
  block takes them (page 6-202 of the 2461's manual); so they keep their step across a trigger, and the analog trigger,
  which sees only what is being digitized, needs them.
- A buffer that fills continuously wraps, silently, and its indexes with it: after 150 readings into 100 the newest
  stands at 50 (page 3-15). Which reading of all that is, its time stamp tells: the time since the first one.
- Binary answers are blocks of indefinite length.
- No interval longer than a millisecond: longer ones are means of several readings, which follow without a gap.
"""

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.clock import now_s
from rig.meter.acquisition import Block, CapturePlan, Conclusion, Drained
from rig.meter.protocol import MeterError, Settings, Trigger
from rig.meter.scpi.meter import ScpiMeter
from rig.meter.visa import compound

BUFFER = '"defbuffer1"'
MAX_INTERVAL_S = 1e-3
MIN_CAPACITY = 10
#: What one buffer is made to hold at most; the two default buffers share the memory for some seven million readings.
MAX_CAPACITY = 6_000_000
#: Readings asked for at a time: a quarter of a megabyte.
READINGS_PER_QUERY = 65536
QUERIES_PER_DRAIN = 16
#: From INITiate to the first reading, or to where a trigger is seen: 1.6 to 2.6 ms have been measured.
START_UP_S = 5e-3
#: What the instrument may be slower than its settings before it has the readings that precede a trigger.
PATIENCE_S = 2.0
#: A capture that nobody ends, since the rig is gone, ends by itself after this many times the delay.
LAST_STOP_S = 7 * 24 * 3600
DELAY_S = 600
#: How far a time stamp may be from where the readings before it put it: two of them, and this share of its time.
STAMP_TOLERANCE = 1e-4
#: What is larger is no current (SCPI-99 7.2.1.5).
OVERRANGE = 9.9e36
BUSY = ("RUNNING", "WAITING", "PAUSED", "BUILDING", "ABORTING")
DISCARDED = "4915,"


class Keithley(ScpiMeter):
    """A DMM6500 or DMM7510 with the command set SCPI, digitizing DC current."""

    def check(self) -> None:
        language = self.session.query("*LANG?")
        if language != "SCPI":
            raise MeterError(
                f"{self.where}: its command set is {language}, and this driver speaks SCPI: choose SCPI in the "
                "instrument's menu (System, Settings) and switch it off and on"
            )

    def acquisition(self, plan: CapturePlan) -> "KeithleyAcquisition":
        return KeithleyAcquisition(self, plan)

    def _plan(self, *arguments: Any) -> CapturePlan:
        plan = super()._plan(*arguments)
        held = MAX_CAPACITY // readings_per_sample(plan.interval_s)
        if plan.trigger.source != "immediate" and (plan.count is None or plan.count > held):
            raise MeterError(
                f"{self.where}: holds {held} samples around a trigger, {held * plan.interval_s:g} s: give a shorter "
                "duration_s, a longer interval_s, or no trigger"
            )
        if plan.trigger.source == "immediate" or plan.pretrigger:
            return plan
        # The sampling waits for no trigger: it falls between two readings, also where none before it is wanted.
        return replace(plan, trigger_latency_s=plan.trigger_latency_s + plan.interval_s)

    def _sampling(
        self, range_a: float | None, interval_s: float, count: int | None, pretrigger: int, trigger: Trigger
    ) -> Settings:
        readings = readings_per_sample(interval_s)
        commands = self.declaration.filled(
            self.declaration.commands.sampling,
            trigger.source,
            count=count,
            pretrigger=pretrigger,
            level_a=trigger.level_a,
            edge="RIS" if trigger.rising else "FALL",
        )
        self.group("sampling", f"DIG:CURR:SRAT {readings / interval_s:.9g}", *commands)
        reading_s = 1 / self.session.query_float("DIG:CURR:SRAT?")
        # An automatic aperture may be told as 0: it is the interval.
        aperture_s = self.session.query_float("DIG:CURR:APER?") or reading_s
        return Settings(range_a, readings * reading_s, readings * aperture_s)


def readings_per_sample(interval_s: float) -> int:
    """Return how many of the digitizer's readings make one sample."""
    return max(math.ceil(interval_s / MAX_INTERVAL_S * (1 - 1e-6)), 1)


class KeithleyAcquisition:
    """See ``rig.meter.acquisition.Acquisition``. What it counts is readings; ``_mean`` makes samples of them.

    Around a trigger everything is read when it is over; without one while it is taken: out of a buffer that holds all
    of it, or out of one that wraps.
    """

    poll_s = 0.03

    def __init__(self, meter: Keithley, plan: CapturePlan) -> None:
        self._meter = meter
        self._session = meter.session
        self._plan = plan
        self._mean = Mean(readings_per_sample(plan.interval_s))
        self._reading_s = plan.interval_s / self._mean.of
        self._count = None if plan.count is None else plan.count * self._mean.of
        self._before = plan.pretrigger * self._mean.of
        self._triggered = plan.trigger.source != "immediate"
        self._wraps = self._triggered or self._count is None or self._count > MAX_CAPACITY
        wanted = MAX_CAPACITY if self._count is None else min(self._count, MAX_CAPACITY)
        self._capacity = max(wanted, MIN_CAPACITY)
        self._cursor = 0
        self._trigger_index: int | None = None
        self._state = "IDLE"
        self._reasons: list[str] = []

    def start(self) -> tuple[float, float]:
        meter = self._meter
        mode = "CONT" if self._wraps else "ONCE"
        blocks = [f"TRIG:BLOC:{_numbered(number, block)}" for number, block in enumerate(self._blocks(), 1)]
        meter.group("buffer", f"TRAC:FILL:MODE {mode},{BUFFER}", f"TRAC:POIN {self._capacity},{BUFFER}")
        meter.group("trigger model", 'TRIG:LOAD "EMPTY"', *blocks)
        before_s = now_s()
        # The answer proves that INITiate has been executed: readings begin some milliseconds after it.
        self._session.query(compound(*meter.declaration.commands.start, "TRIG:STAT?"))
        armed = before_s, now_s() + START_UP_S
        refused = self._session.drain_errors("starting")
        if refused:
            raise MeterError(f"{meter.where}: refused the capture: {'; '.join(refused)}")
        if self._triggered:
            time.sleep(START_UP_S)
            self._wait_for_pretrigger()
        return armed

    def drain(self) -> Drained:
        # The state comes first: what it calls finished is all counted by the second.
        state, *_, end = self._session.query(compound("TRIG:STAT?", f"TRAC:ACT:END? {BUFFER}")).split(";")
        self._state = state
        over = state not in BUSY
        if self._triggered:
            return Drained(self._around_trigger(int(end)) if over else (), finished=over)
        newest = self._newest(int(end))
        blocks: list[Block] = []
        while self._cursor < self._last(newest) and len(blocks) < QUERIES_PER_DRAIN:
            newest = self._take(blocks, newest)
        complete = self._cursor == self._last(newest)
        if self._count is not None and self._cursor == self._count and not over:
            self.abort()
            over = True
        return Drained(blocks, finished=over and complete)

    def conclude(self, received: int) -> Conclusion:
        events = self._session.drain_errors("capture")
        if any(event.startswith(DISCARDED) for event in events):
            self._reasons.append("readings discarded, the buffer being full (event 4915)")
        if self._state == "FAILED":
            self._reasons.append("its trigger model has failed")
        plan = self._plan
        if plan.count is not None and received != plan.count - plan.pretrigger + (self._trigger_index or 0):
            self._reasons.append(f"{received} samples instead of {plan.count}")
        return Conclusion(tuple(self._reasons), self._trigger_index)

    def abort(self) -> None:
        self._session.command("aborting", *self._meter.declaration.commands.abort)

    # The trigger model

    def _blocks(self) -> list[str]:
        clear, endless = f"BUFF:CLE {BUFFER}", f"MDIG {BUFFER},INF"
        if self._triggered:
            assert self._count is not None
            event = {"external": "EXT", "level": "ATR"}[self._plan.trigger.source]
            return [clear, endless, f"WAIT {event},ENT", f"MDIG {BUFFER},{self._count - self._before}"]
        if not self._wraps:
            return [clear, f"MDIG {BUFFER},{self._count}"]
        delays = LAST_STOP_S // DELAY_S
        return [clear, endless, f"DEL:CONS {DELAY_S}", f"BRAN:COUN {delays},3", f"MDIG {BUFFER},0"]

    def _wait_for_pretrigger(self) -> None:
        """Wait until all readings before the trigger are there: one that came earlier would find fewer."""
        deadline_s = now_s() + self._before * self._reading_s + PATIENCE_S
        while True:
            (count,) = self._session.query_integers(f"TRAC:ACT? {BUFFER}")
            if count >= self._before or now_s() > deadline_s:
                break
            time.sleep(self.poll_s / 3)
        if count < self._before:
            raise MeterError(
                f"{self._meter.where}: took {count} of {self._before} readings before the trigger in the time for all "
                "of them: it does not digitize while it waits"
            )

    # Readings

    def _last(self, newest: int) -> int:
        """Return the number of the last reading that is wanted of those that there are."""
        return newest if self._count is None else min(newest, self._count)

    def _newest(self, end: int) -> int:
        """Return how many readings there have been, the newest standing at the index *end*.

        Raises:
            MeterError: its time stamp fits no reading at this place.
        """
        if not end:
            return 0
        stamp_s = float(self._read(end, end, "REL")[0])
        by_time = stamp_s / self._reading_s + 1
        if not math.isfinite(by_time):
            raise self._misplaced(end, stamp_s)
        newest = end + self._capacity * max(round((by_time - end) / self._capacity), 0) if self._wraps else end
        if abs(newest - by_time) > 2 + STAMP_TOLERANCE * by_time:
            raise self._misplaced(end, stamp_s)
        return newest

    def _misplaced(self, end: int, stamp_s: float) -> MeterError:
        return MeterError(
            f"{self._meter.where}: the reading at index {end} has the time stamp {stamp_s:g} s, which does not fit "
            f"readings every {self._reading_s:g} s: readings are missing, or the byte order is not what was set"
        )

    def _take(self, blocks: list[Block], newest: int) -> int:
        """Read on from the cursor; what has been overwritten is lost. Return how many readings there are then."""
        last = self._last(newest)
        first = min(max(self._cursor, newest - self._capacity), last)
        if first == last:
            blocks.append(self._mean.block(np.empty(0, np.float32), lost=first - self._cursor))
            self._cursor = first
            return newest
        index = first % self._capacity
        size = min(last - first, READINGS_PER_QUERY, self._capacity - index)
        readings = self._read(index + 1, index + size, "READ")
        (end,) = self._session.query_integers(f"TRAC:ACT:END? {BUFFER}")
        newest = self._newest(end)
        # What the instrument has written over while it was being read.
        spoilt = min(max(newest - self._capacity - first, 0), size) if self._wraps else 0
        blocks.append(self._mean.block(readings[spoilt:], lost=first - self._cursor + spoilt))
        self._cursor = first + size
        return newest

    def _around_trigger(self, end: int) -> list[Block]:
        """Return what the buffer holds when all is over: the wanted samples before the trigger, and those after it."""
        assert self._count is not None
        newest = self._newest(end)
        after = self._count - self._before
        before = min(max(newest - after, 0), self._before) // self._mean.of * self._mean.of
        self._trigger_index = before // self._mean.of
        self._cursor = max(newest - after - before, 0)
        blocks: list[Block] = []
        while self._cursor < newest:
            index = self._cursor % self._capacity
            size = min(newest - self._cursor, READINGS_PER_QUERY, self._capacity - index)
            blocks.append(self._mean.block(self._read(index + 1, index + size, "READ")))
            self._cursor += size
        return blocks

    def _read(self, first: int, last: int, element: str) -> NDArray[np.float32]:
        size = last - first + 1
        data = self._session.query_indefinite(f":TRAC:DATA? {first},{last},{BUFFER},{element}", 4 * size)
        return np.frombuffer(data, dtype="<f4")


class Mean:
    """Makes samples of readings: the mean of every *of*; where one is overrange the sample is."""

    def __init__(self, of: int) -> None:
        self.of = of
        self._rest: NDArray[np.float32] = np.empty(0, np.float32)
        self._skip = 0

    def block(self, readings: NDArray[np.float32], lost: int = 0) -> Block:
        """Return the samples that are complete with *readings*, before which *lost* readings are missing."""
        if self.of == 1:
            return Block(readings, lost=lost)
        if lost:
            gone = len(self._rest) + lost - self._skip
            lost = max(math.ceil(gone / self.of), 0)
            # The sample that the gap ends in is lost as well: what is left of it is dropped.
            self._rest, self._skip = self._rest[:0], lost * self.of - gone
        dropped = min(self._skip, len(readings))
        self._skip -= dropped
        readings = np.concatenate((self._rest, readings[dropped:]))
        whole = len(readings) // self.of * self.of
        self._rest = readings[whole:]
        samples = readings[:whole].reshape(-1, self.of)
        overrange = np.abs(samples).max(axis=1, initial=0.0) > OVERRANGE
        means = samples.mean(axis=1, dtype=np.float64)
        return Block(np.where(overrange, 10 * OVERRANGE, means), lost=lost)


def _numbered(number: int, block: str) -> str:
    """Put the *number* of a block where its command has it: first of all arguments."""
    name, _, arguments = block.partition(" ")
    return f"{name} {number},{arguments}"
