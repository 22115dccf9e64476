"""Connection ids, RFC 9146: CID-01, CID-02, CID-03, CID-04."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from rig.coap.probe import Prober, ProbeSession, Wire, attempt, request
from rig.dtls import coap
from rig.dtls.cid import TLS12_CID
from rig.dtls.client import Client, Refused, Silence
from rig.dtls.coap import Message, OptionNumber, Type
from rig.dtls.connection import EXTENSIONS
from rig.dtls.extensions import ConnectionId, Extension, Raw, pairs
from rig.dtls.outgoing import Content, spoiled
from rig.evidence.declaration import Declaration, Resource
from rig.evidence.verdicts import State
from rig.fixtures.measure import Measure

OWN_ID = bytes.fromhex("c1d00001")
OFFER = EXTENSIONS + pairs(ConnectionId(OWN_ID))
DRAFTS = (53, 254)
"""Numbers that the extension had in drafts of RFC 9146."""
STRAY_NUMBERS = (ConnectionId.number, *DRAFTS)
HELLOS = (
    ("no connection id", ()),
    *((f"the drafts' {number}", (Raw(number, ConnectionId(OWN_ID).encode()),)) for number in DRAFTS),
)
ID_AT = 11
"""Where in a record of type 25 the connection id begins (RFC 9146 4)."""
STRAYS, FAR_AHEAD = 3, 1000
SILENCE_S = 2.0
"""How long a message is waited for that ought to come, and one that must not."""


@pytest.mark.requirement("CID-01")
def test_connection_ids_are_negotiated_as_standardised(probe: Prober, dut: Declaration, measure: Measure) -> None:
    strays = {number: sorted(set(STRAY_NUMBERS) & set(_answered_numbers(probe, *offer))) for number, offer in HELLOS}
    answered, kept, told = _negotiated(probe)
    probe.prove_alive()
    measure.check(
        "CID-01",
        "extension 54 is answered to a client that offers it, and to no other; records are of type 25 then"
        if dut.dtls.connection_id
        else "no ServerHello of a device that does not claim connection ids has the extension",
        (kept if dut.dtls.connection_id else not answered) and not any(strays.values()),
        observed="; ".join(f"{what} offered: {numbers or 'none'} of them answered" for what, numbers in strays.items())
        + f"; 54 offered: {told}",
    )


@pytest.mark.requirement("CID-02")
def test_a_client_that_moves_is_followed(probe: Prober, measure: Measure) -> None:
    elsewhere = probe.wire()  # before the session, which is closed from there
    session = _with_connection_id(probe, measure, "CID-02")
    session.get(probe.life)
    home, session.wire = session.wire, elsewhere
    answer = _asked(session, probe.life)
    at_home = len(home.listen(0.5))
    probe.prove_alive()
    measure.check(
        "CID-02",
        "a request that comes from another port is answered there",
        answer == "2.05" and not at_home,
        observed=f"GET {probe.life} from port {session.wire.local[1]} instead of {home.local[1]}: {answer}; "
        f"{at_home} datagrams came to the old port",
    )


@pytest.mark.requirement("CID-03")
def test_nobody_else_moves_a_client(probe: Prober, dut: Declaration, measure: Measure) -> None:
    session = _with_connection_id(probe, measure, "CID-03")
    news = _news_of(probe, dut, session)
    elsewhere = probe.wire()
    seen = [(what, *_news_after(stray, session, elsewhere, news)) for what, stray in _strays(session, probe)]
    probe.prove_alive()
    measure.check(
        "CID-03",
        f"after a forged, a replayed and an older record from another port, {news.what} comes to the client",
        all(home and not away for _, home, away in seen),
        observed="; ".join(
            f"{what} record from port {elsewhere.local[1]}: {news.what} {'came' if home else 'did not come'} to port "
            f"{session.wire.local[1]}, {away} datagrams to the other"
            for what, home, away in seen
        ),
    )


@pytest.mark.requirement("CID-04")
def test_unknown_connection_ids_are_dropped(probe: Prober, measure: Measure) -> None:
    session = _with_connection_id(probe, measure, "CID-04")
    own, client = session.client.write_cid, session.client
    if not own:
        statement = "the device wants connection ids in what it is sent"
        measure.state("CID-04", State.NOT_SUPPORTED, statement, observed="its extension 54 holds an empty one")
        return
    seen = []
    for connection_id in (secrets.token_bytes(len(own)), own[:-1], own + secrets.token_bytes(1)):
        before = len(session.wire.transcript.passed)
        session.run(client.send(client.record(_question(session, probe.life), connection_id=connection_id)))
        session.hear(SILENCE_S)
        came = sum(not one.from_client for one in session.wire.transcript.passed[before:])
        seen.append((f"{connection_id.hex() or 'none'}: {came} datagrams; then {_asked(session, probe.life)}", came))
    measure.check(
        "CID-04",
        "a request with a random, a shorter or a longer connection id gets no answer, the next right one does",
        all(not came and told.endswith("2.05") for told, came in seen),
        observed=f"connection id {own.hex()}; GET {probe.life} sent with " + "; ".join(told for told, _ in seen),
    )


@dataclass(frozen=True)
class News:
    """Something that `bring` makes the device send to a client, without a record that could bring the client home."""

    what: str
    bring: Callable[[], None]


def _news_of(probe: Prober, dut: Declaration, session: ProbeSession) -> News:
    """Return the device's notifications where it has any that can be caused, else answers to records that are late."""
    resource = dut.switchable(observable=True)
    if resource is not None:
        return _notifications(probe, resource, session)
    late = [session.client.datagram(_question(session, probe.life)) for _ in range(STRAYS)]
    return News("the answer to an older request from there", lambda: session.wire.send(late.pop()))


