"""Handshakes that are lost, doubled, out of order, in pieces or wrong: HS-03 to HS-16.

HS-01, HS-02 and HS-17 take their time and are in test_timing; HS-18 is in resilience/test_loss.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from rig.coap.probe import Prober, ProbeSession, request
from rig.dtls import suites
from rig.dtls.alerts import FATAL, Alert
from rig.dtls.client import Client, Refused, Silence, Timers
from rig.dtls.coap import GET
from rig.dtls.connection import EXTENSIONS
from rig.dtls.contents import ApplicationData, Finished, ServerHelloDone
from rig.dtls.conversation import Script, Send, Wait
from rig.dtls.extensions import RenegotiationInfo, pairs
from rig.dtls.handshake import HandshakeType, HelloVerifyRequest, ServerHello
from rig.dtls.outgoing import Content, HandshakeMessage, Piece, spoiled
from rig.dtls.record_layer import Keys
from rig.dtls.records import ContentType
from rig.errors import DeviceError
from rig.evidence.declaration import Declaration, Figures
from rig.fixtures.measure import Measure

ANSWER_S = 2.0
"""How long the device may take for its next flight. It may repeat its own meanwhile; the client repeats nothing."""
ASKED = 3
SILENCE_S = 1.0
NORMAL_S = 3.0
"""How long the handshake of a client that has come back is waited for."""
FLIGHTS = 3  # ClientHello, ClientHello with the cookie, ClientKeyExchange to Finished
INTERNAL_ERROR, NO_RENEGOTIATION = 80, 100
REFUSALS_OF_A_WRONG_FINISHED = (40, 51)
HEAP_TOLERANCE_BYTES = 16_384
LAST_OF_24_BITS = 2**24 - 1

Trial = Callable[[Client], Script[None]]
"""Goes on with a handshake as far as the device does; raises `Silence` or `Refused` where it does not."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. ``alert`` is what the device ended it with, if it did."""

    completed: bool
    how: str
    alert: Alert | None = None

    def __str__(self) -> str:
        return self.how


@pytest.mark.requirement("HS-03")
def test_lost_last_flight_comes_again(probe: Prober, measure: Measure) -> None:
    outcomes = _outcomes(probe, 1, {"the client's flight repeated": partial(_miss_last_flight, probe)})
    statement = "the last flight comes again when the client repeats its own, and the session carries a request"
    _all_complete(measure, "HS-03", statement, outcomes)


@pytest.mark.requirement("HS-04")
def test_doubled_flight_leads_to_one_session(probe: Prober, dut: Declaration, measure: Measure) -> None:
    figures = dut.figures if dut.figures and dut.figures.handshakes else None
    with probe.session() as witness:
        before = _figure(witness, figures, "handshakes")
        outcomes = _outcomes(probe, 1, {"flight sent twice": partial(_send_flight_twice, probe)})
        after = _figure(witness, figures, "handshakes")
    counted = None if before is None or after is None else after - before
    measure.check(
        "HS-04",
        "a flight that comes twice leads to one session, which carries a request",
        outcomes["flight sent twice"].completed and counted in (None, 1),
        observed=f"{_told(outcomes)}; the device counts "
        f"{'nothing' if counted is None else f'{counted} completed handshakes'}",
        evidence=[_facts(measure, outcomes)],
    )


@pytest.mark.requirement("HS-05")
def test_reordered_flight_leads_to_a_session(probe: Prober, dut: Declaration, measure: Measure) -> None:
    orders = {
        "Finished, ClientKeyExchange, ChangeCipherSpec": (2, 0, 1),
        "ChangeCipherSpec, ClientKeyExchange, Finished": (1, 0, 2),
    }
    trials = {name: partial(_send_in_order, order) for name, order in orders.items()}
    outcomes = _outcomes(probe, dut.dtls.handshakes, trials)
    _all_complete(measure, "HS-05", "a flight in another order completes the handshake, sent once", outcomes)


@pytest.mark.requirement("HS-06")
def test_fragmented_hello_is_put_together(probe: Prober, dut: Declaration, measure: Measure) -> None:
    trials = {f"fragments of {size} bytes": partial(_hello_in_pieces, size) for size in (60, 20, 1)}
    outcomes = _outcomes(probe, dut.dtls.handshakes, trials)
    _all_complete(measure, "HS-06", "a ClientHello in fragments is answered by the server's flight", outcomes)


