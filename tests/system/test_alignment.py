"""Alignment without a wire on the live virtual bench, against the trigger wire and against the truth."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rig.energy import find_bursts, load_recording

REQUESTS = """
import random
import time

import pytest

from rig.clock import now_s
from rig.energy import Bounds
from rig.meter import Trigger


@pytest.mark.requirement("ENE-05")
def test_forty_requests(bench, board, coap, probe, console, meter, router, measure):
    with coap.session() as session:
        with measure.packets("forty") as packets:
            with measure.current(
                "forty", interval_s=20e-6, duration_s=13.0, pretrigger_s=0.1, trigger=Trigger.external_rising()
            ) as current:
                time.sleep(0.3)
                began_s = now_s()
                for _ in range(40):
                    session.get(probe.life)
                    time.sleep(random.uniform(0.1, 0.5))
                started = console.wait_mark("request_start", since_s=began_s)
                recorded = current.result(timeout_s=60)
    seen = [one for one in packets.packets() if one.side == "board"]
    first = min(one.t_s for one in seen if one.t_s > began_s)
    answer = min(one.t_s for one in seen if one.t_s > first and one.source[1] == bench.board_config.coaps_port)
    doubt_s = packets.clock.uncertainty_s
    wired = measure.align(recorded, started, Bounds(first - doubt_s, answer + doubt_s, "the packets at the board"))
    measure.keep(wired)
    placed = measure.align_by_packets(wired, packets)
    measure.check("ENE-05", "aligned both ways", placed.t0_s is not None, observed=f"{wired.t0_s} {placed.t0_s}")
"""


def test_packets_and_the_trigger_wire_agree_with_each_other_and_with_the_truth(
    flashed_board: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_it.py").write_text(REQUESTS)
    bench = str(flashed_board["bench"])
    command = [sys.executable, "-m", "pytest", "-q", "--rig-bench", bench, "--rig-run-dir", "run"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    events = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    (aligned,) = [event for event in events if event["event"] == "alignment"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["state"] for row in summary["verdicts"]] == ["pass"]
    errors_s = _errors_s(flashed_board, load_recording(tmp_path / "run" / aligned["file"]), aligned)
    told_us = {key: round(value * 1e6) for key, value in aligned["wire"].items()}
    print(f"error {np.median(errors_s) * 1e6:+.0f} us; {aligned}; by the wire, in us: {told_us}")
    assert aligned["matched"] >= 35
    assert abs(np.median(errors_s)) <= aligned["expanded_uncertainty_s"] < 500e-6


def _errors_s(board: dict[str, Any], waveform: Any, aligned: dict[str, Any]) -> Any:
    """Return by how much each burst of the recording is put beside the nearest one that the board really sent."""
    truth = board["bench"].parent / "truth" / f"{board['name']}.csv"
    with truth.open() as stream:
        true_s = np.array([int(t_ns) * 1e-9 for t_ns, amps in csv.reader(stream) if float(amps) > 0.2])
    placed_s = aligned["t0_s"] + find_bursts(waveform).start_s * (1 + aligned["drift"])
    return placed_s - true_s[np.abs(placed_s[:, None] - true_s).argmin(axis=1)]
