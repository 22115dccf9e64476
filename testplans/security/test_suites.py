"""Cipher suites, versions and hello extensions: CS-01 to CS-13."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from rig.coap.probe import (
    HelloAnswer,
    Prober,
    ProbeSession,
    answers,
    attempt,
    first_answer,
    last_answer,
    run_together,
    witness,
)
from rig.coap.probe.hello import server_hello_came
from rig.dtls.alerts import FATAL, Alert
from rig.dtls.client import Client, Refused, Silence, Timers
from rig.dtls.connection import EXTENSIONS, SUITES
from rig.dtls.contents import ApplicationData
from rig.dtls.conversation import Script
from rig.dtls.extensions import (
    EncryptThenMac,
    ExtendedMasterSecret,
    MaxFragmentLength,
    Raw,
    RecordSizeLimit,
    RenegotiationInfo,
    pairs,
)
from rig.dtls.handshake import Extensions
from rig.dtls.outgoing import HandshakeMessage
from rig.dtls.records import DTLS_1_0, DTLS_1_2
from rig.dtls.suites import suite_name
from rig.evidence.declaration import Declaration
from rig.evidence.verdicts import State
from rig.fixtures.measure import Measure

AES_128_CCM_8, RENEGOTIATION_SCSV = SUITES
AES_128_CBC_SHA, AES_128_CBC_SHA256 = 0x008C, 0x00AE
TRIPLE_DES = 0x008B
BROKEN = {
    0x0000: "TLS_NULL_WITH_NULL_NULL",
    0x0002: "TLS_RSA_WITH_NULL_SHA",
    0x002C: "TLS_PSK_WITH_NULL_SHA",
    0x00B0: "TLS_PSK_WITH_NULL_SHA256",
    0x008A: "TLS_PSK_WITH_RC4_128_SHA",
    0x0034: "TLS_DH_anon_WITH_AES_128_CBC_SHA",
    0x0003: "TLS_RSA_EXPORT_WITH_RC4_40_MD5",
    TRIPLE_DES: "TLS_PSK_WITH_3DES_EDE_CBC_SHA",
}
TLS_AES_128_GCM_SHA256 = 0x1301
GREASE_SUITE, GREASE_EXTENSION = 0x0A0A, 0x4A4A
DTLS_1_3 = 0xFEFC
NO_VERSIONS = (0x0000, 0x0101, 0x0303, 0xFFFF)
NO_RENEGOTIATION_YET = b"\0"
NULL_METHOD, DEFLATE = b"\0", b"\1"
HANDSHAKE_FAILURE, ILLEGAL_PARAMETER = 40, 47
PATIENT = Timers(first_s=0.25, give_up_s=1.5)


@pytest.mark.requirement("CS-01")
def test_broken_suites_are_refused(probe: Prober, measure: Measure) -> None:
    with probe.alive():
        found = _each_alone(probe, list(BROKEN))
    taken = [number for number, answer in found.items() if answer.server_hello is not None]
    statement = "offered alone, a suite without encryption or authentication, of export grade, with RC4 or triple DES "
    statement += "gets no ServerHello"
    observed = "; ".join(f"{BROKEN[number]}: {answer}" for number, answer in found.items())
    if taken == [TRIPLE_DES]:
        note = "RFC 9325 4.1 says SHOULD NOT of triple DES"
        return measure.state("CS-01", State.DEVIATION, statement, observed=observed, notes=[note])
    return measure.check("CS-01", statement, not taken, observed=observed)


@pytest.mark.requirement("CS-02")
def test_cbc_only_with_encrypt_then_mac(probe: Prober, measure: Measure) -> None:
    with_etm = EXTENSIONS + pairs(EncryptThenMac())
    with probe.alive():
        found = {
            f"{suite_name(suite)} {'with' if extensions is with_etm else 'without'} encrypt_then_mac offered": _cbc(
                probe, suite, extensions
            )
            for suite in (AES_128_CBC_SHA, AES_128_CBC_SHA256)
            for extensions in (with_etm, EXTENSIONS)
        }
    measure.check(
        "CS-02",
        "a CBC suite is refused, or the ServerHello echoes encrypt_then_mac",
        all(one.met for one in found.values()),
        observed="; ".join(f"{what}: {one.text}" for what, one in found.items()),
    )


@pytest.mark.requirement("CS-03")
def test_aead_is_preferred_to_cbc(probe: Prober, measure: Measure) -> None:
    orders = [(AES_128_CCM_8, AES_128_CBC_SHA256), (AES_128_CBC_SHA256, AES_128_CCM_8)]
    with probe.alive():
        found = answers(probe, [(_client(probe, offered_suites=order), Client.client_hello) for order in orders])
    chosen = [answer.server_hello.suite for answer in found if answer.server_hello is not None]
    measure.check(
        "CS-03",
        "of 0xc0a8 (CCM_8) and 0x00ae (CBC), in either order, the ServerHello selects 0xc0a8",
        chosen == [AES_128_CCM_8] * len(orders),
        observed="; ".join(
            f"{order[0]:#06x}, {order[1]:#06x} offered: {answer}" for order, answer in zip(orders, found, strict=True)
        ),
    )


@pytest.mark.requirement("CS-04")
def test_no_common_suite_gets_handshake_failure(probe: Prober, measure: Measure) -> None:
    client = _client(probe, offered_suites=(TLS_AES_128_GCM_SHA256,))
    with probe.alive():
        answer = probe.run(last_answer(client), client)
    measure.check(
        "CS-04",
        "a ClientHello with a valid cookie and 0x1301 alone gets alert handshake_failure (2, 40)",
        answer.content == Alert(FATAL, HANDSHAKE_FAILURE),
        observed=str(answer),
    )


@pytest.mark.requirement("CS-05")
def test_dtls_1_0_is_refused(probe: Prober, measure: Measure) -> None:
    client = _client(probe)
    client.version = DTLS_1_0
    with probe.alive():
        answer = probe.run(last_answer(client, lambda same: same.client_hello(version=DTLS_1_0)), client)
    measure.check(
        "CS-05",
        "a ClientHello of client_version 0xfeff gets no ServerHello",
        answer.server_hello is None,
        observed=str(answer),
    )


@pytest.mark.requirement("CS-06")
def test_a_newer_client_is_answered_with_1_2(probe: Prober, measure: Measure) -> None:
    client = _client(probe)
    with probe.alive():
        answer = probe.run(last_answer(client, lambda same: same.client_hello(version=DTLS_1_3)), client)
    measure.check(
        "CS-06",
        "a ClientHello of client_version 0xfefc without supported_versions gets a ServerHello of 0xfefd",
        answer.server_hello is not None and answer.server_hello.version == DTLS_1_2,
        observed=str(answer),
    )


@pytest.mark.requirement("CS-07")
def test_versions_that_do_not_exist_do_no_harm(probe: Prober, measure: Measure) -> None:
    with probe.alive(), witness(probe) as harm:
        found = [
            _of_versions(probe, "record and hello", [(version, version) for version in NO_VERSIONS], harm),
            _of_versions(probe, "hello", [(DTLS_1_2, version) for version in NO_VERSIONS], harm),
        ]
    measure.check(
        "CS-07",
        "a ClientHello without a cookie of a version that does not exist gets no ServerHello and does no harm",
        all(one.met for one in found),
        observed="; ".join(one.text for one in found),
    )


@pytest.mark.requirement("CS-08")
def test_no_compression(probe: Prober, measure: Measure) -> None:
    offers = [DEFLATE + NULL_METHOD, DEFLATE]
    with probe.alive():
        both, only = answers(probe, [(_client(probe), _hello_with(compression=methods)) for methods in offers])
    selected = both.server_hello.compression if both.server_hello is not None else None
    measure.check(
        "CS-08",
        "of DEFLATE and null compression the ServerHello selects null, and DEFLATE alone gets no ServerHello",
        selected == 0 and only.server_hello is None,
        observed=f"DEFLATE and null offered: {both}, compression method {selected}; DEFLATE alone: {only}",
    )


@pytest.mark.requirement("CS-09")
def test_the_extended_master_secret_is_used(probe: Prober, measure: Measure) -> None:
    offered = _asked(probe, _client(probe, hello_extensions=pairs(ExtendedMasterSecret())))
    without = _asked(probe, _client(probe, hello_extensions=None))
    probe.prove_alive()
    measure.check(
        "CS-09",
        "offered the extended master secret, the device echoes it and completes the handshake with it",
        offered.completed and ExtendedMasterSecret.number in offered.extensions,
        observed=f"offered: {offered.text}, extensions in the ServerHello: {offered.names}",
        notes=[f"without the extension: {without.text}"],
    )


@pytest.mark.requirement("CS-10")
def test_secure_renegotiation_is_signalled(probe: Prober, measure: Measure) -> None:
    client = _client(probe)
    with probe.alive():
        answer = probe.run(last_answer(client), client)
    data = dict(answer.server_hello.extensions or ()).get(RenegotiationInfo.number) if answer.server_hello else None
    measure.check(
        "CS-10",
        "a ClientHello with 0x00ff among its suites gets renegotiation_info of one zero byte",
        data == NO_RENEGOTIATION_YET,
        observed=f"{answer}; renegotiation_info: {data.hex() if data is not None else 'none'}",
    )


@pytest.mark.requirement("CS-11")
def test_unknown_suites_and_extensions_are_ignored(probe: Prober, measure: Measure) -> None:
    extensions = pairs(Raw(GREASE_EXTENSION, b"\0\1\2\3"), ExtendedMasterSecret())
    came = _asked(probe, _client(probe, offered_suites=(GREASE_SUITE, AES_128_CCM_8), hello_extensions=extensions))
    probe.prove_alive()
    measure.check(
        "CS-11",
        "a handshake whose ClientHello has suite 0x0a0a and extension 0x4a4a too completes and carries a request",
        came.completed and GREASE_EXTENSION not in came.extensions,
        observed=f"{came.text}, extensions in the ServerHello: {came.names}",
    )


@pytest.mark.requirement("CS-12")
def test_an_accepted_record_size_is_kept(probe: Prober, dut: Declaration, measure: Measure) -> None:
    large = dut.resource("GET", blockwise=True)
    path = large.path if large else probe.life
    fragment_length = _limited(probe, path, pairs(MaxFragmentLength(1)), 512)
    record_sizes = [_limited(probe, path, pairs(RecordSizeLimit(limit)), limit) for limit in (64, 128, 512)]
    found = [fragment_length, *record_sizes, _both_limits(probe)]
    if any(one.echoed for one in record_sizes):
        found.append(_too_small_a_limit(probe))
    probe.prove_alive()
    observed = "; ".join(one.text for one in found)
    statement = "a limit that is echoed is kept in every record, and one kind of limit is echoed at most"
    if not any(one.echoed for one in found):
        return measure.state("CS-12", State.NOT_SUPPORTED, statement, observed=observed)
    return measure.check("CS-12", statement, all(one.met for one in found), observed=observed)


@pytest.mark.requirement("CS-13")
def test_malformed_extensions_are_refused(probe: Prober, measure: Measure) -> None:
    twice = pairs(ExtendedMasterSecret(), ExtendedMasterSecret())
    with probe.alive(), witness(probe) as harm:
        found = {
            "extended_master_secret twice": _malformed(probe, _hello_with(extensions=twice), harm),
            "an extension's length past the end": _malformed(probe, _overrunning_extension, harm),
        }
    measure.check(
        "CS-13",
        "a ClientHello with an extension twice, or one longer than the message, gets no ServerHello and does no harm",
        all(one.met for one in found.values()),
        observed="; ".join(f"{what}: {one.text}" for what, one in found.items()),
    )


@dataclass(frozen=True)
class Tried:
    """What one hello or handshake of a kind came to."""

    met: bool
    text: str
    echoed: bool = False


@dataclass(frozen=True)
class Came:
    """What a handshake and a request came to."""

    completed: bool
    text: str
    extensions: tuple[int, ...]

    @property
    def names(self) -> str:
        """The ServerHello's extensions by number."""
        return ", ".join(f"{number:#06x}" for number in self.extensions) or "none"


