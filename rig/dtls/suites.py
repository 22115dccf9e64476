"""Cipher suites, key schedule and record protection of DTLS 1.2.

RFC 4279 section 2 (PSK), RFC 5246 sections 5, 6.2.3, 6.3, 7.4.9 and 8.1, RFC 7627 (extended master secret),
RFC 6655 and 7251 (CCM), RFC 5288, 5289 and 5487 (GCM, CBC, NULL), RFC 7905 (ChaCha20), RFC 7366 (encrypt-then-MAC),
RFC 8422 (ECDHE), RFC 9146 section 5 (what is authenticated of a record with a connection ID).
"""

import hmac
import secrets
import struct
from dataclasses import dataclass
from typing import Literal, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from rig.dtls.wire import DecodeError, Reader

MASTER_SECRET_BYTES = 48
VERIFY_DATA_BYTES = 12
CLIENT_FINISHED, SERVER_FINISHED = b"client finished", b"server finished"
_BLOCK_BYTES = 16

Mode = Literal["ccm", "gcm", "chacha20", "cbc", "null"]
KeyExchange = Literal["psk", "ecdhe_ecdsa"]

# What the key block holds of a nonce, and what each record carries of it (of CBC: its initialisation vector).
_FIXED_IV_BYTES: dict[Mode, int] = {"ccm": 4, "gcm": 4, "chacha20": 12, "cbc": 0, "null": 0}
_EXPLICIT_BYTES: dict[Mode, int] = {"ccm": 8, "gcm": 8, "chacha20": 0, "cbc": _BLOCK_BYTES, "null": 0}


class BadRecord(DecodeError):
    """The record does not open with these keys: wrong keys, or damaged on the way."""


@dataclass(frozen=True)
class Suite:
    """A cipher suite. ``tag_bytes`` is the length of its tag, or of its MAC; ``hash_name`` the PRF's hash."""

    number: int
    name: str
    key_exchange: KeyExchange
    mode: Mode
    key_bytes: int
    tag_bytes: int
    hash_name: str = "sha256"
    mac_name: str = ""

    @property
    def explicit_nonce_bytes(self) -> int:
        """What each record carries of its nonce or initialisation vector, before the ciphertext."""
        return _EXPLICIT_BYTES[self.mode]


