"""``rig capture`` on a bench file whose meter is a virtual one."""

import json
from pathlib import Path
from typing import Any

import pytest

from rig.cli.main import main
from rig.energy import load_recording

BENCH = """\
boards:
  - {{name: light1, type: network, host: 127.0.0.1, identity: light-1, psk: {{env: NONE}}, meter: dmm}}
meters:
  - {{name: dmm, driver: keysight-34465a, resource: "{visa}", accuracy: "{accuracy}"}}
"""


@pytest.fixture
def bench(virtual: Any, tmp_path: Path) -> Path:
    path = tmp_path / "bench.yaml"
    accuracy = Path("rig/virtual/meter/accuracy-34465a-virtual.yaml").resolve()
    path.write_text(BENCH.format(visa=virtual.visa, accuracy=accuracy), encoding="utf-8")
    return path


def test_a_capture_of_some_seconds(bench: Path, board: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board.current(0.05)
    out = tmp_path / "x.f32"
    arguments = ["capture", str(out), "--bench", str(bench), "--seconds", "0.2", "--interval", "1e-3", "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == 200
    assert told["mean_a"] == pytest.approx(0.05, rel=0.01)
    assert len(load_recording(out)) == 200


def test_a_capture_from_a_level_on(bench: Path, board: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board.current(0.02)
    out = tmp_path / "x.f32"
    t_ns = board.current(0.02)
    board.current(0.2, t_ns + 1_500_000_000)
    arguments = ["capture", str(out), "--bench", str(bench), "--seconds", "0.1", "--before", "0.1"]
    assert main([*arguments, "--interval", "1e-3", "--trigger", "above:0.1"]) == 0
    assert "34465A" in capsys.readouterr().out
    recorded = load_recording(out)
    index = recorded.trigger_index
    assert index is not None
    assert 95 <= index <= 101
    assert float(recorded.samples[: index - 1].max()) < 0.1 < float(recorded.samples[index + 1 :].min())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--meter", "smu", "--seconds", "1"], "no meter called 'smu'"),
        (["--trigger", "sometimes", "--seconds", "1"], "'sometimes' is none of immediate, rising, falling"),
        (["--range", "wide", "--seconds", "1"], "'wide' is neither a range in ampere nor auto"),
        (["--range", "auto", "--seconds", "1"], "does not range by itself"),
        ([], "give it a duration_s"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert main(["capture", str(tmp_path / "x.f32"), "--bench", str(bench), *arguments]) == 2
    assert reason in capsys.readouterr().err
