"""The sleep floor: a current of microamperes, read on the narrowest range that is safe."""

from dataclasses import dataclass

from rig.energy import Measurement, Waveform, mean_of_readings
from rig.meter.protocol import Meter

#: What a board may draw when it wakes: the measurement begins on the narrowest range that holds it, and ends there.
AWAKE_A = 1.0
#: A range that is narrower by more than this is not judged from here: the offset of this one could hide what flows.
MAX_STEP = 100.0
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


def measure_floor(meter: Meter, *, duration_s: float) -> Floor:
    """Measure the current of a sleeping board over *duration_s*, and return to a range on which it may wake.

    Each range is chosen after a reading on a wider one: the narrowest that holds the reading, its uncertainty included,
    with room to spare. So no range is overloaded, and the board keeps its supply. A meter without fixed ranges chooses
    for itself. The caller sees to it that the board does not wake before this returns.

    Raises:
        CaptureInvalid: the current rose beyond the range while it was being measured.
        MeterError: the meter failed.
    """
    count = max(round(duration_s / APERTURE_S), MIN_READINGS)
    ranges_a = meter.capabilities.ranges_a
    if not ranges_a:
        return Floor(meter.read_current(range_a=None, aperture_s=APERTURE_S, count=count), ())
    awake_a = next((range_a for range_a in ranges_a if range_a >= AWAKE_A), ranges_a[-1])
    steps: list[FloorStep] = []
    try:
        chosen_a = _step_down(meter, awake_a, steps)
        readings = meter.read_current(range_a=chosen_a, aperture_s=APERTURE_S, count=count)
    finally:
        meter.set_range(awake_a)
    return Floor(readings, tuple(steps))


def _step_down(meter: Meter, range_a: float, steps: list[FloorStep]) -> float:
    """Return the narrowest range that may be entered from *range_a*, going there over those between."""
    while range_a > meter.capabilities.ranges_a[0]:
        probe = meter.read_current(range_a=range_a, aperture_s=STEP_APERTURE_S, count=STEP_READINGS)
        next_a, decision = _narrowest(meter, probe)
        steps.append(FloorStep(range_a, tuple(float(value) for value in probe.samples), decision))
        if next_a >= range_a:
            break
        range_a = next_a
    return range_a


def _narrowest(meter: Meter, probe: Waveform) -> tuple[float, str]:
    """Return the narrowest range that may be entered after the readings *probe*, and why no narrower one."""
    least_a = probe.range_a / MAX_STEP * (1 - 1e-6)
    narrower = [range_a for range_a in meter.capabilities.ranges_a if least_a <= range_a < probe.range_a]
    decision = "no narrower range is judged from here"
    for next_a in narrower:
        obstacle = _obstacle(meter, probe, next_a)
        if not obstacle:
            return next_a, f"fits the {next_a:g} A range; {decision}"
        decision = obstacle
    return probe.range_a, decision


def _obstacle(meter: Meter, probe: Waveform, next_a: float) -> str:
    """Return why the range *next_a* must not be entered after the readings *probe*; empty when it may."""
    statistics = probe.statistics(0, len(probe))
    highest_a = max(abs(statistics.min_a), abs(statistics.max_a))
    for figures in probe.accuracy:
        highest_a += 3 * (figures.offset_a + highest_a * figures.gain_rel)
    if highest_a > HEADROOM * next_a:
        return f"up to {highest_a:.3g} A does not fit the {next_a:g} A range with room to spare"
    if meter.accuracy is None:
        return ""
    burden_v = highest_a * meter.accuracy.of_range(next_a, STEP_APERTURE_S).series_ohm
    return f"the {next_a:g} A range would take {burden_v:.3g} V from the board" if burden_v > MAX_BURDEN_V else ""
