"""A board that ends a test badly, or hangs, in a run: brought back, and every step of it in the record."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rig.evidence.record import JOURNAL
from rig.fixtures.coaps import NoProofOfLife
from rig.fixtures.session import RigSession, Settings
from rig.testplans import LIMITS

TESTS = """
import pytest

@pytest.mark.requirement("PSK-01")
def test_it(console, measure):
    console.expect("ESP-ROM", timeout_s=0.001 if {lost} else 10)
    measure.check("PSK-01", "it starts", True, observed="its first line")
"""


class Forgetful:
    """A device that answers once its power has been away: *starts* tells how often that was."""

    def __init__(self, console: Path) -> None:
        self._console = console

    def prove_alive(self) -> None:
        if "Brownout" not in self._console.read_text():
            raise NoProofOfLife("no proof of life")


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


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / JOURNAL).read_text().splitlines()]
