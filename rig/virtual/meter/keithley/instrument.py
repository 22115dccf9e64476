"""The instrument behind the socket: settings, buffers, trigger model. The commands are in ``commands``."""

import time
from collections.abc import Callable

import numpy as np

from rig.virtual.meter.instrument import LAG_NS, VirtualInstrument
from rig.virtual.meter.keithley.buffers import DEFAULT_CAPACITY, MAX_CAPACITY, MIN_CAPACITY, ReadingBuffer
from rig.virtual.meter.keithley.model import Block, Digitize, Plan, Run
from rig.virtual.meter.keithley.settings import CURRENT, Settings
from rig.virtual.meter.keithley.status import WARNING, KeithleyStatus
from rig.virtual.meter.scpi import ScpiError
from rig.virtual.meter.specification import Channel, Specimen
from rig.virtual.meter.status import ESR_OPERATION_COMPLETE

#: A range change takes this long.
RANGE_SETTLING_NS = 5_000_000
#: What a reading of a measure function takes besides its aperture.
OVERHEAD_S = 300e-6
DEFAULT_BUFFERS = ("defbuffer1", "defbuffer2")


class Instrument(VirtualInstrument):
    """One virtual DMM6500 or DMM7510, the board on its front current input."""

    def __init__(
        self,
        specimen: Specimen,
        rng: np.random.Generator,
        serial: str,
        supply_voltage_v: float,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(specimen, rng, serial, supply_voltage_v, now_ns)
        self.status = KeithleyStatus()
        self.settings = Settings()
        self.blocks: list[Block] = []
        self.buffers: dict[str, ReadingBuffer] = {}
        self.last_block = 0
        self.reading = float("nan")
        self._range_a = self.settings.digitize_range_a
        self._settled_ns = 0
        self._run: Run | None = None
        self._announce_completion = False
        self._make_default_buffers()

    @property
    def channel(self) -> Channel:
        """Return the range that the board's current flows through."""
        return self._specimen.channel(self._range_a)

    def board_voltage_v(self) -> float:
        if not self.channel.wired:
            return 0.0
        current_a = self.timeline.current_at(self.now_ns())
        return max(self._supply_voltage_v - current_a * self.channel.series_ohm, 0.0)

    def advance(self) -> None:
        with self.lock:
            horizon_ns = self.now_ns() - LAG_NS
            run = self._run
            if run is None:
                self.timeline.mark_read(horizon_ns)
                return
            run.advance(horizon_ns)
            self.timeline.mark_read(run.needed_from_ns(horizon_ns))
            if run.discarded:
                run.discarded = False
                self.status.report_once(4915, "Attempting to store past capacity of reading buffer", WARNING)
            if run.done:
                self._finish()

    def state(self) -> str:
        """Return what ``TRIG:STAT?`` says."""
        self.advance()
        run = self._run
        if run is None:
            name = "IDLE" if self.blocks else "EMPTY"
            return f"{name};{name};{self.last_block}"
        name = "WAITING" if run.waiting(self.now_ns()) else "RUNNING"
        return f"{name};{name};{run.block}"

    def initiate(self, blocks: list[Block]) -> None:
        """Leave idle: execute *blocks*."""
        self.advance()
        if self._run is not None:
            raise ScpiError(-213)
        if not blocks:
            raise ScpiError(-221, "the trigger model is empty")
        for block in blocks:
            if isinstance(block, Digitize):
                self.buffer(block.buffer)
        if self.settings.digitize == "NONE" and self.settings.sense[self.settings.function].autorange:
            self._choose_range()
        base_ns = max(self.now_ns(), self._settled_ns)
        self.status.forget_reported()
        self._run = Run(blocks, self._plan(), self.buffer, self.timeline, base_ns, self._rng)

    def abort(self) -> None:
        """Act as ABORt: idle, readings kept."""
        self.advance()
        if self._run is not None:
            self._finish()

    def reconfigure(self) -> Settings:
        """Return the settings to change, which nobody may while the trigger model runs."""
        self.advance()
        if self._run is not None:
            raise ScpiError(-221, "the trigger model is running")
        return self.settings

    def reset(self) -> None:
        """Act as ``*RST``: defaults, no trigger model, and none but the default buffers."""
        self.abort()
        self.settings = Settings()
        self.blocks = []
        self._make_default_buffers()
        self.follow_range()

    def follow_range(self) -> None:
        """Switch the current path to the range of the active function; other functions leave it alone."""
        settings = self.settings
        if settings.digitize == "CURR":
            self._switch_range(settings.digitize_range_a)
        elif settings.function == CURRENT:
            self._switch_range(settings.sense[CURRENT].range_upper)

    def bus_trigger(self) -> None:
        """Act as ``*TRG``."""
        self.advance()
        if self._run is None or not self._run.command(self.now_ns()):
            raise ScpiError(-211)

    def idle(self) -> bool:
        with self.lock:
            self.advance()
            return self._run is None

    def announce_completion(self) -> None:
        self._announce_completion = True
        if self._run is None:
            self._complete()

    # Buffers

    def buffer(self, name: str) -> ReadingBuffer:
        """Return the buffer called *name* (capitals do not matter for the default ones)."""
        found = self.buffers.get(name) or self.buffers.get(name.lower())
        if found is None:
            raise ScpiError(1115, name[:32], text="Parameter error: reading buffer does not exist")
        return found

    def make_buffer(self, name: str, capacity: int) -> None:
        if name in self.buffers:
            raise ScpiError(1115, name[:32], text="Parameter error: reading buffer exists already")
        self.buffers[name] = ReadingBuffer(self._capacity(capacity), continuous=False)

    def delete_buffer(self, name: str) -> None:
        if name.lower() in DEFAULT_BUFFERS:
            raise ScpiError(1115, name, text="Parameter error: default reading buffers stay")
        self.buffer(name)
        del self.buffers[name]

    def resize_buffer(self, name: str, capacity: int) -> None:
        """Change the capacity, which empties the buffer."""
        self.reconfigure()
        old = self.buffer(name)
        old.capacity = self._capacity(capacity, old)
        old.clear()

    def _capacity(self, asked: int, of: ReadingBuffer | None = None) -> int:
        others = sum(buffer.capacity for buffer in self.buffers.values() if buffer is not of)
        capacity = asked or MAX_CAPACITY - others
        if not MIN_CAPACITY <= capacity <= MAX_CAPACITY - others:
            raise ScpiError(-222, str(asked))
        return capacity

    def _make_default_buffers(self) -> None:
        self.buffers = {name: ReadingBuffer(DEFAULT_CAPACITY, continuous=True) for name in DEFAULT_BUFFERS}

    def _plan(self) -> Plan:
        settings, host_ns = self.settings, 1e9 * (1 + self._specimen.clock_error)
        if settings.digitize == "NONE":
            sense = settings.sense[settings.function]
            aperture_s = sense.aperture_s
            interval_s = aperture_s * (2 if sense.autozero else 1) + OVERHEAD_S
        else:
            aperture_s, interval_s = settings.digitize_aperture_s, settings.interval_s
        return Plan(
            channel=self._measured(),
            aperture_s=aperture_s,
            aperture_ns=aperture_s * host_ns,
            interval_ns=interval_s * host_ns,
            host_ns_per_s=host_ns,
            edge=settings.external_edge,
            level_a=settings.analog_level_a if settings.analog_mode == "EDGE" else None,
            rising=settings.analog_slope == "RIS",
            latency_ns=self._specimen.trigger_latency_ns,
        )

    def _measured(self) -> Channel:
        """Return what is measured: the board's current, or inputs to which nothing is wired."""
        settings = self.settings
        if settings.digitize == "CURR" or settings.function == CURRENT:
            return self.channel
        upper = 1.0 if settings.digitize != "NONE" else settings.sense[settings.function].range_upper
        return Channel(upper, gain_error=0.0, offset_a=0.0, noise_rms_a=upper * 1e-6, series_ohm=0.0, wired=False)

    def _choose_range(self) -> None:
        """Autorange, simplified: the range is chosen from the present current when the trigger model starts."""
        if self.settings.function != CURRENT:
            return
        chosen = self._specimen.channel(min(self.timeline.current_at(self.now_ns()), 3.0)).range_a
        self.settings.sense[CURRENT].range_upper = chosen
        self._switch_range(chosen)

    def _switch_range(self, range_a: float) -> None:
        if range_a != self._range_a:
            self._range_a = range_a
            self._settled_ns = self.now_ns() + RANGE_SETTLING_NS

    def _finish(self) -> None:
        assert self._run is not None
        self.last_block = min(self._run.block, len(self.blocks))
        self._run = None
        self._complete()

    def _complete(self) -> None:
        if self._announce_completion:
            self.status.standard_event |= ESR_OPERATION_COMPLETE
            self._announce_completion = False
