"""The healthy device, message by message: RFC 7252, 7959 and 7641 as the plan asks for them."""

import json
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from rig.dtls.coap import DELETE, EMPTY, GET, POST, PUT, Message, OptionNumber, Type

TalkMaker = Callable[..., Any]
CON, NON, ACK, RST = Type.CON, Type.NON, Type.ACK, Type.RST
OBSERVE, BLOCK1, BLOCK2, ACCEPT = OptionNumber.OBSERVE, OptionNumber.BLOCK1, OptionNumber.BLOCK2, OptionNumber.ACCEPT
FORMAT, ETAG, SIZE1, SIZE2 = OptionNumber.CONTENT_FORMAT, OptionNumber.ETAG, OptionNumber.SIZE1, OptionNumber.SIZE2
REGISTER, CANCEL = (OBSERVE, b""), (OBSERVE, b"\1")
LARGEST = 8192


def block(number: int, *, more: bool, szx: int) -> bytes:
    return (number << 4 | more << 3 | szx).to_bytes(3, "big").lstrip(b"\0")


def number_of(message: Message, option: int) -> int:
    return int.from_bytes(message.values(option)[0], "big")


def pattern(size: int) -> bytes:
    return b"".join(b"%07x\n" % at for at in range(0, size, 8))[:size]


# --- messages (RFC 7252 3, 4)


def test_a_ping_is_answered_by_a_reset(talk: TalkMaker) -> None:
    assert talk().tell(Message(CON, EMPTY, 77)) == [Message(RST, EMPTY, 77)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x40\x01\x00",
        bytes((2 << 6, GET, 0, 1)),  # version 2
        bytes((1 << 6 | NON << 4 | 9, GET, 0, 1)) + bytes(9),
        bytes((1 << 6 | NON << 4, EMPTY, 0, 1)),
        bytes((1 << 6 | ACK << 4, EMPTY, 0, 1)),
        bytes((1 << 6 | RST << 4, EMPTY, 0, 1)),
        bytes((1 << 6 | NON << 4, 7 << 5, 0, 1)),
        bytes((1 << 6 | NON << 4, 0x45, 0, 1)),
    ],
    ids=lambda data: data.hex() or "nothing",
)
def test_what_is_never_answered(talk: TalkMaker, data: bytes) -> None:
    assert talk().give(data) == []


@pytest.mark.parametrize(
    "data",
    [
        bytes((1 << 6 | 9, GET, 0, 5)) + bytes(9),
        bytes((1 << 6, GET, 0, 5, 0xFF)),  # marker without payload
        bytes((1 << 6, GET, 0, 5, 0xF0)),
        bytes((1 << 6, GET, 0, 5, 0xB5, 0x6C)),  # option past the end
        bytes((1 << 6 | 1, EMPTY, 0, 5, 1)),
        bytes((1 << 6, EMPTY, 0, 5, 0xFF, 1)),
        bytes((1 << 6, 0x21, 0, 5)),  # class 1
        bytes((1 << 6, 0xC0, 0, 5)),
        bytes((1 << 6, 0xE0, 0, 5)),
        bytes((1 << 6, 0x45, 0, 5)),  # a response to nothing
    ],
    ids=lambda data: data.hex(),
)
def test_a_confirmable_message_that_is_no_request_gets_a_reset(talk: TalkMaker, data: bytes) -> None:
    assert talk().give(data) == [Message(RST, EMPTY, 5)]


@pytest.mark.parametrize("length", range(9))
def test_the_token_comes_back(talk: TalkMaker, length: int) -> None:
    answer = talk().ask(GET, token=bytes(range(length)))
    assert (answer.type, answer.token, answer.payload) == (ACK, bytes(range(length)), b"off")


def test_a_repeated_request_is_executed_once_and_answered_the_same(talk: TalkMaker) -> None:
    client = talk()
    first = client.ask(POST, "/blob", payload=b"x", message_id=9)
    assert client.ask(POST, "/blob", payload=b"x", message_id=9) == first
    assert (client.application.service.executed, client.application.duplicates) == (1, 1)
    client.wait(248)
    client.ask(POST, "/blob", payload=b"x", message_id=9)
    assert client.application.service.executed == 2


def test_a_repeated_non_confirmable_request_is_answered_once(talk: TalkMaker) -> None:
    client = talk()
    message = Message(NON, GET, 3, b"t", ((OptionNumber.URI_PATH, b"light"),))
    assert [len(client.tell(message)) for _ in range(2)] == [1, 0]


