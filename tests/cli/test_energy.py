"""``rig energy`` and ``rig export`` on a recording."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyjls import Reader

from rig.cli.energy import export, show_energy
from rig.cli.main import build_parser
from rig.energy import Header, RangeAccuracy, RecordingWriter, WaveformError
from rig.energy.recording import Change
from rig.errors import BenchError, ConfigError

INTERVAL_S = 1e-4
FIGURES = RangeAccuracy("specification", 1.0, 1e-3, 1e-4, 1e-5, 50, 0.1, 0.01)


def record(path: Path, *, voltage: bool = False, lost: int = 0, **more: Any) -> Path:
    """Write a second of 5 uA, one of 100 mA, and one of 5 uA again, with *lost* samples in the middle of the last."""
    header = Header(INTERVAL_S, INTERVAL_S, (1.0,), voltage=voltage, complete=True, **more)
    with RecordingWriter(path, header) as file:
        for current_a in (5e-6, 0.1, 5e-6, 5e-6):
            block = np.full(10_000 if current_a > 1e-3 or not file.count else 5_000, current_a, np.float32)
            if file.count == 25_000 and lost:
                file.lose(lost)
                block = block[lost:]
            file.append(block, np.full(len(block), 3.0, np.float32) if voltage else None)
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return record(tmp_path / "x.f32", accuracy=(FIGURES,))


PHASES = ("--phase", "sleep=..1", "--phase", "awake=1..2", "--phase", "again=2..")


def machine_readable(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert show_energy(build_parser().parse_args(["energy", *map(str, arguments), "--json"])) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_phases_have_charge_energy_and_statistics(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = machine_readable(capsys, recording, "--voltage", "3.3", *PHASES)
    assert (shown["samples"], shown["interval_s"], shown["remarks"]) == (30_000, INTERVAL_S, [])
    sleep, awake, again = shown["phases"]
    assert [phase["name"] for phase in shown["phases"]] == ["sleep", "awake", "again"]
    assert awake["charge_c"] == pytest.approx(0.1, rel=1e-6)
    # Shunt and leads take their part: the energy is what reaches the board.
    assert awake["energy_j"] == pytest.approx((3.3 - 0.1 * 0.1) * 0.1, rel=1e-6)
    assert awake["charge_expanded_uncertainty_c"] == pytest.approx(2 * np.hypot(1e-3 * 0.1, 1e-4), rel=0.01)
    assert (sleep["mean_a"], again["rms_a"]) == pytest.approx((5e-6, 5e-6), rel=1e-6)
    assert (awake["min_a"], awake["max_a"]) == pytest.approx((0.1, 0.1), rel=1e-6)
    assert (again["start_s"], again["duration_s"], again["gap_share"]) == (2.0, pytest.approx(1.0), 0.0)


def test_without_phases_it_is_the_whole_capture_and_what_it_consists_of(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture, *parts = machine_readable(capsys, recording)["phases"]
    assert [part["name"] for part in parts] == ["sleep 1", "active 1", "sleep 2"]
    assert parts[1]["start_s"] == pytest.approx(1.0, abs=parts[1]["start_uncertainty_s"])
    assert parts[1]["charge_c"] == pytest.approx(0.1, rel=1e-3)
    assert (capture["name"], capture["duration_s"]) == ("capture", pytest.approx(3.0))
    assert capture["energy_j"] is None
    assert capture["charge_c"] == pytest.approx(0.1 + 2 * 5e-6, rel=1e-6)


def test_a_measured_voltage_gives_the_energy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path / "x.f32", voltage=True)
    assert machine_readable(capsys, path)["phases"][0]["energy_j"] == pytest.approx(3 * (0.1 + 1e-5), rel=1e-6)
    with pytest.raises(ConfigError, match="has a measured voltage of its own"):
        machine_readable(capsys, path, "--voltage", "3.3")


def test_what_is_lost_or_invalid_is_said_and_has_no_uncertainty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lossy = record(tmp_path / "lossy.f32", accuracy=(FIGURES,), lost=500)
    shown = machine_readable(capsys, lossy, *PHASES)
    _, awake, again = shown["phases"]
    assert shown["remarks"] == ["1.667% of the samples are lost"]
    assert again["gap_share"] == pytest.approx(0.05)
    assert again["charge_expanded_uncertainty_c"] is None
    assert awake["charge_expanded_uncertainty_c"] is not None
    invalid = record(tmp_path / "invalid.f32", accuracy=(FIGURES,), invalid=("overload",))
    shown = machine_readable(capsys, invalid)
    assert shown["remarks"] == ["invalid, says the instrument: overload"]
    assert shown["phases"][0]["charge_expanded_uncertainty_c"] is None
    gone = record(tmp_path / "gone.f32", lost=5_000)
    assert machine_readable(capsys, gone, "--phase", "nothing=2.5..3")["phases"][0]["mean_a"] is None


def test_the_table_has_a_line_for_each_phase(recording: Path) -> None:
    command = [sys.executable, "-m", "rig.cli.main", "energy", str(recording), *PHASES, "--voltage", "3.3"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.replace("\N{NO-BREAK SPACE}", " ") for line in shown.splitlines()]
    assert [line.split()[0] for line in lines] == ["phase", "sleep", "awake", "again"]
    assert "(100.00 ± 0.28) mC" in lines[2]
    assert "5 µA" in lines[1]


def test_a_table_has_a_line_for_so_many_phases_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RecordingWriter(tmp_path / "x.f32", Header(1e-3, 1e-3, (1.0,), complete=True)) as file:
        for _ in range(30):
            file.append(np.full(200, 5e-6))
            file.append(np.full(200, 0.1))
    show_energy(build_parser().parse_args(["energy", str(tmp_path / "x.f32")]))
    heading, *lines, _, remark = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "phase"
    assert len(lines) == 40
    shown = machine_readable(capsys, tmp_path / "x.f32")["phases"]
    assert f"{len(shown) - 40} more phases were found" in remark


def test_a_jls_file_is_judged_as_the_recording_that_it_was_made_of(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_export(recording, "--format", "jls")
    capsys.readouterr()
    assert machine_readable(capsys, recording.with_suffix(".jls"), *PHASES) == {
        **machine_readable(capsys, recording, *PHASES),
        "file": str(recording.with_suffix(".jls")),
    }


def test_a_plot_is_one_page_that_loads_nothing(recording: Path, tmp_path: Path) -> None:
    page = tmp_path / "x.html"
    show_energy(build_parser().parse_args(["energy", str(recording), "--plot", str(page), *PHASES]))
    text = page.read_text()
    assert "awake" in text
    assert "seconds after the first sample" in text
    assert not re.search(r"""<(script|link|img)[^>]*(src|href)=""", text)
    with pytest.raises(BenchError, match=r"absent/x\.html: cannot be written"):
        show_energy(build_parser().parse_args(["energy", str(recording), "--plot", str(tmp_path / "absent/x.html")]))


@pytest.mark.parametrize("phase", ["", "sleep", "sleep=1", "sleep=a..b", "=1..2", "sleep=1..2..3"])
def test_a_phase_that_cannot_be_read_is_quoted(recording: Path, phase: str) -> None:
    with pytest.raises(ConfigError, match=r"is not NAME=START\.\.END"):
        show_energy(build_parser().parse_args(["energy", str(recording), "--phase", phase]))


def test_a_phase_outside_the_recording_and_an_empty_recording_are_refused(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(WaveformError, match="not inside the recording"):
        show_energy(build_parser().parse_args(["energy", str(recording), "--phase", "late=2..4"]))
    with RecordingWriter(tmp_path / "empty.f32", Header(1.0, 1.0, (1.0,))):
        pass
    with pytest.raises(ConfigError, match="holds no samples"):
        show_energy(build_parser().parse_args(["energy", str(tmp_path / "empty.f32")]))


def run_export(*arguments: str | Path) -> None:
    assert export(build_parser().parse_args(["export", *map(str, arguments)])) == 0


def test_export_writes_beside_the_recording(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("jls", "parquet", "csv"):
        run_export(recording, "--format", name)
        assert capsys.readouterr().out.strip() == str(recording.with_suffix(f".{name}"))
        assert recording.with_suffix(f".{name}").stat().st_size > 10_000


def test_phases_become_annotations_in_jls(recording: Path, tmp_path: Path) -> None:
    run_export(recording, "--format", "jls", "--out", tmp_path / "y.jls", "--phase", "awake=1..2")
    said: list[tuple[int, str]] = []
    with Reader(str(tmp_path / "y.jls")) as jls:
        jls.annotations(1, 0, lambda at, _y, _kind, _group, text: said.append((at, text)) or False)
    assert said == [(10_000, "awake"), (20_000, "end of awake")]
    with pytest.raises(ConfigError, match="csv has no place for phases"):
        run_export(recording, "--format", "csv", "--phase", "awake=1..2")


def test_the_recording_itself_is_not_overwritten(recording: Path) -> None:
    before = recording.read_bytes()
    with pytest.raises(ConfigError, match="would overwrite the recording itself"):
        run_export(recording, "--format", "csv", "--out", recording)
    assert recording.read_bytes() == before


def test_an_ended_capture_is_told_from_one_that_was_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RecordingWriter(tmp_path / "x.f32", Header(1e-3, 1e-3, (1.0,))) as file:
        file.note(Change.RANGE, 0, 0)
        file.append(np.ones(10))
    assert "the capture was not ended" in machine_readable(capsys, tmp_path / "x.f32")["remarks"][0]
