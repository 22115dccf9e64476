"""One plan on two boards at once: one record, one report."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def events(run_dir: Path, journal: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / journal).read_text().splitlines()]


def test_two_workers_take_a_board_each_and_make_one_record(tmp_path: Path, rig: Any, verdicts: Any) -> None:
    run_dir = tmp_path / "run"
    ended = rig("run", "--json", "-n", "2", "--only", "PSK-01,WIR-02", "--run-dir", run_dir)
    assert ended.returncode == 0, ended.stderr
    assert verdicts(ended) == {"PSK-01": "pass", "WIR-02": "pass"}
    flashed = [row for worker in ("gw0", "gw1") for row in events(run_dir, f"journal-{worker}.jsonl")]
    assert [row["board"] for row in flashed if row["event"] == "flashed"] == ["board1", "board2"]
    assert (run_dir / "console-board1.log").stat().st_size
    assert (run_dir / "console-board2.log").stat().st_size
    captures = sorted(path.name.partition("-") for path in (run_dir / "captures").iterdir())
    assert [worker for worker, _, _ in captures] == ["gw0", "gw1"]
    assert {name for _, _, name in captures} == {"PSK-01-handshake.pcapng", "WIR-02-canary.pcapng"}
    page = (run_dir / "report.html").read_text()
    assert "boards: board1" in page
    assert "boards: board2" in page
    # The progress of both arrives at the one command line.
    assert ended.stderr.count(" ok ") == 2


def test_a_killed_worker_leaves_its_board_to_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import os, pytest\n"
        "@pytest.mark.requirement('PSK-01')\n"
        "def test_first(coap, measure):\n"
        "    with coap.session() as session:\n"
        "        measure.check('PSK-01', 'it answers', True, observed=session.get('/light').code)\n"
        "        os._exit(1)\n"
        "@pytest.mark.requirement('PSK-02')\n"
        "def test_second(coap, measure):\n"
        "    with coap.session() as session:\n"
        "        measure.check('PSK-02', 'it answers', True, observed=session.get('/light').code)\n"
    )
    command = [sys.executable, "-m", "pytest", "-n", "1", "--rig-run-dir", "run"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {row["requirement"]: row["state"] for row in summary["verdicts"]} == {"PSK-01": "error", "PSK-02": "pass"}
    before, after = (events(tmp_path / "run", f"journal-{worker}.jsonl") for worker in ("gw0", "gw1"))
    assert [row["state"] for row in before if row["event"] == "check"] == ["pass"]
    assert {row["board"] for row in before + after if row["event"] == "flashed"} == {"board1"}
