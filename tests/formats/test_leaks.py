"""Secrets are found however they are written, and nothing else is."""

import base64
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.formats.leaks import find_leaks

KEY = bytes.fromhex("00ff7e41c35a9900aa55deadbeef1234")
WRITTEN = {
    "raw": KEY,
    "hexadecimal": KEY.hex().encode(),
    "upper case": KEY.hex().upper().encode(),
    "with spaces": KEY.hex(" ").encode(),
    "with colons": KEY.hex(":").encode(),
    "as a C array": b", ".join(f"0x{byte:02x}".encode() for byte in KEY),
    "as a C string": b"".join(f"\\x{byte:02X}".encode() for byte in KEY),
    "in lines": "\r\n".join(textwrap.wrap(KEY.hex(), 8)).encode(),
    "base64": base64.b64encode(KEY),
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_a_key_is_found_however_it_is_written(text: bytes) -> None:
    assert len(find_leaks(b"I (12) app: psk " + text + b" end\r\n", {"the key": KEY})) == 1


@given(st.binary(max_size=40), st.binary(min_size=6, max_size=64), st.binary(max_size=40))
def test_base64_is_found_at_any_place(before: bytes, secret: bytes, after: bytes) -> None:
    found = find_leaks(base64.b64encode(before + secret + after), {"it": secret})
    assert "it in Base64" in found


@pytest.mark.parametrize("label", ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"])
def test_a_private_key_is_found_by_its_first_line(label: str) -> None:
    assert find_leaks(f"x\n-----BEGIN {label}-----\nMII".encode(), {}) == ["a private key in PEM"]


def test_certificates_and_halves_of_keys_are_no_secrets() -> None:
    text = b"-----BEGIN CERTIFICATE-----\n" + KEY[:15] + KEY[:8].hex().encode() + base64.b64encode(KEY[:12])
    assert find_leaks(text, {"the key": KEY}) == []


def test_what_is_found_by_chance_is_not_looked_for() -> None:
    with pytest.raises(ValueError, match="too few"):
        find_leaks(b"", {"short": b"12345"})
