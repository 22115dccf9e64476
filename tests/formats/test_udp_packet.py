"""IPv4 and UDP headers for captures."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.formats.udp_packet import Datagram, PacketError, UdpPath, parse_udp_packet

addresses = st.ip_addresses(v=4).map(str)
endpoints = st.tuples(addresses, st.integers(0, 65535))


def ones_complement_sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(endpoints, endpoints, st.binary(max_size=300))
def test_packets_are_read_back_and_their_checksums_hold(
    source: tuple[str, int], destination: tuple[str, int], payload: bytes
) -> None:
    packet = UdpPath(source, destination).packet(payload)
    assert parse_udp_packet(packet) == Datagram(source, destination, payload)
    assert ones_complement_sum(packet[:20]) == 0xFFFF
    pseudo_header = packet[12:20] + struct.pack(">HH", 17, len(packet) - 20)
    assert ones_complement_sum(pseudo_header + packet[20:]) == 0xFFFF
    assert packet[26:28] != b"\0\0", "a UDP checksum of 0 means: none"


@given(st.binary(max_size=80))
def test_any_bytes_give_a_datagram_or_the_typed_error(data: bytes) -> None:
    with contextlib.suppress(PacketError):
        parse_udp_packet(data)
    with contextlib.suppress(PacketError):
        parse_udp_packet(b"\x45" + data)


def test_a_fragment_is_not_mistaken_for_a_datagram() -> None:
    packet = bytearray(UdpPath(("127.0.0.1", 1), ("127.0.0.2", 2)).packet(b"x"))
    packet[6] = 0x20  # more fragments
    with pytest.raises(PacketError):
        parse_udp_packet(bytes(packet))
