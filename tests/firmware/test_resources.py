"""The resources over real DTLS: each by libcoap's client, aiocoap's and single messages that OpenSSL carries.

The program is built with gcc's sanitizers. Each test ends with the device going to sleep, which is a clean end: a leak
is a finding as well.
"""

import itertools
import json
import os
import re
import select
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rig.coap import CoapClient
from rig.dtls.coap import DELETE, EMPTY, GET, POST, PUT, Message, OptionNumber, Type, decode

GIVE_UP_S = 20.0
IDENTITY, PSK = "board-under-test", b"0123456789abcdef"
ACCEPT, FORMAT, OBSERVE = OptionNumber.ACCEPT, OptionNumber.CONTENT_FORMAT, OptionNumber.OBSERVE
BLOCK1, BLOCK2, SIZE1, SIZE2 = OptionNumber.BLOCK1, OptionNumber.BLOCK2, OptionNumber.SIZE1, OptionNumber.SIZE2
ETAG = OptionNumber.ETAG
TEXT, LINKS, OCTETS, JSON, CBOR = 0, 40, 42, 50, 60
LARGEST = 8192
NO_RESPONSE = 258  # RFC 7967; the value 8 asks for no 4.xx
OPENSSL_PIECE = 1024  # s_client hands on a longer record in two


def number_bytes(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def number(message: Message, option: int) -> int | None:
    values = message.values(option)
    return int.from_bytes(values[0], "big") if values else None


def block_value(num: int, more: bool, szx: int) -> int:
    return num << 4 | more << 3 | szx


def block_of(message: Message, option: int) -> tuple[int, bool, int] | None:
    """Return the block option as (number, more, SZX)."""
    value = number(message, option)
    return None if value is None else (value >> 4, bool(value & 8), value & 7)


def pattern(size: int) -> bytes:
    """Return what GET /blob?n=size gives."""
    return b"".join(b"%07x\n" % offset for offset in range(0, size, 8))[:size]


def summary(body: bytes) -> dict[str, Any]:
    return {"length": len(body), "crc32": f"{zlib.crc32(body):08x}"}


class RawSession:
    """A DTLS session of OpenSSL's client that carries CoAP messages byte for byte."""

    def __init__(self, chip: Any) -> None:
        command = ["openssl", "s_client", "-dtls1_2", "-quiet", "-connect", f"{chip.address}:5684"]
        command += ["-cipher", "PSK-AES128-CCM8", "-psk_identity", IDENTITY, "-psk", PSK.hex()]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        self._next_mid = 100

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def send(self, message: bytes) -> None:
        """Send one message; the one before it must have been answered, or OpenSSL puts both into one record."""
        assert self._process.stdin is not None
        self._process.stdin.write(message)

    def receive(self) -> Message:
        data = self._read()
        return decode(data + self._read() if len(data) == OPENSSL_PIECE else data)

    def has_answer(self, timeout_s: float = GIVE_UP_S) -> bool:
        return bool(select.select([self._process.stdout], [], [], timeout_s)[0])

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        assert self.has_answer(), "no answer"
        return os.read(self._process.stdout.fileno(), 65536)

    def request(
        self,
        method: int,
        path: str,
        *options: tuple[int, int | bytes],
        payload: bytes = b"",
        mid: int | None = None,
        type_: Type = Type.CON,
    ) -> bytes:
        """Return a request's bytes, with a Message ID that was not used before if none is given."""
        self._next_mid += 1
        path, _, query = path.partition("?")
        named: list[tuple[int, bytes]] = [(OptionNumber.URI_PATH, part.encode()) for part in path[1:].split("/")]
        named += [(OptionNumber.URI_QUERY, part.encode()) for part in query.split("&") if part]
        named += [(key, value if isinstance(value, bytes) else number_bytes(value)) for key, value in options]
        mid = self._next_mid if mid is None else mid
        return Message(type_, method, mid, b"tk", tuple(named), payload).encode()

    def ask(self, method: int, path: str, *options: tuple[int, int | bytes], **more: Any) -> Message:
        """Send one request and return its answer."""
        request = self.request(method, path, *options, **more)
        self.send(request)
        answer = self.receive()
        sent = decode(request)
        if sent.type == Type.CON:
            assert (answer.type, answer.message_id) == (Type.ACK, sent.message_id)
        assert answer.token == sent.token
        return answer


@pytest.fixture(scope="module")
def sanitized(host_build: Callable[..., Path]) -> Path:
    return host_build("coaps_server", "-DSANITIZE=ON")


@pytest.fixture
def chip(power_up: Callable[..., Any], sanitized: Path) -> Iterator[Any]:
    """A chip that runs the sanitized program, and ends without a finding."""
    chip = power_up(elf_path=sanitized)
    chip.wait_until_up()
    yield chip
    assert "c:2.04" in chip.coap("put", "/power", "-e", "1")
    chip.wait_until_ended()
    chip.console.wait_for("sleep_entry")
    findings = [line for line in chip.console.all if "Sanitizer" in line or "runtime error" in line]
    assert findings == []


@pytest.fixture
def open_raw(chip: Any) -> Iterator[Callable[[], RawSession]]:
    sessions: list[RawSession] = []

    def open_one() -> RawSession:
        sessions.append(RawSession(chip))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session.close()


@pytest.fixture
def raw(open_raw: Callable[[], RawSession]) -> RawSession:
    return open_raw()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoapClient]:
    with CoapClient(tmp_path_factory.mktemp("coap") / "coap.log") as client:
        yield client


