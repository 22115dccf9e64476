"""The pcapng codec: round trips, foreign writers, killed writers, garbage."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.formats import pcapng
from rig.formats.pcapng import PcapngError, read_pcapng

HEAD = (
    pcapng.section_header() + pcapng.interface_description("client side") + pcapng.interface_description("board side")
)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


packets = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2**63 - 1), st.binary(max_size=80)), max_size=8)


@given(packets)
def test_what_is_written_is_read(written: list[tuple[int, int, bytes]]) -> None:
    data = HEAD + b"".join(pcapng.enhanced_packet(*packet) for packet in written)
    data += pcapng.interface_statistics(1, 5, 7, 2)
    recording = read_pcapng(data)
    names = [interface.name for interface in recording.interfaces]
    assert names == ["client side", "board side"]
    assert [(names.index(p.interface.name), p.t_ns, p.data) for p in recording.packets] == written
    assert all(p.original_length == len(p.data) for p in recording.packets)
    closing = recording.statistics[0]
    assert (closing.interface.name, closing.received, closing.dropped) == ("board side", 7, 2)
    assert not recording.truncated


@given(packets, st.data())
def test_a_file_cut_anywhere_gives_its_whole_packets(
    written: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    blocks = [pcapng.enhanced_packet(*packet) for packet in written]
    whole = HEAD + b"".join(blocks)
    cut = data.draw(st.integers(0, len(whole)))
    recording = read_pcapng(whole[:cut])
    ends = [len(HEAD) + sum(map(len, blocks[: number + 1])) for number in range(len(blocks))]
    assert len(recording.packets) == sum(end <= cut for end in ends)
    boundaries = {0, len(pcapng.section_header()), len(HEAD), *ends}
    if cut not in boundaries | {len(HEAD) - len(pcapng.interface_description("board side"))}:
        assert recording.truncated


@given(st.binary(max_size=200))
def test_garbage_is_a_typed_error(data: bytes) -> None:
    for candidate in (data, HEAD + data, pcapng.section_header() + data):
        with contextlib.suppress(PcapngError):
            read_pcapng(candidate)


@given(st.integers(0, 6), st.binary(max_size=60))
def test_garbage_within_a_block_is_a_typed_error(kind: int, body: bytes) -> None:
    with contextlib.suppress(PcapngError):
        read_pcapng(HEAD + block(kind, body + bytes(-len(body) % 4)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_foreign_writer_is_read(order: str) -> None:
    section = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    interface = block(1, struct.pack(order + "HHI", 1, 0, 0), order)  # no options: microseconds
    unknown = block(0x0BAD, b"\1\2\3\4", order)
    packet = block(6, struct.pack(order + "IIIII", 0, 0, 5, 4, 60) + b"abcd", order)
    recording = read_pcapng(section + interface + unknown + packet + section)
    assert [(p.t_ns, p.data, p.original_length, p.interface.link_type) for p in recording.packets] == [
        (5000, b"abcd", 60, 1)
    ]


def test_time_stamps_in_powers_of_two_are_read() -> None:
    option = struct.pack("<HHB3x", 9, 1, 0x80 | 10)
    interface = block(1, struct.pack("<HHI", 101, 0, 0) + option)
    packet = block(6, struct.pack("<IIIII", 0, 0, 512, 0, 0))
    assert read_pcapng(pcapng.section_header() + interface + packet).packets[0].t_ns == 500_000_000


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xd4\xc3\xb2\xa1" + bytes(20), "not a pcapng file"),
        (HEAD + struct.pack("<II", 6, 13) + bytes(20), "length 13"),
        (HEAD + block(6, bytes(8)), "too short"),
        (HEAD + block(6, struct.pack("<IIIII", 9, 0, 0, 0, 0)), "never declared"),
        (HEAD + block(6, struct.pack("<IIIII", 0, 0, 0, 40, 40)), "longer than its block"),
        (HEAD + struct.pack("<III", 6, 12, 16), "two lengths"),
        (block(0x0A0D0D0A, bytes(16)), "byte order"),
    ],
)
def test_damage_is_named(data: bytes, said: str) -> None:
    with pytest.raises(PcapngError, match=said):
        read_pcapng(data)
