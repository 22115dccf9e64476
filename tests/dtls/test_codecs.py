"""Records, handshake messages, alerts, CoAP: what is encoded is decoded, and any bytes at most raise DecodeError."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.dtls import coap, handshake
from rig.dtls.alerts import Alert, decode_alert
from rig.dtls.handshake import (
    Certificate,
    ClientHello,
    ClientKeyExchange,
    EcdheClientKeyExchange,
    EcdheServerKeyExchange,
    Fragment,
    HandshakeType,
    HelloVerifyRequest,
    Message,
    Reassembler,
    ServerHello,
    ServerKeyExchange,
    parse_fragments,
)
from rig.dtls.records import ContentType, Record, parse_datagram
from rig.dtls.wire import DecodeError

uint8, uint16 = st.integers(0, 255), st.integers(0, 65535)
randoms = st.binary(min_size=32, max_size=32)
extensions = st.none() | st.lists(st.tuples(uint16, st.binary(max_size=20)), max_size=4).map(tuple)
records = st.builds(
    Record,
    st.sampled_from(ContentType),
    st.sampled_from([0xFEFF, 0xFEFD]),
    uint16,
    st.integers(0, 2**48 - 1),
    st.binary(max_size=50),
)
client_hellos = st.builds(
    ClientHello,
    randoms,
    st.lists(uint16, max_size=10).map(tuple),
    st.binary(max_size=255),
    st.binary(max_size=32),
    uint16,
    st.binary(max_size=3),
    extensions,
)
server_hellos = st.builds(ServerHello, randoms, uint16, st.binary(max_size=32), uint16, uint8, extensions)
options = st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=300)), max_size=6).map(
    lambda found: tuple(sorted(found, key=lambda option: option[0]))
)
coap_messages = st.builds(
    coap.Message,
    st.sampled_from(coap.Type),
    st.integers(1, 255),
    uint16,
    st.binary(max_size=8),
    options,
    st.binary(max_size=40),
)


@given(st.lists(records, min_size=1, max_size=5))
def test_records_round_trip(sent: list[Record]) -> None:
    assert parse_datagram(b"".join(record.encode() for record in sent)) == tuple(sent)


@given(client_hellos)
def test_client_hello_round_trips(hello: ClientHello) -> None:
    assert handshake.decode_client_hello(hello.encode()) == hello


@given(server_hellos)
def test_server_hello_round_trips(hello: ServerHello) -> None:
    assert handshake.decode_server_hello(hello.encode()) == hello


@given(st.binary(max_size=255), uint16, uint8, uint8)
def test_small_messages_round_trip(data: bytes, version: int, level: int, description: int) -> None:
    request = HelloVerifyRequest(data, version)
    assert handshake.decode_hello_verify_request(request.encode()) == request
    assert handshake.decode_server_key_exchange(ServerKeyExchange(data).encode()) == ServerKeyExchange(data)
    assert handshake.decode_client_key_exchange(ClientKeyExchange(data).encode()) == ClientKeyExchange(data)
    assert decode_alert(Alert(level, description).encode()) == Alert(level, description)


@given(st.lists(st.binary(max_size=40), max_size=3).map(tuple))
def test_certificates_round_trip(chain: tuple[bytes, ...]) -> None:
    assert handshake.decode_certificate(Certificate(chain).encode()) == Certificate(chain)


@given(uint16, st.binary(max_size=255), uint16, st.binary(max_size=80))
def test_key_exchanges_of_ecdhe_round_trip(group: int, point: bytes, algorithm: int, signature: bytes) -> None:
    server, client = EcdheServerKeyExchange(group, point, algorithm, signature), EcdheClientKeyExchange(point)
    assert handshake.decode_ecdhe_server_key_exchange(server.encode()) == server
    assert handshake.decode_ecdhe_client_key_exchange(client.encode()) == client


def test_a_curve_without_a_name_is_refused() -> None:
    body = EcdheServerKeyExchange(23, b"point", 0x0403, b"signature").encode()
    with pytest.raises(DecodeError, match="curve type 1"):
        handshake.decode_ecdhe_server_key_exchange(b"\1" + body[1:])


@given(coap_messages)
def test_coap_round_trips(message: coap.Message) -> None:
    assert coap.decode(message.encode()) == message


decoders: list[Callable[[bytes], Any]] = [
    parse_datagram,
    parse_fragments,
    decode_alert,
    coap.decode,
    handshake.decode_client_hello,
    handshake.decode_server_hello,
    handshake.decode_hello_verify_request,
    handshake.decode_server_key_exchange,
    handshake.decode_client_key_exchange,
    handshake.decode_certificate,
    handshake.decode_ecdhe_server_key_exchange,
    handshake.decode_ecdhe_client_key_exchange,
]


@pytest.mark.parametrize("decode", decoders)
@given(st.binary(max_size=120))
def test_any_bytes_decode_or_raise_the_typed_error(decode: Callable[[bytes], Any], data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(data)


@given(st.data(), st.one_of(client_hellos, server_hellos))
def test_damaged_hellos_raise_the_typed_error(data: st.DataObject, hello: ClientHello | ServerHello) -> None:
    body = bytearray(hello.encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    for decode in (handshake.decode_client_hello, handshake.decode_server_hello):
        with contextlib.suppress(DecodeError):
            decode(bytes(body[: data.draw(st.integers(0, len(body)))]))


@given(st.binary(min_size=1, max_size=100), st.data())
def test_fragments_join_in_any_order_with_overlaps(body: bytes, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, len(body)))
    overlap = data.draw(st.integers(0, 5))
    pieces = [
        Fragment(HandshakeType.CLIENT_HELLO, len(body), 3, at, body[at : at + step + overlap])
        for at in range(0, len(body), step)
    ]
    reassembler = Reassembler()
    joined = [reassembler.add(piece) for piece in data.draw(st.permutations(pieces))]
    whole = Message(HandshakeType.CLIENT_HELLO, 3, body)
    assert whole in joined
    assert all(message in (None, whole) for message in joined)


def test_a_record_may_carry_several_messages() -> None:
    parts = [Message(HandshakeType.SERVER_HELLO, 1, b"abc"), Message(HandshakeType.SERVER_HELLO_DONE, 2, b"")]
    found = [Reassembler().add(fragment) for fragment in parse_fragments(b"".join(part.encode() for part in parts))]
    assert found == parts


def test_a_giant_message_is_refused_before_it_is_collected() -> None:
    with pytest.raises(DecodeError, match="16777215"):
        Reassembler().add(Fragment(HandshakeType.CLIENT_HELLO, 2**24 - 1, 0, 0, b"x"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (bytes(12), "cut short"),
        (bytes.fromhex("63fefd00000000000000000000"), "content type 99"),
        (bytes.fromhex("17030300000000000000000000"), "0x0303"),
        (bytes.fromhex("17fefd0000000000000000000500"), "5 bytes in a datagram with 1 left"),
    ],
)
def test_record_errors_are_named(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        parse_datagram(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("80010001", "version 2"),
        ("49010001" + "00" * 9, "token length 9"),
        ("4001000 1ff".replace(" ", ""), "without a payload"),
        ("4000000100", "empty CoAP message"),
        ("40010001f0", "nibble 15"),
        ("400100010f", "nibble 15"),
        ("40010001e0ffffe0ffff", "option number"),
        ("400100013161", None),
    ],
)
def test_coap_format_errors_are_named(data: str, said: str | None) -> None:
    if said is None:
        assert coap.decode(bytes.fromhex(data)).options == ((3, b"a"),)
        return
    with pytest.raises(DecodeError, match=said):
        coap.decode(bytes.fromhex(data))


def test_what_a_coap_message_says_of_itself() -> None:
    message = coap.Message(coap.Type.CON, 0x45, 7, b"t", ((6, b"\x01\x02"), (11, b"a"), (11, b"b")), b"on")
    assert (message.code_text, message.path, message.observe) == ("2.05", "/a/b", 258)
    with pytest.raises(ValueError, match="8 bytes"):
        coap.Message(coap.Type.CON, 1, 1, bytes(9)).encode()


@given(st.integers(0, 2**20 - 1), st.booleans(), st.integers(0, 7))
def test_a_block_option_round_trips(number: int, more: bool, szx: int) -> None:
    block = coap.Block(number, more, szx)
    message = coap.Message(coap.Type.CON, coap.GET, 1, options=((coap.OptionNumber.BLOCK2, block.encode()),))
    assert coap.decode(message.encode()).block(coap.OptionNumber.BLOCK2) == block
    assert message.block(coap.OptionNumber.BLOCK1) is None
    assert block.offset == number * block.size


@given(coap_messages, st.integers(0, 3), st.integers(0, 15))
def test_a_frame_says_what_it_is_told_to(message: coap.Message, version: int, length: int) -> None:
    encoded = message.encode()
    framed = coap.frame(
        message.type,
        message.code,
        message.message_id,
        message.token,
        encoded[4 + len(message.token) :],
        version=version,
        token_length=length,
    )
    assert framed[1:] == encoded[1:]
    assert (framed[0] >> 6, framed[0] & 0x0F) == (version, length)
    if version == 1 and length == len(message.token):
        assert framed == encoded
