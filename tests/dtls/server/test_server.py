"""The scriptable server without sockets, with nothing but good manners."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.dtls import suites
from rig.dtls.handshake import ENCRYPT_THEN_MAC, EXTENDED_MASTER_SECRET, Extensions, HandshakeType, Message
from rig.dtls.handshake import decode_hello_verify_request as decode_request
from rig.dtls.records import DTLS_1_0, DTLS_1_2, ContentType, Record
from rig.dtls.replay import ReplayWindow
from rig.dtls.server import Closed, Established, Received, Send
from rig.dtls.suites import SERVER_FINISHED, SUITES

IDENTITY = b"me"
CCM_8 = 0xC0A8
HELLO_AGAIN = ["HELLO_VERIFY_REQUEST"]
SERVERS_FLIGHT = ["SERVER_HELLO", "SERVER_HELLO_DONE"]

NewPeer = Callable[..., Any]


def test_a_handshake_and_data_both_ways(new_peer: NewPeer) -> None:
    peer = new_peer(settings={"identity_hint": b"hint"})
    assert Established(peer.address, IDENTITY, CCM_8) in peer.connect()
    names = [message.kind.name for message in peer.messages()]
    assert names == [*HELLO_AGAIN, "SERVER_HELLO", "SERVER_KEY_EXCHANGE", "SERVER_HELLO_DONE", "FINISHED"]
    assert peer.messages()[-1].body == suites.finished(peer.master, SERVER_FINISHED, peer.hash())
    assert peer.says(b"ask") == [b"ask"]
    peer.take(peer.server.send(peer.address, b"answer"))
    assert peer.heard[-1].fragment == b"answer"
    assert peer.server.deadline_s is None
    peer.take(peer.server.close(peer.address))
    assert peer.alerts() == [(1, 0)]
    assert peer.server.send(peer.address, b"too late") == []


@pytest.mark.parametrize("number", [suite.number for suite in SUITES.values() if suite.key_exchange == "psk"])
@pytest.mark.parametrize("extensions", [((EXTENDED_MASTER_SECRET, b""), (ENCRYPT_THEN_MAC, b"")), None])
def test_every_psk_suite(new_peer: NewPeer, number: int, extensions: Extensions | None) -> None:
    peer = new_peer(settings={"suites": (number,)}, suites=(number,), extensions=extensions)
    assert Established(peer.address, IDENTITY, number) in peer.connect()
    assert peer.server_hello.encrypt_then_mac == (SUITES[number].mode == "cbc" and extensions is not None)
    assert peer.says(b"ask") == [b"ask"]


def test_a_cookie_proves_address_and_hello_and_is_all_that_is_kept(new_peer: NewPeer) -> None:
    one = new_peer()
    (answer,) = one.give(first := one.hello_datagram())
    assert isinstance(answer, Send)
    assert len(answer.datagram) < len(first)
    assert (one.server.deadline_s, one.heard[0].version, one.heard[0].sequence) == (None, DTLS_1_0, 0)
    cookie = one.cookie()
    elsewhere = one.another(address=("127.0.0.1", 40001), random=one.hello.random)
    otherwise = one.another(suites=(CCM_8, 0x00A8), random=one.hello.random)
    for peer in (elsewhere, otherwise):
        assert peer.answers(peer.hello_datagram(cookie, message_seq=1)) == HELLO_AGAIN
    assert one.answers(one.hello_datagram(cookie, message_seq=1)) == SERVERS_FLIGHT


def test_the_second_hello_may_have_its_extensions_in_another_order(new_peer: NewPeer) -> None:
    extensions = ((EXTENDED_MASTER_SECRET, b""), (ENCRYPT_THEN_MAC, b""))
    peer = new_peer(extensions=extensions)
    cookie = peer.cookie()
    peer.hello = replace(peer.hello, extensions=extensions[::-1])
    assert peer.answers(peer.hello_datagram(cookie)) == SERVERS_FLIGHT


def test_the_servers_flight_is_repeated_at_rising_intervals_in_new_records(new_peer: NewPeer) -> None:
    peer = new_peer()
    peer.say_hello()
    times = []
    while (deadline_s := peer.server.deadline_s) is not None:
        times.append(deadline_s)
        events = peer.wait_until(deadline_s)
    assert times == [1, 3, 7, 15, 31, 45]
    assert events == [Closed(peer.address, "the client did not finish its handshake")]
    copies = [each for each in peer.heard if each.fragment[0] == HandshakeType.SERVER_HELLO]
    assert len(copies) == 6
    assert len({each.fragment for each in copies}) == 1
    assert len({each.sequence for each in copies}) == 6


def test_a_repeated_hello_or_last_flight_is_answered_again(new_peer: NewPeer) -> None:
    peer = new_peer()
    peer.say_hello()
    hello = peer.another(random=peer.hello.random).hello_datagram(peer.cookie(), message_seq=1)
    assert peer.answers(hello) == SERVERS_FLIGHT
    peer = new_peer().connected()
    finished = Message(HandshakeType.FINISHED, 3, peer.messages()[-1].body).encode()
    assert peer.answers(peer.sealed(finished, ContentType.HANDSHAKE)) == ["FINISHED"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0), (0, 0, 1, 1, 2, 2)])
def test_the_last_flight_may_come_in_any_order(new_peer: NewPeer, order: tuple[int, ...]) -> None:
    peer = new_peer()
    peer.say_hello()
    flight = peer.last_flight()
    events = peer.give(*(flight[number] for number in order))
    assert [event for event in events if isinstance(event, Established)]
    assert peer.says(b"ask") == [b"ask"]


@pytest.mark.parametrize("size", [60, 20, 1])
def test_messages_may_come_in_pieces(new_peer: NewPeer, size: int) -> None:
    peer = new_peer()
    peer.give(*peer.pieces(peer.hello_datagram(), size))
    cookie = decode_request(peer.messages()[0].body).cookie
    peer.give(*reversed(peer.pieces(peer.hello_datagram(cookie), size)))
    assert [each.kind.name for each in peer.messages()] == HELLO_AGAIN + SERVERS_FLIGHT


def test_a_client_that_starts_anew_replaces_its_session_once_it_has_proved_its_key(new_peer: NewPeer) -> None:
    old = new_peer().connected()
    new = old.another()
    new.say_hello()
    assert old.says(b"still here") == [b"still here"]
    new.give(*new.last_flight())
    assert (old.says(b"gone"), new.says(b"here")) == ([], [b"here"])


def test_the_longest_idle_session_makes_room_for_the_newest(new_peer: NewPeer) -> None:
    first = new_peer(settings={"sessions_max": 2}).connected()
    second = first.another(address=("127.0.0.2", 1)).connected()
    first.says(b"ask")
    third = first.another(address=("127.0.0.2", 2)).connected()
    assert [peer.says(b"ask") for peer in (first, second, third)] == [[b"ask"], [], [b"ask"]]
    assert first.server.established == 2


def test_a_flood_of_handshakes_pushes_out_handshakes_and_no_session(new_peer: NewPeer) -> None:
    session = new_peer(settings={"half_open_max": 4}).connected()
    flood = [session.another(address=("127.0.0.2", port)) for port in range(10)]
    for peer in flood:
        peer.say_hello()
    assert (session.server.half_open, session.server.unanswered, session.server.established) == (4, 4, 1)
    newcomer = session.another(address=("127.0.0.3", 1)).connected()
    assert [peer.says(b"ask") for peer in (session, newcomer)] == [[b"ask"], [b"ask"]]
    flood[0].give(*flood[0].last_flight())
    assert not session.server.serves(flood[0].address)


@pytest.mark.parametrize(
    ("hello", "alert"),
    [
        ({"version": DTLS_1_0}, 70),
        ({"version": 0x0303}, 70),
        ({"suites": (0x1301,)}, 40),
        ({"compression": b"\1"}, 47),
        ({"extensions": ((23, b""), (23, b""))}, 47),
        ({"extensions": ((0xFF01, b"\1x"),)}, 40),
    ],
)
def test_what_cannot_be_agreed_on_ends_in_an_alert(new_peer: NewPeer, hello: dict[str, Any], alert: int) -> None:
    peer = new_peer(**hello)
    peer.give(peer.hello_datagram(peer.cookie()))
    assert peer.alerts() == [(2, alert)]
    assert peer.server.deadline_s is None


def test_messages_out_of_turn_end_the_handshake(new_peer: NewPeer) -> None:
    for kind in (HandshakeType.CERTIFICATE, HandshakeType.FINISHED):
        peer = new_peer()
        peer.say_hello()
        peer.give(peer.clear(ContentType.HANDSHAKE, peer.message(kind, bytes(12))))
        assert peer.alerts() == [(2, 10)]


@given(st.lists(st.binary(max_size=80), max_size=10), st.booleans(), st.data())
def test_nothing_that_comes_raises_or_is_believed(
    new_peer: NewPeer, datagrams: list[bytes], live: bool, data: st.DataObject
) -> None:
    peer = new_peer()
    if live:
        peer.connect()
    else:
        peer.say_hello()
    for datagram in datagrams:
        kind, epoch = data.draw(st.sampled_from(ContentType)), data.draw(st.integers(0, 2))
        for each in (datagram, Record(kind, DTLS_1_2, epoch, 7, datagram).encode()):
            assert not any(isinstance(event, Established | Received) for event in peer.give(each))
    if live:
        assert peer.says(b"ask") == [b"ask"]


@given(st.data())
def test_an_altered_last_flight_gives_no_session(new_peer: NewPeer, data: st.DataObject) -> None:
    peer = new_peer()
    peer.say_hello()
    flight = [bytearray(part) for part in peer.last_flight()]
    altered = data.draw(st.sampled_from([flight[0], flight[2]]))
    # What a record's header says in epoch 0 is proved by nothing.
    at = data.draw(st.integers(13, len(altered) - 1))
    altered[at] ^= data.draw(st.integers(1, 255))
    assert not any(isinstance(event, Established) for event in peer.give(*map(bytes, flight)))


def test_noting_what_is_long_gone_costs_nothing() -> None:
    window = ReplayWindow(64)
    for sequence in (2**48 - 1, 0):
        window.note(sequence)
    assert not window.admits(0)


@given(st.lists(st.integers(0, 200), max_size=60), st.integers(1, 70))
def test_the_replay_window_admits_once_what_is_not_too_old(sequences: list[int], bits: int) -> None:
    window, seen = ReplayWindow(bits), set[int]()
    for sequence in sequences:
        fresh = sequence not in seen and sequence > max(seen, default=-1) - bits
        assert window.admits(sequence) == fresh
        if fresh:
            window.note(sequence)
            seen.add(sequence)
