"""The state of one DTLS session as a bystander with the pre-shared keys sees it."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rig.dtls import handshake, suites
from rig.dtls.alerts import decode_alert
from rig.dtls.cid import TLS12_CID, CidRecord, split_datagram, unwrapped
from rig.dtls.contents import decode_new_session_ticket
from rig.dtls.extensions import connection_id
from rig.dtls.flights import Flights
from rig.dtls.handshake import ClientHello, HandshakeType, Message, Reassembler, ServerHello, parse_fragments
from rig.dtls.keyring import Earlier, Keyring, ticket_of
from rig.dtls.records import ContentType, Record
from rig.dtls.session import Endpoint, Move, SeenAlert, SeenRecord, Session
from rig.dtls.suites import CLIENT_FINISHED, SERVER_FINISHED, SUITES, Protection
from rig.dtls.wire import DecodeError

_CLIENT_SENDS = {
    HandshakeType.CLIENT_HELLO,
    HandshakeType.CLIENT_KEY_EXCHANGE,
    HandshakeType.CERTIFICATE_VERIFY,
}
_BOTH_SEND = {HandshakeType.CERTIFICATE, HandshakeType.FINISHED}
# Each side's message, True the client's, after which only what belongs to its own Finished comes (RFC 5246 7.3).
_FULL = {True: HandshakeType.CLIENT_KEY_EXCHANGE, False: HandshakeType.SERVER_HELLO_DONE}
_ABBREVIATED = {True: HandshakeType.CLIENT_HELLO, False: HandshakeType.SERVER_HELLO}

_MESSAGES_MAX = 32  # of one side: no handshake has so many


@dataclass
class _Entry:
    t_s: float
    from_client: bool
    record: Record | CidRecord
    content_type: int
    plaintext: bytes | None


@dataclass(frozen=True)
class _Seen:
    t_s: float
    epoch: int
    message: Message


class Tracker:
    """Follows one session. Nothing that arrives raises; what does not decode is left out of the conclusions.

    A renegotiation inside the session is not followed.
    """

    def __init__(
        self, client: Endpoint, server: Endpoint, start_s: float, keyring: Keyring, client_random: bytes | None
    ) -> None:
        """*client_random* is None when the first fragment of the ClientHello is too short to hold it.

        The *keyring* learns what a later session needs that takes this one up again.
        """
        self.client = client
        self.server = server
        self.client_random = client_random
        self._start_s = start_s
        self._keyring = keyring
        self._entries: list[_Entry] = []
        self._flights = Flights()
        self._reassemblers = {True: Reassembler(), False: Reassembler()}
        self._messages: dict[bool, dict[int, _Seen]] = {True: {}, False: {}}
        self._cookies: list[tuple[float, bytes]] = []
        self._alerts: list[SeenAlert] = []
        self._moves: list[Move] = []
        self._newest_from_client = -1
        self._hello: ServerHello | None = None
        self._server_changed = False
        self._connection_ids: dict[bool, bytes | None] = {True: None, False: None}
        self._protections: dict[bool, Protection] = {}
        self._master: bytes | None = None

    @property
    def peer(self) -> Endpoint:
        """Where the client is now."""
        return self._moves[-1].client if self._moves else self.client

    def connection_id(self, from_client: bool) -> bytes:
        """Return what the receiver of one side's records wants them to have; empty for nothing."""
        return self._connection_ids[not from_client] or b""

    def split(self, from_client: bool, datagram: bytes) -> tuple[Record | CidRecord, ...]:
        """Return the records of a datagram as its receiver would; `DecodeError` if it is no whole number of them."""
        return split_datagram(datagram, len(self.connection_id(from_client)))

    def add(self, t_s: float, from_client: bool, records: Sequence[Record | CidRecord]) -> None:
        """Take one datagram in."""
        before = len(self._entries)
        for record in records:
            entry = _Entry(t_s, from_client, record, *self._read(from_client, record))
            self._entries.append(entry)
            self._take(entry)
        self._flights.add(t_s, from_client, [_freeze(entry, None) for entry in self._entries[before:]])

    def follow(self, t_s: float, source: Endpoint, records: Sequence[Record | CidRecord]) -> bool:
        """Take the client to be at *source* if *records*, not yet added, show it; return whether they do."""
        own = [one for one in records if isinstance(one, CidRecord) and one.connection_id == self.connection_id(True)]
        moved = any(one.sequence > self._newest_from_client and self.opens(True, one) for one in own)
        if moved:
            self._moves.append(Move(t_s, source))
        return moved

    def opens(self, from_client: bool, record: Record | CidRecord) -> bool:
        """Whether *record* opens with this session's keys."""
        return self.open(from_client, record) is not None

    def open(self, from_client: bool, record: Record | CidRecord) -> tuple[ContentType, bytes] | None:
        """Return content type and content of a protected record; None if it does not open with this session's keys."""
        if not self._protections or record.epoch != 1:
            return None
        protection, numbers = self._protections[from_client], (record.version, record.epoch, record.sequence)
        try:
            if isinstance(record, Record):
                return record.content_type, protection.open(record.content_type, *numbers, record.fragment)
            return unwrapped(protection.open(TLS12_CID, *numbers, record.fragment, record.connection_id))
        except DecodeError:
            return None

    def snapshot(self) -> Session:
        """Return what is known by now."""
        hello, server_hello, suite = self._client_hello(), self._server_hello(), self._suite()
        finished = {side: self._verified_finished_s(side) for side in (True, False)}
        agreed = None not in self._connection_ids.values()
        return Session(
            client=self.client,
            server=self.server,
            start_s=self._start_s,
            client_random=self.client_random or b"",
            offered_suites=hello.suites if hello else (),
            cookie_exchanged=self._cookie_exchanged(),
            server_hello_s=server_hello.t_s if server_hello else None,
            suite=self._hello.suite if self._hello else None,
            extended_master_secret=self._hello is not None and self._hello.extended_master_secret,
            identity=self._identity(),
            identity_hint=self._identity_hint(),
            client_finished_s=finished[True],
            server_finished_s=finished[False],
            flights=self._flights.snapshot(),
            alerts=tuple(self._alerts),
            records=tuple(_freeze(entry, suite) for entry in self._entries),
            master_secret=self._master,
            resumed=self._resumed(),
            client_cid=self._connection_ids[True] if agreed else None,
            server_cid=self._connection_ids[False] if agreed else None,
            moves=tuple(self._moves),
        )

    def _read(self, from_client: bool, record: Record | CidRecord) -> tuple[int, bytes | None]:
        """Return content type and content, which is None if the record does not open."""
        if record.epoch == 0 and isinstance(record, Record):
            return record.content_type, record.fragment
        opened = self.open(from_client, record)
        if opened is None:
            return (record.content_type if isinstance(record, Record) else TLS12_CID), None
        if from_client:
            self._newest_from_client = max(self._newest_from_client, record.sequence)
        return opened

    def _take(self, entry: _Entry) -> None:
        if entry.plaintext is None:
            return
        try:
            if entry.content_type == ContentType.HANDSHAKE:
                self._take_handshake(entry, entry.plaintext)
            elif entry.content_type == ContentType.ALERT:
                alert = decode_alert(entry.plaintext)
                self._alerts.append(SeenAlert(entry.t_s, entry.from_client, entry.record.epoch, alert))
            elif entry.content_type == ContentType.CHANGE_CIPHER_SPEC and not entry.from_client:
                self._server_changed = True
                self._derive()
        except DecodeError:
            return  # a damaged record: the receiver drops it too, and it stays among the records

    def _take_handshake(self, entry: _Entry, plaintext: bytes) -> None:
        for fragment in parse_fragments(plaintext):
            message = self._reassemblers[entry.from_client].add(fragment)
            if message is not None:
                self._take_message(entry, message)

    def _take_message(self, entry: _Entry, message: Message) -> None:
        if entry.from_client != (message.kind in _CLIENT_SENDS) and message.kind not in _BOTH_SEND:
            return  # an echo, or a confused peer
        if message.kind == HandshakeType.HELLO_REQUEST or (
            entry.record.epoch and message.kind != HandshakeType.FINISHED
        ):
            return  # no part of this handshake (RFC 5246 7.4.1.1)
        if message.kind == HandshakeType.HELLO_VERIFY_REQUEST:
            cookie = handshake.decode_hello_verify_request(message.body).cookie
            self._cookies.append((entry.t_s, cookie))
            return
        if message.kind == HandshakeType.CLIENT_HELLO:
            if self._hello is not None:
                return  # the server has gone on with the one before
            hello = handshake.decode_client_hello(message.body)
            self.client_random = hello.random
            self._connection_ids[True] = connection_id(hello.extensions)
        if message.kind == HandshakeType.SERVER_HELLO and self._hello is None:
            self._hello = handshake.decode_server_hello(message.body)
            self._connection_ids[False] = connection_id(self._hello.extensions)
        messages = self._messages[entry.from_client]
        if message.message_seq in messages or len(messages) >= _MESSAGES_MAX:
            return
        messages[message.message_seq] = _Seen(entry.t_s, entry.record.epoch, message)
        self._derive()
        self._learn()

    def _derive(self) -> None:
        """Work the keys out as soon as all of their ingredients have passed, and open what came before them."""
        suite = self._suite()
        if not self._hello or not self.client_random or suite is None:
            return
        master = self._master_secret(suite, self.client_random, self._hello)
        if master is None or master == self._master:
            return
        self._master = master
        client, server = suites.protections(
            suite,
            self._master,
            self.client_random,
            self._hello.random,
            encrypt_then_mac=self._hello.encrypt_then_mac,
        )
        self._protections = {True: client, False: server}
        self._reopen()

    def _learn(self) -> None:
        """Remember what a later session may begin from: by session id, and by the ticket."""
        if self._master is None or self._hello is None:
            return
        earlier = Earlier(self._identity(), self._master)
        for handle in (self._hello.session_id, self._ticket()):
            if handle:
                self._keyring.learn(handle, earlier)

    def _ticket(self) -> bytes:
        """Return the ticket that the server handed out in this handshake, or empty bytes."""
        seen = self._find(False, HandshakeType.NEW_SESSION_TICKET)
        try:
            return decode_new_session_ticket(seen.message.body).ticket if seen else b""
        except DecodeError:
            return b""

    def _suite(self) -> suites.Suite | None:
        return SUITES.get(self._hello.suite) if self._hello else None

    def _resumed(self) -> bool:
        """Whether the handshake is an abbreviated one.

        The server answers with the client's session id (RFC 5246 7.3); to a ticket without one it answers with its
        ChangeCipherSpec (RFC 5077 3.4).
        """
        hello = self._client_hello()
        if hello is None or self._hello is None or self._find(False, HandshakeType.SERVER_HELLO_DONE):
            return False
        if hello.session_id:
            return self._hello.session_id == hello.session_id
        return bool(ticket_of(hello)) and self._server_changed

    def _earlier(self) -> Earlier | None:
        """Return the session that this one takes up again, where it was seen."""
        hello = self._client_hello()
        return self._keyring.earlier(hello) if hello and self._resumed() else None

    def _master_secret(self, suite: suites.Suite, client_random: bytes, hello: ServerHello) -> bytes | None:
        logged, earlier, identity = self._keyring.master_secrets.get(client_random), self._earlier(), self._identity()
        if logged is not None:
            return logged
        if earlier is not None:
            return earlier.master
        psk, transcript = self._keyring.psks.get(identity or b""), self._key_exchange_transcript()
        if suite.key_exchange != "psk" or identity is None or psk is None or transcript is None:
            return None
        premaster = suites.psk_premaster(psk)
        if hello.extended_master_secret:
            session_hash = hashlib.new(suite.hash_name, transcript).digest()
            return suites.extended_master_secret(premaster, session_hash, suite.hash_name)
        return suites.master_secret(premaster, client_random, hello.random, suite.hash_name)

    def _reopen(self) -> None:
        for entry in self._entries:
            if entry.plaintext is None:
                entry.content_type, entry.plaintext = self._read(entry.from_client, entry.record)
                self._take(entry)

    def _find(self, from_client: bool, kind: HandshakeType) -> _Seen | None:
        """Return the message of this kind; of several ClientHellos the last, which the server went on with."""
        messages = self._messages[from_client]
        found = [messages[number] for number in sorted(messages) if messages[number].message.kind == kind]
        if not found:
            return None
        return found[-1] if kind == HandshakeType.CLIENT_HELLO else found[0]

    def _client_hello(self) -> ClientHello | None:
        seen = self._find(True, HandshakeType.CLIENT_HELLO)
        return handshake.decode_client_hello(seen.message.body) if seen else None

    def _server_hello(self) -> _Seen | None:
        return self._find(False, HandshakeType.SERVER_HELLO)

    def _cookie_exchanged(self) -> bool:
        hello, server_hello = self._client_hello(), self._server_hello()
        if hello is None or server_hello is None:
            return False
        asked = [cookie for t_s, cookie in self._cookies if t_s <= server_hello.t_s]
        return bool(hello.cookie) and hello.cookie in asked

    def _identity(self) -> bytes | None:
        seen, earlier = self._find(True, HandshakeType.CLIENT_KEY_EXCHANGE), self._earlier()
        if seen:
            return _decoded_vector(seen.message.body)
        return earlier.identity if earlier else None

    def _identity_hint(self) -> bytes | None:
        seen = self._find(False, HandshakeType.SERVER_KEY_EXCHANGE)
        return _decoded_vector(seen.message.body) if seen else None

    def _key_exchange_transcript(self) -> bytes | None:
        """Return ClientHello to ClientKeyExchange as RFC 6347 4.2.6 has them hashed, or None while one is missing."""
        ends = (HandshakeType.SERVER_HELLO, HandshakeType.SERVER_HELLO_DONE)
        server = self._run(False, *ends)
        client = self._run(True, HandshakeType.CLIENT_HELLO, HandshakeType.CLIENT_KEY_EXCHANGE)
        if not server or not client:
            return None
        return _joined([client[0], *server, *client[1:]])

    def _run(self, from_client: bool, first: HandshakeType, last: HandshakeType) -> list[Message]:
        """Return one side's messages from *first* to *last*, or nothing while there is a gap."""
        begin, end = self._find(from_client, first), self._find(from_client, last)
        if begin is None or end is None:
            return []
        messages = self._messages[from_client]
        numbers = range(begin.message.message_seq, end.message.message_seq + 1)
        if not all(number in messages for number in numbers):
            return []
        return [messages[number].message for number in numbers]

    def _verified_finished_s(self, from_client: bool) -> float | None:
        seen, suite = self._find(from_client, HandshakeType.FINISHED), self._suite()
        transcript = self._finished_transcript(from_client)
        if seen is None or seen.epoch == 0 or transcript is None or self._master is None or suite is None:
            return None
        label = CLIENT_FINISHED if from_client else SERVER_FINISHED
        handshake_hash = hashlib.new(suite.hash_name, transcript).digest()
        expected = suites.finished(self._master, label, handshake_hash, suite.hash_name)
        return seen.t_s if seen.message.body == expected else None

    def _finished_transcript(self, from_client: bool) -> bytes | None:
        """Return what one side's Finished is computed over; that of the side which is second covers the first's too."""
        resumed = self._resumed()
        opening, after = (self._hellos(), _ABBREVIATED) if resumed else (self._key_exchange_transcript(), _FULL)
        if opening is None:
            return None
        first = not resumed
        opening += _joined(self._between(first, after[first]))
        if from_client == first:
            return opening
        finished = self._find(first, HandshakeType.FINISHED)
        if finished is None:
            return None
        return opening + _joined([finished.message, *self._between(not first, after[not first])])

    def _hellos(self) -> bytes | None:
        client, server = self._find(True, HandshakeType.CLIENT_HELLO), self._server_hello()
        return _joined([client.message, server.message]) if client and server else None

    def _between(self, from_client: bool, after: HandshakeType) -> Iterator[Message]:
        """Yield one side's messages after *after* and before its Finished, such as a NewSessionTicket."""
        begin, end = self._find(from_client, after), self._find(from_client, HandshakeType.FINISHED)
        if begin is None or end is None:
            return
        for number, seen in sorted(self._messages[from_client].items()):
            if begin.message.message_seq < number < end.message.message_seq:
                yield seen.message


def _joined(messages: list[Message] | Iterator[Message]) -> bytes:
    return b"".join(message.encode() for message in messages)


def _decoded_vector(body: bytes) -> bytes | None:
    """Return the one vector of a PSK key exchange; other key exchanges have another shape."""
    try:
        return handshake.decode_client_key_exchange(body).identity
    except DecodeError:
        return None


def _freeze(entry: _Entry, suite: suites.Suite | None) -> SeenRecord:
    record = entry.record
    nonce = record.fragment[: suite.explicit_nonce_bytes] if record.epoch and suite else b""
    numbers = entry.content_type, record.epoch, record.sequence, record.length
    cid = record.connection_id if isinstance(record, CidRecord) else b""
    return SeenRecord(entry.t_s, entry.from_client, *numbers, nonce or None, entry.plaintext, cid)
