"""What takes longer than a test run may: the whole plan, again and again, on new boards each time."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rig.testplans import HERE
from rig.virtual.faults import fault_named

NOT_CLAIMED = {"WIR-06": "not-supported"}  # the firmware does not open plain CoAP
FAULTS_OF_THE_DEMO = ("plain-coap-open", "any-psk-identity", "deep-sleep-800ua", "deep-sleep-12ua")


@pytest.mark.soak
@pytest.mark.parametrize("number", range(20))
def test_a_good_device_passes_every_time(number: int, rig: Any, verdicts: Any) -> None:
    del number
    run = rig("demo", "--json")
    assert run.returncode == 0, run.stderr
    assert {one: state for one, state in verdicts(run).items() if state != "pass"} == NOT_CLAIMED


@pytest.mark.soak
@pytest.mark.parametrize("name", FAULTS_OF_THE_DEMO)
def test_a_faulty_device_turns_no_other_requirement_of_the_whole_plan_red(name: str, rig: Any, verdicts: Any) -> None:
    fault = fault_named(name)
    assert fault is not None
    found = verdicts(rig("demo", "--json", "--fault", name))
    assert {one for one, state in found.items() if state != "pass"} == {*fault.turns_red, *NOT_CLAIMED}


@pytest.mark.soak
@pytest.mark.parametrize("carrier", ["firmware", "device"])
def test_the_exhaustion_tests_pass_with_the_numbers_of_the_catalogue(carrier: str, tmp_path: Path) -> None:
    plan = HERE / "security" / "test_exhaustion.py"
    options = ["--rig-soak", f"--rig-virtual-carrier={carrier}", f"--rig-run-dir={tmp_path / 'run'}", "-n", "0"]
    command = [sys.executable, "-m", "pytest", "-c", HERE / "pytest.ini", f"--rootdir={HERE}", *options, plan]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


@pytest.mark.soak
def test_the_plan_says_the_same_of_a_small_device_and_on_four_boards_at_once(rig: Any, verdicts: Any) -> None:
    usual = verdicts(rig("run", "security", "--json"))
    for options in (("--carrier", "small-firmware"), ("-n", "4")):
        other = verdicts(rig("run", "security", "--json", *options))
        # A rig that lags too much for a verdict on time says so.
        timed = {one for found in (usual, other) for one, state in found.items() if state == "inconclusive"}
        assert {one: state for one, state in other.items() if one not in timed} == {
            one: state for one, state in usual.items() if one not in timed
        }