def _client(
    probe: Prober,
    *,
    offered_suites: tuple[int, ...] = (AES_128_CCM_8,),
    hello_extensions: Extensions | None = EXTENSIONS,
) -> Client:
    """Return a client with nothing in its hello for which it might be refused, other than what is asked for."""
    client = probe.client(offered_suites=(*offered_suites, RENEGOTIATION_SCSV), hello_extensions=hello_extensions)
    client.timers = PATIENT
    return client


def _hello_with(**changes: Any) -> Callable[[Client], HandshakeMessage]:
    return lambda client: client.client_hello(**changes)


def _each_alone(probe: Prober, suites: Sequence[int]) -> dict[int, HelloAnswer]:
    offers = [(_client(probe, offered_suites=(number,)), Client.client_hello) for number in suites]
    return dict(zip(suites, answers(probe, offers), strict=True))


def _cbc(probe: Prober, suite: int, extensions: Extensions) -> Tried:
    outcome = attempt(probe, client := _client(probe, offered_suites=(suite,), hello_extensions=extensions))
    if outcome.session is not None:
        outcome.session.close()
    hello = client.server_hello
    if hello is None:
        return Tried(True, outcome.text)
    echo = f"encrypt_then_mac {'echoed' if hello.encrypt_then_mac else 'not echoed'}"
    return Tried(hello.encrypt_then_mac, f"{outcome.text}, {echo}")


