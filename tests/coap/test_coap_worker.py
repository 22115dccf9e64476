"""The worker process: its crashes, its end, its memory, and what a missing route does to it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rig.coap import ClientCrashed, CoapClient, Session, SessionDead
from rig.coap.session import SessionSettings
from rig.coap.values import Secret

NO_NAMESPACE = 77

HOLD_SESSION = """
import sys, time
from rig.coap import CoapClient
host, port, identity, psk = sys.argv[1:]
client = CoapClient()
session = client.session(host, int(port), identity=identity, psk=psk.encode())
session.connect()
print(client.worker_pid, flush=True)
time.sleep(600)
"""

COLLECT_GARBAGE = """
import asyncio, gc, sys
from rig.coap.endpoint import Call, Endpoint, Tuning
host, port, identity, psk = sys.argv[1:]

async def main():
    endpoint = Endpoint(host, int(port), Tuning(None, None), print)
    await endpoint.connect(identity.encode(), psk.encode(), 10.0)
    for _ in range(20):
        assert (await endpoint.request(Call("GET", "/light", 10.0)))["code"] == "2.05"
        gc.collect()
    await endpoint.close()

asyncio.run(main())
"""

LOSE_ROUTE = """
import ctypes, fcntl, json, os, socket, struct, subprocess, sys
from pathlib import Path
from rig.coap import CoapClient

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8914, 0x8916, 1
program, identity, psk, log = sys.argv[1:]

def configure_loopback(request, value):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, request, struct.pack("16s24s", b"lo", value))

def set_address(address):
    configure_loopback(SIOCSIFADDR, struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(address)))

def what_happens(action):
    try:
        return getattr(action(), "code", "done")
    except Exception as error:
        return type(error).__name__

if ctypes.CDLL(None).unshare(CLONE_NEWNET | (CLONE_NEWUSER if os.geteuid() else 0)) != 0:
    sys.exit(77)
configure_loopback(SIOCSIFFLAGS, struct.pack("=H", IFF_UP))
set_address("127.0.0.1")
with subprocess.Popen([program, "127.0.0.1", identity, psk], stdout=subprocess.PIPE, text=True) as server:
    host, port = server.stdout.readline().split()[0].split(":")
    with CoapClient(Path(log)) as client:
        open_session = lambda: client.session(host, int(port), identity=identity, psk=psk.encode())
        asked, closed = open_session(), open_session()
        asked.connect()
        closed.connect()
        worker = client.worker_pid
        found = [what_happens(lambda: asked.get("/light"))]
        set_address("0.0.0.0")
        found += [what_happens(lambda: asked.get("/light")), what_happens(lambda: asked.get("/light"))]
        found += [what_happens(closed.close), what_happens(open_session().connect)]
        set_address("127.0.0.1")
        with open_session() as session:
            found.append(what_happens(lambda: session.get("/light")))
        print(json.dumps({"found": found, "same worker": worker == client.worker_pid}))
    server.kill()
