"""``rig requirements`` as a user meets it: every row is tested, not testable with a reason, or said to be untested."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rig.evidence.requirements import load_catalogue
from rig.testplans import CATALOGUE


def rig(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rig.cli.main", "requirements", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def listing() -> dict[str, Any]:
    listed: dict[str, Any] = json.loads(rig("--json").stdout)
    return listed


def test_every_row_says_how_it_stands(listing: dict[str, Any]) -> None:
    rows = {row["id"]: row for row in listing["requirements"]}
    assert list(rows) == list(load_catalogue(CATALOGUE))
    for row in rows.values():
        expected = "tested" if row["tests"] else "not_testable" if row["not_testable"] else "untested"
        assert row["coverage"] == expected
    assert rows["PSK-02"]["tests"] == ["test_wrong_key_is_refused"]
    assert rows["PSK-02"]["evidence_for"]["hipaa"] == ["(a)(1)", "(d)"]
    states = [row["coverage"] for row in rows.values()]
    assert listing["totals"] == {one: states.count(one) for one in ("tested", "untested", "not_testable")}


def test_no_test_verifies_what_is_said_to_be_not_testable(listing: dict[str, Any]) -> None:
    assert [row["id"] for row in listing["requirements"] if row["tests"] and row["not_testable"]] == []


def test_untested_rows_are_shown_with_the_reason_where_there_is_one(listing: dict[str, Any]) -> None:
    shown = rig("--untested").stdout
    for row in listing["requirements"]:
        assert (f" {row['id']} " in shown) == (not row["tests"]), row["id"]
    assert "not testable here: no board of this bench has a certificate" in " ".join(shown.split())
    totals = listing["totals"]
    assert f"0 verified by a test, {totals['untested']} without a test, {totals['not_testable']} not testable" in shown


def test_filters_add_up() -> None:
    rows = json.loads(
        rig("KEY", "--area", "PSK", "--level", "MUST", "--standard", "hipaa", "--tested", "--json").stdout
    )
    assert [row["id"] for row in rows["requirements"]] == ["PSK-01", "PSK-02", "PSK-03", "PSK-07"]
    assert rows["totals"] == {"tested": 4, "untested": 0, "not_testable": 0}


def test_a_standard_is_shown_as_what_rows_are_evidence_for() -> None:
    shown = rig("--area", "WIR", "--standard", "nist").stdout
    assert shown.splitlines()[0].strip() == "Evidence for NISTIR 8259A"
    assert "logical access to interfaces" in shown
    assert "WIR-07" not in shown


@pytest.mark.parametrize(("option", "known"), [("--area", "ALR, CID,"), ("--level", "MUST,"), ("--standard", "etsi,")])
def test_a_filter_that_does_not_exist_names_those_that_do(option: str, known: str) -> None:
    ended = rig(option, "xyz")
    assert ended.returncode == 2
    assert f"rig: {option} xyz: is none of {known}" in ended.stderr


def test_tests_that_cannot_be_collected_are_no_list_without_tests(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(
        'import pytest\n\n@pytest.mark.requirement("XYZ-99")\ndef test_it():\n    pass\n'
    )
    script = (
        "import pathlib; from rig.cli.requirements import tests_by_requirement; "
        f"tests_by_requirement(pathlib.Path({str(tmp_path)!r}))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "requirement(XYZ-99): not in the catalogue" in ended.stderr
    assert "the tests cannot be collected (usage_error)" in ended.stderr
