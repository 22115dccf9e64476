"""Handshake messages of DTLS 1.2 (RFC 6347 section 4.2) with pre-shared keys (RFC 4279) or certificates (RFC 8422)."""

from dataclasses import dataclass
from enum import IntEnum

from rig.dtls.records import DTLS_1_2
from rig.dtls.wire import DecodeError, Reader, vector

ENCRYPT_THEN_MAC = 22
EXTENDED_MASTER_SECRET = 23
RENEGOTIATION_INFO = 0xFF01
MAX_MESSAGE_LENGTH = 1 << 16
_NAMED_CURVE = 3
_PARTIAL_MESSAGES_MAX = 16


class HandshakeType(IntEnum):
    """Message types that may appear in a handshake."""

    HELLO_REQUEST = 0
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    HELLO_VERIFY_REQUEST = 3
    NEW_SESSION_TICKET = 4
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CERTIFICATE_VERIFY = 15
    CLIENT_KEY_EXCHANGE = 16
    FINISHED = 20


@dataclass(frozen=True)
class Fragment:
    """A piece of a handshake message, as a record carries it. ``length`` is the whole message's."""

    kind: HandshakeType
    length: int
    message_seq: int
    offset: int
    data: bytes

    def encode(self) -> bytes:
        """Return header and data."""
        head = bytes((self.kind,)) + self.length.to_bytes(3, "big") + self.message_seq.to_bytes(2, "big")
        return head + self.offset.to_bytes(3, "big") + vector(self.data, 3)


@dataclass(frozen=True)
class Message:
    """A whole handshake message, undecoded."""

    kind: HandshakeType
    message_seq: int
    body: bytes

    def encode(self) -> bytes:
        """Return the message as one fragment: what the handshake hash is computed over (RFC 6347 4.2.6)."""
        return Fragment(self.kind, len(self.body), self.message_seq, 0, self.body).encode()


def parse_fragments(plaintext: bytes) -> tuple[Fragment, ...]:
    """Return the handshake fragments of one record's plaintext."""
    reader = Reader(plaintext, "handshake record")
    fragments = []
    while reader.remaining:
        number = reader.uint(1)
        if number not in HandshakeType.__members__.values():
            raise DecodeError(f"unknown handshake type {number}")
        length, message_seq, offset = reader.uint(3), reader.uint(2), reader.uint(3)
        data = reader.vector(3)
        if offset + len(data) > length:
            raise DecodeError(f"fragment up to byte {offset + len(data)} of a message of {length}")
        fragments.append(Fragment(HandshakeType(number), length, message_seq, offset, data))
    return tuple(fragments)


class Reassembler:
    """Collects fragments of one direction into messages, in any order and with overlaps.

    Of unfinished messages only the newest few are kept: a handshake has no more under way at once.
    """

    def __init__(self) -> None:
        self._partial: dict[tuple[int, HandshakeType, int], _Partial] = {}

    def add(self, fragment: Fragment) -> Message | None:
        """Take one fragment in; return the message it completes."""
        if fragment.length > MAX_MESSAGE_LENGTH:
            raise DecodeError(f"handshake message of {fragment.length} bytes")
        if len(fragment.data) == fragment.length:
            return Message(fragment.kind, fragment.message_seq, fragment.data)
        key = fragment.message_seq, fragment.kind, fragment.length
        partial = self._partial.get(key) or _Partial(fragment.length)
        self._partial[key] = partial
        partial.add(fragment)
        if partial.missing:
            if len(self._partial) > _PARTIAL_MESSAGES_MAX:
                del self._partial[next(iter(self._partial))]
            return None
        del self._partial[key]
        return Message(fragment.kind, fragment.message_seq, bytes(partial.body))