@pytest.fixture
def session(chip: Any, client: CoapClient) -> Iterator[Any]:
    with client.session(chip.address, 5684, identity=IDENTITY, psk=PSK) as session:
        yield session


# --- every resource, every code --------------------------------------------------------------------------------------


def test_reading_is_json_or_cbor_as_accept_wants(raw: RawSession) -> None:
    default, as_json, as_cbor = (
        raw.ask(GET, "/sensor", *options) for options in ([], [(ACCEPT, JSON)], [(ACCEPT, CBOR)])
    )
    assert (default.code_text, number(default, FORMAT)) == ("2.05", JSON)
    assert (as_json.payload, number(as_json, FORMAT)) == (default.payload, JSON)
    assert (as_cbor.code_text, number(as_cbor, FORMAT)) == ("2.05", CBOR)
    reading = json.loads(default.payload)
    assert decode_cbor(as_cbor.payload) == reading
    assert list(reading) == ["sequence", "uptime_ms", "free_heap"]
    assert reading["sequence"] == 1


def decode_cbor(data: bytes) -> dict[str, Any]:
    """Decode a map of texts and unsigned numbers (RFC 8949 section 3)."""
    items, rest = [], data
    while rest:
        major, argument = rest[0] >> 5, rest[0] & 31
        rest = rest[1:]
        if argument >= 24:
            size = 1 << argument - 24
            argument, rest = int.from_bytes(rest[:size], "big"), rest[size:]
        assert major in (0, 3, 5), "neither a number nor a text nor a map"
        if major == 3:
            items.append(rest[:argument].decode())
            rest = rest[argument:]
        else:
            items.append(argument)
    assert items[0] == (len(items) - 1) // 2, "the map's size is not that of its content"
    return dict(zip(items[1::2], items[2::2], strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "formats"),
    [
        ("/light", [TEXT]),
        ("/sensor", [JSON, CBOR]),
        ("/blob?n=3", [OCTETS]),
        ("/stats", [JSON]),
        ("/config", [JSON]),
        ("/.well-known/core", [LINKS]),
    ],
)
def test_what_cannot_be_given_as_accepted_is_4_06(raw: RawSession, path: str, formats: list[int]) -> None:
    for wanted in (TEXT, LINKS, 41, OCTETS, JSON, CBOR, 9999, 65535):
        answer = raw.ask(GET, path, (ACCEPT, wanted))
        assert (answer.code_text, number(answer, FORMAT)) == (("2.05", wanted) if wanted in formats else ("4.06", None))
    assert number(raw.ask(GET, path), FORMAT) == formats[0]


def test_body_in_another_format_is_4_15(raw: RawSession) -> None:
    assert raw.ask(PUT, "/light", (FORMAT, JSON), payload=b"on").code_text == "4.15"
    assert raw.ask(PUT, "/config", (FORMAT, CBOR), payload=b"{}").code_text == "4.15"
    assert raw.ask(PUT, "/blob", (FORMAT, TEXT), payload=b"x").code_text == "4.15"
    assert raw.ask(PUT, "/power", (FORMAT, 41), payload=b"1000").code_text == "4.15"
    assert raw.ask(GET, "/light").payload == b"off"
    assert raw.ask(PUT, "/light", (FORMAT, TEXT), payload=b"on").code_text == "2.04"


