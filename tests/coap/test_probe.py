"""The raw probe against real servers: what it sends, what it hears, and what it leaves behind."""

import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.coap.probe import (
    GroupWire,
    NotObserved,
    Observation,
    Prober,
    Wire,
    next_message_id,
    request,
    run_together,
)
from rig.coap.probe.survey import (
    PSK_SUITES,
    open_tcp_ports,
    survey_methods,
    survey_offers,
    survey_resources,
    survey_suites,
)
from rig.dtls import coap
from rig.dtls.client import Client, Refused, Silence, Timers
from rig.dtls.coap import Message, Type
from rig.dtls.contents import ServerHelloDone
from rig.dtls.conversation import Script
from rig.formats.udp_packet import Endpoint

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"


@pytest.fixture(scope="module", params=["coap-server-openssl", "coap-server-gnutls"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[Endpoint, int]]:
    """A libcoap server at an address of its own, and its process id."""
    draws = random.SystemRandom()
    host = f"127.{draws.randrange(1, 255)}.{draws.randrange(256)}.{draws.randrange(1, 255)}"
    command = [request.param, "-A", host, "-k", PSK.decode(), "-h", IDENTITY.decode()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        table = Path("/proc/net/udp")
        place = f" {bytes(map(int, host.split('.')))[::-1].hex().upper()}:{5684:04X} "
        while place not in table.read_text(encoding="ascii"):
            assert process.poll() is None
            os.sched_yield()
        yield (host, 5684), process.pid
        process.kill()


@pytest.fixture
def endpoint(server: tuple[Endpoint, int]) -> Endpoint:
    return server[0]


@pytest.fixture
def server_pid(server: tuple[Endpoint, int]) -> int:
    return server[1]


@pytest.fixture
def probe(endpoint: Endpoint) -> Iterator[Prober]:
    with Prober(lambda: endpoint, IDENTITY, PSK) as prober:
        yield prober


def test_a_session_asks_and_is_closed(probe: Prober) -> None:
    with probe.session() as session:
        answer = session.get("/.well-known/core")
        assert answer.code_text == "2.05"
        assert session.ask(request(coap.EMPTY, type=Type.CON, token=b"")).type == Type.RST  # RFC 7252 4.3, ping
        assert not session.ended
    assert session.ended
    assert probe.transcripts[-1].passed
    with pytest.raises(Silence):
        session.run(session.client.ask(request(coap.GET, "/").encode(), 0.2))


def test_what_nobody_asked_for_is_kept(probe: Prober) -> None:
    with probe.session() as session:
        observe = ((int(coap.OptionNumber.OBSERVE), b""),)
        registered = session.ask(request(coap.GET, "/time", options=observe))
        assert registered.observe is not None
        session.ask(request(coap.GET, "/"))
        told = session.hear_one(3.0)
        assert isinstance(told, Message)
        assert told.token == registered.token
        session.tell(Message(Type.RST, coap.EMPTY, told.message_id))


def test_a_request_without_an_answer_is_sent_again_and_told(endpoint: Endpoint, server_pid: int) -> None:
    repeats: list[str] = []

    def go_on(what: str) -> None:
        repeats.append(what)
        os.kill(server_pid, signal.SIGCONT)

    with Prober(lambda: endpoint, IDENTITY, PSK, on_repeat=go_on) as prober, prober.session() as session:
        session.get("/")
        assert repeats == []
        os.kill(server_pid, signal.SIGSTOP)
        assert session.get("/").code_text == "2.05"
    assert repeats == ["request 0.01 / was sent again: no answer"]


def test_proof_of_life_needs_the_right_key_and_a_resource(endpoint: Endpoint) -> None:
    with Prober(lambda: endpoint, IDENTITY, PSK) as prober:
        prober.prove_alive()
        assert prober.died() == ""
    with Prober(lambda: endpoint, IDENTITY, PSK, life="/nope") as prober:
        assert "answered 4.04" in prober.died()


def test_handshakes_run_at_once(probe: Prober) -> None:
    clients = [probe.client() for _ in range(3)]
    found = probe.together([(client, client.hello()) for client in clients])
    assert [type(one) for one in found] == [ServerHelloDone] * 3
    assert len({transcript.local for transcript in probe.transcripts}) == 3
    for client, transcript in zip(clients, probe.transcripts, strict=True):
        assert transcript.clients == [client]


def test_scripts_of_different_lengths_end_when_they_end(probe: Prober) -> None:
    short, long = probe.client(), probe.client()
    first, second = probe.wire(), probe.wire()
    heard, done = run_together([(first, long.listen(0.3)), (second, short.hello())])
    assert (heard, type(done)) == ((), ServerHelloDone)
    probe.abandon(short, second)


def test_an_abandoned_handshake_ends(probe: Prober) -> None:
    client, wire = probe.half_open()
    client.timers = Timers(give_up_s=0.5)
    probe.abandon(client, wire)
    with pytest.raises((Silence, Refused)):
        probe.run(client.flight(*client.last_flight(), until=(ServerHelloDone,)), client, wire)


def test_a_survey_finds_suites_resources_and_methods(probe: Prober, endpoint: Endpoint) -> None:
    suites = survey_suites(probe, [0xC0A8, 0x00B0])
    assert {PSK_SUITES[number] for number, tried in suites.items() if tried.suite == number} == {
        "TLS_PSK_WITH_AES_128_CCM_8"
    }
    offers = survey_offers(probe, 0xC0A8)
    assert not offers.connection_id
    with probe.session() as session:
        targets = [link.target for link in survey_resources(session)]
        assert "/time" in targets
        assert survey_methods(session, "/.well-known/core")["DELETE"] == "4.05"
    assert open_tcp_ports(endpoint[0], [5684, 1]) == (5684,)  # coaps+tcp


def test_a_survey_spares_what_ignores_if_match_the_delete(probe: Prober) -> None:
    with probe.session() as session:
        assert survey_methods(session, "/time") == {"GET": "2.05", "PUT": "2.04", "POST": "4.05", "DELETE": "not tried"}
        assert session.get("/time").code_text == "2.05"


def test_no_port_is_used_again() -> None:
    ports = []
    for _ in range(1000):
        with Wire(("127.0.0.1", 9)) as wire:
            ports.append(wire.local[1])
    assert len(set(ports)) == len(ports)


def test_an_open_tcp_port_is_found() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert open_tcp_ports("127.0.0.1", [port, 1]) == (port,)


def test_a_wire_counts_refusals_and_keeps_its_port() -> None:
    with Wire(("127.0.0.1", 9)) as wire:
        wire.send(b"x")
        wire.listen(0.05)
        wire.send(b"y")
        assert wire.refused >= 1
        assert [each.datagram for each in wire.transcript.passed] == [b"x", b"y"]


def test_a_volley_gets_what_came_for_each_message(probe: Prober) -> None:
    with probe.session() as session:
        get = request(coap.GET, "/")
        malformed = coap.frame(Type.CON, coap.GET, next_message_id(), bytes(9))
        nothing = request(coap.GET, "/", type=Type.NON, token=b"")
        answered, rejected, unmatched = session.volley(get, malformed, nothing, within_s=0.2)
        assert [one.code_text for one in answered] == ["2.05"]
        assert [one.type for one in rejected] == [Type.RST]
        assert unmatched == ()
        assert [one.code_text for one in session.hear(0) if isinstance(one, Message)] == ["2.05"]
        assert [one.from_client for one in session.said] == [True, True, True, False, False, False]


def test_a_volley_repeats_what_is_confirmable_and_silent(endpoint: Endpoint) -> None:
    repeats: list[str] = []
    with Prober(lambda: endpoint, IDENTITY, PSK, on_repeat=repeats.append) as prober, prober.session() as session:
        other_version = coap.frame(Type.ACK, coap.EMPTY, next_message_id())
        reserved = request(0xE0, "/")  # libcoap 4.3.1 leaves codes of class 7 alone
        assert session.volley(other_version, reserved, within_s=0.1) == ((), ())
    assert repeats == ["1 confirmable messages were sent again: no answer"]


def test_observations_are_told_apart_and_end(probe: Prober) -> None:
    with probe.session() as session:
        session.put("/example_data", b"one")
        first, second = Observation(session, "/example_data?first"), Observation(session, "/example_data?second")
        session.put("/example_data", b"two")
        assert [one.until(b"two")[-1].token for one in (second, first)] == [second.token, first.token]
        assert first.cancel().observe is None
        session.put("/example_data", b"three")
        assert second.until(b"three")
        assert not any(first.is_own(one) for one in session.hear(0.1))


def test_what_cannot_be_observed_is_said(probe: Prober) -> None:
    with probe.session() as session, pytest.raises(NotObserved, match=r"/ cannot be observed: .* 2\.05 without Obs"):
        Observation(session, "/")


def test_a_group_is_asked_and_only_the_device_is_heard() -> None:
    host, other = _loopback(), _loopback()
    with GroupWire(("224.0.1.187", 5683), host) as wire, _sender(host) as device, _sender(other) as stranger:
        for socket_ in (stranger, device):
            socket_.sendto(socket_.getsockname()[0].encode(), wire.transcript.local)
        answers = [wire.read() for _ in range(2)]
    assert answers == [host.encode(), None]
    assert [one.datagram for one in wire.transcript.passed] == [host.encode()]


def _loopback() -> str:
    draws = random.SystemRandom()
    return f"127.{draws.randrange(1, 255)}.{draws.randrange(256)}.{draws.randrange(1, 255)}"


def _sender(host: str) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((host, 0))
    return sender


def test_scripts_take_turns_where_only_so_many_may_run(endpoint: Endpoint) -> None:
    running: list[int] = []
    most = 0

    def script(client: Client) -> Script[int]:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        yield from client.listen(0.05)
        running.pop()
        return len(client.seen)

    with Prober(lambda: endpoint, IDENTITY, PSK) as prober:
        clients = [prober.client() for _ in range(5)]
        assert prober.together([(each, script(each)) for each in clients], at_once=2) == [0] * 5
    assert most == 2
