"""A relay process, boards that are plain sockets, and addresses that nobody else has."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rig.formats.udp_packet import Endpoint
from rig.router import RelayRouter

PATIENCE_S = 20.0


Eventually = Callable[[Callable[[], bool], str], None]


@pytest.fixture(name="eventually")
def eventually_fixture() -> Eventually:
    """`eventually` for tests, which cannot import this file."""
    return eventually


@pytest.fixture(name="own_address")
def own_address_fixture() -> str:
    """An address of the loopback network for one server."""
    return own_address()


@pytest.fixture(name="running")
def running_fixture() -> Callable[..., contextlib.AbstractContextManager[subprocess.Popen[bytes]]]:
    """`running` for tests."""
    return running


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until *condition* holds; the bound only keeps a broken test from hanging."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, f"still waiting for {what}"
        time.sleep(0.005)


def own_address() -> str:
    """Return an address of the loopback network that no other test is likely to draw."""
    draws = random.SystemRandom()
    return f"127.{draws.randrange(1, 255)}.{draws.randrange(256)}.{draws.randrange(1, 255)}"


@pytest.fixture
def relay_process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A running relay and its control endpoint."""
    config = tmp_path / "relay.json"
    config.write_text(json.dumps({"name": "relay-1", "host": own_address()}))
    command = [sys.executable, "-m", "rig.virtual.relay", "--config", str(config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["control"]
        process.stdin.close()
        process.wait(PATIENCE_S)


@pytest.fixture
def relay(relay_process: tuple[subprocess.Popen[bytes], str]) -> str:
    """A running relay's control endpoint."""
    return relay_process[1]


@pytest.fixture
def router(relay: str) -> Iterator[RelayRouter]:
    """An open router."""
    with RelayRouter(relay) as opened:
        yield opened


@pytest.fixture
def udp() -> Iterator[Callable[[], socket.socket]]:
    """A maker of UDP sockets on addresses of their own; they are closed at the end."""
    with contextlib.ExitStack() as opened:

        def make() -> socket.socket:
            made = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            made.bind((own_address(), 0))
            made.settimeout(PATIENCE_S)
            return made

        yield make


@contextlib.contextmanager
def running(command: list[str], listens_on: Endpoint, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a UDP server until the block ends, and wait until it has its port."""
    pipe = subprocess.PIPE
    everything = {**os.environ, **environment}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=everything) as process:
        try:
            eventually(lambda: process.poll() is not None or _is_bound(listens_on), f"{command[0]} to listen")
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            yield process
        finally:
            process.kill()


def _is_bound(endpoint: Endpoint) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(endpoint)
        except OSError:
            return True
    return False
