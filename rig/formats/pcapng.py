"""pcapng, the part that the rig writes and reads (IETF opsawg draft "PCAP Now Generic": section header, interface
description, enhanced packet and interface statistics blocks).

The writing side is one function per block, so that a stream can be made packet by packet; the reader keeps what a
killed writer left.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from rig.errors import BenchError

LINKTYPE_RAW = 101

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_OPT_IF_NAME, _OPT_IF_TSRESOL, _OPT_ISB_IFRECV, _OPT_ISB_IFDROP = 2, 9, 4, 5
_PACKET_HEAD = struct.Struct("<IIIIIII")
_LENGTH = struct.Struct("<I")
_MAGIC = struct.pack("<I", _SECTION)


class PcapngError(BenchError):
    """The bytes are not pcapng. A capture that merely ends early is no error."""


@dataclass(frozen=True)
class Interface:
    """Where packets were recorded. ``ticks_s`` is the number of time stamp units in a second."""

    name: str
    link_type: int
    ticks_s: int


@dataclass(frozen=True)
class Packet:
    """One recorded packet, as ``interface`` saw it. ``t_ns`` is the writer's clock."""

    interface: Interface
    t_ns: int
    data: bytes
    original_length: int


@dataclass(frozen=True)
class Statistics:
    """What the writer says about an interface at the end: packets it saw, and those it had to leave out."""

    interface: Interface
    received: int
    dropped: int


@dataclass(frozen=True)
class Recording:
    """A capture file's content. ``truncated`` when it ends within a block, as after the writer was killed."""

    interfaces: tuple[Interface, ...] = ()
    packets: tuple[Packet, ...] = ()
    statistics: tuple[Statistics, ...] = ()
    truncated: bool = False


def section_header() -> bytes:
    """Return the block that begins a file, with its length left open."""
    return _block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1))


def interface_description(name: str, link_type: int = LINKTYPE_RAW) -> bytes:
    """Return the block that declares the next interface, with time stamps in nanoseconds."""
    options = _option(_OPT_IF_NAME, name.encode()) + _option(_OPT_IF_TSRESOL, b"\x09") + _option(0, b"")
    return _block(_INTERFACE, struct.pack("<HHI", link_type, 0, 0) + options)


def enhanced_packet(interface_id: int, t_ns: int, data: bytes) -> bytes:
    """Return the block of one packet recorded on the interface declared as number *interface_id*."""
    pad = -len(data) % 4
    length = 32 + len(data) + pad
    head = _PACKET_HEAD.pack(_PACKET, length, interface_id, t_ns >> 32, t_ns & 0xFFFFFFFF, len(data), len(data))
    return head + data + bytes(pad) + _LENGTH.pack(length)


def interface_statistics(interface_id: int, t_ns: int, received: int, dropped: int) -> bytes:
    """Return the block that closes an interface: packets seen, and packets left out of the capture."""
    options = _option(_OPT_ISB_IFRECV, struct.pack("<Q", received)) + _option(
        _OPT_ISB_IFDROP, struct.pack("<Q", dropped)
    )
    fixed = struct.pack("<III", interface_id, t_ns >> 32, t_ns & 0xFFFFFFFF)
    return _block(_STATISTICS, fixed + options + _option(0, b""))


def read_pcapng(data: bytes) -> Recording:
    """Read a capture, of any writer, in either byte order. Unknown blocks are passed over.

    A file that ends early gives what is whole and ``truncated``; anything else raises `PcapngError`.
    """
    if data[:4] != _MAGIC[: len(data)]:
        raise PcapngError("not a pcapng file: it does not begin with a section header block")
    return _Reader().read(data)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


@dataclass
class _Reader:
    """Interfaces and byte order belong to a section; packets refer to them by number."""

    order: str = "<"
    section: list[Interface] = field(default_factory=list)
    interfaces: list[Interface] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    statistics: list[Statistics] = field(default_factory=list)

    def read(self, data: bytes) -> Recording:
        position = 0
        while (block := self._block_at(data, position)) is not None:
            kind, body, length = block
            position += length
            self._take(kind, body)
        parts = (tuple(self.interfaces), tuple(self.packets), tuple(self.statistics))
        return Recording(*parts, truncated=position < len(data))

    def _block_at(self, data: bytes, position: int) -> tuple[int, bytes, int] | None:
        """Return kind, body and length of the block at *position*, or None where the file ends early."""
        if len(data) - position < 12:
            return None
        if data[position : position + 4] == _MAGIC:
            self._begin_section(data[position + 8 : position + 12])
        kind, length = struct.unpack_from(self.order + "II", data, position)
        if length < 12 or length % 4:
            raise PcapngError(f"damaged pcapng: block at byte {position} has length {length}")
        end = position + length
        if end > len(data):
            return None
        if struct.unpack_from(self.order + "I", data, end - 4)[0] != length:
            raise PcapngError(f"damaged pcapng: block at byte {position} has two lengths")
        return kind, data[position + 8 : end - 4], length

    def _begin_section(self, magic: bytes) -> None:
        orders = {struct.pack(order + "I", _BYTE_ORDER_MAGIC): order for order in "<>"}
        if magic not in orders:
            raise PcapngError("damaged pcapng: unknown byte order in a section header")
        self.order = orders[magic]
        self.section = []

    def _take(self, kind: int, body: bytes) -> None:
        takers = {_INTERFACE: self._take_interface, _PACKET: self._take_packet, _STATISTICS: self._take_statistics}
        if kind not in takers:
            return
        try:
            takers[kind](body)
        except struct.error as error:
            raise PcapngError(f"damaged pcapng: a block of type {kind} is too short") from error

    def _take_interface(self, body: bytes) -> None:
        link_type = struct.unpack_from(self.order + "HHI", body)[0]
        options = dict(self._options(body[8:]))
        name = options.get(_OPT_IF_NAME, b"").decode(errors="replace")
        resolution = options.get(_OPT_IF_TSRESOL, b"\x06")[:1] or b"\x06"
        base, exponent = (2, resolution[0] & 0x7F) if resolution[0] & 0x80 else (10, resolution[0])
        interface = Interface(name, link_type, base**exponent)
        self.section.append(interface)
        self.interfaces.append(interface)

    def _take_packet(self, body: bytes) -> None:
        number, high, low, captured, original = struct.unpack_from(self.order + "IIIII", body)
        if captured > len(body) - 20:
            raise PcapngError("damaged pcapng: a packet is longer than its block")
        interface = self._interface(number)
        t_ns = (high << 32 | low) * 1_000_000_000 // interface.ticks_s
        self.packets.append(Packet(interface, t_ns, body[20 : 20 + captured], original))

    def _take_statistics(self, body: bytes) -> None:
        number = struct.unpack_from(self.order + "III", body)[0]
        options = dict(self._options(body[12:]))
        counts = [self._counter(options.get(code, bytes(8))) for code in (_OPT_ISB_IFRECV, _OPT_ISB_IFDROP)]
        self.statistics.append(Statistics(self._interface(number), *counts))

    def _counter(self, value: bytes) -> int:
        return int(struct.unpack_from(self.order + "Q", value)[0])

    def _interface(self, number: int) -> Interface:
        if number >= len(self.section):
            raise PcapngError(f"damaged pcapng: interface {number} was never declared")
        return self.section[number]

    def _options(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        position = 0
        while len(data) - position >= 4:
            code, length = struct.unpack_from(self.order + "HH", data, position)
            if code == 0:
                return
            yield code, data[position + 4 : position + 4 + length]
            position += 4 + length + -length % 4
