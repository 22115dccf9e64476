"""The command set: a table from SCPI headers to the instrument (DMM6500 and DMM7510, command set SCPI)."""

import functools
import math
import operator
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.command_set import Answer, Arguments, CommandSet, Wait, take
from rig.virtual.meter.keithley import model
from rig.virtual.meter.keithley.buffers import ReadingBuffer
from rig.virtual.meter.keithley.instrument import Instrument
from rig.virtual.meter.keithley.settings import (
    CURRENT,
    FUNCTIONS,
    LINE_HZ,
    MAX_APERTURE_S,
    MAX_RATE,
    MIN_APERTURE_S,
    MIN_RATE,
    TICK_S,
    Sense,
    Settings,
)
from rig.virtual.meter.keithley.status import ERROR, INFORMATION, WARNING
from rig.virtual.meter.scpi import (
    AMPERES,
    SECONDS,
    ScpiError,
    indefinite_block,
    number_text,
    parse_boolean,
    parse_choice,
    parse_number,
    parse_string,
)

MANUFACTURER = "coaps-rig virtual bench"
FIRMWARE = "1.7.12b"
LANGUAGES = ("SCPI", "TSP", "SCPI2000", "SCPI34401")
#: How manuals write the functions in headers.
HEADERS = {
    CURRENT: "CURRent[:DC]",
    "CURR:AC": "CURRent:AC",
    "VOLT:DC": "VOLTage[:DC]",
    "VOLT:AC": "VOLTage:AC",
    "RES": "RESistance",
    "FRES": "FRESistance",
    "CAP": "CAPacitance",
    "VOLT:DC:RAT": "VOLTage[:DC]:RATio",
    "FREQ:VOLT": "FREQuency[:VOLTage]",
    "PER:VOLT": "PERiod[:VOLTage]",
    "TEMP": "TEMPerature",
    "DIOD": "DIODe",
    "CONT": "CONTinuity",
}
DC_FUNCTIONS = (CURRENT, "VOLT:DC", "RES", "FRES", "VOLT:DC:RAT", "TEMP", "DIOD")
EVENTS = ("EXTernal", "COMMand", "ATRigger", "DISPlay", "NONE")
ELEMENTS = ("READing", "RELative", "EXTRa", "UNIT")
BINARY = {"REAL": "f8", "SRE": "f4"}
KINDS = {"ERR": ERROR, "WARN": WARNING, "INF": INFORMATION, "ALL": ERROR | WARNING | INFORMATION}


