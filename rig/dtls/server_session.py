"""One client of the scriptable server: its handshake, and what follows."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from rig.dtls import handshake, suites
from rig.dtls.alerts import FATAL, WARNING, Abort, Alert, decode_alert
from rig.dtls.cid import CidRecord
from rig.dtls.contents import NewSessionTicket
from rig.dtls.extensions import SessionTicket
from rig.dtls.handshake import HandshakeType, Message, Reassembler, ServerHello, parse_fragments
from rig.dtls.misbehaviour import Misbehaviour
from rig.dtls.negotiation import Offer, negotiate, wanted_connection_id
from rig.dtls.records import ContentType, Record
from rig.dtls.resumption import KeptSession, KeptSessions, handle_of
from rig.dtls.server_records import Keys, Part, RecordLayer
from rig.dtls.suites import CLIENT_FINISHED, SERVER_FINISHED, SUITES, BadRecord
from rig.dtls.wire import DecodeError

CLOSE_NOTIFY, NO_RENEGOTIATION = Alert(WARNING, 0), Alert(WARNING, 100)
_MESSAGES_AHEAD = 4
_RECORDS_HELD = 8
_TICKET_BYTES = 96
_WEEK_S = 7 * 86400


@dataclass(frozen=True)
class Settings:
    """What an orderly server is told. Timers are data: nothing here waits.

    psks: by identity. suites: best first. identity_hint: None sends no ServerKeyExchange.
    first_interval_s, interval_factor, longest_interval_s: when a flight without an answer is sent again.
    handshake_limit_s: when a handshake is given up.
    session_ids, tickets: whether sessions can be resumed by them, for session_lifetime_s from their first handshake on.
    connection_id_bytes: length of the connection ids of clients that know RFC 9146; None for a server that does not.
    sessions_max: with one more, the session that has been idle longest is closed. half_open_max: with one more
    handshake under way, the oldest is given up.
    """

    psks: Mapping[bytes, bytes]
    suites: tuple[int, ...] = (0xC0A8, 0xC0A9, 0xC0A4, 0xC0A5, 0x00A8, 0x00A9, 0xCCAB)
    identity_hint: bytes | None = None
    first_interval_s: float = 1.0
    interval_factor: float = 2.0
    longest_interval_s: float = 60.0
    handshake_limit_s: float = 45.0
    session_ids: bool = False
    tickets: bool = False
    session_lifetime_s: int = 86400
    connection_id_bytes: int | None = None
    sessions_max: int = 64
    half_open_max: int = 64


class ServerSession:
    """Begins with a ClientHello that has proved its address. `closed_because` is None while it lives."""

    def __init__(
        self, settings: Settings, misbehaviour: Misbehaviour, kept: KeptSessions, hello: Message, sequence: int
    ) -> None:
        """*hello* came in record number *sequence*: the answer has the same (RFC 6347 4.2.1)."""
        self.established = False
        self.resumed = False
        self.closed_because: str | None = None
        self.deadline_s: float | None = None
        self.identity = b""
        self.suite = 0
        self.hello_number = hello.message_seq
        self._settings = settings
        self._wrong = misbehaviour
        self._kept = kept
        self._handle = b""
        self._began_s = 0.0
        self._hello = handshake.decode_client_hello(hello.body)
        self._server_hello = ServerHello(b"", 0)
        self._records = RecordLayer(misbehaviour, sequence)
        self._transcript = hello.encode()
        self._next_received, self._next_sent = hello.message_seq + 1, hello.message_seq
        self._reassembler = Reassembler()
        self._ahead: dict[int, tuple[int, Message]] = {}
        self._held: list[Record | CidRecord] = []
        self._changed = False
        self._flight: list[Part] = []
        self._flight_datagram = b""
        self._interval_s = settings.first_interval_s
        length = settings.connection_id_bytes
        connection_id = None if length is None else secrets.token_bytes(length)
        self._offer = Offer(settings.suites, settings.session_ids, settings.tickets, connection_id)
        self._datagrams: list[bytes] = []
        self._data: list[bytes] = []

    @property
    def random(self) -> bytes:
        """The ClientHello's."""
        return self._hello.random

    @property
    def can_send(self) -> bool:
        """Whether there are keys that the client has shown to hold."""
        return self._records.keys is not None and (self.established or not self.resumed)

    @property
    def connection_id(self) -> bytes:
        """What the client puts into its records; empty if it puts nothing there."""
        return self._records.read_cid

    def take_outcome(self) -> tuple[list[bytes], list[bytes]]:
        """Return the datagrams to send and the data received since the last call."""
        outcome = self._datagrams, self._data
        self._datagrams, self._data = [], []
        return outcome

    def start(self, now_s: float) -> None:
        """Answer the ClientHello."""
        self._began_s = now_s
        try:
            found = self._kept.find(now_s, self._hello)
            self._server_hello = negotiate(self._hello, self._offer, self._wrong, found)
            self._agree_on_connection_ids()
        except Abort as abort:
            self._fail(abort.alert)
            return
        self.suite = self._server_hello.suite
        hello = self._message(HandshakeType.SERVER_HELLO, self._server_hello.encode())
        self._send_flight([hello, *(self._resume(found) if found else self._ask_for_proof())])
        self._schedule(now_s)

    def expire(self, now_s: float) -> None:
        """Do what is due by *now_s*: send the flight again, or give up."""
        if self.deadline_s is None or now_s < self.deadline_s:
            return
        if now_s >= self._give_up_s() and not self._wrong.half_open_kept:
            self._close("the client did not finish its handshake")
            return
        if not self._wrong.no_retransmission:
            self.repeat_flight()
        factor = 1.0 if self._wrong.fixed_retransmission else self._settings.interval_factor
        self._interval_s = min(self._interval_s * factor, self._settings.longest_interval_s)
        self._schedule(now_s)

    def repeat_flight(self) -> None:
        """Send the last flight again: the same messages in new records."""
        if not self._wrong.same_record_again:
            self._flight_datagram = self._records.encode(self._flight)
        self._datagrams.append(self._flight_datagram)

    def receive(self, record: Record | CidRecord) -> None:
        """Take one record in."""
        try:
            if record.epoch == 0 and isinstance(record, Record):
                self._take_clear(record)
            elif self._records.candidates and self._changed:
                self._take_sealed(record)
            elif len(self._held) < _RECORDS_HELD:
                self._held.append(record)
        except Abort as abort:
            self._fail(abort.alert)
        except DecodeError:
            return  # RFC 6347 4.1.2.7: what is not valid is dropped, and nothing is said

    def opens(self, record: Record) -> bool:
        """Whether *record* opens with this session's keys, or with what may become them."""
        return self._records.opens(record)

    def moves_peer(self, record: CidRecord) -> bool:
        """Whether *record* shows that the client is now where it came from."""
        return self.established and self._records.moves_peer(record)

    def send(self, content_type: ContentType, data: bytes) -> None:
        """Send *data* under the session's keys."""
        self._datagrams.append(self._records.encode([Part(content_type, 1, data)]))

    def close(self) -> None:
        """Say goodbye and close."""
        self.send(ContentType.ALERT, CLOSE_NOTIFY.encode())
        self._close("the server closed the session")

    def _ask_for_proof(self) -> list[Part]:
        parts = []
        if self._settings.identity_hint is not None:
            hint = handshake.ServerKeyExchange(self._settings.identity_hint)
            parts.append(self._message(HandshakeType.SERVER_KEY_EXCHANGE, hint.encode()))
        return [*parts, self._message(HandshakeType.SERVER_HELLO_DONE, b"")]

    def restore(self) -> None:
        """Go on with the record layer as it was stored."""
        self._records.restore()

    # --- records in clear

    def _take_clear(self, record: Record) -> None:
        if self.established:
            self._take_clear_afterwards(record)
        elif record.content_type == ContentType.HANDSHAKE:
            self._take_fragments(0, record.fragment)
        elif record.content_type == ContentType.CHANGE_CIPHER_SPEC:
            self._changed = True
        elif record.content_type == ContentType.ALERT:
            self._take_alert(decode_alert(record.fragment))
        if self._records.candidates and self._changed:
            self._take_held()

    def _take_clear_afterwards(self, record: Record) -> None:
        if record.content_type == ContentType.APPLICATION_DATA and self._wrong.clear_data_accepted:
            self._take_data(record.fragment)
        if record.content_type == ContentType.ALERT and self._wrong.clear_alerts_accepted:
            self._take_alert(decode_alert(record.fragment))

    def _take_held(self) -> None:
        """Records that overtook the key exchange are read after it."""
        held, self._held = self._held, []
        for record in held:
            self.receive(record)

    # --- protected records

    def _take_sealed(self, record: Record | CidRecord) -> None:
        try:
            content_type, plaintext = self._records.open(record)
        except BadRecord:
            self._take_unopened(record)
            return
        if content_type == ContentType.HANDSHAKE:
            self._take_sealed_handshake(plaintext)
        elif content_type == ContentType.ALERT:
            self._take_alert(decode_alert(plaintext))
        elif content_type == ContentType.APPLICATION_DATA:
            self._take_data(plaintext)

    def _take_unopened(self, record: Record | CidRecord) -> None:
        if self.established and self._wrong.bad_record_closes and isinstance(record, Record):
            self._fail(Alert(FATAL, 20))
        of_handshake = isinstance(record, Record) and record.content_type == ContentType.HANDSHAKE
        if not self.established and self._wrong.any_key and of_handshake:
            self._records.keys = self._records.candidates[0]
            self._finish()

    def _take_data(self, data: bytes) -> None:
        if data and (self.established or self._wrong.data_before_finished):
            self._data.append(data)

    def _take_alert(self, alert: Alert) -> None:
        if alert.level == FATAL and self.established:
            self._kept.forget(self._handle)
        if alert.level == FATAL or (self._wrong.warning_closes and alert != CLOSE_NOTIFY):
            self._close(f"the client sent {alert.name}")
        elif alert == CLOSE_NOTIFY and not self._wrong.close_notify_ignored:
            if self.established:
                self.send(ContentType.ALERT, CLOSE_NOTIFY.encode())
            self._close("the client closed the session")

    def _take_sealed_handshake(self, plaintext: bytes) -> None:
        if not self.established:
            self._take_fragments(1, plaintext)
            return
        kinds = {fragment.kind for fragment in parse_fragments(plaintext)}
        if HandshakeType.FINISHED in kinds and not self.resumed and not self._wrong.no_last_flight_again:
            self.repeat_flight()
        if HandshakeType.CLIENT_HELLO not in kinds:
            return
        if self._wrong.renegotiates:
            self.send(
                ContentType.HANDSHAKE, Message(HandshakeType.SERVER_HELLO, 0, self._server_hello.encode()).encode()
            )
        else:
            self.send(ContentType.ALERT, NO_RENEGOTIATION.encode())

    # --- handshake messages

    def _take_fragments(self, epoch: int, plaintext: bytes) -> None:
        for fragment in parse_fragments(plaintext):
            ahead = fragment.message_seq - self._next_received
            if ahead < 0 or (ahead >= _MESSAGES_AHEAD and not self._wrong.any_message_seq):
                continue
            if self._wrong.fragments_dropped and len(fragment.data) < fragment.length:
                continue
            message = self._reassembler.add(fragment)
            if message is not None:
                self._ahead.setdefault(message.message_seq, (epoch, message))
        while not self.established and (number := self._next_number()) is not None:
            self._next_received = number + 1
            self._take_message(*self._ahead.pop(number))

    def _next_number(self) -> int | None:
        """Return the number of the message whose turn it is, if it is there."""
        if self._wrong.any_message_seq:
            return min(self._ahead, default=None)
        return self._next_received if self._next_received in self._ahead else None

    def _take_message(self, epoch: int, message: Message) -> None:
        expected = (1, HandshakeType.FINISHED) if self._records.candidates else (0, HandshakeType.CLIENT_KEY_EXCHANGE)
        if (epoch, message.kind) != expected:
            raise Abort(10)
        if message.kind == HandshakeType.CLIENT_KEY_EXCHANGE:
            self._take_key_exchange(message)
        else:
            self._take_finished(message)

    def _take_key_exchange(self, message: Message) -> None:
        try:
            self.identity = handshake.decode_client_key_exchange(message.body).identity
        except DecodeError as error:
            raise Abort(50) from error
        self._transcript += message.encode()
        self._records.candidates = tuple(self._keys(self._master(psk)) for psk in self._psks())

    def _psks(self) -> list[bytes]:
        """Return the keys to try. An unknown identity gets one that nobody has: it fails as a wrong key does."""
        known = dict(self._settings.psks)
        identity = self.identity.split(b"\0")[0] if self._wrong.identity_ends_at_nul else self.identity
        if identity in known:
            return [known[identity], *self._wrong.extra_keys]
        if self._wrong.any_identity:
            return [*known.values(), *self._wrong.extra_keys]
        if self._wrong.identity_oracle:
            raise Abort(115)
        return [secrets.token_bytes(32), *self._wrong.extra_keys]

    def _master(self, psk: bytes) -> bytes:
        premaster, hash_name = suites.psk_premaster(psk), SUITES[self.suite].hash_name
        if self._server_hello.extended_master_secret:
            return suites.extended_master_secret(premaster, self._hash(), hash_name)
        return suites.master_secret(premaster, self._hello.random, self._server_hello.random, hash_name)

    def _keys(self, master: bytes) -> Keys:
        suite, randoms = SUITES[self.suite], (self._hello.random, self._server_hello.random)
        etm = self._server_hello.encrypt_then_mac
        return Keys(master, *suites.protections(suite, master, *randoms, encrypt_then_mac=etm))

    def _take_finished(self, message: Message) -> None:
        if message.body != self._finished(CLIENT_FINISHED) and not self._wrong.any_finished:
            raise Abort(51)
        self._transcript += message.encode()
        self._finish()

    def _finish(self) -> None:
        self.established = True
        self.deadline_s = None
        if not self.resumed:
            self._send_flight([*self._keep(), *self._proof()])

    def _proof(self) -> list[Part]:
        change = Part(ContentType.CHANGE_CIPHER_SPEC, 0, b"\1")
        return [change, self._message(HandshakeType.FINISHED, self._finished(SERVER_FINISHED), epoch=1)]

    def _finished(self, label: bytes) -> bytes:
        assert self._records.keys is not None
        return suites.finished(self._records.keys.master, label, self._hash(), SUITES[self.suite].hash_name)

    def _hash(self) -> bytes:
        return hashlib.new(SUITES[self.suite].hash_name, self._transcript).digest()

    # --- resumption (RFC 5246 7.3, RFC 5077), connection ids (RFC 9146)

    def _resume(self, session: KeptSession) -> list[Part]:
        """Return what follows the ServerHello of an abbreviated handshake."""
        self.resumed, self.identity, self._handle = True, session.identity, handle_of(self._hello)
        self._records.keys = self._keys(session.master)
        self._records.candidates = (self._records.keys,)
        return self._proof()

    def _keep(self) -> list[Part]:
        """Keep the session if it can be resumed; return the message with its ticket if one was promised."""
        promised = SessionTicket.number in dict(self._server_hello.extensions or ())
        self._handle = secrets.token_bytes(_TICKET_BYTES) if promised else self._server_hello.session_id
        if not self._handle:
            return []
        assert self._records.keys is not None
        extended, until_s = self._server_hello.extended_master_secret, self._began_s + self._settings.session_lifetime_s
        session = KeptSession(self.identity, self.suite, self._records.keys.master, extended, until_s)
        self._kept.keep(self._handle, session)
        if not promised:
            return []
        lifetime_s = _WEEK_S if self._wrong.week_long_tickets else self._settings.session_lifetime_s
        ticket = NewSessionTicket(lifetime_s, self._handle)
        return [self._message(HandshakeType.NEW_SESSION_TICKET, ticket.encode())]

    def _agree_on_connection_ids(self) -> None:
        """Each side says what it wants to be sent."""
        theirs, ours = wanted_connection_id(self._hello), self._offer.connection_id
        if theirs is not None and ours is not None:
            self._records.write_cid, self._records.read_cid = theirs, ours

    # --- out

    def _message(self, kind: HandshakeType, body: bytes, epoch: int = 0) -> Part:
        encoded = Message(kind, self._next_sent, body).encode()
        self._next_sent += 1
        self._transcript += encoded
        return Part(ContentType.HANDSHAKE, epoch, encoded)

    def _send_flight(self, parts: list[Part]) -> None:
        self._flight = parts
        self._flight_datagram = self._records.encode(parts)
        self._datagrams.append(self._flight_datagram)

    def _schedule(self, now_s: float) -> None:
        self.deadline_s = now_s + self._interval_s
        if not self._wrong.half_open_kept:
            self.deadline_s = min(self.deadline_s, self._give_up_s())

    def _give_up_s(self) -> float:
        return self._began_s + self._settings.handshake_limit_s

    def _fail(self, alert: Alert) -> None:
        if self.established:
            self._kept.forget(self._handle)
        self._datagrams.append(
            self._records.encode([Part(ContentType.ALERT, 1 if self.established else 0, alert.encode())])
        )
        self._close(f"the server sent {alert.name}")

    def _close(self, reason: str) -> None:
        self.closed_because = reason
        self.deadline_s = None