def _of_versions(probe: Prober, where: str, versions: Sequence[tuple[int, int]], harm: Callable[[], str]) -> Tried:
    """Say hello in versions of record and hello, all at once, and look what harm that does."""
    wires = [probe.wire() for _ in versions]
    scripts = [_hello_of(_client(probe), record, hello) for record, hello in versions]
    found = run_together(list(zip(wires, scripts, strict=True)))
    harmed = harm()
    # A record of such a version is no record to the client that would read it.
    came = ["a ServerHello" if server_hello_came(wire) else str(one) for wire, one in zip(wires, found, strict=True)]
    texts = [f"{hello:#06x}: {text}" for (_, hello), text in zip(versions, came, strict=True)]
    met = not harmed and not any(server_hello_came(wire) for wire in wires)
    return Tried(met, f"in {where}: {', '.join(texts)}{f'; then {harmed}' if harmed else ''}")


def _hello_of(client: Client, record: int, hello: int) -> Script[HelloAnswer]:
    client.version = record
    return first_answer(client, _hello_with(version=hello))


def _asked(probe: Prober, client: Client) -> Came:
    outcome = attempt(probe, client)
    extensions = tuple(number for number, _ in client.server_hello.extensions or ()) if client.server_hello else ()
    if outcome.session is None:
        return Came(False, outcome.text, extensions)
    answer = _answered(outcome.session, probe.life)
    outcome.session.close()
    return Came(answer == "2.05", f"{outcome.text}, GET {probe.life} {answer}", extensions)


