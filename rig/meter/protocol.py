"""What the rig expects of a meter, whatever its make."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from rig.energy import Waveform
from rig.meter.accuracy import Accuracy


@dataclass(frozen=True)
class Identity:
    """Who answered: the four fields of *IDN? and the installed options."""

    manufacturer: str
    model: str
    serial: str
    firmware: str
    options: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.manufacturer} {self.model}, serial {self.serial}, firmware {self.firmware}"


@dataclass(frozen=True)
class Capabilities:
    """What the instrument can do: ranges ascending in ampere, shortest sample interval, readings in memory."""

    ranges_a: tuple[float, ...]
    min_interval_s: float
    memory_readings: int


@dataclass(frozen=True)
class Trigger:
    """What starts a capture: at once, or an edge on the external trigger input."""

    source: Literal["immediate", "external"]
    rising: bool = True

    @classmethod
    def immediate(cls) -> Self:
        return cls("immediate")

    @classmethod
    def external_rising(cls) -> Self:
        return cls("external", rising=True)

    @classmethod
    def external_falling(cls) -> Self:
        return cls("external", rising=False)


class Capture(Protocol):
    """A recording under way."""

    def result(self, *, timeout_s: float) -> Waveform:
        """Return the waveform when it is complete.

        Raises:
            CaptureInvalid: overload, timing violation or lost readings: the recording must not be used.
            CaptureTimeout: not complete after *timeout_s*.
        """


class Meter(Protocol):
    """A meter in series with the board's supply. Entering opens it, leaving lets the board run on."""

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

    def capture(
        self,
        *,
        range_a: float,
        interval_s: float,
        duration_s: float,
        path: Path,
        pretrigger_s: float = 0.0,
        trigger: Trigger | None = None,
    ) -> AbstractContextManager[Capture]:
        """Arm on entering, abort on leaving what is not finished; ``duration_s`` counts from the trigger (at once)."""

    def set_range(self, range_a: float) -> None:
        """Switch to a fixed range, the current path staying closed."""

    def read_current(self, *, range_a: float, aperture_s: float, count: int) -> Waveform:
        """Take *count* slow readings at once and return them when they are all there."""
