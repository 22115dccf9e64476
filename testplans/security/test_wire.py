"""What the wire shows: WIR-01 to WIR-04, WIR-06, WIR-07."""

import base64
import itertools
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from rig.bench.bench import Bench
from rig.coap.probe import Prober, ProbeSession, Wire, request
from rig.dtls.client import Silence
from rig.dtls.coap import GET, POST, PUT, Message, OptionNumber, decode
from rig.dtls.records import ContentType, parse_datagram
from rig.dtls.wire import DecodeError
from rig.errors import DeviceError
from rig.evidence.declaration import Declaration, Resource
from rig.fixtures.measure import Measure
from rig.formats.packet_rule import Direction
from rig.formats.pcapng import read_pcapng
from rig.formats.udp_packet import parse_udp_packet
from rig.router import Match, PacketRule, Router

PLAIN_PORT = 5683
SILENCE_S = 1.0
UNAUTHORIZED = "4.01"
SILENCE = "silence"
AMPLIFICATION_MAX = 3.0
SAMPLES = 3
REQUESTS = 3

HEADERS_BYTES = 20 + 8
"""IPv4 without options, and UDP."""
PATHS = {1280: 6, 576: 4}
"""Path MTU in bytes, and the block size exponent with which a message fits: 1024 and 256 bytes."""
LARGEST_UPLOAD_BYTES = 2048
TRANSFER_S = 3.0
LOST_S = 0.5


@pytest.mark.requirement("WIR-01")
def test_plain_coap_is_closed(bench: Bench, dut: Declaration, probe: Prober, measure: Measure) -> None:
    host, _ = bench.address()
    switch = dut.switchable()
    with probe.alive():
        before = _value(probe, switch)
        asked = {f"GET {one.path}": request(GET, one.path) for one in dut.resources if "GET" in one.methods}
        if switch is not None:
            asked[f"PUT {switch.path}"] = request(PUT, switch.path, payload=_other(switch, before))
        answers = _asked_in_clear(probe, host, asked)
        after = _value(probe, switch)
        tcp_open = _tcp_answers(host)
    told = [f"{what} {answer}" for what, answer in answers.items() if answer != SILENCE]
    served = [answer for answer in answers.values() if answer not in (SILENCE, UNAUTHORIZED)]
    facts = {"host": host, "answers": answers, "before": before, "after": after, "tcp_open": tcp_open}
    measure.check(
        "WIR-01",
        "no resource is read or changed on UDP 5683 and TCP 5683 is closed",
        not served and after == before and not tcp_open,
        observed=f"answers to {len(asked)} requests on UDP 5683: {', '.join(told) or 'none'}; "
        f"{switch.path if switch else 'nothing'} {before} before, {after} after; "
        f"TCP 5683 {'open' if tcp_open else 'closed'}",
        evidence=[measure.facts("plain-coap", facts)],
    )


@pytest.mark.requirement("WIR-02")
def test_canaries_are_absent_from_the_wire(
    bench: Bench, dut: Declaration, probe: Prober, router: Router, measure: Measure
) -> None:
    canaries = {place: f"canary{secrets.token_hex(8)}" for place in ("path", "query", "payload")}
    canaries["ETag"] = secrets.token_hex(4)
    planted = _planted(dut, canaries)
    services = {one.service: one.port for one in dut.ports if one.transport == "udp"}
    crossed: set[str] = set()
    with measure.packets("canary") as capture:
        if "coap" in services:
            crossed |= _sent_in_clear(probe, router.endpoint_for(bench.address()[0], services["coap"]), planted)
        if "coaps" in services:
            _sent_protected(probe, planted)
    if "coaps" in services:
        seen = measure.only_session(capture, {probe.identity.decode(): probe.psk})
        measure.observe_session(seen)
        crossed = {place for place, text in canaries.items() if _crosses(text, seen.application_data)}
    missing = sorted(set(canaries if "coaps" in services else planted.keys() - {"payload"}) - crossed)
    if missing:
        measure.inconclusive(
            "WIR-02",
            "every canary crosses the router",
            observed=f"not known to have crossed: {', '.join(missing)}",
            evidence=[capture.path],
        )
    payloads = [packet.payload for packet in capture.packets()]
    found = [f"packet {n}: {place}" for place, text in canaries.items() for n in _places(payloads, text)]
    measure.check(
        "WIR-02",
        "canaries in path, query, payload and ETag are in no packet as text, hexadecimal or base64",
        not found,
        observed=f"crossed: {', '.join(sorted(crossed))}; packets that show one: {', '.join(found) or 'none'}",
        evidence=[capture.path],
    )


