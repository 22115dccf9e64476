"""What is odd about Keysight's N6705C with an N678xA source measure unit.

It has two ways to record. An acquisition holds what fits the memory, at up to 97 kSa/s with the voltage beside the
current, with samples before the trigger; it is read when it is complete. The external data log streams rows of means,
minima and maxima; its FIFO holds about 20 s and then overwrites the oldest without a word (N6700C Operating and Service
Guide, pages 143 to 147). Captures go to the log wherever it can do them: means lose no charge between samples, and what
arrives is on disk at once.

What a point of an acquisition stands for at intervals longer than the shortest is not documented: it is taken to be
the mean over the shortest one.

Seamless ranging does not say which range a sample was taken on. The range named is the widest that its amplitude, and
those shortly before it, allow (:mod:`rig.meter.scpi.ranging`); in the log it is judged by the largest current of each
row. On a fixed range there is no such doubt.
"""

import math
import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rig.clock import now_s
from rig.meter.acquisition import Acquisition, Block, CapturePlan, Conclusion, Drained
from rig.meter.protocol import MeterError, Settings, Trigger
from rig.meter.scpi.declaration import Log
from rig.meter.scpi.meter import ScpiMeter
from rig.meter.scpi.ranging import Changes, WidestPossible
from rig.meter.visa import compound

MEASURING = 1 << 5
#: After INITiate the instrument needs a moment before it takes a trigger (WTG-meas tells so on the N6700C only).
ARMING_S = 0.02
#: The pretrigger is taken to be full after this much more than its time: clock error, and arming.
PRETRIGGER_SLACK = 1.01
ROW = 4
ROWS_PER_QUERY = 8192
#: The FIFO of the log holds "about 20 seconds": after this long without being emptied it may have run over.
FIFO_S = 18.0
#: Rows may come in batches, and a little after their end.
ROW_DELAY_S = 0.25


class N6705(ScpiMeter):
    """An N6705C with an N678xA in slot 1, in voltage priority: it feeds the board and measures what it gives."""

    _logging = False

    def check(self) -> None:
        module = self.session.query("SYST:CHAN:MOD? (@1)").strip('"')
        if not module.startswith("N678"):
            raise MeterError(f"{self.where}: has a {module} in slot 1; this driver is for an N6781A there")

    def acquisition(self, plan: CapturePlan) -> Acquisition:
        return LogAcquisition(self, plan) if self._logging else ScopeAcquisition(self, plan)

    def ranges_of(self, ranges_a: tuple[float, ...], interval_s: float) -> tuple[float, ...]:  # noqa: ARG002
        return ranges_a

    def _sampling(
        self, range_a: float | None, interval_s: float, count: int | None, pretrigger: int, trigger: Trigger
    ) -> Settings:
        log, memory = self.log, self.declaration.max_pretrigger
        self._logging = (
            interval_s >= log.min_interval_s * (1 - 1e-9) and not pretrigger and trigger.source in log.trigger
        )
        if self._logging:
            return self._log_sampling(log, range_a, interval_s, trigger)
        if count is None or count > memory:
            wanted = "a capture without end" if count is None else f"{count} samples"
            raise MeterError(
                f"{self.where}: {wanted} at {interval_s:g} s does not fit its memory of {memory}: record shorter, or "
                f"at {log.min_interval_s:g} s or more with nothing before the trigger"
            )
        settings = super()._sampling(range_a, interval_s, count, pretrigger, trigger)
        return replace(settings, aperture_s=min(settings.interval_s, self.declaration.min_interval_s))

    @property
    def log(self) -> Log:
        assert self.declaration.log is not None
        return self.declaration.log

    def _log_sampling(self, log: Log, range_a: float | None, interval_s: float, trigger: Trigger) -> Settings:
        slope = "POS" if trigger.rising else "NEG"
        self.group(
            "sampling", *self.declaration.filled(log.sampling, trigger.source, log, interval_s=interval_s, slope=slope)
        )
        period_s = self.session.query_float(log.readback.interval_s)
        return Settings(range_a, period_s, period_s)

    def start(self, *commands: str) -> tuple[float, float]:
        """Send *commands*; return two rig times between which they were executed.

        Raises:
            MeterError: the instrument refused one.
        """
        before_s = now_s()
        self.session.query(compound(*commands, "STAT:OPER:COND? (@1)"))
        between = before_s, now_s()
        refused = self.session.drain_errors("starting")
        if refused:
            raise MeterError(f"{self.where}: refused the capture: {'; '.join(refused)}")
        return between

    def ranger(self, plan: CapturePlan) -> WidestPossible:
        """Return what names the range of each sample of *plan*."""
        settles_s = self.declaration.ranging_settles_s
        assert settles_s is not None
        return WidestPossible(plan.ranges_a, math.ceil(settles_s / plan.interval_s))

    def status_reasons(self) -> list[str]:
        """Return what the output did during the capture that makes it invalid."""
        status = self.declaration.status
        assert status is not None
        condition, event = self.session.query_integers(*status.queries)
        self.session.drain_errors("capture")
        return status.reasons(condition | event)