def test_message_ids_of_two_clients_have_nothing_to_do_with_each_other(talk: TalkMaker) -> None:
    client = talk()
    assert client.ask(PUT, payload=b"on", message_id=1, client=1).code_text == "2.04"
    assert client.ask(GET, message_id=1, client=2).payload == b"on"


# --- options and codes (RFC 7252 5)


@pytest.mark.parametrize(
    ("code", "path", "options", "payload", "expected"),
    [
        (GET, "/light", [(65000, b"x")], b"", "2.05"),
        (GET, "/light", [(65001, b"x")], b"", "4.02"),
        (GET, "/light", [(7, b"\x16\x34"), (7, b"\x16\x34")], b"", "4.02"),
        (GET, "/light", [(7, b"\x16\x34")], b"", "2.05"),
        (GET, "/light", [(ACCEPT, b"\0\0\0")], b"", "4.02"),
        (GET, "/light", [(35, b"coap://x")], b"", "5.05"),
        (GET, "/nope", [], b"", "4.04"),
        (GET, "/", [], b"", "4.04"),
        (DELETE, "/light", [], b"", "4.05"),
        (POST, "/light", [], b"on", "4.05"),
        (0x1F, "/light", [], b"", "4.05"),
        (GET, "/light", [(ACCEPT, b"\x27\x0f")], b"", "4.06"),
        (GET, "/light", [(ACCEPT, b"")], b"", "2.05"),
        (PUT, "/light", [(FORMAT, b"\x29")], b"on", "4.15"),
        (PUT, "/light", [], b"dim", "4.00"),
        (PUT, "/light", [], b"x" * 65, "4.13"),
        (PUT, "/config", [(FORMAT, b"\x32")], b"{", "4.00"),
        (PUT, "/config", [(FORMAT, b"\x32")], b'{"x":1}', "4.00"),
        (PUT, "/config", [(FORMAT, b"\x32")], b'{"telemetry_period_ms":true}', "4.00"),
        (PUT, "/config", [(FORMAT, b"\x32")], b'{"telemetry_period_ms":500}', "2.04"),
        (PUT, "/light", [(OptionNumber.IF_NONE_MATCH, b"")], b"on", "4.12"),
        (PUT, "/light", [(OptionNumber.IF_MATCH, b"abcd")], b"on", "4.12"),
        (PUT, "/light", [(OptionNumber.IF_MATCH, b"")], b"on", "2.04"),
        (GET, "/blob?n=8193", [], b"", "4.00"),
        (GET, "/blob?n=-1", [], b"", "4.00"),
    ],
)
def test_the_code_that_a_request_gets(
    talk: TalkMaker, code: int, path: str, options: list[tuple[int, bytes]], payload: bytes, expected: str
) -> None:
    assert talk().ask(code, path, *options, payload=payload).code_text == expected


def test_a_bad_option_in_a_non_confirmable_request_is_rejected(talk: TalkMaker) -> None:
    answer = talk().ask(GET, "/light", (65001, b""), type=NON, message_id=8)
    assert answer == Message(RST, EMPTY, 8)


def test_a_known_etag_saves_the_body(talk: TalkMaker) -> None:
    client = talk()
    tag = client.ask(GET).values(ETAG)[0]
    valid = client.ask(GET, "/light", (ETAG, tag))
    assert (valid.code_text, valid.payload, valid.values(ETAG)) == ("2.03", b"", (tag,))
    assert client.ask(PUT, "/light", (OptionNumber.IF_MATCH, tag), payload=b"on").code_text == "2.04"
    assert client.ask(GET, "/light", (ETAG, tag)).code_text == "2.05"


def test_the_sensor_has_two_formats(talk: TalkMaker) -> None:
    client = talk()
    text, binary = client.ask(GET, "/sensor"), client.ask(GET, "/sensor", (ACCEPT, b"\x3c"))
    assert json.loads(text.payload) == {"sequence": 1, "uptime_ms": 1, "free_heap": 2}
    assert binary.payload == b"\xa3\x68sequence\x01\x69uptime_ms\x01\x69free_heap\x02"
    assert (number_of(text, FORMAT), number_of(binary, FORMAT)) == (50, 60)


