"""Real DTLS clients against the scriptable server: OpenSSL, GnuTLS, libcoap on both, tinydtls."""

import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rig.clock import now_s
from rig.coap import CoapClient, ConnectTimeout
from rig.coap.probe import Prober
from rig.dtls import coap
from rig.dtls.server import Established, Event, Received, Send, Server
from rig.dtls.server_session import Settings
from rig.dtls.suites import SUITES
from rig.errors import RigError

IDENTITY, PSK = "sensor-1", "0123456789abcdef"
CCM_8, CCM = 0xC0A8, 0xC0A4
PATIENCE_S = 30.0
PORT = 5684
TICK_S = 0.02


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


class Service:
    """A server on a socket. Requests are answered with what they asked for; other data comes back as it is."""

    def __init__(self, server: Server) -> None:
        draws = random.SystemRandom()
        self.address = f"127.{draws.randrange(1, 255)}.{draws.randrange(256)}.{draws.randrange(1, 255)}"
        self.events: list[Event] = []
        self._server = server
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.address, PORT))
        self._socket.settimeout(TICK_S)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Service":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._socket.close()

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                datagram, peer = self._socket.recvfrom(65535)
            except TimeoutError:
                self._do(self._server.expire(now_s()))
            else:
                self._do(self._server.receive(now_s(), peer, datagram))

    def _do(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Send):
                self._socket.sendto(event.datagram, event.peer)
            elif isinstance(event, Received):
                self._do(self._server.send(event.peer, answer(event.data)))


def answer(data: bytes) -> bytes:
    try:
        request = coap.decode(data)
    except RigError:
        return data
    path = request.path.encode()
    return coap.Message(coap.Type.ACK, 0x45, request.message_id, request.token, (), path).encode()


Serve = Callable[..., Service]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server with these settings; it is stopped with the test."""
    started = []

    def start(**settings: Any) -> Service:
        service = Service(Server(Settings(psks={IDENTITY.encode(): PSK.encode()}, **settings)))
        started.append(service.__enter__())
        return service

    yield start
    for service in started:
        service.__exit__()


@pytest.mark.parametrize(
    "program",
    [pytest.param(each, marks=needs(each)) for each in ("coap-client-openssl", "coap-client-gnutls")],
)
@pytest.mark.parametrize("hint", [None, b"hint"])
def test_libcoap(serve: Serve, program: str, hint: bytes | None) -> None:
    service = serve(identity_hint=hint)
    command = [program, "-B", "5", "-u", IDENTITY, "-k", PSK, f"coaps://{service.address}/light"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert said.stdout.strip() == "/light", said.stderr
    (established,) = service.of(Established)
    assert established.identity == IDENTITY.encode()


def openssl(address: str, suite: str, *options: str) -> list[str]:
    keys = ["-psk_identity", IDENTITY, "-psk", PSK.encode().hex(), "-cipher", f"{suite}:@SECLEVEL=0"]
    return ["openssl", "s_client", "-dtls1_2", "-connect", f"{address}:{PORT}", *keys, *options]


@needs("openssl")
@pytest.mark.parametrize(
    ("name", "number", "options"),
    [
        ("PSK-AES128-CCM8", CCM_8, []),
        ("PSK-AES256-CCM", 0xC0A5, []),
        ("PSK-AES256-GCM-SHA384", 0x00A9, []),
        ("PSK-CHACHA20-POLY1305", 0xCCAB, []),
        ("PSK-AES128-CBC-SHA256", 0x00AE, []),
        ("PSK-AES128-CBC-SHA256", 0x00AE, ["-no_etm"]),
        ("PSK-NULL-SHA256", 0x00B0, []),
    ],
)
def test_openssl(serve: Serve, name: str, number: int, options: list[str]) -> None:
    service = serve(suites=tuple(SUITES))
    command = openssl(service.address, name, *options)
    said = subprocess.run(command, input=b"canary\n", capture_output=True, timeout=PATIENCE_S, check=True)
    (established,) = service.of(Established)
    assert established.suite == number
    assert [event.data for event in service.of(Received)] == [b"canary\n"]
    assert f"Cipher is {name}".encode() in said.stdout


@needs("openssl")
@pytest.mark.parametrize("settings", [{"session_ids": True}, {"tickets": True}], ids=["id", "ticket"])
def test_openssl_resumes(serve: Serve, settings: dict[str, bool], tmp_path: Path) -> None:
    service, kept = serve(**settings), str(tmp_path / "session.pem")
    for option in ("-sess_out", "-sess_in"):
        command = openssl(service.address, "PSK-AES128-CCM8", option, kept)
        said = subprocess.run(command, input=b"canary\n", capture_output=True, timeout=PATIENCE_S, check=True)
    assert b"Reused" in said.stdout
    assert [event.resumed for event in service.of(Established)] == [False, True]
    assert [event.data for event in service.of(Received)] == [b"canary\n", b"canary\n"]


GNUTLS_PRIORITY = "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK:+AES-128-CCM-8"


@needs("gnutls-cli")
@pytest.mark.parametrize("settings", [{"session_ids": True}, {"tickets": True}], ids=["id", "ticket"])
def test_gnutls_resumes(serve: Serve, settings: dict[str, bool]) -> None:
    service = serve(**settings)
    keys = ["--pskusername", IDENTITY, "--pskkey", PSK.encode().hex(), "--priority", GNUTLS_PRIORITY]
    command = ["gnutls-cli", "--udp", "--resume", "--waitresumption", *keys, "-p", str(PORT), service.address]
    said = subprocess.run(command, input=b"canary\n", capture_output=True, timeout=PATIENCE_S, check=True)
    assert b"This is a resumed session" in said.stdout
    assert [event.resumed for event in service.of(Established)] == [False, True]
    assert [event.data for event in service.of(Received)] == [b"canary\n"]


def test_tinydtls(serve: Serve) -> None:
    service = serve()
    with CoapClient() as client, client.session(service.address, PORT, identity=IDENTITY, psk=PSK.encode()) as session:
        assert session.get("/light").text == "/light"
        assert session.get("/other").text == "/other"
    (established,) = service.of(Established)
    assert established.suite == CCM_8


def test_tinydtls_with_a_wrong_key_gets_nowhere(serve: Serve) -> None:
    service = serve()
    wrong = {"identity": IDENTITY, "psk": b"another key 1234", "connect_timeout_s": 0.5}
    with CoapClient() as client, pytest.raises(ConnectTimeout), client.session(service.address, PORT, **wrong):
        pass
    assert service.of(Established) == []


def test_tinydtls_takes_the_longer_tag_that_a_server_prefers_and_the_raw_client_does_not(serve: Serve) -> None:
    service = serve(suites=(CCM, CCM_8))
    with CoapClient() as client, client.session(service.address, PORT, identity=IDENTITY, psk=PSK.encode()) as session:
        assert session.get("/light").text == "/light"
    with Prober(lambda: (service.address, PORT), IDENTITY.encode(), PSK.encode()) as probe, probe.session() as raw:
        assert raw.client.suite.number == CCM_8
    assert [event.suite for event in service.of(Established)] == [CCM, CCM_8]


@needs("coap-client-openssl")
def test_the_exit_code_of_coap_client_tells_nothing(serve: Serve) -> None:
    service = serve()
    url = f"coaps://{service.address}/light"
    for key, served in ((PSK, True), ("another key 1234", False)):
        command = ["coap-client-openssl", "-B", "2", "-u", IDENTITY, "-k", key, url]
        said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert said.returncode == 0
        assert ("/light" in said.stdout) is served
    assert len(service.of(Established)) == 1