def test_preconditions(raw: RawSession) -> None:
    for option in ((OptionNumber.IF_NONE_MATCH, b""), (OptionNumber.IF_MATCH, b"tag")):
        assert raw.ask(PUT, "/light", option, payload=b"on").code_text == "4.12"
    assert raw.ask(GET, "/light").payload == b"off"
    assert raw.ask(PUT, "/light", (OptionNumber.IF_MATCH, b""), payload=b"on").code_text == "2.04"


def test_unknown_options_paths_and_methods(raw: RawSession) -> None:
    assert raw.ask(GET, "/light", (65001, b"critical")).code_text == "4.02"
    assert raw.ask(GET, "/light", (65000, b"elective")).code_text == "2.05"
    assert raw.ask(GET, "/nothing").code_text == "4.04"
    assert raw.ask(GET, "/light/on").code_text == "4.04"
    allowed = {"light": "GET PUT", "sensor": "GET", "blob": "GET PUT POST", "power": "PUT", "stats": "GET"}
    allowed |= {"config": "GET PUT", ".well-known/core": "GET"}
    methods = {"GET": GET, "POST": POST, "PUT": PUT, "DELETE": DELETE}
    for path, names in allowed.items():
        for name, method in methods.items():
            if name not in names.split():
                assert raw.ask(method, f"/{path}").code_text == "4.05", (name, path)


def test_ping_is_answered(raw: RawSession) -> None:
    """Sent again if need be, as any confirmable message: libcoap answers none in the first 250 ms of its life."""
    raw.send(Message(Type.CON, EMPTY, 9).encode())
    while not raw.has_answer(0.5):
        raw.send(Message(Type.CON, EMPTY, 9).encode())
    answer = raw.receive()
    assert (answer.type, answer.message_id) == (Type.RST, 9)


def test_core_lists_the_resources_with_their_attributes(raw: RawSession) -> None:
    links = raw.ask(GET, "/.well-known/core").payload.decode().split(",")
    found = dict(link.split(";", 1) for link in links)
    assert found == {
        "</light>": 'rt="light";if="core.a";ct=0;obs',
        "</sensor>": 'rt="telemetry";if="core.s";ct="50 60";obs',
        "</blob>": 'rt="blob";if="core.p";ct=42',
        "</power>": 'rt="power";if="core.a";ct=0',
        "</stats>": 'rt="stats";if="core.s";ct=50',
        "</config>": 'rt="config";if="core.p";ct=50',
        "</.well-known/core>": "ct=40",
    }


def test_power_knows_its_modes(raw: RawSession) -> None:
    for query in ("mode=", "mode=off", "mode=deep_slee", "mode=deep_sleepx", "mode=DEEP_SLEEP"):
        answer = raw.ask(PUT, f"/power?{query}", payload=b"1000")
        assert (answer.code_text, answer.values(FORMAT)) == ("4.00", ())
        assert b"light_sleep" in answer.payload
    assert b"86400000" in raw.ask(PUT, "/power?mode=deep_sleep", payload=b"soon").payload


# --- /config ---------------------------------------------------------------------------------------------------------


def test_config_is_read_and_changed(session: Any) -> None:
    before = session.get("/config").json()
    assert session.put("/config", '{"telemetry_period_ms": 500, "max_sessions":9}', content_format=JSON).code == "2.04"
    assert session.get("/config").json() == before | {"telemetry_period_ms": 500, "max_sessions": 9}


def test_config_refusal_names_the_key_and_changes_nothing(session: Any) -> None:
    before = session.get("/config").json()
    for body, named in (
        ('{"max_sessions":9,"idle_timeout_s":9}', "idle_timeout_s"),
        ('{"max_sessions":"9"}', "max_sessions"),
        ('{"max_sesions":9}', "max_sesions"),
        ('{"max_sessions":9,"max_sessions":9}', "max_sessions"),
    ):
        answer = session.put("/config", body)
        assert (answer.code, answer.content_format) == ("4.00", None)
        assert named in answer.text
    for body in ("", "[]", "{", '{"max_sessions":9', "x" * 3000):
        assert session.put("/config", body).code == "4.00", body
    assert session.get("/config").json() == before


