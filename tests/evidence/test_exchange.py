"""The exchange behind a verdict: a capture that other tools open, and its packets in words, however many there are."""

from dataclasses import dataclass, field
from pathlib import Path

from rig.dtls.client import Client
from rig.evidence.exchange import HEAD_ROWS, TAIL_ROWS, tell_transcripts, write_transcripts
from rig.evidence.keylog import KeyLog
from rig.formats.pcapng import read_pcapng
from rig.formats.udp_packet import parse_udp_packet

BOARD = ("127.0.0.2", 5684)


@dataclass
class Passed:
    t_s: float
    from_client: bool
    datagram: bytes


@dataclass
class Transcript:
    local: tuple[str, int]
    remote: tuple[str, int]
    passed: list[Passed] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    proof_of_life: bool = False


def transcripts(packets: int) -> list[Transcript]:
    """Two wires whose datagrams pass in turn, half of them each way."""
    wires = [Transcript(("127.0.0.1", port), BOARD) for port in (40001, 40002)]
    for number in range(packets):
        hello = Client(b"x", b"y")
        datagram = hello.datagram(hello.client_hello())
        wires[number % 2].passed.append(Passed(10 + number, number % 4 < 2, datagram))
    return wires


def test_the_capture_holds_every_packet_in_order(tmp_path: Path) -> None:
    path = tmp_path / "exchange.pcapng"
    write_transcripts(path, transcripts(5))
    packets = read_pcapng(path.read_bytes()).packets
    assert [packet.t_ns / 1e9 for packet in packets] == [10, 11, 12, 13, 14]
    ends = [
        (parse_udp_packet(packet.data).source[1], parse_udp_packet(packet.data).destination[1]) for packet in packets
    ]
    assert ends == [(40001, 5684), (40002, 5684), (5684, 40001), (5684, 40002), (40001, 5684)]


def test_a_long_exchange_is_told_from_both_ends() -> None:
    told = tell_transcripts(transcripts(HEAD_ROWS + TAIL_ROWS + 7))
    assert len(told.packets) == HEAD_ROWS + TAIL_ROWS
    assert (told.head, told.omitted) == (HEAD_ROWS, 7)
    assert told.packets[HEAD_ROWS]["t_s"] - told.packets[HEAD_ROWS - 1]["t_s"] == 8
    assert told.packets[0]["lines"][0].startswith("ClientHello seq 0: version fefd")


def test_a_key_log_has_each_line_once_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    begun: list[bool] = []
    for _ in range(2):  # two processes of one run
        log = KeyLog(tmp_path, lambda: begun.append((tmp_path / "keys.log").exists()))
        log.add(["", "CLIENT_RANDOM 01 02\n", "CLIENT_RANDOM 01 02\n"])
        log.add(["CLIENT_RANDOM 01 02\n"])
    assert (tmp_path / "keys.log").read_text() == "CLIENT_RANDOM 01 02\n" * 2
    assert (tmp_path / "keys.log").stat().st_mode & 0o777 == 0o600
    assert begun == [False, True]
