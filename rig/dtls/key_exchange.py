"""How a client comes to the premaster secret: plain PSK (RFC 4279 section 2), ECDHE_ECDSA on P-256 (RFC 8422)."""

from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rig.dtls import suites
from rig.dtls.handshake import ClientKeyExchange, EcdheClientKeyExchange, EcdheServerKeyExchange
from rig.dtls.wire import DecodeError

SECP256R1 = 23
ECDSA_SHA256, ECDSA_SHA384, ECDSA_SHA512 = 0x0403, 0x0503, 0x0603
_HASHES = {ECDSA_SHA256: hashes.SHA256(), ECDSA_SHA384: hashes.SHA384(), ECDSA_SHA512: hashes.SHA512()}


class KeyExchange(Protocol):
    """The client's half of a key exchange."""

    def message(self) -> bytes:
        """Return the body of the ClientKeyExchange."""

    def premaster(self) -> bytes:
        """Return the premaster secret; `DecodeError` if what the server sent leads to none."""


class PresharedKey:
    """A key that both sides had before."""

    def __init__(self, identity: bytes, psk: bytes) -> None:
        self._identity = identity
        self._psk = psk

    def message(self) -> bytes:
        """Return the identity."""
        return ClientKeyExchange(self._identity).encode()

    def premaster(self) -> bytes:
        """Return the premaster secret."""
        return suites.psk_premaster(self._psk)


class EphemeralKey:
    """An ephemeral key on P-256 against the server's."""

    def __init__(self, server: EcdheServerKeyExchange) -> None:
        self._server = server
        self._private = ec.generate_private_key(ec.SECP256R1())

    def message(self) -> bytes:
        """Return the client's point."""
        public = self._private.public_key()
        return EcdheClientKeyExchange(public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).encode()

    def premaster(self) -> bytes:
        """Return the premaster secret; `DecodeError` if the server's point is on another curve, or on none."""
        if self._server.group != SECP256R1:
            raise DecodeError(f"the server chose group {self._server.group}, which is not secp256r1 ({SECP256R1})")
        return suites.ecdhe_premaster(self._private, self._server.point)


def is_signed(server: EcdheServerKeyExchange, certificate: bytes, client_random: bytes, server_random: bytes) -> bool:
    """Whether the key in *certificate*, DER, has signed the server's point and both randoms with ECDSA (RFC 8422 5.4).

    Nothing else of the certificate is looked at: not who issued it, nor for whom, nor until when.
    """
    try:
        public = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return False
    chosen = _HASHES.get(server.algorithm)
    if chosen is None or not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    try:
        public.verify(server.signature, client_random + server_random + server.parameters, ec.ECDSA(chosen))
    except InvalidSignature:
        return False
    return True
