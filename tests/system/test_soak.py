"""What takes longer than a test run may: the whole plan, again and again, on new boards each time."""

from typing import Any

import pytest

from rig.virtual.faults import FAULTS


@pytest.mark.soak
@pytest.mark.parametrize("number", range(20))
def test_a_good_device_passes_every_time(number: int, rig: Any, verdicts: Any) -> None:
    del number
    run = rig("demo", "--json")
    assert run.returncode == 0, run.stderr
    assert set(verdicts(run).values()) == {"pass"}


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_faulty_device_turns_no_other_requirement_of_the_whole_plan_red(fault: Any, rig: Any, verdicts: Any) -> None:
    found = verdicts(rig("demo", "--json", "--fault", fault.name))
    assert {one for one, state in found.items() if state != "pass"} == set(fault.turns_red)
