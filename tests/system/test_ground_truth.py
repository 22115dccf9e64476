"""What the rig measures against what the virtual board really drew: the one place that may read the truth."""

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

Board = dict[str, Any]
Change = tuple[float, float]


def changes(board: Board) -> list[Change]:
    """Return (time, current) of each change of the demanded current; its clock is the host's, and so the rig's."""
    path = board["bench"].parent / "truth" / f"{board['name']}.csv"
    with path.open() as stream:
        return [(int(t_ns) * 1e-9, float(amps)) for t_ns, amps in csv.reader(stream)]


def energy_j(drawn: list[Change], start_s: float, end_s: float, voltage_v: float, series_ohm: float) -> float:
    """Return the exact energy at the board's pins between two instants."""
    total = 0.0
    for (from_s, amps), (to_s, _) in pairwise([*drawn, (float("inf"), 0.0)]):
        inside_s = min(to_s, end_s) - max(from_s, start_s)
        if inside_s > 0:
            total += inside_s * amps * (voltage_v - series_ohm * amps)
    return total


def series_ohm(board: Board, range_a: float) -> float:
    bench = yaml.safe_load(board["bench"].read_text())
    document = yaml.safe_load(Path(bench["meters"][0]["accuracy"]).read_text())
    (row,) = [one for one in document["ranges"] if one["range_a"] == range_a]
    return float(row["shunt_ohm"]) + float(document["lead_ohm"])


def test_energies_agree_with_the_truth_within_their_uncertainty(flashed_board: Board, rig: Any, tmp_path: Path) -> None:
    measured_truly(flashed_board, rig, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("meter", ["keithley-dmm6500", "keithley-dmm7510"])
def test_so_do_those_of_other_multimeters(meter: str, rig: Any, tmp_path: Path, virtual_bench_with: Any) -> None:
    with virtual_bench_with("--meter", meter) as board:
        measured_truly(board, rig, tmp_path)


def measured_truly(board: Board, rig: Any, tmp_path: Path) -> None:
    ended = rig("run", "--bench", board["bench"], "--run-dir", tmp_path / "run", "-k", "test_energy_of")
    assert ended.returncode == 0, ended.stdout
    events = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    drawn, ohm = changes(board), series_ohm(board, 1.0)
    for name in ("handshake", "request"):
        phases = [one for row in events if row["event"] == "phases" for one in row["phases"] if one["name"] == name]
        true_j = [energy_j(drawn, one["start_s"], one["end_s"], 3.3, ohm) for one in phases]
        (figure,) = [row for row in events if row["event"] == "measurement" and row["name"] == f"{name}_energy"]
        assert len(true_j) == 5
        assert abs(figure["value"] - sum(true_j) / len(true_j)) <= figure["expanded_uncertainty"]
        assert figure["expanded_uncertainty"] < 0.3 * figure["value"]
