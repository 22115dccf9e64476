"""A bench that is not as its file says: one clear sentence, a non-zero exit code, nothing left running."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

Board = dict[str, Any]
NO_SWITCH = {"off": "true", "on": "true", "settle_s": 0.0}


def changed(board: Board, tmp_path: Path, kind: str, **changes: object) -> Path:
    """Return a bench file like the running one, with one part changed."""
    bench = yaml.safe_load(board["bench"].read_text())
    bench[kind][0].update(changes)
    entry = bench["boards"][0]
    directory = board["bench"].parent
    entry["psk"] = {"file": str(directory / entry["psk"]["file"])}
    entry["wifi"]["passphrase"] = {"file": str(directory / entry["wifi"]["passphrase"]["file"])}
    entry["dut"] = str(directory / entry["dut"])
    path = tmp_path / "bench.yaml"
    path.write_text(yaml.safe_dump(bench))
    return path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def refused(rig: Any) -> Any:
    """Run one test on a bench that is wrong and return what was said of it."""

    def run(bench: Path) -> str:
        ended = rig("run", "--bench", bench)
        assert ended.returncode == 2, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stdout + ended.stderr
        assert ended.stdout.count("not ok") == 1
        return str(ended.stdout + ended.stderr)

    return run


def test_wrong_bench_file(flashed_board: Board, tmp_path: Path, refused: Any) -> None:
    bench = changed(flashed_board, tmp_path, "boards", prot="/dev/ttyUSB0")
    assert "boards.0.prot: unknown key; did you mean 'port'?" in refused(bench)


def test_missing_port(flashed_board: Board, tmp_path: Path, refused: Any) -> None:
    bench = changed(flashed_board, tmp_path, "boards", port="/dev/ttyNONE")
    assert "/dev/ttyNONE" in refused(bench)


def test_board_absent(flashed_board: Board, tmp_path: Path, refused: Any) -> None:
    port = free_port()
    bench = changed(flashed_board, tmp_path, "boards", port=f"rfc2217://127.0.0.1:{port}")
    assert str(port) in refused(bench)


def test_another_board_on_the_port(flashed_board: Board, tmp_path: Path, refused: Any) -> None:
    said = refused(changed(flashed_board, tmp_path, "boards", mac="02:00:00:00:00:02"))
    assert "02:00:00:00:00:02" in said
    assert flashed_board["mac"] in said


def test_meter_not_answering(flashed_board: Board, tmp_path: Path, refused: Any) -> None:
    port = free_port()
    said = refused(changed(flashed_board, tmp_path, "meters", resource=f"TCPIP::127.0.0.1::{port}::SOCKET"))
    assert f"TCPIP::127.0.0.1::{port}::SOCKET" in said


def test_router_not_answering(flashed_board: Board, tmp_path: Path, refused: Any) -> None:
    port = free_port()
    assert f"127.0.0.1:{port}" in refused(changed(flashed_board, tmp_path, "routers", control=f"127.0.0.1:{port}"))


def test_no_bench_file(tmp_path: Path, refused: Any) -> None:
    assert "none.yaml: cannot be read" in refused(tmp_path / "none.yaml")


def test_doctor_finds_a_good_bench_good(flashed_board: Board, rig: Any) -> None:
    ended = rig("doctor", "--bench", flashed_board["bench"])
    assert ended.returncode == 0, ended.stdout


def test_doctor_finds_a_switch_that_switches_nothing(flashed_board: Board, tmp_path: Path, rig: Any) -> None:
    ended = rig("doctor", "--json", "--bench", changed(flashed_board, tmp_path, "boards", power=NO_SWITCH))
    assert ended.returncode == 2
    (wrong,) = [one for one in json.loads(ended.stdout)["findings"] if not one["ok"]]
    assert wrong["check"] == "loses its power and gets it back"
    assert "the board still starts from a reset" in wrong["detail"]


def test_a_switch_that_fails(flashed_board: Board, tmp_path: Path, refused: Any) -> None:
    power = NO_SWITCH | {"on": "false"}
    assert "power command `false` ended with exit code 1" in refused(
        changed(flashed_board, tmp_path, "boards", power=power)
    )


def test_doctor_names_what_is_wrong(flashed_board: Board, tmp_path: Path, rig: Any) -> None:
    port = free_port()
    ended = rig("doctor", "--bench", changed(flashed_board, tmp_path, "routers", control=f"127.0.0.1:{port}"))
    assert ended.returncode == 2
    assert f"127.0.0.1:{port}" in ended.stdout
