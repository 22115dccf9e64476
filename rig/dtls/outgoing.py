"""What a script sends: messages, pieces of them, records. Every field may be wrong; `dataclasses.replace` changes it.

Building follows the protocol, sending does not have to: a script makes its messages in the RFC's order, so that
numbers and hashes are right, and then sends them in whatever order, number and shape it likes.
"""

from dataclasses import dataclass
from typing import Protocol

from rig.dtls.cid import TLS12_CID, wrapped
from rig.dtls.records import ContentType


class Seals(Protocol):
    """What encrypts the records of one direction and epoch."""

    def seal(
        self, record_type: int, version: int, epoch: int, sequence: int, plaintext: bytes, connection_id: bytes = b""
    ) -> bytes:
        """Return the record's fragment."""


class Payload(Protocol):
    """Anything that goes into a record of its own."""

    @property
    def content_type(self) -> int:
        """The record's content type."""

    @property
    def epoch(self) -> int:
        """The epoch that it is meant for."""

    def encode(self) -> bytes:
        """Return the record's plaintext."""


@dataclass(frozen=True)
class Content:
    """A record's plaintext as bytes."""

    content_type: int
    epoch: int
    data: bytes

    def encode(self) -> bytes:
        """Return the bytes."""
        return self.data


@dataclass(frozen=True)
class Piece:
    """A fragment of a handshake message (RFC 6347 4.2.3). ``length`` is the whole message's.

    ``data_length`` is what the header says of ``data``; None says the truth.
    """

    kind: int
    length: int
    message_seq: int
    offset: int
    data: bytes
    epoch: int
    data_length: int | None = None

    @property
    def content_type(self) -> int:
        """Handshake."""
        return ContentType.HANDSHAKE

    def encode(self) -> bytes:
        """Return header and data."""
        data_length = len(self.data) if self.data_length is None else self.data_length
        head = bytes((self.kind,)) + self.length.to_bytes(3, "big") + self.message_seq.to_bytes(2, "big")
        return head + self.offset.to_bytes(3, "big") + data_length.to_bytes(3, "big") + self.data


@dataclass(frozen=True)
class HandshakeMessage:
    """A whole handshake message on its way out. ``kind`` may be a type that does not exist."""

    kind: int
    message_seq: int
    body: bytes
    epoch: int

    @property
    def content_type(self) -> int:
        """Handshake."""
        return ContentType.HANDSHAKE

    def encode(self) -> bytes:
        """Return the message as one fragment, which is also what the handshake hash takes in (RFC 6347 4.2.6)."""
        return self.piece(0, len(self.body)).encode()

    def piece(self, start: int, end: int) -> Piece:
        """Return the fragment with body bytes *start* up to *end*."""
        return Piece(self.kind, len(self.body), self.message_seq, start, self.body[start:end], self.epoch)

    def pieces(self, size_bytes: int, overlap_bytes: int = 0) -> tuple[Piece, ...]:
        """Return fragments of *size_bytes*, each with *overlap_bytes* of the next one's data as well."""
        starts = range(0, len(self.body), size_bytes) or range(1)
        return tuple(self.piece(at, at + size_bytes + overlap_bytes) for at in starts)


@dataclass(frozen=True)
class OutgoingRecord:
    """A record before its protection; `encode` seals it. Whatever is replaced before that is authenticated as well.

    ``keys`` None sends in clear, whatever the epoch. A *connection_id* makes it a record of RFC 9146, with
    ``padding_bytes`` zeros. ``length`` is what the header says; None says the truth.
    """

    content_type: int
    version: int
    epoch: int
    sequence: int
    plaintext: bytes
    keys: Seals | None
    connection_id: bytes = b""
    padding_bytes: int = 0
    length: int | None = None

    def encode(self) -> bytes:
        """Return the record's bytes."""
        content_type, fragment = self.content_type, self.plaintext
        if self.connection_id:
            content_type, fragment = TLS12_CID, wrapped(content_type, fragment, self.padding_bytes)
        if self.keys is not None:
            numbers = self.version, self.epoch, self.sequence
            fragment = self.keys.seal(content_type, *numbers, fragment, self.connection_id)
        head = bytes((content_type,)) + self.version.to_bytes(2, "big") + self.epoch.to_bytes(2, "big")
        length = len(fragment) if self.length is None else self.length
        return head + self.sequence.to_bytes(6, "big") + self.connection_id + length.to_bytes(2, "big") + fragment


def joined(*messages: Payload) -> Content:
    """Return several payloads as the content of one record, of the first one's type and epoch."""
    return Content(messages[0].content_type, messages[0].epoch, b"".join(each.encode() for each in messages))


def spoiled(datagram: bytes, at: int = -1) -> bytes:
    """Return a datagram with one bit of the byte at index *at* turned over; the last byte belongs to the MAC."""
    changed = bytearray(datagram)
    changed[at] ^= 1
    return bytes(changed)
