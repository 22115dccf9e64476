"""The plan against devices that are right, and that are none at all."""

import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Answer = Callable[[bytes], bytes | None]

ALERT_HANDSHAKE_FAILURE = bytes.fromhex("15fefd000000000000000000020228")
DUMB: dict[str, Answer] = {
    "swallows everything": lambda _: None,
    "echoes": lambda datagram: datagram,
    "answers every datagram with an alert": lambda _: ALERT_HANDSHAKE_FAILURE,
}
NOT_CLAIMED = {"WIR-06": "not-supported"}  # the firmware does not open plain CoAP


def test_a_good_device_passes_the_demo(rig: Any, verdicts: Any, tmp_path: Path) -> None:
    run = rig("demo", "--json", "--run-dir", tmp_path / "run")
    assert run.returncode == 0, run.stderr
    assert {one: state for one, state in verdicts(run).items() if state != "pass"} == NOT_CLAIMED
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for row in summary["verdicts"]:
        for name in row["evidence"]:
            assert (tmp_path / "run" / name).is_file()
    assert 'name="verifies" value="PSK-01"' in (tmp_path / "run" / "junit.xml").read_text()
    assert (tmp_path / "run" / "report.html").stat().st_size < 5_000_000


@pytest.fixture(params=DUMB, ids=lambda name: name.replace(" ", "-"))
def dumb_bench(request: pytest.FixtureRequest, tmp_path: Path, relay: str) -> Iterator[Path]:
    """A bench whose board is a socket that does one simple thing, behind a router that works."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        host = f"127.{os.getpid() % 200 + 20}.{len(request.param)}.9"
        device.bind((host, 5684))
        ended = threading.Event()
        thread = threading.Thread(target=_serve, args=(device, DUMB[request.param], ended))
        thread.start()
        board = {"name": "dumb", "type": "network", "host": host, "identity": "light", "router": "relay"}
        bench = {
            "boards": [{**board, "psk": {"file": "key"}}],
            "routers": [{"name": "relay", "driver": "relay", "control": relay}],
        }
        (tmp_path / "key").write_text("01" * 16)
        (tmp_path / "bench.yaml").write_text(yaml.safe_dump(bench))
        yield tmp_path / "bench.yaml"
        ended.set()
        thread.join()


def _serve(device: socket.socket, answer: Answer, ended: threading.Event) -> None:
    while not ended.is_set():
        if not select.select([device], [], [], 0.2)[0]:
            continue
        datagram, client = device.recvfrom(4096)
        reply = answer(datagram)
        if reply is not None:
            device.sendto(reply, client)


def test_no_requirement_passes_on_a_device_that_is_none(dumb_bench: Path, rig: Any, verdicts: Any) -> None:
    run = rig("run", "--json", "--bench", dumb_bench)
    found = verdicts(run)
    assert len(found) == 31
    assert "pass" not in found.values()
    assert run.returncode != 0