def _notifications(probe: Prober, resource: Resource, session: ProbeSession) -> News:
    other, values = probe.connect(), [value.encode() for value in resource.values[:2]]
    other.put(resource.path, values[0])
    session.get(resource.path, options=((OptionNumber.OBSERVE, b""),))

    def bring() -> None:
        values.reverse()
        other.put(resource.path, values[0])

    return News(f"a notification of {resource.path}", bring)


def _strays(session: ProbeSession, probe: Prober) -> list[tuple[str, bytes]]:
    """Return records that must move nobody, each with a word for what is wrong with it."""
    client = session.client
    older = client.datagram(_question(session, probe.life))
    session.get(probe.life)
    replayed = client.sent[-1].datagram
    assert replayed is not None
    ahead = client.record(_question(session, probe.life), sequence=client.sequences[client.epoch] + FAR_AHEAD)
    return [("forged", spoiled(ahead.encode())), ("replayed", replayed), ("older", older)]


def _news_after(stray: bytes, session: ProbeSession, elsewhere: Wire, news: News) -> tuple[bool, int]:
    """Send *stray* from elsewhere, then make the device send something; return whether it came home, and what there."""
    elsewhere.send(stray)
    away = len(elsewhere.listen(SILENCE_S))
    session.hear(0.0)
    news.bring()
    home = _heard(session)
    return home, away + len(elsewhere.listen(0.2))


def _heard(session: ProbeSession) -> bool:
    """Wait for a message and acknowledge it; return whether one came."""
    try:
        message = session.hear_one(SILENCE_S)
    except (Silence, Refused):
        return False
    if isinstance(message, Message) and message.type == Type.CON:
        session.tell(Message(Type.ACK, coap.EMPTY, message.message_id))
    return True


def _question(session: ProbeSession, path: str) -> Content:
    return session.client.application_data(request(coap.GET, path).encode())


def _asked(session: ProbeSession, path: str) -> str:
    try:
        return session.get(path).code_text
    except (Silence, Refused) as error:
        return str(error)


def _with_connection_id(probe: Prober, measure: Measure, requirement: str) -> ProbeSession:
    """Return a session with connection ids; without them there is nothing to judge."""
    session = probe.connect(probe.client(hello_extensions=OFFER))
    if ConnectionId.number not in _extensions(session.client):
        measure.inconclusive(
            requirement,
            "records with connection ids are judged",
            observed="extension 54 was offered and is not in the ServerHello, so there are none",
        )
    return session


def _answered_numbers(probe: Prober, *offered: Extension) -> tuple[int, ...]:
    """Return the extensions of the ServerHello to a hello with these; a hello that is refused has none."""
    client = probe.client(hello_extensions=EXTENSIONS + pairs(*offered))
    try:
        _, wire = probe.half_open(client)
    except Refused:
        return ()
    probe.abandon(client, wire)
    return tuple(_extensions(client))


def _negotiated(probe: Prober) -> tuple[bool, bool, str]:
    """Offer extension 54; return whether it was answered, whether the records then keep to it, and what was seen."""
    session = attempt(probe, probe.client(hello_extensions=OFFER)).session
    if session is None or ConnectionId.number not in _extensions(session.client):
        return False, False, "it is not answered"
    answer, client = _asked(session, probe.life), session.client
    came = client.received[-1].datagram or b""
    session.close()
    told = f"{_extensions(client)[ConnectionId.number].hex()} is answered, GET {probe.life}: {answer}; "
    told += f"the device's record is of type {came[0]}, with id {came[ID_AT : ID_AT + len(OWN_ID)].hex()}"
    framed = came[0] == TLS12_CID and came[ID_AT:].startswith(OWN_ID)
    return True, framed and answer == "2.05", told


def _extensions(client: Client) -> dict[int, bytes]:
    """Return the ServerHello's extensions."""
    return dict(client.server_hello.extensions or ()) if client.server_hello else {}
