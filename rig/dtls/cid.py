"""Records with a connection ID (RFC 9146 section 4): their real content type is inside, under the protection."""

from dataclasses import dataclass

from rig.dtls.records import HEADER_LENGTH, ContentType, Record, parse_datagram
from rig.dtls.wire import DecodeError, Reader, vector

TLS12_CID = 25
_LENGTH_SIZE = 2


@dataclass(frozen=True)
class CidRecord:
    """One record of type tls12_cid. ``fragment`` is ciphertext."""

    version: int
    epoch: int
    sequence: int
    connection_id: bytes
    fragment: bytes

    @property
    def length(self) -> int:
        """Bytes on the wire, header included."""
        return HEADER_LENGTH + len(self.connection_id) + len(self.fragment)

    def encode(self) -> bytes:
        """Return the record's bytes."""
        head = bytes((TLS12_CID,)) + self.version.to_bytes(2, "big") + self.epoch.to_bytes(2, "big")
        return head + self.sequence.to_bytes(6, "big") + self.connection_id + vector(self.fragment, _LENGTH_SIZE)


def split_datagram(datagram: bytes, connection_id_bytes: int) -> tuple[Record | CidRecord, ...]:
    """Return the records of one datagram to a receiver whose connection ID has this length.

    The length is in no record: only the receiver knows it. Anything but whole records raises `DecodeError`.
    """
    records: list[Record | CidRecord] = []
    reader = Reader(datagram, "datagram")
    while reader.remaining:
        content_type = reader.take(1)
        if content_type[0] == TLS12_CID:
            records.append(_cid_record(reader, connection_id_bytes))
        else:
            head = content_type + reader.take(HEADER_LENGTH - 1 - _LENGTH_SIZE)
            records += parse_datagram(head + vector(reader.vector(_LENGTH_SIZE), _LENGTH_SIZE))
    if not records:
        raise DecodeError("the datagram is empty")
    return tuple(records)


def _cid_record(reader: Reader, connection_id_bytes: int) -> CidRecord:
    version, epoch, sequence = reader.uint(2), reader.uint(2), reader.uint(6)
    return CidRecord(version, epoch, sequence, reader.take(connection_id_bytes), reader.vector(_LENGTH_SIZE))


def wrapped(content_type: int, content: bytes, padding_bytes: int = 0) -> bytes:
    """Return what is sealed: content, real type, zeros (DTLSInnerPlaintext)."""
    return content + bytes((content_type,)) + bytes(padding_bytes)


def unwrapped(inner: bytes) -> tuple[ContentType, bytes]:
    """Return real content type and content of what was sealed."""
    content = inner.rstrip(b"\0")
    if not content or content[-1] not in ContentType.__members__.values():
        raise DecodeError("a record with a connection ID has no content type in it")
    return ContentType(content[-1]), content[:-1]
