"""What a command set is made of: commands, queries, settings with limits, choices, switches, status registers."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from rig.virtual.meter.scpi import (
    PLAIN,
    CommandTable,
    ScpiError,
    Unit,
    number_text,
    parse_boolean,
    parse_choice,
    parse_message,
    parse_number,
)
from rig.virtual.meter.status import Register, Status

#: What INFinity stands for (SCPI-99 volume 1, 7.2.1.4).
INFINITE = 9.9e37


@dataclass(frozen=True)
class Wait:
    """The answer of a command that must wait: when it may go on, and what it does then."""

    ready: Callable[[], bool]
    finish: Callable[[], bytes | None]


Answer = bytes | Wait | None
Arguments = tuple[str, ...]
Handler = Callable[[Arguments], Answer]
Settings = TypeVar("Settings")


class ScpiInstrument(Protocol[Settings]):
    """What the common commands and the settings need of an instrument."""

    lock: threading.RLock
    settings: Settings

    @property
    def status(self) -> Status:
        """Return the error queue and the status registers."""

    def advance(self) -> None:
        """Take every sample that is due."""

    def reconfigure(self) -> Settings:
        """Do what any change of a setting does (end an acquisition, ...) and return the settings to change."""

    def idle(self) -> bool:
        """Return whether nothing is under way (``*OPC?``)."""

    def announce_completion(self) -> None:
        """Act as ``*OPC``: set the event bit when nothing is under way any more."""


class CommandSet(Generic[Settings]):
    """A table of commands on one instrument, how rows are added to it, and how messages are executed."""

    def __init__(self, instrument: ScpiInstrument[Settings]) -> None:
        self._instrument = instrument
        self._table: CommandTable[Handler] = CommandTable()

    def units(self, message: str) -> list[Unit]:
        """Return the units of *message*; what is not SCPI goes to the error queue."""
        units = []
        for parsed in parse_message(message):
            if isinstance(parsed, Unit):
                units.append(parsed)
            else:
                self.report(parsed)
        return units

    def execute(self, unit: Unit) -> Answer:
        """Execute one unit; its error goes to the queue and there is no answer then."""
        with self._instrument.lock:
            try:
                return self._table.find(unit)(unit.arguments)
            except ScpiError as error:
                self.report(error)
                return None

    def finish(self, wait: Wait) -> bytes | None:
        """Execute what was waited for; its error goes to the queue."""
        with self._instrument.lock:
            try:
                return wait.finish()
            except ScpiError as error:
                self.report(error)
                return None

    def report(self, error: ScpiError) -> None:
        """Put *error* into the queue."""
        with self._instrument.lock:
            self._instrument.status.add_error(error)

    def advance(self) -> None:
        """Let the instrument take what is due; the server's clockwork calls it."""
        self._instrument.advance()

    def _add_common(self, identity: Callable[[], str], reset: Callable[[], None]) -> None:
        """Add the common commands of IEEE 488.2 and SYSTem:ERRor."""
        instrument, status = self._instrument, self._instrument.status
        self._query("*IDN", identity)
        self._command("*RST", reset)
        self._command("*CLS", status.clear)
        self._query("*ESR", lambda: str(status.read_standard_event()))
        self._query("*STB", lambda: str(status.byte()))
        self._mask("*ESE", status, "standard_event_enable")
        self._mask("*SRE", status, "service_request_enable")
        self._command("*OPC", instrument.announce_completion)
        self._table.add("*OPC?", lambda _: Wait(instrument.idle, lambda: b"1"))
        self._table.add("*WAI", lambda _: Wait(instrument.idle, lambda: None))
        self._query("SYSTem:ERRor[:NEXT]", status.next_error)

    def _command(self, pattern: str, action: Callable[[], None]) -> None:
        def handle(arguments: Arguments) -> None:
            take(arguments, 0)
            action()

        self._table.add(pattern, handle)

    def _query(self, pattern: str, answer: Callable[[], str]) -> None:
        def handle(arguments: Arguments) -> bytes:
            take(arguments, 0)
            return answer().encode()

        self._table.add(pattern + "?", handle)

    def _number(
        self,
        pattern: str,
        get: Callable[[Settings], float],
        put: Callable[[Settings, float], None],
        limits: Callable[[], tuple[float, float, float]],
        suffixes: dict[str, float] = PLAIN,
        least: float | None = None,
        shown: Callable[[float], str] = number_text,
    ) -> None:
        """Add a numeric setting with its query; *limits* gives minimum, maximum and default.

        *least* is what is still accepted when the minimum depends on other settings; *shown* prints the value.
        """

        def parse(text: str) -> float:
            minimum, maximum, default = limits()
            keywords = {"MIN": minimum, "MAX": maximum, "DEF": default, "INF": INFINITE}
            if text[:1].isalpha():
                return keywords[parse_choice(text, "MINimum", "MAXimum", "DEFault", "INFinity")]
            return parse_number(text, suffixes)

        def change(arguments: Arguments) -> None:
            value = parse(take(arguments, 1)[0])
            minimum, maximum, _ = limits()
            if not (minimum if least is None else least) * (1 - 1e-9) <= value <= maximum * (1 + 1e-9):
                raise ScpiError(-222, arguments[0][:32])
            put(self._instrument.reconfigure(), value)

        def ask(arguments: Arguments) -> bytes:
            value = parse(take(arguments, 1)[0]) if arguments else get(self._instrument.settings)
            return shown(value).encode()

        self._table.add(pattern, change)
        self._table.add(pattern + "?", ask)

    def _choice(
        self,
        pattern: str,
        choices: tuple[str, ...],
        get: Callable[[Settings], str],
        put: Callable[[Settings, str], None],
    ) -> None:
        """Add a setting that is one of *choices*, with its query."""

        def change(arguments: Arguments) -> None:
            put(self._instrument.reconfigure(), parse_choice(take(arguments, 1)[0], *choices))

        self._table.add(pattern, change)
        self._query(pattern, lambda: get(self._instrument.settings))

    def _switch(self, pattern: str, name: str) -> None:
        """Add an ON/OFF setting, the attribute *name* of the settings, with its query."""

        def change(arguments: Arguments) -> None:
            setattr(self._instrument.reconfigure(), name, parse_boolean(take(arguments, 1)[0]))

        self._table.add(pattern, change)
        self._query(pattern, lambda: str(int(getattr(self._instrument.settings, name))))

    def _register(self, pattern: str, register: Register) -> None:
        """Add the queries of a status register; its event is cleared by reading it."""
        self._query(pattern + ":CONDition", lambda: self._fresh(lambda: register.condition))
        self._query(pattern + "[:EVENt]", lambda: self._fresh(register.read_event))
        self._mask(pattern + ":ENABle", register, "enable")

    def _mask(self, pattern: str, holder: Register | Status, name: str) -> None:
        def change(arguments: Arguments) -> None:
            setattr(holder, name, int(parse_number(take(arguments, 1)[0])))

        self._table.add(pattern, change)
        self._query(pattern, lambda: str(getattr(holder, name)))

    def _fresh(self, answer: Callable[[], int]) -> str:
        self._instrument.advance()
        return f"{answer():+d}"


def take(arguments: Arguments, least: int, most: int | None = None) -> Arguments:
    """Return *arguments* if their number is right."""
    if len(arguments) < least:
        raise ScpiError(-109)
    if len(arguments) > (least if most is None else most):
        raise ScpiError(-108)
    return arguments
