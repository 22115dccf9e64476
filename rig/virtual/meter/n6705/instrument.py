"""The instrument behind the sockets: output, acquisition, data log, status. The commands are in ``commands``."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.instrument import LAG_NS, VirtualInstrument
from rig.virtual.meter.n6705.sampling import LOG_HOLDS_S, ExternalLog, Start, Sweep
from rig.virtual.meter.n6705.settings import BASE_INTERVAL_S, COARSE_INTERVAL_S, Sense, Settings, Source
from rig.virtual.meter.output import Output
from rig.virtual.meter.probes import Probes
from rig.virtual.meter.ranging import Ammeter
from rig.virtual.meter.registers import ChannelStatus, FilteredRegister
from rig.virtual.meter.scpi import ScpiError
from rig.virtual.meter.specification import Specimen
from rig.virtual.meter.status import ESR_OPERATION_COMPLETE

#: Bits of the status groups of a channel (N6705C Operating and Service Guide, page 350).
OPER_CV, OPER_CC, OPER_OFF, OPER_MEASURING = 1, 2, 4, 32
QUES_OV, QUES_OC, QUES_LIMIT = 1, 2, 128
#: How long a current must have fitted a lower range before the ammeter goes down to it.
HOLD_S = 1e-3
#: The narrowest range that it goes to by itself (N6705C User's Guide, page 134).
SEAMLESS_FROM_A = 1e-3
DEFAULT_LIMIT_A = 0.08


class Instrument(VirtualInstrument):
    """One N6705C with an N6781A in slot 1."""

    def __init__(
        self,
        specimen: Specimen,
        rng: np.random.Generator,
        serial: str,
        log_holds_s: float = LOG_HOLDS_S,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(specimen, rng, serial, 0.0, now_ns)
        self.settings = Settings()
        self.operation, self.questionable = FilteredRegister(), FilteredRegister()
        self.status = ChannelStatus(self.operation, self.questionable)
        self.output = Output(self.timeline, specimen.channels[0].series_ohm, DEFAULT_LIMIT_A)
        self.protects_current = False
        self._log_holds_s = log_holds_s
        self._host_ns = 1e9 * (1 + specimen.clock_error)
        self._sweep: Sweep | None = None
        self._log: ExternalLog | None = None
        self._seen_ns = 0
        self._announce_completion = False

    def board_voltage_v(self) -> float:
        return self.output.board_voltage_v(self.now_ns())

    def advance(self) -> None:
        with self.lock:
            horizon_ns = self.now_ns() - LAG_NS
            recording = [part for part in (self._sweep, self._log) if part is not None]
            for part in recording:
                part.advance(horizon_ns)
            self._watch_output(horizon_ns)
            needed_ns = min([horizon_ns, *(part.needed_from_ns(horizon_ns) for part in recording)])
            self.timeline.mark_read(needed_ns)
            self.output.forget(needed_ns)
            if self._announce_completion and not self._measuring:
                self.status.standard_event |= ESR_OPERATION_COMPLETE
                self._announce_completion = False

    def reconfigure(self) -> Settings:
        """Return the settings to change; a change does not end what is under way."""
        return self.settings

    def program(self, *, on: bool | None = None, voltage_v: float | None = None, limit_a: float | None = None) -> None:
        """Change the output now."""
        self.advance()
        if on and self.questionable.condition & (QUES_OV | QUES_OC):
            on = False  # what has tripped stays off until OUTPut:PROTection:CLEar
        self.output.program(self.now_ns(), on=on, voltage_v=voltage_v, limit_a=limit_a)

    def clear_protection(self) -> None:
        self.questionable.put(QUES_OV | QUES_OC, False)

    def initiate_sweep(self) -> None:
        """Act as INITiate:ACQuire."""
        if self._measuring:
            raise ScpiError(-213)
        settings = self.settings
        self._sweep = Sweep(
            self._start(settings.source),
            self._probes(settings.sense, settings.interval_s),
            self.timeline,
            points=settings.points,
            offset=settings.offset,
            interval_s=settings.interval_s,
            aperture_s=min(settings.interval_s, BASE_INTERVAL_S * settings.sense.parameters),
            host_ns=self._host_ns,
        )
        self.advance()

    def initiate_log(self) -> None:
        """Act as INITiate:ELOG."""
        if self._log is not None:
            raise ScpiError(-213)
        settings = self.settings
        self._log = ExternalLog(
            self._start(settings.log_source),
            self._probes(settings.elog, COARSE_INTERVAL_S),
            self.timeline,
            sense=settings.elog,
            period_s=settings.period_s,
            holds_s=self._log_holds_s,
            host_ns=self._host_ns,
        )
        self.advance()

    def trigger_sweep(self) -> None:
        """Act as TRIGger:ACQuire: a trigger that does not depend on the source."""
        if self._sweep is None or self._sweep.done:
            raise ScpiError(-211)
        self._sweep.trigger(self.now_ns())

    def trigger_log(self) -> None:
        """Act as TRIGger:ELOG."""
        if self._log is None:
            raise ScpiError(-211)
        self._log.trigger(self.now_ns())

    def bus_trigger(self) -> None:
        """Act as *TRG, for whatever waits for the bus."""
        if self.settings.source == "BUS" and self._measuring:
            self.trigger_sweep()
        if self.settings.log_source == "BUS" and self._log is not None:
            self.trigger_log()

    def abort_sweep(self) -> None:
        self.advance()
        if self._measuring:
            self._sweep = None
        self.advance()

    def abort_log(self) -> None:
        self._log = None

    def points(self, row: int) -> NDArray[np.float64]:
        """Return the acquired currents (*row* 0) or voltages (1)."""
        if self._sweep is None or not (self.settings.sense.current, self.settings.sense.voltage)[row]:
            raise ScpiError(-230)
        return np.asarray(self._sweep.readings()[row])

    def rows(self, count: int) -> NDArray[np.float64]:
        """Remove and return up to *count* rows of the external data log."""
        self.advance()
        if self._log is None:
            raise ScpiError(-230)
        return self._log.take(count)

    def idle(self) -> bool:
        with self.lock:
            self.advance()
            return not self._measuring

    def announce_completion(self) -> None:
        self._announce_completion = True
        self.advance()

    @property
    def _measuring(self) -> bool:
        return self._sweep is not None and not self._sweep.done

    def _start(self, source: Source) -> Start:
        settings = self.settings
        if source == "PIN1" and settings.pin_function != "TINP":
            source = "BUS"  # a pin that is no trigger input gives no trigger
        rising = settings.level_rising if source == "CURR1" else source == "PIN1" and settings.pin_rising
        return Start(self.now_ns(), source, rising, settings.level_a, self._specimen.trigger_latency_ns)

    def _probes(self, sense: Sense, interval_s: float) -> Probes:
        channels = [self._specimen.channel(sense.range_a)]
        if sense.seamless:
            channels = [channel for channel in self._specimen.channels if channel.range_a >= SEAMLESS_FROM_A]
        ammeter = Ammeter(channels, self._rng, hold=max(round(HOLD_S / interval_s), 1))
        assert self._specimen.voltage is not None
        return Probes(self.output, ammeter, self._specimen.voltage, self._rng)

    def _watch_output(self, horizon_ns: int) -> None:
        """Show in the status what the output did up to *horizon_ns*; over-current protection switches it off."""
        limited = self.output.limited(self._seen_ns, horizon_ns)
        still = self.output.limited(horizon_ns, horizon_ns)
        self._seen_ns = horizon_ns
        if limited and self.protects_current:
            self.output.program(self.now_ns(), on=False)
            self.questionable.put(QUES_OC, True)
        for regulating in (limited, still):
            on = self.output.programmed.on
            state = (OPER_CC if regulating else OPER_CV) if on else OPER_OFF
            self.operation.set_condition(state | (OPER_MEASURING if self._measuring else 0))
            self.questionable.put(QUES_LIMIT, on and regulating)
