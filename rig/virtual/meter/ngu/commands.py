"""The command set: a table from SCPI headers to the instrument."""

from collections.abc import Callable

from rig.virtual.meter.command_set import Arguments, CommandSet, take
from rig.virtual.meter.ngu.fastlog import RATES_HZ
from rig.virtual.meter.ngu.instrument import Instrument, Settings
from rig.virtual.meter.registers import FilteredRegister
from rig.virtual.meter.scpi import AMPERES, SECONDS, ScpiError, block, number_text, parse_boolean, parse_number

MANUFACTURER = "coaps-rig virtual bench"
FIRMWARE = "03.068"
VOLTS = {"": 1.0, "V": 1.0, "MV": 1e-3}


class Commands(CommandSet[Settings]):
    """Executes program messages on an instrument."""

    def __init__(self, instrument: Instrument) -> None:
        super().__init__(instrument)
        self._ngu = instrument
        model = instrument.model
        self._add_common(lambda: f"{MANUFACTURER},{model.name},{instrument.serial},{FIRMWARE}", self._reset)
        self._query("*OPT", lambda: model.options)
        for add in (self._add_output, self._add_sense, self._add_fastlog, self._add_status):
            add()

    # The command set

    def _add_output(self) -> None:
        instrument = self._ngu
        outputs = tuple(f"OUT{number}" for number in range(1, instrument.model.outputs + 1))
        self._choice(
            "INSTrument[:SELect]", outputs, lambda s: f"OUT{s.output}", lambda s, value: _choose_output(s, value)
        )
        self._programmed(
            "[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]",
            lambda: instrument.output.programmed.voltage_v,
            lambda value: instrument.program(voltage_v=value),
            instrument.model.max_voltage_v,
        )
        self._programmed(
            "[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]",
            lambda: instrument.output.programmed.limit_a,
            lambda value: instrument.program(limit_a=value),
            instrument.model.max_current_a,
        )
        self._change("OUTPut:SELect", lambda text: self._switch_selected(parse_boolean(text)))
        self._query("OUTPut:SELect", lambda: str(int(instrument.settings.selected)))
        self._change("OUTPut:GENeral", lambda text: instrument.switch(general=parse_boolean(text)))
        self._query("OUTPut:GENeral", lambda: str(int(instrument.settings.general)))
        self._query("OUTPut[:STATe]", lambda: str(int(instrument.output.programmed.on)))
        self._switch("FUSE[:STATe]", "fuse")

    def _add_sense(self) -> None:
        instrument = self._ngu
        ranges = instrument.ranges_a
        sense = "SENSe:CURRent:RANGe"
        self._change(sense + "[:UPPer]", lambda text: self._choose_range(ranges, parse_number(text, AMPERES)))
        self._query(sense + "[:UPPer]", lambda: number_text(instrument.settings.range_a))
        self._switch(sense + ":AUTO", "automatic")
        if not instrument.model.chooses_lowest_range:
            return
        self._number(
            sense + ":AUTO:DOWN:MINimum",
            lambda s: s.lowest_a,
            lambda s, value: setattr(s, "lowest_a", value),
            lambda: (10e-6, 100e-3, 1e-3),
            AMPERES,
        )
        self._number(
            sense + ":AUTO:DOWN:THReshold",
            lambda s: s.threshold_s,
            lambda s, value: setattr(s, "threshold_s", value),
            lambda: (2e-6, 0.13, 1.5e-3),
            SECONDS,
        )
        self._choice(
            sense + ":AUTO:UP:APPRoach",
            ("TOP", "STEPwise"),
            lambda s: s.approach,
            lambda s, value: setattr(s, "approach", value),
        )

    def _add_fastlog(self) -> None:
        instrument = self._ngu
        self._change("FLOG[:STATe]", lambda text: instrument.log(parse_boolean(text)))
        self._query("FLOG[:STATe]", lambda: str(int(instrument.logging)))
        self._choice("FLOG:SRATe", tuple(RATES_HZ), lambda s: s.rate, lambda s, value: setattr(s, "rate", value))
        self._choice("FLOG:TARGet", ("SCPI", "USB"), lambda s: s.target, lambda s, value: setattr(s, "target", value))
        self._table.add("FLOG:DATA?", lambda _: block(instrument.fetch()))

    def _add_status(self) -> None:
        instrument = self._ngu
        for pattern, register in (
            ("STATus:OPERation", instrument.operation),
            ("STATus:OPERation:INSTrument", instrument.operation_channels),
            ("STATus:OPERation:INSTrument:ISUMmary1", instrument.operation_1),
            ("STATus:QUEStionable", instrument.questionable),
            ("STATus:QUEStionable:INSTrument", instrument.questionable_channels),
            ("STATus:QUEStionable:INSTrument:ISUMmary1", instrument.questionable_1),
        ):
            self._register(pattern, register)
            self._add_filters(pattern, register)

    # How rows of a kind are added

    def _change(self, pattern: str, put: Callable[[str], None]) -> None:
        self._table.add(pattern, lambda arguments: put(take(arguments, 1)[0]))

    def _programmed(self, pattern: str, get: Callable[[], float], put: Callable[[float], None], most: float) -> None:
        def change(arguments: Arguments) -> None:
            value = parse_number(take(arguments, 1)[0], VOLTS | AMPERES)
            if not 0 <= value <= most:
                raise ScpiError(-222, arguments[0][:32])
            if self._ngu.settings.output == 1:
                put(value)

        self._table.add(pattern, change)
        self._query(pattern, lambda: number_text(get()))

    def _add_filters(self, pattern: str, register: FilteredRegister) -> None:
        self._mask(pattern + ":PTRansition", register, "positive")
        self._mask(pattern + ":NTRansition", register, "negative")

    # What commands do

    def _reset(self) -> None:
        """Act as *RST, which switches the output off."""
        instrument = self._ngu
        instrument.log(False)
        instrument.switch(selected=False, general=False)
        instrument.settings.__dict__.update(Settings(instrument.ranges_a[-1]).__dict__)

    def _switch_selected(self, on: bool) -> None:
        if self._ngu.settings.output == 1:
            self._ngu.switch(selected=on)

    def _choose_range(self, ranges_a: list[float], value: float) -> None:
        if not 0 <= value <= ranges_a[-1]:
            raise ScpiError(-222, f"{value:g}")
        settings = self._ngu.settings
        settings.range_a = next(range_a for range_a in ranges_a if range_a >= value * (1 - 1e-6))
        settings.automatic = False


def _choose_output(settings: Settings, value: str) -> None:
    settings.output = int(value.removeprefix("OUT"))