# --- observing /sensor -----------------------------------------------------------------------------------------------


def test_observers_get_readings_at_the_period(session: Any) -> None:
    session.put("/config", '{"telemetry_period_ms":100}')
    with session.observe("/sensor") as observation:
        readings = [observation.next().json() for _ in range(4)]
    sequences = [reading["sequence"] for reading in readings]
    assert sequences == list(range(sequences[0], sequences[0] + 4))
    steps = [after["uptime_ms"] - before["uptime_ms"] for before, after in itertools.pairwise(readings)]
    assert all(step >= 100 for step in steps)


def test_telemetry_is_not_confirmable_and_keeps_its_format(raw: RawSession) -> None:
    assert raw.ask(PUT, "/config", payload=b'{"telemetry_period_ms":100}').code_text == "2.04"
    first = raw.ask(GET, "/sensor", (ACCEPT, CBOR), (OBSERVE, 0))
    seen = [raw.receive() for _ in range(3)]
    assert first.observe is not None
    values = [first.observe, *(message.observe or 0 for message in seen)]
    assert values == sorted(set(values))
    for message in seen:
        assert (message.type, message.code_text, message.token) == (Type.NON, "2.05", first.token)
        assert number(message, FORMAT) == CBOR
        assert decode_cbor(message.payload)["sequence"] > 0
    raw.send(Message(Type.RST, EMPTY, seen[-1].message_id).encode())  # no longer


def test_observing_with_a_wrong_accept_registers_nothing(raw: RawSession) -> None:
    assert raw.ask(PUT, "/config", payload=b'{"telemetry_period_ms":100}').code_text == "2.04"
    answer = raw.ask(GET, "/sensor", (ACCEPT, OCTETS), (OBSERVE, 0))
    assert (answer.code_text, answer.observe) == ("4.06", None)
    uptime_ms = json.loads(raw.ask(GET, "/sensor").payload)["uptime_ms"]
    while json.loads((answer := raw.ask(GET, "/sensor")).payload)["uptime_ms"] < uptime_ms + 300:
        assert answer.observe is None  # ask() would meet a notification: it has another Message ID


def test_an_observer_who_was_refused_unseen_gets_the_default_format(raw: RawSession) -> None:
    """With No-Response (RFC 7967) libcoap keeps the observer, and frees it in the middle of an error notification."""
    assert raw.ask(PUT, "/config", payload=b'{"telemetry_period_ms":100}').code_text == "2.04"
    options = ((ACCEPT, 41), (OBSERVE, 0), (NO_RESPONSE, 8))
    raw.send(raw.request(GET, "/sensor", *options, type_=Type.NON))
    for _ in range(2):
        notification = raw.receive()
        assert (notification.type, notification.code_text, number(notification, FORMAT)) == (Type.NON, "2.05", JSON)


def test_a_registration_that_is_not_confirmable_has_marks_and_is_taken_once(raw: RawSession, chip: Any) -> None:
    raw.send(raw.request(GET, "/light", (OBSERVE, 0), type_=Type.NON))
    first = raw.receive()
    assert (first.type, first.code_text, first.payload) == (Type.NON, "2.05", b"off")
    chip.coap("put", "/light", "-e", "on")
    notification = raw.receive()
    assert (notification.type, notification.payload) == (Type.CON, b"on")
    raw.send(Message(Type.ACK, EMPTY, notification.message_id).encode())
    chip.console.wait_for("request_end", nth=2)
    starts = [mark for mark in chip.marks() if mark.startswith("request_start")]
    assert starts == ["request_start method=GET path=/light", "request_start method=PUT path=/light"]


# --- bodies from the device ------------------------------------------------------------------------------------------


def fetch(raw: RawSession, path: str, szx: int) -> tuple[bytes, list[Message]]:
    """Get a body block by block."""
    answers: list[Message] = []
    body = b""
    while True:
        answer = raw.ask(GET, path, (BLOCK2, block_value(len(answers), False, szx)))
        assert answer.code_text == "2.05"
        num, more, got_szx = block_of(answer, BLOCK2) or (0, False, szx)
        assert (num, got_szx) == (len(answers), szx)
        assert len(answer.payload) == 16 << szx if more else len(answer.payload) <= 16 << szx
        answers.append(answer)
        body += answer.payload
        if not more:
            return body, answers


