"""Key schedule and record protection of every suite, against published vectors and against themselves."""

import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from rig.dtls import suites
from rig.dtls.records import DTLS_1_2, ContentType
from rig.dtls.suites import SUITES, BadRecord, Protection, Suite, protections
from rig.dtls.wire import DecodeError

# The TLS 1.2 PRF vectors that circulate on the IETF TLS list (2009) and in most libraries' tests:
# secret, seed, output after the label "test label".
PRF_VECTORS = {
    "sha256": (
        "9bbe436ba940f017b17652849a71db35",
        "a0ba9f936cda311827a6f796ffd5198c",
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af"
        "0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701"
        "87347b66",
    ),
    "sha384": (
        "b80b733d6ceefcdc71566ea48e5567df",
        "cd665cf6a8447dd6ff8b27555edb7465",
        "7b0c18e9ced410ed1804f2cfa34a336a1c14dffb4900bb5fd7942107e81c83cde9ca0faa60be9fe34f82b1233c9146a0"
        "e534cb400fed2700884f9dc236f80edd8bfa961144c9e8d792eca722a7b32fc3d416d473ebc2c5fd4abfdad05d918425"
        "9b5bf8cd4d90fa0d31e2dec479e4f1a26066f2eea9a69236a3e52655c9e9aee691c8f3a26854308d5eaa3be85e099070"
        "3d73e56f",
    ),
}

KINDS = [(suite, False) for suite in SUITES.values()] + [
    (suite, True) for suite in SUITES.values() if suite.mode == "cbc"
]
every_suite = pytest.mark.parametrize(
    ("suite", "encrypt_then_mac"), KINDS, ids=[f"{suite.name}{'-etm' * etm}" for suite, etm in KINDS]
)
connection_ids = st.binary(max_size=8)


def pair(suite: Suite, psk: bytes, encrypt_then_mac: bool) -> tuple[Protection, Protection]:
    randoms = bytes(32), bytes(range(32))
    master = suites.master_secret(suites.psk_premaster(psk), *randoms, suite.hash_name)
    return protections(suite, master, *randoms, encrypt_then_mac=encrypt_then_mac)


@pytest.mark.parametrize("hash_name", PRF_VECTORS)
def test_the_prf(hash_name: str) -> None:
    secret, seed, output = map(bytes.fromhex, PRF_VECTORS[hash_name])
    assert suites.prf(secret, b"test label", seed, len(output), hash_name) == output
    assert suites.prf(secret, b"test label", seed, 7, hash_name) == output[:7]


def test_the_premaster_of_a_psk() -> None:
    assert suites.psk_premaster(b"abc") == b"\0\3\0\0\0\0\3abc"


def test_the_premaster_of_ecdhe() -> None:
    """RFC 5903 section 8.1: Diffie-Hellman on P-256."""
    private = ec.derive_private_key(0xC88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433, ec.SECP256R1())
    point = bytes.fromhex(
        "04d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63"
        "56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab"
    )
    shared = "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de"
    assert suites.ecdhe_premaster(private, point).hex() == shared
    for wrong in (b"", point[:-1], point[:-1] + b"\0"):
        with pytest.raises(DecodeError, match="no point on secp256r1"):
            suites.ecdhe_premaster(private, wrong)


@every_suite
@given(st.binary(max_size=60), st.integers(0, 2**48 - 1), connection_ids, st.data())
def test_what_was_sealed_opens_and_nothing_else_does(
    suite: Suite, encrypt_then_mac: bool, plain: bytes, sequence: int, connection_id: bytes, data: st.DataObject
) -> None:
    client, server = pair(suite, b"k" * 16, encrypt_then_mac)
    header = ContentType.APPLICATION_DATA, DTLS_1_2, 1, sequence
    sealed = client.seal(*header, plain, connection_id)
    assert client.open(*header, sealed, connection_id) == plain
    padding = len(sealed) - len(plain) - client.overhead_bytes
    assert 0 <= padding <= (15 if suite.mode == "cbc" else 0)
    at = data.draw(st.integers(0, len(sealed) - 1))
    altered = sealed[:at] + bytes((sealed[at] ^ data.draw(st.integers(1, 255)),)) + sealed[at + 1 :]
    cut = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    field = data.draw(st.integers(0, 3))
    other_header = [number ^ (place == field) for place, number in enumerate(header)]
    for opener, *arguments in (
        (client, *header, altered, connection_id),
        (client, *header, cut, connection_id),
        (client, *header, sealed + b"\0", connection_id),
        (client, *other_header, sealed, connection_id),
        (client, *header, sealed, connection_id + b"x"),
        (server, *header, sealed, connection_id),
        (pair(suite, b"K" * 16, encrypt_then_mac)[0], *header, sealed, connection_id),
    ):
        with pytest.raises(BadRecord):
            opener.open(*arguments)


@every_suite
@given(st.binary(max_size=120))
def test_any_bytes_raise_the_typed_error(suite: Suite, encrypt_then_mac: bool, fragment: bytes) -> None:
    with pytest.raises(BadRecord):
        pair(suite, b"k", encrypt_then_mac)[0].open(ContentType.HANDSHAKE, DTLS_1_2, 1, 0, fragment)


def test_an_explicit_nonce_may_be_chosen() -> None:
    client, _ = pair(SUITES[0xC0A8], b"k", False)
    header = ContentType.APPLICATION_DATA, DTLS_1_2, 1, 7
    sealed = client.seal(*header, b"x", nonce_sequence=5)
    assert sealed.startswith(bytes.fromhex("0001000000000005"))
    assert client.open(*header, sealed) == b"x"


def test_a_null_suite_can_be_read_by_anybody() -> None:
    client, _ = pair(SUITES[0x00B0], b"k", False)
    assert client.seal(ContentType.APPLICATION_DATA, DTLS_1_2, 1, 1, b"in clear").startswith(b"in clear")


def test_a_mac_is_over_the_header_of_rfc_5246() -> None:
    client, _ = pair(SUITES[0x00B0], b"k", False)
    randoms = bytes(32), bytes(range(32))
    master = suites.master_secret(suites.psk_premaster(b"k"), *randoms)
    key = suites.prf(master, b"key expansion", randoms[1] + randoms[0], 64)[:32]
    said = bytes.fromhex("0001 000000000002 17 fefd 0001") + b"x"
    assert client.seal(23, DTLS_1_2, 1, 2, b"x") == b"x" + hmac.digest(key, said, "sha256")


def test_suites_have_their_registered_names() -> None:
    assert suites.suite_name(0xC0A8) == "TLS_PSK_WITH_AES_128_CCM_8"
    assert suites.suite_name(0xCCAC) == "0xccac"
