"""What the rig expects of a meter, whatever its make."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from rig.energy import Waveform
from rig.errors import BenchError
from rig.meter.accuracy import Accuracy

TriggerSource = Literal["immediate", "external", "level"]


class MeterError(BenchError):
    """The instrument did not answer, answered nonsense, refused a setting, or reported an error."""


class CaptureInvalid(BenchError):
    """The instrument itself says that the recording is not what was asked for. Nothing may be judged by it."""


class CaptureTimeout(BenchError):
    """The recording did not become complete in time."""


@dataclass(frozen=True)
class Identity:
    """Who answered: the four fields of *IDN? and the installed options."""

    manufacturer: str
    model: str
    serial: str
    firmware: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.manufacturer} {self.model}, serial {self.serial}, firmware {self.firmware}"


@dataclass(frozen=True)
class Capabilities:
    """What the instrument can do, its installed options included.

    ``ranges_a`` are its fixed ranges, ascending in ampere, none where it always ranges by itself; ``seamless``: it
    can do so without losing samples.
    ``max_samples`` bounds one capture, None where it streams until it is stopped. ``voltage``: it measures the voltage
    beside the current. ``output``: it feeds the board.
    """

    ranges_a: tuple[float, ...]
    min_interval_s: float
    max_samples: int | None
    max_pretrigger: int
    triggers: tuple[TriggerSource, ...]
    voltage: bool = False
    seamless: bool = False
    output: bool = False


@dataclass(frozen=True)
class Settings:
    """What is in force, as the instrument read it back; ``range_a`` None where it ranges by itself."""

    range_a: float | None
    interval_s: float
    aperture_s: float


@dataclass(frozen=True)
class Trigger:
    """What starts a capture: at once, an edge on the external trigger input, or the current crossing a level."""

    source: TriggerSource
    rising: bool = True
    level_a: float | None = None

    @classmethod
    def immediate(cls) -> Self:
        return cls("immediate")

    @classmethod
    def external_rising(cls) -> Self:
        return cls("external", rising=True)

    @classmethod
    def external_falling(cls) -> Self:
        return cls("external", rising=False)

    @classmethod
    def level_rising(cls, level_a: float) -> Self:
        return cls("level", rising=True, level_a=level_a)

    @classmethod
    def level_falling(cls, level_a: float) -> Self:
        return cls("level", rising=False, level_a=level_a)


@dataclass(frozen=True)
class Zero:
    """What a range reads with nothing connected: mean of so many readings and its standard uncertainty, in ampere."""

    mean_a: float
    standard_uncertainty_a: float
    readings: int


class Capture(Protocol):
    """A recording under way."""

    @property
    def received(self) -> int:
        """Return how many samples are on disk."""

    def result(self, *, timeout_s: float) -> Waveform:
        """Return the waveform when it is complete.

        Raises:
            CaptureInvalid: overload, timing violation or lost readings: the recording must not be used. Its files stay,
                and say why.
            CaptureTimeout: not complete after *timeout_s*.
            MeterError: the instrument stopped answering.
        """

    def stop(self, *, timeout_s: float) -> Waveform:
        """End a capture that goes on until it is stopped, and return what it holds; raises as :meth:`result`."""


class Meter(Protocol):
    """A meter in series with the board's supply, or that supply. Entering opens it, leaving lets the board run on."""

    @property
    def identity(self) -> Identity: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def accuracy(self) -> Accuracy | None:
        """Return the accuracy document in use; None means that no verdict can rest on this meter."""

    @property
    def errors(self) -> tuple[str, ...]:
        """Return everything that the instrument's error queue has said so far."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def configure(self, *, range_a: float | None, interval_s: float) -> Settings:
        """Set range (None: it ranges by itself, seamlessly) and sample interval; return what is in force then.

        Raises:
            MeterError: the instrument has no such range or interval, or refused them.
        """

    def capture(
        self,
        *,
        range_a: float | None,
        interval_s: float,
        duration_s: float | None,
        path: Path,
        pretrigger_s: float = 0.0,
        trigger: Trigger | None = None,
    ) -> AbstractContextManager[Capture]:
        """Arm on entering, abort on leaving what is not finished; ``path`` is written while samples arrive.

        ``duration_s`` counts from the trigger (at once, unless said otherwise); None: until the capture is stopped.
        ``pretrigger_s`` more come before it.

        Raises:
            MeterError: the settings are impossible, or the instrument refused them or stopped answering.
        """

    def set_range(self, range_a: float) -> None:
        """Switch to a fixed range, the current path staying closed."""

    def read_current(self, *, range_a: float | None, aperture_s: float, count: int) -> Waveform:
        """Take *count* slow readings at once and return them when they are all there; samples stay in memory.

        Raises:
            CaptureInvalid: a reading was overloaded.
        """

    def zero(self, ranges_a: Sequence[float]) -> Mapping[float, Zero]:
        """Read each of *ranges_a* with the board's current known to be none, and subtract it from what comes after.

        The caller sees to it that no current flows (board off or disconnected).

        Raises:
            MeterError: what flows is far more than an offset.
        """