@pytest.mark.parametrize("szx", range(7))
def test_blob_in_blocks_of_every_size(raw: RawSession, szx: int) -> None:
    size = 16 << szx
    for length in (0, 1, size - 1, size, size + 1, 3 * size):
        body, answers = fetch(raw, f"/blob?n={length}", szx)
        assert body == pattern(length)
        if len(answers) > 1:
            assert len({answer.values(ETAG) for answer in answers}) == 1
            assert len(answers[0].values(ETAG)[0]) == 4
            assert number(answers[0], SIZE2) == length


def test_largest_blob_needs_no_block_option_to_begin_with(raw: RawSession) -> None:
    first = raw.ask(GET, f"/blob?n={LARGEST}")
    assert block_of(first, BLOCK2) == (0, True, 6)
    assert fetch(raw, f"/blob?n={LARGEST}", 6)[0] == pattern(LARGEST)
    assert raw.ask(GET, "/blob?n=1024").values(BLOCK2) == ()


def test_block_size_changes_on_the_way(raw: RawSession) -> None:
    first = raw.ask(GET, "/blob?n=3000")
    rest = [raw.ask(GET, "/blob?n=3000", (BLOCK2, block_value(num, False, 3))) for num in range(8, 24)]
    assert first.payload + b"".join(answer.payload for answer in rest) == pattern(3000)
    assert {answer.values(ETAG) for answer in rest} == {first.values(ETAG)}


def test_blocks_that_there_are_not(raw: RawSession) -> None:
    for value in (block_value(1, False, 6), block_value(0xFFFFF, False, 6), block_value(7, False, 0), 7, 0xF7):
        assert raw.ask(GET, "/blob?n=100", (BLOCK2, value)).code_text == "4.00", value
    assert raw.ask(GET, "/stats", (BLOCK2, 7)).code_text == "4.00"
    assert raw.ask(GET, "/.well-known/core", (BLOCK2, 7)).code_text == "4.00"


def test_blob_wants_its_size(raw: RawSession) -> None:
    for query in ("", "?n", "?n=", "?n=-1", "?n=8193", "?n=99999999999", "?n=1x", "?m=1", "?nn=1"):
        answer = raw.ask(GET, f"/blob{query}")
        assert (answer.code_text, b"n=8192" in answer.payload) == ("4.00", True), query
    assert raw.ask(GET, "/blob?x=1&n=5&n=6").payload == pattern(5)


def test_blocks_of_a_body_that_changes_are_of_one_state(raw: RawSession) -> None:
    body, answers = fetch(raw, "/stats", 0)
    assert len(answers) > 10
    assert json.loads(body)["boot_count"] == 1
    core, _ = fetch(raw, "/.well-known/core", 1)
    assert core == raw.ask(GET, "/.well-known/core").payload


def test_two_readers_do_not_mix(open_raw: Callable[[], RawSession]) -> None:
    one, other = open_raw(), open_raw()
    parts: dict[RawSession, bytes] = {one: b"", other: b""}
    for num in range(20):
        for reader, size in ((one, 320), (other, 312)):
            answer = reader.ask(GET, f"/blob?n={size}", (BLOCK2, block_value(num, False, 0)))
            parts[reader] += answer.payload
    assert (parts[one], parts[other]) == (pattern(320), pattern(312))


# --- bodies to the device --------------------------------------------------------------------------------------------


def put_blocks(raw: RawSession, body: bytes, szx: int, method: int = PUT) -> Message:
    """Send a body in blocks and return the last answer."""
    size = 16 << szx
    blocks = [body[at : at + size] for at in range(0, len(body), size)]
    for num, payload in enumerate(blocks):
        more = num < len(blocks) - 1
        answer = raw.ask(method, "/blob", (BLOCK1, block_value(num, more, szx)), (FORMAT, OCTETS), payload=payload)
        assert block_of(answer, BLOCK1) == (num, more, szx)
        if more:
            assert (answer.code_text, answer.payload) == ("2.31", b"")
    return answer


