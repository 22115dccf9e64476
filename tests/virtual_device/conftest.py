"""The scripted device without sockets: its CoAP application alone, or the whole device and raw clients, on a made-up
clock; and as a process with a real one."""

import itertools
import json
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rig.dtls.client import Client
from rig.dtls.coap import Message, OptionNumber, Type, decode
from rig.dtls.conversation import Conversation, Script
from rig.virtual.device.application import Application
from rig.virtual.device.device import Credentials, Datagram, Device
from rig.virtual.device.misbehaviour import Misbehaviour
from rig.virtual.device.process import split_switches

IDENTITY, PSK = "sensor-1", b"0123456789abcdef"
STATUS = {"uptime_ms": 1, "free_heap": 2, "boot_count": 1}


def request(code: int, path: str = "/light", *options: tuple[int, bytes], **fields: Any) -> Message:
    place, _, query = path.partition("?")
    uri = [(int(OptionNumber.URI_PATH), part.encode()) for part in place.strip("/").split("/")]
    uri += [(int(OptionNumber.URI_QUERY), part.encode()) for part in query.split("&") if part]
    defaults = {"type": Type.CON, "token": b"tk", "options": (*uri, *options)}
    return Message(code=code, **{**defaults, **fields})


class Talk:
    """Clients of the application; each has a session. Message IDs are new unless a test gives one."""

    def __init__(self, wrong: Misbehaviour) -> None:
        self.now_s = 1000.0
        self.application = Application(wrong, random.Random(), lambda: STATUS)
        self.sent: list[tuple[float, int, Message]] = []
        self._ids = itertools.count(1)
        for client in (1, 2):
            self.application.connect(client)
        self.application.expire(self.now_s)

    def give(self, data: bytes, client: int = 1) -> list[Message]:
        """Give the application bytes; return what it sends to this client."""
        return self._took(self.application.receive(self.now_s, client, data), client)

    def tell(self, message: Message, client: int = 1) -> list[Message]:
        return self.give(message.encode(), client)

    def ask(self, code: int, path: str = "/light", *options: tuple[int, bytes], **fields: Any) -> Message:
        """Send a request; return the one response, which comes first."""
        client = fields.pop("client", 1)
        message = request(code, path, *options, **{"message_id": next(self._ids), **fields})
        return self.tell(message, client)[0]

    def wait(self, for_s: float, client: int = 1) -> list[tuple[float, Message]]:
        """Let time pass; return what the client is sent, and when."""
        end_s, came = self.now_s + for_s, []
        while self.application.deadline_s <= end_s:
            self.now_s = self.application.deadline_s
            came += [(self.now_s, each) for each in self._took(self.application.expire(self.now_s), client)]
        self.now_s = end_s
        return came

    def _took(self, outgoing: list[Any], client: int) -> list[Message]:
        clear = [each for each in outgoing if each.clear]
        messages = [(each.client, decode(each.data)) for each in outgoing if each not in clear]
        self.sent += [(self.now_s, number, message) for number, message in messages]
        return [message for number, message in messages if number == client]


class Line:
    """Raw clients and the whole device, joined without loss or delay; ``heard`` is what each address was sent."""

    def __init__(self, switches: dict[str, Any]) -> None:
        self.now_s = 1000.0
        self.device = Device(Credentials(IDENTITY.encode(), PSK), *split_switches(switches), self.now_s)
        self.heard: dict[tuple[str, int], list[bytes]] = {}
        self._ports = itertools.count(40000)

    def run(self, script: Script[Any], address: tuple[str, int]) -> Any:
        """Run a script from this address; the clock goes on to what is due whenever nobody has anything to say."""
        talk = Conversation(script)
        self._to_device(talk, address, talk.start(self.now_s))
        while not talk.ended:
            assert talk.next_timeout_s is not None
            self.now_s = max(self.now_s, min(talk.next_timeout_s, self.device.deadline_s))
            self._to_client(talk, address, self.device.expire(self.now_s))
            if talk.next_timeout_s is not None and talk.next_timeout_s <= self.now_s:
                self._to_device(talk, address, talk.timeout(self.now_s))
        return talk.result

    def address(self) -> tuple[str, int]:
        return "192.0.2.1", next(self._ports)

    def connect(self, address: tuple[str, int] | None = None, **settings: Any) -> "Session":
        address = address or self.address()
        client = Client(IDENTITY.encode(), PSK, **settings)
        self.run(client.handshake(), address)
        return Session(self, client, address)

    def half_open(self) -> None:
        client = Client(IDENTITY.encode(), PSK)
        self.run(client.hello(), self.address())

    def _to_device(self, talk: Conversation[Any], address: tuple[str, int], datagrams: tuple[bytes, ...]) -> None:
        for datagram in datagrams:
            self._to_client(talk, address, self.device.receive(self.now_s, address, datagram))

    def _to_client(self, talk: Conversation[Any], address: tuple[str, int], sent: list[Datagram]) -> None:
        for each in sent:
            self.heard.setdefault(each.peer, []).append(each.data)
            if each.peer == address:
                self._to_device(talk, address, talk.receive(self.now_s, each.data))


class Session:
    """An established session of a raw client."""

    def __init__(self, line: Line, client: Client, address: tuple[str, int]) -> None:
        self.line, self.client, self.address = line, client, address
        self._ids = itertools.count(1)

    def run(self, script: Script[Any]) -> Any:
        return self.line.run(script, self.address)

    def ask(self, code: int, path: str = "/light", *options: tuple[int, bytes], **fields: Any) -> Message:
        message = request(code, path, *options, **{"message_id": next(self._ids), **fields})
        return decode(self.run(self.client.ask(message.encode())))

    def stats(self) -> dict[str, Any]:
        """Return /stats, which fits into one block of 1024 bytes."""
        found: dict[str, Any] = json.loads(self.ask(1, "/stats", (int(OptionNumber.BLOCK2), b"\x06")).payload)
        return found


@pytest.fixture
def talk() -> Callable[..., Talk]:
    """Start an application with these switches and two sessions, 1 and 2."""
    return lambda **switches: Talk(Misbehaviour(**switches))


@pytest.fixture
def line() -> Callable[..., Line]:
    """Start a device with these switches."""
    return lambda **switches: Line(switches)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start the device as a process with these switches; gives its address. It ends with the test."""
    draws = random.SystemRandom()
    started: list[subprocess.Popen[bytes]] = []

    def start(**switches: Any) -> str:
        address = f"127.{draws.randrange(1, 255)}.{draws.randrange(256)}.{draws.randrange(1, 255)}"
        config = {"name": "device", "address": address, "identity": IDENTITY, "psk": PSK.hex(), "switches": switches}
        path = tmp_path / f"{address}.json"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "rig.virtual.device", "--config", str(path)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        output = started[-1].stdout
        assert output is not None
        assert json.loads(output.readline()) == {"name": "device", "host": address, "port": 5684}
        return address

    yield start
    for process in started:
        with process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


@pytest.fixture
def group_client() -> Iterator[socket.socket]:
    """A socket whose group requests go out on the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        client.settimeout(10)
        yield client
