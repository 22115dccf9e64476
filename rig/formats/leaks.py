"""Secrets where they should not be: found in text or bytes however they are written there."""

import base64
import re
from collections.abc import Iterator, Mapping

PEM_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")
"""The first line of a private key in PEM (RFC 7468 10, 11, and OpenSSL's older labels)."""

_BETWEEN_DIGITS = rb"(?:[\s:,;-]|0x|\\x)*"
_PLAIN_BYTES = 6
"""Shorter secrets would be found by chance in a few megabytes."""


def find_leaks(data: bytes, secrets: Mapping[str, bytes]) -> list[str]:
    """Return what of *secrets* (by name) stands in *data*, each with the notation it was found in, and PEM keys.

    Looked for: the bytes themselves, hexadecimal in either case and with separators, Base64 at any position in a
    longer text. Raises ValueError for a secret of less than 6 bytes, which is found by chance.
    """
    found = [f"{name} {notation}" for name, secret in secrets.items() for notation in _notations(data, name, secret)]
    return [*found, "a private key in PEM"] if PEM_KEY.search(data) else found


def _notations(data: bytes, name: str, secret: bytes) -> Iterator[str]:
    if len(secret) < _PLAIN_BYTES:
        raise ValueError(f"{name}: {len(secret)} bytes are too few to be looked for")
    if secret in data:
        yield "as it is"
    digits = _BETWEEN_DIGITS.join(f"{byte:02x}".encode() for byte in secret)
    if re.search(digits, data, re.IGNORECASE):
        yield "in hexadecimal"
    if any(text in data for text in base64_forms(secret)):
        yield "in Base64"


def base64_forms(secret: bytes) -> list[bytes]:
    """Return what *secret* looks like in Base64 wherever it begins in a longer text.

    Its first and last characters depend on its neighbours and are cut off.
    """
    return [base64.b64encode(bytes(shift) + secret)[4 if shift else 0 : -4] for shift in range(3)]
