"""Real DTLS servers, and the socket on which a script talks to one."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from rig.clock import now_s
from rig.dtls.conversation import Conversation, Script
from rig.formats.udp_packet import Endpoint

T = TypeVar("T")

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"
PATIENCE_S = 20.0
SUITES = "PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:@SECLEVEL=0"

TINYDTLS_SERVER = """
import asyncio, sys
import aiocoap, aiocoap.resource
from aiocoap.credentials import CredentialsMap
async def main(host, identity, psk):
    site = aiocoap.resource.Site()
    site.add_resource([".well-known", "core"], aiocoap.resource.WKCResource(site.get_resources_as_linkheader))
    credentials = CredentialsMap()
    credentials.load_from_dict({":client": {"dtls": {"psk": psk.encode(), "client-identity": identity.encode()}}})
    await aiocoap.Context.create_server_context(
        site, bind=(host, None), transports=["tinydtls_server"], server_credentials=credentials)
    await asyncio.get_running_loop().create_future()
asyncio.run(main(*sys.argv[1:]))
"""


def own_address() -> str:
    """Return an address of the loopback network that no other test is likely to draw."""
    draws = random.SystemRandom()
    return f"127.{draws.randrange(1, 255)}.{draws.randrange(256)}.{draws.randrange(1, 255)}"


def server_command(kind: str, address: str) -> list[str]:
    """Return the command of a server of this kind on *address* and port 5684."""
    text, key = PSK.decode(), PSK.hex()
    if kind.startswith("coap-server"):
        return [kind, "-A", address, "-k", text]
    if kind == "tinydtls":
        return [sys.executable, "-c", TINYDTLS_SERVER, address, IDENTITY.decode(), text]
    options = ["-psk", key, "-nocert", "-cipher", SUITES, "-quiet"]
    if kind == "openssl-no-ticket":
        options.append("-no_ticket")
    return ["openssl", "s_server", "-dtls1_2", "-accept", f"{address}:5684", *options]


@contextlib.contextmanager
def running(command: list[str], endpoint: Endpoint) -> Iterator[subprocess.Popen[bytes]]:
    """Run a UDP server until the block ends, and wait until it has its port."""
    pipe, environment = subprocess.PIPE, {**os.environ, "AIOCOAP_DTLSSERVER_ENABLED": "1"}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=environment) as process:
        try:
            end_s = time.monotonic() + PATIENCE_S
            while process.poll() is None and not is_bound(endpoint):
                assert time.monotonic() < end_s, f"{command[0]} does not listen"
                time.sleep(0.005)
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            yield process
        finally:
            process.kill()


def is_bound(endpoint: Endpoint) -> bool:
    """Whether somebody listens there. Trying to bind would tell too, and could take the port from the server."""
    host = socket.inet_aton(endpoint[0])[::-1].hex().upper()
    return f" {host}:{endpoint[1]:04X} " in Path("/proc/net/udp").read_text(encoding="ascii")


class Wire:
    """A UDP socket that is connected to a server, on which scripts run."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(endpoint)

    def run(self, script: Script[T]) -> T:
        """Run a script to its end and return what it returns."""
        conversation = Conversation(script)
        outgoing = conversation.start(now_s())
        while True:
            for datagram in outgoing:
                self._socket.send(datagram)
            if conversation.next_timeout_s is None:
                return conversation.result
            outgoing = self._step(conversation, conversation.next_timeout_s)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _step(self, conversation: Conversation[T], timeout_s: float) -> tuple[bytes, ...]:
        self._socket.settimeout(max(0.0001, timeout_s - now_s()))
        try:
            datagram = self._socket.recv(65535)
        except TimeoutError:
            return conversation.timeout(max(timeout_s, now_s()))
        return conversation.receive(now_s(), datagram)


class Servers:
    """Servers of one test; called with a kind it starts one and returns where it listens, at an address of its own."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._processes: dict[Endpoint, subprocess.Popen[bytes]] = {}

    def __call__(self, kind: str) -> Endpoint:
        return self.start(partial(server_command, kind))

    def start(self, command_at: Callable[[str], list[str]]) -> Endpoint:
        """Start what *command_at* gives for an address; it listens on port 5684."""
        endpoint = own_address(), 5684
        command = command_at(endpoint[0])
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed")
        self._processes[endpoint] = self._stack.enter_context(running(command, endpoint))
        return endpoint

    def process(self, endpoint: Endpoint) -> subprocess.Popen[bytes]:
        """Return the process that listens there."""
        return self._processes[endpoint]


@dataclass(frozen=True)
class SelfSigned:
    """A self-signed certificate for a key on P-256."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def certificate_der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_der(self) -> bytes:
        return self.key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())

    @property
    def pem(self) -> bytes:
        """Key and certificate, one after the other."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key + self.certificate.public_bytes(Encoding.PEM)


@pytest.fixture(scope="session")
def self_signed() -> Callable[[], SelfSigned]:
    """A maker of certificates, each with a key of its own."""

    def make() -> SelfSigned:
        key, name = (
            ec.generate_private_key(ec.SECP256R1()),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "board")]),
        )
        now = datetime.now(tz=UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        dated = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        return SelfSigned(key, dated.sign(key, hashes.SHA256()))

    return make


@pytest.fixture
def server() -> Iterator[Servers]:
    """Start servers; they end with the test."""
    with contextlib.ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture
def dial() -> Iterator[Callable[[Endpoint], Wire]]:
    """Open a socket to a server; all are closed with the test."""
    with contextlib.ExitStack() as wires:

        def connect(endpoint: Endpoint) -> Wire:
            return wires.enter_context(contextlib.closing(Wire(endpoint)))

        yield connect