# --- blocks (RFC 7959)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 2048, LARGEST])
@pytest.mark.parametrize("szx", [None, 0, 3, 6])
def test_a_body_comes_whole_in_blocks_of_any_size(talk: TalkMaker, size: int, szx: int | None) -> None:
    client, body, number, more = talk(), b"", 0, True
    while more:
        asked = [] if szx is None else [(BLOCK2, block(number, more=False, szx=szx))]
        answer = client.ask(GET, f"/blob?n={size}", *asked)
        body += answer.payload
        said = number_of(answer, BLOCK2) if answer.values(BLOCK2) else 0
        szx = said & 7 if answer.values(BLOCK2) else szx
        assert said >> 4 == number
        number, more = number + 1, bool(said & 8)
    assert body == pattern(size)


def test_the_block_size_can_be_reduced_on_the_way(talk: TalkMaker) -> None:
    client = talk()
    body = client.ask(GET, "/blob?n=600", (BLOCK2, block(0, more=False, szx=4))).payload
    body += b"".join(
        client.ask(GET, "/blob?n=600", (BLOCK2, block(number, more=False, szx=2))).payload for number in range(4, 10)
    )
    assert body == pattern(600)


def test_blocks_that_are_none(talk: TalkMaker) -> None:
    client = talk()
    assert client.ask(GET, "/blob?n=99", (BLOCK2, block(0, more=False, szx=7))).code_text == "4.00"
    assert client.ask(GET, "/blob?n=99", (BLOCK2, block(7, more=False, szx=0))).code_text == "4.00"
    assert client.ask(PUT, "/blob", (BLOCK1, block(0, more=True, szx=7)), payload=bytes(1024)).code_text == "4.00"
    assert client.ask(PUT, "/blob", (BLOCK1, block(0, more=True, szx=0)), payload=bytes(15)).code_text == "4.00"


def test_later_blocks_are_of_the_state_of_the_first(talk: TalkMaker) -> None:
    client = talk()
    first = client.ask(GET, "/sensor", (BLOCK2, block(0, more=False, szx=0)))
    client.wait(10)
    rest = [client.ask(GET, "/sensor", (BLOCK2, block(number, more=False, szx=0))) for number in (1, 2)]
    body = first.payload + b"".join(each.payload for each in rest)
    assert json.loads(body)["sequence"] == 1
    assert number_of(first, SIZE2) == len(body)


def upload(clients: Any, body: bytes, numbers: range, **fields: Any) -> list[str]:
    """Send these blocks of 16 bytes; return the codes."""
    codes = []
    for number in numbers:
        option = BLOCK1, block(number, more=16 * number + 16 < len(body), szx=0)
        answer = clients.ask(PUT, "/blob", option, payload=body[16 * number : 16 * number + 16], **fields)
        codes.append(answer.code_text)
        if answer.code_text == "2.04":
            assert json.loads(answer.payload) == {"length": len(body), "crc32": f"{zlib.crc32(body):08x}"}
    return codes


def test_a_body_is_taken_in_blocks(talk: TalkMaker) -> None:
    client, body = talk(), bytes(range(40))
    assert upload(client, body, range(3)) == ["2.31", "2.31", "2.04"]
    assert upload(client, body, range(2)) == ["2.31", "2.31"]
    assert upload(client, body, range(3)) == ["2.31", "2.31", "2.04"]  # begun anew in the middle


def test_a_missing_block_is_missed(talk: TalkMaker) -> None:
    client, body = talk(), bytes(range(60))
    assert upload(client, body, range(3, 4)) == ["4.08"]
    assert upload(client, body, range(1)) + upload(client, body, range(2, 4)) == ["2.31", "4.08", "4.08"]


def test_bodies_of_two_clients_are_kept_apart(talk: TalkMaker) -> None:
    client, bodies = talk(), {1: b"a" * 40, 2: b"b" * 40}
    codes = [
        upload(client, body, range(number, number + 1), client=each)
        for number in range(3)
        for each, body in bodies.items()
    ]
    assert codes == [["2.31"], ["2.31"], ["2.31"], ["2.31"], ["2.04"], ["2.04"]]


