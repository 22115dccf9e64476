"""A DTLS 1.2 server with pre-shared keys, without I/O: datagrams and times in, events and a deadline out.

It keeps to RFC 6347 unless a `Misbehaviour` says otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rig.dtls.cid import CidRecord, split_datagram
from rig.dtls.cookies import Cookies
from rig.dtls.handshake import (
    ClientHello,
    Fragment,
    HandshakeType,
    HelloVerifyRequest,
    Message,
    Reassembler,
    decode_client_hello,
    parse_fragments,
)
from rig.dtls.misbehaviour import Misbehaviour
from rig.dtls.records import DTLS_1_0, DTLS_1_2, ContentType, Record, parse_datagram
from rig.dtls.resumption import KeptSessions
from rig.dtls.server_session import ServerSession, Settings
from rig.dtls.session import Endpoint
from rig.dtls.wire import DecodeError

_ORDERLY = Misbehaviour()
_PARTIAL_HELLOS_MAX = 64


@dataclass(frozen=True)
class Send:
    """*datagram* is to be sent to *peer*."""

    peer: Endpoint
    datagram: bytes


@dataclass(frozen=True)
class Established:
    """A handshake is complete; ``resumed`` if it was an abbreviated one."""

    peer: Endpoint
    identity: bytes
    suite: int
    resumed: bool = False


@dataclass(frozen=True)
class Received:
    """Application data, one record's."""

    peer: Endpoint
    data: bytes


@dataclass(frozen=True)
class Moved:
    """The client that was at *before* is at *peer* from now on (RFC 9146 6)."""

    peer: Endpoint
    before: Endpoint


@dataclass(frozen=True)
class Closed:
    """A session or a handshake is over. *reason* is for people."""

    peer: Endpoint
    reason: str


Event = Send | Established | Received | Moved | Closed


