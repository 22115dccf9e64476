"""A passive dissector: datagrams in, sessions out. It sends nothing and never raises on what it is fed."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from rig.dtls.handshake import HandshakeType, parse_fragments
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


class Dissector:
    """Follows the DTLS 1.2 sessions of any number of 5-tuples, and opens those whose keys it can work out.

    ``malformed`` counts datagrams that are no DTLS records, ``unclaimed`` those before any ClientHello of their pair.
    """

    def __init__(self, psks: Mapping[bytes, bytes], master_secrets: Mapping[bytes, bytes] = _NONE) -> None:
        """*psks* maps PSK identities to keys, *master_secrets* client randoms to what a key log says."""
        self._psks = psks
        self._master_secrets = master_secrets
        self._pairs: dict[frozenset[Endpoint], list[Tracker]] = {}
        self._trackers: list[Tracker] = []
        self.malformed = 0
        self.unclaimed = 0

    def feed(self, t_s: float, source: Endpoint, destination: Endpoint, datagram: bytes) -> None:
        """Take one datagram in, in order of time."""
        try:
            records = parse_datagram(datagram)
        except DecodeError:
            self.malformed += 1
            return
        tracker = self._tracker(t_s, source, destination, records)
        if tracker is None:
            self.unclaimed += 1
        else:
            tracker.add(t_s, source == tracker.client, records)

    def sessions(self) -> tuple[Session, ...]:
        """Return all sessions so far, in the order of their first ClientHello."""
        return tuple(tracker.snapshot() for tracker in self._trackers)

    def _tracker(
        self, t_s: float, source: Endpoint, destination: Endpoint, records: tuple[Record, ...]
    ) -> Tracker | None:
        """Return the session of this datagram: a ClientHello with another random begins a new one."""
        known = self._pairs.setdefault(frozenset((source, destination)), [])
        random = _client_random(records)
        if random is not None and (not known or (random and random != known[-1].client_random)):
            tracker = Tracker(source, destination, t_s, self._psks, self._master_secrets, random or None)
            known.append(tracker)
            self._trackers.append(tracker)
            return tracker
        return _owner(known, source, records)


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


def _owner(known: list[Tracker], source: Endpoint, records: tuple[Record, ...]) -> Tracker | None:
    """Return the newest session whose keys open something here; failing that the newest."""
    sealed = [record for record in records if record.epoch]
    for tracker in reversed(known):
        if any(tracker.opens(source == tracker.client, record) for record in sealed):
            return tracker
    return known[-1] if known else None
