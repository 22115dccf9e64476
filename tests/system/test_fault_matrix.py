"""The fault matrix: what it says of a device that is found, of one that is not, and of healthy ones."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from rig.cli.faults import healthy
from rig.virtual.faults import FAULTS

DEVICE_FAULTS_SEEDED = 88


def test_most_of_the_seeded_faults_exist() -> None:
    seeds = {fault.seed for fault in FAULTS if fault.seed}
    assert len(seeds) >= 75
    assert len(seeds) <= DEVICE_FAULTS_SEEDED
    assert all(1 <= len(fault.turns_red) <= 3 for fault in FAULTS)


def test_a_fault_that_is_found_is_killed_and_its_records_are_kept(rig: Any, tmp_path: Path) -> None:
    table = tmp_path / "faults.md"
    options = ("--run", "--own", "--json", "--runs", str(tmp_path), "--out", str(table))
    run = rig("faults", "ping-unanswered", *options)
    assert run.returncode == 0, run.stderr
    facts = json.loads(run.stdout)
    (row,) = facts["faults"]
    assert (row["state"], row["red"], row["expected"]) == ("killed", ["COAP-01"], ["COAP-01"])
    assert facts["totals"] == {"killed": 1}
    assert (tmp_path / "ping-unanswered" / "journal.jsonl").is_file()
    assert "| ping-unanswered | MP6 | device | COAP-01 | COAP-01 | killed |" in table.read_text()


def test_an_unknown_name_is_refused(rig: Any) -> None:
    run = rig("faults", "no-such-fault", "--run")
    assert run.returncode == 2
    assert "no faulty device is called no-such-fault" in run.stderr


@pytest.mark.soak
@pytest.mark.parametrize("number", range(100))
@pytest.mark.parametrize("carrier", ["firmware", "device"])
def test_a_healthy_carrier_never_leaves_its_baseline(
    number: int, carrier: Literal["firmware", "device"], tmp_path: Path
) -> None:
    del number
    row = healthy(carrier, tmp_path, own=False)
    assert (row.state, row.unsettled) == ("healthy", ()), row
