"""The SDM3065X through the meter protocol, against its virtual instrument: slow readings and nothing else.

Few tests with much in each: opening this instrument takes four seconds, most of them its change of function.
"""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rig.energy import mean_of_readings
from rig.meter import CaptureInvalid, Meter, MeterError, measure_floor
from rig.meter.drivers import Driver
from rig.meter.visa import VisaSession


@pytest.fixture
def driver() -> Driver:
    return "siglent-sdm3065x"


def test_a_sleeping_board_is_read_with_its_uncertainty(meter: Meter, board: Any) -> None:
    board.current(0.0)
    zero = meter.zero([200e-6])[200e-6]
    assert 0 < abs(zero.mean_a) < 200e-6 * 80e-6
    board.current(5e-6)
    readings = meter.read_current(range_a=200e-6, aperture_s=0.02, count=20)
    assert len(readings) == 20
    assert readings.aperture_s == 0.02
    assert readings.interval_s == 0.04
    assert readings.ranges_a == (200e-6,)
    result = mean_of_readings("sleep", readings)
    assert result.expanded_uncertainty is not None
    assert result.value == pytest.approx(5e-6, abs=result.expanded_uncertainty)
    assert result.value == pytest.approx(5e-6, rel=1e-3, abs=4 * zero.standard_uncertainty_a)
    floor = measure_floor(meter, wanted=0.01, max_duration_s=1.0)
    assert floor.range_a == 200e-6
    assert [step.range_a for step in floor.steps] == [2.0, 20e-3]
    assert floor.measurement("sleep").value == pytest.approx(5e-6, abs=result.expanded_uncertainty)
    assert meter.errors == ()


def test_it_says_that_it_cannot_digitize_and_refuses_what_it_has_not(meter: Meter, board: Any, tmp_path: Path) -> None:
    board.current(0.3)
    able = meter.capabilities
    assert able.ranges_a == (200e-6, 2e-3, 20e-3, 200e-3, 2.0)
    assert able.min_interval_s >= 0.02
    assert able.triggers == ("immediate",)
    assert [able.seamless, able.output, able.voltage] == [False] * 3
    path = tmp_path / "x.f32"
    with (
        pytest.raises(MeterError, match=r"meter TCPIP.*Siglent SDM3065X cannot take a sample every 2e-05 s"),
        meter.capture(range_a=2.0, interval_s=20e-6, duration_s=0.1, path=path),
    ):
        pass
    assert not path.exists()
    for range_a, aperture_s, reason in (
        (1.0, 0.02, "has no 1 A range"),
        (2.0, 0.03, "has no aperture of 0.03 s"),
        (2.0, 1e-4, "less than its 0.02 s"),
    ):
        with pytest.raises(MeterError, match=reason):
            meter.read_current(range_a=range_a, aperture_s=aperture_s, count=3)
    settings = meter.configure(range_a=200e-3, interval_s=0.4)
    assert (settings.range_a, settings.interval_s, settings.aperture_s) == (200e-3, 0.4, 0.2)
    meter.set_range(2.0)
    # The board has had its supply all the time: through the opening, the refusals and the changes of range.
    assert min(board.voltages()) > 2.9


def test_readings_are_invalid_when_it_left_its_range_or_somebody_changed_its_function(
    meter: Meter, virtual: Any, board: Any
) -> None:
    board.current(5e-4)
    with pytest.raises(CaptureInvalid, match=r"on its 0.002 A range now.*5 readings beyond the range"):
        meter.read_current(range_a=200e-6, aperture_s=0.02, count=5)
    assert len(meter.read_current(range_a=2e-3, aperture_s=0.02, count=5)) == 5

    def meddle() -> None:
        time.sleep(0.3)
        with VisaSession(virtual.visa, timeout_s=8.0) as somebody:
            somebody.command("meddling", "ABOR", "CONF:VOLT:DC")

    thread = threading.Thread(target=meddle)
    thread.start()
    with pytest.raises(CaptureInvalid, match=r"does not measure DC current any more.* readings instead of 30"):
        meter.read_current(range_a=2e-3, aperture_s=0.02, count=30)
    thread.join()
