"""The instrument behind the sockets: output, ranges, FastLog, status. The commands are in ``commands``."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rig.virtual.meter.instrument import LAG_NS, VirtualInstrument
from rig.virtual.meter.ngu.fastlog import RATES_HZ, FastLog
from rig.virtual.meter.output import Output
from rig.virtual.meter.probes import Probes
from rig.virtual.meter.ranging import Ammeter
from rig.virtual.meter.registers import ChannelStatus, FilteredRegister
from rig.virtual.meter.specification import Specimen
from rig.virtual.meter.status import ESR_OPERATION_COMPLETE

#: Bits of STATus:QUEStionable:INSTrument:ISUMmary<channel> (NGM202 User Manual 1178.8736.02, page 166).
QUES_CC, QUES_CV, QUES_FUSE = 1, 2, 1 << 10
#: FastLog data is available: bit of STATus:OPERation:INSTrument:ISUMmary<channel>.
OPER_FASTLOG = 1 << 12
#: The summary of the channels, in both groups, and of channel 1 in that.
INSTRUMENT_SUMMARY, CHANNEL_1 = 1 << 13, 1 << 1


@dataclass(frozen=True)
class Model:
    """What sets the instruments of the family apart; their ranges are in their accuracy documents."""

    name: str
    outputs: int
    options: str
    max_voltage_v: float
    max_current_a: float
    chooses_lowest_range: bool


NGU201 = Model("NGU201", 1, "0", 20.0, 8.0, True)
NGM202 = Model("NGM202", 2, "K104", 20.0, 6.0, False)


@dataclass
class Settings:
    """Defaults are those after *RST."""

    range_a: float
    automatic: bool = True
    lowest_a: float = 1e-3
    threshold_s: float = 1.5e-3
    approach: str = "TOP"
    rate: str = "S500K"
    target: str = "USB"
    selected: bool = False
    general: bool = False
    fuse: bool = False
    output: int = 1


class Instrument(VirtualInstrument):
    """One NGU or NGM; the board is on output 1."""

    def __init__(
        self,
        model: Model,
        specimen: Specimen,
        rng: np.random.Generator,
        serial: str,
        lost_slots: frozenset[int] = frozenset(),
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(specimen, rng, serial, 0.0, now_ns)
        self.model = model
        self.settings = Settings(specimen.channels[-1].range_a)
        self.operation, self.questionable = FilteredRegister(), FilteredRegister()
        self.operation_channels = FilteredRegister(self.operation, INSTRUMENT_SUMMARY)
        self.questionable_channels = FilteredRegister(self.questionable, INSTRUMENT_SUMMARY)
        self.operation_1 = FilteredRegister(self.operation_channels, CHANNEL_1)
        self.questionable_1 = FilteredRegister(self.questionable_channels, CHANNEL_1)
        below = (self.operation_1, self.questionable_1, self.operation_channels, self.questionable_channels)
        self.status = ChannelStatus(self.operation, self.questionable, below)
        self.output = Output(self.timeline, specimen.channels[0].series_ohm, model.max_current_a)
        self._lost_slots = lost_slots
        self._fastlog: FastLog | None = None
        self._seen_ns = 0

    @property
    def ranges_a(self) -> list[float]:
        return [channel.range_a for channel in self._specimen.channels]

    @property
    def logging(self) -> bool:
        return self._fastlog is not None

    def board_voltage_v(self) -> float:
        return self.output.board_voltage_v(self.now_ns())

    def advance(self) -> None:
        with self.lock:
            horizon_ns = self.now_ns() - LAG_NS
            needed_ns = horizon_ns
            if self._fastlog is not None:
                self._fastlog.advance(horizon_ns)
                needed_ns = min(needed_ns, self._fastlog.needed_from_ns())
                self.operation_1.put(OPER_FASTLOG, self._fastlog.published is not None)
            self._watch_output(horizon_ns)
            self.timeline.mark_read(needed_ns)
            self.output.forget(needed_ns)

    def reconfigure(self) -> Settings:
        """Return the settings to change; a change does not end what is under way."""
        return self.settings

    def switch(self, *, selected: bool | None = None, general: bool | None = None) -> None:
        """Select the output, or switch the selected outputs."""
        settings = self.settings
        settings.selected = settings.selected if selected is None else selected
        settings.general = settings.general if general is None else general
        on = settings.selected and settings.general
        if on:
            self.questionable_1.put(QUES_FUSE, False)
        self.program(on=on)

    def program(self, *, on: bool | None = None, voltage_v: float | None = None, limit_a: float | None = None) -> None:
        """Change output 1 now."""
        self.advance()
        self.output.program(self.now_ns(), on=on, voltage_v=voltage_v, limit_a=limit_a)

    def log(self, on: bool) -> None:
        """Act as FLOG:STATe."""
        self.advance()
        self.operation_1.put(OPER_FASTLOG, False)
        self._fastlog = self._new_log() if on and self.settings.target == "SCPI" else None

    def fetch(self) -> bytes:
        """Return the slot that is there, little-endian float32 pairs of voltage and current; empty when none is."""
        self.advance()
        if self._fastlog is None or self._fastlog.published is None:
            return b""
        slot, self._fastlog.published = self._fastlog.published, None
        self.operation_1.put(OPER_FASTLOG, False)
        return slot.astype("<f4").tobytes()

    def idle(self) -> bool:
        return True

    def announce_completion(self) -> None:
        self.status.standard_event |= ESR_OPERATION_COMPLETE

    def _new_log(self) -> FastLog:
        settings, specimen = self.settings, self._specimen
        channels = [specimen.channel(settings.range_a)]
        if settings.automatic:
            lowest_a = settings.lowest_a if self.model.chooses_lowest_range else 0.0
            channels = [channel for channel in specimen.channels if channel.range_a >= lowest_a * (1 - 1e-9)]
        conversion_s = min(1 / RATES_HZ[settings.rate], 20e-6)
        hold = max(round(settings.threshold_s / conversion_s), 1)
        ammeter = Ammeter(channels, self._rng, hold=hold, top_first=settings.approach == "TOP")
        assert specimen.voltage is not None
        probes = Probes(self.output, ammeter, specimen.voltage, self._rng)
        host_ns = 1e9 * (1 + specimen.clock_error)
        return FastLog(self.now_ns(), settings.rate, probes, host_ns, self._lost_slots)

    def _watch_output(self, horizon_ns: int) -> None:
        """Show in the status what the output did up to *horizon_ns*; the electronic fuse switches it off."""
        limited = self.output.limited(self._seen_ns, horizon_ns)
        still = self.output.limited(horizon_ns, horizon_ns)
        self._seen_ns = horizon_ns
        if limited and self.settings.fuse:
            self.settings.selected = False
            self.output.program(self.now_ns(), on=False)
            self.questionable_1.put(QUES_FUSE, True)
        for regulating in (limited, still):
            on = self.output.programmed.on
            self.questionable_1.put(QUES_CC, on and regulating)
            self.questionable_1.put(QUES_CV, on and not regulating)
