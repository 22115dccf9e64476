"""What a run leaves of a verdict that is no pass, on a device that is wrong: the exchange, and the keys to read it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rig.formats.pcapng import read_pcapng
from rig.formats.udp_packet import parse_udp_packet
from tests.system.conftest import RIG

PLAN = """
import pytest
from rig.errors import DeviceError

@pytest.mark.requirement("CK-01", "CK-02")
def test_of_raw_clients(probe, measure):
    with probe.session() as session:
        session.get("/light")
    with probe.session(probe.client(identity=b"<b>x</b>")) as session:
        session.get("/light")
    measure.check("CK-01", "it is as it should be", False, observed="it is not", false_alarm=1e-5)
    raise DeviceError("it went silent")

@pytest.mark.requirement("PSK-01")
def test_of_an_ordinary_client(coap, router, measure):
    with measure.packets("handshake") as capture, coap.session() as session:
        session.get("/light")
    measure.observe_session(measure.only_session(capture, {coap.identity: coap.psk}))
    measure.check("PSK-01", "it is as it should be", False, observed="it is not", evidence=[capture.path])
"""


def events(run_dir: Path, name: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == name]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of one run of the plan on a device that accepts any identity."""
    directory = tmp_path_factory.mktemp("plan")
    (directory / "test_it.py").write_text(PLAN)
    (directory / "plan.yaml").write_text("title: a plan\ntests: [test_it.py]\n")
    command = [*RIG, "run", "plan.yaml", "--fault", "any-psk-identity", "--run-dir", "run"]
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    return directory / "run"


def test_raw_clients_leave_an_exchange_for_each_requirement(record: Path) -> None:
    first, last = (one for one in events(record, "exchange") if one["requirement"].startswith("CK-"))
    assert (first["requirement"], last["requirement"]) == ("CK-01", "CK-02")
    lines = [line for packet in first["packets"] for line in packet["lines"]]
    assert sum(line.startswith("ClientHello seq 1: version fefd") for line in lines) == 2
    assert any(line.startswith("CoAP CON GET /light MID ") for line in lines)
    assert any("identity b'<b>x</b>'" in line for line in lines)
    assert not any("unreadable" in line for line in lines)
    assert len({packet["port"] for packet in first["packets"]}) == 2


def test_an_ordinary_client_leaves_what_the_router_recorded(record: Path) -> None:
    (told,) = (one for one in events(record, "exchange") if one["requirement"] == "PSK-01")
    assert told["file"] == "captures/PSK-01-handshake.pcapng"
    assert any(line.startswith("CoAP ACK 2.05 MID ") for packet in told["packets"] for line in packet["lines"])
    observed = {row["name"]: row["value"] for row in events(record, "observation")}
    assert observed["record_overhead_bytes"] == 29
    assert observed["handshake_round_trips"] == 3
    assert set(observed) == {
        *("handshake_bytes", "handshake_datagrams", "handshake_duration_s"),
        *("handshake_round_trips", "record_overhead_bytes", "first_request_s"),
    }


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("name", ["CK-01-exchange.pcapng", "PSK-01-handshake.pcapng"])
def test_tshark_opens_the_captures_with_the_key_log(record: Path, name: str) -> None:
    path = record / "captures" / name
    datagrams = [parse_udp_packet(packet.data) for packet in read_pcapng(path.read_bytes()).packets]
    port = datagrams[0].destination[1]
    command = ["tshark", "-r", str(path), "-o", f"tls.keylog_file:{record / 'keys.log'}"]
    command += ["-d", f"udp.port=={port},dtls", "-d", f"dtls.port=={port},coap", "-Y", "coap"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "CON" in ended.stdout


def test_the_key_log_holds_no_pre_shared_key(record: Path) -> None:
    lines = (record / "keys.log").read_text().splitlines()
    assert len(lines) >= 3
    assert all(line.split()[0] == "CLIENT_RANDOM" and len(line.split()[2]) == 96 for line in lines)
    assert events(record, "key_log") == [events(record, "key_log")[0]]


def test_the_report_shows_exchange_and_command(record: Path) -> None:
    page = (record / "report.html").read_text()
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page
    assert "pytest --rig-virtual-fault=any-psk-identity test_it.py::test_of_raw_clients" in page
    assert json.loads((record / "summary.json").read_text())["false_alarm"] == {"sum": 1e-5, "budget": 1e-4}


def test_a_device_for_release_leaves_no_keys(flashed_board: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(PLAN)
    command = [sys.executable, "-m", "pytest", "--rig-run-dir", "run", "--rig-profile=release", "--rig-flash=never"]
    subprocess.run([*command, f"--rig-bench={flashed_board['bench']}"], cwd=tmp_path, capture_output=True, check=False)
    assert (tmp_path / "run" / "captures" / "CK-01-exchange.pcapng").is_file()
    assert not (tmp_path / "run" / "keys.log").exists()
