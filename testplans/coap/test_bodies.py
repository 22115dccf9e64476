"""Bodies of any size and block-wise transfer: COAP-19, COAP-21 to COAP-24."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from rig.coap.probe import Prober, ProbeSession, request
from rig.dtls import coap
from rig.dtls.client import Silence
from rig.dtls.coap import Block, Message, OptionNumber
from rig.evidence.declaration import Declaration, Resource
from rig.evidence.verdicts import State
from rig.fixtures.measure import Measure

SIZES = (99, 100, 101, 128, 512, 1024)
OVERSIZE = (1152, 1300)
"""Bodies whose message is larger than the 1152 bytes that RFC 7252 4.6 has a sender keep to: it may be lost."""
TAKEN, TOO_LARGE, WRONG_CONTENT = ("2.01", "2.04"), "4.13", "4.00"
SILENT = "silence"
REPEATED_ONCE_S = 2.5
CONTINUE, INCOMPLETE = "2.31", "4.08"
EXPONENTS = range(7)
"""Of block sizes from 16 to 1024 bytes."""
UPLOAD_SZX = 2
UPLOAD_BLOCKS = 4
ENDLESS_BYTES = 65536
"""How much an endless body may have where no limit is declared."""
HEAP_SHARE = 0.5
"""What a body that was given up may still occupy, as a share of the largest one; a loss with each request is less."""
_FILL = b"0123456789abcdef"


@pytest.mark.requirement("COAP-19")
def test_bodies_of_any_size_damage_nothing(probe: Prober, dut: Declaration, measure: Measure) -> None:
    targets = _targets(dut)
    if not targets:
        pytest.skip("no resource with GET and PUT is declared")
    told: dict[str, dict[int, str]] = {}
    damaged: list[str] = []
    with probe.session() as session:
        for target in targets:
            neighbours = [one for one in targets if one is not target]
            own = _read(session, target.path, _as_it_likes).body
            before = [session.get(one.path).payload for one in neighbours]
            told[target.path] = _put_sizes(session, target)
            if SILENT in told[target.path].values():
                break
            _put_back(session, target, own)
            after = [session.get(one.path).payload for one in neighbours]
            damaged += [one.path for one, was, now in zip(neighbours, before, after, strict=True) if was != now]
        else:
            own = _read(session, targets[0].path, _as_it_likes).body
            told[f"{targets[0].path} oversize"] = _put_oversize(session, targets[0])
            _put_back(session, targets[0], own)
    died = probe.died()
    sound = all(_is_sound(size, code) for codes in told.values() for size, code in codes.items())
    puts = [f"PUT {path}: {', '.join(f'{n}: {code}' for n, code in codes.items())}" for path, codes in told.items()]
    measure.check(
        "COAP-19",
        "PUT of 99 to 1300 bytes is taken or refused, with 4.13 or, where the content is wrong, 4.00; only a message "
        "beyond 1152 bytes may be lost; nothing else changes, and the device lives",
        sound and not damaged and not died,
        observed=f"{'; '.join(puts)}; changed besides: {', '.join(damaged) or 'nothing'}; {died or 'alive afterwards'}",
    )


@pytest.mark.requirement("COAP-21")
def test_block_wise_responses(probe: Prober, dut: Declaration, measure: Measure) -> None:
    resource = dut.resource("GET", blockwise=True)
    if resource is None:
        pytest.skip("no resource is declared whose GET is block-wise")
    with probe.session() as session:
        whole = _read(session, resource.path, lambda _: EXPONENTS[-1])
        reads = {f"{16 << szx}": _read(session, resource.path, _always(szx)) for szx in EXPONENTS}
        reads["1024, then 64"] = _read(session, resource.path, lambda offset: 2 if offset else 6)
        reads["as the device likes"] = _read(session, resource.path, _as_it_likes)
        reserved = session.get(resource.path, ((OptionNumber.BLOCK2, Block(0, False, coap.RESERVED_SZX).encode()),))
        past = Block(len(whole.body) // 64 + 1, False, 2)
        beyond = session.get(resource.path, ((OptionNumber.BLOCK2, past.encode()),))
    problems = [f"{how}: {read.problem}" for how, read in reads.items() if read.problem]
    problems += [
        f"{how}: {len(read.body)} bytes, SHA-256 {_sum(read.body)}"
        for how, read in reads.items()
        if not read.problem and read.body != whole.body
    ]
    measure.check(
        "COAP-21",
        "a body read in blocks of 16 to 1024 bytes, and with the size reduced on the way, is the same; the reserved "
        "size gets 4.00, a block past the end 4.xx",
        not problems and not whole.problem and reserved.code_text == "4.00" and beyond.code_text.startswith("4."),
        observed=f"GET {resource.path}: {len(whole.body)} bytes, SHA-256 {_sum(whole.body)}; different: "
        f"{'; '.join(problems) or 'none'}; SZX 7: {reserved.code_text}; block {past.number} of 64 bytes: "
        f"{beyond.code_text}",
    )


@pytest.mark.requirement("COAP-22")
def test_block_wise_requests(probe: Prober, dut: Declaration, measure: Measure) -> None:
    resource = _uploadable(dut)
    body = _body(0)
    with probe.session() as session:
        plain = _upload(session, resource, body, range(UPLOAD_BLOCKS))
        shown = _shown(session, resource, plain)
        gap = _upload(session, resource, body, (0, 2, 3))
        headless = _upload(session, resource, body, (3,))
        repeated = _upload(session, resource, body, (0, 1, 1, 2, 3), again=True)
        shown_repeated = _shown(session, resource, repeated)
        anew = _upload(session, resource, body, (0, 1, 0, 1, 2, 3))
        shown_anew = _shown(session, resource, anew)
    right = [CONTINUE] * (UPLOAD_BLOCKS - 1)
    problems = [
        *_unless(_codes(plain)[:-1] == right and _codes(plain)[-1] in TAKEN, f"in order: {_texts(plain)}"),
        *_unless(_echoes(plain), f"in order: Block1 of the answers is {_blocks(plain)}"),
        *_unless(_gap_is_noticed(gap), f"without block 1: {_texts(gap)}"),
        *_unless(_codes(headless) == [INCOMPLETE], f"block 3 alone: {_texts(headless)}"),
        *_unless(_codes(repeated)[-1] in TAKEN and shown_repeated == shown, f"block 1 twice: {_texts(repeated)}"),
        *_unless(_codes(anew)[-1] in TAKEN and shown_anew == shown, f"begun anew: {_texts(anew)}"),
    ]
    measure.check(
        "COAP-22",
        "PUT in blocks gets 2.31 for each but the last; a missing block 4.08; a block that comes twice with one "
        "message id, and a body begun anew, come out the same",
        not problems,
        observed=f"{resource.path}: in order {_texts(plain)}; without block 1 {_texts(gap)}; block 3 alone "
        f"{_texts(headless)}; block 1 twice {_texts(repeated)}; begun anew {_texts(anew)}; "
        f"wrong: {'; '.join(problems) or 'nothing'}; {_how_shown(shown)}",
    )


@pytest.mark.requirement("COAP-23")
def test_a_body_without_end_is_bounded(probe: Prober, dut: Declaration, measure: Measure) -> None:
    resource = _uploadable(dut)
    largest = resource.max_body_bytes or ENDLESS_BYTES // 2
    limit = 2 * largest
    with probe.session() as session:
        _endless(session, resource, limit)  # what a first one occupies for good is no leak
        before = _free_heap(session, dut)
        end, sent = _endless(session, resource, limit)
        after = _free_heap(session, dut)
    probe.prove_alive()
    lost = before - after if before is not None and after is not None else 0
    size = end.uint(OptionNumber.SIZE1)
    observed = (
        f"PUT {resource.path} in blocks of 1024 bytes, more to follow: {end.code_text} after {sent} bytes, Size1 "
        f"{'missing' if size is None else size}; free heap {before} before, {after} after"
    )
    statement = f"a body that does not end gets 4.13 within {limit} bytes, and the free heap comes back"
    met = end.code_text == TOO_LARGE and lost <= HEAP_SHARE * largest
    if met and size is None:
        # RFC 7252 5.9.2.9: the response SHOULD include Size1.
        measure.state("COAP-23", State.DEVIATION, f"{statement}; the answer tells the size", observed=observed)
    else:
        measure.check("COAP-23", statement, met, observed=observed)


@pytest.mark.requirement("COAP-24")
def test_two_clients_bodies_are_kept_apart(probe: Prober, dut: Declaration, measure: Measure) -> None:
    resource = _uploadable(dut)
    bodies = _body(0), _body(7)
    with probe.session() as one, probe.session() as other:
        alone = [_shown(one, resource, _upload(one, resource, body, range(UPLOAD_BLOCKS))) for body in bodies]
        answers: tuple[list[Message], list[Message]] = ([], [])
        shown: list[tuple[bytes, bytes]] = []
        for number in range(UPLOAD_BLOCKS):
            for session, body, answered in zip((one, other), bodies, answers, strict=True):
                answered += _upload(session, resource, body, (number,))
                if number == UPLOAD_BLOCKS - 1:
                    shown.append(_shown(session, resource, answered))
    whole = [
        _codes(each)[-1] in TAKEN and each_shown == expected
        for each, each_shown, expected in zip(answers, shown, alone, strict=True)
    ]
    refused = [_codes(each)[-1][0] in "45" for each in answers]
    measure.check(
        "COAP-24",
        "two bodies that come block by block in turn are each as when sent alone, or refused",
        all(taken or no for taken, no in zip(whole, refused, strict=True)),
        observed=f"{resource.path}: first client {_texts(answers[0])}, second {_texts(answers[1])}; what came of them "
        f"{'is as when sent alone' if all(whole) else f'is {shown}, alone {alone}'}; "
        f"{_how_shown(alone[0]) if alone[0] != alone[1] else 'the device does not show what it took'}",
    )


def _targets(dut: Declaration) -> list[Resource]:
    """Return the resources to write to: one that takes large bodies, one with a few values, one of configuration."""
    stored = [one for one in dut.resources if {"GET", "PUT"} <= set(one.methods)]
    kinds: tuple[Callable[[Resource], bool], ...] = (
        lambda one: one.blockwise,
        lambda one: bool(one.values),
        lambda one: one.purpose == "configuration",
    )
    chosen = [next((one for one in stored if fits(one)), None) for fits in kinds]
    return list({one.path: one for one in chosen if one is not None}.values()) or stored[:1]


def _put_sizes(session: ProbeSession, resource: Resource) -> dict[int, str]:
    """PUT a body of each size, up to the first that is not answered; return the codes."""
    codes: dict[int, str] = {}
    for size in SIZES:
        try:
            answer = session.ask(request(coap.PUT, resource.path, payload=_fill(size)), within_s=REPEATED_ONCE_S)
        except Silence:
            return {**codes, size: SILENT}
        codes[size] = _code(answer)
    return codes


def _put_back(session: ProbeSession, resource: Resource, body: bytes) -> None:
    """Give a resource that keeps what is put there what it had."""
    if _read(session, resource.path, _as_it_likes).body == body:
        return
    if len(body) <= SIZES[-1]:
        session.put(resource.path, body)
        return
    for offset in range(0, len(body), SIZES[-1]):
        block = Block(offset // SIZES[-1], offset + SIZES[-1] < len(body), EXPONENTS[-1])
        session.ask(_put_block(resource, block, body[offset : offset + block.size]))


def _put_oversize(session: ProbeSession, resource: Resource) -> dict[int, str]:
    """PUT bodies whose message is larger than a sender should make it; return the codes."""
    puts = [request(coap.PUT, resource.path, payload=_fill(size)) for size in OVERSIZE]
    came = session.volley(*puts)
    strays = [one for one in session.hear(0) if isinstance(one, Message) and one.type == coap.Type.RST]
    codes = [", ".join(_code(each) for each in one) or SILENT for one in came]
    wrong = {0: f"RST of message id {strays[0].message_id}, which was not asked"} if strays else {}
    return dict(zip(OVERSIZE, codes, strict=True)) | wrong


def _is_sound(size: int, code: str) -> bool:
    return code in (*TAKEN, TOO_LARGE, WRONG_CONTENT) or (size in OVERSIZE and code == SILENT)


def _code(answer: Message) -> str:
    return "RST" if answer.type == coap.Type.RST else answer.code_text


@dataclass(frozen=True)
class _Read:
    """A body as it was put together, and what was wrong on the way."""

    body: bytes
    problem: str = ""


def _always(szx: int) -> Callable[[int], int | None]:
    return lambda _: szx


def _as_it_likes(_: int) -> None:
    """Ask for no block size."""


def _read(session: ProbeSession, path: str, size_at: Callable[[int], int | None]) -> _Read:
    """Read *path* in blocks; *size_at* tells the size exponent to ask for at an offset, None for none."""
    body = b""
    szx: int | None = None
    tags: set[tuple[bytes, ...]] = set()
    while True:
        asked = size_at(len(body))
        asked = szx if asked is None else asked
        block = None if asked is None else Block(len(body) >> asked + 4, False, asked)
        response = session.get(path, ((OptionNumber.BLOCK2, block.encode()),) if block else ())
        tags.add(response.values(OptionNumber.ETAG))
        came = response.block(OptionNumber.BLOCK2)
        problem = _problem(response, block, came)
        if problem or came is None:
            return _Read(body + response.payload, problem)
        body, szx = body + response.payload, came.szx
        if not came.more:
            size = response.uint(OptionNumber.SIZE2)
            wrong_size = size is not None and size != len(body)
            return _Read(body, f"Size2 {size} for {len(body)} bytes" if wrong_size else _one_tag(tags))


def _problem(response: Message, asked: Block | None, came: Block | None) -> str:
    """Return what is wrong with one block (RFC 7959 2.2, 2.4)."""
    if response.code_text != "2.05":
        return f"block {asked.number if asked else 0}: {response.code_text}"
    if came is None:
        large = len(response.payload) > (asked.size if asked else 1024)
        return f"{len(response.payload)} bytes without Block2" if large else ""
    if came.szx == coap.RESERVED_SZX or (asked and (came.szx > asked.szx or came.offset != asked.offset)):
        return f"asked for {asked}, given {came}"
    right = len(response.payload) == came.size if came.more else 0 < len(response.payload) <= came.size
    return "" if right else f"{came}: {len(response.payload)} bytes"


def _one_tag(tags: set[tuple[bytes, ...]]) -> str:
    return "" if len(tags) == 1 else "the ETag changed on the way"


def _uploadable(dut: Declaration) -> Resource:
    found = dut.resource("PUT", blockwise=True)
    if found is None:
        pytest.skip("no resource is declared that takes bodies in blocks by PUT")
    return found


def _upload(
    session: ProbeSession, resource: Resource, body: bytes, numbers: Sequence[int], *, again: bool = False
) -> list[Message]:
    """PUT blocks of *body* in this order and return the answers; *again* repeats a block with its Message ID."""
    answers: list[Message] = []
    sent: dict[int, Message] = {}
    for number in numbers:
        block = Block(number, number < UPLOAD_BLOCKS - 1, UPLOAD_SZX)
        if not again or number not in sent:
            content = body[block.offset : block.offset + block.size]
            sent[number] = _put_block(resource, block, content)
        answers.append(session.ask(sent[number]))
    return answers


def _put_block(resource: Resource, block: Block, content: bytes) -> Message:
    options: coap.Options = ((int(OptionNumber.BLOCK1), block.encode()),)
    if resource.content_format is not None:
        options += ((int(OptionNumber.CONTENT_FORMAT), coap.uint(resource.content_format)),)
    return request(coap.PUT, resource.path, payload=content, options=options)


def _shown(session: ProbeSession, resource: Resource, answers: Sequence[Message]) -> tuple[bytes, bytes]:
    """Return what the device shows of a body that it took: in its last answer, and to a GET."""
    got = session.get(resource.path).payload if "GET" in resource.methods else b""
    return answers[-1].payload, got


def _how_shown(shown: tuple[bytes, bytes]) -> str:
    return f"the device's answer tells {shown[0]!r}" if shown[0] else "the device's answer tells nothing of the body"


def _endless(session: ProbeSession, resource: Resource, limit: int) -> tuple[Message, int]:
    """Send blocks, more to follow, until one is not answered 2.31 or *limit* is passed; return that and the bytes."""
    sent = 0
    while True:
        block = Block(sent // 1024, True, EXPONENTS[-1])
        answer = session.ask(_put_block(resource, block, _fill(block.size)))
        sent += block.size
        if answer.code_text != CONTINUE or sent > limit:
            return answer, sent


def _free_heap(session: ProbeSession, dut: Declaration) -> int | None:
    key = dut.figures.free_heap_bytes if dut.figures else None
    return session.figure(dut.figures.path, key) if dut.figures and key else None


def _gap_is_noticed(answers: Sequence[Message]) -> bool:
    """RFC 7959 2.9.2: 4.08, at the gap or at the end; never taken as if it were whole."""
    return INCOMPLETE in _codes(answers) and not set(_codes(answers)) & set(TAKEN)


def _echoes(answers: Sequence[Message]) -> bool:
    """RFC 7959 2.3: the answer's Block1 has the number of the block that it answers."""
    blocks = [one.block(OptionNumber.BLOCK1) for one in answers]
    return [one.number if one else None for one in blocks] == list(range(len(answers)))


def _codes(answers: Sequence[Message]) -> list[str]:
    return [one.code_text for one in answers]


def _texts(answers: Sequence[Message]) -> str:
    return ", ".join(_codes(answers))


def _blocks(answers: Sequence[Message]) -> str:
    return ", ".join(str(one.block(OptionNumber.BLOCK1)) for one in answers)


def _unless(right: bool, problem: str) -> list[str]:
    return [] if right else [problem]


def _body(turn: int) -> bytes:
    """Return a body of all blocks, the last of which is not full; another one for another *turn*."""
    whole = b"".join(b"%03d%013d" % (turn, number) for number in range(UPLOAD_BLOCKS << UPLOAD_SZX))
    return whole[:-10]


def _fill(size: int) -> bytes:
    return (_FILL * (size // len(_FILL) + 1))[:size]


def _sum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]
