"""From a pre-shared key to decrypted records: RFC 4279 section 2, RFC 5246 sections 5, 6.3 and 8.1, RFC 7627,
RFC 6655 (CCM), RFC 5288 and 5487 (GCM)."""

import hashlib
import hmac
import struct
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

from rig.dtls.records import Record
from rig.dtls.wire import DecodeError

MASTER_SECRET_LENGTH = 48
VERIFY_DATA_LENGTH = 12
EXPLICIT_NONCE_LENGTH = 8
_FIXED_IV_LENGTH = 4


class DecryptError(DecodeError):
    """The record does not open with this key: wrong key, or damaged on the way."""


@dataclass(frozen=True)
class Suite:
    """A plain-PSK cipher suite with authenticated encryption. ``mode`` is ``ccm`` or ``gcm``."""

    number: int
    name: str
    mode: str
    key_length: int
    tag_length: int
    hash_name: str = "sha256"


SUITES = {
    suite.number: suite
    for suite in (
        Suite(0xC0A8, "TLS_PSK_WITH_AES_128_CCM_8", "ccm", 16, 8),
        Suite(0xC0A9, "TLS_PSK_WITH_AES_256_CCM_8", "ccm", 32, 8),
        Suite(0xC0A4, "TLS_PSK_WITH_AES_128_CCM", "ccm", 16, 16),
        Suite(0xC0A5, "TLS_PSK_WITH_AES_256_CCM", "ccm", 32, 16),
        Suite(0x00A8, "TLS_PSK_WITH_AES_128_GCM_SHA256", "gcm", 16, 16),
        Suite(0x00A9, "TLS_PSK_WITH_AES_256_GCM_SHA384", "gcm", 32, 16, "sha384"),
    )
}


def suite_name(number: int) -> str:
    """Return a suite's registered name, or its number for those that are not known here."""
    return SUITES[number].name if number in SUITES else f"{number:#06x}"


def psk_premaster(psk: bytes) -> bytes:
    """Return the premaster secret of plain PSK (RFC 4279 section 2)."""
    length = struct.pack(">H", len(psk))
    return length + bytes(len(psk)) + length + psk


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
    return prf(premaster, b"master secret", client_random + server_random, MASTER_SECRET_LENGTH, hash_name)


def extended_master_secret(premaster: bytes, transcript: bytes, hash_name: str = "sha256") -> bytes:
    """Return the extended master secret (RFC 7627 section 4); *transcript* ends with ClientKeyExchange."""
    session_hash = hashlib.new(hash_name, transcript).digest()
    return prf(premaster, b"extended master secret", session_hash, MASTER_SECRET_LENGTH, hash_name)


def verify_data(master: bytes, from_client: bool, transcript: bytes, hash_name: str = "sha256") -> bytes:
    """Return what a Finished must hold after *transcript* (RFC 5246 7.4.9)."""
    label = b"client finished" if from_client else b"server finished"
    return prf(master, label, hashlib.new(hash_name, transcript).digest(), VERIFY_DATA_LENGTH, hash_name)


class RecordKeys:
    """One direction's key and fixed IV; opens and seals records."""

    def __init__(self, suite: Suite, key: bytes, fixed_iv: bytes) -> None:
        self._cipher = AESCCM(key, suite.tag_length) if suite.mode == "ccm" else AESGCM(key)
        self._overhead = EXPLICIT_NONCE_LENGTH + suite.tag_length
        self._fixed_iv = fixed_iv

    def open(self, record: Record) -> bytes:
        """Return the record's plaintext; `DecryptError` if its tag does not match."""
        if len(record.fragment) < self._overhead:
            raise DecryptError(f"encrypted record of {len(record.fragment)} bytes, {self._overhead} are overhead")
        explicit, sealed = record.fragment[:EXPLICIT_NONCE_LENGTH], record.fragment[EXPLICIT_NONCE_LENGTH:]
        aad = _additional_data(record, len(record.fragment) - self._overhead)
        try:
            return self._cipher.decrypt(self._fixed_iv + explicit, sealed, aad)
        except InvalidTag as error:
            raise DecryptError("the record's tag does not match") from error

    def seal(self, record: Record) -> Record:
        """Return the encrypted form of a record with a plaintext fragment; the nonce is epoch and sequence."""
        explicit = _epoch_and_sequence(record)
        aad = _additional_data(record, len(record.fragment))
        sealed = self._cipher.encrypt(self._fixed_iv + explicit, record.fragment, aad)
        return replace(record, fragment=explicit + sealed)


@dataclass(frozen=True)
class SessionKeys:
    """Both directions of one epoch."""

    client: RecordKeys
    server: RecordKeys


def derive_keys(suite: Suite, master: bytes, client_random: bytes, server_random: bytes) -> SessionKeys:
    """Return the keys of an epoch (RFC 5246 6.3); AEAD suites have no MAC keys."""
    size = suite.key_length
    total = 2 * (size + _FIXED_IV_LENGTH)
    block = prf(master, b"key expansion", server_random + client_random, total, suite.hash_name)
    client_iv, server_iv = block[2 * size : 2 * size + _FIXED_IV_LENGTH], block[2 * size + _FIXED_IV_LENGTH :]
    return SessionKeys(RecordKeys(suite, block[:size], client_iv), RecordKeys(suite, block[size : 2 * size], server_iv))


def _epoch_and_sequence(record: Record) -> bytes:
    return struct.pack(">HHI", record.epoch, record.sequence >> 32, record.sequence & 0xFFFFFFFF)


def _additional_data(record: Record, length: int) -> bytes:
    return _epoch_and_sequence(record) + struct.pack(">BHH", record.content_type, record.version, length)
