"""Each misbehaviour can be seen from outside, an orderly server shows none, and clients are served all the same."""

import os
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from rig.dtls.alerts import Alert
from rig.dtls.client import Client, Refused
from rig.dtls.connection import EXTENSIONS, ResumableSession
from rig.dtls.contents import NewSessionTicket
from rig.dtls.extensions import (
    ConnectionId,
    MaxFragmentLength,
    OfferedVersions,
    RenegotiationInfo,
    SessionTicket,
    decode_extensions,
    pairs,
)
from rig.dtls.handshake import ClientHello, HandshakeType, Message
from rig.dtls.misbehaviour import Misbehaviour
from rig.dtls.outgoing import spoiled
from rig.dtls.records import DTLS_1_0, DTLS_1_2, ContentType, Record, parse_datagram
from rig.dtls.server import Established, Received, Send
from tests.dtls.server.conftest import IDENTITY, PSK, Path

NewPeer = Callable[..., Any]
Probe = Callable[[NewPeer], bool]

CCM_8, GCM, NULL, CBC = 0xC0A8, 0x00A8, 0x00B0, 0x00AE
WITH_TICKET = EXTENSIONS + pairs(SessionTicket())
EMS = (23, b"")
ELSEWHERE = ("127.0.0.1", 40001)
HELLO, ALERT, DATA = ContentType.HANDSHAKE, ContentType.ALERT, ContentType.APPLICATION_DATA
CLOSE_NOTIFY, NO_RENEGOTIATION = Alert(1, 0).encode(), Alert(1, 100).encode()


def agrees(make: NewPeer, **hello: Any) -> bool:
    """Whether a ServerHello answers this ClientHello."""
    return said_hello(make(**hello)).server_hello is not None


def said_hello(peer: Any) -> Any:
    peer.say_hello()
    return peer


def gets_in(make: NewPeer, **who: Any) -> bool:
    return established(make(**who).connect())


def established(events: list[Any]) -> bool:
    return any(isinstance(event, Established) for event in events)


def received(events: list[Any]) -> list[bytes]:
    return [event.data for event in events if isinstance(event, Received)]


def goes_on_with(peer: Any, cookie: bytes, message_seq: int = 1) -> bool:
    return "SERVER_HELLO" in peer.answers(peer.hello_datagram(cookie, message_seq))


def no_cookie(make: NewPeer) -> bool:
    return goes_on_with(make(), b"", 0)


def constant_cookie(make: NewPeer) -> bool:
    peer = make()
    return goes_on_with(peer.another(address=ELSEWHERE), peer.cookie())


def cookie_ignores_address(make: NewPeer) -> bool:
    peer = make()
    return goes_on_with(peer.another(address=ELSEWHERE, random=peer.hello.random), peer.cookie())


def cookie_ignores_hello(make: NewPeer) -> bool:
    peer = make()
    return goes_on_with(peer.another(), peer.cookie())


def cookie_secret_fixed(make: NewPeer) -> bool:
    before = make()
    return goes_on_with(make(random=before.hello.random), before.cookie())


def cookie_of_255_bytes(make: NewPeer) -> bool:
    peer = make(extensions=None)
    hello = peer.hello_datagram()
    (event,) = peer.give(hello)
    return isinstance(event, Send) and len(event.datagram) > 3 * len(hello)


def any_identity(make: NewPeer) -> bool:
    return gets_in(make, identity=b"nobody")


def identity_ends_at_nul(make: NewPeer) -> bool:
    return gets_in(make, identity=b"me\0and more")


def identity_oracle(make: NewPeer) -> bool:
    peers = make(identity=b"nobody"), make(psk=b"wrong")
    for peer in peers:
        peer.connect()
    return peers[0].alerts() != peers[1].alerts()


def extra_keys(make: NewPeer) -> bool:
    return gets_in(make, psk=b"") or gets_in(make, psk=b"secret-key")


def any_key(make: NewPeer) -> bool:
    return gets_in(make, psk=b"wrong")


def any_finished(make: NewPeer) -> bool:
    peer = said_hello(make())
    peer.give(*peer.last_flight()[:2])
    wrong = Message(HandshakeType.FINISHED, 3, bytes(12)).encode()
    return established(peer.give(peer.sealed(wrong, HELLO)))