@pytest.mark.requirement("HS-07")
def test_fragmented_key_exchange_is_put_together(probe: Prober, dut: Declaration, measure: Measure) -> None:
    trials: dict[str, Trial] = {
        "in order": partial(_key_exchange_in_pieces, lambda message: message.pieces(3)),
        "in reverse": partial(_key_exchange_in_pieces, lambda message: message.pieces(3)[::-1]),
        "overlapping": partial(_key_exchange_in_pieces, lambda message: message.pieces(3, 2)),
    }
    outcomes = _outcomes(probe, dut.dtls.handshakes, trials)
    _all_complete(measure, "HS-07", "a ClientKeyExchange in fragments of 3 bytes completes the handshake", outcomes)


@pytest.mark.requirement("HS-08")
def test_contradictory_fragments_do_no_harm(probe: Prober, dut: Declaration, measure: Measure) -> None:
    trials: dict[str, Trial] = {
        "past the total": partial(_contradict, _past_the_total),
        "total of 2^24 - 1": partial(_contradict, _huge),
        "totals that differ": partial(_contradict, _of_two_totals),
    }
    deaths: dict[str, str] = {}
    outcomes: dict[str, Outcome] = {}
    with probe.session() as witness:
        before = _told_figures(witness, dut.figures)
        for name, trial in trials.items():
            outcomes |= _outcomes(probe, 1, {name: trial})
            deaths[name] = probe.died()
        gone = _asked_in_vain(witness, probe)
        after = before if gone else _told_figures(witness, dut.figures)
    restarted = before.get("boot_count") != after.get("boot_count")
    lost_bytes = before.get("free_heap", 0) - after.get("free_heap", 0)
    dead = [name for name, why in deaths.items() if why]
    measure.check(
        "HS-08",
        "contradictory fragments reset nothing, cost no memory, and the device is alive after each",
        not dead and not gone and not restarted and lost_bytes <= HEAP_TOLERANCE_BYTES,
        observed=f"{', '.join(trials)}: not alive after {', '.join(dead) or 'none'}; a session from before "
        f"{'is gone' if gone else 'goes on'}; {lost_bytes} bytes of heap less",
        evidence=[_facts(measure, outcomes)],
    )


@pytest.mark.requirement("HS-09")
def test_wrong_message_numbers_are_not_accepted(probe: Prober, dut: Declaration, measure: Measure) -> None:
    trials: dict[str, Trial] = {"first ClientHello 255": _begin_at_255, "gap of one in the flight": _leave_a_gap}
    outcomes = _outcomes(probe, dut.dtls.handshakes, trials)
    _none_completes(probe, measure, "HS-09", "a handshake with a wrong message number does not complete", outcomes)


@pytest.mark.requirement("HS-10")
def test_hello_of_epoch_1_is_ignored(probe: Prober, measure: Measure) -> None:
    client = probe.client()
    with probe.alive():
        probe.run(_hello_of_epoch_1(client), client)
    came = [one.name for one in client.seen]
    measure.check(
        "HS-10",
        "a ClientHello of epoch 1 that belongs to no session is not answered, between two proofs of life",
        not came,
        observed=f"came in {SILENCE_S:g} s: {', '.join(came) or 'nothing'}",
        evidence=[measure.facts("epoch-1", {"came": came})],
    )


@pytest.mark.requirement("HS-11")
def test_no_application_data_before_finished(probe: Prober, measure: Measure) -> None:
    client = probe.client()
    with probe.alive():
        probe.run(_ask_without_finished(client, probe), client)
    came = [one.name for one in client.seen]
    answered = any(isinstance(one.content, ApplicationData) for one in client.seen)
    measure.check(
        "HS-11",
        "a request behind ClientKeyExchange and ChangeCipherSpec, without Finished, is not answered",
        not answered,
        observed=f"came: {', '.join(dict.fromkeys(came))}",
        evidence=[measure.facts("before-finished", {"came": came})],
    )


@pytest.mark.requirement("HS-12")
def test_messages_out_of_turn_give_no_session(probe: Prober, dut: Declaration, measure: Measure) -> None:
    trials: dict[str, Trial] = {
        "Finished without ClientKeyExchange": _without_key_exchange,
        "early ChangeCipherSpec, keys of an empty master secret": _early_change_cipher_spec,
        "Certificate in a PSK handshake": _with_certificate,
        "two ClientKeyExchanges": _two_key_exchanges,
    }
    outcomes = _outcomes(probe, dut.dtls.handshakes, trials)
    _none_completes(probe, measure, "HS-12", "a handshake with messages out of turn gives no session", outcomes)


