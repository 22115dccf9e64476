"""One triggered acquisition of a Truevolt multimeter, written to disk while it arrives."""

import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from rig.clock import now_s
from rig.energy import Header, RangeAccuracy, RecordingWriter, Waveform, load_recording
from rig.errors import BenchError
from rig.meter.protocol import CaptureInvalid, CaptureTimeout, Identity, MeterError, Trigger
from rig.meter.visa import VisaSession, compound

POLL_S = 0.03
#: Readings asked for at a time: half a megabyte, so that an answer stays far below the session's timeout.
READINGS_PER_QUERY = 65536
#: The instrument is slower than its settings by less than this before it takes the first reading.
START_UP_S = 2.0
#: From an edge on the external trigger input to the first reading after it: at most this.
TRIGGER_LATENCY_S = 10e-6

OVERLOAD_READING = 9.9e37
MEASURING = 1 << 4
WAITING_FOR_TRIGGER = 1 << 5
#: Bits of the questionable data register (Operating and Service Guide, STATus subsystem). Bit 1 is an event only.
QUESTIONABLE = {1: "current overload", 2: "sample timing violation", 14: "reading memory overflow"}


@dataclass(frozen=True)
class CapturePlan:
    """What will be recorded, with the interval and aperture that the instrument read back."""

    path: Path
    range_a: float
    interval_s: float
    aperture_s: float
    count: int
    pretrigger: int
    trigger: Trigger
    identity: Identity
    accuracy: RangeAccuracy | None


