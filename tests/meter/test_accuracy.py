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
    with pytest.raises(ConfigError, match=rf"accuracy.yaml:\d+: (\(the whole file\): )?{key}: is missing"):
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


def test_a_figure_that_nobody_could_read_is_explained_or_refused(tmp_path: Path) -> None:
    ranges = yaml.safe_load(DOCUMENT.read_text())["ranges"]
    known = {"range_a": 1.0, "burden_v": 0.5}
    with pytest.raises(ConfigError, match=r"ranges\.0: has no reading_ppm, range_ppm, noise_rms_a: give the"):
        load_accuracy(written(tmp_path, ranges=[known]))
    with pytest.raises(ConfigError, match="has no timebase_ppm"):
        load_accuracy(written(tmp_path, timebase_ppm=None))
    with pytest.raises(ConfigError, match=r"needs conditions\.aperture_s"):
        load_accuracy(written(tmp_path, conditions={"temperature_c": [18, 28], "warm_up_min": 60, "nplc": 10}))
    with pytest.raises(ConfigError, match="nplc or aperture_s"):
        load_accuracy(written(tmp_path, conditions={"temperature_c": [18, 28], "warm_up_min": 60}))
    unread = known | {"not_obtained": "page 17 cannot be had"}
    path = written(tmp_path, ranges=[unread, ranges[0]], timebase_ppm=None, not_obtained="no word of it")
    found = load_accuracy(path).of_range(1.0, 1.0)
    assert (found.gain_rel, found.offset_a, found.noise_rms_a) == (0, 0, 0)
    assert found.not_obtained["gain"] == (
        "the gain error of the 1 A range is not in coaps-rig virtual meter specification: page 17 cannot be had"
    )
    assert set(found.not_obtained) == {"gain", "offset", "noise", "time base", "voltage"}
    with pytest.raises(ConfigError, match="the gain error of the 1 A range is not in"):
        load_accuracy(path).standard_uncertainty(1.0, 0.1)
    assert set(load_accuracy(path).of_range(ranges[0]["range_a"], 1.0).not_obtained) == {"time base", "voltage"}


def test_a_burden_bounds_a_shunt_that_is_not_stated(tmp_path: Path) -> None:
    line = yaml.safe_load(DOCUMENT.read_text())["ranges"][4] | {"shunt_ohm": None, "burden_v": 0.5}
    path = written(tmp_path, ranges=[{key: value for key, value in line.items() if value is not None}], lead_ohm=0)
    found = load_accuracy(path).of_range(1.0, 1.0)
    assert found.series_ohm == pytest.approx(0.25)
    assert found.series_uncertainty_ohm == pytest.approx(0.25 / math.sqrt(3))


def test_a_zero_measurement_takes_its_own_offset_figure(tmp_path: Path) -> None:
    line = yaml.safe_load(DOCUMENT.read_text())["ranges"][0] | {"range_ppm_after_zero": 40}
    accuracy = load_accuracy(written(tmp_path, ranges=[line]))
    before, after = accuracy.of_range(100e-6, 1.0), accuracy.of_range(100e-6, 1.0, zero_uncertainty_a=1e-9)
    assert (before.offset_a, before.zero_a) == (pytest.approx(100e-6 * 100e-6 / math.sqrt(3)), 0)
    assert (after.offset_a, after.zero_a) == (pytest.approx(40e-6 * 100e-6 / math.sqrt(3)), 1e-9)
    as_before = load_accuracy(DOCUMENT).of_range(1e-3, 1.0, zero_uncertainty_a=1e-9)
    assert as_before.offset_a == load_accuracy(DOCUMENT).of_range(1e-3, 1.0).offset_a


def test_a_bench_outside_the_conditions_adds_the_temperature_coefficient(tmp_path: Path) -> None:
    line = yaml.safe_load(DOCUMENT.read_text())["ranges"][4]
    tempco = {"tempco_reading_ppm_per_c": 50, "tempco_range_ppm_per_c": 5}
    path = written(tmp_path, ranges=[line | tempco])
    found = load_accuracy(path, temperature_c=35).of_range(1.0, 1.0)
    assert found.temperature_gain_rel == pytest.approx(7 * 50e-6 / math.sqrt(3))
    assert found.temperature_offset_a == pytest.approx(7 * 5e-6 / math.sqrt(3))
    assert (found.temperature, found.reservation) == ("temperature (35 °C)", "")
    for temperature_c, told in ((None, "temperature (taken to be 18 to 28 °C)"), (20, "temperature (20 °C)")):
        inside = load_accuracy(path, temperature_c=temperature_c).of_range(1.0, 1.0)
        assert (inside.temperature, inside.temperature_gain_rel) == (told, 0)
    without = load_accuracy(DOCUMENT, temperature_c=12).of_range(1.0, 1.0)
    assert "it is 12 °C at the meter" in without.reservation
    assert "no temperature coefficient for the 1 A range" in without.reservation
    with pytest.raises(ConfigError, match="give both"):
        load_accuracy(written(tmp_path, ranges=[line | {"tempco_reading_ppm_per_c": 50}]))


def test_measured_voltage_has_the_figures_of_the_range_that_holds_a_supply(tmp_path: Path) -> None:
    lines = [{"range_v": v, "reading_ppm": 250, "range_ppm": 100} for v in (1.0, 6.0, 20.0)]
    found = load_accuracy(written(tmp_path, voltage=lines, ranges_share="reference")).of_range(1.0, 1.0)
    assert found.voltage_gain_rel == pytest.approx(250e-6 / math.sqrt(3))
    assert found.voltage_offset_v == pytest.approx(600e-6 / math.sqrt(3))
    assert found.common_reference
    assert "voltage" not in found.not_obtained
    with pytest.raises(ConfigError, match="a range_v stands twice"):
        load_accuracy(written(tmp_path, voltage=[lines[0], lines[0]]))
