"""The healthy device as a whole: sessions and what they occupy, any bytes, other people's clients."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig.coap import CoapClient
from rig.coap.probe import Prober
from rig.dtls.client import Client, Silence
from rig.dtls.coap import GET, PUT, Message, OptionNumber, Type, decode
from rig.dtls.extensions import ConnectionId, pairs

IDENTITY, PSK = "sensor-1", b"0123456789abcdef"
REGISTER = (OptionNumber.OBSERVE, b"")
BOUNDS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)

Make = Callable[..., Any]


# --- sessions


def test_half_open_handshakes_are_let_go(line: Make) -> None:
    joint = line()
    observer = joint.connect()
    before = observer.stats()
    for _ in range(3):
        joint.half_open()
    assert observer.stats()["half_open"] == 3
    joint.now_s += 60
    joint.device.expire(joint.now_s)
    after = observer.stats()
    assert (after["half_open"], after["free_heap"]) == (0, before["free_heap"])


def test_a_flood_of_half_open_handshakes_costs_nobody_a_session(line: Make) -> None:
    joint = line()
    session = joint.connect()
    for _ in range(130):
        joint.half_open()
    assert (session.stats()["half_open"], session.stats()["boot_count"]) == (16, 1)
    assert joint.connect().ask(GET).code_text == "2.05"
    assert session.ask(GET).code_text == "2.05"


def test_the_longest_idle_session_makes_room(line: Make) -> None:
    joint = line()
    idle, *used = [joint.connect() for _ in range(12)]
    newest = joint.connect()
    for session in (*used, newest):
        assert session.ask(GET).code_text == "2.05"
    with pytest.raises(Silence):
        idle.ask(GET)
    assert newest.stats()["sessions"] == 12


def test_a_closed_session_has_no_observation_any_more(line: Make) -> None:
    joint = line()
    observer, changer = joint.connect(), joint.connect()
    observer.ask(GET, "/light", REGISTER)
    assert observer.run(observer.client.close()) is True
    before = len(joint.heard[observer.address])
    changer.ask(PUT, payload=b"on")
    joint.now_s += 60
    joint.device.expire(joint.now_s)
    assert len(joint.heard[observer.address]) == before
    assert changer.stats()["sessions"] == 1


def test_a_client_that_starts_anew_has_nothing_of_before(line: Make) -> None:
    joint = line()
    old = joint.connect()
    old.ask(GET, "/light", REGISTER)
    new = joint.connect(old.address)
    assert new.ask(PUT, payload=b"on").code_text == "2.04"
    assert not [each for each in new.client.unread if "ApplicationData" in type(each.content).__name__]
    assert new.stats()["sessions"] == 1


def test_a_client_that_moves_keeps_its_observation(line: Make) -> None:
    joint = line()
    moving, changer = joint.connect(hello_extensions=pairs(ConnectionId(b"client"))), joint.connect()
    moving.ask(GET, "/light", REGISTER)
    moving.address = joint.address()
    assert moving.ask(GET).code_text == "2.05"
    before = len(joint.heard[moving.address])
    changer.ask(PUT, payload=b"on")
    assert len(joint.heard[moving.address]) == before + 1


@pytest.mark.parametrize("early", [False, True])
def test_a_request_before_finished_is_served_only_where_that_is_asked_for(line: Make, early: bool) -> None:
    joint = line(data_before_finished=early)
    client, address = Client(IDENTITY.encode(), PSK), joint.address()
    joint.run(client.hello(), address)
    key_exchange, change, _ = client.last_flight()
    asked = Message(Type.CON, GET, 1, b"", ((OptionNumber.URI_PATH, b"light"),)).encode()
    before = len(joint.heard[address])
    joint.run(client.send_each(key_exchange, change, client.application_data(asked)), address)
    assert len(joint.heard[address]) - before == (1 if early else 0)


# --- any bytes


@BOUNDS
@given(st.lists(st.binary(max_size=64), max_size=5))
def test_any_bytes_as_messages_harm_nothing(talk: Make, messages: list[bytes]) -> None:
    client = talk()
    for data in messages:
        client.give(data)
    client.wait(1)
    assert client.ask(GET, client=2).code_text == "2.05"


OPTIONS = st.lists(st.tuples(st.sampled_from(sorted(OptionNumber)) | st.integers(0, 70), st.binary(max_size=5)))
PATHS = st.sampled_from([b"light", b"blob", b"config", b"sensor", b"stats", b"x"])


@BOUNDS
@given(st.integers(1, 31), PATHS, OPTIONS, st.binary(max_size=40), st.sampled_from([Type.CON, Type.NON]))
def test_any_request_is_answered_and_harms_nothing(
    talk: Make, code: int, path: bytes, options: list[tuple[int, bytes]], payload: bytes, kind: Type
) -> None:
    client = talk()
    given_options = ((OptionNumber.URI_PATH, path), *options)
    answers = client.tell(Message(kind, code, 9, b"token", given_options, payload))
    assert answers[0].type == Type.RST or (answers[0].token == b"token" and answers[0].code >= 0x40)
    assert client.ask(GET, client=2).code_text == "2.05"


@BOUNDS
@given(st.lists(st.binary(max_size=80), max_size=5))
def test_any_datagrams_harm_nothing(line: Make, datagrams: list[bytes]) -> None:
    joint = line()
    for data in datagrams:
        joint.device.receive(joint.now_s, ("192.0.2.7", 1), data)
        joint.device.receive_from_group(joint.now_s, ("192.0.2.7", 1), data)
    assert joint.connect().ask(GET).code_text == "2.05"


# --- other people's clients, over sockets


def needs(program: str) -> Any:
    return pytest.param(
        program, marks=pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")
    )


@pytest.mark.parametrize("program", [needs("coap-client-openssl"), needs("coap-client-gnutls")])
def test_libcoap_moves_bodies_both_ways(device: Make, program: str, tmp_path: Any) -> None:
    address = device()
    got, body = tmp_path / "got", tmp_path / "body"
    body.write_bytes(os.urandom(2500))

    def run(*options: str) -> str:
        command = [program, "-v", "6", "-B", "5", "-u", IDENTITY, "-k", PSK.decode(), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout

    run("-o", str(got), f"coaps://{address}/blob?n=2500")
    assert got.read_bytes() == b"".join(b"%07x\n" % at for at in range(0, 2500, 8))[:2500]
    said = run("-m", "put", "-b", "256", "-t", "42", "-f", str(body), f"coaps://{address}/blob")
    assert re.search(r'"length":2500', said)


def test_aiocoap_reads_writes_and_observes(device: Make) -> None:
    address = device()
    with CoapClient() as client, client.session(address, 5684, identity=IDENTITY, psk=PSK) as session:
        body = os.urandom(5000)
        assert session.get("/blob?n=5000").payload[-8:] == b"0001380\n"
        assert session.put("/blob", body, content_format=42).json()["length"] == 5000
        assert session.put("/blob", bytes(8193)).code == "4.13"
        with session.observe("/light") as observation:
            for value in ("on", "off"):
                session.put("/light", value.encode())
                assert observation.next(timeout_s=10).text == value


def test_the_raw_client_is_served_by_the_process(device: Make) -> None:
    address = device()
    with Prober(lambda: (address, 5684), IDENTITY.encode(), PSK) as probe:
        probe.prove_alive()
        with probe.session() as session:
            assert session.get("/light").payload == b"off"


def test_a_member_of_the_group_answers_from_its_own_address(device: Make, group_client: socket.socket) -> None:
    address = device(multicast=True, multicast_at_once=True)
    path = ((OptionNumber.URI_PATH, b".well-known"), (OptionNumber.URI_PATH, b"core"))
    group_client.sendto(Message(Type.NON, GET, 1, b"all", path).encode(), ("224.0.1.187", 5683))
    while True:
        data, peer = group_client.recvfrom(2048)
        if peer == (address, 5683):
            break
    assert b"</light>" in decode(data).payload
    assert decode(data).token == b"all"