@pytest.mark.parametrize("szx", range(7))
def test_upload_in_blocks_of_every_size(raw: RawSession, szx: int) -> None:
    size = 16 << szx
    for method, length in ((PUT, 1), (POST, size), (PUT, size + 1), (POST, min(LARGEST, 9 * size - 3))):
        body = os.urandom(length)
        answer = put_blocks(raw, body, szx, method)
        assert (answer.code_text, number(answer, FORMAT)) == ("2.04", JSON)
        assert json.loads(answer.payload) == summary(body)


def test_upload_in_one_piece(raw: RawSession) -> None:
    for body in (b"", b"\0", b"x" * 1000):
        assert json.loads(raw.ask(PUT, "/blob", payload=body).payload) == summary(body)


def test_an_upload_with_a_gap_is_incomplete(raw: RawSession) -> None:
    def send(num: int, more: bool) -> str:
        return raw.ask(PUT, "/blob", (BLOCK1, block_value(num, more, 0)), payload=b"0123456789abcdef").code_text

    assert send(3, True) == "4.08"
    assert send(3, False) == "4.08"
    assert [send(0, True), send(1, True), send(3, True)] == ["2.31", "2.31", "4.08"]
    assert [send(2, True), send(3, False)] == ["2.31", "2.04"]
    assert send(4, False) == "4.08"
    assert [send(0, True), send(1, True), send(0, True), send(1, False)] == ["2.31", "2.31", "2.31", "2.04"]


def test_blocks_of_a_wrong_length_are_refused(raw: RawSession) -> None:
    for num, more, szx, length in ((0, True, 0, 15), (0, True, 0, 17), (0, False, 0, 17), (0, True, 2, 0)):
        answer = raw.ask(PUT, "/blob", (BLOCK1, block_value(num, more, szx)), payload=b"x" * length)
        assert answer.code_text == "4.00"
    assert raw.ask(PUT, "/blob", (BLOCK1, block_value(0, True, 7)), payload=b"x" * 1024).code_text == "4.00"


