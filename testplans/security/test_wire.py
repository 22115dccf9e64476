"""What the wire shows: WIR-01, WIR-02."""

import base64
import secrets
import socket
from collections.abc import Sequence

import pytest

from rig.bench.bench import Bench
from rig.dtls.coap import GET, PUT, Message, OptionNumber, Type, decode
from rig.dtls.wire import DecodeError
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.router.capture import CapturedPacket

PLAIN_PORT = 5683
SILENCE_S = 1.0
UNAUTHORIZED = "4.01"
SILENCE = "silence"


@pytest.mark.requirement("WIR-01")
def test_plain_coap_is_closed(bench: Bench, coap: Coaps, measure: Measure) -> None:
    host, _ = bench.address()
    with coap.alive():
        before = _light(coap)
        other = b"off" if before == "on" else b"on"
        asked = {
            "GET /light": _ask(host, _request(GET, "light")),
            "GET /.well-known/core": _ask(host, _request(GET, ".well-known", "core")),
            "PUT /light": _ask(host, _request(PUT, "light", payload=other)),
        }
        after = _light(coap)
        tcp_open = _tcp_answers(host)
    answers = [f"{what} {answer}" for what, answer in asked.items() if answer != SILENCE]
    served = [answer for answer in asked.values() if answer not in (SILENCE, UNAUTHORIZED)]
    facts = {"host": host, "answers": asked, "light_before": before, "light_after": after, "tcp_open": tcp_open}
    measure.check(
        "WIR-01",
        "GET and PUT on UDP 5683 are not served and TCP 5683 is closed",
        not served and after == before and not tcp_open,
        observed=f"answers on UDP 5683: {', '.join(answers) or 'none'}; "
        f"/light {before} before, {after} after; TCP 5683 {'open' if tcp_open else 'closed'}",
        evidence=[measure.facts("plain-coap", facts)],
    )


@pytest.mark.requirement("WIR-02")
@pytest.mark.usefixtures("router")
def test_canary_is_absent_from_the_wire(coap: Coaps, measure: Measure) -> None:
    canary = f"canary{secrets.token_hex(8)}"
    with measure.packets("canary") as capture, coap.session() as session:
        session.put(f"/light?note={canary}", canary.encode())
        session.get(f"/light?note={canary}")
    seen = measure.only_session(capture, {coap.identity: coap.psk})
    measure.observe_session(seen)
    crossed = sum(canary.encode() in (record.plaintext or b"") for record in seen.application_data)
    found = _places(capture.packets(), canary)
    if not crossed:
        measure.inconclusive(
            "WIR-02",
            "the canary crosses the router",
            observed="no decrypted record holds the canary",
            evidence=[capture.path],
        )
    measure.check(
        "WIR-02",
        "a canary in query and payload is in no packet as text, hexadecimal or base64",
        not found,
        observed=f"{crossed} decrypted records hold the canary; packets that show it: {', '.join(found) or 'none'}",
        evidence=[capture.path],
    )


def _light(coap: Coaps) -> str:
    with coap.session() as session:
        return session.get("/light").text


def _request(code: int, *path: str, payload: bytes = b"") -> bytes:
    options = tuple((int(OptionNumber.URI_PATH), segment.encode()) for segment in path)
    number = secrets.randbelow(0x10000)
    return Message(Type.CON, code, number, token=b"\x01", options=options, payload=payload).encode()


def _ask(host: str, request: bytes) -> str:
    """Send *request* to UDP 5683 and return the code of what answers within the time of silence, or ``silence``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((host, PLAIN_PORT))
        sock.settimeout(SILENCE_S)
        try:
            sock.send(request)
            return decode(sock.recv(2048)).code_text
        except (TimeoutError, ConnectionRefusedError):
            return SILENCE
        except DecodeError:
            return "not CoAP"


def _tcp_answers(host: str) -> bool:
    try:
        with socket.create_connection((host, PLAIN_PORT), timeout=SILENCE_S):
            return True
    except OSError:
        return False


def _places(packets: Sequence[CapturedPacket], canary: str) -> list[str]:
    text = canary.encode()
    # Base64 of a text depends on where in a group of three it begins: cut what its neighbours would change.
    encoded = [base64.b64encode(b"x" * shift + text)[4:-4] for shift in range(3)]
    patterns = [text, text.hex().encode(), text.hex().upper().encode(), *encoded]
    return [
        f"packet {number}"
        for number, packet in enumerate(packets, 1)
        if any(pattern in packet.payload for pattern in patterns)
    ]