"""


def test_import_is_light():
    code = "import sys, rig.coap; print(sorted(m for m in sys.modules if m.startswith(('aiocoap', 'DTLS', 'asyncio'))))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_worker_starts_with_the_first_connection(client, server, open_session):
    session = open_session(server.address)
    assert client.worker_pid is None
    with session:
        assert client.worker_pid is not None


def test_killed_worker_is_reported_and_replaced(client, server, open_session):
    with open_session(server.address) as session:
        observation = session.observe("/light")
        first = client.worker_pid
        os.kill(first, signal.SIGKILL)
        with pytest.raises(ClientCrashed, match=r"SIGKILL .* /light"):
            session.get("/light")
        with pytest.raises(ClientCrashed):
            observation.next()
        observation.cancel()
    with open_session(server.address) as session:
        assert session.get("/light").code == "2.05"
    assert client.worker_pid != first


def test_abort_in_the_c_library_does_not_take_the_parent_along(client, server, open_session, log_path):
    # Past the guard on purpose: this key overwrites the library's stack. The signal depends on how it was compiled.
    settings = SessionSettings(*server.address, "alice", Secret(b"K" * 1024), 10.0, None, None)
    doomed = Session(settings, client._running_worker, client._numbers)
    with pytest.raises(ClientCrashed, match=r"SIG(ABRT|SEGV|BUS) during handshake with 127\.") as caught:
        doomed.connect()
    assert "KKKK" not in str(caught.value) + log_path.read_text()
    with open_session(server.address) as session:
        assert session.get("/light").code == "2.05"


def test_stopped_worker_is_killed_when_its_time_is_over(client, server, open_session, monkeypatch):
    monkeypatch.setattr("rig.coap.process.GRACE_S", 0.1)
    with open_session(server.address) as session:
        os.kill(client.worker_pid, signal.SIGSTOP)
        with pytest.raises(ClientCrashed, match="hung during GET /light"):
            session.get("/light", timeout_s=0.1)


def test_parent_killed_ends_the_worker_with_close_notify(server, forward):
    forwarder = forward(server.address)
    with run_script(HOLD_SESSION, *forwarder.address, "alice", "0123456789abcdef") as parent:
        worker = int(parent.stdout.readline())
        assert process_exists(worker)
        parent.kill()
    wait_until(lambda: not process_exists(worker))
    wait_until(lambda: forwarder.protected_alerts == 1)


def test_client_closes_its_sessions(client, server, forward, open_session):
    forwarder = forward(server.address)
    session = open_session(forwarder.address)
    session.connect()
    worker = client.worker_pid
    client.close()
    client.close()
    assert not process_exists(worker)
    with pytest.raises(SessionDead, match="client was closed"):
        session.get("/light")
    wait_until(lambda: forwarder.protected_alerts == 1)


def test_worker_that_does_not_end_in_order_is_reported(server, log_path):
    client = CoapClient(log_path)
    client.session(*server.address, identity="alice", psk=b"0123456789abcdef").connect()
    os.kill(client.worker_pid, signal.SIGSTOP)
    with pytest.raises(ClientCrashed, match="SIGKILL while it closed its sessions"):
        client.close()
    client.close()


def test_close_from_another_thread_ends_a_waiting_request(server, forward, open_session):
    forwarder = forward(server.address)
    with ThreadPoolExecutor() as pool, open_session(forwarder.address) as session:
        waiting = pool.submit(session.get, "/mute")
        wait_until(lambda: len(forwarder.application_data) > 0)
        session.close()
        with pytest.raises(SessionDead, match="GET /mute"):
            waiting.result()


def test_log_is_appended_and_quiet(server, log_path):
    for _ in range(2):
        with CoapClient(log_path) as client:
            client.session(*server.address, identity="alice", psk=b"0123456789abcdef").connect()
    lines = log_path.read_text().splitlines()
    assert len(lines) == 2
    assert all("INFO rig.coap: session 1 with 127." in line for line in lines)


def test_garbage_collection_makes_no_new_handshake(server, forward):
    forwarder = forward(server.address)
    with run_script(COLLECT_GARBAGE, *forwarder.address, "alice", "0123456789abcdef") as process:
        assert process.wait() == 0
    assert (forwarder.handshakes, forwarder.protected_alerts) == (1, 1)


def test_route_lost_and_back(server_program, log_path):
    with run_script(LOSE_ROUTE, server_program, "alice", "0123456789abcdef", log_path) as process:
        output = process.stdout.read()
        status = process.wait()
    if status == NO_NAMESPACE:
        pytest.skip("this process may not create a network namespace")
    assert status == 0
    assert json.loads(output) == {
        "found": ["2.05", "LocalNetworkError", "SessionDead", "done", "LocalNetworkError", "2.05"],
        "same worker": True,
    }
    assert "Traceback" not in log_path.read_text()


def run_script(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def process_exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[-1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, and between opening and reading
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll; the bound only turns a hang into a failure."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("never came true")
