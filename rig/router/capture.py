"""A running or finished capture of a router's two sides, on the rig's clock."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rig.clock import ClockMap
from rig.errors import BenchError
from rig.formats.pcapng import Interface, Recording, read_pcapng
from rig.formats.udp_packet import Endpoint, parse_udp_packet

Side = Literal["client", "board"]
ARRIVAL_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class CapturedPacket:
    """One UDP datagram, when (rig's clock) and on which side of the router it was seen."""

    t_s: float
    side: Side
    source: Endpoint
    destination: Endpoint
    payload: bytes


class Capture:
    """A capture file that grows while packets pass. Readable after the rig was killed, up to the last whole packet."""

    def __init__(self, path: Path, clock: ClockMap, size: Callable[[], int]) -> None:
        """*size* asks the router how many bytes the capture has by now."""
        self.path = path
        self._clock = clock
        self._size = size
        self._written = 0
        self._arrived = threading.Condition()
        self._running = True

    @property
    def clock(self) -> ClockMap:
        """The router's clock against the rig's; sharper once the capture has ended."""
        return self._clock

    @property
    def complete(self) -> bool:
        """Whether the capture ended properly and holds every packet that the router saw."""
        return not self._running and _is_complete(self._recording())

    def packets(self) -> tuple[CapturedPacket, ...]:
        """Return all datagrams up to now, in the order in which they were recorded."""
        if self._running:
            self._await(self._size())
        return read_capture(self.path, self._clock)

    def arrived(self, count: int) -> None:
        """Note that *count* more bytes are in the file."""
        with self._arrived:
            self._written += count
            self._arrived.notify_all()

    def end(self, clock: ClockMap) -> None:
        """Note that the capture has ended, and what the router's clock showed then."""
        with self._arrived:
            self._clock = merge_clocks(self._clock, clock)
            self._running = False
            self._arrived.notify_all()

    def _await(self, size: int) -> None:
        with self._arrived:
            done = self._arrived.wait_for(lambda: self._written >= size or not self._running, ARRIVAL_TIMEOUT_S)
        if not done:
            raise BenchError(f"capture {self.path}: {size - self._written} bytes have not come from the router")

    def _recording(self) -> Recording:
        return read_pcapng(self.path.read_bytes())


def read_capture(path: Path, clock: ClockMap | None = None) -> tuple[CapturedPacket, ...]:
    """Return all datagrams of a capture file, in the order in which they were recorded.

    Times are on the rig's clock by *clock*, or on the router's without one.
    """
    packets = []
    for packet in read_pcapng(path.read_bytes()).packets:
        datagram = parse_udp_packet(packet.data)
        t_s = packet.t_ns / 1e9
        ends = datagram.source, datagram.destination
        rig_s = t_s if clock is None else clock.to_rig_s(t_s)
        packets.append(CapturedPacket(rig_s, _side(packet.interface), *ends, datagram.payload))
    return tuple(packets)


def merge_clocks(first: ClockMap, last: ClockMap) -> ClockMap:
    """Return one map for a stretch that begins with *first* and ends with *last*: midway, and wide enough for both."""
    offset_s = (first.offset_s + last.offset_s) / 2
    drift_s = abs(first.offset_s - last.offset_s) / 2
    return ClockMap(offset_s, drift_s + max(first.uncertainty_s, last.uncertainty_s))


def _is_complete(recording: Recording) -> bool:
    counted = {side.interface.name: side for side in recording.statistics}
    if recording.truncated or set(counted) != {interface.name for interface in recording.interfaces}:
        return False
    seen = {name: sum(packet.interface.name == name for packet in recording.packets) for name in counted}
    return all(side.dropped == 0 and side.received == seen[name] for name, side in counted.items())


def _side(interface: Interface) -> Side:
    return "board" if interface.name == "board side" else "client"
