"""Peers for the tests of the coaps client: a libcoap server that checks identities, and a forwarder that counts."""

import contextlib
import random
import selectors
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rig.coap import CoapClient

IDENTITY = "alice"
PSK = b"0123456789abcdef"

Address = tuple[str, int]

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
CLIENT_KEY_EXCHANGE = 16
MARKER = b"settle"


def random_loopback() -> str:
    """Return an address of 127.0.0.0/8 that nothing else is likely to use."""
    return f"127.{random.randint(2, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"


@dataclass
class Server:
    """A running identity_server."""

    process: subprocess.Popen[str]
    address: Address

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal: SIGTERM closes its sessions, SIGKILL does not."""
        self.process.send_signal(number)
        self.process.wait()


@dataclass
class Forwarder:
    """A UDP forwarder that keeps every datagram of the client and can go mute."""

    front: socket.socket
    target: Address
    from_client: list[bytes] = field(default_factory=list)
    clients: set[Address] = field(default_factory=set)
    mute: bool = False
    _settled: threading.Event = field(default_factory=threading.Event)

    def run(self, stop: socket.socket) -> None:
        """Forward until *stop* becomes readable."""
        backs: dict[Address, socket.socket] = {}
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as sockets:
            selector.register(self.front, selectors.EVENT_READ, None)
            selector.register(stop, selectors.EVENT_READ, "stop")
            while True:
                for key, _ in selector.select():
                    if key.data == "stop":
                        return
                    if key.data is None:
                        self._to_server(backs, selector, sockets)
                    else:
                        self._to_client(key.fileobj, key.data)

    def _to_server(self, backs, selector, sockets) -> None:
        data, client = self.front.recvfrom(4096)
        if data == MARKER:
            self._settled.set()
            return
        if client not in backs:
            back = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            back.connect(self.target)
            backs[client] = back
            selector.register(back, selectors.EVENT_READ, client)
        self.clients.add(client)
        self.from_client.append(data)
        if not self.mute:
            with contextlib.suppress(ConnectionRefusedError):
                backs[client].send(data)

    def _to_client(self, back, client: Address) -> None:
        with contextlib.suppress(ConnectionRefusedError):
            data = back.recv(4096)
            if not self.mute:
                self.front.sendto(data, client)

    @property
    def address(self) -> Address:
        return self.front.getsockname()

    def settle(self) -> None:
        """Return when everything that the client sent before this call was forwarded."""
        self._settled.clear()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
            marker.sendto(MARKER, self.address)
            self._settled.wait()

    @property
    def application_data(self) -> list[bytes]:
        """Records of application data that the client sent."""
        self.settle()
        return [data for data in self.from_client if data[0] == APPLICATION_DATA]

    @property
    def handshakes(self) -> int:
        """ClientKeyExchange messages seen: one for each handshake."""
        self.settle()
        return sum(data[0] == HANDSHAKE and data[13] == CLIENT_KEY_EXCHANGE for data in self.from_client)

    @property
    def protected_alerts(self) -> int:
        """Alert records of epoch 1 that the client sent."""
        self.settle()
        return sum(data[0] == ALERT and data[3:5] == b"\0\1" for data in self.from_client)


@pytest.fixture(scope="session")
def server_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled identity_server; skipped without a C compiler and libcoap's headers."""
    if shutil.which("cc") is None or subprocess.run(["pkg-config", "--exists", "libcoap-3-openssl"]).returncode != 0:
        pytest.skip("needs cc and libcoap3-dev")
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "libcoap-3-openssl"], text=True).split()
    program = tmp_path_factory.mktemp("identity_server") / "identity_server"
    source = Path(__file__).with_name("identity_server.c")
    subprocess.run(["cc", "-o", str(program), str(source), *flags], check=True)
    return program


@pytest.fixture
def start_server(server_program: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts identity_server, on a given address or on one of its own."""
    with contextlib.ExitStack() as stack:

        def start(host: str | None = None) -> Server:
            command = [str(server_program), host or random_loopback(), IDENTITY, PSK.decode()]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            address, port = process.stdout.readline().split()[0].split(":")
            return Server(process, (address, int(port)))

        yield start


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    return start_server()


@pytest.fixture
def example_server() -> Iterator[Address]:
    """libcoap's own example server, which creates and deletes resources on demand."""
    program = shutil.which("coap-server-openssl")
    if program is None:
        pytest.skip("needs coap-server-openssl (libcoap3-bin)")
    host, port = random_loopback(), random.randint(20000, 30000)
    command = [program, "-A", host, "-p", str(port), "-k", PSK.decode(), "-d", "10"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not is_bound((host, port + 1)):
            assert process.poll() is None
            time.sleep(0.01)
        yield host, port + 1
        process.kill()


@pytest.fixture
def forward() -> Iterator[Callable[[Address], Forwarder]]:
    """A function that puts a forwarder in front of an address."""
    with contextlib.ExitStack() as stack:

        def start(target: Address) -> Forwarder:
            front = stack.enter_context(udp_socket())
            forwarder = Forwarder(front, target)
            stack.enter_context(_thread(forwarder.run))
            return forwarder

        yield start


@pytest.fixture
def answer_with() -> Iterator[Callable[[Callable[[bytes], bytes | None]], Address]]:
    """A function that starts a UDP peer which answers each datagram by a rule; None means silence."""
    with contextlib.ExitStack() as stack:

        def start(rule: Callable[[bytes], bytes | None]) -> Address:
            peer = stack.enter_context(udp_socket())

            def run(stop: socket.socket) -> None:
                with selectors.DefaultSelector() as selector:
                    selector.register(peer, selectors.EVENT_READ)
                    selector.register(stop, selectors.EVENT_READ)
                    while all(key.fileobj is peer for key, _ in selector.select()):
                        data, client = peer.recvfrom(4096)
                        answer = rule(data)
                        if answer is not None:
                            peer.sendto(answer, client)

            stack.enter_context(_thread(run))
            return peer.getsockname()

        yield start


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "coap.log"


@pytest.fixture
def client(log_path: Path) -> Iterator[CoapClient]:
    with CoapClient(log_path) as client:
        yield client


@pytest.fixture
def open_session(client: CoapClient):
    """A function that returns a session, not yet entered, with the credentials that the server knows."""

    def open_session(address: Address, identity: str = IDENTITY, psk: bytes = PSK, **options):
        return client.session(*address, identity=identity, psk=psk, **options)

    return open_session


def is_bound(address: Address) -> bool:
    """Whether a UDP socket of this host is bound to the address (asked of the kernel, nothing is sent)."""
    host = int.from_bytes(socket.inet_aton(address[0]), "little")
    return f"{host:08X}:{address[1]:04X}" in Path("/proc/net/udp").read_text()


def udp_socket() -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind((random_loopback(), 0))
    return bound


@contextlib.contextmanager
def _thread(run: Callable[[socket.socket], None]) -> Iterator[None]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=run, args=(theirs,))
        thread.start()
        try:
            yield
        finally:
            ours.send(b"stop")
            thread.join()
