"""The state of a DTLS 1.2 client: what was said so far, and what an orderly client would say next.

Nothing here is sent and nothing waits. The builders return messages; the session changes as if they had been sent.
"""

import hashlib
import secrets
from collections import defaultdict, deque
from dataclasses import dataclass, replace
from typing import Any

from rig.dtls import contents, extensions, suites
from rig.dtls.alerts import Alert, decode_alert
from rig.dtls.cid import CidRecord, split_datagram
from rig.dtls.contents import Received
from rig.dtls.conversation import Moment
from rig.dtls.handshake import (
    Certificate,
    ClientHello,
    ClientKeyExchange,
    EcdheServerKeyExchange,
    Extensions,
    HandshakeType,
    HelloVerifyRequest,
    Message,
    ServerHello,
    parse_fragments,
)
from rig.dtls.inbox import Delivery, Inbox, Place
from rig.dtls.key_exchange import ECDSA_SHA256, SECP256R1, EphemeralKey, KeyExchange, PresharedKey, is_signed
from rig.dtls.outgoing import Content, HandshakeMessage, Payload
from rig.dtls.record_layer import Keys, RecordLayer
from rig.dtls.records import ContentType, Record
from rig.dtls.suites import Protection
from rig.dtls.wire import DecodeError
from rig.errors import DeviceError

PSK_AES_128_CCM_8 = 0xC0A8
RENEGOTIATION_SCSV = 0x00FF  # RFC 5746 3.3
SUITES = (PSK_AES_128_CCM_8, RENEGOTIATION_SCSV)
EXTENSIONS = extensions.pairs(extensions.ExtendedMasterSecret())
CERTIFICATE_EXTENSIONS = extensions.pairs(
    extensions.ExtendedMasterSecret(),
    extensions.SupportedGroups((SECP256R1,)),
    extensions.PointFormats(b"\0"),
    extensions.SignatureAlgorithms((ECDSA_SHA256,)),
)
"""What a client offers with ECDHE_ECDSA suites: RFC 7252 9.1.3.2 has P-256, uncompressed points and SHA-256."""


class NoKeys(DeviceError):
    """A step needs keys that cannot be had: there is no ServerHello, or it chose a suite that is not known here."""


@dataclass(frozen=True)
class ResumableSession:
    """What a client keeps of a session. ``ticket`` is empty where the server keeps the state itself."""

    session_id: bytes
    ticket: bytes
    master_secret: bytes
    suite: int


