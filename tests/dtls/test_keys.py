"""Key derivation and record protection, against published vectors and against themselves."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.dtls import keys
from rig.dtls.records import DTLS_1_2, ContentType, Record

# The TLS 1.2 PRF vector for SHA-256 that circulates on the IETF TLS list (2009) and in most libraries' tests.
SECRET = bytes.fromhex("9bbe436ba940f017b17652849a71db35")
SEED = bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c")
OUTPUT = bytes.fromhex(
    "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af"
    "0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701"
    "87347b66"
)


def session(suite: keys.Suite, psk: bytes) -> keys.SessionKeys:
    master = keys.master_secret(keys.psk_premaster(psk), bytes(32), bytes(range(32)), suite.hash_name)
    return keys.derive_keys(suite, master, bytes(32), bytes(range(32)))


def test_the_prf() -> None:
    assert keys.prf(SECRET, b"test label", SEED, 100) == OUTPUT
    assert keys.prf(SECRET, b"test label", SEED, 7) == OUTPUT[:7]


def test_the_premaster_of_a_psk() -> None:
    assert keys.psk_premaster(b"abc") == b"\0\3\0\0\0\0\3abc"


@pytest.mark.parametrize("suite", keys.SUITES.values(), ids=lambda suite: suite.name)
@given(st.binary(max_size=60), st.integers(0, 2**48 - 1))
def test_records_open_as_they_were_sealed(suite: keys.Suite, data: bytes, sequence: int) -> None:
    pair = session(suite, b"k" * 16)
    plain = Record(ContentType.APPLICATION_DATA, DTLS_1_2, 1, sequence, data)
    sealed = pair.client.seal(plain)
    assert sealed.length == plain.length + 8 + suite.tag_length
    assert pair.client.open(sealed) == data
    damaged = bytes((sealed.fragment[-1] ^ 1,))
    for wrong in (
        replace(sealed, sequence=sequence ^ 1),
        replace(sealed, content_type=ContentType.ALERT),
        replace(sealed, fragment=sealed.fragment[:-1] + damaged),
        replace(sealed, fragment=sealed.fragment[:10]),
    ):
        with pytest.raises(keys.DecryptError):
            pair.client.open(wrong)
    for other in (pair.server, session(suite, b"K" * 16).client):
        with pytest.raises(keys.DecryptError):
            other.open(sealed)


def test_suites_have_their_registered_names() -> None:
    assert keys.suite_name(0xC0A8) == "TLS_PSK_WITH_AES_128_CCM_8"
    assert keys.suite_name(0xCCAC) == "0xccac"