class ScopeAcquisition:
    """An acquisition into memory; see ``rig.meter.acquisition.Acquisition``."""

    poll_s = 0.03

    def __init__(self, meter: N6705, plan: CapturePlan) -> None:
        self._meter = meter
        self._session = meter.session
        self._plan = plan
        self._aborted = False

    def start(self) -> tuple[float, float]:
        plan = self._plan
        armed = self._meter.start(*self._meter.declaration.commands.start)
        # A trigger that comes before all samples before it are there is ignored, and the capture would never end.
        time.sleep(ARMING_S + plan.pretrigger * plan.interval_s * PRETRIGGER_SLACK)
        return self._meter.start("TRIG:ACQ (@1)") if plan.trigger.source == "immediate" else armed

    def drain(self) -> Drained:
        if self._aborted:
            return Drained((), finished=True)
        if self._session.query_integers("STAT:OPER:COND? (@1)")[0] & MEASURING:
            return Drained((), finished=False)
        current = self._fetch("FETC:ARR:CURR? (@1)")
        block = Block(
            current, self._fetch("FETC:ARR:VOLT? (@1)"), changes=self._meter.ranger(self._plan).changes(current)
        )
        return Drained((block,), finished=True)

    def conclude(self, received: int) -> Conclusion:
        reasons = self._meter.status_reasons()
        if received != self._plan.count:
            reasons.append(f"{received} samples instead of {self._plan.count}")
        return Conclusion(tuple(reasons), self._plan.pretrigger)

    def abort(self) -> None:
        self._aborted = True
        self._session.command("aborting", *self._meter.declaration.commands.abort)

    def _fetch(self, query: str) -> NDArray[np.float32]:
        return np.frombuffer(self._session.query_block(query), ">f4").astype(np.float32)


class LogAcquisition:
    """The external data log, emptied while it fills; see ``rig.meter.acquisition.Acquisition``."""

    poll_s = 0.2

    def __init__(self, meter: N6705, plan: CapturePlan) -> None:
        self._meter = meter
        self._session = meter.session
        self._plan = plan
        self._ranger = meter.ranger(plan)
        self._pace = Pace(plan.interval_s)
        self._running = self._ended = False
        self._received = 0
        self._left: tuple[Block, ...] = ()
        self._reasons: list[str] = []
        self._emptied_s: float | None = None

    def start(self) -> tuple[float, float]:
        armed = self._meter.start(*self._meter.log.start)
        self._running = True
        time.sleep(ARMING_S)
        if self._plan.trigger.source == "immediate":
            armed = self._meter.start("TRIG:ELOG (@1)")
            self._pace.begun(armed[1])
        return armed

    def drain(self) -> Drained:
        if self._ended:
            left, self._left = self._left, ()
            return Drained(left, finished=True)
        block = self._take()
        finished = self._plan.count is not None and self._received >= self._plan.count
        if finished:
            self._end()
        return Drained((block,) if len(block.current_a) or block.lost else (), finished)

    def conclude(self, received: int) -> Conclusion:
        reasons = self._meter.status_reasons() + self._reasons
        if self._plan.count is not None and received < self._plan.count:
            reasons.append(f"{received} samples instead of {self._plan.count}")
        return Conclusion(tuple(reasons), 0)

    def abort(self) -> None:
        """Stop logging; rows that the FIFO still holds are kept for the last ``drain``."""
        if self._ended:
            return
        try:
            if self._running:
                self._left = (self._take(),)
        finally:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._session.command("aborting", *self._meter.log.abort)

    def _take(self) -> Block:
        """Empty the FIFO; what it has overwritten meanwhile is missing before its oldest row."""
        parts: list[NDArray[np.float32]] = []
        while not parts or len(parts[-1]) == ROWS_PER_QUERY:
            before_s = now_s()
            payload = self._session.query_block(f"FETC:ELOG? {ROWS_PER_QUERY},(@1)")
            parts.append(np.frombuffer(payload, ">f4").astype(np.float32).reshape(-1, ROW))
        rows = np.concatenate(parts)
        lost = self._overwritten(len(rows), before_s, now_s())
        if self._plan.count is not None:
            rows = rows[: max(self._plan.count - self._received - lost, 0)]
        self._received += lost + len(rows)
        return Block(rows[:, 0], rows[:, 3], lost=lost, changes=self._changes(rows))

    def _overwritten(self, rows: int, before_s: float, after_s: float) -> int:
        if self._emptied_s is not None and before_s - self._emptied_s > FIFO_S:
            self._reasons.append(
                f"the data log was not emptied for {before_s - self._emptied_s:.1f} s, and holds about 20 s"
            )
        self._emptied_s = after_s
        # Before the first row its trigger has not come.
        return self._pace.lost(rows, before_s, after_s) if rows or self._received else 0

    def _changes(self, rows: NDArray[np.float32]) -> Changes:
        return self._ranger.changes(np.abs(rows[:, :3]).max(axis=1)) if len(rows) else ()


class Pace:
    """Compares how many rows have come with the time that has passed: what was overwritten shows as a delay."""

    #: How far the instrument's clock may be off, relatively.
    DRIFT = 5e-4

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._count = 0
        self._latest_s = math.inf
        self._seen_s = 0.0

    def begun(self, after_s: float) -> None:
        """Take note that logging began before *after_s*."""
        self._latest_s = self._seen_s = after_s

    def lost(self, rows: int, before_s: float, after_s: float) -> int:
        """Return how many rows are missing before *rows* more, which were all that there were.

        The last of them was fetched between *before_s* and *after_s*. Row n is there from some instant on, and
        ``_latest_s`` is the latest that this can be for row 0, whatever took long on the way: only a delay beyond it is
        a loss, and never one on the side of the host.
        """
        self._latest_s += self.DRIFT * (after_s - self._seen_s) if math.isfinite(self._latest_s) else 0.0
        self._seen_s = after_s
        self._count += rows
        ahead_s = before_s - self._count * self._interval_s - self._latest_s
        missing = 0
        if ahead_s > self._interval_s + ROW_DELAY_S:
            missing = round(ahead_s / self._interval_s)
            self._count += missing
        self._latest_s = min(self._latest_s, after_s - self._count * self._interval_s)
        return missing
