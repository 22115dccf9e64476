"""The sleep floor: a current of microamperes, read on the narrowest range that is safe."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rig.clock import now_s
from rig.energy import Measurement, Waveform, mean_of_readings
from rig.meter.protocol import Meter

#: What a board may draw when it boots and transmits, in ampere.
AWAKE_A = 1.0
#: A range that is narrower by more than this is not judged from here: the offset of this one could hide what flows.
MAX_STEP = 100.0
#: The share of a range that the reading may take before that range is entered.
HEADROOM = 0.5
#: The same of an instrument that feeds the board: its ranges limit nothing, and too much costs a reading, not a reset.
FEEDING_HEADROOM = 0.8
#: The voltage that shunt and leads may take from a sleeping board.
MAX_BURDEN_V = 0.1
STEP_APERTURE_S = 0.01
STEP_READINGS = 10
APERTURE_S = 0.02
PILOT_READINGS = 10
MIN_READINGS = 50
#: So many times its own uncertainty may one half of the readings differ from the other, in a current that has settled.
DRIFT_FACTOR = 4.0
COVERAGE_FACTOR = 2.0


@dataclass(frozen=True)
class FloorStep:
    """One range on the way down: when it was read, its readings in ampere, which range is next, and why."""

    range_a: float
    readings_a: tuple[float, ...]
    decision: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Floor:
    """The readings of a quiet current, when they were taken (rig's clock), and how their range was found.

    At ``raised_s`` the range on which the board can wake, ``raised_to_a``, was in force again.
    """

    readings: Waveform
    steps: tuple[FloorStep, ...]
    start_s: float
    end_s: float
    raised_s: float
    raised_to_a: float

    @property
    def range_a(self) -> float:
        return self.readings.range_a

    def measurement(self, name: str) -> Measurement:
        """Return the mean current in ampere with its budget."""
        return mean_of_readings(name, self.readings)

    @property
    def settled(self) -> bool:
        """Return whether both halves of the readings tell the same current, give or take their spread."""
        first, second = np.array_split(self.readings.samples.astype(np.float64), 2)
        doubt_a = math.hypot(_standard_error(first), _standard_error(second))
        return abs(float(first.mean() - second.mean())) <= DRIFT_FACTOR * doubt_a


def board_range_a(meter: Meter) -> float | None:
    """Return the narrowest range on which the board can boot and transmit; None for a meter without fixed ranges."""
    ranges_a = meter.capabilities.ranges_a
    if not ranges_a:
        return None
    return next((range_a for range_a in ranges_a if range_a >= AWAKE_A), ranges_a[-1])


def waking_range_a(meter: Meter) -> float | None:
    """Return on which range to record a board that may wake; None: the meter ranges by itself, losing no sample."""
    return None if meter.capabilities.seamless else board_range_a(meter)


def measure_floor(meter: Meter, *, wanted: float, max_duration_s: float) -> Floor:
    """Measure the current of a sleeping board, and return to the range on which it can wake.

    Each range is chosen after readings on a wider one: the narrowest that holds them, their uncertainty included, with
    room to spare. So no range is overloaded, and the board keeps its supply. A meter without fixed ranges chooses for
    itself. On the last range it is read for as long as the readings' spread needs to fall below the share *wanted* of
    their mean (k = 2), a second at the least and *max_duration_s* at most. The caller sees to it that the board does
    not wake before this returns.

    Raises:
        CaptureInvalid: the current rose beyond the range while it was being measured.
        MeterError: the meter failed.
    """
    steps: list[FloorStep] = []
    awake_a = board_range_a(meter)
    try:
        chosen_a = None if awake_a is None else _step_down(meter, awake_a, steps)
        start_s = now_s()
        pilot = meter.read_current(range_a=chosen_a, aperture_s=APERTURE_S, count=PILOT_READINGS)
        # Not every meter takes a reading after the other: some need as long again for their own zero.
        count = _enough(pilot, wanted, round(max_duration_s / pilot.interval_s))
        readings = meter.read_current(range_a=chosen_a, aperture_s=APERTURE_S, count=count)
        end_s = now_s()
    finally:
        if awake_a is not None:
            meter.set_range(awake_a)
    return Floor(readings, tuple(steps), start_s, end_s, now_s(), awake_a or readings.range_a)


def _enough(pilot: Waveform, wanted: float, most: int) -> int:
    """Return how many readings like those of *pilot* have a mean that is known to *wanted* of itself."""
    readings = pilot.samples.astype(np.float64)
    goal_a = wanted * abs(float(readings.mean())) / COVERAGE_FACTOR
    needed = math.ceil((float(readings.std(ddof=1)) / goal_a) ** 2) if goal_a else most
    return min(max(needed, MIN_READINGS), most)


def _standard_error(readings: NDArray[np.float64]) -> float:
    return float(readings.std(ddof=1)) / math.sqrt(len(readings))


def _step_down(meter: Meter, range_a: float, steps: list[FloorStep]) -> float:
    """Return the narrowest range that may be entered from *range_a*, going there over those between."""
    while range_a > meter.capabilities.ranges_a[0]:
        start_s = now_s()
        probe = meter.read_current(range_a=range_a, aperture_s=STEP_APERTURE_S, count=STEP_READINGS)
        next_a, decision = _narrowest(meter, probe)
        readings_a = tuple(float(value) for value in probe.samples)
        steps.append(FloorStep(range_a, readings_a, decision, start_s, now_s()))
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
    headroom = FEEDING_HEADROOM if meter.capabilities.output else HEADROOM
    if highest_a > headroom * next_a:
        return f"up to {highest_a:.3g} A does not fit the {next_a:g} A range with room to spare"
    if meter.accuracy is None:
        return ""
    burden_v = highest_a * meter.accuracy.of_range(next_a, STEP_APERTURE_S).series_ohm
    return f"the {next_a:g} A range would take {burden_v:.3g} V from the board" if burden_v > MAX_BURDEN_V else ""
