"""The command set: a table from SCPI headers to the instrument (N6705C, N6781A in voltage priority)."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.command_set import Answer, Arguments, CommandSet, Wait, take
from rig.virtual.meter.n6705.instrument import Instrument
from rig.virtual.meter.n6705.settings import (
    MAX_INTERVAL_S,
    MAX_LOG_PERIOD_S,
    MAX_POINTS,
    RANGES_A,
    Sense,
    Settings,
)
from rig.virtual.meter.registers import FilteredRegister
from rig.virtual.meter.scpi import (
    AMPERES,
    SECONDS,
    ScpiError,
    Unit,
    block,
    channel_list,
    number_text,
    parse_boolean,
    parse_number,
)

MANUFACTURER = "coaps-rig virtual bench"
MODEL = "N6705C"
FIRMWARE = "E.02.12"
#: What stands for the whole mainframe; every other command names its channels.
OF_THE_MAINFRAME = ("SYST", "SYSTEM", "FORM", "FORMAT", "DIG", "DIGITAL")
VOLTS = {"": 1.0, "V": 1.0, "MV": 1e-3}


class Commands(CommandSet[Settings]):
    """Executes program messages on an instrument."""

    def __init__(self, instrument: Instrument) -> None:
        super().__init__(instrument)
        self._n6705 = instrument
        self._add_common(lambda: f"{MANUFACTURER},{MODEL},{instrument.serial},{FIRMWARE}", self._reset)
        for add in (self._add_output, self._add_sense, self._add_trigger, self._add_data, self._add_status):
            add()

    def execute(self, unit: Unit) -> Answer:
        """Execute one unit for the channel that it names."""
        try:
            unit = _for_channel(unit)
        except ScpiError as error:
            self.report(error)
            return None
        return super().execute(unit)

    # The command set

    def _add_output(self) -> None:
        instrument = self._n6705
        source = "[SOURce:]"
        self._programmed(
            source + "VOLTage[:LEVel][:IMMediate][:AMPLitude]",
            lambda: instrument.output.programmed.voltage_v,
            lambda value: instrument.program(voltage_v=value),
            20.4,
        )
        # In voltage priority the limit is CURR:LIM; CURR is the level of current priority and changes nothing here.
        self._programmed(
            source + "CURRent:LIMit[:POSitive][:IMMediate][:AMPLitude]",
            lambda: instrument.output.programmed.limit_a,
            lambda value: instrument.program(limit_a=value),
            3.06,
        )
        self._programmed(source + "CURRent[:LEVel][:IMMediate][:AMPLitude]", lambda: 0.0, lambda _: None, 3.06)
        self._table.add("OUTPut[:STATe]", lambda arguments: instrument.program(on=parse_boolean(take(arguments, 1)[0])))
        self._query("OUTPut[:STATe]", lambda: str(int(instrument.output.programmed.on)))
        self._command("OUTPut:PROTection:CLEar", instrument.clear_protection)
        self._table.add(source + "CURRent:PROTection:STATe", self._protect)
        self._query(source + "CURRent:PROTection:STATe", lambda: str(int(instrument.protects_current)))
        self._query("SYSTem:CHANnel[:COUNt]", lambda: "1")
        self._query("SYSTem:CHANnel:MODel", lambda: '"N6781A"')

    def _add_sense(self) -> None:
        settings = self._n6705.settings
        for prefix, part in (("SENSe:", settings.sense), ("SENSe:ELOG:", settings.elog)):
            self._sense_switch(prefix + "FUNCtion:CURRent", part, "current")
            self._sense_switch(prefix + "FUNCtion:VOLTage", part, "voltage")
            self._sense_switch(prefix + "CURRent[:DC]:RANGe:AUTO", part, "seamless")
            self._add_range(prefix + "CURRent[:DC]:RANGe[:UPPer]", part)
        self._sense_switch("SENSe:ELOG:FUNCtion:CURRent:MINMax", settings.elog, "current_min_max")
        self._sense_switch("SENSe:ELOG:FUNCtion:VOLTage:MINMax", settings.elog, "voltage_min_max")
        self._number(
            "SENSe:SWEep:TINTerval",
            lambda s: s.interval_s,
            lambda s, value: _put(s, asked_interval_s=value),
            lambda: (settings.least_interval_s, MAX_INTERVAL_S, 20.48e-6),
            SECONDS,
            least=0.0,
        )
        self._choice(
            "SENSe:SWEep:TINTerval:RESolution",
            ("RES20", "RES40"),
            lambda s: "RES20" if s.fine else "RES40",
            lambda s, value: _put(s, fine=value == "RES20"),
        )
        self._number(
            "SENSe:SWEep:POINts",
            lambda s: s.points,
            lambda s, value: _put(s, points=round(value)),
            lambda: (1, MAX_POINTS, 1024),
        )
        self._number(
            "SENSe:SWEep:OFFSet:POINts",
            lambda s: s.offset,
            lambda s, value: _put(s, offset=round(value)),
            lambda: (-MAX_POINTS + 1, 2e9, 0),
            least=-MAX_POINTS + 1,
        )
        self._number(
            "SENSe:ELOG:PERiod",
            lambda s: s.period_s,
            lambda s, value: _put(s, asked_period_s=value),
            lambda: (settings.least_period_s, MAX_LOG_PERIOD_S, 0.1),
            SECONDS,
            least=0.0,
        )

    def _add_trigger(self) -> None:
        instrument = self._n6705
        self._choice(
            "TRIGger:ACQuire:SOURce",
            ("BUS", "CURRent1", "EXTernal", "PIN1"),
            lambda s: s.source,
            lambda s, value: _put(s, source=value),
        )
        self._choice(
            "TRIGger:ELOG:SOURce",
            ("BUS", "EXTernal", "IMMediate", "PIN1"),
            lambda s: s.log_source,
            lambda s, value: _put(s, log_source=value),
        )
        self._number(
            "TRIGger:ACQuire:CURRent[:LEVel]",
            lambda s: s.level_a,
            lambda s, value: _put(s, level_a=value),
            lambda: (-3.06, 3.06, 0.0),
            AMPERES,
        )
        self._choice(
            "TRIGger:ACQuire:CURRent:SLOPe",
            ("POSitive", "NEGative"),
            lambda s: "POS" if s.level_rising else "NEG",
            lambda s, value: _put(s, level_rising=value == "POS"),
        )
        self._choice(
            "[SOURce:]DIGital:PIN1:FUNCtion",
            ("DIO", "DINPut", "TINPut"),
            lambda s: s.pin_function,
            lambda s, value: _put(s, pin_function=value),
        )
        self._choice(
            "[SOURce:]DIGital:PIN1:POLarity",
            ("POSitive", "NEGative"),
            lambda s: "POS" if s.pin_rising else "NEG",
            lambda s, value: _put(s, pin_rising=value == "POS"),
        )
        self._command("INITiate[:IMMediate]:ACQuire", instrument.initiate_sweep)
        self._command("INITiate[:IMMediate]:ELOG", instrument.initiate_log)
        self._command("TRIGger:ACQuire[:IMMediate]", instrument.trigger_sweep)
        self._command("TRIGger:ELOG[:IMMediate]", instrument.trigger_log)
        self._command("ABORt:ACQuire", instrument.abort_sweep)
        self._command("ABORt:ELOG", instrument.abort_log)
        self._command("*TRG", instrument.bus_trigger)

    def _add_data(self) -> None:
        self._choice(
            "FORMat[:DATA]",
            ("ASCii", "REAL"),
            lambda s: "REAL" if s.binary else "ASC",
            lambda s, value: _put(s, binary=value == "REAL"),
        )
        self._choice(
            "FORMat:BORDer",
            ("NORMal", "SWAPped"),
            lambda s: "SWAP" if s.little_endian else "NORM",
            lambda s, value: _put(s, little_endian=value == "SWAP"),
        )
        self._table.add("FETCh:ARRay:CURRent[:DC]?", lambda arguments: self._fetch(arguments, 0))
        self._table.add("FETCh:ARRay:VOLTage[:DC]?", lambda arguments: self._fetch(arguments, 1))
        self._table.add("FETCh:ELOG?", self._fetch_log)

    def _add_status(self) -> None:
        for name, register in (("OPERation", self._n6705.operation), ("QUEStionable", self._n6705.questionable)):
            pattern = f"STATus:{name}"
            self._register(pattern, register)
            self._filter(pattern, register)

    # How rows of a kind are added

    def _programmed(self, pattern: str, get: Callable[[], float], put: Callable[[float], None], most: float) -> None:
        def change(arguments: Arguments) -> None:
            value = parse_number(take(arguments, 1)[0], VOLTS | AMPERES)
            if not 0 <= value <= most:
                raise ScpiError(-222, arguments[0][:32])
            put(value)

        self._table.add(pattern, change)
        self._query(pattern, lambda: number_text(get()))

    def _sense_switch(self, pattern: str, part: Sense, name: str) -> None:
        def change(arguments: Arguments) -> None:
            setattr(part, name, parse_boolean(take(arguments, 1)[0]))

        self._table.add(pattern, change)
        self._query(pattern, lambda: str(int(getattr(part, name))))

    def _add_range(self, pattern: str, part: Sense) -> None:
        def change(arguments: Arguments) -> None:
            value = parse_number(take(arguments, 1)[0], AMPERES)
            if not 0 <= value <= RANGES_A[-1] * 1.02:
                raise ScpiError(-222, arguments[0][:32])
            part.range_a = next((r for r in RANGES_A if r >= value * (1 - 1e-6)), RANGES_A[-1])
            part.seamless = False

        self._table.add(pattern, change)
        self._query(pattern, lambda: number_text(part.range_a))

    def _filter(self, pattern: str, register: FilteredRegister) -> None:
        self._mask(pattern + ":PTRansition", register, "positive")
        self._mask(pattern + ":NTRansition", register, "negative")

    # What commands do

    def _reset(self) -> None:
        """Act as *RST, which switches the output off."""
        instrument, fresh = self._n6705, Settings()
        instrument.abort_sweep()
        instrument.abort_log()
        instrument.program(on=False, voltage_v=0.0)
        for part, value in ((instrument.settings.sense, fresh.sense), (instrument.settings.elog, fresh.elog)):
            part.__dict__.update(replace(value).__dict__)
        instrument.settings.__dict__.update(
            {name: value for name, value in fresh.__dict__.items() if name not in ("sense", "elog")}
        )

    def _protect(self, arguments: Arguments) -> None:
        self._n6705.protects_current = parse_boolean(take(arguments, 1)[0])

    def _fetch(self, arguments: Arguments, row: int) -> Wait:
        take(arguments, 0)
        return Wait(self._n6705.idle, lambda: self._values(self._n6705.points(row), self._border))

    def _fetch_log(self, arguments: Arguments) -> bytes:
        count = round(parse_number(take(arguments, 1)[0]))
        # The byte order is that of FETCh:ARRay only.
        return self._values(self._n6705.rows(count).ravel(), ">")

    @property
    def _border(self) -> str:
        return "<" if self._n6705.settings.little_endian else ">"

    def _values(self, values: NDArray[np.float64], border: str) -> bytes:
        if self._n6705.settings.binary:
            return block(values.astype(f"{border}f4").tobytes())
        return ",".join(number_text(value) for value in values).encode()


def _for_channel(unit: Unit) -> Unit:
    """Return *unit* without its channel list, which must be that of slot 1."""
    if unit.header[0].startswith("*") or unit.header[-1].upper().startswith("RES"):
        return unit
    if not unit.arguments or not unit.arguments[-1].startswith("(@"):
        if unit.header[0].upper() in OF_THE_MAINFRAME or "DIG" in unit.header[1:2]:
            return unit
        raise ScpiError(-109, "channel list")
    if channel_list(unit.arguments[-1]) != (1,):
        raise ScpiError(-222, f"no module in {unit.arguments[-1]}")
    return replace(unit, arguments=unit.arguments[:-1])


def _put(settings: Settings, **values: object) -> None:
    for name, value in values.items():
        setattr(settings, name, value)
