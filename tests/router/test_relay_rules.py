"""Rules through a real relay process, with the rig's own client and server at its two ends."""

import json
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from rig.clock import now_s
from rig.dtls.client import Client, Silence, Timers
from rig.dtls.coap import GET, Message, OptionNumber, Type, decode
from rig.dtls.conversation import Conversation, Script
from rig.dtls.records import DTLS_1_2, ContentType, Record
from rig.dtls.server import Received, Send, Server
from rig.dtls.server_session import Settings
from rig.formats.impairment import Impairment
from rig.formats.packet_rule import CoapMatch, Match, PacketRule, psks_to_dict
from rig.router import RelayRouter

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"
CONTENT = 0x45
PATIENCE_S = 20.0

Maker = Callable[[], socket.socket]


class Link:
    """A client and a plain board with the router between them."""

    def __init__(self, router: RelayRouter, udp: Maker) -> None:
        self.client, self.board = udp(), udp()
        self.front = router.endpoint_for(*self.board.getsockname())

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.client.sendto(datagram, self.front)

    def received(self, count: int) -> list[bytes]:
        return [self.board.recv(65535) for _ in range(count)]


class Device:
    """A scriptable DTLS server behind the router, which answers every GET with the request's path."""

    def __init__(self, router: RelayRouter, udp: Maker) -> None:
        self.client, self.board = udp(), udp()
        self.requests: list[Message] = []
        self._server = Server(Settings(psks={IDENTITY: PSK}))
        self.client.connect(router.endpoint_for(*self.board.getsockname()))

    def run(self, script: Script[Any]) -> Any:
        conversation = Conversation(script)
        outgoing = conversation.start(now_s())
        end_s = now_s() + PATIENCE_S
        while not conversation.ended:
            assert now_s() < end_s
            for datagram in outgoing:
                self.client.send(datagram)
            outgoing = self._step(conversation)
        return conversation.result

    def _step(self, conversation: Conversation[Any]) -> tuple[bytes, ...]:
        due_s = min(each for each in (conversation.next_timeout_s, self._server.deadline_s) if each is not None)
        ready, _, _ = select.select([self.client, self.board], [], [], max(0.0, due_s - now_s()))
        if self.board in ready:
            datagram, peer = self.board.recvfrom(65535)
            self._tell(self._server.receive(now_s(), peer, datagram))
        self._tell(self._server.expire(now_s()))
        if self.client in ready:
            return conversation.receive(now_s(), self.client.recv(65535))
        if conversation.next_timeout_s is not None and conversation.next_timeout_s <= now_s():
            return conversation.timeout(now_s())
        return ()

    def _tell(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Send):
                self.board.sendto(event.datagram, event.peer)
            if isinstance(event, Received):
                self._answer(event)

    def _answer(self, event: Received) -> None:
        request = decode(event.data)
        self.requests.append(request)
        if request.code == GET:
            answer = Message(Type.ACK, CONTENT, request.message_id, request.token, payload=request.path.encode())
            self._tell(self._server.send(event.peer, answer.encode()))


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One relay for all tests here: each clears what it has set."""
    with _relay_process(tmp_path_factory.mktemp("relay"), {"host": "127.77.0.1"}) as control:
        yield control


@contextmanager
def _relay_process(directory: Path, settings: dict[str, Any]) -> Iterator[str]:
    config = directory / "relay.json"
    config.write_text(json.dumps({"name": "relay-1", **settings}))
    command = [sys.executable, "-m", "rig.virtual.relay", "--config", str(config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["control"]
        process.stdin.close()
        process.wait(PATIENCE_S)


@pytest.fixture
def link(router: RelayRouter, udp: Maker) -> Link:
    return Link(router, udp)


@pytest.fixture
def device(router: RelayRouter, udp: Maker) -> Device:
    return Device(router, udp)


@pytest.fixture
def client() -> Client:
    client = Client(IDENTITY, PSK)
    client.timers = Timers(first_s=0.2)
    return client


def get(path: str, number: int) -> bytes:
    options = ((int(OptionNumber.URI_PATH), path.encode()),)
    return Message(Type.CON, GET, number, token=number.to_bytes(2, "big"), options=options).encode()


def answers(client: Client, *paths: str, within_s: float = 0.3) -> Script[list[str]]:
    """Ask for each path in turn; return the payloads of what comes."""
    for number, path in enumerate(paths):
        yield from client.send(client.application_data(get(path, number)))
    heard = yield from client.listen(within_s)
    data = [getattr(each.content, "data", None) for each in heard]
    return [decode(each).payload.decode() for each in data if each is not None]


def counts(router: RelayRouter) -> list[tuple[int, int]]:
    return [(each.matched, each.acted) for each in router.read().rules]


def test_each_action_does_what_its_name_says(router: RelayRouter, link: Link) -> None:
    def rule(size: int, action: Any, value: float | None) -> PacketRule:
        return PacketRule("to_device", action, Match(longer_than_bytes=size - 1), value)

    rules = [rule(50, "drop", None), rule(40, "flip", -1), rule(30, "truncate", 3), rule(20, "duplicate", 2)]
    state = router.rules(rules)
    assert [each.rule for each in state.rules] == rules
    link.send(bytes(50), bytes(40), bytes(30), bytes(20), b"rest")
    assert link.received(6) == [bytes(39) + b"\1", bytes(3), *[bytes(20)] * 3, b"rest"]
    # A datagram that fits several rules is counted by each, and the first that acts decides.
    assert counts(router) == [(1, 1), (2, 1), (3, 1), (4, 1)]


def test_a_delayed_datagram_is_overtaken_and_clearing_drops_what_waits(router: RelayRouter, link: Link) -> None:
    router.rules([PacketRule("to_device", "delay", value=0.2, nth=1)])
    began_s = now_s()
    link.send(b"late", b"prompt")
    assert link.received(2) == [b"prompt", b"late"]
    assert now_s() - began_s >= 0.2
    router.rules([PacketRule("to_device", "delay", value=0.2, nth=1)])
    link.send(b"never", b"prompt")
    assert link.received(1) == [b"prompt"]
    router.clear()
    link.send(b"after")
    assert link.received(1) == [b"after"]
    assert router.read().rules == ()


def test_a_hang_is_deaf_and_dumb_to_everybody_for_its_time(router: RelayRouter, link: Link, udp: Maker) -> None:
    router.rules([PacketRule("to_device", "hang", Match(longer_than_bytes=50), 0.3)])
    link.send(b"before", bytes(51), b"lost")
    udp().sendto(b"lost too", link.front)
    began_s = now_s()
    link.board.settimeout(0.05)
    assert link.received(1) == [b"before"]
    heard = b""
    while not heard and now_s() < began_s + PATIENCE_S:
        link.send(b"after")
        with suppress(TimeoutError):
            heard = link.board.recv(100)
    assert heard == b"after"
    assert now_s() - began_s >= 0.25


def test_occurrences_are_counted_for_each_client(router: RelayRouter, link: Link, udp: Maker) -> None:
    router.rules([PacketRule("to_device", "drop", first=1)])
    other = udp()
    for client in (link.client, other):
        for number in range(2):
            client.sendto(bytes((number,)), link.front)
    assert link.received(2) == [b"\1", b"\1"]


def test_rules_come_before_the_impairment_and_touch_one_direction(router: RelayRouter, link: Link) -> None:
    router.impair(to_device=Impairment(duplicate=100))
    router.rules([PacketRule("to_client", "drop"), PacketRule("to_device", "truncate", value=1, nth=1)])
    link.send(b"abc")
    assert link.received(2) == [b"a", b"a"]
    assert counts(router) == [(0, 0), (1, 1)]


def test_whoever_set_the_rules_takes_them_along(relay: str, router: RelayRouter) -> None:
    with RelayRouter(relay) as other:
        other.rules([PacketRule("to_device", "drop")])
        assert len(router.read().rules) == 1
    assert router.read().rules == ()


def test_a_rule_that_the_relay_refuses_leaves_the_former_ones(relay: str, router: RelayRouter) -> None:
    router.rules([PacketRule("to_device", "drop")])
    host, port = relay.split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(json.dumps({"op": "rules", "rules": [{"action": "lose"}], "psks": {}}).encode() + b"\n")
        answer = json.loads(raw.recv(65535))
    assert not answer["ok"]
    assert "rule 1" in answer["error"]
    assert len(router.read().rules) == 1


def test_records_are_told_apart_by_type_epoch_and_alert(router: RelayRouter, link: Link) -> None:
    def record(kind: ContentType, epoch: int, body: bytes) -> bytes:
        return Record(kind, DTLS_1_2, epoch, 0, body).encode()

    data, alert = ContentType.APPLICATION_DATA, ContentType.ALERT
    lost = [record(data, 2, b"x"), record(alert, 0, b"\2\x28")]
    kept = [record(data, 1, b"x"), record(alert, 0, b"\1\0"), record(alert, 2, b"\2\x28"), b"\x16junk", b""]
    of_epoch_2 = PacketRule("to_device", "drop", Match(content_type="application_data", epoch=2))
    router.rules([of_epoch_2, PacketRule("to_device", "drop", Match(alert=40))])
    link.send(*lost, *kept)
    assert link.received(len(kept)) == kept


def test_plain_coap_is_told_apart_too(router: RelayRouter, link: Link) -> None:
    router.rules([PacketRule("to_device", "drop", Match(coap=CoapMatch("CON", "0.01", "/light")))])
    link.send(get("light", 1), get("sensor", 2))
    assert link.received(1) == [get("sensor", 2)]


@pytest.mark.parametrize("flight", [2, 4, 6])
def test_a_lost_flight_of_the_server_is_lost_once(
    router: RelayRouter, device: Device, client: Client, flight: int
) -> None:
    router.rules([PacketRule("to_client", "drop", Match(flight=flight), first=1)])
    device.run(client.handshake())
    assert client.server_verified
    ((matched, acted),) = counts(router)
    assert (matched > 1, acted) == (True, 1)


@pytest.mark.parametrize("flight", [1, 3, 5])
def test_a_lost_flight_of_the_client_is_lost_once(
    router: RelayRouter, device: Device, client: Client, flight: int
) -> None:
    router.rules([PacketRule("to_device", "drop", Match(flight=flight), first=1)])
    device.run(client.handshake())
    assert client.server_verified
    assert counts(router) == [(2, 1)]


def test_handshake_messages_are_told_apart(router: RelayRouter, device: Device, client: Client) -> None:
    asks = PacketRule("to_client", "drop", Match(handshake=("hello_verify_request", "server_hello_done")), nth=2)
    keys = PacketRule("to_device", "drop", Match(handshake=("client_key_exchange",)), nth=1)
    router.rules([asks, keys])
    device.run(client.handshake())
    assert counts(router) == [(3, 1), (2, 1)]


def test_what_is_sent_again_is_told_from_what_is_new(router: RelayRouter, device: Device, client: Client) -> None:
    never_again = PacketRule("to_client", "drop", Match(flight=6, repeated=True))
    router.rules([PacketRule("to_client", "drop", Match(flight=6), nth=1), never_again])
    client.timers = Timers(first_s=0.1, give_up_s=0.5)
    with pytest.raises(Silence):
        device.run(client.handshake())
    first, second = router.read().rules
    assert first.acted == 1
    assert second.acted == second.matched > 1


def test_a_new_session_of_the_same_client_repeats_nothing(router: RelayRouter, device: Device, client: Client) -> None:
    router.rules([PacketRule("to_client", "drop", Match(repeated=True))])
    device.run(client.handshake())
    device.run(client.close())
    again = Client(IDENTITY, PSK)
    device.run(again.handshake())
    assert again.server_verified
    assert counts(router) == [(0, 0)]


def test_coap_inside_is_told_apart_with_the_key(router: RelayRouter, device: Device, client: Client) -> None:
    to_light = PacketRule("to_device", "drop", Match(coap=CoapMatch("CON", "0.01", "/light")), first=1)
    from_sensor = PacketRule("to_client", "drop", Match(coap=CoapMatch("ACK", "2.05", "/sensor")))
    router.rules([to_light, from_sensor], {IDENTITY: PSK})
    device.run(client.handshake())
    assert device.run(answers(client, "light", "sensor", "blob", "light")) == ["/blob", "/light"]
    assert [request.path for request in device.requests] == ["/sensor", "/blob", "/light"]
    assert counts(router) == [(2, 1), (1, 1)]


def test_without_the_key_nothing_inside_is_seen(router: RelayRouter, device: Device, client: Client) -> None:
    rule = PacketRule("to_device", "drop", Match(coap=CoapMatch(path="/light")))
    router.rules([rule], {IDENTITY: b"another key of16", b"sensor-2": PSK})
    device.run(client.handshake())
    assert device.run(answers(client, "light")) == ["/light"]


def test_a_hello_from_anybody_does_not_blind_the_relay(router: RelayRouter, device: Device, client: Client) -> None:
    router.rules([PacketRule("to_device", "drop", Match(coap=CoapMatch(path="/light")))], {IDENTITY: PSK})
    device.run(client.handshake())
    forged = Client(b"nobody", b"")
    device.run(forged.send(forged.client_hello()))
    assert device.run(answers(client, "light", "blob")) == ["/blob"]


def test_a_repeated_coap_message_is_told_from_a_new_one(router: RelayRouter, device: Device, client: Client) -> None:
    router.rules([PacketRule("to_device", "drop", Match(repeated=True, coap=CoapMatch("CON")))], {IDENTITY: PSK})
    device.run(client.handshake())

    def script() -> Script[None]:
        for number in (1, 1, 2):
            yield from client.send(client.application_data(get("light", number)))
        yield from client.listen(0.3)

    device.run(script())
    assert [request.message_id for request in device.requests] == [1, 2]


def test_the_rules_of_a_faulty_board_stay_and_are_part_of_the_board(
    faulty: RelayRouter, udp: Maker, tmp_path: Path, client: Client
) -> None:
    device = Device(faulty, udp)
    faulty.clear()
    path = tmp_path / "capture.pcapng"
    with faulty.capture(path) as capture:
        device.run(client.handshake())
        assert device.run(answers(client, "light", "blob")) == ["/blob"]
        board_side = [packet for packet in capture.packets() if packet.side == "board"]
    from_board = sum(packet.source == device.board.getsockname() for packet in board_side)
    # HelloVerifyRequest, two flights, one response: the answer to /light was never sent, as far as anybody sees.
    assert from_board == 4
    assert [request.path for request in device.requests] == ["/light", "/blob"]
    assert faulty.read().rules == ()


@pytest.fixture
def faulty(tmp_path: Path, own_address: str) -> Iterator[RelayRouter]:
    """A router whose board swallows its answers about /light."""
    rule = PacketRule("to_client", "drop", Match(coap=CoapMatch(path="/light")))
    settings = {"host": own_address, "board_rules": [rule.to_dict()], "psks": psks_to_dict({IDENTITY: PSK})}
    with _relay_process(tmp_path, settings) as control, RelayRouter(control) as router:
        yield router
