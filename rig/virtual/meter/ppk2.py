"""Nordic PPK2: 100 000 samples a second with seamless ranging and eight logic inputs, on a pseudo-terminal.

What it always does: the two samples after a range change are too high; stopping leaves some bytes behind, which come
first after the next start; switching the board's power while it measures tears a word. What it does when its config
says so (times are seconds of measuring, counted over all starts):

- ``lose: [[at_s, samples], ...]`` samples that are taken, counted, and never sent
- ``tear: [at_s, ...]`` a word of which two bytes are missing
- ``stale_bytes: n`` how many bytes stay behind after a stop (26 otherwise)
- ``disconnect_s: at_s`` the cable comes out
- ``metadata: text`` it answers with this instead of its calibration
"""

import os
import select
import threading
import time
import tty
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.instrument import LAG_NS, Order, VirtualInstrument
from rig.virtual.meter.specification import Specimen, ranges_followed, ranges_needed

INTERVAL_NS = 10_000
#: Samples computed in one go.
CHUNK = 1 << 14
#: A lower range is taken when so many samples in a row have fitted it.
HOLD = 100
#: How much too high the first and the second sample after a range change are.
SPIKE = (0.3, 0.1)
STALE_BYTES = 26
TORN_BYTES = 2
#: What the instrument keeps for a host that does not read; after that, samples are lost.
MAX_UNREAD_BYTES = 1 << 19
TICK_S = 0.02

STEP_V = 1.8 / 163840 * 4
FULL_SCALE = (1 << 14) - 1
AMPERE, SOURCE = 1, 2
START, STOP, RUNNING, REGULATOR, MODE, METADATA, RESET, USER_GAIN = 0x06, 0x07, 0x0C, 0x0D, 0x11, 0x19, 0x20, 0x25
#: How many bytes follow each command.
ARGUMENTS = {RUNNING: 1, REGULATOR: 2, MODE: 1, USER_GAIN: 5}


@dataclass(frozen=True)
class Factory:
    """The calibration of one specimen as it is written in its metadata, shape (5,) each."""

    r: NDArray[np.float64]
    gs: NDArray[np.float64]
    gi: NDArray[np.float64]
    o: NDArray[np.float64]
    s: NDArray[np.float64]
    i: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Factory":
        """Draw one: shunts near their nominal values, gains near one, offsets as an instrument of the kind has them."""
        r = np.array((1031.64, 101.65, 10.15, 0.94, 0.043)) * rng.uniform(0.97, 1.03, 5)
        offset_a = 0.05 / r * rng.uniform(1e-3, 3e-3, 5)
        return cls(
            r=r.round(4),
            gs=(np.array((0.0, 100.0, 15.0, 2.0, 0.05)) * rng.uniform(0.8, 1.2, 5)).round(4),
            gi=rng.uniform(0.95, 1.0, 5).round(4),
            o=rng.uniform(50.0, 120.0, 5).round(4),
            s=offset_a.round(9),
            i=(-3.0 * offset_a).round(9),
        )

    def text(self, supply_v: float, mode: int) -> str:
        """Return the answer to the metadata command."""
        lines = ["Calibrated: 1"]
        for name, values, digits in (("R", self.r, 4), ("GS", self.gs, 4), ("GI", self.gi, 4), ("O", self.o, 4)):
            lines += [f"{name}{index}: {value:.{digits}f}" for index, value in enumerate(values)]
        lines += [f"VDD: {round(supply_v * 1000)}", "HW: 9173", f"mode: {mode}"]
        for name, values in (("S", self.s), ("I", self.i)):
            lines += [f"{name}{index}: {value:.9f}" for index, value in enumerate(values)]
        lines += [f"UG{index}: 1.00" for index in range(5)]
        return "\n".join([*lines, "IA: 56", "END", ""])

    def adc(self, index: NDArray[np.uint8], current_a: NDArray[np.float64], supply_v: float) -> NDArray[np.uint32]:
        """Return the converter's value for which the maker's formula gives *current_a* in range *index*."""
        gs, gi = self.gs[index], self.gi[index]
        wanted = current_a - self.s[index] * supply_v - self.i[index]
        root = np.sqrt(np.maximum(gi * gi + 4 * gs * wanted, 0.0))
        raw = 2 * wanted / (gi + root)
        code = np.rint(raw * self.r[index] / STEP_V + self.o[index] / 4)
        return np.clip(code, 0, FULL_SCALE).astype(np.uint32)


