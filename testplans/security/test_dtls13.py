"""What a client of DTLS 1.3 gets: T13-01, T13-02."""

import secrets
from dataclasses import dataclass

import pytest

from rig.coap.probe import Prober
from rig.dtls.alerts import Alert
from rig.dtls.client import MAX_COOKIES, Client, Refused, Silence, Timers
from rig.dtls.connection import EXTENSIONS, SUITES
from rig.dtls.contents import Finished, ServerHelloDone
from rig.dtls.conversation import Script
from rig.dtls.extensions import OfferedVersions, Raw, SelectedVersion, SignatureAlgorithms, SupportedGroups, pairs
from rig.dtls.handshake import Extensions, HelloVerifyRequest, ServerHello
from rig.fixtures.measure import Measure

DTLS_1_3, DTLS_1_2 = 0xFEFC, 0xFEFD
TLS_AES_128_GCM_SHA256, TLS_AES_128_CCM_8_SHA256 = 0x1301, 0x1305
X25519, SECP256R1, ED25519, ECDSA_SECP256R1_SHA256 = 0x001D, 0x0017, 0x0807, 0x0403
COOKIE, KEY_SHARE = 44, 51
ILLEGAL_PARAMETER = 47
AMPLIFICATION_MAX = 3.0
LISTEN_S = 3.0


@pytest.mark.requirement("T13-01")
def test_a_client_of_dtls_1_3_gets_1_3_or_plain_1_2(probe: Prober, measure: Measure) -> None:
    with probe.alive():
        answer = _answer(probe)
    measure.check(
        "T13-01",
        "a client that offers DTLS 1.3 beside 1.2 gets a ServerHello of 1.3, or a session of 1.2",
        answer.met,
        observed=f"ClientHello with client_version 0xfefd and supported_versions 0xfefc, 0xfefd: {answer.text}",
    )


@pytest.mark.requirement("T13-02")
def test_a_1_3_server_verifies_the_address_first(probe: Prober, measure: Measure) -> None:
    with probe.alive():
        client, wire = _client(probe), probe.wire()
        probe.run(client.send(client.client_hello()), client, wire)
        probe.run(client.listen(LISTEN_S), client, wire)
        sent, came = (sum(len(each.datagram or b"") for each in way) for way in (client.sent, client.received))
        cookie = dict(client.server_hello.extensions or ()).get(COOKIE) if client.server_hello else None
        refusal = _refusal_of(probe, cookie) if cookie else "no HelloRetryRequest with a cookie came"
    measure.check(
        "T13-02",
        "before the cookie is back at most three times as much is sent as came; a wrong cookie gets illegal_parameter",
        came <= AMPLIFICATION_MAX * sent and refusal == f"alert {ILLEGAL_PARAMETER}",
        observed=f"ClientHello of {sent} bytes answered with {came} bytes, {came / sent:.2f} times; then a ClientHello "
        f"with one bit of the cookie changed: {refusal}",
    )


@dataclass(frozen=True)
class Answer:
    """What came of the hello, and whether it may."""

    met: bool
    text: str


def _answer(probe: Prober) -> Answer:
    client = _client(probe)
    wire = probe.wire()
    try:
        done = probe.run(_hello(client), client, wire)
        if not done:
            probe.abandon(client, wire)
            return Answer(*_of_1_3(client))
        probe.run(client.flight(*client.last_flight(), until=(Finished,)), client, wire)
    except Refused as refusal:
        return Answer(False, f"alert {refusal.alert.name} ({refusal.alert.level}, {refusal.alert.description})")
    except Silence as silence:
        return Answer(False, str(silence))
    probe.run(client.close(), client, wire)
    verified = "verified" if client.server_verified else "not verified"
    return Answer(client.server_verified is True, f"DTLS 1.2 to its end, the server's Finished {verified}")


def _client(probe: Prober, *more: tuple[int, bytes]) -> Client:
    """Return a client whose hello is complete for either version: what 1.3 needs is there, and what 1.2 needs."""
    share = X25519.to_bytes(2, "big") + (32).to_bytes(2, "big") + secrets.token_bytes(32)
    of_1_3: Extensions = pairs(
        OfferedVersions((DTLS_1_3, DTLS_1_2)),
        SupportedGroups((X25519, SECP256R1)),
        SignatureAlgorithms((ECDSA_SECP256R1_SHA256, ED25519)),
        Raw(KEY_SHARE, len(share).to_bytes(2, "big") + share),
    )
    suites = (TLS_AES_128_GCM_SHA256, TLS_AES_128_CCM_8_SHA256, *SUITES)
    client = probe.client(offered_suites=suites, hello_extensions=(*EXTENSIONS, *of_1_3, *more))
    client.timers = Timers(give_up_s=8.0)
    return client


def _hello(client: Client) -> Script[bool]:
    """Say hello, also with a cookie of 1.2; return whether the server's whole 1.2 flight came, or one of 1.3."""
    for _ in range(MAX_COOKIES):
        answer = yield from client.flight(client.client_hello(), until=(HelloVerifyRequest, ServerHello))
        if isinstance(answer, ServerHello):
            break
    else:
        raise Silence(f"the server asked for a cookie {MAX_COOKIES} times")
    if SelectedVersion.number in dict(answer.extensions or ()):
        return False
    yield from client.expect(ServerHelloDone)
    return True


def _of_1_3(client: Client) -> tuple[bool, str]:
    """Judge a ServerHello that selects a version by the extension (RFC 8446 4.2.1)."""
    hello = client.server_hello
    assert hello is not None
    selected = dict(hello.extensions or ())[SelectedVersion.number]
    well_formed = selected == DTLS_1_3.to_bytes(2, "big") and hello.version == DTLS_1_2
    text = f"ServerHello with legacy_version {hello.version:#06x} and supported_versions {selected.hex()}"
    return well_formed and hello.suite in client.offered_suites, text


def _refusal_of(probe: Prober, cookie: bytes) -> str:
    wrong = cookie[:-1] + bytes((cookie[-1] ^ 1,))
    client, wire = _client(probe, (COOKIE, wrong)), probe.wire()
    probe.run(client.send(client.client_hello()), client, wire)
    heard = probe.run(client.listen(LISTEN_S), client, wire)
    alerts = [f"alert {one.content.description}" for one in heard if isinstance(one.content, Alert)]
    return ", ".join(alerts) or ", ".join(one.name for one in heard) or "silence"
