"""The instrument behind the sockets: state, clockwork and readings. The commands are in ``commands``."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.command_set import INFINITE
from rig.virtual.meter.instrument import LAG_NS, VirtualInstrument
from rig.virtual.meter.scpi import ScpiError
from rig.virtual.meter.specification import Channel, Specimen
from rig.virtual.meter.status import ESR_OPERATION_COMPLETE, Status
from rig.virtual.meter.truevolt.sampler import Acquisition, ReadingMemory, Setup, Source
from rig.virtual.meter.truevolt.settings import MEMORY_READINGS, Settings

#: A range change takes this long; the current path stays closed (continuous range switching).
RANGE_SETTLING_NS = 5_000_000

QUES_CURRENT_OVERLOAD = 1 << 1
QUES_TIMING_VIOLATION = 1 << 2
QUES_MEMORY_OVERFLOW = 1 << 14
OPER_MEASURING = 1 << 4
OPER_WAITING_FOR_TRIGGER = 1 << 5


class Instrument(VirtualInstrument):
    """One virtual Truevolt multimeter."""

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
        self.memory = ReadingMemory(MEMORY_READINGS)
        self._acquisition: Acquisition | None = None
        self._settled_ns = 0
        self._announce_completion = False

    @property
    def channel(self) -> Channel:
        """Return the range that the board's current flows through."""
        return self._specimen.channel(self.settings.range_a)

    @property
    def acquiring(self) -> bool:
        return self._acquisition is not None

    def board_voltage_v(self) -> float:
        """Return the voltage at the board's supply pins now."""
        channel = self.channel
        if not channel.wired:
            return 0.0
        current_a = self.timeline.current_at(self.now_ns())
        return max(self._supply_voltage_v - current_a * channel.series_ohm, 0.0)

    def advance(self) -> None:
        """Take every sample that is due."""
        with self.lock:
            horizon_ns = self.now_ns() - LAG_NS
            acquisition = self._acquisition
            if acquisition is None:
                self.timeline.mark_read(horizon_ns)
                return
            acquisition.advance(horizon_ns)
            self.timeline.mark_read(acquisition.needed_from_ns(horizon_ns))
            if acquisition.overloaded:
                self.status.questionable.latch(QUES_CURRENT_OVERLOAD)
                acquisition.overloaded = False
            if self.memory.overflowed:
                self._set_questionable(QUES_MEMORY_OVERFLOW)
            if acquisition.done:
                self._acquisition = None
                self._complete()
            self._show_operation()

    def initiate(self) -> None:
        """Act as INITiate: clear the memory and leave idle."""
        self.advance()
        if self._acquisition is not None:
            raise ScpiError(-213)
        settings = self.settings
        if settings.autorange:
            self._choose_range()
        setup = self._setup()
        if setup.free_running and setup.triggers != 1:
            raise ScpiError(-221, "samples before the trigger need TRIG:COUN 1")
        self.clear_memory()
        if settings.timing_violated:
            self._set_questionable(QUES_TIMING_VIOLATION)
        armed_ns = max(self.now_ns(), self._settled_ns)
        self._acquisition = Acquisition(setup, self.timeline, self.memory, armed_ns, self._rng)
        self._show_operation()

    def abort(self) -> None:
        """Act as ABORt: idle, readings kept."""
        self.advance()
        if self._acquisition is not None:
            self._acquisition = None
            self._complete()
        self._show_operation()

    def reconfigure(self) -> Settings:
        """Abort and clear the memory, as any change of a measurement setting does; return the settings to change."""
        if self._acquisition is not None:
            self.abort()
        self.clear_memory()
        return self.settings

    def set_range(self, range_a: float) -> None:
        """Switch the range; it takes some milliseconds."""
        previous = self.channel
        self.reconfigure().range_a = self._specimen.channel(range_a).range_a
        if self.channel is not previous:
            self._settled_ns = self.now_ns() + RANGE_SETTLING_NS

    def bus_trigger(self) -> None:
        """Act as *TRG."""
        self.advance()
        if self._acquisition is None or not self._acquisition.bus_trigger(self.now_ns()):
            raise ScpiError(-211)

    def clear_memory(self) -> None:
        self.memory = ReadingMemory(MEMORY_READINGS)
        self.status.questionable.set_condition(0)

    def announce_completion(self) -> None:
        """Act as *OPC: the event bit is set when the acquisition is over."""
        self._announce_completion = True
        if self._acquisition is None:
            self._complete()

    def idle(self) -> bool:
        with self.lock:
            self.advance()
            return self._acquisition is None

    def readings(self) -> NDArray[np.float64]:
        """Return all readings in memory, which keeps them."""
        self.advance()
        if not self.memory.count and self._acquisition is None:
            raise ScpiError(-230)
        return self.memory.all()

    def _setup(self) -> Setup:
        settings, specimen = self.settings, self._specimen
        host_ns = 1e9 * (1 + specimen.clock_error)
        triggers = settings.trigger_count
        return Setup(
            channel=self.channel,
            aperture_s=settings.aperture_s,
            aperture_ns=settings.aperture_s * host_ns,
            interval_ns=settings.interval_s * host_ns,
            count=settings.sample_count,
            pretrigger=settings.pretrigger_count if settings.trigger_source is not Source.IMMEDIATE else 0,
            triggers=-1 if triggers >= INFINITE else int(triggers),
            source=settings.trigger_source,
            rising=settings.trigger_rising,
            level_a=settings.trigger_level_a,
            delay_ns=settings.trigger_delay_s * host_ns,
            latency_ns=specimen.trigger_latency_ns,
        )

    def _choose_range(self) -> None:
        """Autorange, simplified: the range is chosen from the present current when the acquisition starts."""
        current_a = self.timeline.current_at(self.now_ns())
        chosen = self._specimen.channel(min(current_a, 3.0)).range_a
        if chosen != self.settings.range_a:
            self.settings.range_a = chosen
            self._settled_ns = self.now_ns() + RANGE_SETTLING_NS

    def _complete(self) -> None:
        if self._announce_completion:
            self.status.standard_event |= ESR_OPERATION_COMPLETE
            self._announce_completion = False

    def _set_questionable(self, bits: int) -> None:
        self.status.questionable.set_condition(self.status.questionable.condition | bits)

    def _show_operation(self) -> None:
        acquisition = self._acquisition
        waiting = acquisition is not None and acquisition.waiting
        self.status.operation.set_condition(
            (OPER_MEASURING if acquisition is not None else 0) | (OPER_WAITING_FOR_TRIGGER if waiting else 0)
        )
