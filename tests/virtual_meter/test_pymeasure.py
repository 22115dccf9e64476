"""PyMeasure's own driver of the DMM6500, unchanged, on the virtual one."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pymeasure.instruments.keithley import KeithleyDMM6500

from rig.virtual.meter.bench import VirtualMeter
from rig.virtual.meter.models import MODELS

CURRENT_A = 5e-3


@pytest.fixture
def dmm(tmp_path: Path) -> Iterator[Any]:
    virtual = VirtualMeter(
        model="keithley-dmm6500",
        accuracy=MODELS["keithley-dmm6500"].accuracy,
        supply=tmp_path / "supply",
        seed=1,
        serial="P1",
        supply_voltage_v=3.3,
    )
    virtual.start()
    with closing(virtual):
        virtual.instrument.timeline.set_current(time.monotonic_ns(), CURRENT_A)
        dmm = KeithleyDMM6500(virtual.facts["visa"], visa_library="@py")
        with closing(dmm):
            yield dmm
            assert dmm.check_errors() == []


def test_it_finds_its_instrument(dmm: Any) -> None:
    assert dmm.id == "coaps-rig virtual bench,MODEL DMM6500,P1,1.7.12b"
    assert dmm.command_set == "SCPI"
    assert dmm.mode == "voltage"
    assert dmm.line_frequency == 50
    assert dmm.terminals_used == "FRONT"
    assert dmm.complete == "1"


def test_direct_current_is_configured_and_read(dmm: Any) -> None:
    dmm.measure_current(10e-3)
    assert dmm.mode == "current"
    assert dmm.current_range == dmm.range == 10e-3
    assert not dmm.auto_range_status()
    dmm.current_nplc = 0.5
    assert dmm.nplc == 0.5
    assert dmm.aperture == 0.01
    dmm.autozero_enabled = False
    assert not dmm.autozero_enabled
    assert dmm.current == pytest.approx(CURRENT_A, rel=2e-3)
    dmm.range = 0.5
    assert dmm.current_range == 1.0
    assert dmm.current == pytest.approx(CURRENT_A, abs=1e-3)
    dmm.autorange_enabled = True
    dmm.aperture = 2e-3
    assert dmm.current == pytest.approx(CURRENT_A, rel=2e-3)
    assert dmm.current_range == 10e-3


def test_relative_readings_and_the_filter(dmm: Any) -> None:
    dmm.measure_current(10e-3)
    dmm.current_nplc = 0.1
    acquired = dmm.acquire_relative()
    assert acquired == pytest.approx(CURRENT_A, rel=2e-3)
    dmm.relative_enabled = True
    assert dmm.current == pytest.approx(0.0, abs=2e-5)
    dmm.current_relative_enabled = False
    assert dmm.current == pytest.approx(CURRENT_A, rel=2e-3)
    assert dmm.enable_filter(count=5) == "1"
    assert dmm.disable_filter() == "0"


def test_the_buffer_is_read(dmm: Any) -> None:
    dmm.measure_current(10e-3)
    dmm.current_nplc = 0.1
    dmm.buffer_points = 1000
    assert dmm.buffer_points == 1000
    assert dmm.points_in_buffer == 0
    dmm.write(":SENS:COUN 5")
    assert dmm.current == pytest.approx(CURRENT_A, rel=2e-3)
    assert dmm.points_in_buffer == 5
    assert dmm.scanned_data(raw=True) == pytest.approx([CURRENT_A] * 5, rel=2e-3)
    dmm.data_format = "REAL"
    assert dmm.data_format == "REAL"


def test_every_function_display_and_reset(dmm: Any) -> None:
    for mode in dmm.MODES:
        dmm.mode = mode
        assert dmm.mode == mode
    dmm.measure_voltage(10)
    assert dmm.voltage == pytest.approx(0.0, abs=1e-3)  # nothing is wired to these jacks
    dmm.current_digits = 5
    assert dmm.current_digits == 5
    dmm.display_screen = "PROC"
    dmm.displayed_text("a line", "another; line")
    dmm.beep(1000, 0.1)
    dmm.trigger_single_autozero()
    dmm.reset()
    assert dmm.autorange_enabled


def test_its_errors_are_read(dmm: Any) -> None:
    dmm.write("NO:SUCH 1")
    code, text = dmm.next_error
    assert code == -113
    assert "Undefined header; NO:SUCH" in text
