"""On the virtual bench: figures that miss their limit, a router that goes, a board that needs its reset."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from rig.testplans import LIMITS

TESTS = """
import os
import signal
from pathlib import Path

import pytest
from rig.errors import DeviceError

def processes():
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            yield int(entry.name), (entry / "cmdline").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue

@pytest.mark.requirement("PSK-01")
def test_ends_badly(coap):
    coap.prove_alive()
    raise DeviceError("as if the device had failed")

@pytest.mark.requirement("PSK-02")
def test_is_skipped():
    pytest.skip("has nothing to do with the board")

@pytest.mark.requirement("PSK-03")
def test_finds_the_board_reset(console, coap, measure):
    coap.prove_alive()
    boots = [mark for mark in console.marks() if mark.name == "boot"]
    measure.check("PSK-03", "flashing and the bad end each booted it", len(boots) == 2, observed=str(len(boots)))

@pytest.mark.requirement("WIR-02")
def test_loses_its_router(bench, measure):
    own = f"{bench.path.parent}/"
    (relay,) = [pid for pid, command in processes() if "rig.virtual.relay" in command and own in command]
    os.kill(relay, signal.SIGKILL)
    with measure.packets("none"):
        pass
"""


def test_figures_beyond_their_limits_fail(rig: Any, verdicts: Any, tmp_path: Path) -> None:
    limits = yaml.safe_load(LIMITS.read_text())
    for name in ("handshake_energy", "request_energy", "wake_to_first_answer"):
        limits["limits"][name]["max"] /= 50
    (tmp_path / "limits.yaml").write_text(yaml.safe_dump(limits))
    run = rig("demo", "--json", "--limits", tmp_path / "limits.yaml", "-k", "test_energy_of or first_answer")
    assert run.returncode == 1, run.stderr
    assert verdicts(run) == {
        **dict.fromkeys(("ENE-03", "ENE-05", "ENE-06"), "fail"),
        "ENE-01": "pass",
        "ENE-19": "not-run",  # judged after ENE-06, in the same recording
    }


def test_a_bad_end_is_answered_by_a_reset_and_a_lost_router_is_the_benchs_fault(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "--rig-run-dir", "run"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    found = {row["requirement"]: (row["state"], row["observed"]) for row in summary["verdicts"]}
    assert {one: state for one, (state, _) in found.items()} == {
        "PSK-01": "fail",
        "PSK-02": "not-run",
        "PSK-03": "pass",
        "WIR-02": "error",
    }, ended.stdout
    assert "the bench failed: router at" in found["WIR-02"][1]