class _Partial:
    """A message of which some bytes are there. A fragment that brings nothing new changes nothing."""

    def __init__(self, length: int) -> None:
        self.body = bytearray(length)
        self.missing = length
        self._there = bytearray(length)

    def add(self, fragment: Fragment) -> None:
        end = fragment.offset + len(fragment.data)
        new = self._there.count(0, fragment.offset, end)
        if new:
            self.body[fragment.offset : end] = fragment.data
            self._there[fragment.offset : end] = b"\1" * len(fragment.data)
            self.missing -= new


Extensions = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class ClientHello:
    """RFC 6347 4.2.1. ``extensions`` is None when the block is absent, which is not the same as empty."""

    random: bytes
    suites: tuple[int, ...]
    cookie: bytes = b""
    session_id: bytes = b""
    version: int = DTLS_1_2
    compression: bytes = b"\0"
    extensions: Extensions | None = None

    def encode(self) -> bytes:
        """Return the message body."""
        suites = b"".join(suite.to_bytes(2, "big") for suite in self.suites)
        head = self.version.to_bytes(2, "big") + self.random + vector(self.session_id, 1) + vector(self.cookie, 1)
        return head + vector(suites, 2) + vector(self.compression, 1) + _encode_extensions(self.extensions)


@dataclass(frozen=True)
class HelloVerifyRequest:
    """RFC 6347 4.2.1."""

    cookie: bytes
    version: int = 0xFEFF

    def encode(self) -> bytes:
        """Return the message body."""
        return self.version.to_bytes(2, "big") + vector(self.cookie, 1)


@dataclass(frozen=True)
class ServerHello:
    """RFC 5246 7.4.1.3."""

    random: bytes
    suite: int
    session_id: bytes = b""
    version: int = DTLS_1_2
    compression: int = 0
    extensions: Extensions | None = None

    @property
    def extended_master_secret(self) -> bool:
        """Whether the server agreed to RFC 7627."""
        return self._has(EXTENDED_MASTER_SECRET)

    @property
    def encrypt_then_mac(self) -> bool:
        """Whether the server agreed to RFC 7366."""
        return self._has(ENCRYPT_THEN_MAC)

    def encode(self) -> bytes:
        """Return the message body."""
        head = self.version.to_bytes(2, "big") + self.random + vector(self.session_id, 1)
        return head + self.suite.to_bytes(2, "big") + bytes((self.compression,)) + _encode_extensions(self.extensions)

    def _has(self, extension: int) -> bool:
        return any(kind == extension for kind, _ in self.extensions or ())


@dataclass(frozen=True)
class ServerKeyExchange:
    """RFC 4279 section 2: the identity hint of plain PSK."""

    identity_hint: bytes

    def encode(self) -> bytes:
        """Return the message body."""
        return vector(self.identity_hint, 2)


@dataclass(frozen=True)
class ClientKeyExchange:
    """RFC 4279 section 2: the identity of plain PSK."""

    identity: bytes

    def encode(self) -> bytes:
        """Return the message body."""
        return vector(self.identity, 2)


@dataclass(frozen=True)
class Certificate:
    """RFC 5246 7.4.2: certificates in DER, the sender's own first. A client that has none sends an empty chain."""

    chain: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the message body."""
        return vector(b"".join(vector(each, 3) for each in self.chain), 3)


@dataclass(frozen=True)
class EcdheServerKeyExchange:
    """RFC 8422 section 5.4, with a named curve. ``group`` 23 is secp256r1, ``algorithm`` 0x0403 ECDSA with SHA-256."""

    group: int
    point: bytes
    algorithm: int
    signature: bytes

    @property
    def parameters(self) -> bytes:
        """The part that is signed, after both randoms."""
        return bytes((_NAMED_CURVE,)) + self.group.to_bytes(2, "big") + vector(self.point, 1)

    def encode(self) -> bytes:
        """Return the message body."""
        return self.parameters + self.algorithm.to_bytes(2, "big") + vector(self.signature, 2)


@dataclass(frozen=True)
class EcdheClientKeyExchange:
    """RFC 8422 section 5.7: the client's ephemeral point."""

    point: bytes

    def encode(self) -> bytes:
        """Return the message body."""
        return vector(self.point, 1)


