"""CoAP messages, options and response codes: COAP-01 to COAP-10, COAP-13 to COAP-18, COAP-20."""

import secrets
from collections.abc import Iterator, Mapping, Sequence

import pytest

from rig.coap.probe import NotCoap, Prober, ProbeSession, next_message_id, request
from rig.dtls import coap
from rig.dtls.coap import Message, OptionNumber, Options, Type, frame, uint
from rig.evidence.declaration import Declaration, Resource
from rig.fixtures.measure import Measure

SILENCE_S = 0.4
AT_ONCE = 4
"""So many datagrams are sent without an answer in between: a small device queues six."""
ELECTIVE, CRITICAL = 65000, 65001
"""Of the range for experiments (RFC 7252 12.2); an odd number is critical (5.4.6)."""
NO_FORMAT = 9999
XML, JSON = 41, 50
COAPS_PORT = 5684
UNKNOWN_METHOD, CONTENT = 0x1F, 0x45


@pytest.fixture
def session(probe: Prober) -> Iterator[ProbeSession]:
    """A session in which an ordinary request has been answered: before, and after what the test did with it."""
    with probe.session() as opened:
        assert opened.get(probe.life).code_text == "2.05"
        yield opened


@pytest.mark.requirement("COAP-01")
def test_a_ping_is_answered_with_a_reset(session: ProbeSession, measure: Measure) -> None:
    session.hear(SILENCE_S)  # libcoap does not answer pings of a session's first 250 ms: spare it the repetition
    ping = Message(Type.CON, coap.EMPTY, next_message_id())
    (came,) = session.volley(ping)
    measure.check(
        "COAP-01",
        "an empty confirmable message is answered with a Reset of its message id",
        bool(came) and all(_is_reset(one) for one in came),
        observed=f"CON 0.00, message id {ping.message_id}: {_told(came)}",
    )