class Connection(RecordLayer):
    """One client on one 5-tuple. Attributes are a script's to read and to set.

    epoch: of what is built next; `change_cipher_spec` raises it
    message_seq: of the handshake message that is built next
    transcript: the handshake messages so far, as they are hashed
    seen: everything that came; unread: what of it no script has looked at
    sent, received: every datagram that left and came, and when
    client_verify_data: of the last Finished that was built, for RenegotiationInfo (RFC 5746 3.5)
    server_certificate: the server's own certificate, DER, taken as it is; empty before it came
    server_signed: whether the certificate's key signed the server's half of ECDHE; None before that came
    server_verified: whether the server's Finished was right; None before it came
    """

    def __init__(
        self,
        identity: bytes = b"",
        psk: bytes = b"",
        *,
        offered_suites: tuple[int, ...] = SUITES,
        hello_extensions: Extensions | None = EXTENSIONS,
        resume: ResumableSession | None = None,
    ) -> None:
        """*psk* may be any key, also the wrong one. Suites with certificates need neither it nor an identity."""
        super().__init__()
        self.identity = identity
        self.psk = psk
        self.offered_suites = offered_suites
        self.hello_extensions = hello_extensions
        self.resume = resume
        self.epoch = 0
        self.seen: list[Received] = []
        self.client_verify_data = b""
        self.unread: deque[Received] = deque()
        self.sent: list[Moment] = []
        self.received: list[Moment] = []
        self._early: defaultdict[int, list[tuple[float, Record | CidRecord]]] = defaultdict(list)
        self.begin()

    def begin(self) -> None:
        """Begin a new handshake; a session that is up stays up (RFC 6347 4.2.8, RFC 5246 7.4.1.2)."""
        self.client_random = secrets.token_bytes(32)
        self.session_id = self.resume.session_id if self.resume else b""
        self.cookie = b""
        self.message_seq = 0
        self.transcript = b""
        self.server_hello: ServerHello | None = None
        self.master_secret: bytes | None = None
        self.ticket = b""
        self.server_certificate = b""
        self.server_signed: bool | None = None
        self.server_verified: bool | None = None
        self._ephemeral: EphemeralKey | None = None
        self._certificate_requested = False
        self._offered_cid: bytes | None = None
        self._inbox = Inbox()
        self._pending_epoch = self.epoch + 1

    @property
    def resumed(self) -> bool:
        """Whether the server took the offered session up (RFC 5246 7.3: it answers with the same session id)."""
        if self.resume is None or self.server_hello is None or not self.session_id:
            return False
        return self.server_hello.session_id == self.session_id

    @property
    def suite(self) -> suites.Suite:
        """The suite that the server chose."""
        if self.server_hello is None or self.server_hello.suite not in suites.SUITES:
            raise NoKeys(f"no keys: the ServerHello is {self.server_hello or 'missing'}")
        return suites.SUITES[self.server_hello.suite]

    @property
    def session(self) -> ResumableSession:
        """What is needed to take this session up again."""
        if self.server_hello is None or self.master_secret is None:
            raise ValueError("there is no session before the key exchange")
        # RFC 5077 3.4: a client that offers a ticket recognises its acceptance by a session id of its own choice.
        session_id = self.server_hello.session_id or (secrets.token_bytes(32) if self.ticket else b"")
        return ResumableSession(session_id, self.ticket, self.master_secret, self.server_hello.suite)

    def key_log(self) -> str:
        """Return the line with which Wireshark opens this session; it holds the master secret, not the PSK."""
        if self.master_secret is None:
            return ""
        return f"CLIENT_RANDOM {self.client_random.hex()} {self.master_secret.hex()}\n"

    def message(self, kind: int, body: bytes) -> HandshakeMessage:
        """Build any handshake message. What is here is hashed; what is replaced in it afterwards is not."""
        message = HandshakeMessage(kind, self.message_seq, body, self.epoch)
        self.message_seq += 1
        self.transcript += message.encode()
        return message

    def client_hello(self, **changes: Any) -> HandshakeMessage:
        """Build a ClientHello with the cookie that came last. *changes* are fields of `ClientHello`.

        The handshake hash begins with it: neither the hello before the cookie nor the request is in (RFC 6347 4.2.1).
        """
        offered = self.hello_extensions
        if self.resume and self.resume.ticket:
            offered = (*(offered or ()), *extensions.pairs(extensions.SessionTicket(self.resume.ticket)))
        hello = ClientHello(self.client_random, self.offered_suites, self.cookie, self.session_id, extensions=offered)
        hello = replace(hello, **changes)
        self.client_random, self.session_id = hello.random, hello.session_id
        self._offered_cid = extensions.connection_id(hello.extensions)
        self.transcript = b""
        return self.message(HandshakeType.CLIENT_HELLO, hello.encode())

    def client_key_exchange(self, identity: bytes | None = None, body: bytes | None = None) -> HandshakeMessage:
        """Build a ClientKeyExchange, or one with any PSK identity or any body; the keys follow from it."""
        if body is None:
            body = self._key_exchange().message() if identity is None else ClientKeyExchange(identity).encode()
        message = self.message(HandshakeType.CLIENT_KEY_EXCHANGE, body)
        if self.server_hello:
            self.derive_keys()
        return message

    def certificate(self, *chain: bytes) -> HandshakeMessage:
        """Build a Certificate message with these certificates, DER, or with none."""
        return self.message(HandshakeType.CERTIFICATE, Certificate(chain).encode())

    def derive_keys(self) -> None:
        """Work the keys of the next epoch out, from what was said so far; once in a handshake."""
        suite, hello = self.suite, self.server_hello
        assert hello is not None
        if self.master_secret is None:
            self.master_secret = self._agreed_secret(suite, hello)
            randoms = self.client_random, hello.random
            pair = suites.protections(suite, self.master_secret, *randoms, encrypt_then_mac=hello.encrypt_then_mac)
            self.keys[self._pending_epoch] = Keys(*pair)

    def change_cipher_spec(self) -> Content:
        """Build a ChangeCipherSpec. What is built after it belongs to the next epoch."""
        content = Content(ContentType.CHANGE_CIPHER_SPEC, self.epoch, b"\1")
        self.epoch += 1
        return content

    def finished(self, verify_data: bytes | None = None) -> HandshakeMessage:
        """Build a Finished with the right or any other verify_data."""
        if verify_data is None:
            self.derive_keys()
            verify_data = self.verify_data(suites.CLIENT_FINISHED)
        self.client_verify_data = verify_data
        return self.message(HandshakeType.FINISHED, verify_data)

    def verify_data(self, label: bytes) -> bytes:
        """Return what a Finished must hold now; *label* is `CLIENT_FINISHED` or `SERVER_FINISHED`."""
        if self.master_secret is None:
            raise NoKeys("no keys yet: they follow from the ClientKeyExchange")
        name = self.suite.hash_name
        return suites.finished(self.master_secret, label, hashlib.new(name, self.transcript).digest(), name)

    def last_flight(self) -> tuple[Payload, ...]:
        """Build ClientKeyExchange, ChangeCipherSpec and Finished (RFC 6347 figure 1, flight 5).

        A server that requests a certificate is told first that there is none (RFC 5246 7.4.6).
        """
        none = (self.certificate(),) if self._certificate_requested else ()
        return *none, self.client_key_exchange(), self.change_cipher_spec(), self.finished()

    def application_data(self, data: bytes) -> Content:
        """Build application data."""
        return Content(ContentType.APPLICATION_DATA, self.epoch, data)

    def alert(self, level: int, description: int) -> Content:
        """Build an alert."""
        return Content(ContentType.ALERT, self.epoch, Alert(level, description).encode())

    def split(self, datagram: bytes) -> tuple[Record | CidRecord, ...]:
        """Return the records of a datagram that came; `DecodeError` if it is no whole number of them.

        The ServerHello that agrees on connection IDs may have records with them behind it: the end of an abbreviated
        handshake is one flight.
        """
        return split_datagram(datagram, len(self.read_cid or self._offered_cid or b""))

    def receive(self, t_s: float, datagram: bytes) -> tuple[Received, ...]:
        """Take a datagram in that came at *t_s*, in the caller's time. Nothing that comes raises."""
        before = len(self.seen)
        self.received.append(Moment(t_s, datagram))
        try:
            for record in self.split(datagram):
                self._take_record(t_s, record)
        except DecodeError:
            self._note(Place(t_s, 0, 0), contents.Malformed(datagram))
        return tuple(self.seen[before:])

    def _take_record(self, t_s: float, record: Record | CidRecord) -> None:
        place = Place(t_s, record.epoch, record.sequence)
        if record.epoch and record.epoch not in self.keys:
            self._early[record.epoch].append((t_s, record))
        try:
            self._take_plaintext(place, *self.open(record))
        except DecodeError:
            self._note(place, contents.Unreadable(record.fragment))

    def _take_plaintext(self, place: Place, content_type: ContentType, plaintext: bytes) -> None:
        if content_type == ContentType.APPLICATION_DATA:
            protected = contents.ApplicationData(plaintext)
            self._note(place, protected if place.epoch else contents.ClearData(plaintext))
        elif content_type == ContentType.ALERT:
            self._note(place, decode_alert(plaintext))
        elif content_type == ContentType.CHANGE_CIPHER_SPEC:
            self._note(place, contents.ChangeCipherSpec())
        else:
            for fragment in parse_fragments(plaintext):
                for delivery in self._inbox.add(fragment, place):
                    self._take_message(delivery)

    def _take_message(self, delivery: Delivery) -> None:
        content = contents.decode_message(delivery.message, self._kind_of_key_exchange)
        if not delivery.repeated:
            self._apply(delivery.message, content)
        self._note(delivery.place, content, delivery.message.message_seq, delivery.repeated)
        self._take_early()

    def _apply(self, message: Message, content: contents.HandshakeContent) -> None:
        if isinstance(content, HelloVerifyRequest):
            self.cookie = content.cookie
            return
        if isinstance(content, contents.HelloRequest):
            return
        if isinstance(content, contents.Finished):
            self.server_verified = self._is_right(content)
        if isinstance(content, contents.NewSessionTicket):
            self.ticket = content.ticket
        if isinstance(content, Certificate):
            self.server_certificate = content.chain[0] if content.chain else b""
        if isinstance(content, EcdheServerKeyExchange):
            self._take_ephemeral(content)
        if message.kind == HandshakeType.CERTIFICATE_REQUEST:
            self._certificate_requested = True
        self.transcript += message.encode()
        if isinstance(content, ServerHello):
            self.server_hello = content
            self._agree_on_connection_ids(content)
            if self.resumed and content.suite in suites.SUITES:
                self.derive_keys()

    def _agree_on_connection_ids(self, hello: ServerHello) -> None:
        """Each side says what it wants to be sent (RFC 9146 section 3)."""
        write_cid = extensions.connection_id(hello.extensions)
        agreed = write_cid is not None and self._offered_cid is not None
        self.write_cid, self.read_cid = (write_cid or b"", self._offered_cid or b"") if agreed else (b"", b"")

    def _is_right(self, finished: contents.Finished) -> bool:
        try:
            return finished.verify_data == self.verify_data(suites.SERVER_FINISHED)
        except NoKeys:
            return False

    @property
    def _kind_of_key_exchange(self) -> suites.KeyExchange:
        chosen = self.server_hello and suites.SUITES.get(self.server_hello.suite)
        return chosen.key_exchange if chosen else "psk"

    def _key_exchange(self) -> KeyExchange:
        if self._kind_of_key_exchange == "psk":
            return PresharedKey(self.identity, self.psk)
        if self._ephemeral is None:
            raise NoKeys("no keys: the server's half of ECDHE, its ServerKeyExchange, is missing")
        return self._ephemeral

    def _take_ephemeral(self, content: EcdheServerKeyExchange) -> None:
        assert self.server_hello is not None
        randoms = self.client_random, self.server_hello.random
        self.server_signed = is_signed(content, self.server_certificate, *randoms)
        self._ephemeral = EphemeralKey(content)

    def _agreed_secret(self, suite: suites.Suite, hello: ServerHello) -> bytes:
        if self.resume and self.resumed:
            return self.resume.master_secret
        premaster, name = self._key_exchange().premaster(), suite.hash_name
        if hello.extended_master_secret:
            return suites.extended_master_secret(premaster, hashlib.new(name, self.transcript).digest(), name)
        return suites.master_secret(premaster, self.client_random, hello.random, name)

    def _write_keys(self, epoch: int) -> Protection | None:
        if epoch == self._pending_epoch and epoch not in self.keys and self.server_hello:
            self.derive_keys()
        return super()._write_keys(epoch)

    def _note(
        self, place: Place, content: contents.ContentOfRecord, message_seq: int | None = None, repeated: bool = False
    ) -> None:
        received = Received(place.t_s, content, place.epoch, place.sequence, message_seq, repeated)
        self.seen.append(received)
        self.unread.append(received)

    def _take_early(self) -> None:
        """Look again at the records that came before their keys, now that these are there."""
        for epoch in [epoch for epoch in self._early if epoch in self.keys]:
            for t_s, record in self._early.pop(epoch):
                self._take_record(t_s, record)