class KeysightCapture:
    """A capture between arming (entering) and aborting (leaving). See ``rig.meter.protocol.Capture``."""

    def __init__(self, session: VisaSession, plan: CapturePlan) -> None:
        self._session = session
        self._plan = plan
        self._fetcher = threading.Thread(target=self._fetch, name="meter fetch", daemon=True)
        self._leave = threading.Event()
        self._failure: BenchError | None = None
        self._complete = False
        self._received = 0
        self._overloads = 0
        self._first_overload = 0
        self._pretrigger_full = False
        self._early = 0
        self._questionable = 0
        self._first_error = len(session.errors)
        self._armed: tuple[float, float] | None = None
        self._reported = False

    def __enter__(self) -> Self:
        before_s = now_s()
        # The answer proves that INITiate has been executed: it happened between the two stamps.
        self._session.query(compound("*CLS", "INIT", "STAT:OPER:COND?"))
        self._armed = (before_s, now_s())
        try:
            self._refuse_errors("starting")
            if self._plan.pretrigger:
                self._wait_for_pretrigger()
        except BaseException:
            self._abort()
            raise
        self._fetcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        self._fetcher.join()
        if not self._complete:
            self._abort_on_leaving(error)
        if error is None and self._failure is not None and not self._reported:
            raise self._failure

    def _abort_on_leaving(self, error: BaseException | None) -> None:
        try:
            self._abort()
        except BenchError as failure:
            # A meter that is gone cannot be told to stop; where that is why the block ends, it is said once.
            if error is None and self._failure is None:
                raise
            self._session.errors.append(f"aborting: {failure}")

    def result(self, *, timeout_s: float) -> Waveform:
        """Wait until all readings are on disk and return them.

        Raises:
            CaptureInvalid: overload, timing violation, memory overflow, or readings missing.
            CaptureTimeout: not complete after *timeout_s*; says whether the trigger came.
            MeterError: the instrument stopped answering.
        """
        self._fetcher.join(timeout_s)
        if self._fetcher.is_alive():
            came = "readings are still to come" if self._received else "its trigger has not come"
            raise CaptureTimeout(
                f"meter {self._session.resource}: {self._received} of {self._plan.count} readings have arrived after "
                f"{timeout_s:g} s: {came}; check the trigger line, or wait longer"
            )
        if self._failure is not None:
            self._reported = True
            raise self._failure
        self._judge()
        return load_recording(self._plan.path)

    def _fetch(self) -> None:
        try:
            with RecordingWriter(self._plan.path, self._header(complete=False)) as file:
                if self._await_trigger():
                    while not self._leave.is_set() and self._drain(file):
                        self._leave.wait(POLL_S)
                if not self._leave.is_set() or self._complete:
                    self._conclude(file)
        except BenchError as error:
            self._failure = error

    def _await_trigger(self) -> bool:
        """Wait for the trigger if there are readings before it: taking those away would lose them. False: left."""
        while self._plan.pretrigger and not self._leave.is_set():
            points, state = self._points_and_state()
            if points > self._plan.pretrigger or not state & (MEASURING | WAITING_FOR_TRIGGER):
                break
            self._leave.wait(POLL_S)
        return not self._leave.is_set()

    def _drain(self, file: RecordingWriter) -> bool:
        """Append what the memory holds; False when the acquisition is over and the memory empty."""
        points, state = self._points_and_state()
        while points > 0:
            points -= self._append(file, min(points, READINGS_PER_QUERY))
        self._complete = not state & (MEASURING | WAITING_FOR_TRIGGER)
        return not self._complete

    def _points_and_state(self) -> tuple[int, int]:
        # The state comes first: what it calls finished is all counted by the second.
        state, points = self._session.query_integers("STAT:OPER:COND?", "DATA:POIN?")
        return points, state

    def _append(self, file: RecordingWriter, count: int) -> int:
        payload = self._session.query_block(f"R? {count}")
        readings = np.frombuffer(payload, dtype=">f8").astype(np.float64)
        if not len(readings):
            raise MeterError(f"meter {self._session.resource}: holds {count} readings but gave none")
        overloaded = np.abs(readings) > OVERLOAD_READING / 10
        if overloaded.any():
            self._first_overload = self._first_overload or self._received + int(np.argmax(overloaded))
            self._overloads += int(overloaded.sum())
        self._refuse_nonsense(readings[~overloaded])
        file.append(readings)
        self._received += len(readings)
        return len(readings)

    def _refuse_nonsense(self, readings: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        """Refuse bytes in the wrong order, which read as perfectly finite numbers."""
        size = np.abs(readings)
        if len(size) and not (np.isfinite(size).all() and size.max() <= 2 * self._plan.range_a):
            raise MeterError(
                f"meter {self._session.resource}: readings up to {size.max():g} A on the {self._plan.range_a:g} A "
                "range are no currents: the byte order or the format is not what was set"
            )

    def _conclude(self, file: RecordingWriter) -> None:
        condition, event = self._session.query_integers("STAT:QUES:COND?", "STAT:QUES:EVEN?")
        self._questionable = condition | event
        self._session.drain_errors("capture")
        self._early = self._plan.count - self._received
        file.describe(self._header(complete=True))

    def _judge(self) -> None:
        if found := self._reasons():
            where = f"meter {self._session.resource}: capture on the {self._plan.range_a:g} A range"
            raise CaptureInvalid(f"{where} is invalid: {'; '.join(found)}")

    def _reasons(self) -> list[str]:
        found = [f"{text} (QUES bit {bit})" for bit, text in QUESTIONABLE.items() if self._questionable & (1 << bit)]
        if self._overloads:
            at_s = self._first_overload * self._plan.interval_s
            found.append(f"{self._overloads} readings beyond the range, the first {at_s:.6f} s after the beginning")
        # Fewer readings are right only where the trigger came before all pretrigger readings had been taken.
        most = 0 if self._pretrigger_full else self._plan.pretrigger
        if not 0 <= self._early <= most:
            found.append(f"{self._received} readings instead of {self._plan.count}")
        return found

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
                    f"meter {self._session.resource}: took {points} of {plan.pretrigger} readings before the trigger "
                    "in the time for all of them: it does not sample while it waits for its trigger"
                )
            time.sleep(POLL_S / 3)

    def _abort(self) -> None:
        self._session.command("aborting", "ABOR")

    def _refuse_errors(self, group: str) -> None:
        refused = self._session.drain_errors(group)
        if refused:
            raise MeterError(f"meter {self._session.resource}: refused the capture: {'; '.join(refused)}")

    def _header(self, *, complete: bool) -> Header:
        plan = self._plan
        immediate = plan.trigger.source == "immediate"
        start = self._armed if immediate else None
        # With readings before the trigger the sampling does not wait for it: it falls somewhere between two.
        lag_s = (TRIGGER_LATENCY_S + (plan.interval_s if plan.pretrigger else 0.0)) / 2
        return Header(
            interval_s=plan.interval_s,
            aperture_s=plan.aperture_s,
            ranges_a=(plan.range_a,),
            accuracy=(plan.accuracy,) if plan.accuracy else (),
            trigger=plan.trigger.source,
            trigger_index=None if immediate else plan.pretrigger - self._early,
            trigger_lag_s=lag_s,
            trigger_lag_uncertainty_s=lag_s,
            t0_s=None if start is None else (start[0] + start[1]) / 2,
            t0_uncertainty_s=0.0 if start is None else (start[1] - start[0]) / 2,
            instrument=asdict(plan.identity),
            invalid=tuple(self._reasons()) if complete else (),
            errors=tuple(self._session.errors[self._first_error :]),
            complete=complete,
        )