def test_a_body_without_end_is_refused_and_let_go(talk: TalkMaker) -> None:
    client = talk()
    for number in range(LARGEST // 1024):
        option = BLOCK1, block(number, more=True, szx=6)
        assert client.ask(PUT, "/blob", option, payload=bytes(1024)).code_text == "2.31"
    refused = client.ask(PUT, "/blob", (BLOCK1, block(number + 1, more=True, szx=6)), payload=bytes(1024))
    assert (refused.code_text, number_of(refused, SIZE1)) == ("4.13", LARGEST)
    assert client.application.service.held_bytes == 0
    announced = client.ask(PUT, "/blob", (SIZE1, b"\xff\xff\xff"), payload=b"x")
    assert announced.code_text == "4.13"


@pytest.mark.parametrize("size", [99, 100, 101, 128, 512, 1024, 1152, 1300])
def test_a_body_of_any_size_is_taken_or_too_large(talk: TalkMaker, size: int) -> None:
    client = talk()
    assert client.ask(PUT, "/blob", payload=bytes(size)).code_text == "2.04"
    assert client.ask(PUT, "/light", payload=b"o" * size).code_text == "4.13"
    assert client.ask(GET, "/light").payload == b"off"


# --- observation (RFC 7641)


def notification(client: Any, value: bytes) -> list[Message]:
    """Change the light from another session; return what the observer is sent."""
    before = len(client.sent)
    assert client.ask(PUT, payload=value, client=2).code_text == "2.04"
    return [message for _, number, message in client.sent[before:] if number == 1]


def acknowledged(client: Any, message: Message) -> list[Message]:
    answers: list[Message] = client.tell(Message(ACK, EMPTY, message.message_id))
    return answers


def test_each_observation_is_notified_under_its_own_token(talk: TalkMaker) -> None:
    client = talk()
    firsts = [client.ask(GET, path, REGISTER, token=token) for path, token in (("/light", b"a"), ("/light?2", b"b"))]
    told = {b"a": [firsts[0]], b"b": [firsts[1]]}
    for value in (b"on", b"off", b"on"):
        waiting = notification(client, value)
        for _ in range(2):
            (message,) = waiting  # one at a time: NSTART is 1
            assert (message.type, message.payload) == (CON, value)
            told[message.token].append(message)
            waiting = acknowledged(client, message)
    for messages in told.values():
        values = [message.observe for message in messages]
        assert values == sorted(set(values))
        assert len(values) == 4


@pytest.mark.parametrize("end", ["cancel", "reset"])
def test_an_observation_ends_when_the_client_says_so(talk: TalkMaker, end: str) -> None:
    client = talk()
    client.ask(GET, "/light", REGISTER)
    if end == "cancel":
        assert client.ask(GET, "/light", CANCEL).observe is None
    else:
        (first,) = notification(client, b"on")
        client.tell(Message(RST, EMPTY, first.message_id))
        assert client.wait(100) == []
    assert notification(client, b"off") == []
    assert notification(client, b"on") == []


def test_a_reset_to_a_reading_ends_its_observation_too(talk: TalkMaker) -> None:
    client = talk()
    client.ask(GET, "/sensor", REGISTER)
    (_, first), *_ = client.wait(11)
    assert first.type == NON
    client.tell(Message(RST, EMPTY, first.message_id))
    assert client.wait(100) == []


def test_a_notification_is_sent_five_times_and_then_the_observer_is_forgotten(talk: TalkMaker) -> None:
    starts = set()
    for _ in range(5):
        client = talk()
        client.ask(GET, "/light", REGISTER)
        (first,) = notification(client, b"on")
        times = [client.now_s, *(t_s for t_s, message in client.wait(100) if message == first)]
        intervals = [later - earlier for earlier, later in pairwise(times)]
        assert len(intervals) == 4
        assert 2.0 <= intervals[0] <= 3.0
        assert [later / earlier for earlier, later in pairwise(intervals)] == pytest.approx([2, 2, 2])
        assert notification(client, b"off") == []
        starts.add(intervals[0])
    assert len(starts) == 5


def test_the_newest_state_follows_what_is_on_its_way(talk: TalkMaker) -> None:
    client = talk()
    client.ask(GET, "/light", REGISTER)
    (first,) = notification(client, b"on")
    assert notification(client, b"off") == []
    (second,) = acknowledged(client, first)
    assert (second.payload, second.message_id != first.message_id) == (b"off", True)


def test_every_sixth_reading_is_confirmable(talk: TalkMaker) -> None:
    client = talk()
    client.ask(GET, "/sensor", REGISTER)
    assert [message.type for _, message in client.wait(61)] == [NON] * 5 + [CON]


def test_an_observation_ends_with_its_session(talk: TalkMaker) -> None:
    client = talk()
    client.ask(GET, "/light", REGISTER)
    client.application.disconnect(1)
    client.application.connect(1)
    assert notification(client, b"on") == []


def test_observations_are_bounded(talk: TalkMaker) -> None:
    client = talk()
    answers = [client.ask(GET, "/light", REGISTER, token=bytes((number,))) for number in range(40)]
    assert [answer.observe is not None for answer in answers] == [True] * 32 + [False] * 8
