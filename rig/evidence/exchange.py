"""The packet exchange that proves a verdict: as a capture file, and packet by packet in words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rig.dtls.narrative import describe_datagram, describe_record
from rig.dtls.record_layer import RecordLayer
from rig.dtls.session import SeenRecord, Session
from rig.formats.pcapng import enhanced_packet, interface_description, section_header
from rig.formats.udp_packet import Endpoint, UdpPath

T = TypeVar("T")

HEAD_ROWS, TAIL_ROWS = 100, 200
"""How many packets of a long exchange are told in words: its beginning, and its end, where a verdict is decided."""
_LINES = 12
"""How many lines one datagram may have; a hostile one can be cut into hundreds of records."""


class Passed(Protocol):
    """One datagram of a client, with its time."""

    @property
    def t_s(self) -> float:
        """When it was sent or came, on the rig's clock."""

    @property
    def from_client(self) -> bool:
        """Who sent it."""

    @property
    def datagram(self) -> bytes:
        """Its bytes."""


class Transcript(Protocol):
    """All that passed between one port of the rig and one endpoint."""

    @property
    def local(self) -> Endpoint:
        """The rig's end."""

    @property
    def remote(self) -> Endpoint:
        """The other end."""

    @property
    def passed(self) -> Sequence[Passed]:
        """The datagrams, in order."""

    @property
    def clients(self) -> Sequence[RecordLayer]:
        """The clients that spoke; they hold the keys."""

    @property
    def proof_of_life(self) -> bool:
        """Whether it shows no more than that the device is alive."""


@dataclass(frozen=True)
class Exchange:
    """The packets of an exchange in words, and how many were left out after the first *head* of them."""

    packets: tuple[dict[str, Any], ...]
    head: int
    omitted: int


def write_transcripts(path: Path, transcripts: Iterable[Transcript]) -> None:
    """Write what passed as a pcapng file, as the rig's end saw it; stamps are the rig's clock."""
    with path.open("wb") as file:
        file.write(section_header() + interface_description("client side"))
        for transcript, one in _in_order(transcripts):
            ends = (transcript.local, transcript.remote) if one.from_client else (transcript.remote, transcript.local)
            file.write(enhanced_packet(0, round(one.t_s * 1e9), UdpPath(*ends).packet(one.datagram)))


def tell_transcripts(transcripts: Iterable[Transcript]) -> Exchange:
    """Tell in words what passed, all transcripts as one in the order of time."""
    rows = _in_order(transcripts)
    chosen, head, omitted = _ends(rows)
    packets = tuple(
        _packet(one.t_s, one.from_client, len(one.datagram), transcript.local[1], lines)
        for transcript, one in chosen
        for lines in [describe_datagram(one.datagram, one.from_client, transcript.clients)]
    )
    return Exchange(packets, head, omitted)


def tell_sessions(sessions: Iterable[Session]) -> Exchange:
    """Tell in words what the dissector saw, the records of one datagram as one packet."""
    datagrams: dict[tuple[float, bool, int], list[SeenRecord]] = {}
    for session in sessions:
        for record in session.records:
            datagrams.setdefault((record.t_s, record.from_client, session.client_at(record.t_s)[1]), []).append(record)
    chosen, head, omitted = _ends(sorted(datagrams.items(), key=lambda item: item[0]))
    packets = tuple(
        _packet(
            t_s,
            from_client,
            sum(each.length for each in records),
            port,
            [line for each in records for line in describe_record(each)],
        )
        for (t_s, from_client, port), records in chosen
    )
    return Exchange(packets, head, omitted)


def _in_order(transcripts: Iterable[Transcript]) -> list[tuple[Transcript, Passed]]:
    passed = [(transcript, one) for transcript in transcripts for one in transcript.passed]
    return sorted(passed, key=lambda pair: pair[1].t_s)


def _ends(rows: Sequence[T]) -> tuple[Sequence[T], int, int]:
    """Return the rows that are told, how many of them are the beginning, and how many are left out after those."""
    omitted = len(rows) - HEAD_ROWS - TAIL_ROWS
    if omitted <= 0:
        return rows, len(rows), 0
    return [*rows[:HEAD_ROWS], *rows[-TAIL_ROWS:]], HEAD_ROWS, omitted


def _packet(t_s: float, from_client: bool, size: int, port: int, lines: Sequence[str]) -> dict[str, Any]:
    more = [f"and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
    return {
        "t_s": round(t_s, 6),
        "from_client": from_client,
        "bytes": size,
        "port": port,
        "lines": [*lines[:_LINES], *more],
    }
