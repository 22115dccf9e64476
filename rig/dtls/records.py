"""DTLS 1.2 records (RFC 6347 section 4.1)."""

import struct
from dataclasses import dataclass
from enum import IntEnum

from rig.dtls.wire import DecodeError

DTLS_1_0, DTLS_1_2 = 0xFEFF, 0xFEFD
HEADER_LENGTH = 13

_HEADER = struct.Struct(">BHHHIH")


class ContentType(IntEnum):
    """What a record carries."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


@dataclass(frozen=True)
class Record:
    """One record. ``fragment`` is ciphertext from epoch 1 on; ``sequence`` has 48 bits."""

    content_type: ContentType
    version: int
    epoch: int
    sequence: int
    fragment: bytes

    @property
    def length(self) -> int:
        """Bytes on the wire, header included."""
        return HEADER_LENGTH + len(self.fragment)

    def encode(self) -> bytes:
        """Return the record's bytes."""
        sequence = self.sequence >> 32, self.sequence & 0xFFFFFFFF
        head = _HEADER.pack(self.content_type, self.version, self.epoch, *sequence, len(self.fragment))
        return head + self.fragment


def parse_datagram(datagram: bytes) -> tuple[Record, ...]:
    """Return the records of one datagram. Anything that is not a whole number of records raises `DecodeError`."""
    records = []
    position = 0
    while position < len(datagram):
        record = _parse_record(datagram, position)
        records.append(record)
        position += record.length
    if not records:
        raise DecodeError("the datagram is empty")
    return tuple(records)


def _parse_record(datagram: bytes, position: int) -> Record:
    body = position + HEADER_LENGTH
    if len(datagram) < body:
        raise DecodeError(f"record header cut short: {len(datagram) - position} of {HEADER_LENGTH} bytes")
    kind, version, epoch, high, low, length = _HEADER.unpack_from(datagram, position)
    if kind not in ContentType.__members__.values():
        raise DecodeError(f"unknown record content type {kind}")
    if version not in (DTLS_1_0, DTLS_1_2):
        raise DecodeError(f"record version {version:#06x} is not DTLS 1.0 or 1.2")
    if length > len(datagram) - body:
        raise DecodeError(f"record of {length} bytes in a datagram with {len(datagram) - body} left")
    return Record(ContentType(kind), version, epoch, high << 32 | low, datagram[body : body + length])
