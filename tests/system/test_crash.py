"""What is left after ``kill -9``: no process, no lock, and a record that still makes a report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RIG = [sys.executable, "-m", "rig.cli.main"]


def processes_naming(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in command:
                found.append(command)
    return found


def journal(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def wait_for(condition: Any, *, tries: int = 600) -> None:
    """Poll until *condition* holds; the bound only ends a test that would hang."""
    for _ in range(tries):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def test_sigkill_leaves_no_process_no_lock_and_a_readable_record(tmp_path: Path, rig: Any) -> None:
    run_dir = tmp_path / "run"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*RIG, "demo", "--run-dir", str(run_dir)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(lambda: sum(row["event"] == "test_end" for row in journal(run_dir)) >= 3)
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not processes_naming(str(tmp_path)))
    wait_for(lambda: not list(tmp_path.glob("rig-virtual-*")))
    finished = [row["test"] for row in journal(run_dir) if row["event"] == "test_end"]
    again = rig("report", run_dir)
    assert again.returncode == 0, again.stderr
    page = (run_dir / "report.html").read_text()
    assert "did not finish" in page
    summary = json.loads((run_dir / "summary.json").read_text())
    assert {row["test"] for row in summary["verdicts"] if row["state"] == "pass"} >= set(finished[:3])


def test_ctrl_c_leaves_the_bench_in_order_and_a_report(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*RIG, "demo", "--run-dir", str(run_dir)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for(lambda: any(row["event"] == "packets" for row in journal(run_dir)))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130, out + err
    assert b"Traceback" not in out + err
    assert not processes_naming(str(tmp_path))
    events = [row["event"] for row in journal(run_dir)]
    assert events[-1] == "run_end"
    assert "bench_error" not in events
    assert (run_dir / "report.html").is_file()


def test_ctrl_c_inside_a_finaliser_ends_the_run_too(tmp_path: Path, rig: Any) -> None:
    (tmp_path / "plan.yaml").write_text("title: one plan\ntests: [test_it.py]\n")
    (tmp_path / "test_it.py").write_text(
        "import os, signal, pytest\n"
        "class Finalised:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        for _ in range(1000): pass\n"
        "@pytest.mark.requirement('PSK-01')\n"
        "def test_first():\n"
        "    Finalised()\n"
        "@pytest.mark.requirement('PSK-02')\n"
        "def test_second():\n"
        f"    open({str(tmp_path / 'second')!r}, 'w').close()\n"
    )
    ended = rig("run", tmp_path / "plan.yaml", "--run-dir", tmp_path / "run")
    assert ended.returncode == 130, ended.stdout + ended.stderr
    assert not (tmp_path / "second").exists()
    assert journal(tmp_path / "run")[-1]["event"] == "run_end"
