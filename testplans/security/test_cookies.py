"""The cookie exchange, and what a stranger costs before it: CK-01, CK-02, CK-04 to CK-09. CK-03 is a timing test."""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

import pytest

from rig.bench.bench import Bench
from rig.coap.probe import HelloAnswer, Prober, Wire, first_answer, last_answer, leave, witness
from rig.dtls.alerts import Alert
from rig.dtls.client import Client, Timers
from rig.dtls.conversation import Script
from rig.dtls.handshake import HelloVerifyRequest
from rig.dtls.outgoing import HandshakeMessage
from rig.evidence.declaration import Declaration
from rig.evidence.verdicts import State
from rig.fixtures.measure import Measure

AES_128_CCM_8, AES_128_CCM, AES_256_CCM_8, RENEGOTIATION_SCSV = 0xC0A8, 0xC0A4, 0xC0A9, 0x00FF
LENGTH_OF_COOKIE_AT = 35
"""In a ClientHello without a session id: after version (2), random (32) and the session id's length (1)."""
LISTEN_S = 1.5
"""How long is listened for more than the one answer: a flight's first retransmission comes within it."""
PATIENT = Timers(first_s=0.25, give_up_s=1.5)
AMPLIFICATION_GOOD, AMPLIFICATION_MAX = 1.0, 3.0
RECORD = 7
PORTS = 200
STRANGERS = 16
"""Few: a small device lets nobody in for a while when more have not come back."""
HEAP_NOISE_BYTES = 64
"""What the heap may differ by for each stranger: less than any record of one."""


@pytest.mark.requirement("CK-01", "CK-02")
def test_a_stranger_gets_a_hello_verify_request_and_nothing_else(probe: Prober, measure: Measure) -> None:
    with probe.alive():
        client = probe.client(offered_suites=(AES_128_CCM_8,), hello_extensions=None)
        probe.run(_once(client), client)
    sent, came = (sum(len(each.datagram or b"") for each in way) for way in (client.sent, client.received))
    names = [each.name for each in client.seen]
    measure.check(
        "CK-01",
        "a ClientHello without a cookie from a new port is answered by one HelloVerifyRequest and nothing else",
        names == ["HelloVerifyRequest"] and len(client.received) == 1,
        observed=f"within {LISTEN_S:g} s came {', '.join(names) or 'nothing'} in {len(client.received)} datagrams",
    )
    measure.check(
        "CK-02",
        "an unverified client is sent at most three times the bytes that it sent",
        came <= AMPLIFICATION_MAX * sent,
        observed=f"a ClientHello of {sent} bytes was answered with {came} bytes within {LISTEN_S:g} s, "
        f"{came / sent:.2f} times{', no amplification' if came <= AMPLIFICATION_GOOD * sent else ''}",
    )


@pytest.mark.requirement("CK-04")
def test_a_cookie_is_worth_nothing_at_another_address(bench: Bench, probe: Prober, measure: Measure) -> None:
    with probe.alive():
        if not _asks_for_cookies("CK-04", probe, measure):
            return
        other_port = _replayed(probe, probe.wire(), probe.wire())
        other_host = _from_another_host(bench, probe)
    judged = [other_port, *([other_host] if other_host else [])]
    measure.check(
        "CK-04",
        "a ClientHello with the cookie of another port or address gets no ServerHello",
        all(_is_not_believed(answer) for answer in judged),
        observed=f"cookie and ClientHello of one port sent from a second port: {other_port}"
        + (f"; of one address sent from a second address, same port: {other_host}" if other_host else ""),
        notes=[] if other_host else ["a second address was not judged: the rig has one on the device's network"],
    )


@pytest.mark.requirement("CK-05")
def test_a_cookie_is_worth_nothing_for_another_hello(probe: Prober, measure: Measure) -> None:
    with probe.alive():
        if not _asks_for_cookies("CK-05", probe, measure):
            return
        random = _with_changed_hello(probe, random=secrets.token_bytes(32))
        suites = _with_changed_hello(probe, suites=(AES_128_CCM_8, AES_128_CCM, AES_256_CCM_8, RENEGOTIATION_SCSV))
    measure.check(
        "CK-05",
        "a cookie that comes back with another random or another suite list gets no ServerHello",
        _is_not_believed(random) and _is_not_believed(suites),
        observed=f"with another random: {random}; with another suite list: {suites}",
    )


