"""What is odd about Keysight's Truevolt multimeters.

Source: Truevolt Series Operating and Service Guide, chapter SCPI programming reference. ``R?`` takes readings out of
the memory and may give fewer than asked for; readings taken out before the trigger would be lost to the pretrigger
count; a memory that ran over tells so in a status bit and nowhere else.
"""

import time

import numpy as np

from rig.clock import now_s
from rig.meter.acquisition import Block, CapturePlan, Conclusion, Drained
from rig.meter.protocol import MeterError
from rig.meter.scpi.meter import ScpiMeter
from rig.meter.visa import compound

MEASURING = 1 << 4
WAITING_FOR_TRIGGER = 1 << 5
#: Readings asked for at a time: half a megabyte, so that an answer stays far below the session's timeout.
READINGS_PER_QUERY = 65536
#: The instrument is slower than its settings by less than this before it takes the first reading.
START_UP_S = 2.0


class Truevolt(ScpiMeter):
    """A Truevolt multimeter measuring DC current, one function at a time."""

    def acquisition(self, plan: CapturePlan) -> "TruevoltAcquisition":
        return TruevoltAcquisition(self, plan)


class TruevoltAcquisition:
    """See ``rig.meter.acquisition.Acquisition``."""

    poll_s = 0.03

    def __init__(self, meter: Truevolt, plan: CapturePlan) -> None:
        assert plan.count is not None
        self._meter = meter
        self._session = meter.session
        self._plan = plan
        self._count = plan.count
        self._triggered = not plan.pretrigger
        self._pretrigger_full = False

    def start(self) -> tuple[float, float]:
        before_s = now_s()
        # The answer proves that INITiate has been executed: it happened between the two stamps.
        self._session.query(compound(*self._meter.declaration.commands.start, "STAT:OPER:COND?"))
        armed = before_s, now_s()
        refused = self._session.drain_errors("starting")
        if refused:
            raise MeterError(f"{self._meter.where}: refused the capture: {'; '.join(refused)}")
        if self._plan.pretrigger:
            self._wait_for_pretrigger()
        return armed

    def drain(self) -> Drained:
        points, state = self._points_and_state()
        over = not state & (MEASURING | WAITING_FOR_TRIGGER)
        self._triggered = self._triggered or over or points > self._plan.pretrigger
        if not self._triggered:
            return Drained((), finished=False)
        blocks = []
        while points > 0:
            taken = self._take(min(points, READINGS_PER_QUERY))
            # A setting that was changed from elsewhere in between has cleared the memory: there is nothing any more.
            points = points - len(taken.current_a) if len(taken.current_a) else self._points_left()
            blocks.append(taken)
        return Drained(blocks, finished=over)

    def conclude(self, received: int) -> Conclusion:
        status = self._meter.declaration.status
        assert status is not None
        condition, event = self._session.query_integers(*status.queries)
        self._session.drain_errors("capture")
        reasons = status.reasons(condition | event)
        early = self._count - received
        # Fewer readings are right only where the trigger came before all pretrigger readings had been taken.
        most = 0 if self._pretrigger_full else self._plan.pretrigger
        if not 0 <= early <= most:
            reasons.append(f"{received} readings instead of {self._count}")
        return Conclusion(tuple(reasons), self._plan.pretrigger - early)

    def abort(self) -> None:
        self._session.command("aborting", *self._meter.declaration.commands.abort)

    def _points_and_state(self) -> tuple[int, int]:
        # The state comes first: what it calls finished is all counted by the second.
        state, points = self._session.query_integers("STAT:OPER:COND?", "DATA:POIN?")
        return points, state

    def _take(self, count: int) -> Block:
        readings = np.frombuffer(self._session.query_block(f"R? {count}"), dtype=">f8").astype(np.float64)
        return Block(readings)

    def _points_left(self) -> int:
        points, _ = self._points_and_state()
        if points:
            raise MeterError(f"{self._meter.where}: holds {points} readings but gives none")
        return 0

    def _wait_for_pretrigger(self) -> None:
        """Wait until all pretrigger readings are there: a trigger that came earlier would find fewer."""
        plan = self._plan
        deadline_s = now_s() + plan.pretrigger * plan.interval_s + START_UP_S
        while True:
            points, state = self._points_and_state()
            self._pretrigger_full = points >= plan.pretrigger
            if self._pretrigger_full or not state & WAITING_FOR_TRIGGER:
                return
            if now_s() > deadline_s:
                raise MeterError(
                    f"{self._meter.where}: took {points} of {plan.pretrigger} readings before the trigger in the time "
                    "for all of them: it does not sample while it waits for its trigger"
                )
            time.sleep(self.poll_s / 3)