def _answered(session: ProbeSession, path: str) -> str:
    try:
        return session.get(path).code_text
    except (Silence, Refused) as error:
        return str(error)


def _limited(probe: Prober, path: str, extensions: Extensions, limit_bytes: int) -> Tried:
    """Offer a limit and, where it is echoed, make requests and look at the largest protected record."""
    (number, _), *_ = extensions
    name = f"{_limit_name(number)} of {limit_bytes} bytes"
    outcome = attempt(probe, client := _client(probe, hello_extensions=EXTENSIONS + extensions))
    if outcome.session is None:
        return Tried(False, f"{name} offered: {outcome.text}")
    if not _echoed(client, number):
        outcome.session.close()
        return Tried(True, f"{name} not echoed")
    asked = [f"GET {each} {_answered(outcome.session, each)}" for each in (probe.life, path)]
    outcome.session.close()
    sizes = [len(one.content.data) for one in client.seen if isinstance(one.content, ApplicationData)]
    text = f"{name} echoed, {', '.join(asked)}, largest record {max(sizes, default=0)} bytes of plaintext"
    return Tried(0 < max(sizes, default=0) <= limit_bytes, text, echoed=True)


def _both_limits(probe: Prober) -> Tried:
    """RFC 8449 5: a server that supports record_size_limit must ignore max_fragment_length beside it."""
    both = pairs(MaxFragmentLength(1), RecordSizeLimit(512))
    outcome = attempt(probe, client := _client(probe, hello_extensions=EXTENSIONS + both))
    if outcome.session is not None:
        outcome.session.close()
    echoed = [_limit_name(number) for number, _ in both if _echoed(client, number)]
    return Tried(len(echoed) < 2, f"both offered: {' and '.join(echoed) or 'none'} echoed", echoed=bool(echoed))


def _too_small_a_limit(probe: Prober) -> Tried:
    client = _client(probe, hello_extensions=EXTENSIONS + pairs(RecordSizeLimit(63)))
    answer = probe.run(last_answer(client), client)
    return Tried(answer.content == Alert(FATAL, ILLEGAL_PARAMETER), f"record_size_limit 63 offered: {answer}")


def _echoed(client: Client, number: int) -> bool:
    return client.server_hello is not None and number in dict(client.server_hello.extensions or ())


def _limit_name(number: int) -> str:
    return "max_fragment_length" if number == MaxFragmentLength.number else "record_size_limit"


def _malformed(probe: Prober, hello: Callable[[Client], HandshakeMessage], harm: Callable[[], str]) -> Tried:
    client = _client(probe)
    answer = probe.run(last_answer(client, hello), client)
    harmed = harm()
    return Tried(answer.server_hello is None and not harmed, harmed or str(answer))


def _overrunning_extension(client: Client) -> HandshakeMessage:
    """Say of the last extension, which has no data, that it has 255 bytes."""
    message = client.client_hello(extensions=pairs(ExtendedMasterSecret()))
    return replace(message, body=message.body[:-2] + b"\0\xff")
