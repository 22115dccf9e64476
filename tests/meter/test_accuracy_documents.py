"""The accuracy documents that ship with the rig: every figure has its origin, every absent one its reason."""

import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml

from rig.energy import Waveform, mean_of_readings
from rig.meter import load_accuracy
from rig.meter.scpi.declaration import load_declaration

FOLDER = Path(str(files("rig.meter") / "accuracy"))
DOCUMENTS = sorted(FOLDER.glob("*.yaml"))
DRIVERS = sorted(path.stem for path in (FOLDER.parent / "instruments").glob("*.yaml"))
#: Where the documents are not called as the driver is.
DOCUMENTS_OF = {
    "keysight-34465a": ("keysight-34465a", "keysight-34470a"),
    "keysight-n6705c": ("keysight-n6781a",),
}
FIGURES = ("reading_ppm", "range_ppm")


def test_every_instrument_of_the_bench_has_a_document() -> None:
    assert {path.stem for path in DOCUMENTS} == {
        *("keysight-34465a", "keysight-34470a", "keithley-dmm6500", "keithley-dmm7510", "keysight-n6781a"),
        *("rohde-schwarz-ngu201", "rohde-schwarz-ngm202", "siglent-sdm3065x", "nordic-ppk2"),
        *("joulescope-js110", "joulescope-js220"),
    }


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_no_document_is_half_filled(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    accuracy = load_accuracy(path)
    filled = [line["range_a"] for line in content["ranges"] if any(name in line for name in FIGURES)]
    # Either the table was read, with its conditions and coverage, or none of it was.
    assert filled in ([], [line["range_a"] for line in content["ranges"]])
    assert bool(filled) == ("conditions" in content) == ("coverage" in content)
    assert "# Read" in text or "# Looked for:" in text
    assert "recalled" not in text.lower()
    for line in content["ranges"]:
        assert all(name in line for name in FIGURES) or not any(name in line for name in FIGURES)
        figures = accuracy.of_range(line["range_a"], 0.02)
        assert ("gain" in figures.not_obtained) == ("offset" in figures.not_obtained) == (not filled)
        assert "bench" in figures.not_obtained["series resistance"]
        for reason in figures.not_obtained.values():
            assert len(reason) > 20


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_document_has_every_range_of_its_driver(driver: str) -> None:
    declaration = load_declaration(driver)
    for name in DOCUMENTS_OF.get(driver, (driver,)):
        accuracy = load_accuracy(FOLDER / f"{name}.yaml")
        for range_a in declaration.ranges_a:
            assert accuracy.figures(range_a).range_a == range_a


def readings(path: Path, range_a: float, current_a: float) -> Waveform:
    samples = (current_a * (1 + 1e-5 * np.sin(np.arange(50)))).astype(np.float32)
    accuracy = (load_accuracy(path).of_range(range_a, 0.02),)
    return Waveform(samples=samples, interval_s=0.02, aperture_s=0.02, ranges_a=(range_a,), accuracy=accuracy)


def test_what_was_read_gives_a_floor_its_uncertainty() -> None:
    result = mean_of_readings("floor", readings(FOLDER / "siglent-sdm3065x.yaml", 200e-6, 5e-6))
    assert result.expanded_uncertainty is not None
    # 0.05 % of 5 uA and 0.005 % of 200 uA, rectangular; the spread is far below.
    expected = math.hypot(5e-6 * 500e-6, 200e-6 * 50e-6) / math.sqrt(3)
    assert result.expanded_uncertainty == pytest.approx(2 * expected, rel=0.05)


def test_what_was_not_read_gives_a_value_and_the_reason_why_nothing_can_be_judged_by_it() -> None:
    result = mean_of_readings("floor", readings(FOLDER / "keysight-34465a.yaml", 100e-6, 5e-6))
    assert result.value == pytest.approx(5e-6, rel=1e-4)
    assert result.expanded_uncertainty is None
    assert any("5991-1983EN page 15 could not be read" in reason for reason in result.reservations)