@pytest.mark.requirement("HS-13")
def test_wrong_finished_is_refused(probe: Prober, measure: Measure) -> None:
    name = "one bit of verify_data changed"
    outcome = _outcomes(probe, 1, {name: _wrong_finished})[name]
    died = probe.died()
    expected = outcome.alert is None or outcome.alert.description in REFUSALS_OF_A_WRONG_FINISHED
    measure.check(
        "HS-13",
        "a wrong Finished ends the handshake with alert 40 or 51, or in silence",
        not outcome.completed and expected and not died,
        observed=f"{outcome}{f'; {died}' if died else ''}",
        evidence=[_facts(measure, {name: outcome})],
    )


@pytest.mark.requirement("HS-14")
def test_session_survives_a_strangers_hello(probe: Prober, measure: Measure) -> None:
    stranger = probe.client()
    with probe.session() as session:
        before = len(session.client.seen)
        session.run(session.client.send(stranger.datagram(stranger.client_hello())))
        silent = _asked_in_vain(session, probe)
        came = [one.name for one in session.client.seen[before:]]
    measure.check(
        "HS-14",
        "a ClientHello without a cookie on a session's addresses does not end it: the next request is answered",
        not silent,
        observed=f"came: {', '.join(came) or 'nothing'}{f'; {silent}' if silent else ''}",
        evidence=[measure.facts("stranger", {"came": came})],
    )


@pytest.mark.requirement("HS-15")
def test_restarted_client_comes_back_on_the_same_port(probe: Prober, measure: Measure) -> None:
    client = probe.client()
    client.timers = Timers(give_up_s=NORMAL_S)
    with probe.session() as session:
        session.get(probe.life)
        outcome = session.run(_outcome(client, _shake_hands))
    assert isinstance(outcome, Outcome)
    measure.check(
        "HS-15",
        "a client that begins anew on the port of its lost session gets a new one without repeating a flight",
        outcome.completed and len(client.sent) <= FLIGHTS + 1,
        observed=f"{outcome}, after {len(client.sent) - 1} flights",
        evidence=[measure.facts("same-port", {"flights": len(client.sent) - 1, "ended": outcome.how})],
    )


@pytest.mark.requirement("HS-16")
def test_renegotiation_is_refused(probe: Prober, measure: Measure) -> None:
    with probe.session() as session:
        client, before = session.client, len(session.client.seen)
        info = RenegotiationInfo(client.client_verify_data)
        client.begin()
        session.run(client.send(client.client_hello(extensions=(*EXTENSIONS, *pairs(info)))))
        silent = _asked_in_vain(session, probe)
        came = session.client.seen[before:]
    taken_up = any(isinstance(one.content, HelloVerifyRequest | ServerHello) for one in came)
    measure.check(
        "HS-16",
        "a ClientHello inside a session is refused, and the next request is answered",
        not taken_up and not silent,
        observed=f"came: {', '.join(one.name for one in came) or 'nothing'}{f'; {silent}' if silent else ''}",
        evidence=[measure.facts("renegotiation", {"came": [one.name for one in came]})],
    )


# --- trials ---------------------------------------------------------------------------------------------------------


def _shake_hands(client: Client) -> Script[None]:
    yield from client.handshake()


def _miss_last_flight(probe: Prober, client: Client) -> Script[None]:
    yield from client.hello()
    flight = client.last_flight()
    yield from client.send(*flight)
    yield from client.expect(Finished, within_s=ANSWER_S)  # which is lost, as far as the device can tell
    yield from client.send(*flight)
    end_s = (yield Send()).t_s + ANSWER_S
    while not any(one.repeated and isinstance(one.content, Finished) for one in client.seen):
        moment = yield Wait(max(0.0, end_s - (yield Send()).t_s))
        if moment.datagram is None:
            raise Silence("the last flight did not come again")
        client.receive(moment.t_s, moment.datagram)
    yield from _carry_request(probe, client)


def _send_flight_twice(probe: Prober, client: Client) -> Script[None]:
    yield from client.hello()
    flight = client.last_flight()
    yield from client.send(*flight)
    yield from client.send(*flight)
    yield from client.expect(Finished, within_s=ANSWER_S)
    yield from _carry_request(probe, client)