@pytest.mark.requirement("CK-06")
def test_a_wrong_cookie_is_no_cookie(probe: Prober, measure: Measure) -> None:
    if not _asks_for_cookies("CK-06", probe, measure):
        return
    tried = {}
    with probe.alive(), witness(probe) as harm:
        for size in (1, 32, 255):
            tried[f"{size} random bytes"] = _with_cookie(probe, secrets.token_bytes(size), harm)
        tried["a length past the end of the message"] = _with_badly_framed_cookie(probe, harm)
    measure.check(
        "CK-06",
        "a ClientHello with a wrong or badly framed cookie is treated as one without, or dropped, and does no harm",
        all(one.met for one in tried.values()),
        observed="; ".join(f"{what}: {one.text}" for what, one in tried.items()),
    )


@pytest.mark.requirement("CK-07")
def test_cookies_differ_and_do_not_outlive_a_restart(bench: Bench, probe: Prober, measure: Measure) -> None:
    with probe.alive():
        if not _asks_for_cookies("CK-07", probe, measure):
            return
        cookies = _cookies_of_ports(probe)
    after = _cookie_of_before_a_restart(bench, probe) if bench.board is not None else None
    sizes = sorted({len(cookie) for cookie in cookies})
    measure.check(
        "CK-07",
        "the cookies of all ports differ, and one from before a restart brings no ServerHello after it",
        len(set(cookies)) == PORTS and (after is None or _is_not_believed(after)),
        observed=f"{len(set(cookies))} different cookies of {' or '.join(map(str, sizes))} bytes for ClientHellos from "
        f"{PORTS} ports" + (f"; one of before the restart, after it: {after}" if after else ""),
        notes=[] if after else ["a restart was not judged: the bench has no board to reset"],
    )


@pytest.mark.requirement("CK-08")
def test_the_answer_has_the_hellos_record_number(probe: Prober, measure: Measure) -> None:
    with probe.alive():
        client, wire = _client(probe), probe.wire()
        client.sequences[0] = RECORD
        answer = _left(probe, client, wire, probe.run(first_answer(client), client, wire))
    request = answer.content
    if not isinstance(request, HelloVerifyRequest):
        return measure.state("CK-08", State.NOT_SUPPORTED, "the device asks for a cookie", observed=str(answer))
    sent = range(RECORD, RECORD + len(client.sent))
    return measure.check(
        "CK-08",
        f"the HelloVerifyRequest to a ClientHello in record {RECORD} is in record {RECORD}",
        answer.sequence in sent,
        observed=f"record {' or '.join(map(str, sent))} was answered in record {answer.sequence}; server_version of "
        f"the HelloVerifyRequest is {request.version:#06x}",
        notes=["RFC 6347 4.2.1 asks for server_version 0xfeff, whatever version is negotiated; told, not judged"],
    )


@pytest.mark.requirement("CK-09")
def test_strangers_leave_no_memory_allocated(probe: Prober, dut: Declaration, measure: Measure) -> None:
    if dut.figures is None or dut.figures.free_heap_bytes is None:
        pytest.skip("the device does not tell its free heap (declaration: figures.free_heap_bytes)")
    with probe.session() as session:
        heap = [_figure(session.get(dut.figures.path).payload, dut.figures.free_heap_bytes) for _ in range(2)]
        strangers = [_stranger(probe) for _ in range(STRANGERS)]
        heap.append(_figure(session.get(dut.figures.path).payload, dut.figures.free_heap_bytes))
    for client, wire in strangers:
        # Those who were given a cookie bring it back and leave, so that the device need not wait for them.
        probe.run(last_answer(client) if client.cookie else leave(client), client, wire)
        wire.close()
    died = probe.died()
    each_bytes = (heap[1] - heap[2]) / STRANGERS
    measure.check(
        "CK-09",
        "ClientHellos without a cookie leave no memory allocated, and a handshake succeeds after them",
        each_bytes <= HEAP_NOISE_BYTES and not died,
        observed=f"free heap {heap[1]} bytes before and {heap[2]} after ClientHellos without a cookie from {STRANGERS} "
        f"ports, {each_bytes:.0f} bytes each; {died or 'a handshake succeeded afterwards'}",
    )


@dataclass(frozen=True)
class Tried:
    """What a wrong cookie did."""

    met: bool
    text: str


def _once(client: Client) -> Script[None]:
    """Say hello once and listen."""
    yield from client.send(client.client_hello())
    yield from client.listen(LISTEN_S)