SUITES = {
    suite.number: suite
    for suite in (
        Suite(0xC0A8, "TLS_PSK_WITH_AES_128_CCM_8", "psk", "ccm", 16, 8),
        Suite(0xC0A9, "TLS_PSK_WITH_AES_256_CCM_8", "psk", "ccm", 32, 8),
        Suite(0xC0A4, "TLS_PSK_WITH_AES_128_CCM", "psk", "ccm", 16, 16),
        Suite(0xC0A5, "TLS_PSK_WITH_AES_256_CCM", "psk", "ccm", 32, 16),
        Suite(0x00A8, "TLS_PSK_WITH_AES_128_GCM_SHA256", "psk", "gcm", 16, 16),
        Suite(0x00A9, "TLS_PSK_WITH_AES_256_GCM_SHA384", "psk", "gcm", 32, 16, "sha384"),
        Suite(0xCCAB, "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256", "psk", "chacha20", 32, 16),
        Suite(0x008C, "TLS_PSK_WITH_AES_128_CBC_SHA", "psk", "cbc", 16, 20, "sha256", "sha1"),
        Suite(0x008D, "TLS_PSK_WITH_AES_256_CBC_SHA", "psk", "cbc", 32, 20, "sha256", "sha1"),
        Suite(0x00AE, "TLS_PSK_WITH_AES_128_CBC_SHA256", "psk", "cbc", 16, 32, "sha256", "sha256"),
        Suite(0x00AF, "TLS_PSK_WITH_AES_256_CBC_SHA384", "psk", "cbc", 32, 48, "sha384", "sha384"),
        Suite(0x00B0, "TLS_PSK_WITH_NULL_SHA256", "psk", "null", 0, 32, "sha256", "sha256"),
        Suite(0xC0AE, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", "ecdhe_ecdsa", "ccm", 16, 8),
        Suite(0xC0AC, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM", "ecdhe_ecdsa", "ccm", 16, 16),
        Suite(0xC02B, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ecdhe_ecdsa", "gcm", 16, 16),
    )
}


def suite_name(number: int) -> str:
    """Return a suite's registered name, or its number for those that are not known here."""
    return SUITES[number].name if number in SUITES else f"{number:#06x}"


# --- key schedule ---------------------------------------------------------------------------------------------------


def psk_premaster(psk: bytes) -> bytes:
    """Return the premaster secret of plain PSK (RFC 4279 section 2)."""
    length = struct.pack(">H", len(psk))
    return length + bytes(len(psk)) + length + psk


def ecdhe_premaster(private: ec.EllipticCurvePrivateKey, peer_point: bytes) -> bytes:
    """Return the premaster secret of ECDHE (RFC 8422 5.10); *peer_point* is uncompressed, on *private*'s curve."""
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(private.curve, peer_point)
    except ValueError as error:
        raise DecodeError(f"{len(peer_point)} bytes that are no point on {private.curve.name}") from error
    return private.exchange(ec.ECDH(), public)


def prf(secret: bytes, label: bytes, seed: bytes, length: int, hash_name: str = "sha256") -> bytes:
    """Return *length* bytes of the pseudorandom function (RFC 5246 section 5)."""
    seed = label + seed
    output, chain = b"", seed
    while len(output) < length:
        chain = hmac.digest(secret, chain, hash_name)
        output += hmac.digest(secret, chain + seed, hash_name)
    return output[:length]


def master_secret(premaster: bytes, client_random: bytes, server_random: bytes, hash_name: str = "sha256") -> bytes:
    """Return the master secret (RFC 5246 8.1)."""
    return prf(premaster, b"master secret", client_random + server_random, MASTER_SECRET_BYTES, hash_name)


def extended_master_secret(premaster: bytes, session_hash: bytes, hash_name: str = "sha256") -> bytes:
    """Return the extended master secret (RFC 7627 section 4); *session_hash* is of ClientHello to ClientKeyExchange."""
    return prf(premaster, b"extended master secret", session_hash, MASTER_SECRET_BYTES, hash_name)


def finished(master_secret: bytes, label: bytes, handshake_hash: bytes, hash_name: str = "sha256") -> bytes:
    """Return a Finished's verify_data (RFC 5246 7.4.9); *label* is CLIENT_FINISHED or SERVER_FINISHED."""
    return prf(master_secret, label, handshake_hash, VERIFY_DATA_BYTES, hash_name)


# --- record protection ----------------------------------------------------------------------------------------------


class Protection:
    """One direction's keys. Header fields are taken as they come, also those that no standard knows.

    overhead_bytes: by how much a fragment is longer than its plaintext, at least: CBC's padding adds up to 15 bytes.
    A *connection_id* that is not empty makes it a record of RFC 9146; the inner plaintext with its real type and
    padding is then the caller's.
    """

    def __init__(self, transform: "_Transform") -> None:
        """`protections` makes these."""
        self._transform = transform
        self.overhead_bytes = transform.overhead_bytes

    def seal(
        self,
        record_type: int,
        version: int,
        epoch: int,
        sequence: int,
        plaintext: bytes,
        connection_id: bytes = b"",
        *,
        nonce_sequence: int | None = None,
    ) -> bytes:
        """Return the record's fragment.

        *nonce_sequence*: the number that an explicit nonce has where it is not the record's own. It is the key's end.
        """
        header = _Header(record_type, version, epoch, sequence, connection_id, nonce_sequence)
        return self._transform.seal(header, plaintext)

    def open(
        self, record_type: int, version: int, epoch: int, sequence: int, fragment: bytes, connection_id: bytes = b""
    ) -> bytes:
        """Return the fragment's plaintext, or raise `BadRecord`."""
        if len(fragment) < self.overhead_bytes:
            raise BadRecord(f"protected record of {len(fragment)} bytes, {self.overhead_bytes} are overhead")
        return self._transform.open(_Header(record_type, version, epoch, sequence, connection_id), fragment)


def protections(
    suite: Suite, master_secret: bytes, client_random: bytes, server_random: bytes, *, encrypt_then_mac: bool = False
) -> tuple[Protection, Protection]:
    """Return what the client writes with and what the server writes with (RFC 5246 6.3).

    *encrypt_then_mac*: RFC 7366 was agreed on; it concerns CBC suites alone.
    """
    mac_bytes = suite.tag_bytes if suite.mac_name else 0
    iv_bytes = _FIXED_IV_BYTES[suite.mode]
    total = 2 * (mac_bytes + suite.key_bytes + iv_bytes)
    block = Reader(prf(master_secret, b"key expansion", server_random + client_random, total, suite.hash_name), "keys")
    mac_keys, keys, ivs = ((block.take(size), block.take(size)) for size in (mac_bytes, suite.key_bytes, iv_bytes))
    client, server = (
        Protection(_transform(suite, mac_keys[side], keys[side], ivs[side], encrypt_then_mac)) for side in (0, 1)
    )
    return client, server


def _transform(suite: Suite, mac_key: bytes, key: bytes, fixed_iv: bytes, encrypt_then_mac: bool) -> "_Transform":
    match suite.mode:
        case "ccm":
            return _Aead(AESCCM(key, suite.tag_bytes), fixed_iv, suite)
        case "gcm":
            return _Aead(AESGCM(key), fixed_iv, suite)
        case "chacha20":
            return _Aead(ChaCha20Poly1305(key), fixed_iv, suite)
        case "null":
            return _Mac(mac_key, suite.mac_name, suite.tag_bytes)
        case "cbc":
            mac = _Mac(mac_key, suite.mac_name, suite.tag_bytes)
            return _EncryptThenMac(_Cbc(key), mac) if encrypt_then_mac else _MacThenEncrypt(_Cbc(key), mac)


@dataclass(frozen=True)
class _Header:
    record_type: int
    version: int
    epoch: int
    sequence: int
    connection_id: bytes
    nonce_sequence: int | None = None

    @property
    def counter(self) -> bytes:
        return _counter(self.epoch, self.sequence)

    @property
    def explicit_nonce(self) -> bytes:
        return _counter(self.epoch, self.sequence if self.nonce_sequence is None else self.nonce_sequence)

    def covered(self, length: int) -> bytes:
        """Return what tag or MAC cover of a record beside its content."""
        if not self.connection_id:
            return self.counter + struct.pack(">BHH", self.record_type, self.version, length)
        placeholder = b"\xff" * 8 + bytes((self.record_type, len(self.connection_id), self.record_type))
        rest = self.counter + self.connection_id + length.to_bytes(2, "big")
        return placeholder + self.version.to_bytes(2, "big") + rest


def _counter(epoch: int, sequence: int) -> bytes:
    return struct.pack(">HHI", epoch, sequence >> 32, sequence & 0xFFFFFFFF)


class _Transform(Protocol):
    overhead_bytes: int

    def seal(self, header: _Header, plaintext: bytes) -> bytes: ...

    def open(self, header: _Header, fragment: bytes) -> bytes: ...


class _AeadCipher(Protocol):
    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


class _Aead:
    """RFC 5246 6.2.3.3. The explicit part of a nonce is epoch and sequence; ChaCha20's nonce has no explicit part."""

    def __init__(self, cipher: _AeadCipher, fixed_iv: bytes, suite: Suite) -> None:
        self._cipher = cipher
        self._fixed_iv = fixed_iv
        self._explicit_bytes = suite.explicit_nonce_bytes
        self.overhead_bytes = suite.explicit_nonce_bytes + suite.tag_bytes

    def seal(self, header: _Header, plaintext: bytes) -> bytes:
        explicit = header.explicit_nonce if self._explicit_bytes else header.counter
        sealed = self._cipher.encrypt(self._nonce(explicit), plaintext, header.covered(len(plaintext)))
        return explicit[: self._explicit_bytes] + sealed

    def open(self, header: _Header, fragment: bytes) -> bytes:
        covered = header.covered(len(fragment) - self.overhead_bytes)
        nonce = self._nonce(fragment[: self._explicit_bytes] or header.counter)
        try:
            return self._cipher.decrypt(nonce, fragment[self._explicit_bytes :], covered)
        except InvalidTag as error:
            raise BadRecord("the record's tag does not match") from error

    def _nonce(self, counter: bytes) -> bytes:
        if self._explicit_bytes:
            return self._fixed_iv + counter
        return bytes(a ^ b for a, b in zip(self._fixed_iv, counter.rjust(len(self._fixed_iv), b"\0"), strict=True))


class _Mac:
    """NULL ciphers (RFC 5246 6.2.3.1): everybody can read, nobody can alter."""

    def __init__(self, key: bytes, hash_name: str, tag_bytes: int) -> None:
        self._key = key
        self._hash_name = hash_name
        self.overhead_bytes = tag_bytes

    def seal(self, header: _Header, plaintext: bytes) -> bytes:
        return plaintext + self._tag(header, plaintext)

    def open(self, header: _Header, fragment: bytes) -> bytes:
        plaintext, tag = fragment[: -self.overhead_bytes], fragment[-self.overhead_bytes :]
        if not hmac.compare_digest(tag, self._tag(header, plaintext)):
            raise BadRecord("the record's MAC does not match")
        return plaintext

    def _tag(self, header: _Header, data: bytes) -> bytes:
        return hmac.digest(self._key, header.covered(len(data)) + data, self._hash_name)


class _Cbc:
    """AES-CBC with TLS's padding; what it makes begins with the initialisation vector."""

    def __init__(self, key: bytes) -> None:
        self._key = algorithms.AES(key)

    def encrypt(self, data: bytes) -> bytes:
        iv = secrets.token_bytes(_BLOCK_BYTES)
        padding = _BLOCK_BYTES - 1 - len(data) % _BLOCK_BYTES
        encryptor = Cipher(self._key, modes.CBC(iv)).encryptor()
        return iv + encryptor.update(data + bytes((padding,)) * (padding + 1)) + encryptor.finalize()

    def decrypt(self, data: bytes) -> bytes:
        if len(data) % _BLOCK_BYTES or len(data) < 2 * _BLOCK_BYTES:
            raise BadRecord(f"{len(data)} bytes are not an initialisation vector and whole blocks")
        decryptor = Cipher(self._key, modes.CBC(data[:_BLOCK_BYTES])).decryptor()
        padded = decryptor.update(data[_BLOCK_BYTES:]) + decryptor.finalize()
        count = padded[-1] + 1
        if padded[-count:] != padded[-1:] * count:
            raise BadRecord("the record's padding is wrong")
        return padded[:-count]


class _MacThenEncrypt:
    """RFC 5246 6.2.3.2: the MAC is of the plaintext, and encrypted with it."""

    def __init__(self, cbc: _Cbc, mac: _Mac) -> None:
        self._cbc = cbc
        self._mac = mac
        self.overhead_bytes = _BLOCK_BYTES + mac.overhead_bytes + 1

    def seal(self, header: _Header, plaintext: bytes) -> bytes:
        return self._cbc.encrypt(self._mac.seal(header, plaintext))

    def open(self, header: _Header, fragment: bytes) -> bytes:
        plaintext_and_tag = self._cbc.decrypt(fragment)
        if len(plaintext_and_tag) < self._mac.overhead_bytes:
            raise BadRecord("the record has no room for its MAC")
        return self._mac.open(header, plaintext_and_tag)


class _EncryptThenMac:
    """RFC 7366: the MAC is of the initialisation vector and the ciphertext."""

    def __init__(self, cbc: _Cbc, mac: _Mac) -> None:
        self._cbc = cbc
        self._mac = mac
        self.overhead_bytes = _BLOCK_BYTES + mac.overhead_bytes + 1

    def seal(self, header: _Header, plaintext: bytes) -> bytes:
        return self._mac.seal(header, self._cbc.encrypt(plaintext))

    def open(self, header: _Header, fragment: bytes) -> bytes:
        return self._cbc.decrypt(self._mac.open(header, fragment))