def test_too_large_a_body_is_4_13_with_the_size_that_is_not(raw: RawSession) -> None:
    announced = raw.ask(PUT, "/blob", (BLOCK1, block_value(0, True, 0)), (SIZE1, LARGEST + 1), payload=b"x" * 16)
    assert (announced.code_text, number(announced, SIZE1)) == ("4.13", LARGEST)
    assert block_of(announced, BLOCK1) is None
    huge = raw.ask(PUT, "/blob", (BLOCK1, block_value(0, True, 0)), (SIZE1, 0xFFFFFFFF), payload=b"x" * 16)
    assert huge.code_text == "4.13"
    for num in range(LARGEST // 1024):
        answer = raw.ask(PUT, "/blob", (BLOCK1, block_value(num, True, 6)), payload=b"x" * 1024)
        assert answer.code_text == "2.31"
    answer = raw.ask(PUT, "/blob", (BLOCK1, block_value(num + 1, False, 6)), payload=b"x")
    assert (answer.code_text, number(answer, SIZE1)) == ("4.13", LARGEST)


def test_uploads_of_two_clients_are_kept_apart(open_raw: Callable[[], RawSession]) -> None:
    one, other = open_raw(), open_raw()
    bodies = {one: os.urandom(60), other: os.urandom(60)}
    for num in range(4):
        for sender, body in bodies.items():
            payload = body[num * 16 : num * 16 + 16]
            answer = sender.ask(PUT, "/blob", (BLOCK1, block_value(num, num < 3, 0)), payload=payload)
            if num == 3:
                assert json.loads(answer.payload) == summary(body)


def test_an_upload_that_does_not_go_on_makes_room(open_raw: Callable[[], RawSession]) -> None:
    first, *others = (open_raw() for _ in range(3))
    for sender in (first, *others):
        sender.ask(PUT, "/blob", (BLOCK1, block_value(0, True, 0)), payload=b"x" * 16)
    assert first.ask(PUT, "/blob", (BLOCK1, block_value(1, False, 0)), payload=b"x").code_text == "4.08"
    for sender in others:
        assert sender.ask(PUT, "/blob", (BLOCK1, block_value(1, False, 0)), payload=b"x").code_text == "2.04"


# --- other people's clients ------------------------------------------------------------------------------------------


def test_aiocoap_moves_bodies_both_ways(session: Any) -> None:
    assert session.get(f"/blob?n={LARGEST}").payload == pattern(LARGEST)
    body = os.urandom(5000)
    assert session.put("/blob", body, content_format=OCTETS).json() == summary(body)
    assert session.post("/blob", body, content_format=OCTETS).json() == summary(body)
    assert session.put("/blob", bytes(LARGEST + 1)).code == "4.13"
    assert session.get("/sensor", accept=CBOR).content_format == CBOR


@pytest.mark.parametrize("size", [16, 128, 1024])
def test_coap_client_moves_bodies_both_ways(chip: Any, tmp_path: Path, size: int) -> None:
    got, body = tmp_path / "got", tmp_path / "body"
    chip.coap("get", "/blob?n=2500", "-b", str(size), "-o", str(got))
    assert got.read_bytes() == pattern(2500)
    body.write_bytes(b"0123456789" * 250)
    output = chip.coap("put", "/blob", "-b", str(size), "-f", str(body), "-t", str(OCTETS))
    assert json.loads(re.findall(r":: '(.*)'", output)[-1]) == summary(body.read_bytes())


# --- repeated requests -----------------------------------------------------------------------------------------------


def test_a_repeated_put_is_answered_again_and_acts_once(raw: RawSession) -> None:
    first = raw.ask(PUT, "/light", payload=b"on", mid=1)
    raw.ask(PUT, "/light", payload=b"off", mid=2)
    again = raw.ask(PUT, "/light", payload=b"on", mid=1)
    assert again == first
    assert raw.ask(GET, "/light").payload == b"off"
    assert json.loads(raw.ask(GET, "/stats").payload)["duplicates"] == 1


def test_the_repeated_answer_is_the_whole_one(raw: RawSession) -> None:
    posts = [raw.ask(POST, "/blob", payload=b"body", mid=7) for _ in range(3)]
    assert posts[0] == posts[1] == posts[2]
    assert json.loads(posts[0].payload) == summary(b"body")
    refusals = [raw.ask(PUT, "/config", payload=b'{"x":1}', mid=8) for _ in range(2)]
    assert refusals[0] == refusals[1]
    assert b"unknown key: x" in refusals[1].payload


def test_repeated_blocks_are_taken_once(raw: RawSession) -> None:
    body = os.urandom(40)
    answers = []
    for num in range(3):
        for _ in range(2):
            options = (BLOCK1, block_value(num, num < 2, 0))
            answers.append(raw.ask(PUT, "/blob", options, payload=body[num * 16 : num * 16 + 16], mid=20 + num))
    assert answers[0::2] == answers[1::2]
    assert json.loads(answers[-1].payload) == summary(body)


def test_a_repeated_get_may_be_served_again(raw: RawSession) -> None:
    first = raw.ask(GET, "/light", mid=5)
    raw.ask(PUT, "/light", payload=b"on")
    assert (first.payload, raw.ask(GET, "/light", mid=5).payload) == (b"off", b"on")


def test_a_repeated_non_confirmable_request_is_not_answered(open_raw: Callable[[], RawSession]) -> None:
    raw, watcher = open_raw(), open_raw()
    for count, method, payload in ((1, GET, b""), (2, PUT, b"on")):
        request = raw.request(method, "/light", payload=payload, type_=Type.NON)
        raw.send(request)
        assert raw.receive().type == Type.NON
        raw.send(request)
        while json.loads(watcher.ask(GET, "/stats").payload)["duplicates"] < count:
            pass
    last = raw.ask(GET, "/light")  # and nothing comes before its answer
    assert (last.type, last.payload) == (Type.ACK, b"on")


def test_message_ids_begin_anew_with_a_session(open_raw: Callable[[], RawSession]) -> None:
    assert open_raw().ask(PUT, "/light", payload=b"on", mid=1).code_text == "2.04"
    other = open_raw()
    assert other.ask(PUT, "/light", payload=b"off", mid=1).code_text == "2.04"
    assert other.ask(GET, "/light").payload == b"off"
    assert json.loads(other.ask(GET, "/stats").payload)["duplicates"] == 0


def test_duplicates_have_no_marks(raw: RawSession, chip: Any) -> None:
    for _ in range(3):
        raw.ask(PUT, "/light", payload=b"on", mid=1)
    raw.ask(GET, "/stats")
    chip.console.wait_for("request_end", nth=2)
    starts = [mark for mark in chip.marks() if mark.startswith("request_start")]
    assert starts == ["request_start method=PUT path=/light", "request_start method=GET path=/stats"]
