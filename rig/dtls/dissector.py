"""A passive dissector: datagrams in, sessions out. It sends nothing and never raises on what it is fed."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from rig.dtls.cid import CidRecord
from rig.dtls.handshake import HandshakeType, parse_fragments
from rig.dtls.keyring import Keyring
from rig.dtls.records import ContentType, Record, parse_datagram
from rig.dtls.session import Endpoint, Session
from rig.dtls.tracker import Tracker
from rig.dtls.wire import DecodeError

_RANDOM = slice(2, 34)
_NONE: Mapping[bytes, bytes] = {}


class Packet(Protocol):
    """A captured datagram, as `rig.router` gives it."""

    @property
    def t_s(self) -> float:
        """When it was seen."""

    @property
    def side(self) -> str:
        """``client`` or ``board``."""

    @property
    def source(self) -> Endpoint:
        """Who sent it."""

    @property
    def destination(self) -> Endpoint:
        """Whom it was sent to."""

    @property
    def payload(self) -> bytes:
        """The datagram."""


@dataclass(frozen=True)
class _Reading:
    """A datagram as a session's peer would take it apart."""

    tracker: Tracker
    from_client: bool
    records: tuple[Record | CidRecord, ...]

    def opens(self) -> bool:
        return any(self.tracker.opens(self.from_client, record) for record in self.records if record.epoch)

    def has_connection_id(self) -> bool:
        wanted = self.tracker.connection_id(self.from_client)
        return any(isinstance(one, CidRecord) and one.connection_id == wanted for one in self.records)


class Dissector:
    """Follows the DTLS 1.2 sessions of any number of 5-tuples, and opens those whose keys it can work out.

    It knows a session that is taken up again from the one before, if it has seen that, and a client with a connection
    ID (RFC 9146) also where it has moved to.

    ``malformed`` counts datagrams that are no DTLS records, ``unclaimed`` those before any ClientHello of their pair.
    """

    def __init__(self, psks: Mapping[bytes, bytes], master_secrets: Mapping[bytes, bytes] = _NONE) -> None:
        """*psks* maps PSK identities to keys, *master_secrets* client randoms to what a key log says."""
        self._keyring = Keyring(psks, master_secrets)
        self._pairs: dict[frozenset[Endpoint], list[Tracker]] = {}
        self._trackers: list[Tracker] = []
        self.malformed = 0
        self.unclaimed = 0

    def feed(self, t_s: float, source: Endpoint, destination: Endpoint, datagram: bytes) -> None:
        """Take one datagram in, in order of time."""
        try:
            self._take(t_s, source, destination, parse_datagram(datagram))
        except DecodeError:
            self._take_with_connection_id(t_s, source, destination, datagram)

    def sessions(self) -> tuple[Session, ...]:
        """Return all sessions so far, in the order of their first ClientHello."""
        return tuple(tracker.snapshot() for tracker in self._trackers)

    def _take(self, t_s: float, source: Endpoint, destination: Endpoint, records: tuple[Record, ...]) -> None:
        tracker = self._tracker(t_s, source, destination, records)
        if tracker is None:
            self.unclaimed += 1
        else:
            tracker.add(t_s, destination == tracker.server, records)

    def _tracker(
        self, t_s: float, source: Endpoint, destination: Endpoint, records: tuple[Record, ...]
    ) -> Tracker | None:
        """Return the session of this datagram: a ClientHello with another random begins a new one."""
        known = self._pair(source, destination)
        random = _client_random(records)
        if random is not None and (not known or (random and random != known[-1].client_random)):
            tracker = Tracker(source, destination, t_s, self._keyring, random or None)
            known.append(tracker)
            self._trackers.append(tracker)
            return tracker
        return _owner(known, destination, records)

    def _take_with_connection_id(self, t_s: float, source: Endpoint, destination: Endpoint, datagram: bytes) -> None:
        """A connection ID's length is in no record, so the datagram is read as each session would that may have it."""
        pair = self._pair(source, destination)
        others = [one for one in self._trackers if one.server in (source, destination) and one not in pair]
        readings = list(_readings((*reversed(pair), *reversed(others)), destination, datagram))
        if not readings:
            self.malformed += 1
            return
        named = [one for one in readings if one.has_connection_id()]
        possible = [*named, *(one for one in readings if one not in named and one.tracker in pair)]
        reading = next((one for one in possible if one.opens()), next(iter(possible), None))
        if reading is None:
            self.unclaimed += 1
            return
        tracker = reading.tracker
        if reading.from_client and source != tracker.peer and tracker.follow(t_s, source, reading.records):
            pair[:] = [*(one for one in pair if one is not tracker), tracker]
        tracker.add(t_s, reading.from_client, reading.records)

    def _pair(self, one: Endpoint, other: Endpoint) -> list[Tracker]:
        """Return the sessions between these two, oldest first."""
        return self._pairs.setdefault(frozenset((one, other)), [])


def dissect_capture(
    packets: Iterable[Packet],
    psks: Mapping[bytes, bytes],
    client_ports: Collection[int] | None = None,
    master_secrets: Mapping[bytes, bytes] = _NONE,
) -> tuple[Session, ...]:
    """Return the sessions on the board's side of a capture.

    *client_ports* keeps those of clients with these ports, as the board saw them; None keeps all.
    """
    dissector = Dissector(psks, master_secrets)
    for packet in packets:
        if packet.side == "board":
            dissector.feed(packet.t_s, packet.source, packet.destination, packet.payload)
    sessions = dissector.sessions()
    return tuple(each for each in sessions if client_ports is None or each.client[1] in client_ports)


def _client_random(records: tuple[Record, ...]) -> bytes | None:
    """Return the random of a ClientHello in clear, or empty bytes if its first fragment is too short to hold it."""
    for record in records:
        if record.epoch or record.content_type != ContentType.HANDSHAKE:
            continue
        try:
            fragments = parse_fragments(record.fragment)
        except DecodeError:
            continue
        for fragment in fragments:
            if fragment.kind == HandshakeType.CLIENT_HELLO and fragment.offset == 0:
                return fragment.data[_RANDOM] if len(fragment.data) >= _RANDOM.stop else b""
    return None


def _owner(known: list[Tracker], destination: Endpoint, records: tuple[Record, ...]) -> Tracker | None:
    """Return the newest session whose keys open something here; failing that the newest."""
    sealed = [record for record in records if record.epoch]
    for tracker in reversed(known):
        if any(tracker.opens(destination == tracker.server, record) for record in sealed):
            return tracker
    return known[-1] if known else None


def _readings(trackers: Iterable[Tracker], destination: Endpoint, datagram: bytes) -> Iterator[_Reading]:
    for tracker in trackers:
        from_client = destination == tracker.server
        if not tracker.connection_id(from_client):
            continue
        with suppress(DecodeError):
            yield _Reading(tracker, from_client, tracker.split(from_client, datagram))