@pytest.mark.requirement("WIR-03")
def test_what_lengths_and_times_give_away(dut: Declaration, probe: Prober, measure: Measure) -> None:
    asked = _harmless(dut)
    with probe.session() as session:
        samples = {name: _sizes(session, *each) for name, each in asked.items()}
    pairs = {name: {(row["sent_bytes"], row["answer_bytes"]) for row in rows} for name, rows in samples.items() if rows}
    alone = [name for name in pairs if not any(pairs[name] & pairs[other] for other in pairs if other != name)]
    times = [f"{name} {median(row['time_ms'] for row in samples[name]):.1f} ms" for name in pairs]
    measure.check(
        "WIR-03",
        "which requests can be told apart by the length and time of their records is known",
        bool(pairs),
        observed=f"{len(alone)} of {len(pairs)} requests are told apart by the lengths of request and answer alone: "
        f"{', '.join(alone) or 'none'}; times: {', '.join(times)}; not answered: "
        f"{', '.join(samples.keys() - pairs.keys()) or 'none'}",
        evidence=[measure.facts("lengths", {"samples": samples, "told_apart": alone})],
    )


@pytest.mark.requirement("WIR-04")
@pytest.mark.usefixtures("router")
def test_a_response_stays_in_its_session(bench: Bench, dut: Declaration, probe: Prober, measure: Measure) -> None:
    path = _readable(dut).path
    with measure.packets("sessions") as capture, probe.session() as one, probe.session() as two:
        sent: dict[ProbeSession, set[bytes]] = {one: set(), two: set()}
        for session in (one, two) * REQUESTS:
            message = request(GET, path)
            session.tell(message)
            sent[session].add(message.token)
        heard = {session: _tokens(session) for session in sent}
    foreign = sum(len(heard[session] - tokens) for session, tokens in sent.items())
    missing = sum(len(tokens - heard[session]) for session, tokens in sent.items())
    port = bench.board_config.coaps_port
    recordings = measure.recordings()
    in_clear = [f"{file.name} packet {n}" for file in recordings for n in _clear_messages(file, port)]
    statement = "in each of two sessions come the responses to its own requests, and none leaves the device in clear"
    observed = (
        f"two sessions with {REQUESTS} requests each: {foreign} responses in the wrong one, {missing} did not come; "
        f"CoAP in clear in {len(recordings)} recordings of this run: {', '.join(in_clear) or 'none'}"
    )
    if missing and not foreign and not in_clear:
        measure.inconclusive("WIR-04", statement, observed=observed, evidence=[capture.path])
    measure.check("WIR-04", statement, not foreign and not in_clear, observed=observed, evidence=[capture.path])


@pytest.mark.requirement("WIR-06")
def test_plain_coap_does_not_amplify(bench: Bench, dut: Declaration, probe: Prober, measure: Measure) -> None:
    host, _ = bench.address()
    port = next(one.port for one in dut.ports if one.service == "coap")
    shortest = {path: request(GET, path, token=b"") for path in ("/", *(_path_only(one) for one in dut.resources))}
    wires = {path: probe.wire(to=(host, port)) for path in shortest}
    for path, wire in wires.items():
        wire.send(shortest[path].encode())
    answered = {path: sum(map(len, datagrams)) for path, datagrams in _listen_to_all(wires).items()}
    ratios = {path: answered[path] / len(shortest[path].encode()) for path in shortest}
    worst = max(ratios, key=lambda path: ratios[path])
    measure.check(
        "WIR-06",
        f"no answer in clear is more than {AMPLIFICATION_MAX:g} times as long as its request",
        ratios[worst] <= AMPLIFICATION_MAX,
        observed=f"most for GET {worst}: {answered[worst]} bytes for {len(shortest[worst].encode())}, "
        f"{ratios[worst]:.1f} times; {sum(map(bool, answered.values()))} of {len(shortest)} requests answered",
        evidence=[measure.facts("amplification", {"ratios": ratios})],
    )


@pytest.mark.requirement("WIR-07")
def test_datagrams_fit_the_path(
    bench: Bench, dut: Declaration, probe: Prober, router: Router, measure: Measure
) -> None:
    largest: dict[int, int] = {}
    transfers: dict[int, list[str]] = {}
    captures = []
    for mtu, exponent in PATHS.items():
        router.rules([_too_long_for(mtu, "to_client"), _too_long_for(mtu, "to_device")])
        with probe.session() as session:
            # Before the recording: at first the device cannot know what this path takes.
            _ask_for_all(session, dut)
            with measure.packets(f"mtu-{mtu}") as capture:
                transfers[mtu] = list(_transfers(probe, session, dut, exponent))
        router.clear()
        captures.append(capture.path)
        port = bench.board_config.coaps_port
        sizes = [len(one.payload) for one in capture.packets() if one.side == "board" and one.source[1] == port]
        largest[mtu] = max(sizes, default=0) + HEADERS_BYTES
    broken = [f"at {mtu}: {one}" for mtu, each in transfers.items() for one in each if not one.endswith("complete")]
    measure.check(
        "WIR-07",
        "on paths of 1280 and 576 bytes every transfer completes and no packet is longer than the path takes",
        not broken and all(size <= mtu for mtu, size in largest.items()),
        observed="; ".join(f"MTU {mtu}: largest packet {size} bytes" for mtu, size in largest.items())
        + f"; not complete: {', '.join(broken) or 'none'}",
        evidence=[*captures, measure.facts("path-mtu", {"transfers": transfers, "largest_bytes": largest})],
    )


