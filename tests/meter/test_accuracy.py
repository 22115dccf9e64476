import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from rig.errors import ConfigError
from rig.meter import load_accuracy

DOCUMENT = Path("rig/virtual/meter/accuracy-34465a-virtual.yaml")


def written(tmp_path: Path, **changes: Any) -> Path:
    content = yaml.safe_load(DOCUMENT.read_text()) | changes
    path = tmp_path / "accuracy.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def test_limits_of_error_are_rectangular_unless_a_coverage_is_stated(tmp_path: Path) -> None:
    gain, offset_a = load_accuracy(DOCUMENT).standard_uncertainty(1.0, 0.1)
    assert gain == pytest.approx(800e-6 / math.sqrt(3))
    assert offset_a == pytest.approx(100e-6 / math.sqrt(3))
    gain, offset_a = load_accuracy(written(tmp_path, coverage={"k": 2})).standard_uncertainty(1.0, 0.1)
    assert (gain, offset_a) == pytest.approx((400e-6, 50e-6))


def test_noise_falls_with_the_root_of_the_aperture() -> None:
    accuracy = load_accuracy(DOCUMENT)
    assert accuracy.of_range(1.0, 20e-6).noise_rms_a == pytest.approx(120e-6)
    assert accuracy.of_range(1.0, 2e-3).noise_rms_a == pytest.approx(12e-6)
    assert accuracy.of_range(1.0, 20e-6).series_ohm == pytest.approx(0.31)


@pytest.mark.parametrize("key", ["document", "revision", "page", "conditions", "coverage", "lead_ohm", "ranges"])
def test_a_document_without_its_origin_or_figures_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"accuracy.yaml:\d+: {key}: is missing"):
        load_accuracy(written(tmp_path, **{key: None}))


def test_wrong_figures_are_named(tmp_path: Path) -> None:
    ranges = yaml.safe_load(DOCUMENT.read_text())["ranges"]
    with pytest.raises(ConfigError, match="coverage: give either"):
        load_accuracy(written(tmp_path, coverage={"k": 2, "distribution": "rectangular"}))
    with pytest.raises(ConfigError, match=r"ranges\.0.*burden_v 0\.001 is less"):
        load_accuracy(written(tmp_path, ranges=[ranges[0] | {"burden_v": 0.001}]))
    with pytest.raises(ConfigError, match="unknown key; did you mean 'range_ppm'"):
        load_accuracy(written(tmp_path, ranges=[ranges[0] | {"range_pmm": 1}]))
    with pytest.raises(ConfigError, match="stands twice"):
        load_accuracy(written(tmp_path, ranges=[ranges[0], ranges[0]]))


def test_there_are_no_figures_beyond_the_document() -> None:
    accuracy = load_accuracy(DOCUMENT)
    with pytest.raises(ConfigError, match=r"no figures for the 0\.5 A range"):
        accuracy.of_range(0.5, 20e-6)
    with pytest.raises(ConfigError, match="do not hold at 2 A"):
        accuracy.standard_uncertainty(1.0, 2.0)
