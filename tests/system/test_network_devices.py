"""Servers of other makers as devices on the network: the rig can neither flash nor reset them.

What the whole plan says of each is in docs/network-devices.md; the soak test holds it to that.
"""

import random
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DUTS = Path(__file__).parent / "duts"
DOCS = Path(__file__).parents[2] / "docs" / "network-devices.md"
IDENTITY, PORT = "sensor-1", 5684
PATIENCE_S = 20.0
SERVERS = ("coap-server-openssl", "coap-server-gnutls", "tinydtls")
"""In the order of the columns of the document's table."""
RED = ("fail", "deviation")
QUICK = {
    "coap-server-openssl": {
        "CK-05": "deviation",
        "COAP-17": "fail",
        "CS-06": "pass",
        "PSK-03": "fail",
        "REC-10": "deviation",
        "REC-11": "fail",
        "RSM-01": "pass",
    },
    "coap-server-gnutls": {
        "CK-05": "deviation",
        "CK-08": "fail",
        "CS-02": "deviation",
        "CS-06": "pass",
        "PSK-03": "fail",
        "REC-10": "pass",
        "RSM-01": "not-supported",
    },
    "tinydtls": {
        "CK-05": "pass",
        "COAP-17": "pass",
        "CS-06": "fail",
        "HS-07": "fail",
        "HS-15": "pass",
        "PSK-03": "pass",
        "REC-11": "pass",
    },
}


@pytest.fixture
def bench(server: str, tmp_path: Path) -> Iterator[Path]:
    """A bench whose board is this server, at an address and with a key of its own."""
    draws = random.SystemRandom()
    host = f"127.{draws.randrange(1, 255)}.{draws.randrange(256)}.{draws.randrange(1, 255)}"
    key = secrets.token_hex(8)
    (tmp_path / "key").write_text(key.encode().hex())
    board = {"name": server, "type": "network", "host": host, "identity": IDENTITY, "psk": {"file": "key"}}
    path = tmp_path / "bench.yaml"
    path.write_text(yaml.safe_dump({"boards": [{**board, "dut": str(DUTS / f"{server}.yaml")}]}))
    quiet = subprocess.DEVNULL
    with subprocess.Popen(_command(server, host, key), stdout=quiet, stderr=quiet) as process:
        try:
            end_s = time.monotonic() + PATIENCE_S
            while not _listens(host):
                assert process.poll() is None, f"{server} has ended"
                assert time.monotonic() < end_s, f"{server} does not listen"
                time.sleep(0.01)
            yield path
            assert process.poll() is None, f"{server} did not survive"
        finally:
            process.kill()


def _command(server: str, host: str, key: str) -> list[str]:
    if server == "tinydtls":
        return [sys.executable, str(DUTS / "tinydtls_server.py"), host, IDENTITY, key]
    return [server, "-A", host, "-k", key]


def _listens(host: str) -> bool:
    """Whether somebody has the port; trying to bind it would tell too, and could take it away."""
    place = f" {bytes(map(int, host.split('.')))[::-1].hex().upper()}:{PORT:04X} "
    return place in Path("/proc/net/udp").read_text(encoding="ascii")


@pytest.mark.parametrize("server", SERVERS)
def test_verdicts_on_a_server_of_another_maker(server: str, bench: Path, rig: Any, verdicts: Any) -> None:
    run = rig("run", "security", "--json", "--bench", bench, "--only", ",".join(QUICK[server]))
    found = verdicts(run)
    assert {one: found[one] for one in QUICK[server]} == QUICK[server]
    assert run.returncode == 1, run.stderr


@pytest.mark.soak
@pytest.mark.parametrize("server", SERVERS)
def test_the_whole_plan_says_what_the_document_tells(
    server: str, bench: Path, relay: str, rig: Any, verdicts: Any
) -> None:
    config = yaml.safe_load(bench.read_text())
    config["boards"][0]["router"] = "relay"
    bench.write_text(yaml.safe_dump({**config, "routers": [{"name": "relay", "driver": "relay", "control": relay}]}))
    found = verdicts(rig("run", "security", "--json", "--bench", bench))
    told = _told(server)
    varying = {one for one, state in told.items() if state == "varies"}
    red = {one: state for one, state in found.items() if state in RED and one not in varying}
    # A rig that lags too much for a verdict on time says so, and is not the device's affair.
    timed = {one for one, state in found.items() if state == "inconclusive"}
    assert red == {one: state for one, state in told.items() if state in RED and one not in timed}
    assert "error" not in found.values()


def _told(server: str) -> dict[str, str]:
    """Return the verdicts on a server that the document's table tells: all that are not a pass on each of the three."""
    rows = re.findall(r"^\| ([A-Z0-9]+-\d\d) \|(.*)\|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows
    return {one: cells.split("|")[SERVERS.index(server)].strip() for one, cells in rows}
