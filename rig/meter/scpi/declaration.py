"""What an instrument that speaks SCPI can do and by which commands, as a checked file.

Commands are written without a leading colon. Braces hold what is filled in, in Python's format language: ``range_a``,
``interval_s``, ``aperture_s``, ``count``, ``pretrigger``, ``level_a``, ``slope`` (POS or NEG), ``edge`` (RIS or
FALL), ``voltage_v``, ``current_limit_a``.
"""

import string
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from rig.formats.checked_yaml import CheckedModel, load_checked
from rig.meter.protocol import TriggerSource
from rig.meter.visa import TIMEOUT_S

#: What a group of commands may be filled with.
PLACEHOLDERS = (
    *("range_a", "interval_s", "aperture_s", "count", "pretrigger", "level_a", "slope", "edge"),
    *("voltage_v", "current_limit_a"),
)
#: Where the commands of the trigger stand among those of the sampling.
TRIGGER = "<trigger>"


def _known_placeholders(command: str) -> str:
    for _, name, _, _ in string.Formatter().parse(command):
        if name is not None and name not in PLACEHOLDERS:
            raise ValueError(f"{command!r} has a placeholder {name!r}; known: {', '.join(PLACEHOLDERS)}")
    return command


Command = Annotated[str, AfterValidator(_known_placeholders)]
Group = tuple[Command, ...]


class Commands(CheckedModel):
    """Groups of commands; the error queue is read after each.

    ``seamless`` is the range group of an instrument that ranges by itself; ``output`` sets what the board is fed with
    and switches it on.
    """

    opening: Group = ()
    closing: Group = ()
    range: Group
    seamless: Group = ()
    sampling: Group
    trigger: dict[TriggerSource, Group]
    start: Group
    abort: Group
    output: Group = ()


class Aperture(CheckedModel):
    """The grid of the aperture, which fills the sample interval as far as it can; without one it is the interval."""

    step_s: PositiveFloat
    max_s: PositiveFloat


class OptionChange(CheckedModel):
    """What an installed option changes."""

    min_interval_s: PositiveFloat | None = None
    max_samples: PositiveInt | None = None
    max_pretrigger: PositiveInt | None = None


class Options(CheckedModel):
    """How the installed options are asked for; every other key is an option and what it changes."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, OptionChange]
    query: str

    def change(self, option: str) -> OptionChange:
        """Return what *option* changes."""
        return self.__pydantic_extra__.get(option, OptionChange())


class Readback(CheckedModel):
    """The queries by which the instrument tells what it made of the settings; aperture None: it is the interval."""

    interval_s: str
    aperture_s: str | None = None


class Log(CheckedModel):
    """A second way to record, which streams: for intervals that it can do, with nothing before the trigger."""

    min_interval_s: PositiveFloat
    sampling: Group
    trigger: dict[TriggerSource, Group]
    start: Group
    abort: Group
    readback: Readback


class Status(CheckedModel):
    """The register that tells after a capture what went wrong: queries whose answers are or-ed, and its bits."""

    queries: tuple[str, ...] = Field(min_length=1)
    name: str
    bits: dict[int, str]

    def reasons(self, value: int) -> list[str]:
        """Return what the bits of *value* say."""
        return [f"{text} ({self.name} bit {bit})" for bit, text in self.bits.items() if value & (1 << bit)]


class Declaration(CheckedModel):
    """The file of one instrument; see :class:`rig.meter.protocol.Capabilities` for what its figures mean.

    Of one that ranges by itself ``seamless_from_a`` is the narrowest range that it goes to so (None: the narrowest of
    all), and ``ranging_settles_s`` how long after a larger current it may still be on a wider one (None: nobody knows).
    ``readback`` is left out where the instrument does not tell its settings in seconds; its family then asks.
    """

    title: str
    models: tuple[str, ...] = Field(min_length=1)
    ranges_a: tuple[PositiveFloat, ...] = Field(min_length=1)
    safe_range_a: PositiveFloat
    range_settling_s: float = Field(ge=0)
    answer_timeout_s: PositiveFloat = TIMEOUT_S
    error_query: str = "SYST:ERR?"
    min_interval_s: PositiveFloat
    max_samples: PositiveInt | None = None
    max_pretrigger: int = Field(0, ge=0)
    triggers: tuple[TriggerSource, ...] = ("immediate",)
    trigger_latency_s: float = Field(0.0, ge=0)
    voltage: bool = False
    seamless: bool = False
    seamless_from_a: PositiveFloat | None = None
    ranging_settles_s: PositiveFloat | None = None
    output: bool = False
    output_query: str | None = None
    aperture: Aperture | None = None
    options: Options | None = None
    commands: Commands
    readback: Readback | None = None
    log: Log | None = None
    tolerated_errors: tuple[int, ...] = ()
    status: Status | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "Declaration":
        if list(self.ranges_a) != sorted(set(self.ranges_a)):
            raise ValueError("ranges_a: not ascending")
        if self.safe_range_a not in self.ranges_a:
            raise ValueError("safe_range_a: is none of ranges_a")
        if self.seamless_from_a not in (None, *self.ranges_a):
            raise ValueError("seamless_from_a: is none of ranges_a")
        if missing := [source for source in self.triggers if source not in self.commands.trigger]:
            raise ValueError(f"commands.trigger: nothing for {', '.join(missing)}")
        if self.output != (self.output_query is not None):
            raise ValueError("output_query: the capability and the query for whether the output is on go together")
        for have, group in ((self.seamless, "seamless"), (self.output, "output")):
            if have != bool(getattr(self.commands, group)):
                raise ValueError(f"{group}: the capability and commands.{group} go together")
        return self

    @property
    def seamless_ranges_a(self) -> tuple[float, ...]:
        """Return the ranges that the instrument goes to by itself."""
        return tuple(one for one in self.ranges_a if one >= (self.seamless_from_a or 0.0))

    def filled(
        self, group: Group, trigger: TriggerSource = "immediate", log: Log | None = None, **values: Any
    ) -> list[str]:
        """Return the commands of *group* with *values*, those of *trigger* where the group leaves room for them.

        *log* is given where the group is one of its groups.
        """
        triggers = (log or self.commands).trigger
        commands = [one for command in group for one in (triggers[trigger] if command == TRIGGER else (command,))]
        return [command.format(**values) for command in commands]


def load_declaration(driver: str) -> Declaration:
    """Return the declaration that ships under the name *driver*."""
    return load_checked(Path(str(files("rig.meter") / "instruments" / f"{driver}.yaml")), Declaration)