class Server:
    """Serves any number of clients. Of one address it keeps a live session and one handshake that may replace it."""

    def __init__(self, settings: Settings, misbehaviour: Misbehaviour = _ORDERLY) -> None:
        self._settings = settings
        self._wrong = misbehaviour
        self._cookies = Cookies(misbehaviour)
        self._kept = KeptSessions(misbehaviour)
        # By when a handshake began or data came: the longest idle is first.
        self._sessions: dict[Endpoint, list[ServerSession]] = {}
        self._partial: dict[Endpoint, Reassembler] = {}

    @property
    def deadline_s(self) -> float | None:
        """When `expire` has something to do, on the clock of the caller; None if nothing is waited for."""
        deadlines = (each.deadline_s for sessions in self._sessions.values() for each in sessions)
        return min((deadline_s for deadline_s in deadlines if deadline_s is not None), default=None)

    @property
    def established(self) -> int:
        """The number of sessions."""
        return sum(session.established for sessions in self._sessions.values() for session in sessions)

    @property
    def half_open(self) -> int:
        """The number of handshakes under way, cookie exchanges apart, of which nothing is known."""
        return len(self._half_open())

    @property
    def unanswered(self) -> int:
        """The number of handshakes that wait for the client's key exchange."""
        return sum(not session.identity and not session.resumed for _, session in self._half_open())

    def serves(self, peer: Endpoint) -> bool:
        """Whether *peer* has a session."""
        return any(session.established for session in self._sessions.get(peer, ()))

    def receive(self, now_s: float, peer: Endpoint, datagram: bytes) -> list[Event]:
        """Take a datagram in. Nothing that arrives raises."""
        try:
            records = self._split(datagram)
        except DecodeError:
            return []
        events: list[Event] = []
        for record in records[:1] if self._wrong.one_record_per_datagram and records[0].epoch else records:
            if isinstance(record, CidRecord):
                events += self._take_cid_record(peer, record)
            elif fragments := _hello_fragments(record):
                events += self._take_hello(now_s, peer, record, fragments)
            else:
                events += self._take_record(peer, record)
        return events

    def expire(self, now_s: float) -> list[Event]:
        """Do what is due by *now_s*."""
        events: list[Event] = []
        for peer, sessions in list(self._sessions.items()):
            for session in list(sessions):
                events += self._step(peer, session, lambda each: each.expire(now_s))
        return events

    def send(self, peer: Endpoint, data: bytes) -> list[Event]:
        """Send application data to *peer*; nothing comes of it without a session."""
        if peer not in self._sessions and self._wrong.clear_data_without_session:
            return [Send(peer, Record(ContentType.APPLICATION_DATA, DTLS_1_2, 0, 0, data).encode())]
        return self._tell(peer, lambda session: session.send(ContentType.APPLICATION_DATA, data))

    def close(self, peer: Endpoint) -> list[Event]:
        """Close *peer*'s session with a close_notify."""
        return self._tell(peer, lambda session: session.close())

    def restore(self) -> None:
        """Go on from what a device has stored of its sessions before it slept.

        Their next record numbers lie ahead of all that may have been used (RFC 8613 B.1.1 has the idea for OSCORE).
        """
        for sessions in self._sessions.values():
            for session in sessions:
                session.restore()

    def _tell(self, peer: Endpoint, action: Callable[[ServerSession], None]) -> list[Event]:
        for session in self._sessions.get(peer, ()):
            if session.can_send:
                return self._step(peer, session, action)
        return []

    def _split(self, datagram: bytes) -> tuple[Record | CidRecord, ...]:
        length = self._settings.connection_id_bytes
        return split_datagram(datagram, length) if length else parse_datagram(datagram)

    def _take_cid_record(self, peer: Endpoint, record: CidRecord) -> list[Event]:
        """The record is its connection id's, wherever it comes from; what it is answered goes to where the client is.

        An address belongs to one client: nobody moves to where another one is.
        """
        home, session = self._with_connection_id(peer, record.connection_id)
        if session is None:
            return []
        events: list[Event] = []
        if peer not in self._sessions and session.moves_peer(record):
            self._forget(home, session)
            self._sessions[peer] = [session]
            events.append(Moved(peer, home))
            home = peer
        return events + self._step(home, session, lambda each: each.receive(record))

    def _with_connection_id(self, peer: Endpoint, connection_id: bytes) -> tuple[Endpoint, ServerSession | None]:
        """Return the session that has this connection id, and where its client is."""
        for home, sessions in self._sessions.items():
            for session in sessions:
                if session.connection_id == connection_id:
                    return home, session
        strays = self._sessions.get(peer, ()) if self._wrong.cid_unknown_accepted else ()
        return peer, strays[-1] if strays else None

    def _take_record(self, peer: Endpoint, record: Record) -> list[Event]:
        """A protected record is for the session that it opens with, everything else for the newest."""
        sessions = self._sessions.get(peer)
        if not sessions:
            return []
        opening = [session for session in sessions if record.epoch and session.opens(record)]
        session = opening[0] if opening else sessions[-1]
        return self._step(peer, session, lambda each: each.receive(record))

    def _take_hello(self, now_s: float, peer: Endpoint, record: Record, fragments: tuple[Fragment, ...]) -> list[Event]:
        try:
            message = self._join(peer, fragments)
            hello = decode_client_hello(message.body) if message else None
        except DecodeError:
            return []
        if message is None or hello is None:
            return []
        sessions = self._sessions.get(peer, [])
        for session in sessions:
            if session.random == hello.random and session.hello_number == message.message_seq:
                return [] if session.established else self._step(peer, session, ServerSession.repeat_flight)
        if sessions and self._wrong.new_hello_ignored:
            return []
        if not self._proves(peer, message, hello):
            return self._ask(peer, record, hello)
        return self._begin(now_s, peer, record, message)

    def _join(self, peer: Endpoint, fragments: tuple[Fragment, ...]) -> Message | None:
        """Put a ClientHello together; so many clients may be in the middle of one, and the oldest is forgotten."""
        if self._wrong.fragments_dropped:
            fragments = tuple(each for each in fragments if len(each.data) == each.length)
        reassembler = self._partial.pop(peer, None) or Reassembler()
        for fragment in fragments:
            message = reassembler.add(fragment)
            if message is not None:
                return message
        self._partial[peer] = reassembler
        if len(self._partial) > _PARTIAL_HELLOS_MAX:
            del self._partial[next(iter(self._partial))]
        return None

    def _proves(self, peer: Endpoint, message: Message, hello: ClientHello) -> bool:
        in_turn = message.message_seq in (0, 1) or self._wrong.any_message_seq
        return in_turn and self._cookies.prove(peer, hello)

    def _ask(self, peer: Endpoint, record: Record, hello: ClientHello) -> list[Event]:
        """Ask for proof of the address; nothing is remembered of it (RFC 6347 4.2.1)."""
        events: list[Event] = []
        if self._wrong.hello_ends_session and peer in self._sessions:
            del self._sessions[peer]
            events.append(Closed(peer, "a ClientHello came"))
        request = HelloVerifyRequest(self._cookies.make(peer, hello))
        body = Message(HandshakeType.HELLO_VERIFY_REQUEST, 0, request.encode()).encode()
        answer = Record(ContentType.HANDSHAKE, DTLS_1_0, 0, record.sequence, body)
        return [*events, Send(peer, answer.encode())]

    def _begin(self, now_s: float, peer: Endpoint, record: Record, hello: Message) -> list[Event]:
        session = ServerSession(self._settings, self._wrong, self._kept, hello, record.sequence)
        live = [each for each in self._sessions.pop(peer, []) if each.established]
        self._sessions[peer] = [*live, session]
        events: list[Event] = []
        half_open = self._half_open()
        if len(half_open) > self._settings.half_open_max:
            self._forget(*half_open[0])
            events.append(Closed(half_open[0][0], "another client needed its place"))
        return events + self._step(peer, session, lambda each: each.start(now_s))

    def _half_open(self) -> list[tuple[Endpoint, ServerSession]]:
        """Return the handshakes under way, the oldest first."""
        everything = ((peer, session) for peer, sessions in self._sessions.items() for session in sessions)
        return [(peer, session) for peer, session in everything if not session.established]

    def _make_room(self, newest: Endpoint) -> list[Event]:
        """Close the session that has been idle longest if there is one too many; *newest* is not it."""
        if self.established <= self._settings.sessions_max:
            return []
        idle = next(peer for peer in self._sessions if peer != newest and self.serves(peer))
        return self.close(idle)

    def _step(self, peer: Endpoint, session: ServerSession, action: Callable[[ServerSession], None]) -> list[Event]:
        """Let *session* do something, and tell what came of it."""
        was_established = session.established
        action(session)
        datagrams, data = session.take_outcome()
        events: list[Event] = [Send(peer, datagram) for datagram in datagrams]
        if session.established and not was_established:
            self._sessions[peer] = [session]
            events.append(Established(peer, session.identity, session.suite, session.resumed))
            events += self._make_room(peer)
        if data and peer in self._sessions:
            self._sessions[peer] = self._sessions.pop(peer)
        events += [Received(peer, each) for each in data]
        if session.closed_because is not None:
            events.append(Closed(peer, session.closed_because))
            self._forget(peer, session)
        return events

    def _forget(self, peer: Endpoint, session: ServerSession) -> None:
        rest = [each for each in self._sessions.get(peer, []) if each is not session]
        self._sessions.pop(peer, None)
        if rest:
            self._sessions[peer] = rest


def _hello_fragments(record: Record) -> tuple[Fragment, ...]:
    """Return the pieces of a ClientHello that *record* carries in clear."""
    if record.epoch or record.content_type != ContentType.HANDSHAKE:
        return ()
    try:
        fragments = parse_fragments(record.fragment)
    except DecodeError:
        return ()
    return tuple(each for each in fragments if each.kind == HandshakeType.CLIENT_HELLO)
