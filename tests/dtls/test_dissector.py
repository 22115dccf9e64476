"""The dissector on what is not a session: noise, echoes, alerts, damage. Real sessions are in tests/router."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from rig.dtls.alerts import Alert
from rig.dtls.dissector import Dissector, dissect_capture
from rig.dtls.handshake import ClientHello, Fragment, HandshakeType, HelloVerifyRequest, Message, ServerHello
from rig.dtls.records import DTLS_1_2, ContentType, Record
from rig.dtls.session import Endpoint

CLIENT, BOARD = ("127.0.0.1", 40000), ("127.0.0.2", 5684)
SUITE = 0xC0A8


def record(kind: ContentType, data: bytes, epoch: int = 0, sequence: int = 0) -> bytes:
    return Record(kind, DTLS_1_2, epoch, sequence, data).encode()


def handshake(kind: HandshakeType, message_seq: int, body: bytes) -> bytes:
    return record(ContentType.HANDSHAKE, Message(kind, message_seq, body).encode())


def hello(random: int = 1, cookie: bytes = b"", message_seq: int = 0) -> bytes:
    body = ClientHello(bytes([random]) * 32, (SUITE,), cookie).encode()
    return handshake(HandshakeType.CLIENT_HELLO, message_seq, body)


def verify(cookie: bytes) -> bytes:
    return handshake(HandshakeType.HELLO_VERIFY_REQUEST, 0, HelloVerifyRequest(cookie).encode())


def server_hello(message_seq: int = 1) -> bytes:
    return handshake(HandshakeType.SERVER_HELLO, message_seq, ServerHello(bytes(32), SUITE).encode())


def dissected(*datagrams: tuple[Endpoint, bytes]) -> Dissector:
    dissector = Dissector({b"me": b"key"})
    for number, (source, datagram) in enumerate(datagrams):
        dissector.feed(float(number), source, BOARD if source == CLIENT else CLIENT, datagram)
    return dissector


def test_a_cookie_exchange_is_seen() -> None:
    exchange = [(CLIENT, hello()), (BOARD, verify(b"c")), (CLIENT, hello(1, b"c", 1)), (BOARD, server_hello())]
    (session,) = dissected(*exchange).sessions()
    assert (session.start_s, session.cookie_exchanged, session.suite, session.server_hello_s) == (0, True, SUITE, 3)
    assert session.offered_suites == (SUITE,)
    assert [flight.messages for flight in session.flights] == [
        ("ClientHello",),
        ("HelloVerifyRequest",),
        ("ClientHello",),
        ("ServerHello",),
    ]


def test_a_server_hello_without_or_before_the_cookie_is_no_exchange() -> None:
    without = [(CLIENT, hello()), (BOARD, server_hello(0))]
    too_early = [(CLIENT, hello()), (BOARD, server_hello(0)), (BOARD, verify(b"c")), (CLIENT, hello(1, b"c", 1))]
    another = [(CLIENT, hello()), (BOARD, verify(b"c")), (CLIENT, hello(1, b"d", 1)), (BOARD, server_hello())]
    for exchange in (without, too_early, another):
        (session,) = dissected(*exchange).sessions()
        assert not session.cookie_exchanged


def test_silence_is_a_session_that_never_began() -> None:
    (session,) = dissected((CLIENT, hello()), (CLIENT, hello())).sessions()
    assert not session.established
    assert (session.server_hello_s, session.suite, session.suite_name, session.identity) == (None, None, None, None)
    assert [flight.retransmission for flight in session.flights] == [False, True]


def test_an_echo_is_not_taken_for_an_answer() -> None:
    (session,) = dissected((CLIENT, hello()), (BOARD, hello()), (CLIENT, hello()), (BOARD, hello())).sessions()
    assert session.client == CLIENT
    assert (session.server_hello_s, session.cookie_exchanged, session.established) == (None, False, False)


def test_alerts_are_read() -> None:
    alert = record(ContentType.ALERT, Alert(2, 115).encode())
    (session,) = dissected((CLIENT, hello()), (BOARD, alert)).sessions()
    (seen,) = session.alerts
    assert (seen.alert.name, seen.from_client, seen.epoch) == ("unknown_psk_identity", False, 0)


def test_a_hello_request_is_no_part_of_the_handshake() -> None:
    asked = handshake(HandshakeType.HELLO_REQUEST, 0, b"")
    (session,) = dissected((CLIENT, hello()), (BOARD, asked), (BOARD, server_hello(0))).sessions()
    assert session.server_hello_s == 2


def test_another_random_is_another_session() -> None:
    first, second = dissected((CLIENT, hello(1)), (CLIENT, hello(2)), (BOARD, verify(b"c"))).sessions()
    assert (len(first.records), len(second.records)) == (1, 2)


def test_a_hello_in_tiny_fragments_is_one_session() -> None:
    body = ClientHello(b"r" * 32, (SUITE,)).encode()
    pieces = [
        Fragment(HandshakeType.CLIENT_HELLO, len(body), 0, at, body[at : at + 5]) for at in range(0, len(body), 5)
    ]
    datagrams = [(CLIENT, record(ContentType.HANDSHAKE, piece.encode())) for piece in pieces]
    (session,) = dissected(*datagrams).sessions()
    assert session.client_random == b"r" * 32


def test_what_does_not_open_is_counted_by_epoch_and_side() -> None:
    sealed = [record(ContentType.APPLICATION_DATA, bytes(20), epoch, 1) for epoch in (1, 1, 2)]
    (session,) = dissected((CLIENT, hello()), *((BOARD, each) for each in sealed)).sessions()
    assert session.undecryptable() == {1: 2, 2: 1}
    assert session.undecryptable(from_client=True) == {}
    assert session.application_data == ()


def test_cleartext_application_data_is_never_counted_as_protected() -> None:
    clear = record(ContentType.APPLICATION_DATA, b"canary")
    (session,) = dissected((CLIENT, hello()), (BOARD, clear)).sessions()
    assert session.application_data == ()
    assert session.records[-1].plaintext == b"canary"


def test_what_belongs_to_no_session_is_counted() -> None:
    dissector = dissected((BOARD, verify(b"c")), (CLIENT, b"plain text"), (CLIENT, hello()))
    assert (dissector.unclaimed, dissector.malformed, len(dissector.sessions())) == (1, 1, 1)


fields = st.binary(max_size=60)
kinds = st.sampled_from(ContentType)
datagrams = st.one_of(
    fields,
    st.builds(record, kinds, fields, st.integers(0, 2), st.integers(0, 9)),
    st.builds(handshake, st.sampled_from(HandshakeType), st.integers(0, 4), fields),
    st.builds(hello, st.integers(0, 3), st.binary(max_size=4), st.integers(0, 3)),
    st.builds(verify, st.binary(max_size=4)),
    st.builds(server_hello, st.integers(0, 3)),
)


@given(st.lists(st.tuples(st.sampled_from([CLIENT, BOARD]), datagrams), max_size=20))
def test_nothing_that_is_fed_raises(fed: list[tuple[Endpoint, bytes]]) -> None:
    assert not any(session.established for session in dissected(*fed).sessions())


@dataclass(frozen=True)
class SomePacket:
    t_s: float
    side: str
    source: Endpoint
    destination: Endpoint
    payload: bytes


def test_a_capture_is_judged_on_the_boards_side_and_by_port() -> None:
    at_client = SomePacket(0.0, "client", CLIENT, ("127.0.0.9", 1), hello(3))
    at_board = [SomePacket(1.0, "board", ("127.0.0.9", port), BOARD, hello(port)) for port in (1, 2)]
    assert len(dissect_capture([at_client, *at_board], {})) == 2
    assert [each.client[1] for each in dissect_capture([at_client, *at_board], {}, client_ports={2})] == [2]
