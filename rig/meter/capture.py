"""A capture: an instrument's acquisition, written to disk while it arrives."""

import threading
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rig.energy import Header, RecordingWriter, Waveform, load_recording
from rig.energy.recording import Change
from rig.errors import BenchError
from rig.meter.acquisition import Acquisition, Block, CapturePlan, Conclusion
from rig.meter.protocol import CaptureInvalid, CaptureTimeout, MeterError

#: SCPI's reading for too much is 9.9e37 (SCPI-99 7.2.1.5); nothing near it is a current.
OVERLOAD_READING = 9.9e36
#: A reading this many times its range has never been one.
NONSENSE = 2.0


class MeterCapture:
    """A capture between arming (entering) and aborting (leaving). See ``rig.meter.protocol.Capture``.

    *where* names the instrument in errors; *errors* is the list to which its driver adds what the error queue says.
    """

    def __init__(self, where: str, plan: CapturePlan, acquisition: Acquisition, errors: list[str]) -> None:
        self._where = where
        self._plan = plan
        self._acquisition = acquisition
        self._errors = errors
        self._first_error = len(errors)
        self._fetcher = threading.Thread(target=self._fetch, name="meter fetch", daemon=True)
        self._leave, self._stop = threading.Event(), threading.Event()
        self._failure: BenchError | None = None
        self._conclusion: Conclusion | None = None
        self._armed: tuple[float, float] | None = None
        self._overloads = 0
        self._first_overload = 0
        self._lost = 0
        self._reported = False
        self._open = ExitStack()
        self._file = RecordingWriter(plan.path, self._header(None))

    @property
    def received(self) -> int:
        """Return how many samples are on disk."""
        return self._file.count

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._file)
            self._armed = self._arm()
            self._file.describe(self._header(None))
            self._open = stack.pop_all()
        self._fetcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        self._fetcher.join()
        if self._conclusion is None:
            self._abort_on_leaving(error)
        if error is None and self._failure is not None and not self._reported:
            raise self._failure

    def result(self, *, timeout_s: float) -> Waveform:
        """Wait until all samples are on disk and return them.

        Raises:
            CaptureInvalid: overload, timing violation, memory overflow, or samples missing.
            CaptureTimeout: not complete after *timeout_s*; says whether the trigger came.
            MeterError: the instrument stopped answering.
        """
        self._fetcher.join(timeout_s)
        if self._fetcher.is_alive():
            came = "samples are still to come" if self.received else "its trigger has not come"
            of = "" if self._plan.count is None else f" of {self._plan.count}"
            raise CaptureTimeout(
                f"{self._where}: {self.received}{of} samples have arrived after {timeout_s:g} s: {came}; "
                "check the trigger line, or wait longer"
            )
        if self._failure is not None:
            self._reported = True
            raise self._failure
        if found := self._reasons():
            raise CaptureInvalid(f"{self._where}: capture on the {self._range()} is invalid: {'; '.join(found)}")
        return load_recording(self._plan.path)

    def stop(self, *, timeout_s: float) -> Waveform:
        """End a capture that goes on until it is stopped; return what it holds. Raises as :meth:`result`."""
        self._stop.set()
        return self.result(timeout_s=timeout_s)

    def _arm(self) -> tuple[float, float]:
        try:
            return self._acquisition.start()
        except BaseException as error:
            self._abort_on_leaving(error)
            raise

    def _abort_on_leaving(self, error: BaseException | None) -> None:
        try:
            self._acquisition.abort()
        except BenchError as failure:
            # A meter that is gone cannot be told to stop; where that is why the block ends, it is said once.
            if error is None and self._failure is None:
                raise
            self._errors.append(f"aborting: {failure}")

    def _fetch(self) -> None:
        try:
            with self._open:
                if self._drain():
                    self._conclusion = self._acquisition.conclude(self.received)
                    self._file.describe(self._header(self._conclusion))
        except BenchError as error:
            self._failure = error
        except Exception as error:
            # Whatever ends this thread, nobody may take what it has left for a whole capture.
            self._failure = MeterError(f"{self._where}: the capture broke off: {error!r}")

    def _drain(self) -> bool:
        """Write what arrives until nothing follows; False when the block was left before."""
        stopped = False
        while not self._leave.is_set():
            if self._stop.is_set() and not stopped:
                self._acquisition.abort()
                stopped = True
            drained = self._acquisition.drain()
            for block in drained.blocks:
                self._write(block)
            if drained.finished:
                return True
            (self._leave if stopped or self._plan.count is not None else self._stop).wait(self._acquisition.poll_s)
        return False

    def _write(self, block: Block) -> None:
        if block.lost:
            self._lost += block.lost
            self._file.lose(block.lost)
        first = self._file.count
        readings = np.asarray(block.current_a, np.float64)
        overloaded = np.abs(readings) > OVERLOAD_READING
        self._refuse_nonsense(readings[~overloaded] if overloaded.any() else readings)
        if overloaded.any():
            readings = np.where(overloaded, np.nan, readings)
            self._note_overload(first, overloaded)
        if len(self._plan.ranges_a) == 1 and (zero_a := self._plan.zero_a.get(self._plan.ranges_a[0])):
            readings = readings - zero_a
        for what, samples, values in block.changes:
            self._file.notes(what, samples + first, values)
        self._file.append(readings, block.voltage_v)

    def _note_overload(self, first: int, overloaded: NDArray[np.bool_]) -> None:
        """Note overloaded readings as gaps: they are no values, but their time has passed."""
        edges = np.flatnonzero(np.diff(overloaded, prepend=False, append=False))
        self._first_overload = self._first_overload if self._overloads else first + int(edges[0])
        self._overloads += int(overloaded.sum())
        self._file.notes(Change.GAP, first + edges[::2], edges[1::2] - edges[::2])

    def _refuse_nonsense(self, readings: NDArray[np.float64]) -> None:
        """Refuse bytes in the wrong order, which read as perfectly finite numbers."""
        if not len(readings):
            return
        most_a = float(np.abs(readings).max())
        if not most_a <= NONSENSE * max(self._plan.ranges_a):
            raise MeterError(
                f"{self._where}: readings up to {most_a:g} A on the {self._range()} are no currents: the byte order or "
                "the format is not what was set"
            )

    def _range(self) -> str:
        return f"{max(self._plan.ranges_a):g} A range"

    def _reasons(self) -> list[str]:
        found = list(self._conclusion.reasons) if self._conclusion else []
        if self._overloads:
            at_s = self._first_overload * self._plan.interval_s
            found.append(f"{self._overloads} readings beyond the range, the first {at_s:.6f} s after the beginning")
        if self._lost:
            found.append(f"{self._lost} samples lost")
        return found

    def _header(self, conclusion: Conclusion | None) -> Header:
        plan = self._plan
        immediate = plan.trigger.source == "immediate"
        start = self._armed if immediate else None
        # With samples before the trigger the sampling does not wait for it: it falls somewhere between two.
        lag_s = (plan.trigger_latency_s + (plan.interval_s if plan.pretrigger else 0.0)) / 2
        index = plan.pretrigger if conclusion is None else conclusion.trigger_index
        return Header(
            interval_s=plan.interval_s,
            aperture_s=plan.aperture_s,
            ranges_a=plan.ranges_a,
            accuracy=plan.accuracy,
            trigger=plan.trigger.source,
            trigger_index=None if immediate else index,
            trigger_lag_s=lag_s,
            trigger_lag_uncertainty_s=lag_s,
            t0_s=None if start is None else (start[0] + start[1]) / 2,
            t0_uncertainty_s=0.0 if start is None else (start[1] - start[0]) / 2,
            instrument=asdict(plan.identity),
            voltage=plan.voltage,
            zero_a=plan.zero_a,
            invalid=tuple(self._reasons()) if conclusion else (),
            errors=tuple(self._errors[self._first_error :]),
            complete=conclusion is not None,
        )
