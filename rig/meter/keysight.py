"""Driver of the Keysight 34465A and 34470A (Truevolt), DC current, digitising option.

Sources: Keysight Truevolt Series Operating and Service Guide, chapter SCPI programming reference. No ``*RST`` and no
autorange anywhere: the board lives on the current that flows through this instrument, and both could cut it off.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import numpy as np

from rig.energy import Waveform
from rig.errors import BenchError
from rig.meter.accuracy import Accuracy
from rig.meter.capture import CapturePlan, KeysightCapture
from rig.meter.protocol import Capabilities, Identity, MeterError, Trigger
from rig.meter.visa import VisaSession

MODELS = ("34465A", "34470A")
RANGES_A = (100e-6, 1e-3, 10e-3, 100e-3, 1.0, 3.0)
#: The range that the board can boot and transmit on.
SAFE_RANGE_A = 1.0
APERTURE_STEP_S = 2e-6
MIN_INTERVAL_S = 20e-6
MAX_APERTURE_S = 1.0
#: After this a new range is in force: a continuous range change, which never opens the path, is a slow one.
RANGE_SETTLING_S = 0.02
MEMORY = {True: 2_000_000, False: 50_000}


class Keysight34465A:
    """A Truevolt multimeter, measuring the board's current on its 3 A jacks.

    *resource* is a VISA resource name, *accuracy* its accuracy document (None: values without uncertainty).
    *on_errors* is called with what the error queue held, each entry with the group of commands that it followed.
    """

    def __init__(
        self,
        resource: str,
        accuracy: Accuracy | None,
        on_errors: Callable[[list[str]], None] | None = None,
    ) -> None:
        self._session = VisaSession(resource, on_errors)
        self._accuracy = accuracy
        self._stack = ExitStack()
        self._identity: Identity | None = None
        self._range_a = math.nan

    @property
    def identity(self) -> Identity:
        if self._identity is None:
            raise MeterError(f"meter {self._session.resource}: is not open")
        return self._identity

    @property
    def capabilities(self) -> Capabilities:
        options = self.identity.options
        interval_s = MIN_INTERVAL_S if "DIG" in options else 200e-6
        memory = MEMORY["MEM" in options]
        return Capabilities(RANGES_A, interval_s, 1_000_000, memory, ("immediate", "external"))

    @property
    def accuracy(self) -> Accuracy | None:
        return self._accuracy

    @property
    def errors(self) -> tuple[str, ...]:
        return tuple(self._session.errors)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._session)
            self._identity = self._identify()
            # Whatever was left over from before is not ours: abort it, and note what it left in the error queue.
            self._session.command("found on opening", "ABOR")
            self.set_range(SAFE_RANGE_A)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            try:
                self._session.command("on closing", "ABOR")
                self.set_range(SAFE_RANGE_A)
                self._session.command("on closing", "SYST:LOC")
            except BenchError as failure:
                # The error that ends the block is the one to report; this one is kept beside it.
                if error is None:
                    raise
                self._session.errors.append(f"on closing: {failure}")

    def set_range(self, range_a: float) -> None:
        """Switch to a fixed range and the default trigger system; the current path stays closed.

        Raises:
            MeterError: no such range on the 3 A jacks, or the instrument refused.
        """
        if not any(math.isclose(range_a, known, rel_tol=1e-6) for known in RANGES_A):
            ranges = ", ".join(f"{known:g}" for known in RANGES_A)
            raise MeterError(f"meter {self._session.resource}: has no {range_a:g} A range on its 3 A jacks ({ranges})")
        # From 10 A on CONFigure would switch to the 10 A jacks; none of our ranges does.
        self._group("range", f"CONF:CURR:DC {range_a:.6g}", "CURR:DC:ZERO:AUTO OFF")
        if range_a != self._range_a:
            time.sleep(RANGE_SETTLING_S)
            self._range_a = range_a

    @contextmanager
    def capture(
        self,
        *,
        range_a: float,
        interval_s: float,
        duration_s: float,
        path: Path,
        pretrigger_s: float = 0.0,
        trigger: Trigger | None = None,
    ) -> Iterator[KeysightCapture]:
        """Arm on entering; fetch into *path* while readings arrive; abort on leaving what is not finished.

        *path* gets little-endian float32 in ampere, ``<path>.json`` what they are. *duration_s* counts from the
        trigger; *pretrigger_s* more comes before it.

        Raises:
            MeterError: the settings are impossible, or the instrument refused them or stopped answering.
        """
        plan = self._plan(range_a, interval_s, duration_s, pretrigger_s, trigger or Trigger.immediate(), path)
        with KeysightCapture(self._session, plan) as capture:
            yield capture

    def read_current(self, *, range_a: float, aperture_s: float, count: int) -> Waveform:
        """Take *count* readings, one after the other, each over *aperture_s*; samples stay in memory.

        Raises:
            CaptureInvalid: a reading was overloaded.
        """
        seconds = count * aperture_s
        with TemporaryDirectory(prefix="readings-") as folder:
            path = Path(folder) / "readings.f32"
            with self.capture(range_a=range_a, interval_s=aperture_s, duration_s=seconds, path=path) as capture:
                waveform = capture.result(timeout_s=seconds + 5.0)
            return replace(waveform, samples=np.array(waveform.samples), path=None)

    def _identify(self) -> Identity:
        answer = self._session.query("*IDN?")
        fields = [field.strip() for field in answer.split(",")]
        if len(fields) != 4 or fields[1] not in MODELS:
            raise MeterError(
                f"meter {self._session.resource}: answers as {answer!r}; this driver is for {' and '.join(MODELS)}: "
                "check the driver and the address in bench.yaml"
            )
        options = tuple(
            part.strip() for part in self._session.query("*OPT?").split(",") if part.strip() not in ("", "0")
        )
        return Identity(fields[0], fields[1], fields[2], fields[3], options)

    def _plan(
        self, range_a: float, interval_s: float, duration_s: float, pretrigger_s: float, trigger: Trigger, path: Path
    ) -> CapturePlan:
        able = self.capabilities
        where = f"meter {self._session.resource}"
        if interval_s < able.min_interval_s * (1 - 1e-9):
            raise MeterError(f"{where}: {interval_s:g} s between samples is less than its {able.min_interval_s:g} s")
        after, before = math.ceil(duration_s / interval_s - 1e-6), math.ceil(pretrigger_s / interval_s - 1e-6)
        if before and trigger.source == "immediate":
            raise MeterError(f"{where}: an immediate trigger has no time before it: leave pretrigger_s at 0")
        if after < 1 or (before and after + before > able.max_pretrigger):
            raise MeterError(f"{where}: {after + before} samples: it holds 1 to {able.max_pretrigger} around a trigger")
        self.set_range(range_a)
        self._configure_sampling(interval_s, after + before, before, trigger)
        aperture_s = self._session.query_float("CURR:DC:APER?")
        return CapturePlan(
            path=path,
            range_a=range_a,
            interval_s=self._session.query_float("SAMP:TIM?"),
            aperture_s=aperture_s,
            count=after + before,
            pretrigger=before,
            trigger=trigger,
            identity=self.identity,
            accuracy=self._accuracy.of_range(range_a, aperture_s) if self._accuracy else None,
        )

    def _configure_sampling(self, interval_s: float, count: int, pretrigger: int, trigger: Trigger) -> None:
        # The aperture fills the interval, so that no charge falls between two samples. SAMP:TIM comes last: its least
        # value depends on everything before it.
        aperture_s = min(math.floor(interval_s / APERTURE_STEP_S + 1e-6) * APERTURE_STEP_S, MAX_APERTURE_S)
        source = {"immediate": "IMM", "external": "EXT"}[trigger.source]
        self._group(
            "sampling",
            f"CURR:DC:APER {aperture_s:.9g}",
            f"TRIG:SOUR {source}",
            f"TRIG:SLOP {'POS' if trigger.rising else 'NEG'}",
            "TRIG:COUN 1",
            "TRIG:DEL 0",
            f"SAMP:COUN {count}",
            f"SAMP:COUN:PRET {pretrigger}",
            "FORM:DATA REAL,64",
            "FORM:BORD NORM",
            "SAMP:SOUR TIM",
            f"SAMP:TIM {interval_s:.9g}",
        )

    def _group(self, name: str, *commands: str) -> None:
        """Send *commands* and see that none was refused; -221 is a setting that was adapted, which is read back."""
        refused = [entry for entry in self._session.command(name, *commands) if not entry.startswith("-221")]
        if refused:
            raise MeterError(f"meter {self._session.resource}: refused its {name} settings: {'; '.join(refused)}")
