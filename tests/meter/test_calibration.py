"""A calibration certificate in place of the maker's figures."""

import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from rig.energy import RangeAccuracy
from rig.errors import ConfigError
from rig.meter import load_accuracy
from rig.meter.calibration import load_certificate

DOCUMENT = Path("rig/virtual/meter/accuracy-34465a-virtual.yaml")
FINDING = {
    "range_a": 1.0,
    "gain_error_ppm": -40,
    "gain_uncertainty_ppm": 60,
    "offset_error_a": 2e-6,
    "offset_uncertainty_a": 6e-6,
}
CERTIFICATE = {
    "laboratory": "Example Calibration",
    "certificate": "2026-0815",
    "serial": "MY123",
    "calibrated_on": date(2026, 3, 1),
    "due_on": date(2027, 3, 1),
    "k": 2,
    "ranges": [FINDING],
}
A_YEAR_LATER = date(2027, 3, 1)


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "certificate.yaml"
    path.write_text(yaml.safe_dump(CERTIFICATE | changes))
    return path


def accuracy(path: Path, today: date = A_YEAR_LATER, range_a: float = 1.0) -> RangeAccuracy:
    return load_accuracy(DOCUMENT, certificate=load_certificate(path, today=today)).of_range(range_a, 20e-6)


def test_what_the_laboratory_found_takes_the_place_of_a_wider_promise(tmp_path: Path) -> None:
    found = accuracy(written(tmp_path))
    # The error that was found stays in the readings: with k = 2 the statement holds all of it.
    assert found.gain_rel == pytest.approx(30e-6 + 20e-6)
    assert found.offset_a == pytest.approx(3e-6 + 1e-6)
    assert "gain and offset: certificate 2026-0815 of Example Calibration, 2026-03-01" in found.document
    assert found.reservation == ""
    assert accuracy(written(tmp_path), range_a=0.1) == load_accuracy(DOCUMENT).of_range(0.1, 20e-6)


def test_drift_since_the_calibration_is_added(tmp_path: Path) -> None:
    path = written(tmp_path, drift={"reading_ppm_per_year": 90, "range_ppm_per_year": 9})
    years = 365 / 365.25
    assert accuracy(path).gain_rel == pytest.approx(math.hypot(30e-6, years * 90e-6 / math.sqrt(3)) + 20e-6)
    assert accuracy(path).offset_a == pytest.approx(math.hypot(3e-6, years * 9e-6 / math.sqrt(3)) + 1e-6)
    assert accuracy(path, CERTIFICATE["calibrated_on"]).gain_rel == pytest.approx(50e-6)


def test_a_promise_narrower_than_the_finding_stays_unless_the_finding_refutes_it(tmp_path: Path) -> None:
    maker = load_accuracy(DOCUMENT).of_range(1.0, 20e-6)
    vague = accuracy(written(tmp_path, ranges=[FINDING | {"gain_uncertainty_ppm": 2000}]))
    assert vague.gain_rel == maker.gain_rel
    assert vague.offset_a < maker.offset_a
    outside = accuracy(written(tmp_path, ranges=[FINDING | {"gain_error_ppm": 1500}]))
    assert outside.gain_rel == pytest.approx(30e-6 + 750e-6)
    assert outside.gain_rel > maker.gain_rel


def test_a_certificate_gives_the_figures_that_a_document_has_not(tmp_path: Path) -> None:
    content = yaml.safe_load(DOCUMENT.read_text())
    content["ranges"] = [{"range_a": 1.0, "shunt_ohm": 0.27, "not_obtained": "page 17 cannot be had"}]
    document = tmp_path / "accuracy.yaml"
    document.write_text(yaml.safe_dump(content))
    certificate = load_certificate(written(tmp_path), today=A_YEAR_LATER)
    found = load_accuracy(document, certificate=certificate).of_range(1.0, 20e-6)
    assert found.gain_rel == pytest.approx(50e-6)
    assert set(found.not_obtained) == {"noise", "voltage"}


def test_after_its_due_date_the_figures_stay_and_no_verdict_rests_on_them(tmp_path: Path) -> None:
    late = accuracy(written(tmp_path), date(2027, 3, 2))
    assert late.gain_rel == pytest.approx(50e-6)
    assert late.reservation == (
        "the calibration of instrument MY123 was due on 2027-03-01 (certificate 2026-0815 of Example Calibration, "
        "2026-03-01)"
    )
    assert accuracy(written(tmp_path), date(2027, 3, 2), range_a=0.1).reservation == late.reservation


def test_a_certificate_of_another_instrument_is_refused(tmp_path: Path) -> None:
    used = load_accuracy(DOCUMENT, certificate=load_certificate(written(tmp_path), today=A_YEAR_LATER))
    used.require_serial("MY123")
    with pytest.raises(ConfigError, match=r"certificate.yaml: serial: .* instrument MY123, .* on the bench is MY124"):
        used.require_serial("MY124")
    load_accuracy(DOCUMENT).require_serial("any")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"due_on": date(2026, 3, 1)}, "due_on is not after calibrated_on"),
        ({"ranges": [FINDING, FINDING]}, "stands twice"),
        ({"ranges": [{"range_a": 1.0}]}, "neither a gain nor an offset"),
        ({"ranges": [{"range_a": 1.0, "gain_error_ppm": 3}]}, "go together"),
        ({"ranges": [{"range_a": 1.0, "offset_error_a": 3}]}, "go together"),
        ({"ranges": []}, "ranges"),
        ({"k": 0}, "k"),
        ({"calibrated_on": date(2027, 2, 28), "due_on": date(2028, 1, 1)}, "is yet to come"),
        ({"operator": "me"}, "unknown key"),
    ],
)
def test_a_certificate_that_cannot_be_used_says_why(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_certificate(written(tmp_path, **changes), today=date(2027, 1, 1))


def test_a_range_that_the_instrument_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no figures for the 0\.5 A range"):
        accuracy(written(tmp_path, ranges=[FINDING | {"range_a": 0.5}]))
