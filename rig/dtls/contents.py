"""What a record from the server turns out to hold, by type, so that a script can wait for it by name."""

from dataclasses import dataclass

from rig.dtls.alerts import Alert
from rig.dtls.handshake import (
    Certificate,
    EcdheServerKeyExchange,
    HandshakeType,
    HelloVerifyRequest,
    Message,
    ServerHello,
    ServerKeyExchange,
    decode_certificate,
    decode_ecdhe_server_key_exchange,
    decode_hello_verify_request,
    decode_server_hello,
    decode_server_key_exchange,
)
from rig.dtls.suites import KeyExchange
from rig.dtls.wire import DecodeError, Reader, vector


@dataclass(frozen=True)
class HelloRequest:
    """RFC 5246 7.4.1.1."""


@dataclass(frozen=True)
class ServerHelloDone:
    """RFC 5246 7.4.5."""


@dataclass(frozen=True)
class NewSessionTicket:
    """RFC 5077 3.3. ``lifetime_s`` 0 says nothing of it."""

    lifetime_s: int
    ticket: bytes

    def encode(self) -> bytes:
        """Return the message body."""
        return self.lifetime_s.to_bytes(4, "big") + vector(self.ticket, 2)


@dataclass(frozen=True)
class Finished:
    """RFC 5246 7.4.9."""

    verify_data: bytes


@dataclass(frozen=True)
class Undecoded:
    """A handshake message of a kind, or in a form, that the client does not read. ``kind`` is its type."""

    kind: HandshakeType
    body: bytes


@dataclass(frozen=True)
class ChangeCipherSpec:
    """RFC 5246 7.1."""


@dataclass(frozen=True)
class ApplicationData:
    """What the upper protocol said, in a record that opened."""

    data: bytes


@dataclass(frozen=True)
class ClearData:
    """Application data in epoch 0: anybody may have sent it."""

    data: bytes


@dataclass(frozen=True)
class Unreadable:
    """A record that opens with no key of this session, or whose plaintext is not what its type says."""

    fragment: bytes


@dataclass(frozen=True)
class Malformed:
    """A datagram that is no whole number of DTLS records."""

    datagram: bytes


HandshakeContent = (
    HelloRequest
    | HelloVerifyRequest
    | ServerHello
    | Certificate
    | ServerKeyExchange
    | EcdheServerKeyExchange
    | ServerHelloDone
    | NewSessionTicket
    | Finished
    | Undecoded
)
ContentOfRecord = HandshakeContent | ChangeCipherSpec | Alert | ApplicationData | ClearData | Unreadable | Malformed


@dataclass(frozen=True)
class Received:
    """Something that came. ``t_s`` is when the datagram did; ``sequence`` is the record's (the last one of a
    fragmented message); ``message_seq`` is None outside the handshake.

    ``repeated``: a handshake message that had come before. It has no effect on the session.
    """

    t_s: float
    content: ContentOfRecord
    epoch: int
    sequence: int
    message_seq: int | None = None
    repeated: bool = False

    @property
    def name(self) -> str:
        """The content in the RFC's word."""
        if isinstance(self.content, Undecoded):
            return "".join(word.capitalize() for word in self.content.kind.name.split("_"))
        if isinstance(self.content, Alert):
            return f"Alert({self.content.name})"
        if isinstance(self.content, EcdheServerKeyExchange):
            return "ServerKeyExchange"
        return type(self.content).__name__


def decode_message(message: Message, key_exchange: KeyExchange) -> HandshakeContent:
    """Return a handshake message's content; what the client has no use for gives `Undecoded`.

    *key_exchange*: the chosen suite's, which the form of a ServerKeyExchange depends on.
    """
    if message.kind == HandshakeType.HELLO_VERIFY_REQUEST:
        return decode_hello_verify_request(message.body)
    if message.kind == HandshakeType.SERVER_HELLO:
        return decode_server_hello(message.body)
    if message.kind == HandshakeType.NEW_SESSION_TICKET:
        return decode_new_session_ticket(message.body)
    if message.kind == HandshakeType.FINISHED:
        return Finished(message.body)
    if message.kind == HandshakeType.SERVER_KEY_EXCHANGE:
        return _decode_key_exchange(message, key_exchange)
    if message.kind == HandshakeType.CERTIFICATE:
        return decode_certificate(message.body)
    if message.kind == HandshakeType.SERVER_HELLO_DONE and not message.body:
        return ServerHelloDone()
    if message.kind == HandshakeType.HELLO_REQUEST and not message.body:
        return HelloRequest()
    return Undecoded(message.kind, message.body)


def decode_new_session_ticket(body: bytes) -> NewSessionTicket:
    """Decode a NewSessionTicket body."""
    reader = Reader(body, "NewSessionTicket")
    lifetime_s, ticket = reader.uint(4), reader.vector(2)
    reader.finish()
    return NewSessionTicket(lifetime_s, ticket)


def _decode_key_exchange(
    message: Message, key_exchange: KeyExchange
) -> ServerKeyExchange | EcdheServerKeyExchange | Undecoded:
    """What does not decode may be of a suite that is not known here."""
    try:
        if key_exchange == "ecdhe_ecdsa":
            return decode_ecdhe_server_key_exchange(message.body)
        return decode_server_key_exchange(message.body)
    except DecodeError:
        return Undecoded(message.kind, message.body)
