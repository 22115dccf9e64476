"""CoAP messages (RFC 7252 section 3): bytes to a `Message` and back, for probe, dissector and relay alike."""

from dataclasses import dataclass
from enum import IntEnum

from rig.dtls.wire import DecodeError, Reader

PAYLOAD_MARKER = 0xFF
MAX_TOKEN_LENGTH = 8


class Type(IntEnum):
    """RFC 7252 section 3, T."""

    CON = 0
    NON = 1
    ACK = 2
    RST = 3


class OptionNumber(IntEnum):
    """RFC 7252 section 12.2, RFC 7641, RFC 7959."""

    IF_MATCH = 1
    URI_HOST = 3
    ETAG = 4
    IF_NONE_MATCH = 5
    OBSERVE = 6
    URI_PORT = 7
    LOCATION_PATH = 8
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    ACCEPT = 17
    LOCATION_QUERY = 20
    BLOCK2 = 23
    BLOCK1 = 27
    SIZE2 = 28
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60


EMPTY = 0x00
GET, POST, PUT, DELETE = 0x01, 0x02, 0x03, 0x04
RESERVED_SZX = 7

Options = tuple[tuple[int, bytes], ...]


def uint(value: int) -> bytes:
    """Return an option's value of format uint: as few bytes as it takes (RFC 7252 3.2)."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


@dataclass(frozen=True)
class Block:
    """The value of a Block option (RFC 7959 2.2): number of the block, whether more follow, and the size exponent."""

    number: int
    more: bool
    szx: int

    @property
    def size(self) -> int:
        """The block's length in bytes; the reserved exponent 7 counts as 6."""
        return 1 << min(self.szx, RESERVED_SZX - 1) + 4

    @property
    def offset(self) -> int:
        """Where in the body the block begins."""
        return self.number * self.size

    def encode(self) -> bytes:
        """Return the option's value."""
        return uint(self.number << 4 | self.more << 3 | self.szx)


@dataclass(frozen=True)
class Message:
    """One CoAP message. ``code`` is class and detail in one byte; ``options`` are (number, value) by rising number."""

    type: Type
    code: int
    message_id: int
    token: bytes = b""
    options: Options = ()
    payload: bytes = b""

    @property
    def code_text(self) -> str:
        """The code as the RFC writes it, ``2.05``."""
        return f"{self.code >> 5}.{self.code & 0x1F:02d}"

    @property
    def path(self) -> str:
        """The Uri-Path options as one path, ``/light``."""
        return "/" + "/".join(part.decode(errors="replace") for part in self.values(OptionNumber.URI_PATH))

    @property
    def observe(self) -> int | None:
        """The Observe option's value (RFC 7641 section 2), or None."""
        return self.uint(OptionNumber.OBSERVE)

    def values(self, number: int) -> tuple[bytes, ...]:
        """Return the values of all options with this number."""
        return tuple(value for each, value in self.options if each == number)

    def uint(self, number: int) -> int | None:
        """Return the value of the first option with this number as a uint (RFC 7252 3.2), or None."""
        values = self.values(number)
        return int.from_bytes(values[0], "big") if values else None

    def block(self, number: int) -> Block | None:
        """Return the Block option of this number, 23 or 27, or None."""
        value = self.uint(number)
        return None if value is None else Block(value >> 4, bool(value & 8), value & 7)

    def encode(self) -> bytes:
        """Return the message's bytes."""
        if len(self.token) > MAX_TOKEN_LENGTH:
            raise ValueError(f"a token has at most {MAX_TOKEN_LENGTH} bytes, not {len(self.token)}")
        payload = bytes((PAYLOAD_MARKER,)) + self.payload if self.payload else b""
        return frame(self.type, self.code, self.message_id, self.token, _encode_options(self.options) + payload)


def frame(
    type: Type,
    code: int,
    message_id: int,
    token: bytes = b"",
    rest: bytes = b"",
    *,
    version: int = 1,
    token_length: int | None = None,
) -> bytes:
    """Return a message's bytes, of which any may be wrong (RFC 7252 section 3).

    *rest* is what follows the token; *token_length* is what the header says of the token, by default the truth.
    """
    length = len(token) if token_length is None else token_length
    return bytes((version << 6 | type << 4 | length, code)) + message_id.to_bytes(2, "big") + token + rest


def decode(data: bytes) -> Message:
    """Decode one message; every format error of RFC 7252 section 3 raises `DecodeError`."""
    reader = Reader(data, "CoAP message")
    first, code, message_id = reader.uint(1), reader.uint(1), reader.uint(2)
    if first >> 6 != 1:
        raise DecodeError(f"CoAP version {first >> 6}")
    if first & 0x0F > MAX_TOKEN_LENGTH:
        raise DecodeError(f"CoAP token length {first & 0x0F}")
    token = reader.take(first & 0x0F)
    if code == EMPTY and len(data) > 4:
        raise DecodeError("an empty CoAP message with bytes after its Message ID")
    options, payload = _decode_options(reader)
    return Message(Type(first >> 4 & 3), code, message_id, token, options, payload)


def _decode_options(reader: Reader) -> tuple[Options, bytes]:
    options: list[tuple[int, bytes]] = []
    number = 0
    while reader.remaining:
        head = reader.uint(1)
        if head == PAYLOAD_MARKER:
            return tuple(options), _decode_payload(reader)
        number += _extended(head >> 4, reader)
        value = reader.take(_extended(head & 0x0F, reader))
        if number > 0xFFFF:
            raise DecodeError(f"CoAP option number {number}")
        options.append((number, value))
    return tuple(options), b""


def _decode_payload(reader: Reader) -> bytes:
    if not reader.remaining:
        raise DecodeError("a CoAP payload marker without a payload")
    return reader.rest()


def _extended(nibble: int, reader: Reader) -> int:
    if nibble == 15:
        raise DecodeError("a CoAP option with the reserved nibble 15")
    if nibble == 13:
        return 13 + reader.uint(1)
    return 269 + reader.uint(2) if nibble == 14 else nibble


def _encode_options(options: Options) -> bytes:
    """Options are sent by rising number; those with the same number keep their order."""
    encoded, previous = b"", 0
    for number, value in sorted(options, key=lambda option: option[0]):
        delta, delta_bytes = _nibble(number - previous)
        length, length_bytes = _nibble(len(value))
        encoded += bytes((delta << 4 | length,)) + delta_bytes + length_bytes + value
        previous = number
    return encoded


def _nibble(value: int) -> tuple[int, bytes]:
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes((value - 13,))
    return 14, (value - 269).to_bytes(2, "big")
