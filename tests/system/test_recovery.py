"""A board that ends a test badly, or hangs, in a run: brought back, and every step of it in the record."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from rig.board import Console
from rig.clock import now_s
from rig.coap.probe import NoProofOfLife, Prober
from rig.evidence.record import JOURNAL
from rig.fixtures.session import RigSession, Settings
from rig.testplans import LIMITS

TESTS = """
import pytest

@pytest.mark.requirement("PSK-01")
def test_it(board, measure):
    board.wait_network()
    measure.check("PSK-01", "it starts", True, observed="its network is up")
"""


class Forgetful:
    """A device that answers nobody until its power has been away once more."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._asked_s: float | None = None

    def prove_alive(self) -> None:
        if self._asked_s is None:
            self._asked_s = now_s()
            raise NoProofOfLife("no proof of life")
        since_s = self._asked_s
        self._console.wait_for(
            lambda: next((line for line in self._console.lines_since(since_s) if "(POWERON)" in line.text), None),
            10.0,
            "a start after the loss of power",
        )


@pytest.fixture
def hung_board(flashed_board: dict[str, Any], tmp_path: Path) -> Iterator[Path]:
    """A bench file with a board of its own, flashed like the running one, that hangs until its power is cycled."""
    bench = yaml.safe_load(flashed_board["bench"].read_text())
    flash = tmp_path / "flash.bin"
    flash.write_bytes(flashed_board["bench"].with_name("board1.flash").read_bytes())
    config = {
        "name": "hung",
        "mac": flashed_board["mac"],
        "address": "127.200.200.200",
        "flash": str(flash),
        "truth": str(tmp_path / "truth.csv"),
        "supply": None,
        "reset_lines": "hung",
    }
    path = tmp_path / "board.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "rig.virtual.board", "--config", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        entry = bench["boards"][0]
        switch = [sys.executable, "-m", "rig.virtual.power", facts["power"]]
        secrets = flashed_board["bench"].parent / "secrets"
        board = {
            "name": "hung",
            "mac": entry["mac"],
            "port": facts["console"],
            "identity": entry["identity"],
            "psk": {"file": str(secrets / "board1.psk")},
            "power": {"off": [*switch, "off"], "on": [*switch, "on"], "settle_s": 0.0},
        }
        file = tmp_path / "bench.yaml"
        file.write_text(yaml.safe_dump({"boards": [board]}))
        yield file
        process.stdin.close()
        process.wait(10)


def retries(run: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (run / JOURNAL).read_text().splitlines()]
    return [event for event in events if event["event"] == "retry"]


def test_a_board_that_hangs_is_brought_back_and_each_step_is_in_record_and_report(
    hung_board: Path, tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "--rig-bench", str(hung_board), "--rig-run-dir", "run"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    steps = retries(tmp_path / "run")
    assert [step["attempt"] for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0]["what"] == "board hung: reset through EN"
    assert steps[-2]["what"] == "board hung: power cycle"
    assert steps[-1]["why"] == "the loader answers"
    report = (tmp_path / "run" / "report.html").read_text()
    assert all(step["what"] in report for step in steps)


def test_a_device_that_stays_deaf_after_a_reset_gets_a_power_cycle(hung_board: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = Settings(
        run_dir=run,
        worker="",
        bench_file=hung_board,
        flash="never",
        virtual_fault=None,
        virtual_carrier=None,
        virtual_meter=None,
        limits=LIMITS,
        baseline=None,
        usage=None,
        profile="lab",
        plan="pytest",
        command=(),
        root=tmp_path,
        repeat=(),
    )
    session = RigSession(settings, progress=lambda _: None)
    session.start([])
    try:
        assert session.bench.board is not None
        before = len(retries(run))
        session.prove_alive(cast(Prober, Forgetful(session.bench.board.console)))
    finally:
        session.close(0)
    assert [step["what"] for step in retries(run)[before:]] == [
        "board hung: reset through EN",
        "board hung: power cycle",
    ]
