"""Grouping handshake datagrams into flights (RFC 6347 section 4.2.4)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rig.dtls.handshake import HandshakeType, parse_fragments
from rig.dtls.records import ContentType
from rig.dtls.session import Flight, SeenRecord
from rig.dtls.wire import DecodeError

# What tells one piece of a flight from another: record epoch, name, message_seq, fragment offset.
Piece = tuple[int, str, int, int]

_NAMES = {kind: "".join(word.capitalize() for word in kind.name.split("_")) for kind in HandshakeType}


@dataclass
class _Growing:
    start_s: float
    end_s: float
    from_client: bool
    retransmission: bool
    pieces: list[Piece] = field(default_factory=list)
    datagrams: int = 0
    length: int = 0


class Flights:
    """Takes the datagrams of one session in order."""

    def __init__(self) -> None:
        self._flights: list[_Growing] = []
        self._sent: set[tuple[bool, Piece]] = set()

    def add(self, t_s: float, from_client: bool, records: Sequence[SeenRecord]) -> None:
        """Take one datagram in; without handshake records it belongs to no flight.

        What a record with a connection ID holds is not known if it did not open.
        """
        pieces = [piece for record in records for piece in _pieces(record)]
        if not pieces:
            return
        flight = self._flight(t_s, from_client, pieces)
        flight.end_s = t_s
        flight.pieces += pieces
        flight.datagrams += 1
        flight.length += sum(record.length for record in records)
        self._sent |= {(from_client, piece) for piece in pieces}

    def snapshot(self) -> tuple[Flight, ...]:
        """Return the flights so far."""
        return tuple(_freeze(flight) for flight in self._flights)

    def _flight(self, t_s: float, from_client: bool, pieces: list[Piece]) -> _Growing:
        last = self._flights[-1] if self._flights else None
        if last and last.from_client == from_client and not set(pieces) & set(last.pieces):
            return last
        repeated = all((from_client, piece) in self._sent for piece in pieces)
        flight = _Growing(t_s, t_s, from_client, repeated)
        self._flights.append(flight)
        return flight


def _freeze(flight: _Growing) -> Flight:
    names = tuple(dict.fromkeys((name, sequence) for _, name, sequence, _ in flight.pieces))
    return Flight(
        flight.start_s,
        flight.end_s,
        flight.from_client,
        tuple(name for name, _ in names),
        flight.datagrams,
        flight.length,
        flight.retransmission,
    )


def _pieces(record: SeenRecord) -> list[Piece]:
    if record.content_type == ContentType.CHANGE_CIPHER_SPEC:
        return [(record.epoch, "ChangeCipherSpec", 0, 0)]
    if record.content_type != ContentType.HANDSHAKE:
        return []
    if record.epoch > 0 or record.plaintext is None:
        return [(record.epoch, "Finished", 0, 0)]
    try:
        fragments = parse_fragments(record.plaintext)
    except DecodeError:
        return []
    return [(0, _NAMES[each.kind], each.message_seq, each.offset) for each in fragments]
