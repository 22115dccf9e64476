"""IPv4 packets with one UDP datagram (RFC 791, RFC 768): made for captures, and read out of them."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from rig.errors import BenchError

Endpoint = tuple[str, int]

_IP_AND_UDP = struct.Struct(">BBHHHBBH4s4sHHHH")
_HEADER_LENGTH = 28
_UDP = 17


class PacketError(BenchError):
    """The bytes are not one whole IPv4 packet with a UDP datagram."""


@dataclass(frozen=True)
class Datagram:
    """A UDP datagram with its endpoints, each ``(address, port)``."""

    source: Endpoint
    destination: Endpoint
    payload: bytes


class UdpPath:
    """Packets from one endpoint to another; what does not change between packets is summed once."""

    def __init__(self, source: Endpoint, destination: Endpoint) -> None:
        self._addresses = IPv4Address(source[0]).packed, IPv4Address(destination[0]).packed
        self._ports = source[1], destination[1]
        addresses = sum(struct.unpack(">4H", b"".join(self._addresses)))
        self._ip_sum = addresses + 0x4500 + 0x4000 + 0x4000 + _UDP  # version, don't fragment, time to live 64
        self._udp_sum = addresses + sum(self._ports) + _UDP

    def packet(self, payload: bytes) -> bytes:
        """Return the IPv4 packet that carries *payload*, with valid checksums."""
        udp_length = 8 + len(payload)
        # 65536 is 1 modulo 65535, so the remainder of the whole number is the one's complement sum of its words.
        padded = payload if len(payload) % 2 == 0 else payload + b"\0"
        content = int.from_bytes(padded, "big") % 65535
        ip_checksum = -(self._ip_sum + _HEADER_LENGTH + len(payload)) % 65535
        udp_checksum = -(self._udp_sum + 2 * udp_length + content) % 65535 or 0xFFFF
        total = _HEADER_LENGTH + len(payload)
        fixed = (0x45, 0, total, 0, 0x4000, 64, _UDP, ip_checksum)
        return _IP_AND_UDP.pack(*fixed, *self._addresses, *self._ports, udp_length, udp_checksum) + payload


def parse_udp_packet(data: bytes) -> Datagram:
    """Return the datagram in an unfragmented IPv4 packet; `PacketError` on anything else. Checksums are not judged."""
    if len(data) < _HEADER_LENGTH or data[0] >> 4 != 4:
        raise PacketError("not an IPv4 packet with UDP")
    header = (data[0] & 0x0F) * 4
    total, fragment, protocol = struct.unpack_from(">2xH2xHxB", data)
    if protocol != _UDP or fragment & 0x3FFF or header < 20 or not header + 8 <= total <= len(data):
        raise PacketError("not a whole IPv4 packet with UDP")
    source_port, destination_port, length = struct.unpack_from(">HHH", data, header)
    if not 8 <= length <= total - header:
        raise PacketError("the UDP length does not fit the packet")
    source, destination = (str(IPv4Address(data[at : at + 4])) for at in (12, 16))
    payload = data[header + 8 : header + length]
    return Datagram((source, source_port), (destination, destination_port), payload)
