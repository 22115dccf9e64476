"""The raw probe against real servers: what it sends, what it hears, and what it leaves behind."""

import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.coap.probe import Prober, Wire, request, run_together
from rig.coap.probe.survey import (
    PSK_SUITES,
    open_tcp_ports,
    survey_methods,
    survey_offers,
    survey_resources,
    survey_suites,
)
from rig.dtls import coap
from rig.dtls.client import Refused, Silence, Timers
from rig.dtls.coap import Message, Type
from rig.dtls.contents import ServerHelloDone
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
    with Prober(lambda: endpoint, IDENTITY, PSK, on_repeat=repeats.append) as prober, prober.session() as session:
        session.get("/")
        assert repeats == []
        os.kill(server_pid, signal.SIGSTOP)
        threading.Timer(2.2, os.kill, (server_pid, signal.SIGCONT)).start()
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
