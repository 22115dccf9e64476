"""The list of faulty devices agrees with itself and with the catalogue."""

import re
from pathlib import Path

import pytest

import rig.testplans
from rig.evidence.requirements import load_catalogue
from rig.virtual.faults import FAULTS, Fault, fault_named

CATALOGUE = load_catalogue(Path(next(iter(rig.testplans.__path__))) / "requirements")
CARRIED_BY = {"firmware": "firmware", "chip": "board", "device": "device", "relay": "relay"}
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


def test_every_name_stands_for_one_fault() -> None:
    assert [fault_named(fault.name) for fault in FAULTS] == list(FAULTS)
    assert fault_named("no-such-fault") is None


@each_fault
def test_a_fault_names_one_to_three_requirements_of_the_catalogue(fault: Fault) -> None:
    assert 1 <= len(fault.turns_red) <= 3
    assert set(fault.turns_red) <= set(CATALOGUE)


@each_fault
def test_a_fault_says_which_seeded_fault_it_is_and_what_carries_it(fault: Fault) -> None:
    assert re.fullmatch(r"(M[SPRD]\d+)?", fault.seed)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fault.name)
    assert getattr(fault, CARRIED_BY[fault.carrier]) or fault.bench
