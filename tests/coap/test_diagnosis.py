"""What the probe says of the cause of a failure: from real conversations where it can, else from their parts."""

import random
import socket
from collections.abc import Iterator

import pytest

from rig.coap.probe import Prober, Said, request
from rig.coap.probe.diagnosis import diagnose
from rig.dtls import coap
from rig.dtls.alerts import FATAL, Alert
from rig.dtls.client import Refused, Silence, Timers
from rig.dtls.coap import Message, Type
from rig.dtls.records import DTLS_1_2, ContentType, Record
from rig.formats.udp_packet import Endpoint

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"
CONTENT, NOT_FOUND = 0x45, 0x84


@pytest.fixture
def endpoint() -> Endpoint:
    """An address at which nobody listens."""
    draws = random.SystemRandom()
    return f"127.{draws.randrange(1, 255)}.{draws.randrange(256)}.{draws.randrange(1, 255)}", 5684


@pytest.fixture
def probe(endpoint: Endpoint) -> Iterator[Prober]:
    with Prober(lambda: endpoint, IDENTITY, PSK) as prober:
        yield prober


def test_nobody_listens(probe: Prober) -> None:
    _try(probe)
    assert probe.diagnose().startswith("port: 127.")
    assert "ICMP port unreachable" in probe.diagnose()


def test_nothing_comes_back(probe: Prober, endpoint: Endpoint) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(endpoint)
        _try(probe)
    assert probe.diagnose() == (
        f"no route: not one datagram came from {endpoint[0]}:5684; is it on, in the network, and is that its address?"
    )


@pytest.mark.parametrize(
    ("number", "cause"), [(70, "version"), (71, "suite"), (40, "version or suite"), (115, "identity"), (20, "key")]
)
def test_an_alert_in_place_of_a_session(number: int, cause: str, probe: Prober, endpoint: Endpoint) -> None:
    alert = Record(ContentType.ALERT, DTLS_1_2, 0, 0, Alert(FATAL, number).encode()).encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as refusing:
        refusing.bind(endpoint)
        client, wire = probe.client(), probe.wire()
        wire.transcript.clients.append(client)
        wire.run(client.send(client.client_hello()))
        refusing.sendto(alert, refusing.recvfrom(2048)[1])
        with pytest.raises(Refused):
            wire.run(client.hello())
    assert probe.diagnose().split(":")[0] == cause


def test_a_client_that_should_be_refused_is_no_symptom(probe: Prober, endpoint: Endpoint) -> None:
    alert = Record(ContentType.ALERT, DTLS_1_2, 0, 0, Alert(FATAL, 20).encode()).encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as refusing:
        refusing.bind(endpoint)
        client, wire = probe.client(psk=b"another"), probe.wire()
        wire.transcript.clients.append(client)
        wire.run(client.send(client.client_hello()))
        refusing.sendto(alert, refusing.recvfrom(2048)[1])
        with pytest.raises(Refused):
            wire.run(client.hello())
    assert probe.diagnose() == ""


def test_every_path_is_answered_4_04() -> None:
    asked = [request(coap.GET, path) for path in ("/ligth", "/stat")]
    said = [one for each in asked for one in _exchange(each, NOT_FOUND)]
    assert _cause(said) == "wrong URI: /ligth, /stat answered 4.04; compare the declaration with /.well-known/core"
    assert _cause([*said, *_exchange(request(coap.GET, "/"), CONTENT)]) == ""


def test_another_token_comes_back() -> None:
    asked = request(coap.GET, "/", token=b"\1\2\3\4")
    answer = Message(Type.ACK, CONTENT, asked.message_id, b"\1\2")
    assert _cause([Said(0.0, True, asked), Said(0.1, False, answer)]) == (
        "token mismatch: 01020304 was sent, 0102 came back"
    )


def test_large_messages_are_lost() -> None:
    small, large = (request(coap.PUT, "/blob", payload=bytes(size)) for size in (100, 1300))
    said = [*_exchange(small, CONTENT), Said(1.0, True, large)]
    assert _cause(said).startswith("MTU: messages up to ")
    assert _cause([*said, *_exchange(request(coap.PUT, "/blob", payload=bytes(1400)), CONTENT)]) == ""
    assert _cause([*_exchange(request(coap.GET, "/"), CONTENT), Said(1.0, True, small)]) == ""


@pytest.mark.parametrize(("times_s", "named"), [((0, 2, 4, 6), True), ((0, 2.5, 7.5, 17.5), False), ((0, 2), False)])
def test_copies_at_equal_intervals(times_s: tuple[float, ...], named: bool) -> None:
    notification = Message(Type.CON, CONTENT, 7, b"\1", payload=b"on")
    assert _cause([Said(t_s, False, notification) for t_s in times_s]).startswith("backoff: ") is named


def _try(probe: Prober) -> None:
    client = probe.client()
    client.timers = Timers(first_s=0.05, give_up_s=0.12)
    with pytest.raises(Silence):
        probe.connect(client)


def _exchange(asked: Message, code: int) -> list[Said]:
    return [Said(0.0, True, asked), Said(0.1, False, Message(Type.ACK, code, asked.message_id, asked.token))]


def _cause(said: list[Said]) -> str:
    return diagnose([], [said], (IDENTITY, PSK))
