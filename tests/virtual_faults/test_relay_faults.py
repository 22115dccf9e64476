"""The rules of the relay's faults are rules that the relay takes."""

import pytest

from rig.formats.packet_rule import read_rules
from rig.virtual.faults.fault import Fault
from rig.virtual.faults.relay import RELAY_FAULTS


@pytest.mark.parametrize("fault", RELAY_FAULTS, ids=lambda fault: fault.name)
def test_the_rules_of_a_fault_are_valid(fault: Fault) -> None:
    rules = read_rules([dict(rule) for rule in fault.relay])
    assert [rule.to_dict() for rule in rules] == [dict(rule) for rule in fault.relay]
