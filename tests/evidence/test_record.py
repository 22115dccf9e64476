"""The run record: append-only, readable after a kill, free of secrets."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rig.evidence.record import JOURNAL, MANIFEST, RecordError, RunRecord, sha256_of

WRITER = """
import sys
from pathlib import Path
from rig.evidence.record import RunRecord
record = RunRecord(Path(sys.argv[1]))
number = 0
while True:
    record.write("check", number=number, text="x" * 200)
    number += 1
    if number == 50:
        print("written", flush=True)
"""


ORPHAN = """
import os, sys, time
from pathlib import Path
from rig.evidence.record import RecordError, RunRecord
if os.fork():
    os.read(0, 1)
    os._exit(0)
record = RunRecord(Path(sys.argv[1]), "gw0")
leader = os.getppid()
record.write("check", number=1)
os.write(1, b"x")
while os.getppid() == leader:
    time.sleep(0.01)
record.write("mark", name="boot")
try:
    record.write("check", number=2)
except RecordError as error:
    os.write(1, str(error).encode())
"""


def events(directory: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (directory / JOURNAL).read_text().splitlines()]


def test_events_are_in_the_file_when_write_returns(tmp_path: Path) -> None:
    with RunRecord(tmp_path / "run") as record:
        record.start(plan="demo", command=["rig", "demo"])
        record.write("mark", name="boot")
        assert [row["event"] for row in events(tmp_path / "run")] == ["run_start", "mark"]
    assert events(tmp_path / "run")[-1]["event"] == "run_end"


def test_a_run_is_never_written_twice(tmp_path: Path) -> None:
    with RunRecord(tmp_path / "run"):
        pass
    with pytest.raises(RecordError, match="holds a run already"):
        RunRecord(tmp_path / "run")


def test_secrets_never_reach_the_journal(tmp_path: Path) -> None:
    with RunRecord(tmp_path / "run") as record:
        record.hide(["00112233445566778899aabbccddeeff", "pass phrase"])
        record.write("mark", text="key 00112233445566778899aabbccddeeff", nested={"wifi": ["pass phrase"]})
    text = (tmp_path / "run" / JOURNAL).read_text()
    assert "0011" not in text
    assert "pass phrase" not in text
    assert text.count("[secret]") == 2


def test_a_worker_whose_leader_died_judges_nothing_more(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORPHAN, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as leader:
        assert leader.stdin is not None
        assert leader.stdout is not None
        assert leader.stdout.read(1) == b"x"
        leader.stdin.close()
        assert b"the process that led the run is gone" in leader.stdout.read()
    lines = (tmp_path / "run" / "journal-gw0.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["check", "mark"]


def test_a_worker_reads_the_recordings_of_its_own_board(tmp_path: Path) -> None:
    captures = tmp_path / "run" / "captures"
    captures.mkdir(parents=True)
    for worker in ("gw0", "gw1", "gw10"):
        (captures / f"{worker}-CK-01-cookie.pcapng").touch()
    with RunRecord(tmp_path / "run", "gw1") as record:
        assert [path.name for path in record.recordings()] == ["gw1-CK-01-cookie.pcapng"]


def test_manifest_names_every_file_with_its_sum(tmp_path: Path) -> None:
    with RunRecord(tmp_path / "run") as record:
        path = record.path_for("PSK-01", "handshake.pcapng")
        path.write_bytes(b"packets")
    manifest = json.loads((tmp_path / "run" / MANIFEST).read_text())
    rows = {row["path"]: row for row in manifest["files"]}
    assert rows[record.relative(path)]["sha256"] == sha256_of(path)
    assert rows[record.relative(path)]["bytes"] == 7
    assert JOURNAL in rows


def test_a_second_file_of_one_name_does_not_overwrite_the_first(tmp_path: Path) -> None:
    with RunRecord(tmp_path / "run") as record:
        first = record.path_for("ENE-03", "current.f32")
        first.write_bytes(b"")
        assert record.path_for("ENE-03", "current.f32") != first


def test_the_journal_is_whole_up_to_its_last_line_after_sigkill(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(run)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    lines = (run / JOURNAL).read_bytes().split(b"\n")
    numbers = [json.loads(line)["number"] for line in lines[:-1]]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 50