def decode_client_hello(body: bytes) -> ClientHello:
    """Decode a ClientHello body."""
    reader = Reader(body, "ClientHello")
    version, random = reader.uint(2), reader.take(32)
    session_id, cookie = reader.vector(1), reader.vector(1)
    suites, compression = reader.vector(2), reader.vector(1)
    if len(suites) % 2:
        raise DecodeError("ClientHello has half a cipher suite")
    numbers = tuple(int.from_bytes(suites[at : at + 2], "big") for at in range(0, len(suites), 2))
    extensions = _decode_extensions(reader)
    return ClientHello(random, numbers, cookie, session_id, version, compression, extensions)


def decode_hello_verify_request(body: bytes) -> HelloVerifyRequest:
    """Decode a HelloVerifyRequest body."""
    reader = Reader(body, "HelloVerifyRequest")
    version, cookie = reader.uint(2), reader.vector(1)
    reader.finish()
    return HelloVerifyRequest(cookie, version)


def decode_server_hello(body: bytes) -> ServerHello:
    """Decode a ServerHello body."""
    reader = Reader(body, "ServerHello")
    version, random, session_id = reader.uint(2), reader.take(32), reader.vector(1)
    suite, compression = reader.uint(2), reader.uint(1)
    return ServerHello(random, suite, session_id, version, compression, _decode_extensions(reader))


def decode_server_key_exchange(body: bytes) -> ServerKeyExchange:
    """Decode the ServerKeyExchange body of plain PSK."""
    return ServerKeyExchange(_only_vector(body, 2, "ServerKeyExchange"))


def decode_client_key_exchange(body: bytes) -> ClientKeyExchange:
    """Decode the ClientKeyExchange body of plain PSK."""
    return ClientKeyExchange(_only_vector(body, 2, "ClientKeyExchange"))


def decode_certificate(body: bytes) -> Certificate:
    """Decode a Certificate body."""
    entries = Reader(_only_vector(body, 3, "Certificate"), "certificate chain")
    chain = []
    while entries.remaining:
        chain.append(entries.vector(3))
    return Certificate(tuple(chain))


def decode_ecdhe_server_key_exchange(body: bytes) -> EcdheServerKeyExchange:
    """Decode the ServerKeyExchange body of ECDHE."""
    reader = Reader(body, "ServerKeyExchange of ECDHE")
    curve_type = reader.uint(1)
    if curve_type != _NAMED_CURVE:
        raise DecodeError(f"ServerKeyExchange of ECDHE has curve type {curve_type}, which is no named curve")
    group, point = reader.uint(2), reader.vector(1)
    algorithm, signature = reader.uint(2), reader.vector(2)
    reader.finish()
    return EcdheServerKeyExchange(group, point, algorithm, signature)


def decode_ecdhe_client_key_exchange(body: bytes) -> EcdheClientKeyExchange:
    """Decode the ClientKeyExchange body of ECDHE."""
    return EcdheClientKeyExchange(_only_vector(body, 1, "ClientKeyExchange of ECDHE"))


def _only_vector(body: bytes, length_size: int, what: str) -> bytes:
    reader = Reader(body, what)
    data = reader.vector(length_size)
    reader.finish()
    return data


def _decode_extensions(reader: Reader) -> Extensions | None:
    """Read the block that may end a hello (RFC 5246 7.4.1.4)."""
    if not reader.remaining:
        return None
    block = Reader(reader.vector(2), "extensions")
    reader.finish()
    extensions = []
    while block.remaining:
        kind = block.uint(2)
        extensions.append((kind, block.vector(2)))
    return tuple(extensions)


def _encode_extensions(extensions: Extensions | None) -> bytes:
    if extensions is None:
        return b""
    return vector(b"".join(kind.to_bytes(2, "big") + vector(data, 2) for kind, data in extensions), 2)