def null_suite(make: NewPeer) -> bool:
    return agrees(make, suites=(NULL,))


def cbc_first(make: NewPeer) -> bool:
    return said_hello(make(suites=(CCM_8, CBC))).server_hello.suite == CBC


def last_suite(make: NewPeer) -> bool:
    return said_hello(make(suites=(CCM_8, CBC))).server_hello.suite == CBC


def dtls_1_0(make: NewPeer) -> bool:
    return agrees(make, version=DTLS_1_0)


def version_intolerant(make: NewPeer) -> bool:
    return not agrees(make, version=0xFEFC)


def any_compression(make: NewPeer) -> bool:
    return agrees(make, compression=b"\1")


def repeated_extensions(make: NewPeer) -> bool:
    return agrees(make, extensions=(EMS, EMS))


def unknown_extensions_refused(make: NewPeer) -> bool:
    return not agrees(make, extensions=(EMS, (0x4A4A, b"")))


def no_extended_master_secret(make: NewPeer) -> bool:
    return not said_hello(make()).server_hello.extended_master_secret


def no_replay_window(make: NewPeer) -> bool:
    peer = make().connected()
    record = peer.sealed(b"x")
    return received(peer.give(record, record)) == [b"x", b"x"]


def replay_window_bits(make: NewPeer) -> bool:
    peer = make().connected()
    return received(peer.give(peer.sealed(b"late", sequence=70), peer.sealed(b"x", sequence=100))) and not received(
        peer.give(peer.sealed(b"late", sequence=80))
    )


def forged_record_moves_window(make: NewPeer) -> bool:
    peer = make().connected()
    peer.give(Record(DATA, DTLS_1_2, 1, 1_000_000, os.urandom(40)).encode())
    return peer.says(b"x") == []


def bad_record_closes(make: NewPeer) -> bool:
    peer = make().connected()
    peer.give(peer.sealed(b"x")[:-1] + b"?", Record(DATA, DTLS_1_2, 1, 9, os.urandom(40)).encode())
    return peer.says(b"x") == []


def nonces_repeat(make: NewPeer) -> bool:
    peer = make().connected()
    sent = [peer.server.send(peer.address, b"x")[0].datagram for _ in range(4)]
    return len({parse_datagram(datagram)[0].fragment[:8] for datagram in sent}) < len(sent)


def last_nonce_again_after_sleep(make: NewPeer) -> bool:
    peer = make().connected()
    before = peer.server.send(peer.address, b"before")[0].datagram
    peer.server.restore()
    after = peer.server.send(peer.address, b"after")[0].datagram
    return parse_datagram(before)[0].fragment[:8] == parse_datagram(after)[0].fragment[:8]


def any_version(make: NewPeer) -> bool:
    peer = make().connected()
    return received(peer.give(peer.sealed(b"x", version=DTLS_1_0))) == [b"x"]


def any_epoch(make: NewPeer) -> bool:
    peer = make().connected()
    return received(peer.give(peer.sealed(b"x", as_epoch=2))) == [b"x"]


def clear_data_accepted(make: NewPeer) -> bool:
    peer = make().connected()
    return received(peer.give(peer.clear(DATA, b"x"))) == [b"x"]


def clear_data_without_session(make: NewPeer) -> bool:
    peer = make().connected()
    peer.give(peer.sealed(CLOSE_NOTIFY, ALERT))
    return b"canary" in b"".join(event.datagram for event in peer.server.send(peer.address, b"canary"))


def clear_alerts_accepted(make: NewPeer) -> bool:
    peer = make().connected()
    peer.give(peer.clear(ALERT, CLOSE_NOTIFY))
    return peer.says(b"x") == []


def one_record_per_datagram(make: NewPeer) -> bool:
    peer = make().connected()
    return received(peer.give(peer.sealed(b"x") + peer.sealed(b"y"))) == [b"x"]


def data_before_finished(make: NewPeer) -> bool:
    peer = said_hello(make())
    exchange, change, _ = peer.last_flight()
    return received(peer.give(exchange, change, peer.sealed(b"x"))) == [b"x"]