@pytest.mark.requirement("COAP-02")
def test_another_version_is_ignored(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    others = [_with_version(version, probe.life) for version in (0, 2, 3)]
    came = _told_nothing(session, probe, others)
    measure.check(
        "COAP-02",
        "a GET of version 0, 2 or 3 is ignored",
        not came,
        observed=f"CON GET {probe.life} of version 0, 2 and 3: {_told(came)} within {SILENCE_S:g} s; "
        "ordinary requests before and after are answered",
    )


@pytest.mark.requirement("COAP-03")
def test_token_lengths_9_to_15_are_format_errors(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    lengths = range(9, 16)
    confirmable = _each(session, {f"TKL {n}": _with_token_length(Type.CON, n, probe.life) for n in lengths})
    told = _told_nothing(session, probe, [_with_token_length(Type.NON, n, probe.life) for n in lengths])
    measure.check(
        "COAP-03",
        "token lengths 9 to 15 get a Reset in a CON, and a Reset or silence in a NON",
        all(_only_resets(one) for one in confirmable.values()) and all(_is_reset(one) for one in told),
        observed=f"CON: {_table(confirmable)}; NON: {_told(told)}",
    )


@pytest.mark.requirement("COAP-04")
def test_malformed_messages_are_rejected(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    get = request(coap.GET, probe.life)
    options = get.encode()[4 + len(get.token) :]
    broken = {
        "payload marker without payload": options + b"\xff",
        "option delta 15": options + b"\xf1\x00",
        "option length 15": options + b"\x1f\x00",
        "option value past the end": options + b"\x08abc",
        "extended delta past the end": options + b"\xd0",
        "extended length past the end": options + b"\x0e\x01",
    }
    tails = {what: frame(Type.CON, coap.GET, next_message_id(), get.token, rest) for what, rest in broken.items()}
    came = _each(session, tails)
    session.get(probe.life)
    measure.check(
        "COAP-04",
        "a payload marker without payload, a reserved nibble and an option past the end get a Reset in a CON",
        all(_only_resets(one) for one in came.values()),
        observed=f"CON GET {probe.life} with {_table(came)}; the next ordinary request is answered",
    )


@pytest.mark.requirement("COAP-05")
def test_an_empty_message_with_content_is_rejected(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    session.hear(SILENCE_S)  # as for a ping
    path = request(coap.GET, probe.life)
    tails = {
        "a token": frame(Type.CON, coap.EMPTY, next_message_id(), b"\xca\xfe"),
        "options": frame(Type.CON, coap.EMPTY, next_message_id(), b"", path.encode()[4 + len(path.token) :]),
        "a payload": frame(Type.CON, coap.EMPTY, next_message_id(), b"", b"\xffhello"),
    }
    came = _each(session, tails)
    session.get(probe.life)
    measure.check(
        "COAP-05",
        "an empty CON with a token, options or a payload gets a Reset or silence, and no response",
        all(_is_reset(one) for each in came.values() for one in each),
        observed=f"CON 0.00 with {_table(came)}; the next ordinary request is answered",
    )


@pytest.mark.requirement("COAP-06")
def test_what_is_never_answered(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    asked = {
        "NON 0.00": Message(Type.NON, coap.EMPTY, next_message_id()),
        "ACK 0.00": Message(Type.ACK, coap.EMPTY, next_message_id()),
        "RST 0.00": Message(Type.RST, coap.EMPTY, next_message_id()),
        "ACK 2.05": Message(Type.ACK, CONTENT, next_message_id(), b"\xca\xfe", payload=b"unasked"),
    }
    told = _told_nothing(session, probe, list(asked.values()))
    names = {one.message_id: what for what, one in asked.items()}
    belonging = [f"{_told([one])} to {_named(one, names)}" for one in told]
    measure.check(
        "COAP-06",
        "an ACK and a RST that belong to nothing are not answered, and an empty NON with no more than a Reset",
        all(_is_reset(one) and _named(one, names) == "NON 0.00" for one in told),
        observed=f"{', '.join(asked)}: {', '.join(belonging) or 'silence'} within {SILENCE_S:g} s; "
        "ordinary requests before and after are answered",
    )


@pytest.mark.requirement("COAP-07")
def test_reserved_code_classes_are_rejected(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    codes = {"1.01": 0x21, "6.00": 0xC0, "7.00": 0xE0, "7.31": 0xFF}
    came = _each(session, {text: request(code, probe.life).encode() for text, code in codes.items()})
    measure.check(
        "COAP-07",
        "a CON with a code of class 1, 6 or 7 gets a Reset",
        all(_only_resets(one) for one in came.values()),
        observed=f"CON with code {_table(came)}",
    )


@pytest.mark.requirement("COAP-08")
def test_a_token_comes_back_as_it_was(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    tokens = [secrets.token_bytes(length) for length in range(coap.MAX_TOKEN_LENGTH + 1)]
    echoed = [_echoed(session, request(coap.GET, probe.life, token=token)) for token in tokens]
    pairs = [f"{token.hex() or 'empty'} -> {came}" for token, came in zip(tokens, echoed, strict=True)]
    measure.check(
        "COAP-08",
        "tokens of 0 to 8 bytes come back as they were",
        [one.hex() or "empty" for one in tokens] == echoed,
        observed=f"GET {probe.life}: {', '.join(pairs)}",
    )


@pytest.mark.requirement("COAP-09")
def test_a_confirmable_duplicate_is_executed_once(session: ProbeSession, dut: Declaration, measure: Measure) -> None:
    resource = dut.switchable()
    if resource is None:
        pytest.skip("no resource is declared whose values show whether a PUT was executed")
    before = _figure(session, dut, "duplicates")
    changing = request(coap.PUT, resource.path, payload=resource.values[0].encode()).encode()
    first = session.volley(changing)[0]
    again = session.volley(changing)[0]
    session.put(resource.path, resource.values[1].encode())
    late = session.volley(changing)[0]
    state = session.get(resource.path).payload.decode(errors="replace")
    counted = _figure(session, dut, "duplicates")
    copies = [one.encode() for one in (*again, *late)]
    same = len(first) == 1 and len(copies) == 2 and set(copies) == {first[0].encode()}
    measure.check(
        "COAP-09",
        "the same PUT three times, another one before the third: three equal acknowledgements, executed once",
        same and state == resource.values[1] and (before is None or counted == before + 2),
        observed=f"PUT {resource.values[0]} to {resource.path}: {_bytes_told(first)}; again: {_bytes_told(again)}; "
        f"PUT {resource.values[1]}, then the first again: {_bytes_told(late)}; GET then tells {state}; "
        f"duplicates that the device counted: {'not declared' if before is None else (counted or 0) - before}",
    )


@pytest.mark.requirement("COAP-10")
def test_a_non_confirmable_duplicate_is_answered_once(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    get = request(coap.GET, probe.life, type=Type.NON)
    session.tell(get, get)
    came = [one for one in session.hear(SILENCE_S) if _is_response(one, get)]
    session.get(probe.life)
    if not came:
        measure.inconclusive("COAP-10", "a NON GET is answered", observed="no answer: it may have been lost")
    measure.check(
        "COAP-10",
        "a NON GET that comes twice is answered once",
        len(came) == 1,
        observed=f"NON GET {probe.life} twice with message id {get.message_id}: {_told(came)} within {SILENCE_S:g} s",
    )


@pytest.mark.requirement("COAP-13")
def test_an_unknown_elective_option_is_ignored(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    came = _each(session, {f"option {ELECTIVE}": _get(probe.life, ((ELECTIVE, b"x"),))})
    measure.check(
        "COAP-13",
        "a GET with an unknown elective option gets 2.05",
        _codes(came) == {"2.05"},
        observed=f"CON GET {probe.life} with {_table(came)}",
    )


@pytest.mark.requirement("COAP-14")
def test_an_unknown_critical_option_is_refused(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    came = _each(session, {f"option {CRITICAL}": _get(probe.life, ((CRITICAL, b"x"),))})
    non = request(coap.GET, probe.life, type=Type.NON, options=((CRITICAL, b"x"),))
    told = _told_nothing(session, probe, [non])
    measure.check(
        "COAP-14",
        "an unknown critical option gets 4.02 in a CON, and a Reset or silence in a NON",
        _codes(came) == {"4.02"} and all(_is_reset(one) for one in told),
        observed=f"CON GET {probe.life} with {_table(came)}; NON: {_told(told)}",
    )


@pytest.mark.requirement("COAP-15")
def test_an_option_too_often_counts_as_unknown(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    port = (int(OptionNumber.URI_PORT), uint(COAPS_PORT))
    came = _each(session, {"Uri-Port twice": _get(probe.life, (port, port))})
    measure.check(
        "COAP-15",
        "Uri-Port twice gets 4.02",
        _codes(came) == {"4.02"},
        observed=f"CON GET {probe.life} with {_table(came)}",
    )


@pytest.mark.requirement("COAP-16")
def test_what_is_not_there_and_what_is_not_allowed(
    session: ProbeSession, probe: Prober, dut: Declaration, measure: Measure
) -> None:
    nowhere = f"/nowhere-{secrets.token_hex(4)}"
    fixed = next((one.path for one in dut.resources if one.methods == ("GET",)), probe.life)
    asked = {
        f"GET {nowhere}": (request(coap.GET, nowhere), "4.04"),
        f"DELETE {fixed}": (request(coap.DELETE, fixed), "4.05"),
        f"0.31 {fixed}": (request(UNKNOWN_METHOD, fixed), "4.05"),
    }
    came = _each(session, {what: message.encode() for what, (message, _) in asked.items()})
    measure.check(
        "COAP-16",
        "a path that is not there gets 4.04; a method that is not allowed, and one that nobody knows, 4.05",
        all(_codes({what: came[what]}) == {code} for what, (_, code) in asked.items()),
        observed=_table(came),
    )


@pytest.mark.requirement("COAP-17")
def test_a_format_that_the_resource_does_not_have(session: ProbeSession, probe: Prober, measure: Measure) -> None:
    came = _each(session, {f"Accept {NO_FORMAT}": _get(probe.life, ((OptionNumber.ACCEPT, uint(NO_FORMAT)),))})
    measure.check(
        "COAP-17",
        "Accept of a format that the resource does not have gets 4.06",
        _codes(came) == {"4.06"},
        observed=f"CON GET {probe.life} with {_table(came)}",
    )


@pytest.mark.requirement("COAP-18")
def test_content_that_is_not_taken(session: ProbeSession, dut: Declaration, measure: Measure) -> None:
    stored = [one for one in dut.resources if {"GET", "PUT"} <= set(one.methods)]
    wanted = [(one, XML, b"<a/>", "4.15") for one in stored[:1]]
    wanted += [(one, JSON, b'{"', "4.00") for one in stored if one.content_format == JSON][:1]
    if not wanted:
        pytest.skip("no resource with GET and PUT is declared")
    puts = {f"PUT {one.path} format {number} {body!r}": _put(one, number, body) for one, number, body, _ in wanted}
    before = [session.get(one.path).payload for one, *_ in wanted]
    came = _each(session, puts)
    after = [session.get(one.path).payload for one, *_ in wanted]
    codes = [_codes({what: came[what]}) for what in puts]
    measure.check(
        "COAP-18",
        "a Content-Format that is not taken gets 4.15, and broken JSON 4.00; nothing changes",
        codes == [{code} for *_, code in wanted] and before == after,
        observed=f"{_table(came)}; what GET tells has {'not changed' if before == after else 'changed'}"
        f"{'' if len(wanted) > 1 else '; no resource that takes JSON is declared'}",
    )


@pytest.mark.requirement("COAP-20")
def test_conditional_requests(session: ProbeSession, dut: Declaration, measure: Measure) -> None:
    tagged = next((one for one in dut.resources if one.etag and "GET" in one.methods), None)
    guarded = next((one for one in dut.resources if one.if_none_match and one.values), None)
    results = [_get_with_etag(session, tagged)] if tagged else []
    results += [_put_if_none_match(session, guarded)] if guarded else []
    if not results:
        pytest.skip("conditional requests are declared for no resource with GET, or with values for PUT")
    measure.check(
        "COAP-20",
        "a GET with the ETag just received gets 2.03 without payload, a PUT with If-None-Match on what exists 4.12",
        all(met for met, _ in results),
        observed="; ".join(told for _, told in results),
    )


def _get_with_etag(session: ProbeSession, resource: Resource) -> tuple[bool, str]:
    response = session.get(resource.path)
    tags = response.values(OptionNumber.ETAG)
    if len(tags) != 1:
        return False, f"GET {resource.path}: {response.code_text} with {len(tags)} ETags"
    again = session.get(resource.path, options=((OptionNumber.ETAG, tags[0]),))
    met = again.code_text == "2.03" and not again.payload and again.values(OptionNumber.ETAG) == tags
    told = f"GET {resource.path} with ETag {tags[0].hex()}: {again.code_text} with {len(again.payload)} bytes"
    return met, told


def _put_if_none_match(session: ProbeSession, resource: Resource) -> tuple[bool, str]:
    before = session.get(resource.path).payload
    other = next(one.encode() for one in resource.values if one.encode() != before)
    refused = session.put(resource.path, other, options=((OptionNumber.IF_NONE_MATCH, b""),))
    after = session.get(resource.path).payload
    told = f"PUT {resource.path} with If-None-Match: {refused.code_text}, and GET tells {after!r} as {before!r} before"
    return refused.code_text == "4.12" and after == before, told


def _get(path: str, options: Options) -> bytes:
    return request(coap.GET, path, options=options).encode()


def _put(resource: Resource, content_format: int, body: bytes) -> bytes:
    options = ((int(OptionNumber.CONTENT_FORMAT), uint(content_format)),)
    return request(coap.PUT, resource.path, payload=body, options=options).encode()


def _with_version(version: int, path: str) -> bytes:
    get = request(coap.GET, path)
    rest = get.encode()[4 + len(get.token) :]
    return frame(Type.CON, coap.GET, get.message_id, get.token, rest, version=version)


def _with_token_length(kind: Type, length: int, path: str) -> bytes:
    """A GET whose header announces a token of *length* bytes, and that has one so long."""
    get = request(coap.GET, path)
    rest = get.encode()[4 + len(get.token) :]
    return frame(kind, coap.GET, next_message_id(), secrets.token_bytes(length), rest)


def _each(session: ProbeSession, messages: Mapping[str, bytes]) -> dict[str, tuple[Message, ...]]:
    """Send each message and return what came for it."""
    return dict(zip(messages, session.volley(*messages.values()), strict=True))


def _told_nothing(
    session: ProbeSession, probe: Prober, messages: Sequence[Message | bytes]
) -> tuple[Message | NotCoap, ...]:
    """Send what should not be answered, have an ordinary request answered, wait; return what else came."""
    for first in range(0, len(messages), AT_ONCE):
        session.tell(*messages[first : first + AT_ONCE])
        session.get(probe.life)
    return session.hear(SILENCE_S)


def _figure(session: ProbeSession, dut: Declaration, name: str) -> int | None:
    """Return one of the device's own figures; None where it is not declared."""
    key = getattr(dut.figures, name, None)
    return session.figure(dut.figures.path, key) if dut.figures and key else None


def _echoed(session: ProbeSession, asked: Message) -> str:
    """Return the token of the response, in the acknowledgement or by itself, in hexadecimal digits."""
    (came,) = session.volley(asked)
    responses = [one for one in came if one.code != coap.EMPTY]
    if not responses:
        responses = [one for one in session.hear(SILENCE_S) if isinstance(one, Message) and one.code != coap.EMPTY]
    return ", ".join(one.token.hex() or "empty" for one in responses) or "no response"


def _codes(came: Mapping[str, Sequence[Message]]) -> set[str]:
    return {one.code_text if one.type != Type.RST else "RST" for each in came.values() for one in each if _tells(one)}


def _tells(message: Message) -> bool:
    """Whether a message is more than the acknowledgement that goes before a separate response."""
    return message.type != Type.ACK or message.code != coap.EMPTY


def _is_reset(message: Message | NotCoap) -> bool:
    return isinstance(message, Message) and message.type == Type.RST


def _only_resets(came: Sequence[Message]) -> bool:
    return bool(came) and all(_is_reset(one) for one in came)


def _is_response(message: Message | NotCoap, asked: Message) -> bool:
    return isinstance(message, Message) and message.token == asked.token and message.code != coap.EMPTY


def _told(came: Sequence[Message | NotCoap]) -> str:
    return ", ".join(_name(one) for one in came) or "silence"


def _named(message: Message | NotCoap, names: Mapping[int, str]) -> str:
    return names.get(message.message_id, "nothing") if isinstance(message, Message) else "nothing"


def _name(message: Message | NotCoap) -> str:
    if isinstance(message, NotCoap):
        return f"{len(message.data)} bytes that are no message ({message.reason})"
    return message.type.name if message.code == coap.EMPTY else f"{message.type.name} {message.code_text}"


def _bytes_told(came: Sequence[Message]) -> str:
    return ", ".join(one.encode().hex() for one in came) or "silence"


def _table(came: Mapping[str, Sequence[Message]]) -> str:
    return ", ".join(f"{what}: {_told(one)}" for what, one in came.items())