def _carry_request(probe: Prober, client: Client) -> Script[None]:
    """Ask more than once: an answer that waits for the next datagram is REC-11's affair."""
    asked = request(GET, probe.life).encode()
    for _ in range(ASKED):
        try:
            yield from client.ask(asked, within_s=ANSWER_S / ASKED)
            return
        except Silence:
            continue
    raise Silence("the session carries no request")


def _send_in_order(order: tuple[int, ...], client: Client) -> Script[None]:
    yield from client.hello()
    flight = client.last_flight()
    yield from client.send_each(*(flight[at] for at in order))
    yield from client.expect(Finished, within_s=ANSWER_S)


def _hello_in_pieces(size: int, client: Client) -> Script[None]:
    answer = yield from client.flight(client.client_hello(), until=(HelloVerifyRequest, ServerHelloDone))
    if isinstance(answer, ServerHelloDone):  # it asks for no cookie, so that the hello in pieces is a first one too
        client.begin()
    yield from client.send_each(*client.client_hello().pieces(size))
    yield from client.expect(ServerHelloDone, within_s=ANSWER_S)


def _key_exchange_in_pieces(cut: Callable[[HandshakeMessage], tuple[Piece, ...]], client: Client) -> Script[None]:
    yield from client.hello()
    key_exchange, change, finished = client.client_key_exchange(), client.change_cipher_spec(), client.finished()
    yield from client.send_each(*cut(key_exchange))
    yield from client.send(change, finished)
    yield from client.expect(Finished, within_s=ANSWER_S)


def _contradict(pieces: Callable[[HandshakeMessage], tuple[Piece, ...]], client: Client) -> Script[None]:
    yield from client.hello()
    yield from client.send_each(*pieces(client.client_key_exchange()))


def _past_the_total(message: HandshakeMessage) -> tuple[Piece, ...]:
    total = len(message.body)
    return (Piece(message.kind, total, message.message_seq, total - 2, bytes(8), message.epoch),)


def _huge(message: HandshakeMessage) -> tuple[Piece, ...]:
    first = Piece(message.kind, LAST_OF_24_BITS, message.message_seq, 0, message.body, message.epoch)
    last = Piece(message.kind, LAST_OF_24_BITS, message.message_seq, LAST_OF_24_BITS - 8, bytes(8), message.epoch)
    return first, last


def _of_two_totals(message: HandshakeMessage) -> tuple[Piece, ...]:
    total = len(message.body)
    second = Piece(message.kind, total + 8, message.message_seq, 3, bytes(total), message.epoch)
    return message.piece(0, 3), second


def _begin_at_255(client: Client) -> Script[None]:
    client.message_seq = 255
    yield from client.send(client.client_hello())
    yield from client.expect(HelloVerifyRequest, within_s=SILENCE_S)
    yield from client.send(client.client_hello())
    yield from client.expect(ServerHelloDone, within_s=SILENCE_S)
    yield from client.send(*client.last_flight())
    yield from client.expect(Finished, within_s=SILENCE_S)


def _leave_a_gap(client: Client) -> Script[None]:
    yield from client.hello()
    client.message_seq += 1
    yield from client.send(*client.last_flight())
    yield from client.expect(Finished, within_s=SILENCE_S)


def _hello_of_epoch_1(client: Client) -> Script[None]:
    yield from client.send(client.record(client.client_hello(), epoch=1))
    yield from client.listen(SILENCE_S)


def _ask_without_finished(client: Client, probe: Prober) -> Script[None]:
    yield from client.hello()
    key_exchange, change = client.client_key_exchange(), client.change_cipher_spec()
    yield from client.send(key_exchange, change, client.application_data(request(GET, probe.life).encode()))
    yield from client.listen(SILENCE_S)
    yield from _abandon(client)


def _without_key_exchange(client: Client) -> Script[None]:
    yield from client.hello()
    yield from client.send(client.change_cipher_spec(), client.finished())
    yield from client.expect(Finished, within_s=SILENCE_S)


def _early_change_cipher_spec(client: Client) -> Script[None]:
    """CVE-2014-0224: a server that changes its keys before there is a premaster secret has those of an empty one."""
    yield from client.hello()
    hello = client.server_hello
    assert hello is not None
    client.master_secret = b""
    randoms = client.client_random, hello.random
    pair = suites.protections(client.suite, b"", *randoms, encrypt_then_mac=hello.encrypt_then_mac)
    client.keys[1] = Keys(*pair)
    key_exchange, change, finished = client.last_flight()
    yield from client.send_each(change, key_exchange, finished)
    yield from client.expect(Finished, within_s=SILENCE_S)


