"""The command set: a table from SCPI headers to the instrument (34465A, DC current, options DIG and MEM)."""

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.command_set import INFINITE, Answer, Arguments, CommandSet, Wait, take
from rig.virtual.meter.scpi import (
    AMPERES,
    SECONDS,
    ScpiError,
    block,
    number_text,
    parse_choice,
    parse_number,
    short_form,
)
from rig.virtual.meter.truevolt.instrument import Instrument
from rig.virtual.meter.truevolt.sampler import Source
from rig.virtual.meter.truevolt.settings import (
    LINE_PERIOD_S,
    MAX_APERTURE_S,
    MAX_INTERVAL_S,
    MAX_SAMPLES,
    MEMORY_READINGS,
    MIN_APERTURE_S,
    NPLC_CHOICES,
    Settings,
    on_time_grid,
)

MANUFACTURER = "coaps-rig virtual bench"
MODEL = "34465A"
FIRMWARE = "A.03.02-03.15-03.00-00.52-03-02"
NOT_A_NUMBER = 9.91e37


class Commands(CommandSet[Settings]):
    """Executes program messages on an instrument."""

    _instrument: Instrument

    def __init__(self, instrument: Instrument) -> None:
        super().__init__(instrument)
        for add in (self._add_system, self._add_measurement, self._add_trigger, self._add_data, self._add_status):
            add()

    # The command set

    def _add_system(self) -> None:
        instrument = self._instrument
        self._add_common(lambda: f"{MANUFACTURER},{MODEL},{instrument.serial},{FIRMWARE}", self._reset)
        self._query("*OPT", lambda: "DIG,MEM")
        self._command("SYSTem:PRESet", self._reset)
        self._command("*TRG", instrument.bus_trigger)
        self._command("SYSTem:LOCal", lambda: None)
        self._command("SYSTem:REMote", lambda: None)
        self._query("SYSTem:VERSion", lambda: "1994.0")

    def _add_measurement(self) -> None:
        instrument = self._instrument
        sense = "[SENSe:]CURRent[:DC]:"
        self._table.add("CONFigure:CURRent[:DC]", self._configure_current)
        self._query("[SENSe:]FUNCtion[:ON]", lambda: f'"{instrument.settings.function}"')
        self._number(
            sense + "RANGe[:UPPer]",
            lambda s: s.range_a,
            lambda s, value: self._set_range(s, value),
            lambda: (100e-6, 10.0, 3.0),
            AMPERES,
        )
        self._switch(sense + "RANGe:AUTO", "autorange")
        self._number(
            sense + "APERture",
            lambda s: s.aperture_s,
            lambda s, value: s.set_aperture(on_time_grid(value)),
            lambda: (MIN_APERTURE_S, MAX_APERTURE_S, 0.1),
            SECONDS,
        )
        self._number(
            sense + "NPLC",
            lambda s: s.aperture_s / LINE_PERIOD_S,
            lambda s, value: s.set_aperture(next(n for n in NPLC_CHOICES if n >= value * (1 - 1e-9)) * LINE_PERIOD_S),
            lambda: (NPLC_CHOICES[0], NPLC_CHOICES[-1], 10.0),
        )
        self._switch(sense + "ZERO:AUTO", "autozero")

    def _add_trigger(self) -> None:
        instrument = self._instrument
        sources = ("IMMediate", "EXTernal", "BUS", "INTernal")
        self._choice(
            "TRIGger:SOURce", sources, lambda s: s.trigger_source.value, lambda s, v: _put(s, trigger_source=Source(v))
        )
        self._choice(
            "TRIGger:SLOPe",
            ("POSitive", "NEGative"),
            lambda s: "POS" if s.trigger_rising else "NEG",
            lambda s, value: _put(s, trigger_rising=value == "POS"),
        )
        self._number(
            "TRIGger:LEVel",
            lambda s: s.trigger_level_a,
            lambda s, value: _put(s, trigger_level_a=value),
            lambda: (-12.0, 12.0, 0.0),
            AMPERES,
        )
        self._number(
            "TRIGger:COUNt",
            lambda s: s.trigger_count,
            lambda s, value: _put(s, trigger_count=value),
            lambda: (1, INFINITE, 1),
        )
        self._number(
            "TRIGger:DELay",
            lambda s: s.trigger_delay_s,
            lambda s, value: _put(s, trigger_delay_s=value),
            lambda: (0.0, 3600.0, 0.0),
            SECONDS,
        )
        self._number(
            "SAMPle:COUNt",
            lambda s: s.sample_count,
            lambda s, value: s.set_counts(round(value), s.pretrigger_count),
            lambda: (1, MAX_SAMPLES, 1),
        )
        self._number(
            "SAMPle:COUNt:PRETrigger",
            lambda s: s.pretrigger_count,
            lambda s, value: s.set_counts(s.sample_count, round(value)),
            lambda: (0, MEMORY_READINGS - 1, 0),
        )
        self._choice(
            "SAMPle:SOURce",
            ("IMMediate", "TIMer"),
            lambda s: "TIM" if s.sample_timer else "IMM",
            lambda s, value: _put(s, sample_timer=value == "TIM"),
        )
        self._number(
            "SAMPle:TIMer",
            lambda s: s.timer_s,
            lambda s, value: s.set_timer(value),
            lambda: (on_time_grid(instrument.settings.reading_time_s), MAX_INTERVAL_S, 1.0),
            SECONDS,
            MIN_APERTURE_S,
        )
        self._command("INITiate[:IMMediate]", instrument.initiate)
        self._command("ABORt", instrument.abort)

    def _add_data(self) -> None:
        instrument = self._instrument
        self._table.add("FORMat[:DATA]", self._set_format)
        self._query("FORMat[:DATA]", lambda: _format_text(instrument.settings))
        self._table.add("FORMat:BORDer", self._set_border)
        self._query("FORMat:BORDer", lambda: "SWAP" if instrument.settings.little_endian else "NORM")
        self._query("DATA:POINts", self._points)
        self._query("DATA:LAST", self._last)
        self._table.add("DATA:REMove?", self._remove)
        self._table.add("R?", self._read_and_remove)
        self._table.add("FETCh?", lambda arguments: self._fetch(take(arguments, 0)))
        self._table.add("READ?", self._read)

    def _add_status(self) -> None:
        status = self._instrument.status
        self._register("STATus:QUEStionable", status.questionable)
        self._register("STATus:OPERation", status.operation)

    # What commands do

    def _reset(self) -> None:
        instrument = self._instrument
        instrument.reconfigure()
        instrument.settings = Settings()
        instrument.set_range(instrument.settings.range_a)

    def _configure_current(self, arguments: Arguments) -> None:
        range_text = take(arguments, 0, 2)[0] if arguments else "AUTO"
        automatic = range_text.upper() in ("AUTO", "DEF", "DEFAULT")
        value = None if automatic else parse_number(range_text, AMPERES)
        if value is not None and not 0 < value <= 10.0:
            raise ScpiError(-222, range_text[:32])
        instrument = self._instrument
        instrument.set_range(value or instrument.settings.range_a)
        instrument.settings.configure_current(automatic)

    def _set_range(self, settings: Settings, value: float) -> None:
        settings.autorange = False
        self._instrument.set_range(value)

    def _set_format(self, arguments: Arguments) -> None:
        take(arguments, 1, 2)
        kind = parse_choice(arguments[0], "ASCii", "REAL")
        length = parse_number(arguments[1]) if len(arguments) > 1 else 64
        if kind == "REAL" and length not in (32, 64):
            raise ScpiError(-224, arguments[1][:32])
        self._instrument.settings.binary_bytes = int(length) // 8 if kind == "REAL" else 0

    def _set_border(self, arguments: Arguments) -> None:
        order = parse_choice(take(arguments, 1)[0], "NORMal", "SWAPped", "SWAP")
        self._instrument.settings.little_endian = order == "SWAP"

    def _points(self) -> str:
        self._instrument.advance()
        return f"{self._instrument.memory.count:+d}"

    def _last(self) -> str:
        self._instrument.advance()
        last = self._instrument.memory.last
        return f"{number_text(NOT_A_NUMBER if last is None else last)} ADC"

    def _remove(self, arguments: Arguments) -> Answer:
        take(arguments, 1, 2)
        instrument = self._instrument
        count = round(parse_number(arguments[0]))
        wait = len(arguments) > 1 and parse_choice(arguments[1], "WAIT") == "WAIT"
        instrument.advance()
        if instrument.memory.count >= count:
            return self._block(instrument.memory.take(count))
        if not wait or not instrument.acquiring:
            raise ScpiError(-222, "fewer readings than requested")
        return Wait(
            lambda: instrument.idle() or instrument.memory.count >= count,
            lambda: self._block(instrument.memory.take(count)),
        )

    def _read_and_remove(self, arguments: Arguments) -> bytes:
        take(arguments, 0, 1)
        count = round(parse_number(arguments[0])) if arguments else MEMORY_READINGS
        if not 1 <= count <= MEMORY_READINGS:
            raise ScpiError(-222, arguments[0][:32])
        self._instrument.advance()
        return self._block(self._instrument.memory.take(count))

    def _fetch(self, _: Arguments) -> Wait:
        return Wait(self._instrument.idle, lambda: self._payload(self._instrument.readings()))

    def _read(self, arguments: Arguments) -> Wait:
        take(arguments, 0)
        self._instrument.initiate()
        return self._fetch(())

    def _payload(self, readings: NDArray[np.float64]) -> bytes:
        return self._block(readings) if self._instrument.settings.binary_bytes else _ascii(readings)

    def _block(self, readings: NDArray[np.float64]) -> bytes:
        settings = self._instrument.settings
        if not settings.binary_bytes:
            return block(_ascii(readings))
        order = "<" if settings.little_endian else ">"
        return block(readings.astype(f"{order}f{settings.binary_bytes}").tobytes())


def _put(settings: Settings, **values: object) -> None:
    for name, value in values.items():
        setattr(settings, name, value)


def _ascii(readings: NDArray[np.float64]) -> bytes:
    return ",".join(number_text(reading) for reading in readings).encode()


def _format_text(settings: Settings) -> str:
    return f"REAL,{settings.binary_bytes * 8}" if settings.binary_bytes else f"{short_form('ASCii')},9"
