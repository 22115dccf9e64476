"""The state of one DTLS session as a bystander with the pre-shared keys sees it."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rig.dtls import handshake, suites
from rig.dtls.alerts import decode_alert
from rig.dtls.flights import Flights
from rig.dtls.handshake import ClientHello, HandshakeType, Message, Reassembler, ServerHello, parse_fragments
from rig.dtls.records import ContentType, Record
from rig.dtls.session import Endpoint, SeenAlert, SeenRecord, Session
from rig.dtls.suites import CLIENT_FINISHED, SERVER_FINISHED, SUITES, BadRecord, Protection
from rig.dtls.wire import DecodeError

_CLIENT_SENDS = {
    HandshakeType.CLIENT_HELLO,
    HandshakeType.CLIENT_KEY_EXCHANGE,
    HandshakeType.CERTIFICATE_VERIFY,
}
_BOTH_SEND = {HandshakeType.CERTIFICATE, HandshakeType.FINISHED}


@dataclass
class _Entry:
    t_s: float
    from_client: bool
    record: Record
    plaintext: bytes | None


@dataclass(frozen=True)
class _Seen:
    t_s: float
    epoch: int
    message: Message


class Tracker:
    """Follows one session. Nothing that arrives raises; what does not decode is left out of the conclusions."""

    def __init__(
        self,
        client: Endpoint,
        server: Endpoint,
        start_s: float,
        psks: Mapping[bytes, bytes],
        master_secrets: Mapping[bytes, bytes],
        client_random: bytes | None,
    ) -> None:
        """*client_random* is None when the first fragment of the ClientHello is too short to hold it."""
        self.client = client
        self.server = server
        self.client_random = client_random
        self._start_s = start_s
        self._psks = psks
        self._master_secrets = master_secrets
        self._entries: list[_Entry] = []
        self._flights = Flights()
        self._reassemblers = {True: Reassembler(), False: Reassembler()}
        self._messages: dict[bool, dict[int, _Seen]] = {True: {}, False: {}}
        self._cookies: list[tuple[float, bytes]] = []
        self._alerts: list[SeenAlert] = []
        self._hello: ServerHello | None = None
        self._protections: dict[bool, Protection] = {}
        self._master: bytes | None = None

    def add(self, t_s: float, from_client: bool, records: tuple[Record, ...]) -> None:
        """Take one datagram in."""
        self._flights.add(t_s, from_client, records)
        for record in records:
            plaintext = record.fragment if record.epoch == 0 else self.open(from_client, record)
            entry = _Entry(t_s, from_client, record, plaintext)
            self._entries.append(entry)
            self._take(entry)

    def opens(self, from_client: bool, record: Record) -> bool:
        """Whether *record* opens with this session's keys."""
        return self.open(from_client, record) is not None

    def open(self, from_client: bool, record: Record) -> bytes | None:
        """Return what a protected record holds, or None where it does not open with this session's keys."""
        if not self._protections or record.epoch != 1:
            return None
        header = record.content_type, record.version, record.epoch, record.sequence
        try:
            return self._protections[from_client].open(*header, record.fragment)
        except BadRecord:
            return None

    def snapshot(self) -> Session:
        """Return what is known by now."""
        hello, server_hello, suite = self._client_hello(), self._server_hello(), self._suite()
        finished = {side: self._verified_finished_s(side) for side in (True, False)}
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
        )

    def _take(self, entry: _Entry) -> None:
        if entry.plaintext is None:
            return
        try:
            if entry.record.content_type == ContentType.HANDSHAKE:
                self._take_handshake(entry, entry.plaintext)
            elif entry.record.content_type == ContentType.ALERT:
                alert = decode_alert(entry.plaintext)
                self._alerts.append(SeenAlert(entry.t_s, entry.from_client, entry.record.epoch, alert))
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
        seen = _Seen(entry.t_s, entry.record.epoch, message)
        if message.kind == HandshakeType.HELLO_VERIFY_REQUEST:
            cookie = handshake.decode_hello_verify_request(message.body).cookie
            self._cookies.append((entry.t_s, cookie))
            return
        if message.kind == HandshakeType.CLIENT_HELLO:
            self.client_random = handshake.decode_client_hello(message.body).random
        if message.kind == HandshakeType.SERVER_HELLO and self._hello is None:
            self._hello = handshake.decode_server_hello(message.body)
        self._messages[entry.from_client].setdefault(message.message_seq, seen)
        self._derive()

    def _derive(self) -> None:
        """Work the keys out as soon as all of their ingredients have passed, and open what came before them."""
        suite = self._suite()
        if self._protections or not self._hello or not self.client_random or suite is None:
            return
        self._master = self._master_secret(suite, self.client_random, self._hello)
        if self._master is None:
            return
        client, server = suites.protections(
            suite,
            self._master,
            self.client_random,
            self._hello.random,
            encrypt_then_mac=self._hello.encrypt_then_mac,
        )
        self._protections = {True: client, False: server}
        self._reopen()

    def _suite(self) -> suites.Suite | None:
        return SUITES.get(self._hello.suite) if self._hello else None

    def _master_secret(self, suite: suites.Suite, client_random: bytes, hello: ServerHello) -> bytes | None:
        logged, identity = self._master_secrets.get(client_random), self._identity()
        if logged is not None or suite.key_exchange != "psk" or identity is None:
            return logged
        psk, transcript = self._psks.get(identity), self._key_exchange_transcript()
        if psk is None or transcript is None:
            return None
        premaster = suites.psk_premaster(psk)
        if hello.extended_master_secret:
            session_hash = hashlib.new(suite.hash_name, transcript).digest()
            return suites.extended_master_secret(premaster, session_hash, suite.hash_name)
        return suites.master_secret(premaster, client_random, hello.random, suite.hash_name)

    def _reopen(self) -> None:
        for entry in self._entries:
            if entry.plaintext is None:
                entry.plaintext = self.open(entry.from_client, entry.record)
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
        seen = self._find(True, HandshakeType.CLIENT_KEY_EXCHANGE)
        return _decoded_vector(seen.message.body) if seen else None

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
        seen, transcript, suite = self._find(from_client, HandshakeType.FINISHED), self._finished_over(), self._suite()
        if seen is None or seen.epoch == 0 or transcript is None or self._master is None or suite is None:
            return None
        if not from_client:
            client = self._find(True, HandshakeType.FINISHED)
            if client is None:
                return None
            transcript += client.message.encode() + _joined(self._between(False, HandshakeType.SERVER_HELLO_DONE))
        label = CLIENT_FINISHED if from_client else SERVER_FINISHED
        handshake_hash = hashlib.new(suite.hash_name, transcript).digest()
        expected = suites.finished(self._master, label, handshake_hash, suite.hash_name)
        return seen.t_s if seen.message.body == expected else None

    def _finished_over(self) -> bytes | None:
        """Return what the client's Finished is computed over."""
        transcript = self._key_exchange_transcript()
        if transcript is None:
            return None
        return transcript + _joined(self._between(True, HandshakeType.CLIENT_KEY_EXCHANGE))

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
    numbers = record.content_type, record.epoch, record.sequence, record.length
    return SeenRecord(entry.t_s, entry.from_client, *numbers, nonce or None, entry.plaintext)
