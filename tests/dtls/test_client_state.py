"""The client without a network: its timers on simulated time, what it makes of any bytes, the shapes it can send."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.dtls import extensions
from rig.dtls.alerts import Alert
from rig.dtls.client import Client, Refused, Silence
from rig.dtls.connection import Connection, NoKeys
from rig.dtls.contents import (
    Finished,
    Malformed,
    NewSessionTicket,
    ServerHelloDone,
    Unreadable,
    decode_new_session_ticket,
)
from rig.dtls.conversation import Conversation, Script
from rig.dtls.handshake import (
    Fragment,
    HandshakeType,
    HelloVerifyRequest,
    Message,
    Reassembler,
    ServerHello,
    decode_client_hello,
    parse_fragments,
)
from rig.dtls.outgoing import HandshakeMessage, joined, spoiled
from rig.dtls.records import DTLS_1_2, ContentType, Record, parse_datagram
from rig.dtls.wire import DecodeError

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"
uint16 = st.integers(0, 65535)
known = st.one_of(
    st.just(extensions.ExtendedMasterSecret()),
    st.just(extensions.EncryptThenMac()),
    st.builds(extensions.MaxFragmentLength, st.integers(0, 255)),
    st.builds(extensions.RecordSizeLimit, uint16),
    st.builds(extensions.RenegotiationInfo, st.binary(max_size=24)),
    st.builds(extensions.ConnectionId, st.binary(max_size=24)),
    st.builds(extensions.PointFormats, st.binary(max_size=4)),
    st.builds(extensions.SessionTicket, st.binary(max_size=24)),
    st.builds(extensions.SupportedGroups, st.lists(uint16, max_size=4).map(tuple)),
    st.builds(extensions.SignatureAlgorithms, st.lists(uint16, max_size=4).map(tuple)),
    st.builds(extensions.Raw, st.integers(0x4A4A, 0x5A5A), st.binary(max_size=24)),
)


def record(content_type: ContentType, data: bytes, sequence: int = 0, epoch: int = 0) -> bytes:
    return Record(content_type, DTLS_1_2, epoch, sequence, data).encode()


def handshake(*messages: Message, sequence: int = 0) -> bytes:
    return record(ContentType.HANDSHAKE, b"".join(message.encode() for message in messages), sequence)


def said(datagrams: tuple[bytes, ...]) -> list[tuple[int, HandshakeType, int]]:
    """Return record sequence, type and message_seq of the handshake messages in clear."""
    return [
        (each.sequence, fragment.kind, fragment.message_seq)
        for datagram in datagrams
        for each in parse_datagram(datagram)
        for fragment in parse_fragments(each.fragment)
    ]


HELLO_VERIFY = Message(HandshakeType.HELLO_VERIFY_REQUEST, 0, HelloVerifyRequest(b"cookie").encode())
SERVER_HELLO = Message(HandshakeType.SERVER_HELLO, 1, ServerHello(bytes(32), 0xC0A8).encode())
DONE = Message(HandshakeType.SERVER_HELLO_DONE, 2, b"")


@given(st.lists(known, max_size=5))
def test_extensions_round_trip(sent: list[Any]) -> None:
    assert list(extensions.decode_extensions(extensions.pairs(*sent), from_server=False)) == sent


def test_versions_are_a_list_in_one_hello_and_a_number_in_the_other() -> None:
    offered, selected = extensions.OfferedVersions((0xFEFC, 0xFEFD)), extensions.SelectedVersion(0xFEFC)
    assert extensions.decode_extensions(extensions.pairs(offered), from_server=False) == (offered,)
    assert extensions.decode_extensions(extensions.pairs(selected), from_server=True) == (selected,)


@given(st.lists(st.tuples(st.sampled_from([1, 10, 11, 13, 22, 23, 28, 35, 43, 54, 0xFF01]) | uint16, st.binary())))
def test_any_extension_decodes_or_raises_the_typed_error(found: list[tuple[int, bytes]]) -> None:
    for from_server in (True, False):
        with contextlib.suppress(DecodeError):
            extensions.decode_extensions(tuple(found), from_server=from_server)


@given(st.binary(max_size=60), st.integers(0, 2**32 - 1))
def test_tickets_round_trip_and_any_bytes_are_harmless(data: bytes, lifetime_s: int) -> None:
    ticket = NewSessionTicket(lifetime_s, data)
    assert decode_new_session_ticket(ticket.encode()) == ticket
    with contextlib.suppress(DecodeError):
        decode_new_session_ticket(data)


bodies = st.one_of(
    st.binary(max_size=60),
    st.builds(ServerHello, st.just(bytes(32)), uint16, st.binary(max_size=32)).map(ServerHello.encode),
)
messages = st.builds(Message, st.sampled_from(HandshakeType), st.integers(0, 4), bodies).map(Message.encode)
fragments = st.builds(
    Fragment, st.sampled_from(HandshakeType), st.integers(0, 90), st.integers(0, 4), st.integers(0, 30), st.binary()
).map(Fragment.encode)
arriving = st.one_of(
    st.binary(max_size=80),
    st.builds(
        record, st.sampled_from(ContentType), messages | fragments | st.binary(max_size=60), uint16, st.integers(0, 2)
    ),
)


@given(st.lists(arriving, max_size=8), st.booleans())
def test_whatever_comes_is_noted_and_nothing_raises(datagrams: list[bytes], keyed: bool) -> None:
    client = Connection(IDENTITY, PSK)
    if keyed:
        client.client_hello()
        client.receive(0.0, handshake(SERVER_HELLO, DONE))
        client.last_flight()
    for datagram in datagrams:
        client.receive(1.0, datagram)
    assert all(received.t_s in (0.0, 1.0) for received in client.seen)


def test_a_hello_is_repeated_after_1_2_4_seconds_with_new_record_numbers() -> None:
    conversation = Conversation(Client(IDENTITY, PSK).hello())
    assert said(conversation.start(100.0)) == [(0, HandshakeType.CLIENT_HELLO, 0)]
    times = []
    for sequence in (1, 2, 3):
        times.append(conversation.next_timeout_s)
        assert said(conversation.timeout(times[-1])) == [(sequence, HandshakeType.CLIENT_HELLO, 0)]
    assert times == [101.0, 103.0, 107.0]
    assert conversation.next_timeout_s == 115.0
    with pytest.raises(Silence, match="15 s"):
        conversation.timeout(115.0)


def test_an_answer_stops_the_timer_and_the_next_flight_has_its_own() -> None:
    client = Client(IDENTITY, PSK)
    conversation = Conversation(client.hello())
    conversation.start(0.0)
    (datagram,) = conversation.receive(0.4, handshake(HELLO_VERIFY))
    assert conversation.next_timeout_s == 1.4
    assert decode_client_hello(client_hello_body(datagram)).cookie == b"cookie"
    assert conversation.receive(0.5, handshake(HELLO_VERIFY)) == ()
    assert conversation.next_timeout_s == 1.4
    assert not conversation.ended
    assert conversation.receive(0.6, handshake(SERVER_HELLO, DONE)) == ()
    assert conversation.ended
    assert conversation.result == ServerHelloDone()


def client_hello_body(datagram: bytes) -> bytes:
    (each,) = parse_datagram(datagram)
    (fragment,) = parse_fragments(each.fragment)
    return fragment.data


def test_messages_are_taken_in_order_and_once() -> None:
    client = Connection(IDENTITY, PSK)
    client.client_hello()
    client.receive(0.0, handshake(HELLO_VERIFY))
    client.client_hello()
    assert client.receive(1.0, handshake(DONE)) == ()
    names = [received.name for received in client.receive(2.0, handshake(SERVER_HELLO))]
    assert names == ["ServerHello", "ServerHelloDone"]
    before = client.transcript
    again = client.receive(3.0, handshake(SERVER_HELLO, DONE, sequence=5))
    assert [(received.repeated, received.sequence) for received in again] == [(True, 5), (True, 5)]
    assert client.transcript == before


def test_an_alert_ends_what_waits_for_something_else() -> None:
    conversation = Conversation(Client(IDENTITY, PSK).handshake())
    conversation.start(0.0)
    with pytest.raises(Refused, match=r"handshake_failure \(40\)"):
        conversation.receive(0.1, record(ContentType.ALERT, Alert(2, 40).encode()))


def test_what_does_not_open_is_told_from_what_is_no_record() -> None:
    client = Connection(IDENTITY, PSK)
    (early,) = client.receive(0.0, record(ContentType.APPLICATION_DATA, b"x" * 30, epoch=1))
    (junk,) = client.receive(0.0, b"junk")
    assert isinstance(early.content, Unreadable)
    assert junk.content == Malformed(b"junk")


def test_listening_takes_what_no_expectation_had_looked_at() -> None:
    client = Client(IDENTITY, PSK)

    def script() -> Script[tuple[str, ...]]:
        yield from client.expect(HelloVerifyRequest)
        return tuple(received.name for received in (yield from client.listen(1.0)))

    conversation = Conversation(script())
    conversation.start(0.0)
    conversation.receive(0.1, handshake(HELLO_VERIFY) + handshake(SERVER_HELLO))
    conversation.receive(0.2, handshake(DONE))
    assert conversation.next_timeout_s == pytest.approx(1.1)
    conversation.timeout(1.1)
    assert conversation.result == ("ServerHello", "ServerHelloDone")


def test_what_is_read_late_is_heard_and_a_flood_ends() -> None:
    conversation = Conversation(Client(IDENTITY, PSK).listen(1.0))
    conversation.start(0.0)
    for t_s in (0.5, 1.5, 2.5):
        assert not conversation.ended
        conversation.receive(t_s, b"flood")
    assert [received.t_s for received in conversation.result] == [0.5, 1.5, 2.5]


@given(st.binary(min_size=1, max_size=80), st.integers(1, 30), st.integers(0, 10), st.randoms())
def test_pieces_make_the_message_again(body: bytes, size: int, overlap: int, order: Any) -> None:
    message = HandshakeMessage(HandshakeType.CLIENT_HELLO, 3, body, 0)
    encoded = [piece.encode() for piece in message.pieces(size, overlap)]
    order.shuffle(encoded)
    reassembler = Reassembler()
    whole = [reassembler.add(fragment) for data in encoded for fragment in parse_fragments(data)]
    assert Message(HandshakeType.CLIENT_HELLO, 3, body) in whole


def test_every_field_of_a_record_and_of_a_piece_may_be_wrong() -> None:
    client = Connection(IDENTITY, PSK)
    hello = client.client_hello(version=0xFEFC, suites=(0x0A0A, 0xC0A8), compression=b"")
    odd = client.record(hello, epoch=7, sequence=2**48 - 1, version=0x0303).encode()
    assert odd[:13].hex() == "160303" + "0007" + "ffffffffffff" + f"{len(odd) - 13:04x}"
    assert client.record(hello).sequence == 0
    (fragment,) = parse_fragments(odd[13:])
    assert decode_client_hello(fragment.data).suites == (0x0A0A, 0xC0A8)
    lie = HandshakeMessage(99, 0, b"abc", 0).piece(1, 2)
    assert lie.encode().hex() == "63" + "000003" + "0000" + "000001" + "000001" + "62"
    both = joined(hello, hello)
    assert len(parse_fragments(both.encode())) == 2


def test_spoiling_turns_one_bit() -> None:
    assert spoiled(b"\0\0") == b"\0\1"
    assert spoiled(b"\0\0", 0) == b"\1\0"


def test_keys_that_cannot_be_had_are_named() -> None:
    client = Connection(IDENTITY, PSK)
    with pytest.raises(NoKeys, match="missing"):
        client.finished()
    client.client_hello()
    client.receive(0.0, handshake(Message(HandshakeType.SERVER_HELLO, 1, ServerHello(bytes(32), 0x1301).encode())))
    with pytest.raises(NoKeys, match="4865"):
        client.last_flight()


def test_a_finished_without_keys_is_not_right() -> None:
    client = Connection(IDENTITY, PSK)
    client.client_hello()
    client.receive(0.0, handshake(SERVER_HELLO, Message(HandshakeType.FINISHED, 2, bytes(12))))
    assert isinstance(client.seen[-1].content, Finished)
    assert client.server_verified is False