def _value(probe: Prober, switch: Resource | None) -> str:
    if switch is None:
        return "-"
    with probe.session() as session:
        return session.get(switch.path).payload.decode(errors="replace")


def _other(switch: Resource, value: str) -> bytes:
    return next(each for each in switch.values if each != value).encode()


def _readable(dut: Declaration) -> Resource:
    readable = dut.resource("GET")
    if readable is None:
        pytest.skip("the declaration has no resource with GET")
    return readable


def _path_only(resource: Resource) -> str:
    return resource.path.partition("?")[0]


def _asked_in_clear(probe: Prober, host: str, asked: dict[str, Message]) -> dict[str, str]:
    """Send each request to UDP 5683 from a port of its own; return what answers within the time of silence."""
    wires = {what: probe.wire(to=(host, PLAIN_PORT)) for what in asked}
    for what, wire in wires.items():
        wire.send(asked[what].encode())
    return {what: _named(datagrams) for what, datagrams in _listen_to_all(wires).items()}


def _listen_to_all(wires: dict[str, Wire]) -> dict[str, tuple[bytes, ...]]:
    """Give all wires the time of silence, at once."""
    waits_s = itertools.chain([SILENCE_S], itertools.repeat(0.001))
    return {name: wire.listen(wait_s) for (name, wire), wait_s in zip(wires.items(), waits_s, strict=False)}


def _named(datagrams: Sequence[bytes]) -> str:
    if not datagrams:
        return SILENCE
    try:
        return decode(datagrams[0]).code_text
    except DecodeError:
        return "not CoAP"


def _tcp_answers(host: str) -> bool:
    try:
        with socket.create_connection((host, PLAIN_PORT), timeout=SILENCE_S):
            return True
    except OSError:
        return False


def _planted(dut: Declaration, canaries: dict[str, str]) -> dict[str, Message]:
    """Build a request for each canary; whether the device serves it does not matter."""
    readable = _readable(dut)
    writable = dut.resource("PUT") or readable
    etag = ((int(OptionNumber.ETAG), canaries["ETag"].encode()),)
    return {
        "path": request(GET, f"/{canaries['path']}"),
        "query": request(GET, f"{_path_only(readable)}?note={canaries['query']}"),
        "ETag": request(GET, readable.path, options=etag),
        "payload": request(PUT, writable.path, payload=canaries["payload"].encode()),
    }


def _sent_protected(probe: Prober, planted: dict[str, Message]) -> None:
    with probe.session() as session:
        for message in planted.values():
            # It crosses whether it is answered or not; that it did is shown by decryption.
            with suppress(DeviceError):
                session.ask(message, within_s=TRANSFER_S)


def _sent_in_clear(probe: Prober, to: tuple[str, int], planted: dict[str, Message]) -> set[str]:
    """Send what an application that encrypts its payloads has left to say; return the places of those canaries."""
    places = planted.keys() - {"payload"}
    wire = probe.wire(to=to)
    wire.send(*(planted[place].encode() for place in places))
    wire.listen(SILENCE_S)
    return places


def _crosses(text: str, records: Sequence[Any]) -> bool:
    return any(text.encode() in (record.plaintext or b"") for record in records)


