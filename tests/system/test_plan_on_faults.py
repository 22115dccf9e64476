"""The demo plan against devices that are wrong on purpose; a file of its own, for a worker of its own."""

from typing import Any

import pytest

from rig.virtual.faults import fault_named

FAULTS_OF_THE_DEMO = ("plain-coap-open", "any-psk-identity", "deep-sleep-800ua", "deep-sleep-12ua")
NOT_CLAIMED = {"WIR-06"}  # the firmware does not open plain CoAP
SLOW = "not test_retransmission and not under_loss"


@pytest.mark.parametrize("name", FAULTS_OF_THE_DEMO)
def test_a_faulty_device_turns_its_requirement_red_and_no_other(name: str, rig: Any, verdicts: Any) -> None:
    fault = fault_named(name)
    assert fault is not None
    run = rig("demo", "--json", "--fault", name, "-k", SLOW)
    assert run.returncode == 1, run.stderr
    found = verdicts(run)
    red = {one for one, state in found.items() if state != "pass"} - NOT_CLAIMED
    assert fault.turns_red[0] in red <= set(fault.turns_red)
    assert {found[one] for one in red} == {"fail"}