class Ppk2(VirtualInstrument):
    """The instrument behind its port: ``command`` takes bytes, ``take`` returns those to be sent."""

    def __init__(
        self,
        specimen: Specimen,
        rng: np.random.Generator,
        serial: str,
        supply_voltage_v: float,
        oddities: Mapping[str, Any],
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(specimen, rng, serial, supply_voltage_v, now_ns)
        self._factory = Factory.draw(rng)
        self._metadata: str | None = oddities.get("metadata")
        lost = [(4 * _sample(at_s), 4 * int(count)) for at_s, count in oddities.get("lose", ())]
        self._holes = lost + [(4 * _sample(at_s), TORN_BYTES) for at_s in oddities.get("tear", ())]
        self._stale_bytes = int(oddities.get("stale_bytes", STALE_BYTES))
        self._last = _sample(oddities["disconnect_s"]) if "disconnect_s" in oddities else None
        channels = specimen.channels
        self._gain = np.array([1 + channel.gain_error for channel in channels])
        self._offset_a = np.array([channel.offset_a for channel in channels])
        self._noise_a = np.array([channel.noise_a(INTERVAL_NS * 1e-9) for channel in channels])
        self._interval_ns = INTERVAL_NS * (1 + specimen.clock_error)
        self._received = b""
        self._outgoing = bytearray()
        self._stale = b""
        self._mode, self._supply_v, self._running = SOURCE, 3.0, False
        self._started_ns: int | None = None
        self._next = 0
        self._counter = int(rng.integers(64))
        self._measured = 0
        self._needed = np.zeros(HOLD, np.uint8)
        self._range, self._spiked = 0, False
        self._level, self._line_ns = 0, 0

    @property
    def connected(self) -> bool:
        return self._last is None or self._measured < self._last

    def board_voltage_v(self) -> float:
        if not self._running:
            return 0.0
        current_a = self.timeline.current_at(self.now_ns())
        supply_v = self._supply_v if self._mode == SOURCE else self._supply_voltage_v
        return max(supply_v - current_a * self._specimen.channel(current_a).series_ohm, 0.0)

    def command(self, data: bytes) -> None:
        """Act on what the host sends; a command whose arguments are still to come waits for them."""
        with self.lock:
            self._received += data
            while self._received:
                opcode = self._received[0]
                size = 1 + ARGUMENTS.get(opcode, 0)
                if len(self._received) < size:
                    return
                arguments, self._received = self._received[1:size], self._received[size:]
                self._execute(opcode, arguments)

    def take(self) -> bytes:
        """Return what is to be sent since the last call."""
        with self.lock:
            data = bytes(self._outgoing)
            self._outgoing.clear()
            return data

    def advance(self) -> None:
        with self.lock:
            horizon_ns = self.now_ns() - LAG_NS
            while self._started_ns is not None:
                due = int((horizon_ns - self._started_ns) // self._interval_ns) - self._next
                if due <= 0:
                    break
                self._send_words(self._started_ns, min(due, CHUNK))
            if self._started_ns is None:
                self._edges_ns(horizon_ns)
            else:
                horizon_ns = min(horizon_ns, self._started_ns + int(self._next * self._interval_ns))
            self.timeline.mark_read(horizon_ns)

    def _execute(self, opcode: int, arguments: bytes) -> None:
        if opcode == START:
            self._start()
        elif opcode == STOP:
            self._stop()
        elif opcode == RUNNING:
            if self._started_ns is not None and self._running != bool(arguments[0]):
                self.advance()
                del self._outgoing[-TORN_BYTES:]
            self._running = bool(arguments[0])
        elif opcode == REGULATOR:
            self._supply_v = int.from_bytes(arguments, "big") / 1000
        elif opcode == MODE and arguments[0] in (AMPERE, SOURCE):
            self._mode = arguments[0]
        elif opcode == METADATA:
            self._outgoing += (self._metadata or self._factory.text(self._supply_v, self._mode)).encode()
        elif opcode == RESET:
            self._stop()
            self._running = False

    def _start(self) -> None:
        if self._started_ns is None:
            self._outgoing += self._stale
            self._started_ns, self._next = self.now_ns(), 0

    def _stop(self) -> None:
        if self._started_ns is None:
            return
        self.advance()
        self._started_ns = None
        cut = max(len(self._outgoing) - self._stale_bytes, 0)
        self._stale = bytes(self._outgoing[cut:]).rjust(min(self._stale_bytes, 4 * self._measured), b"\xa5")
        del self._outgoing[cut:]

    def _send_words(self, started_ns: int, count: int) -> None:
        data = self._words(started_ns, count).view(np.uint8)
        sent = np.ones(len(data), bool)
        for first, lost in self._holes:
            begin = first - 4 * self._measured
            sent[max(begin, 0) : max(begin + lost, 0)] = False
        self._next += count
        self._measured += count
        if len(self._outgoing) + len(data) <= MAX_UNREAD_BYTES:
            self._outgoing += data[sent].tobytes()

    def _words(self, started_ns: int, count: int) -> NDArray[np.uint32]:
        """Return the next *count* samples as words."""
        starts_ns = np.arange(self._next, self._next + count, dtype=np.float64) * self._interval_ns
        current_a = self.timeline.means_a(started_ns, starts_ns, self._interval_ns)
        if not self._running:
            current_a = np.zeros_like(current_a)
        channels = self._specimen.channels
        index = ranges_followed(channels, current_a, HOLD, self._needed)
        self._needed = np.concatenate((self._needed, ranges_needed(channels, current_a)))[-HOLD:]
        readings_a = current_a * self._gain[index] + self._offset_a[index]
        readings_a += self._rng.standard_normal(count) * self._noise_a[index]
        readings_a *= self._spikes(index)
        adc = self._factory.adc(index, readings_a, self._supply_v)
        adc[channels[-1].overloaded(current_a)] = FULL_SCALE
        counter = (np.arange(count, dtype=np.uint32) + np.uint32(self._counter)) & np.uint32(63)
        self._counter = (self._counter + count) % 64
        words = adc | index.astype(np.uint32) << np.uint32(14) | counter << np.uint32(18)
        return np.asarray(words | self._logic(started_ns, starts_ns) << np.uint32(24))

    def _spikes(self, index: NDArray[np.uint8]) -> NDArray[np.float64]:
        changed = np.diff(index, prepend=np.uint8(self._range)) != 0
        second = np.concatenate(([self._spiked], changed[:-1]))
        self._range, self._spiked = int(index[-1]), bool(changed[-1])
        return np.asarray(1 + SPIKE[0] * changed + SPIKE[1] * second)

    def _logic(self, started_ns: int, starts_ns: NDArray[np.float64]) -> NDArray[np.uint32]:
        """Return the logic inputs at the end of each sample: the board's trigger line is on the first of them."""
        ends_ns = starts_ns + self._interval_ns
        levels = np.full(len(starts_ns), self._level, np.uint32)
        for edge_ns in self._edges_ns(started_ns + int(ends_ns[-1])):
            levels[np.searchsorted(ends_ns, edge_ns - started_ns) :] ^= np.uint32(1)
        return levels

    def _edges_ns(self, until_ns: int) -> list[int]:
        """Return the edges of the trigger line since the last call, and follow it."""
        found: list[int] = []
        while (edge_ns := self.timeline.first_edge_ns(self._line_ns, until_ns, not self._level)) is not None:
            found.append(edge_ns)
            self._line_ns, self._level = edge_ns, 1 - self._level
        # What the board says too late takes effect at the end of what was read, which is here, but for rounding.
        self._line_ns = max(self._line_ns, until_ns - 2)
        return found


def _sample(at_s: float) -> int:
    return round(float(at_s) * 1e9 / INTERVAL_NS)


class Ppk2Port:
    """The instrument's USB port as a pseudo-terminal. Nothing is kept for a host that has not opened it."""

    def __init__(self, instrument: Ppk2) -> None:
        self._instrument = instrument
        self._master, device = os.openpty()
        tty.setraw(device)
        self._name = os.ttyname(device)
        os.close(device)
        os.set_blocking(self._master, False)
        self._unsent = b""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="ppk2", daemon=True)
        self._after_command: Callable[[], None] = lambda: None

    @property
    def facts(self) -> dict[str, str]:
        return {"port": self._name}

    def start(self, after_command: Callable[[], None]) -> None:
        self._after_command = after_command
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2.0)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        while not self._stop.is_set() and self._instrument.connected:
            events = dict(poll.poll(TICK_S * 1000)).get(self._master, 0)
            if events & select.POLLHUP:  # nobody has it open, which poll says at once
                self._stop.wait(TICK_S)
            elif events & select.POLLIN:
                self._instrument.command(os.read(self._master, 4096))
                self._after_command()
            self._instrument.advance()
            self._send(held=not events & select.POLLHUP)
        os.close(self._master)

    def _send(self, held: bool) -> None:
        """Send as much as the host takes; what it leaves waits in the instrument."""
        data = self._unsent or self._instrument.take()
        while data and held:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                break
            data = data or self._instrument.take()
        self._unsent = data if held else b""


def build(order: Order) -> tuple[Ppk2, Ppk2Port]:
    """Return a PPK2 and its port."""
    instrument = Ppk2(order.draw(), order.rng, order.serial, order.supply_voltage_v, order.oddities)
    return instrument, Ppk2Port(instrument)
