"""What a command set is made of: commands, queries, settings with limits, choices, switches, status registers."""

from collections.abc import Callable

from rig.virtual.meter.instrument import INFINITE_TRIGGERS, Instrument, Wait
from rig.virtual.meter.scpi import (
    PLAIN,
    CommandTable,
    ScpiError,
    number_text,
    parse_boolean,
    parse_choice,
    parse_number,
)
from rig.virtual.meter.settings import Settings
from rig.virtual.meter.status import Register, Status

Answer = bytes | Wait | None
Arguments = tuple[str, ...]
Handler = Callable[[Arguments], Answer]


class CommandSet:
    """A table of commands on one instrument, and how rows are added to it."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._table: CommandTable[Handler] = CommandTable()

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
    ) -> None:
        """Add a numeric setting with its query; *limits* gives minimum, maximum and default.

        *least* is what is still accepted when the minimum depends on other settings.
        """

        def parse(text: str) -> float:
            minimum, maximum, default = limits()
            keywords = {"MIN": minimum, "MAX": maximum, "DEF": default, "INF": INFINITE_TRIGGERS}
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
            return number_text(value).encode()

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