def _is_not_believed(answer: HelloAnswer) -> bool:
    return answer.server_hello is None and not isinstance(answer.content, Alert)


def _asks_for_cookies(requirement: str, probe: Prober, measure: Measure) -> bool:
    """Return whether there are cookies at all to judge; none is CK-01's finding, and the verdict here says so."""
    client, wire = _client(probe), probe.wire()
    answer = probe.run(first_answer(client), client, wire)
    if isinstance(answer.content, HelloVerifyRequest):
        probe.run(last_answer(client), client, wire)
        return True
    _left(probe, client, wire, answer)
    measure.state(requirement, State.NOT_SUPPORTED, "the device asks for a cookie", observed=str(answer))
    return False


def _client(probe: Prober) -> Client:
    client = probe.client()
    client.timers = PATIENT
    return client


def _replayed(probe: Prober, first: Wire, second: Wire) -> HelloAnswer:
    """Return what the ClientHello with the first wire's cookie gets on the second."""
    client = _client(probe)
    probe.run(first_answer(client), client, first)
    return _left(probe, client, second, probe.run(first_answer(client), client, second))


def _left(probe: Prober, client: Client, wire: Wire, answer: HelloAnswer) -> HelloAnswer:
    if answer.server_hello is not None:
        probe.run(leave(client), client, wire)
    return answer


def _from_another_host(bench: Bench, probe: Prober) -> HelloAnswer | None:
    """Replay a cookie from a second address of the rig, past the router, which has one address for all its clients.

    None where no second address is at hand; on the loopback network all are.
    """
    device = bench.address()
    try:
        if not ip_address(device[0]).is_loopback:
            return None
    except ValueError:
        return None
    first = probe.wire(to=device, host="127.0.0.1")
    return _replayed(probe, first, probe.wire(to=device, host="127.0.0.2", port=first.local[1]))


def _with_changed_hello(probe: Prober, **changes: Any) -> HelloAnswer:
    """Return what the cookie of one ClientHello gets with another."""
    client, wire = _client(probe), probe.wire()
    probe.run(first_answer(client), client, wire)
    answer = probe.run(first_answer(client, lambda same: same.client_hello(**changes)), client, wire)
    return _left(probe, client, wire, answer)


def _with_cookie(probe: Prober, cookie: bytes, harm: Callable[[], str]) -> Tried:
    client, wire = _client(probe), probe.wire()
    answer = probe.run(first_answer(client, lambda same: same.client_hello(cookie=cookie)), client, wire)
    harmed = harm()
    return Tried(_is_not_believed(answer) and not harmed, harmed or str(answer))


def _with_badly_framed_cookie(probe: Prober, harm: Callable[[], str]) -> Tried:
    """Say that the cookie has 255 bytes where the message ends before. An alert refuses the message, as it may."""
    client, wire = _client(probe), probe.wire()
    answer = probe.run(first_answer(client, _badly_framed), client, wire)
    harmed = harm()
    return Tried(answer.server_hello is None and not harmed, harmed or str(answer))


def _badly_framed(client: Client) -> HandshakeMessage:
    message = client.client_hello(cookie=b"")
    body = bytearray(message.body)
    body[LENGTH_OF_COOKIE_AT] = 0xFF
    return replace(message, body=bytes(body))


def _cookies_of_ports(probe: Prober) -> Sequence[bytes]:
    """Return the cookies of as many ports. Each client comes back with its cookie and leaves, so that none is kept."""
    endpoint, cookies = probe.endpoint, []
    # All are open at once: a port that is closed may be drawn again.
    wires = [probe.wire(to=endpoint) for _ in range(PORTS)]
    for wire in wires:
        client = _client(probe)
        probe.run(first_answer(client), client, wire)
        cookies.append(client.cookie)
        probe.run(last_answer(client), client, wire)
    for wire in wires:
        wire.close()
    return cookies


def _cookie_of_before_a_restart(bench: Bench, probe: Prober) -> HelloAnswer:
    client, wire = _client(probe), probe.wire()
    probe.run(first_answer(client), client, wire)
    bench.reset()
    with probe.alive():
        return _left(probe, client, wire, probe.run(first_answer(client), client, wire))


def _stranger(probe: Prober) -> tuple[Client, Wire]:
    """Say hello from a new port, and leave the answer alone."""
    client, wire = _client(probe), probe.wire()
    probe.run(first_answer(client), client, wire)
    return client, wire


def _figure(body: bytes, key: str) -> int:
    return int(json.loads(body)[key])
