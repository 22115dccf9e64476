"""The packets of a capture as a report shows them: when, which way, what."""

from collections.abc import Iterator
from dataclasses import dataclass

from rig.formats.pcapng import PcapngError, Recording, read_pcapng
from rig.formats.udp_packet import Datagram, PacketError, parse_udp_packet
from rig.reports.messages import name_datagram
from rig.reports.model import Capture, Run, Waveform


@dataclass(frozen=True)
class Packet:
    """One datagram at the board; ``size`` in bytes of UDP payload, ``t_s`` on the rig's clock."""

    t_s: float
    from_board: bool
    name: str
    kind: str
    size: int


@dataclass(frozen=True)
class PacketLog:
    """The packets during one waveform, in order of time, and what a reader must know of their captures."""

    packets: tuple[Packet, ...]
    notes: tuple[str, ...]


def packets_during(run: Run, waveform: Waveform, duration_s: float) -> PacketLog:
    """Return what the captures of the run hold between a waveform's start and *duration_s* later."""
    end_s = waveform.t0_s + duration_s
    captures = {capture.file: capture for capture in run.captures}
    packets: list[Packet] = []
    notes: list[str] = []
    for capture in captures.values():
        recording, trouble = _read(run, capture)
        during = [packet for packet in _packets(recording, capture) if waveform.t0_s <= packet.t_s <= end_s]
        packets += during
        if during or (trouble and capture.test == waveform.test):
            notes += [f"{capture.file}: {text}" for text in (trouble, _quality(capture, recording)) if text]
    return PacketLog(tuple(sorted(packets, key=lambda packet: packet.t_s)), tuple(notes))


def _read(run: Run, capture: Capture) -> tuple[Recording, str]:
    path = run.path(capture.file)
    if path is None:
        return Recording(), "the file is not in the run folder"
    try:
        return read_pcapng(path.read_bytes()), ""
    except PcapngError as error:
        return Recording(), str(error)


def _quality(capture: Capture, recording: Recording) -> str:
    dropped = sum(one.dropped for one in recording.statistics)
    facts = (
        "the capture is not complete" if recording.truncated or not capture.complete else "",
        f"{dropped} packets were left out" if dropped else "",
        f"clock known to ± {capture.clock_uncertainty_s * 1e3:.3g} ms" if capture.clock_uncertainty_s else "",
    )
    return ", ".join(fact for fact in facts if fact)


def _packets(recording: Recording, capture: Capture) -> Iterator[Packet]:
    """Yield the datagrams that one end of is the board's own port: what passed between relay and board."""
    for one in recording.packets:
        datagram = _datagram(one.data)
        if datagram is None or capture.board_port not in (datagram.source[1], datagram.destination[1]):
            continue
        name, kind = name_datagram(datagram.payload)
        from_board = datagram.source[1] == capture.board_port
        yield Packet(one.t_ns / 1e9 + capture.clock_offset_s, from_board, name, kind, len(datagram.payload))


def _datagram(data: bytes) -> Datagram | None:
    try:
        return parse_udp_packet(data)
    except PacketError:
        return None
