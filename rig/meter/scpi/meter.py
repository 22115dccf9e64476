"""A meter that speaks SCPI: everything that its file of declarations says enough about."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import numpy as np

from rig.energy import RangeAccuracy, Waveform
from rig.errors import BenchError
from rig.meter.accuracy import Accuracy
from rig.meter.acquisition import Acquisition, CapturePlan
from rig.meter.capture import MeterCapture
from rig.meter.protocol import Capabilities, Identity, MeterError, Settings, Trigger, Zero
from rig.meter.scpi.declaration import Declaration
from rig.meter.visa import VisaSession

ZERO_APERTURE_S = 0.02
ZERO_READINGS = 25
#: More than this share of a range is no offset: something draws current.
MAX_ZERO_SHARE = 0.01


@dataclass(frozen=True)
class Output:
    """What the board is fed with by an instrument that is its supply."""

    voltage_v: float
    current_limit_a: float


class ScpiMeter:
    """An instrument at the VISA resource *resource*, as *declaration* says; a family adds what is odd about it.

    *accuracy* is its accuracy document (None: values without uncertainty). *on_errors* is called with what the error
    queue held, each entry with the group of commands that it followed. *output* is for an instrument that feeds the
    board: it is set, and switched on where it is off, on entering, and left as it is on leaving.
    """

    def __init__(
        self,
        resource: str,
        declaration: Declaration,
        accuracy: Accuracy | None,
        on_errors: Callable[[list[str]], None] | None = None,
        output: Output | None = None,
    ) -> None:
        self.session = VisaSession(resource, on_errors, declaration.answer_timeout_s, declaration.error_query)
        self.declaration = declaration
        self.output = output
        self._accuracy = accuracy
        self._stack = ExitStack()
        self._identity: Identity | None = None
        self._range_a: float | None = math.nan
        self._zeros: dict[float, Zero] = {}

    # What a family says

    def check(self) -> None:
        """Refuse an instrument that is set up so that this driver cannot work; called when it has said who it is."""

    def acquisition(self, plan: CapturePlan) -> Acquisition:
        """Return the acquisition of *plan*; range, sampling and trigger are set already."""
        raise NotImplementedError

    # What all have in common

    @property
    def where(self) -> str:
        """Return how errors name this instrument."""
        return f"meter {self.session.resource}"

    @property
    def identity(self) -> Identity:
        if self._identity is None:
            raise MeterError(f"{self.where}: is not open")
        return self._identity

    @property
    def capabilities(self) -> Capabilities:
        declared = self.declaration
        able = Capabilities(
            ranges_a=declared.ranges_a,
            min_interval_s=declared.min_interval_s,
            max_samples=declared.max_samples,
            max_pretrigger=declared.max_pretrigger,
            triggers=declared.triggers,
            voltage=declared.voltage,
            seamless=declared.seamless,
            output=declared.output,
        )
        for option in self.identity.options if declared.options else ():
            assert declared.options is not None
            able = replace(able, **declared.options.change(option).model_dump(exclude_none=True))
        return able

    @property
    def accuracy(self) -> Accuracy | None:
        return self._accuracy

    @property
    def errors(self) -> tuple[str, ...]:
        return tuple(self.session.errors)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.session)
            self._identity = self._identify()
            if self._accuracy is not None:
                self._accuracy.require_serial(self._identity.serial)
            self.check()
            # Whatever was left over from before is not ours: abort it, and note what it left in the error queue.
            self.session.command("found on opening", *self.declaration.commands.opening)
            self._feed()
            self.set_range(self.declaration.safe_range_a)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        commands = self.declaration.commands
        with self._stack:
            try:
                self.session.command("on closing", *commands.abort)
                self.set_range(self.declaration.safe_range_a)
                if commands.closing:
                    self.session.command("on closing", *commands.closing)
            except BenchError as failure:
                # The error that ends the block is the one to report; this one is kept beside it.
                if error is None:
                    raise
                self.session.errors.append(f"on closing: {failure}")

    def set_range(self, range_a: float) -> None:
        """Switch to a fixed range and the default trigger system; the current path stays closed.

        Raises:
            MeterError: no such range, or the instrument refused.
        """
        self._range(range_a)

    def configure(self, *, range_a: float | None, interval_s: float) -> Settings:
        """Set range and sample interval for an immediate trigger; see ``rig.meter.protocol.Meter.configure``."""
        self._range(range_a)
        return self._sampling(range_a, interval_s, 1, 0, Trigger.immediate())

    @contextmanager
    def capture(
        self,
        *,
        range_a: float | None,
        interval_s: float,
        duration_s: float | None,
        path: Path,
        pretrigger_s: float = 0.0,
        trigger: Trigger | None = None,
    ) -> Iterator[MeterCapture]:
        """Arm on entering; fetch into *path* while readings arrive; abort on leaving what is not finished.

        See ``rig.meter.protocol.Meter.capture``; *path* is a recording (``rig.energy.recording``).

        Raises:
            MeterError: the settings are impossible, or the instrument refused them or stopped answering.
        """
        plan = self._plan(range_a, interval_s, duration_s, pretrigger_s, trigger or Trigger.immediate(), path)
        with MeterCapture(self.where, plan, self.acquisition(plan), self.session.errors) as capture:
            yield capture

    def read_current(self, *, range_a: float | None, aperture_s: float, count: int) -> Waveform:
        """Take *count* readings, one after the other, each over *aperture_s*; samples stay in memory.

        Raises:
            CaptureInvalid: a reading was overloaded.
        """
        seconds = count * aperture_s
        with TemporaryDirectory(prefix="readings-") as folder:
            path = Path(folder) / "readings.f32"
            with self.capture(range_a=range_a, interval_s=aperture_s, duration_s=seconds, path=path) as capture:
                waveform = capture.result(timeout_s=seconds + 5.0)
            return in_memory(waveform)

    def zero(self, ranges_a: Sequence[float]) -> Mapping[float, Zero]:
        """Read each of *ranges_a* with no current flowing, and subtract it from what comes after.

        Raises:
            MeterError: more than a hundredth of the range flows, which is no offset.
        """
        found = {}
        try:
            for range_a in ranges_a:
                self._zeros.pop(range_a, None)
                found[range_a] = self._zero(range_a)
        finally:
            self.set_range(self.declaration.safe_range_a)
        self._zeros |= found
        return found

    def group(self, name: str, *commands: str) -> None:
        """Send *commands* and see that none was refused; what the declaration tolerates is read back instead.

        Raises:
            MeterError: the instrument refused one.
        """
        tolerated = tuple(f"{code}," for code in self.declaration.tolerated_errors)
        entries = self.session.command(name, *commands)
        refused = [entry for entry in entries if not entry.lstrip("+").startswith(tolerated or ("none",))]
        if refused:
            raise MeterError(f"{self.where}: refused its {name} settings: {'; '.join(refused)}")

    def figures(self, range_a: float, aperture_s: float, zero: Zero | None) -> RangeAccuracy | None:
        """Return the accuracy of one range at one aperture, *zero* being subtracted; None without a document."""
        if self._accuracy is None:
            return None
        return self._accuracy.of_range(
            range_a, aperture_s, zero_uncertainty_a=zero.standard_uncertainty_a if zero else None
        )

    def _identify(self) -> Identity:
        answer = self.session.query("*IDN?")
        fields = [field.strip() for field in answer.split(",")]
        models = self.declaration.models
        if len(fields) != 4 or not any(fields[1].upper().removeprefix("MODEL ") == model for model in models):
            raise MeterError(
                f"{self.where}: answers as {answer!r}; this driver is for {' and '.join(models)}: "
                "check the driver and the address in bench.yaml"
            )
        return Identity(fields[0], fields[1], fields[2], fields[3], self._options())

    def _options(self) -> tuple[str, ...]:
        if self.declaration.options is None:
            return ()
        answer = self.session.query(self.declaration.options.query)
        return tuple(part.strip() for part in answer.split(",") if part.strip() not in ("", "0"))

    def _feed(self) -> None:
        if self.output is None:
            return
        if not self.declaration.output:
            raise MeterError(f"{self.where}: does not feed a board: remove output: from bench.yaml")
        commands = self.declaration.filled(
            self.declaration.commands.output,
            voltage_v=self.output.voltage_v,
            current_limit_a=self.output.current_limit_a,
        )
        self.group("output", *commands)
        query = self.declaration.output_query
        assert query is not None
        if not self.session.query_integers(query)[0]:
            raise MeterError(
                f"{self.where}: its output stays off: a protection has tripped; find out why, and clear it"
            )

    def _range(self, range_a: float | None) -> None:
        declared = self.declaration
        if range_a is None:
            if not declared.seamless:
                raise MeterError(f"{self.where}: does not range by itself without losing samples: name a range")
            self.group("range", *declared.commands.seamless)
        else:
            self.group("range", *declared.filled(declared.commands.range, range_a=self._known_range(range_a)))
        if range_a != self._range_a:
            time.sleep(declared.range_settling_s)
            self._range_a = range_a

    def _known_range(self, range_a: float) -> float:
        ranges_a = self.declaration.ranges_a
        for known_a in ranges_a:
            if math.isclose(range_a, known_a, rel_tol=1e-6):
                return known_a
        known = ", ".join(f"{one:g}" for one in ranges_a)
        raise MeterError(f"{self.where}: has no {range_a:g} A range ({known})")

    def _plan(
        self,
        range_a: float | None,
        interval_s: float,
        duration_s: float | None,
        pretrigger_s: float,
        trigger: Trigger,
        path: Path,
    ) -> CapturePlan:
        self._refuse(interval_s, trigger, pretrigger_s)
        count, before = self._counts(interval_s, duration_s, pretrigger_s)
        self._range(range_a)
        settings = self._sampling(range_a, interval_s, count, before, trigger)
        if not math.isclose(settings.interval_s, interval_s, rel_tol=1e-6):
            # The instrument took another interval: for the same time it takes another number of samples.
            count, before = self._counts(settings.interval_s, duration_s, pretrigger_s)
            settings = self._sampling(range_a, interval_s, count, before, trigger)
        ranges_a = self.declaration.seamless_ranges_a if range_a is None else (self._known_range(range_a),)
        used_a = self.ranges_of(ranges_a, settings.interval_s)
        # Where the instrument ranges by itself nobody knows which zero a reading has: none is subtracted.
        zeros = self._zeros if range_a is not None else {}
        figures = [self.figures(one, settings.aperture_s, zeros.get(one)) for one in used_a]
        return CapturePlan(
            path=path,
            ranges_a=used_a,
            interval_s=settings.interval_s,
            aperture_s=settings.aperture_s,
            count=count,
            pretrigger=before,
            trigger=trigger,
            trigger_latency_s=self.declaration.trigger_latency_s,
            identity=self.identity,
            accuracy=tuple(one for one in figures if one is not None),
            voltage=self.declaration.voltage,
            zero_a={one: zeros[one].mean_a for one in used_a if one in zeros},
        )

    def ranges_of(self, ranges_a: tuple[float, ...], interval_s: float) -> tuple[float, ...]:  # noqa: ARG002
        """Return the ranges by which a capture on *ranges_a*, with *interval_s* between samples, is judged.

        An instrument that ranges by itself and does not say when is judged by its widest range throughout.
        """
        return (max(ranges_a),)

    def _refuse(self, interval_s: float, trigger: Trigger, pretrigger_s: float) -> None:
        able = self.capabilities
        if interval_s < able.min_interval_s * (1 - 1e-9):
            raise MeterError(
                f"{self.where}: {interval_s:g} s between samples is less than its {able.min_interval_s:g} s"
            )
        if trigger.source not in able.triggers:
            raise MeterError(f"{self.where}: has no {trigger.source} trigger (it has: {', '.join(able.triggers)})")
        if (trigger.source == "level") != (trigger.level_a is not None):
            raise MeterError(f"{self.where}: a level trigger has a level_a, and no other trigger has one")
        if pretrigger_s and trigger.source == "immediate":
            raise MeterError(f"{self.where}: an immediate trigger has no time before it: leave pretrigger_s at 0")

    def _counts(self, interval_s: float, duration_s: float | None, pretrigger_s: float) -> tuple[int | None, int]:
        """Return how many samples that is, with those before the trigger, and those alone; None: until stopped."""
        before = math.ceil(pretrigger_s / interval_s - 1e-6)
        count = None if duration_s is None else math.ceil(duration_s / interval_s - 1e-6) + before
        self._refuse_counts(count, before)
        return count, before

    def _refuse_counts(self, count: int | None, before: int) -> None:
        able = self.capabilities
        if count is None:
            if able.max_samples is not None:
                raise MeterError(
                    f"{self.where}: takes at most {able.max_samples} samples a capture: give it a duration_s"
                )
            return
        if count - before < 1 or (able.max_samples is not None and count > able.max_samples):
            raise MeterError(f"{self.where}: {count} samples: a capture has 1 to {able.max_samples}")
        if before and count > able.max_pretrigger:
            raise MeterError(f"{self.where}: {count} samples: it holds 1 to {able.max_pretrigger} around a trigger")

    def _sampling(
        self, range_a: float | None, interval_s: float, count: int | None, pretrigger: int, trigger: Trigger
    ) -> Settings:
        aperture_s = self._aperture_s(interval_s)
        values: dict[str, Any] = {
            "range_a": range_a,
            "interval_s": interval_s,
            "aperture_s": aperture_s,
            "count": count,
            "pretrigger": pretrigger,
            "level_a": trigger.level_a,
            "slope": "POS" if trigger.rising else "NEG",
        }
        declared = self.declaration
        assert declared.readback is not None
        self.group("sampling", *declared.filled(declared.commands.sampling, trigger.source, **values))
        interval_s = self.session.query_float(declared.readback.interval_s)
        query = declared.readback.aperture_s
        return Settings(range_a, interval_s, self.session.query_float(query) if query else interval_s)

    def _aperture_s(self, interval_s: float) -> float:
        """Return the aperture that fills the interval as its grid allows, so that no charge falls between samples."""
        grid = self.declaration.aperture
        if grid is None:
            return interval_s
        return min(math.floor(interval_s / grid.step_s + 1e-6) * grid.step_s, grid.max_s)

    def _zero(self, range_a: float) -> Zero:
        readings = self.read_current(range_a=range_a, aperture_s=ZERO_APERTURE_S, count=ZERO_READINGS).samples
        mean_a = float(readings.mean(dtype=np.float64))
        if abs(mean_a) > MAX_ZERO_SHARE * range_a:
            raise MeterError(
                f"{self.where}: {mean_a:.3g} A on the {range_a:g} A range is no zero: switch the board off, or "
                "disconnect it"
            )
        spread_a = float(readings.std(ddof=1, dtype=np.float64))
        return Zero(mean_a, spread_a / math.sqrt(len(readings)), len(readings))


def in_memory(waveform: Waveform) -> Waveform:
    """Return *waveform* without the files that it was loaded from."""
    voltage = None if waveform.voltage is None else np.array(waveform.voltage)
    return replace(waveform, samples=np.array(waveform.samples), voltage=voltage, path=None)
