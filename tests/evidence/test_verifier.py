"""A verdict is written to the record first and fails the test after."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rig.energy import Contribution, Measurement
from rig.errors import BenchError, ConfigError
from rig.evidence.record import JOURNAL, RunRecord
from rig.evidence.requirements import Limits, load_catalogue
from rig.evidence.verifier import NoVerdict, VerdictFailed, Verifier
from rig.testplans import CATALOGUE, LIMITS


class Bed:
    """A verifier over the shipped catalogue and limits, and what it has written."""

    def __init__(self, record: RunRecord) -> None:
        rows = load_catalogue(CATALOGUE)
        self._record = record
        self._named = {one: rows[one] for one in ("PSK-01", "CK-01", "ENE-04")}
        self._journal = record.directory / JOURNAL
        self.judge_by(Limits(LIMITS))

    def judge_by(self, limits: Limits) -> None:
        self.verifier = Verifier(self._record, "test_it", self._named, limits)

    def last(self) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(self._journal.read_text().splitlines()[-1])
        return row


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    with RunRecord(tmp_path / "run") as record:
        yield Bed(record)


def current(value: float, uncertainty: float | None = 12e-9, unit: str = "A") -> Measurement:
    return Measurement("deep_sleep_current", value, unit, uncertainty, None if uncertainty is None else 2.0, ())


def test_what_is_met_is_a_pass(bed: Bed) -> None:
    bed.verifier.check("PSK-01", "it answers", True, observed="2.05")
    assert (bed.last()["state"], bed.last()["observed"]) == ("pass", "2.05")


def test_a_must_that_is_not_met_fails_after_it_is_recorded(bed: Bed) -> None:
    with pytest.raises(VerdictFailed, match="PSK-01: it answers: observed silence"):
        bed.verifier.check("PSK-01", "it answers", False, observed="silence")
    assert bed.last()["state"] == "fail"


def test_a_should_that_is_not_met_is_a_deviation_and_fails_nothing(bed: Bed) -> None:
    bed.verifier.check("CK-01", "a cookie is asked for", False, observed="ServerHello")
    assert bed.last()["state"] == "deviation"


def test_a_value_is_judged_by_the_limit_of_its_name(bed: Bed) -> None:
    bed.verifier.measure("ENE-04", current(5e-6))
    assert (bed.last()["state"], bed.last()["limit"]["max"]) == ("pass", 10e-6)
    with pytest.raises(VerdictFailed, match=r"against the limit deep_sleep_current at most 1e-05 A"):
        bed.verifier.measure("ENE-04", current(12e-6))
    assert bed.last()["state"] == "fail"


def test_the_fail_side_of_the_guard_band_fails_the_test(bed: Bed) -> None:
    bed.verifier.measure("ENE-04", current(9.995e-6))
    assert (bed.last()["state"], bed.last()["side"]) == ("conditional", "pass")
    with pytest.raises(VerdictFailed):
        bed.verifier.measure("ENE-04", current(10.005e-6))
    assert (bed.last()["state"], bed.last()["side"]) == ("conditional", "fail")


def test_without_uncertainty_there_is_no_verdict(bed: Bed) -> None:
    with pytest.raises(NoVerdict, match="no accuracy document"):
        bed.verifier.measure("ENE-04", current(5e-6, None))
    assert bed.last()["state"] == "inconclusive"


def test_the_record_holds_what_the_verdict_rests_on(bed: Bed) -> None:
    budget = (
        Contribution("meter offset", 5e-9, "A", "B"),
        Contribution("spread of 4 repeats", 2e-9, "A", "A", systematic=False, degrees_of_freedom=3),
    )
    measurement = Measurement(
        "deep_sleep_current", 5e-6, "A", 12e-9, 2.2, budget, ranges_a=(100e-6,), gap_share=1e-3, repeats=4
    )
    bed.verifier.measure("ENE-04", measurement)
    row = bed.last()
    assert row["degrees_of_freedom"] == pytest.approx(measurement.degrees_of_freedom)
    assert (row["guard_band"], row["acceptance"]) == (12e-9, {"max": pytest.approx(9.988e-6), "min": None})
    assert row["false_accept"] == pytest.approx(0, abs=1e-12)
    assert row["false_reject"] is None
    assert (row["ranges_a"], row["gap_share"], row["repeats"]) == ([100e-6], 1e-3, 4)
    assert [line["degrees_of_freedom"] for line in row["budget"]] == [None, 3]
    assert [line["systematic"] for line in row["budget"]] == [True, False]


def test_a_reservation_is_told_in_its_own_words_and_the_figures_stay(bed: Bed) -> None:
    reason = "the calibration of instrument MY1 was due on 2026-01-01"
    with pytest.raises(NoVerdict, match=reason):
        bed.verifier.measure("ENE-04", replace(current(5e-6), reservations=(reason,)))
    row = bed.last()
    assert (row["state"], row["expanded_uncertainty"]) == ("inconclusive", 12e-9)
    assert row["notes"] == [f"no verdict: {reason}"]
    assert (row["false_accept"], row["guard_band"]) == (None, None)
    assert row["rule"] == "ILAC-G8:09/2019 4.2.3, guard band w = U"


def test_the_rule_of_the_limits_file_is_the_one_that_judges(bed: Bed, tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    row = "unit: A, max: 10.0e-6, source: x, rule: guarded, guard_band: 0.5"
    path.write_text(f"limits:\n  deep_sleep_current: {{{row}}}\n")
    bed.judge_by(Limits(path))
    bed.verifier.measure("ENE-04", current(9.994e-6))
    assert bed.last()["state"] == "pass"
    with pytest.raises(VerdictFailed):
        bed.verifier.measure("ENE-04", current(9.995e-6))
    assert (bed.last()["state"], bed.last()["side"]) == ("fail", None)


def test_a_value_that_is_no_number_is_a_bench_error(bed: Bed) -> None:
    with pytest.raises(BenchError, match="nan is no measured value"):
        bed.verifier.measure("ENE-04", current(float("nan")))


def test_a_limit_of_another_unit_names_the_file(bed: Bed) -> None:
    with pytest.raises(ConfigError, match=r"limits\.yaml: limits\.deep_sleep_current\.unit"):
        bed.verifier.measure("ENE-04", current(5e-6, unit="uA"))


def test_a_requirement_that_the_marker_does_not_name_is_refused(bed: Bed) -> None:
    with pytest.raises(ValueError, match="does not name"):
        bed.verifier.check("WIR-01", "it is closed", True, observed="silence")
