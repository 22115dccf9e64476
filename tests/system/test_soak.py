"""What takes longer than a test run may: the whole plan, again and again, on new boards each time."""

from typing import Any

import pytest

from rig.virtual.faults import fault_named

FAULTS_OF_THE_DEMO = ("plain-coap-open", "any-psk-identity", "deep-sleep-800ua", "deep-sleep-12ua")


@pytest.mark.soak
@pytest.mark.parametrize("number", range(20))
def test_a_good_device_passes_every_time(number: int, rig: Any, verdicts: Any) -> None:
    del number
    run = rig("demo", "--json")
    assert run.returncode == 0, run.stderr
    assert set(verdicts(run).values()) == {"pass"}


@pytest.mark.soak
@pytest.mark.parametrize("name", FAULTS_OF_THE_DEMO)
def test_a_faulty_device_turns_no_other_requirement_of_the_whole_plan_red(name: str, rig: Any, verdicts: Any) -> None:
    fault = fault_named(name)
    assert fault is not None
    found = verdicts(rig("demo", "--json", "--fault", name))
    assert {one for one, state in found.items() if state != "pass"} == set(fault.turns_red)
