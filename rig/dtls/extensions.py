"""Typed hello extensions. A hello carries (number, data) pairs; these classes give the pairs their meaning.

What the standards do not allow is sent as `Raw`, which can hold any number and any bytes.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from rig.dtls.handshake import Extensions
from rig.dtls.wire import DecodeError, Reader, vector


class Extension(Protocol):
    """One extension of a hello."""

    @property
    def number(self) -> int:
        """The registered number."""

    def encode(self) -> bytes:
        """Return the extension's data, without number and length."""


@dataclass(frozen=True)
class Raw:
    """An extension that is not known here, or whose data says something it must not."""

    number: int
    data: bytes = b""

    def encode(self) -> bytes:
        """Return the data as it is."""
        return self.data


@dataclass(frozen=True)
class _Flag:
    number: ClassVar[int]

    def encode(self) -> bytes:
        """Return no data: the presence says it all."""
        return b""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode the absence of data."""
        Reader(data, cls.__name__).finish()
        return cls()


class ExtendedMasterSecret(_Flag):
    """RFC 7627 section 5.1."""

    number = 23


class EncryptThenMac(_Flag):
    """RFC 7366 section 2."""

    number = 22


@dataclass(frozen=True)
class _Uint:
    number: ClassVar[int]
    size: ClassVar[int]
    value: int

    def encode(self) -> bytes:
        """Return the number in network order."""
        return self.value.to_bytes(self.size, "big")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode one unsigned integer."""
        reader = Reader(data, cls.__name__)
        value = reader.uint(cls.size)
        reader.finish()
        return cls(value)


class MaxFragmentLength(_Uint):
    """RFC 6066 section 4. ``value`` 1 to 4 stands for 512, 1024, 2048, 4096 bytes of plaintext."""

    number, size = 1, 1


class RecordSizeLimit(_Uint):
    """RFC 8449 section 4. ``value`` is the largest plaintext in bytes, 64 at least."""

    number, size = 28, 2


class SelectedVersion(_Uint):
    """RFC 8446 section 4.2.1, in a ServerHello."""

    number, size = 43, 2


@dataclass(frozen=True)
class _Vector:
    number: ClassVar[int]
    data: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes with their length before them."""
        return vector(self.data, 1)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode one vector."""
        reader = Reader(data, cls.__name__)
        value = reader.vector(1)
        reader.finish()
        return cls(value)


class RenegotiationInfo(_Vector):
    """RFC 5746 section 3.2. ``data`` is empty in a first handshake."""

    number = 0xFF01


class ConnectionId(_Vector):
    """RFC 9146 section 3. ``data`` is what the peer shall put into the records that it sends here."""

    number = 54


class PointFormats(_Vector):
    """RFC 8422 section 5.1.2, one byte a format."""

    number = 11


@dataclass(frozen=True)
class SessionTicket:
    """RFC 5077 section 3.2. ``ticket`` is empty to ask for one."""

    number: ClassVar[int] = 35
    ticket: bytes = b""

    def encode(self) -> bytes:
        """Return the ticket: it has no length of its own."""
        return self.ticket

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Take the data as the ticket."""
        return cls(data)


@dataclass(frozen=True)
class _Numbers:
    number: ClassVar[int]
    length_size: ClassVar[int] = 2
    values: tuple[int, ...]

    def encode(self) -> bytes:
        """Return the 16-bit numbers as one vector."""
        return vector(b"".join(value.to_bytes(2, "big") for value in self.values), self.length_size)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode a vector of 16-bit numbers."""
        reader = Reader(data, cls.__name__)
        block = reader.vector(cls.length_size)
        reader.finish()
        if len(block) % 2:
            raise DecodeError(f"{cls.__name__} of {len(block)} bytes holds half a number")
        return cls(tuple(int.from_bytes(block[at : at + 2], "big") for at in range(0, len(block), 2)))


class SupportedGroups(_Numbers):
    """RFC 8422 section 5.1.1. 23 is secp256r1, 29 x25519."""

    number = 10


class SignatureAlgorithms(_Numbers):
    """RFC 5246 section 7.4.1.4.1. 0x0403 is ECDSA with SHA-256."""

    number = 13


class OfferedVersions(_Numbers):
    """RFC 8446 section 4.2.1, in a ClientHello. 0xfefc is DTLS 1.3."""

    number, length_size = 43, 1


Known = (
    ExtendedMasterSecret
    | EncryptThenMac
    | MaxFragmentLength
    | RecordSizeLimit
    | SelectedVersion
    | OfferedVersions
    | RenegotiationInfo
    | ConnectionId
    | PointFormats
    | SessionTicket
    | SupportedGroups
    | SignatureAlgorithms
)

_ANYWHERE: tuple[type[Known], ...] = (
    ExtendedMasterSecret,
    EncryptThenMac,
    MaxFragmentLength,
    RecordSizeLimit,
    RenegotiationInfo,
    ConnectionId,
    PointFormats,
    SessionTicket,
    SupportedGroups,
    SignatureAlgorithms,
)
_IN_CLIENT_HELLO = {kind.number: kind for kind in (*_ANYWHERE, OfferedVersions)}
_IN_SERVER_HELLO = {kind.number: kind for kind in (*_ANYWHERE, SelectedVersion)}


def pairs(*extensions: Extension) -> Extensions:
    """Return extensions as a hello carries them, in this order, repeated ones too."""
    return tuple((extension.number, extension.encode()) for extension in extensions)


def decode_extensions(extensions: Extensions | None, *, from_server: bool) -> tuple[Known | Raw, ...]:
    """Return the extensions of a hello by type; an unknown number gives `Raw`, wrong data `DecodeError`.

    RFC 8446 gave number 43 one form in a ClientHello and another in a ServerHello.
    """
    kinds = _IN_SERVER_HELLO if from_server else _IN_CLIENT_HELLO
    return tuple(
        kinds[number].decode(data) if number in kinds else Raw(number, data) for number, data in extensions or ()
    )


def connection_id(extensions: Extensions | None) -> bytes | None:
    """Return the connection ID of a hello; None without one, or with one that is wrong."""
    try:
        found = [ConnectionId.decode(data).data for number, data in extensions or () if number == ConnectionId.number]
    except DecodeError:
        return None
    return found[0] if found else None
