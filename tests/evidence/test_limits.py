"""The limits file: bounds and, agreed before anything is measured, the rules by which they judge."""

from pathlib import Path

import pytest

from rig.errors import ConfigError
from rig.evidence.requirements import Limits
from rig.testplans import LIMITS


def written(tmp_path: Path, row: str) -> Limits:
    path = tmp_path / "limits.yaml"
    path.write_text(f"limits:\n  energy: {{unit: J, source: x, {row}}}\n")
    return Limits(path)


def test_a_limit_without_a_rule_is_judged_with_a_guard_band_of_u(tmp_path: Path) -> None:
    limit = written(tmp_path, "max: 0.05").for_measurement("energy", "J")
    assert (limit.rule, limit.guard_band, limit.max_increase) == ("non-binary", 1.0, None)
    assert all(one.rule_id == "ILAC-G8:09/2019 4.2.3, guard band w = U" for one in Limits(LIMITS).all())


def test_a_limit_names_its_rule_and_guard_band(tmp_path: Path) -> None:
    limit = written(tmp_path, "max: 0.05, rule: guarded, guard_band: 0.83, max_increase: 0.03").all()[0]
    assert (limit.rule, limit.guard_band, limit.max_increase) == ("guarded", 0.83, 0.03)
    assert written(tmp_path, "max: 0.05, rule: simple").all()[0].rule_id == ("ILAC-G8:09/2019 4.2.1, simple acceptance")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("rule: simple", "has neither max nor min"),
        ("max: 1, rule: simple, guard_band: 1", "simple acceptance has none"),
        ("max: 1, rule: lenient", "rule"),
        ("max: 1, guard_band: -1", "guard_band"),
        ("max: 1, max_increase: -1", "max_increase"),
        ("max: 1, guardband: 1", "unknown key"),
    ],
)
def test_a_rule_that_is_none_is_refused_with_its_place(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"limits\.yaml:2: limits\.energy.*{message}"):
        written(tmp_path, row)