def fragments_dropped(make: NewPeer) -> bool:
    peer = make()
    peer.give(*peer.pieces(peer.hello_datagram(), 20))
    return peer.messages() == []


def any_message_seq(make: NewPeer) -> bool:
    peer = make()
    return goes_on_with(peer, peer.cookie(), 255)


def no_retransmission(make: NewPeer) -> bool:
    peer = said_hello(make())
    heard = len(peer.heard)
    peer.wait_until(2.0)
    return len(peer.heard) == heard


def fixed_retransmission(make: NewPeer) -> bool:
    peer = said_hello(make())
    peer.wait_until(1.0)
    return peer.server.deadline_s == 2.0


def same_record_again(make: NewPeer) -> bool:
    peer = said_hello(make())
    peer.wait_until(1.0)
    hellos = [each.sequence for each in peer.heard if each.fragment[0] == HandshakeType.SERVER_HELLO]
    return len(hellos) == 2 and len(set(hellos)) == 1


def no_last_flight_again(make: NewPeer) -> bool:
    peer = make().connected()
    again = Message(HandshakeType.FINISHED, 3, bytes(12)).encode()
    return peer.answers(peer.sealed(again, HELLO)) == []


def half_open_kept(make: NewPeer) -> bool:
    peer = said_hello(make())
    peer.wait_until(1000.0)
    return peer.server.deadline_s is not None


def renegotiates(make: NewPeer) -> bool:
    peer = make().connected()
    hello = Message(HandshakeType.CLIENT_HELLO, 4, ClientHello(os.urandom(32), (CCM_8,)).encode()).encode()
    answers = peer.answers(peer.sealed(hello, HELLO))
    assert answers or peer.alerts() == [(1, 100)]
    return answers == ["SERVER_HELLO"]


def hello_ends_session(make: NewPeer) -> bool:
    peer = make().connected()
    new = peer.another()
    new.give(new.hello_datagram())
    return peer.says(b"x") == []


def new_hello_ignored(make: NewPeer) -> bool:
    return make().connected().another().cookie() == b""


def no_renegotiation_info(make: NewPeer) -> bool:
    return RenegotiationInfo() not in answered(said_hello(make(suites=(CCM_8, 0x00FF))))


def size_limits_not_kept(make: NewPeer) -> bool:
    return MaxFragmentLength(1) in answered(said_hello(make(extensions=pairs(MaxFragmentLength(1)))))


def dtls_1_3_refused(make: NewPeer) -> bool:
    return not agrees(make, extensions=pairs(OfferedVersions((0xFEFC, 0xFEFD))))


def answered(peer: Any) -> tuple[Any, ...]:
    return decode_extensions(peer.server_hello.extensions, from_server=True)


def of_resuming(make: NewPeer) -> Any:
    return make(settings={"session_ids": True, "tickets": True, "session_lifetime_s": 3600}).server


def left_by(server: Any, *end: tuple[int, int], by_ticket: bool = False) -> ResumableSession:
    """Make a session, send an alert if one is named, and return what the client keeps of it."""
    client, path = Client(IDENTITY, PSK, hello_extensions=WITH_TICKET if by_ticket else EXTENSIONS), Path(server)
    path.run(client.handshake())
    for level, description in end or [(1, 0)]:
        path.run(client.send(client.alert(level, description)))
    return client.session


def resumes(server: Any, session: ResumableSession, **offer: Any) -> bool:
    """Whether a client gets in with an abbreviated handshake; `Refused` if it is told off."""
    client = Client(IDENTITY, PSK, resume=session, **offer)
    Path(server).run(client.handshake())
    return client.resumed


def never_resumes(make: NewPeer) -> bool:
    server = of_resuming(make)
    return not any(resumes(server, left_by(server, by_ticket=by_ticket)) for by_ticket in (False, True))


def any_session_resumed(make: NewPeer) -> bool:
    server = of_resuming(make)
    return resumes(server, replace(left_by(server), session_id=bytes(32)))


def stale_session_refused(make: NewPeer) -> bool:
    server = of_resuming(make)
    try:
        return resumes(server, replace(left_by(server), session_id=bytes(32)))
    except Refused:
        return True


def resumes_with_another_suite(make: NewPeer) -> bool:
    server = of_resuming(make)
    return resumes(server, left_by(server), offered_suites=(GCM,))


