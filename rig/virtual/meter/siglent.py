"""Siglent SDM3065X, DC current: a slow meter that answers in text, here for the sleep floor only.

Sources: SDM Series Digital Multimeter Programming Guide EN02A (pages below) and, for what is not in it, Siglent's
operating tip "SDM ranging in current measurement modes". How long a change of function takes, and what its errors are
called, is nowhere documented: those are the virtual instrument's own.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from rig.virtual.meter.command_set import Answer, Arguments, CommandSet, Wait, take
from rig.virtual.meter.instrument import LAG_NS, Order, VirtualInstrument
from rig.virtual.meter.scpi import (
    AMPERES,
    ScpiError,
    Unit,
    block,
    number_text,
    parse_choice,
    parse_number,
    parse_string,
)
from rig.virtual.meter.server import Front, ScpiServer
from rig.virtual.meter.specification import OVERLOAD_READING, Channel, Specimen
from rig.virtual.meter.status import ESR_OPERATION_COMPLETE, Status

MANUFACTURER = "coaps-rig virtual bench"
MODEL = "SDM3065X"
FIRMWARE = "3.02.01.13"
#: Readings in memory; the oldest are overwritten, and nothing says so (page 18).
MEMORY_READINGS = 10_000
MAX_SAMPLES = 599_999_999
NPLC_CHOICES = (0.005, 0.05, 0.5, 1.0, 10.0, 100.0)
LINE_PERIOD_S = 0.02
#: What a range can show; beyond it the reading is 9.9e37 and the instrument takes the next range by itself.
OVERRANGE = 1.1
#: SENSe:CURRent:RANGe has no 10 A range, CONFigure has (page 71).
WIDEST_SENSE_RANGE_A = 2.0
#: More than the three seconds that many a program waits.
FUNCTION_CHANGE_NS = 3_200_000_000
RANGE_CHANGE_NS = 50_000_000
#: Between two readings, besides their own time.
DELAY_S = 2e-3
NOT_A_NUMBER = 9.91e37


@dataclass
class Settings:
    """As after power-up."""

    function: str = "VOLT"
    range_a: float = 2.0
    autorange: bool = True
    nplc: float = 10.0
    autozero: bool = True
    sample_count: int = 1
    trigger_source: str = "IMM"
    trigger_rising: bool = False

    @property
    def aperture_s(self) -> float:
        return self.nplc * LINE_PERIOD_S

    @property
    def interval_s(self) -> float:
        """Return the time from one reading to the next: with auto-zero each is followed by one of the offset."""
        return self.aperture_s * (2 if self.autozero else 1) + DELAY_S


@dataclass
class Acquisition:
    """Readings under way: ``start_ns`` is None as long as the trigger has not come."""

    armed_ns: int
    start_ns: int | None
    taken: int = 0


class Instrument(VirtualInstrument):
    """One virtual SDM3065X. Its current path is closed whatever its function is."""

    def __init__(
        self,
        specimen: Specimen,
        rng: np.random.Generator,
        serial: str,
        supply_voltage_v: float,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(specimen, rng, serial, supply_voltage_v, now_ns)
        self.settings = Settings()
        self.status = Status()
        self.memory: deque[float] = deque(maxlen=MEMORY_READINGS)
        self._acquisition: Acquisition | None = None
        self._settled_ns = 0
        self._announce_completion = False

    @property
    def channel(self) -> Channel:
        return self._specimen.channel(self.settings.range_a)

    def settled(self) -> bool:
        """Return whether the last change of function is through: until then nothing is answered."""
        return self.now_ns() >= self._settled_ns

    def board_voltage_v(self) -> float:
        """Return the voltage at the board's supply pins now."""
        current_a = self.timeline.current_at(self.now_ns())
        return max(self._supply_voltage_v - current_a * self.channel.series_ohm, 0.0)

    def advance(self) -> None:
        """Take every reading that is due."""
        with self.lock:
            horizon_ns = self.now_ns() - LAG_NS
            while (acquisition := self._acquisition) is not None and self._take(acquisition, horizon_ns):
                pass
            acquisition = self._acquisition
            waiting_ns = horizon_ns if acquisition is None else self._next_ns(acquisition, horizon_ns)
            self.timeline.mark_read(min(horizon_ns, waiting_ns))

    def initiate(self) -> None:
        """Act as INITiate: clear the memory and leave idle (page 18)."""
        self.advance()
        if self._acquisition is not None:
            raise ScpiError(-213)
        if self.settings.function != "CURR":
            raise ScpiError(-221, "this virtual instrument measures current only: CONF:CURR:DC")
        self.memory.clear()
        if self.settings.autorange:
            self.set_range(self._specimen.channel(abs(self.timeline.current_at(self.now_ns()))).range_a)
        armed_ns = max(self.now_ns(), self._settled_ns)
        self._acquisition = Acquisition(armed_ns, armed_ns if self.settings.trigger_source == "IMM" else None)

    def abort(self) -> None:
        """Act as ABORt: idle, readings kept."""
        self.advance()
        self._finish()

    def reconfigure(self) -> Settings:
        """Clear the memory and return the settings to change; while readings are taken, refuse (page 19)."""
        self.advance()
        if self._acquisition is not None:
            raise ScpiError(-221, "readings are being taken")
        self.memory.clear()
        return self.settings

    def select(self, function: str) -> None:
        """Change the function, which takes its time."""
        if self.reconfigure().function != function:
            self.settings.function = function
            self._settled_ns = self.now_ns() + FUNCTION_CHANGE_NS

    def set_range(self, range_a: float) -> None:
        """Switch to the lowest range that holds *range_a*."""
        chosen_a = self._specimen.channel(range_a).range_a
        if chosen_a != self.settings.range_a:
            self.settings.range_a = chosen_a
            self._settled_ns = max(self._settled_ns, self.now_ns() + RANGE_CHANGE_NS)

    def idle(self) -> bool:
        with self.lock:
            self.advance()
            return self._acquisition is None

    def announce_completion(self) -> None:
        self._announce_completion = True
        if self._acquisition is None:
            self._finish()

    def _take(self, acquisition: Acquisition, horizon_ns: int) -> bool:
        """Take the next reading, if it ends before *horizon_ns*."""
        settings = self.settings
        if acquisition.start_ns is None:
            after_ns, rising = acquisition.armed_ns, settings.trigger_rising
            acquisition.start_ns = self.timeline.first_edge_ns(after_ns, horizon_ns, rising)
        aperture_ns = settings.aperture_s * 1e9
        if acquisition.start_ns is None or self._next_ns(acquisition, horizon_ns) + aperture_ns > horizon_ns:
            return False
        start_ns = self._next_ns(acquisition, horizon_ns)
        mean_a = self.timeline.means_a(start_ns, np.zeros(1), aperture_ns)
        self.memory.append(self._reading(mean_a))
        acquisition.taken += 1
        if acquisition.taken == settings.sample_count:
            self._finish()
        return True

    def _reading(self, mean_a: np.ndarray) -> float:
        if abs(mean_a[0]) <= OVERRANGE * self.settings.range_a:
            return float(self.channel.read(mean_a, self.settings.aperture_s, self._rng)[0])
        self.set_range(OVERRANGE * self.settings.range_a)
        return float(np.copysign(OVERLOAD_READING, mean_a[0]))

    def _next_ns(self, acquisition: Acquisition, horizon_ns: int) -> int:
        if acquisition.start_ns is None:
            return horizon_ns
        return acquisition.start_ns + round(acquisition.taken * self.settings.interval_s * 1e9)

    def _finish(self) -> None:
        self._acquisition = None
        if self._announce_completion:
            self.status.standard_event |= ESR_OPERATION_COMPLETE
            self._announce_completion = False