def _places(payloads: Sequence[bytes], canary: str) -> Iterator[int]:
    text = canary.encode()
    # Base64 of a text depends on where in a group of three it begins: leave out what its neighbours would change.
    shifted = [base64.b64encode(b"x" * n + text)[-(-8 * n // 6) : 8 * (n + len(text)) // 6] for n in range(3)]
    patterns = [text, text.hex().encode(), text.hex().upper().encode(), *shifted]
    for number, payload in enumerate(payloads, 1):
        if any(pattern in payload for pattern in patterns):
            yield number


def _harmless(dut: Declaration) -> dict[str, tuple[int, str, bytes]]:
    """Return every request that reads, and those that switch between declared values: method, path and payload."""
    found = {f"GET {one.path}": (GET, one.path, b"") for one in dut.resources if "GET" in one.methods}
    switch = dut.switchable()
    if switch is not None:
        found |= {f"PUT {switch.path} {each}": (PUT, switch.path, each.encode()) for each in switch.values}
    return found


def _sizes(session: ProbeSession, method: int, path: str, payload: bytes) -> list[dict[str, float]]:
    """Make a request several times and return its sizes and times; nothing where the device leaves it unanswered."""
    rows = []
    for _ in range(SAMPLES):
        try:
            session.ask(request(method, path, payload=payload), within_s=TRANSFER_S)
        except Silence:
            return []
        sent, answer = session.client.sent[-1], session.client.received[-1]
        sizes = {"sent_bytes": len(sent.datagram or b""), "answer_bytes": len(answer.datagram or b"")}
        rows.append({**sizes, "time_ms": 1e3 * (answer.t_s - sent.t_s)})
    return rows


def _tokens(session: ProbeSession) -> set[bytes]:
    """Return the tokens of the responses that come, as many as were asked for."""
    found: set[bytes] = set()
    with suppress(Silence):
        while len(found) < REQUESTS:
            message = session.hear_one(within_s=TRANSFER_S)
            if isinstance(message, Message) and message.code:
                found.add(message.token)
    return found


def _clear_messages(recording: Path, port: int) -> Iterator[int]:
    """Yield the numbers of the packets in which the device says something in clear from its coaps port."""
    for number, packet in enumerate(read_pcapng(recording.read_bytes()).packets, 1):
        if packet.interface.name != "board side":
            continue
        datagram = parse_udp_packet(packet.data)
        if datagram.source[1] == port and _in_clear(datagram.payload):
            yield number


def _in_clear(payload: bytes) -> bool:
    """Whether a datagram is a CoAP message, or has application data in a record without protection."""
    try:
        records = parse_datagram(payload)
    except DecodeError:
        return _named([payload]) != "not CoAP"
    return any(one.epoch == 0 and one.content_type == ContentType.APPLICATION_DATA for one in records)


def _too_long_for(mtu: int, direction: Direction) -> PacketRule:
    """Lose what a path of this MTU would not take in one piece."""
    return PacketRule(direction, "drop", Match(longer_than_bytes=mtu - HEADERS_BYTES))


def _ask_for_all(session: ProbeSession, dut: Declaration) -> None:
    """GET without a word on blocks, and once more if nothing comes: the answer may be longer than the path takes."""
    for resource in dut.resources:
        if resource.blockwise and "GET" in resource.methods:
            message = request(GET, resource.path)
            session.tell(message)
            if not session.hear(LOST_S):
                session.tell(message)
                session.hear(LOST_S)


def _transfers(probe: Prober, session: ProbeSession, dut: Declaration, exponent: int) -> Iterator[str]:
    """Read every resource, upload where that is possible, and shake hands; yield how each ended."""
    uploads = [one for one in dut.resources if one.blockwise and {"PUT", "POST"} & set(one.methods)]
    try:
        for resource in dut.resources:
            if "GET" in resource.methods:
                yield f"GET {resource.path} {_download(session, resource.path, exponent)}"
        for resource in uploads:
            yield f"upload to {resource.path} {_upload(session, resource, exponent)}"
        with probe.session():
            yield "handshake complete"
    except DeviceError as error:
        yield f"then {error}"


def _download(session: ProbeSession, path: str, exponent: int) -> str:
    """GET in blocks of 2 ** (*exponent* + 4) bytes, the most that the client takes (RFC 7959 2.4)."""
    number, more = 0, True
    while more:
        options = ((int(OptionNumber.BLOCK2), _block(number, False, exponent)),)
        answer = session.ask(request(GET, path, options=options), within_s=TRANSFER_S)
        if answer.code_text != "2.05":
            return f"was answered {answer.code_text} at block {number}"
        blocks = answer.values(OptionNumber.BLOCK2)
        more = bool(blocks) and bool(int.from_bytes(blocks[0], "big") & 8)
        number += 1
    return "complete"


def _upload(session: ProbeSession, resource: Resource, exponent: int) -> str:
    size = 1 << exponent + 4
    body = bytes(min(resource.max_body_bytes or LARGEST_UPLOAD_BYTES, LARGEST_UPLOAD_BYTES))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    method = PUT if "PUT" in resource.methods else POST
    for number, piece in enumerate(pieces):
        more = number + 1 < len(pieces)
        options = ((int(OptionNumber.BLOCK1), _block(number, more, exponent)),)
        answer = session.ask(request(method, resource.path, payload=piece, options=options), within_s=TRANSFER_S)
        if not answer.code_text.startswith("2."):
            return f"was answered {answer.code_text} at block {number}"
    return "complete"


def _block(number: int, more: bool, exponent: int) -> bytes:
    """Encode the value of a Block option (RFC 7959 2.2)."""
    value = number << 4 | more << 3 | exponent
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