def resumes_without_ems(make: NewPeer) -> bool:
    server = of_resuming(make)
    try:
        return resumes(server, left_by(server), hello_extensions=None)
    except Refused:
        return False


def week_long_tickets(make: NewPeer) -> bool:
    client, path = Client(IDENTITY, PSK, hello_extensions=WITH_TICKET), Path(of_resuming(make))
    path.run(client.handshake())
    (ticket,) = (each.content for each in client.seen if isinstance(each.content, NewSessionTicket))
    return ticket.lifetime_s > 24 * 3600


def resumable_after_fatal_alert(make: NewPeer) -> bool:
    server = of_resuming(make)
    return any(resumes(server, left_by(server, (2, 80), by_ticket=by_ticket)) for by_ticket in (False, True))


def with_connection_id(make: NewPeer) -> tuple[Client, Path]:
    """Return a client that has asked something, and the way to its server."""
    server = make(settings={"connection_id_bytes": 4}).server
    client, path = Client(IDENTITY, PSK, hello_extensions=EXTENSIONS + pairs(ConnectionId(b"mine"))), Path(server)
    path.run(client.handshake())
    assert path.run(client.ask(b"x")) == b"x"
    return client, path


def cid_unasked(make: NewPeer) -> bool:
    return any(isinstance(each, ConnectionId) for each in answered(said_hello(make())))


def cid_unknown_accepted(make: NewPeer) -> bool:
    client, path = with_connection_id(make)
    path.run(client.send(client.record(client.application_data(b"y"), connection_id=b"none")))
    return b"y" in received(path.events)


def cid_moves_unproved(make: NewPeer) -> bool:
    client, path = with_connection_id(make)
    forged = spoiled(client.datagram(client.application_data(b"y")))
    return ELSEWHERE in heard_at_after(client, path, forged)


def cid_moves_on_older(make: NewPeer) -> bool:
    client, path = with_connection_id(make)
    repeated = client.sent[-1].datagram
    return ELSEWHERE in heard_at_after(client, path, repeated)


def cid_never_moves(make: NewPeer) -> bool:
    client, path = with_connection_id(make)
    newer = client.datagram(client.application_data(b"y"))
    return ELSEWHERE not in heard_at_after(client, path, newer)


def heard_at_after(client: Client, path: Path, datagram: bytes) -> list[Any]:
    """Send *datagram* from elsewhere; return where the server sends what it has to say afterwards."""
    home, path.address = path.address, ELSEWHERE
    path.run(client.send(datagram))
    before = len(path.heard_at)
    for peer in (home, ELSEWHERE):
        path.heard_at += [event.peer for event in path.server.send(peer, b"news")]
    return path.heard_at[before:]


def close_notify_ignored(make: NewPeer) -> bool:
    peer = make().connected()
    peer.give(peer.sealed(CLOSE_NOTIFY, ALERT))
    return peer.alerts() == [] and peer.says(b"x") == [b"x"]


def warning_closes(make: NewPeer) -> bool:
    peer = make().connected()
    peer.give(peer.sealed(NO_RENEGOTIATION, ALERT))
    return peer.says(b"x") == []


VALUES: dict[str, object] = {"extra_keys": (b"", b"secret-key"), "replay_window_bits": 16}
SWITCHES = [field.name for field in fields(Misbehaviour)]
PROBES: dict[str, Probe] = {name: globals()[name] for name in SWITCHES}


def with_switch(new_peer: NewPeer, switch: str) -> NewPeer:
    wrong = Misbehaviour(**{switch: VALUES.get(switch, True)})  # type: ignore[arg-type]
    return lambda **peer: new_peer(wrong, **peer)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_misbehaviour_is_seen_and_an_orderly_server_has_none(new_peer: NewPeer, switch: str) -> None:
    probe = PROBES[switch]
    assert probe(with_switch(new_peer, switch))
    assert not probe(new_peer)


@pytest.mark.parametrize("switch", SWITCHES)
def test_orderly_clients_are_served_all_the_same(new_peer: NewPeer, switch: str) -> None:
    peer = with_switch(new_peer, switch)()
    assert established(peer.connect())
    assert peer.says(b"ask") == [b"ask"]
