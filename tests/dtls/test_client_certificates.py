"""The client against a server with a certificate: ECDHE_ECDSA on P-256 with OpenSSL. With mbedTLS: test_mbedtls.py."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from rig.dtls import extensions
from rig.dtls.client import Client, Refused
from rig.dtls.connection import CERTIFICATE_EXTENSIONS, NoKeys
from rig.dtls.handshake import EcdheServerKeyExchange, ServerHello
from rig.dtls.key_exchange import ECDSA_SHA256, SECP256R1, EphemeralKey, is_signed
from rig.dtls.narrative import describe_datagram
from rig.dtls.wire import DecodeError

SUITES = {0xC0AE: "ECDHE-ECDSA-AES128-CCM8", 0xC0AC: "ECDHE-ECDSA-AES128-CCM", 0xC02B: "ECDHE-ECDSA-AES128-GCM-SHA256"}
NO_EMS = CERTIFICATE_EXTENSIONS[1:]
RANDOMS = bytes(32), bytes(range(32))
POINT = EcdheServerKeyExchange(SECP256R1, b"\4" + bytes(64), ECDSA_SHA256, b"")


@pytest.fixture
def openssl(server: Any, self_signed: Any, tmp_path: Path) -> Any:
    """Start OpenSSL with a new certificate and these options; return where it listens and the certificate."""

    def start(*options: str) -> tuple[Any, bytes]:
        board, file = self_signed(), tmp_path / "board.pem"
        file.write_bytes(board.pem)
        ciphers = f"{':'.join(SUITES.values())}:@SECLEVEL=0"

        def command(address: str) -> list[str]:
            where = ["openssl", "s_server", "-dtls1_2", "-accept", f"{address}:5684", "-quiet"]
            return [*where, "-cert", str(file), "-key", str(file), "-cipher", ciphers, *options]

        return server.start(command), board.certificate_der

    return start


def certified(*suites: int, **settings: Any) -> Client:
    return Client(offered_suites=suites, **{"hello_extensions": CERTIFICATE_EXTENSIONS, **settings})


@pytest.mark.parametrize(
    ("suite", "offered"),
    [(0xC0AE, CERTIFICATE_EXTENSIONS), (0xC0AE, NO_EMS), (0xC0AC, CERTIFICATE_EXTENSIONS), (0xC02B, NO_EMS)],
)
def test_openssl_hears_and_is_heard(suite: int, offered: Any, openssl: Any, server: Any, dial: Any) -> None:
    endpoint, certificate = openssl()
    client, wire = certified(suite, 0xFF, hello_extensions=offered), dial(endpoint)
    wire.run(client.handshake())
    assert (client.suite.number, client.server_signed, client.server_certificate) == (suite, True, certificate)
    assert client.server_hello.extended_master_secret == (offered is CERTIFICATE_EXTENSIONS)
    wire.run(client.send(client.application_data(b"from the client\n")))
    process: subprocess.Popen[bytes] = server.process(endpoint)
    assert process.stdout.readline() == b"from the client\n"
    process.stdin.write(b"from the server\n")
    process.stdin.flush()
    assert wire.run(client.answer()) == b"from the server\n"
    assert wire.run(client.close())


def test_a_session_with_a_certificate_is_taken_up_again(openssl: Any, dial: Any) -> None:
    endpoint, certificate = openssl()
    asks = (*CERTIFICATE_EXTENSIONS, *extensions.pairs(extensions.SessionTicket()))
    first, wire = certified(0xC0AE, hello_extensions=asks), dial(endpoint)
    wire.run(first.handshake())
    assert first.server_certificate == certificate
    wire.run(first.close())
    again, wire = certified(0xC0AE, resume=first.session), dial(endpoint)
    wire.run(again.handshake())
    assert (again.resumed, again.server_verified, again.server_certificate) == (True, True, b"")


def test_a_server_that_only_asks_for_a_certificate_gets_none_and_goes_on(openssl: Any, dial: Any) -> None:
    client = certified(0xC0AE)
    dial(openssl("-verify", "1")[0]).run(client.handshake())
    assert client.server_verified
    assert "CertificateRequest" in [received.name for received in client.seen]


def test_a_server_that_requires_a_certificate_refuses(openssl: Any, dial: Any) -> None:
    with pytest.raises(Refused) as refused:
        dial(openssl("-Verify", "1")[0]).run(certified(0xC0AE).handshake())
    assert refused.value.alert.name == "handshake_failure"


def test_the_narrative_names_what_passed(openssl: Any, dial: Any) -> None:
    client = certified(0xC0AE)
    dial(openssl()[0]).run(client.handshake())
    said = describe_datagram(client.sent[-1].datagram, from_client=True)
    assert said[0].startswith("ClientKeyExchange seq 2: point 65 B ")
    other = certified(0xC0AE)
    (chain,) = describe_datagram(other.datagram(other.certificate(b"own", b"issuer's")), from_client=True)
    assert chain.startswith("Certificate seq 0: chain of 2 ")
    assert [received.name for received in client.seen[1:5]] == [
        "ServerHello",
        "Certificate",
        "ServerKeyExchange",
        "ServerHelloDone",
    ]


def test_without_the_servers_half_there_are_no_keys() -> None:
    client = certified(0xC0AE)
    client.client_hello()
    client.server_hello = ServerHello(bytes(32), 0xC0AE)
    with pytest.raises(NoKeys, match="ServerKeyExchange, is missing"):
        client.last_flight()


@pytest.mark.parametrize(("changes", "said"), [({"group": 29}, "group 29"), ({}, "no point on secp256r1")])
def test_a_point_that_is_none_of_the_curve_leads_to_no_secret(changes: dict[str, int], said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        EphemeralKey(replace(POINT, **changes)).premaster()


def test_a_signature_is_of_the_certificates_key_and_of_all_that_it_covers(self_signed: Any) -> None:
    board, other = self_signed(), self_signed()
    signature = board.key.sign(RANDOMS[0] + RANDOMS[1] + POINT.parameters, ec.ECDSA(hashes.SHA256()))
    signed, certificate = replace(POINT, signature=signature), board.certificate_der
    assert is_signed(signed, certificate, *RANDOMS)
    assert not is_signed(signed, other.certificate_der, *RANDOMS)
    assert not is_signed(signed, certificate, *reversed(RANDOMS))
    for changes in ({"group": 24}, {"point": b"\4" + bytes(63)}, {"algorithm": 0x0401}, {"signature": signature[:-1]}):
        assert not is_signed(replace(signed, **changes), certificate, *RANDOMS)


@given(st.binary(max_size=200), st.integers(0, 65535), st.binary(max_size=80))
def test_any_bytes_are_no_signature(certificate: bytes, algorithm: int, signature: bytes) -> None:
    assert not is_signed(replace(POINT, algorithm=algorithm, signature=signature), certificate, *RANDOMS)