class Commands(CommandSet[Settings]):
    """The command set. No binary format, no sample timer, no status registers of SCPI: it has none of them."""

    _instrument: Instrument

    def __init__(self, instrument: Instrument) -> None:
        super().__init__(instrument)
        identity = f"{MANUFACTURER},{MODEL},{instrument.serial},{FIRMWARE}"
        self._add_common(lambda: identity, self._reset)
        self._add_measurement()
        self._add_readings()

    def execute(self, unit: Unit) -> Answer:
        """Execute one unit, when the last change of function is through."""
        if self._instrument.settled():
            return super().execute(unit)
        return self._later(lambda: super(Commands, self).execute(unit))

    def _later(self, execute: Callable[[], Answer]) -> Wait:
        answers: list[Answer] = []

        def ready() -> bool:
            if not answers and self._instrument.settled():
                answers.append(execute())
            return bool(answers) and (not isinstance(answers[0], Wait) or answers[0].ready())

        def finish() -> bytes | None:
            return answers[0].finish() if isinstance(answers[0], Wait) else answers[0]

        return Wait(ready, finish)

    def _add_measurement(self) -> None:
        sense = "[SENSe:]CURRent[:DC]:"
        self._table.add("CONFigure:CURRent:DC", self._configure_current)
        self._table.add("CONFigure[:VOLTage]:DC", self._configure_voltage)
        self._table.add("[SENSe:]FUNCtion[:ON]", self._select)
        self._query("[SENSe:]FUNCtion[:ON]", lambda: f'"{self._instrument.settings.function}"')
        self._number(
            sense + "RANGe",
            lambda s: s.range_a,
            lambda s, value: self._set_range(s, value),
            lambda: (200e-6, WIDEST_SENSE_RANGE_A, WIDEST_SENSE_RANGE_A),
            AMPERES,
        )
        self._switch(sense + "RANGe:AUTO", "autorange")
        self._number(
            sense + "NPLC",
            lambda s: s.nplc,
            lambda s, value: setattr(s, "nplc", next(n for n in NPLC_CHOICES if n >= value * (1 - 1e-9))),
            lambda: (NPLC_CHOICES[0], NPLC_CHOICES[-1], 10.0),
        )
        self._switch(sense + "AZ[:STATe]", "autozero")

    def _add_readings(self) -> None:
        instrument = self._instrument
        self._choice(
            "TRIGger:SOURce",
            ("IMMediate", "EXTernal"),
            lambda s: s.trigger_source,
            lambda s, value: setattr(s, "trigger_source", value),
        )
        self._choice(
            "TRIGger:SLOPe",
            ("POSitive", "NEGative"),
            lambda s: "POS" if s.trigger_rising else "NEG",
            lambda s, value: setattr(s, "trigger_rising", value == "POS"),
        )
        self._number(
            "SAMPle:COUNt",
            lambda s: s.sample_count,
            lambda s, value: setattr(s, "sample_count", round(value)),
            lambda: (1, MAX_SAMPLES, 1),
        )
        self._command("INITiate[:IMMediate]", instrument.initiate)
        self._command("ABORt", instrument.abort)
        self._query("DATA:POINts", self._points)
        self._query("DATA:LAST", self._last)
        self._table.add("R?", self._read_and_remove)
        self._table.add("FETCh?", self._fetch)
        self._table.add("READ?", self._read)

    def _reset(self) -> None:
        self._instrument.abort()
        self._instrument.select(Settings().function)
        self._instrument.settings = Settings()

    def _configure_current(self, arguments: Arguments) -> None:
        """CONFigure puts everything but function and range to its default, auto-zero to off (page 42)."""
        text = take(arguments, 0, 2)[0] if arguments else "AUTO"
        automatic = text.upper() in ("AUTO", "DEF", "DEFAULT")
        range_a = None if automatic else parse_number(text, AMPERES)
        if range_a is not None and not 0 < range_a <= 10.0:
            raise ScpiError(-222, text[:32])
        instrument = self._instrument
        instrument.select("CURR")
        instrument.settings = Settings("CURR", instrument.settings.range_a, automatic, autozero=False)
        if range_a is not None:
            instrument.set_range(range_a)

    def _configure_voltage(self, arguments: Arguments) -> None:
        take(arguments, 0, 2)
        self._instrument.select("VOLT")

    def _select(self, arguments: Arguments) -> None:
        function = parse_choice(parse_string(take(arguments, 1)[0]), "CURRent", "CURRent:DC", "VOLTage", "VOLTage:DC")
        self._instrument.select(function.split(":")[0])

    def _set_range(self, settings: Settings, value_a: float) -> None:
        settings.autorange = False
        self._instrument.set_range(value_a)

    def _points(self) -> str:
        self._instrument.advance()
        return f"{len(self._instrument.memory):+d}"

    def _last(self) -> str:
        self._instrument.advance()
        memory = self._instrument.memory
        return f"{number_text(memory[-1] if memory else NOT_A_NUMBER)} ADC"

    def _read_and_remove(self, arguments: Arguments) -> bytes:
        """R? answers with a definite-length block, but of text (page 20)."""
        take(arguments, 0, 1)
        count = round(parse_number(arguments[0])) if arguments else MEMORY_READINGS
        self._instrument.advance()
        memory = self._instrument.memory
        return block(_text(memory.popleft() for _ in range(min(count, len(memory)))))

    def _fetch(self, arguments: Arguments) -> Wait:
        take(arguments, 0)
        return Wait(self._instrument.idle, self._all)

    def _read(self, arguments: Arguments) -> Wait:
        take(arguments, 0)
        self._instrument.initiate()
        return self._fetch(())

    def _all(self) -> bytes:
        if not self._instrument.memory:
            raise ScpiError(-230)
        return _text(self._instrument.memory)


def _text(readings: Iterable[float]) -> bytes:
    return ",".join(number_text(reading) for reading in readings).encode()


def build(order: Order) -> tuple[Instrument, Front]:
    """Return an SDM3065X and the server in front of it. It has one pair of current jacks for all ranges."""
    instrument = Instrument(order.draw(), order.rng, order.serial, order.supply_voltage_v)
    return instrument, ScpiServer(Commands(instrument), order.oddities)
