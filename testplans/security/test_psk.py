"""Pre-shared keys and the cookie exchange: PSK-01, PSK-02, PSK-03, CK-01."""

import secrets

import pytest

from rig.fixtures.coaps import Attempt, Coaps
from rig.fixtures.measure import Measure

pytestmark = pytest.mark.usefixtures("router")

TLS_PSK_WITH_AES_128_CCM_8 = 0xC0A8
UNKNOWN_PSK_IDENTITY = 115
REFUSALS_OF_A_WRONG_KEY = (20, 40, 51)
"""bad_record_mac, handshake_failure, decrypt_error: what stacks answer to a Finished under another key."""


@pytest.mark.requirement("PSK-01")
def test_handshake_with_ccm_8_carries_a_request(coap: Coaps, measure: Measure) -> None:
    with measure.packets("handshake") as capture, coap.session() as session:
        response = session.get("/light")
    seen = measure.only_session(capture, {coap.identity: coap.psk})
    measure.observe_session(seen)
    answers = [record for record in seen.application_data if not record.from_client]
    met = response.code == "2.05" and seen.suite == TLS_PSK_WITH_AES_128_CCM_8 and seen.established and bool(answers)
    measure.check(
        "PSK-01",
        "handshake completes with TLS_PSK_WITH_AES_128_CCM_8 and GET /light is answered 2.05",
        met,
        observed=f"cipher suite {seen.suite_name}, GET /light {response.code}, {len(answers)} decrypted answers",
        evidence=[capture.path],
    )


@pytest.mark.requirement("PSK-02")
def test_wrong_key_is_refused(coap: Coaps, measure: Measure) -> None:
    wrong = _other_key(coap.psk)
    with coap.alive(), measure.packets("wrong-key") as capture:
        outcome = coap.attempt(identity=coap.identity, psk=wrong)
    seen = measure.sessions(capture, {})
    tried = any(one.identity == coap.identity.encode() for one in seen)
    protected = sum(record.epoch > 0 and not record.from_client for one in seen for record in one.records)
    if not tried:
        measure.inconclusive(
            "PSK-02",
            "the wrong key is tried",
            observed=f"no ClientKeyExchange with the identity in the capture; the client saw {outcome}",
            evidence=[capture.path],
        )
    measure.check(
        "PSK-02",
        "the wrong key ends in a fatal alert or silence, with no protected record of the server",
        _refused_as_wrong_key(outcome) and protected == 0,
        observed=f"{outcome}; {protected} protected records of the server",
        evidence=[capture.path],
    )


@pytest.mark.requirement("PSK-03")
def test_unknown_identity_is_refused(coap: Coaps, measure: Measure) -> None:
    unknown = f"nobody-{secrets.token_hex(4)}"
    with coap.alive(), measure.packets("unknown-identity") as capture:
        outcome = coap.attempt(identity=unknown, psk=coap.psk)
    seen = measure.sessions(capture, {})
    if not any(one.identity == unknown.encode() for one in seen):
        measure.inconclusive(
            "PSK-03",
            "the unknown identity is tried",
            observed=f"no ClientKeyExchange with the identity in the capture; the client saw {outcome}",
            evidence=[capture.path],
        )
    measure.check(
        "PSK-03",
        "the unknown identity ends in alert unknown_psk_identity, or as a wrong key does",
        _refused_as_wrong_key(outcome) or outcome.alert == UNKNOWN_PSK_IDENTITY,
        observed=str(outcome),
        evidence=[capture.path],
    )


@pytest.mark.requirement("CK-01")
def test_cookie_exchange_before_the_server_flight(coap: Coaps, measure: Measure) -> None:
    with measure.packets("cookie") as capture, coap.session() as session:
        session.get("/light")
    seen = measure.only_session(capture, {coap.identity: coap.psk})
    answer = next((flight for flight in seen.flights if not flight.from_client), None)
    alone = answer is not None and answer.messages == ("HelloVerifyRequest",) and answer.datagrams == 1
    measure.check(
        "CK-01",
        "the first ClientHello is answered by one HelloVerifyRequest and nothing else",
        alone and seen.cookie_exchanged,
        observed=f"first answer: {', '.join(answer.messages) if answer else 'none'}; "
        f"cookie exchanged before the ServerHello: {'yes' if seen.cookie_exchanged else 'no'}",
        evidence=[capture.path],
    )


def _refused_as_wrong_key(attempt: Attempt) -> bool:
    return attempt.silent or attempt.alert in REFUSALS_OF_A_WRONG_KEY


def _other_key(psk: bytes) -> bytes:
    return bytes(byte ^ 0x55 or 0xAA for byte in psk)