class Commands(CommandSet[Settings]):
    """Executes program messages on an instrument."""

    _instrument: Instrument

    def __init__(self, instrument: Instrument, model_name: str, language: str) -> None:
        super().__init__(instrument)
        self._model = model_name
        self._language = language
        self._add_system()
        for function in FUNCTIONS:
            self._add_function(function)
        self._add_sense()
        self._add_digitize()
        self._add_trigger()
        self._add_buffers()
        self._add_status()
        self._add_panel()

    # The command set

    def _add_system(self) -> None:
        instrument = self._instrument
        identity = f"{MANUFACTURER},MODEL {self._model},{instrument.serial},{FIRMWARE}"
        self._add_common(lambda: identity, instrument.reset)
        self._command("*TRG", instrument.bus_trigger)
        self._query("*LANG", lambda: self._language)
        self._table.add("*LANG", self._set_language)
        self._query("SYSTem:LFRequency", lambda: f"{LINE_HZ:g}")
        self._query("SYSTem:VERSion", lambda: "1999.0")
        self._query("SYSTem:ERRor:COUNt", lambda: str(instrument.status.count(ERROR)))
        self._table.add("SYSTem:EVENtlog:COUNt?", self._count_events)
        self._table.add("SYSTem:EVENtlog:NEXT?", self._next_event)
        self._command("SYSTem:CLEar", instrument.status.clear)

    def _add_function(self, name: str) -> None:
        def sense(settings: Settings) -> Sense:
            return settings.sense[name]

        header, ranges = HEADERS[name], FUNCTIONS[name]
        prefix = f"[SENSe:]{header}:"
        if ranges:
            self._number(
                prefix + "RANGe[:UPPer]",
                lambda s: sense(s).range_upper,
                lambda _, value: self._set_range(name, value),
                lambda: (ranges[0], ranges[-1], ranges[-1]),
                AMPERES,
                least=0.0,
            )
            self._flag(prefix + "RANGe:AUTO", name, "autorange")
        aperture = (MIN_APERTURE_S, MAX_APERTURE_S, 1 / LINE_HZ)
        self._attribute(prefix + "APERture", name, "aperture_s", aperture, SECONDS)
        if name in DC_FUNCTIONS:
            self._number(
                prefix + "NPLCycles",
                lambda s: sense(s).aperture_s * LINE_HZ,
                lambda s, value: setattr(sense(s), "aperture_s", value / LINE_HZ),
                lambda: (MIN_APERTURE_S * LINE_HZ, MAX_APERTURE_S * LINE_HZ, 1.0),
            )
            self._flag(prefix + "AZERo[:STATe]", name, "autozero")
        self._attribute(prefix + "RELative", name, "relative", (-1e9, 1e9, 0.0))
        self._flag(prefix + "RELative:STATe", name, "relative_on")
        self._table.add(prefix + "RELative:ACQuire", lambda arguments: self._acquire_relative(name, arguments))
        self._flag(prefix + "AVERage[:STATe]", name, "average_on")
        self._attribute(prefix + "AVERage:COUNt", name, "average_count", (1, 100, 10))
        self._choice(
            prefix + "AVERage:TCONtrol",
            ("REPeat", "MOVing", "HYBRid"),
            lambda s: sense(s).average_type,
            lambda s, value: setattr(sense(s), "average_type", value),
        )
        if name.endswith(":AC"):
            self._attribute(prefix + "DETector:BANDwidth", name, "bandwidth_hz", (3.0, 300.0, 3.0))
        self._attribute(f"DISPlay:{header}:DIGits", name, "digits", (3, 6, 6))

    def _add_sense(self) -> None:
        self._table.add("[SENSe:]FUNCtion[:ON]", self._set_function)
        self._query("[SENSe:]FUNCtion[:ON]", lambda: f'"{self._instrument.settings.function}"')
        self._integer("[SENSe:]COUNt", "count", (1, 1_000_000, 1))
        self._command("[SENSe:]AZERo:ONCE", lambda: None)
        self._table.add("READ?", self._read)

    def _add_digitize(self) -> None:
        current = "[SENSe:]DIGitize:CURRent:"
        ranges = FUNCTIONS[CURRENT][1:]
        self._table.add("[SENSe:]DIGitize:FUNCtion[:ON]", self._set_digitize)
        self._query("[SENSe:]DIGitize:FUNCtion[:ON]", lambda: f'"{self._instrument.settings.digitize}"')
        self._integer("[SENSe:]DIGitize:COUNt", "digitize_count", (1, 55_000_000, 1))
        self._number(
            current + "RANGe[:UPPer]",
            lambda s: s.digitize_range_a,
            self._set_digitize_range,
            lambda: (ranges[0], ranges[-1], ranges[-2]),
            AMPERES,
            least=0.0,
        )
        self._number(
            current + "SRATe",
            lambda s: 1 / s.interval_s,
            lambda s, value: s.set_rate(value),
            lambda: (MIN_RATE, MAX_RATE, 100_000.0),
        )
        self._table.add(current + "APERture", self._set_aperture)
        self._query(current + "APERture", lambda: number_text(self._instrument.settings.digitize_aperture_s))
        trigger = current + "ATRigger:"
        self._choice(
            trigger + "MODE", ("OFF", "EDGE"), lambda s: s.analog_mode, lambda s, v: setattr(s, "analog_mode", v)
        )
        self._number(
            trigger + "EDGE:LEVel",
            lambda s: s.analog_level_a,
            lambda s, value: setattr(s, "analog_level_a", value),
            lambda: (-12.0, 12.0, 0.0),
            AMPERES,
        )
        self._choice(
            trigger + "EDGE:SLOPe",
            ("RISing", "FALLing"),
            lambda s: s.analog_slope,
            lambda s, value: setattr(s, "analog_slope", value),
        )

    def _add_trigger(self) -> None:
        instrument = self._instrument
        self._table.add("TRIGger:LOAD", self._load)
        self._block("BUFFer:CLEar", self._clear_block)
        self._block("DELay:CONStant", self._delay_block)
        self._block("WAIT", self._wait_block)
        for taking in ("MDIGitize", "MEASure", "DIGitize"):
            self._block(taking, self._digitize_block)
        self._block("BRANch:COUNter", self._counter_block)
        self._block("BRANch:ALWays", self._always_block)
        for idle in ("NOTify", "NOP"):
            self._block(idle, lambda _: model.Nothing())
        self._choice(
            "TRIGger:EXTernal:IN:EDGE",
            ("RISing", "FALLing", "EITHer"),
            lambda s: s.external_edge,
            lambda s, value: setattr(s, "external_edge", value),
        )
        self._command("TRIGger:EXTernal:IN:CLEar", lambda: None)
        self._command("INITiate[:IMMediate]", lambda: instrument.initiate(instrument.blocks))
        self._command("ABORt", instrument.abort)
        self._command("TRIGger:ABORt", instrument.abort)
        self._query("TRIGger:STATe", instrument.state)

    def _add_buffers(self) -> None:
        self._table.add("TRACe:MAKE", self._make)
        self._table.add("TRACe:DELete", self._delete)
        self._table.add("TRACe:CLEar", self._clear)
        self._table.add("TRACe:POINts", self._set_points)
        self._table.add("TRACe:FILL:MODE", self._set_fill_mode)
        self._of_buffer("TRACe:POINts", lambda buffer: str(buffer.capacity))
        self._of_buffer("TRACe:FILL:MODE", lambda buffer: "CONT" if buffer.continuous else "ONCE")
        self._of_buffer("TRACe:ACTual", lambda buffer: str(buffer.count))
        self._of_buffer("TRACe:ACTual:STARt", lambda buffer: str(buffer.start))
        self._of_buffer("TRACe:ACTual:END", lambda buffer: str(buffer.end))
        self._table.add("TRACe:DATA?", self._data)
        self._table.add("FETCh?", self._fetch)
        self._choice(
            "FORMat[:DATA]", ("ASCii", "REAL", "SREal"), lambda s: s.format, lambda s, v: setattr(s, "format", v)
        )
        self._choice(
            "FORMat:BORDer",
            ("NORMal", "SWAPped"),
            lambda s: "SWAP" if s.swapped else "NORM",
            lambda s, value: setattr(s, "swapped", value == "SWAP"),
        )

    def _add_status(self) -> None:
        status = self._instrument.status
        self._register("STATus:QUEStionable", status.questionable)
        self._register("STATus:OPERation", status.operation)
        self._command("STATus:CLEar", status.clear)
        self._command("STATus:PRESet", lambda: None)

    def _add_panel(self) -> None:
        self._query("ROUTe:TERMinals", lambda: "FRON")
        self._table.add("DISPlay:SCReen", lambda arguments: _nothing(take(arguments, 1)))
        self._table.add("DISPlay:CLEar", lambda arguments: _nothing(take(arguments, 0)))
        for line in ("USER1", "USER2"):
            self._table.add(f"DISPlay:{line}:TEXT[:DATA]", lambda arguments: _nothing(take(arguments, 1)))
        self._table.add("SYSTem:BEEPer[:IMMediate]", lambda arguments: _nothing(take(arguments, 2)))

    # How rows are added

    def _block(self, name: str, build: Callable[[Arguments], model.Block]) -> None:
        self._table.add(f"TRIGger:BLOCk:{name}", lambda arguments: self._place(arguments, build))

    def _attribute(
        self,
        pattern: str,
        function: str,
        name: str,
        limits: tuple[float, float, float],
        suffixes: dict[str, float] | None = None,
    ) -> None:
        whole = isinstance(limits[0], int)
        self._number(
            pattern,
            lambda s: float(getattr(s.sense[function], name)),
            lambda s, value: setattr(s.sense[function], name, round(value) if whole else value),
            lambda: limits,
            suffixes or {"": 1.0},
            shown=_whole if whole else number_text,
        )

    def _integer(self, pattern: str, name: str, limits: tuple[int, int, int]) -> None:
        self._number(
            pattern,
            lambda s: int(getattr(s, name)),
            lambda s, value: setattr(s, name, round(value)),
            lambda: limits,
            shown=_whole,
        )

    def _flag(self, pattern: str, function: str, name: str) -> None:
        def change(arguments: Arguments) -> None:
            value = parse_boolean(take(arguments, 1)[0])
            setattr(self._instrument.reconfigure().sense[function], name, value)

        self._table.add(pattern, change)
        self._query(pattern, lambda: str(int(getattr(self._instrument.settings.sense[function], name))))

    def _of_buffer(self, pattern: str, answer: Callable[[ReadingBuffer], str]) -> None:
        def ask(arguments: Arguments) -> bytes:
            self._instrument.advance()
            return answer(self._buffer(take(arguments, 0, 1))).encode()

        self._table.add(pattern + "?", ask)

    def _buffer(self, arguments: Arguments) -> ReadingBuffer:
        return self._instrument.buffer(_name(arguments))

    # What commands do

    def _set_language(self, arguments: Arguments) -> None:
        # A change takes effect when the instrument is switched on again.
        parse_choice(take(arguments, 1)[0], *LANGUAGES)

    def _count_events(self, arguments: Arguments) -> bytes:
        return str(self._instrument.status.count(_kinds(arguments))).encode()

    def _next_event(self, arguments: Arguments) -> bytes:
        return self._instrument.status.next_event(_kinds(arguments)).encode()

    def _set_function(self, arguments: Arguments) -> None:
        wanted = parse_string(take(arguments, 1)[0]).upper().removeprefix(":")
        name = {"CURR": CURRENT, "VOLT": "VOLT:DC", "FREQ": "FREQ:VOLT", "PER": "PER:VOLT"}.get(wanted, wanted)
        if name not in FUNCTIONS:
            raise ScpiError(-224, wanted[:32])
        settings = self._instrument.reconfigure()
        settings.function, settings.digitize = name, "NONE"
        self._instrument.follow_range()

    def _set_digitize(self, arguments: Arguments) -> None:
        wanted = parse_string(take(arguments, 1)[0]).upper()
        name = parse_choice(wanted, "CURRent", "VOLTage")
        settings = self._instrument.reconfigure()
        settings.function, settings.digitize = "NONE", name
        self._instrument.follow_range()

    def _set_range(self, function: str, value: float) -> None:
        sense = self._instrument.settings.sense[function]
        sense.range_upper, sense.autorange = _holding(FUNCTIONS[function], value), False
        self._instrument.follow_range()

    def _set_digitize_range(self, settings: Settings, value: float) -> None:
        settings.digitize_range_a = _holding(FUNCTIONS[CURRENT][1:], value)
        self._instrument.follow_range()

    def _set_aperture(self, arguments: Arguments) -> None:
        text = take(arguments, 1)[0]
        settings = self._instrument.reconfigure()
        if text.upper() == "AUTO":
            settings.aperture_ticks = None
            return
        # Less than a microsecond is cut off.
        ticks = math.floor(parse_number(text, SECONDS) / TICK_S + 1e-9)
        if not 1 <= ticks <= settings.digitize_ticks:
            raise ScpiError(-222, text[:32])
        settings.aperture_ticks = ticks

    def _acquire_relative(self, function: str, arguments: Arguments) -> Wait:
        take(arguments, 0)

        def keep() -> None:
            self._instrument.settings.sense[function].relative = self._newest("defbuffer1")[0]

        self._measure("defbuffer1", 1)
        return Wait(self._instrument.idle, keep)

    def _read(self, arguments: Arguments) -> Wait:
        buffer = _name(take(arguments, 0, 3))
        settings = self._instrument.settings
        self._measure(buffer, settings.count if settings.digitize == "NONE" else settings.digitize_count)
        return Wait(self._instrument.idle, lambda: self._payload(self._relative(self._newest(buffer))))

    def _measure(self, buffer: str, count: int) -> None:
        self._instrument.initiate([model.Digitize(buffer, count)])

    def _newest(self, buffer: str) -> NDArray[np.float64]:
        ring = self._instrument.buffer(buffer)
        return ring.read(ring.end, ring.end)[0]

    def _relative(self, readings: NDArray[np.float64]) -> NDArray[np.float64]:
        settings = self._instrument.settings
        sense = settings.sense.get(settings.function)
        return readings - sense.relative if sense is not None and sense.relative_on else readings

    def _fetch(self, arguments: Arguments) -> bytes:
        buffer = self._buffer(take(arguments, 0, 3))
        if not buffer.count:
            raise ScpiError(-230)
        return self._payload(buffer.read(buffer.end, buffer.end)[0])

    # Trigger model

    def _load(self, arguments: Arguments) -> None:
        name = parse_string(take(arguments, 1, 6)[0]).upper()
        self._instrument.reconfigure()
        builders: dict[str, Callable[[Arguments], list[model.Block]]] = {
            "EMPTY": self._empty,
            "SIMPLELOOP": self._simple_loop,
            "DURATIONLOOP": self._duration_loop,
            "LOOPUNTILEVENT": self._loop_until_event,
        }
        if name not in builders:
            raise ScpiError(-224, name[:32])
        self._instrument.blocks = builders[name](arguments[1:])

    def _empty(self, arguments: Arguments) -> list[model.Block]:
        take(arguments, 0)
        return []

    def _simple_loop(self, arguments: Arguments) -> list[model.Block]:
        take(arguments, 1, 3)
        return model.simple_loop(round(parse_number(arguments[0])), _seconds(arguments[1:2]), _name(arguments[2:]))

    def _duration_loop(self, arguments: Arguments) -> list[model.Block]:
        take(arguments, 1, 3)
        return model.duration_loop(_seconds(arguments[:1]), _seconds(arguments[1:2]), _name(arguments[2:]))

    def _loop_until_event(self, arguments: Arguments) -> list[model.Block]:
        take(arguments, 2, 5)
        buffer = _name(arguments[4:])
        clear = len(arguments) < 3 or parse_choice(arguments[2], "ENTer", "NEVer") == "ENT"
        return model.loop_until_event(
            parse_choice(arguments[0], *EVENTS),
            parse_number(arguments[1]),
            clear,
            _seconds(arguments[3:4]),
            buffer,
            self._instrument.buffer(buffer).capacity,
        )

    def _place(self, arguments: Arguments, build: Callable[[Arguments], model.Block]) -> None:
        number = round(parse_number(take(arguments, 1, 9)[0]))
        self._instrument.reconfigure()
        blocks = self._instrument.blocks
        if not 1 <= number <= len(blocks) + 1:
            raise ScpiError(-222, arguments[0][:32])
        blocks[number - 1 :] = [build(arguments[1:]), *blocks[number:]]

    def _clear_block(self, arguments: Arguments) -> model.Block:
        return model.Clear(self._known(arguments[:1]))

    def _delay_block(self, arguments: Arguments) -> model.Block:
        delay_s = _seconds(take(arguments, 1))
        if not 0 <= delay_s <= 10_000:
            raise ScpiError(-222, arguments[0][:32])
        return model.Delay(delay_s)

    def _wait_block(self, arguments: Arguments) -> model.Block:
        take(arguments, 1, 4)
        clear = len(arguments) > 1 and parse_choice(arguments[1], "ENTer", "NEVer") == "ENT"
        return model.Wait(parse_choice(arguments[0], *EVENTS), clear)

    def _digitize_block(self, arguments: Arguments) -> model.Block:
        take(arguments, 0, 2)
        settings = self._instrument.settings
        text = arguments[1] if len(arguments) > 1 else "AUTO"
        if text.upper() == "AUTO":
            return model.Digitize(
                self._known(arguments[:1]), settings.count if settings.digitize == "NONE" else settings.digitize_count
            )
        if text[:1].isalpha():
            parse_choice(text, "INFinite", "INF")
            return model.Digitize(self._known(arguments[:1]), math.inf)
        return model.Digitize(self._known(arguments[:1]), round(parse_number(text)))

    def _counter_block(self, arguments: Arguments) -> model.Block:
        count, target = (round(parse_number(text)) for text in take(arguments, 2))
        return model.BranchCounter(count, self._target(target))

    def _always_block(self, arguments: Arguments) -> model.Block:
        return model.BranchAlways(self._target(round(parse_number(take(arguments, 1)[0]))))

    def _target(self, number: int) -> int:
        if not 1 <= number <= len(self._instrument.blocks) + 1:
            raise ScpiError(-222, str(number))
        return number

    def _known(self, arguments: Arguments) -> str:
        name = _name(arguments)
        self._instrument.buffer(name)
        return name

    # Buffers

    def _make(self, arguments: Arguments) -> None:
        take(arguments, 2, 3)
        self._instrument.make_buffer(parse_string(arguments[0]), round(parse_number(arguments[1])))

    def _delete(self, arguments: Arguments) -> None:
        self._instrument.reconfigure()
        self._instrument.delete_buffer(parse_string(take(arguments, 1)[0]))

    def _clear(self, arguments: Arguments) -> None:
        self._instrument.advance()
        self._buffer(take(arguments, 0, 1)).clear()

    def _set_points(self, arguments: Arguments) -> None:
        take(arguments, 1, 2)
        self._instrument.resize_buffer(_name(arguments[1:]), round(parse_number(arguments[0])))

    def _set_fill_mode(self, arguments: Arguments) -> None:
        take(arguments, 1, 2)
        continuous = parse_choice(arguments[0], "CONTinuous", "ONCE") == "CONT"
        self._instrument.reconfigure()
        buffer = self._buffer(arguments[1:])
        buffer.continuous = continuous
        buffer.clear()

    def _data(self, arguments: Arguments) -> bytes:
        take(arguments, 2, 20)
        self._instrument.advance()
        buffer = self._buffer(arguments[2:3])
        elements = [parse_choice(text, *ELEMENTS) for text in arguments[3:]] or ["READ"]
        if self._instrument.settings.format != "ASC" and not set(elements) <= {"READ", "REL", "EXTR"}:
            raise ScpiError(1133, text="Parameter 4, Syntax error, expected valid name parameters")
        try:
            values, times_s = buffer.read(*(round(parse_number(text)) for text in arguments[:2]))
        except IndexError as error:
            raise ScpiError(-222, str(error)) from None
        columns = {"READ": values, "REL": times_s, "EXTR": 0 * values}
        return self._payload(np.stack([columns[name] for name in elements], axis=1).ravel())

    def _payload(self, values: NDArray[np.float64]) -> bytes:
        settings = self._instrument.settings
        if settings.format == "ASC":
            return ",".join(f"{value:.9E}" for value in values).encode()
        order = "<" if settings.swapped else ">"
        return indefinite_block(values.astype(order + BINARY[settings.format]).tobytes())


def _nothing(_: Arguments) -> Answer:
    """What is on the front panel changes no reading."""
    return None


def _name(arguments: Arguments) -> str:
    return parse_string(arguments[0]) if arguments else "defbuffer1"


def _whole(value: float) -> str:
    return str(round(value))


def _kinds(arguments: Arguments) -> int:
    """Return which kinds of events are named; all where none is."""
    names = [parse_choice(text, "ERRor", "WARNing", "INFormational", "ALL") for text in take(arguments, 0, 3)]
    return functools.reduce(operator.or_, (KINDS[name] for name in names or ["ALL"]))


def _seconds(arguments: Arguments) -> float:
    return parse_number(arguments[0], SECONDS) if arguments else 0.0


def _holding(ranges: tuple[float, ...], value: float) -> float:
    """Return the lowest of *ranges* that holds *value*."""
    return next(upper for upper in ranges if upper >= value * (1 - 1e-9))