def _with_certificate(client: Client) -> Script[None]:
    yield from client.hello()
    certificate = client.message(HandshakeType.CERTIFICATE, bytes(3))
    yield from client.send(certificate, *client.last_flight())
    yield from client.expect(Finished, within_s=SILENCE_S)


def _two_key_exchanges(client: Client) -> Script[None]:
    yield from client.hello()
    yield from client.send(client.client_key_exchange(), *client.last_flight())
    yield from client.expect(Finished, within_s=SILENCE_S)


def _wrong_finished(client: Client) -> Script[None]:
    yield from client.hello()
    key_exchange, change = client.client_key_exchange(), client.change_cipher_spec()
    wrong = spoiled(client.verify_data(suites.CLIENT_FINISHED), at=0)
    yield from client.send(key_exchange, change, client.finished(wrong))
    # Longer than SILENCE_S: libcoap on GnuTLS sends its alert after a second.
    yield from client.expect(Finished, within_s=ANSWER_S)


# --- how they are run and told --------------------------------------------------------------------------------------


def _outcomes(probe: Prober, at_once: int, trials: Mapping[str, Trial]) -> dict[str, Outcome]:
    """Run each trial with a client of its own, so many at once; nothing of them stays open."""
    clients = [(probe.client(), trial) for trial in trials.values()]
    results = probe.together([(client, _outcome(client, trial)) for client, trial in clients], at_once=at_once)
    return dict(zip(trials, results, strict=True))


def _outcome(client: Client, trial: Trial) -> Script[Outcome]:
    try:
        yield from trial(client)
    except Refused as error:
        yield from _abandon(client)
        return Outcome(False, f"alert {error.alert.name} ({error.alert.description})", error.alert)
    except Silence as error:
        yield from _abandon(client)
        return Outcome(False, str(error).partition(";")[0])
    if client.server_verified:
        yield from client.send(client.alert(1, 0))
    else:
        yield from _abandon(client)
    return Outcome(True, "goes on")


def _abandon(client: Client) -> Script[None]:
    """End a handshake wherever the device may be in it: in clear, and under the keys if there are any."""
    aborted = Alert(FATAL, INTERNAL_ERROR).encode()
    epochs = [0, client.epoch] if client.epoch else [0]
    yield from client.send_each(*(Content(ContentType.ALERT, epoch, aborted) for epoch in epochs))


def _all_complete(measure: Measure, requirement: str, statement: str, outcomes: Mapping[str, Outcome]) -> None:
    met = all(one.completed for one in outcomes.values())
    measure.check(requirement, statement, met, observed=_told(outcomes), evidence=[_facts(measure, outcomes)])


def _none_completes(
    probe: Prober, measure: Measure, requirement: str, statement: str, outcomes: Mapping[str, Outcome]
) -> None:
    died = probe.died()
    met = not died and not any(one.completed for one in outcomes.values())
    observed = f"{_told(outcomes)}{f'; {died}' if died else ''}"
    measure.check(requirement, statement, met, observed=observed, evidence=[_facts(measure, outcomes)])


def _asked_in_vain(session: ProbeSession, probe: Prober) -> str:
    """Ask an ordinary request; return why there is no answer, or nothing."""
    try:
        session.ask(request(GET, probe.life), within_s=NORMAL_S)
    except DeviceError as error:
        return str(error)
    return ""


def _told_figures(session: ProbeSession, figures: Figures | None) -> dict[str, int]:
    """Return the device's boot count and free heap, as far as it tells them."""
    if figures is None:
        return {}
    told = json.loads(session.get(figures.path).payload)
    keys = {"boot_count": figures.boot_count, "free_heap": figures.free_heap_bytes, "handshakes": figures.handshakes}
    return {name: told[key] for name, key in keys.items() if key is not None}


def _figure(session: ProbeSession, figures: Figures | None, name: str) -> int | None:
    return _told_figures(session, figures).get(name)


def _told(outcomes: Mapping[str, Outcome]) -> str:
    return "; ".join(f"{name}: {one}" for name, one in outcomes.items())


def _facts(measure: Measure, outcomes: Mapping[str, Outcome]) -> Path:
    return measure.facts(
        "trials", {name: {"completed": one.completed, "how": one.how} for name, one in outcomes.items()}
    )
