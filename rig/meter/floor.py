"""The sleep floor: a current of microamperes, read on the lowest range that it is safe on."""

from dataclasses import dataclass
from itertools import pairwise

from rig.energy import Measurement, Waveform, mean_of_readings
from rig.meter.protocol import Meter

#: From wide to narrow. A range is entered only when the reading before it fits with room to spare.
RANGES_A = (1.0, 10e-3, 1e-3, 100e-6)
#: The share of a range that the reading may take before that range is entered.
HEADROOM = 0.5
#: The voltage that shunt and leads may take from a sleeping board.
MAX_BURDEN_V = 0.1
STEP_APERTURE_S = 0.01
STEP_READINGS = 10
APERTURE_S = 0.02
MIN_READINGS = 10


@dataclass(frozen=True)
class FloorStep:
    """One range on the way down, its readings in ampere and why the next range was or was not entered."""

    range_a: float
    readings_a: tuple[float, ...]
    decision: str


@dataclass(frozen=True)
class Floor:
    """The readings of a quiet current and how their range was found."""

    readings: Waveform
    steps: tuple[FloorStep, ...]

    @property
    def range_a(self) -> float:
        return self.readings.range_a

    def measurement(self, name: str) -> Measurement:
        """Return the mean current in ampere with its budget."""
        return mean_of_readings(name, self.readings)


def measure_floor(meter: Meter, *, duration_s: float, max_range_a: float = 1.0) -> Floor:
    """Measure the current of a sleeping board over *duration_s* and return to *max_range_a*.

    The range goes down step by step and stops where the reading, its uncertainty included, would not fit the next
    one: no range is overloaded, and the board keeps its supply. The caller sees to it that the board does not wake
    before this returns.

    Raises:
        CaptureInvalid: the current rose beyond the range while it was being measured.
        MeterError: the meter failed.
    """
    ranges_a = [range_a for range_a in RANGES_A if range_a <= max_range_a * (1 + 1e-9)]
    steps: list[FloorStep] = []
    try:
        chosen_a = _step_down(meter, ranges_a, steps)
        count = max(round(duration_s / APERTURE_S), MIN_READINGS)
        readings = meter.read_current(range_a=chosen_a, aperture_s=APERTURE_S, count=count)
    finally:
        meter.set_range(max_range_a)
    return Floor(readings, tuple(steps))


def _step_down(meter: Meter, ranges_a: list[float], steps: list[FloorStep]) -> float:
    for range_a, next_a in pairwise(ranges_a):
        probe = meter.read_current(range_a=range_a, aperture_s=STEP_APERTURE_S, count=STEP_READINGS)
        decision = _obstacle(meter, probe, next_a)
        readings_a = tuple(float(value) for value in probe.samples)
        steps.append(FloorStep(range_a, readings_a, decision or f"fits the {next_a:g} A range"))
        if decision:
            return range_a
    return ranges_a[-1]


def _obstacle(meter: Meter, probe: Waveform, next_a: float) -> str:
    """Return why the range *next_a* must not be entered after the readings *probe*; empty when it may."""
    highest_a = abs(probe.statistics(0, len(probe)).max_a)
    for figures in probe.accuracy:
        highest_a += 3 * (figures.offset_a + highest_a * figures.gain_rel)
    if highest_a > HEADROOM * next_a:
        return f"up to {highest_a:.3g} A does not fit the {next_a:g} A range with room to spare"
    if meter.accuracy is None:
        return ""
    burden_v = highest_a * meter.accuracy.of_range(next_a, STEP_APERTURE_S).series_ohm
    return f"the {next_a:g} A range would take {burden_v:.3g} V from the board" if burden_v > MAX_BURDEN_V else ""
