"""What an N6781A is set to, and how its time intervals depend on the number of parameters that are measured."""

import math
from dataclasses import dataclass, field
from typing import Literal

Source = Literal["BUS", "EXT", "PIN1", "CURR1", "IMM"]

BASE_INTERVAL_S = 5.12e-6
COARSE_INTERVAL_S = 20.48e-6
LOG_INTERVAL_S = 102.4e-6
MAX_INTERVAL_S = 40_000.0
MAX_LOG_PERIOD_S = 60.0
MAX_POINTS = 512 * 1024
RANGES_A = (10e-6, 1e-3, 100e-3, 3.0)


@dataclass
class Sense:
    """What is measured, and on which range; scope and external data log have settings of their own."""

    current: bool = False
    voltage: bool = True
    current_min_max: bool = False
    voltage_min_max: bool = False
    range_a: float = RANGES_A[-1]
    seamless: bool = False

    @property
    def parameters(self) -> int:
        """Return how many values an interval gives."""
        currents = self.current * (3 if self.current_min_max else 1)
        return max(currents + self.voltage * (3 if self.voltage_min_max else 1), 1)


@dataclass
class Settings:
    """Defaults are those after *RST."""

    sense: Sense = field(default_factory=Sense)
    elog: Sense = field(default_factory=lambda: Sense(current=True, voltage=False))
    asked_interval_s: float = COARSE_INTERVAL_S
    points: int = 1024
    offset: int = 0
    asked_period_s: float = 0.1
    fine: bool = True
    source: Source = "BUS"
    log_source: Source = "BUS"
    level_a: float = 0.0
    level_rising: bool = True
    pin_function: str = "DIO"
    pin_rising: bool = True
    binary: bool = False
    little_endian: bool = False

    @property
    def resolution_s(self) -> float:
        """Return SENS:SWE:TINT:RES: RES20 or RES40."""
        return COARSE_INTERVAL_S if self.fine else 2 * COARSE_INTERVAL_S

    @property
    def least_interval_s(self) -> float:
        """Return 5.12 us for one parameter, 10.24 us for two, and the resolution for more."""
        return min(BASE_INTERVAL_S * self.sense.parameters, self.resolution_s)

    @property
    def interval_s(self) -> float:
        """Return the time from point to point: what was asked for, on the grid that holds there."""
        asked_s = max(self.asked_interval_s, self.least_interval_s)
        step_s = next(
            (s for s in (BASE_INTERVAL_S, 2 * BASE_INTERVAL_S) if asked_s <= 2 * s * (1 + 1e-9)), self.resolution_s
        )
        return max(_on_grid(asked_s, step_s), self.least_interval_s)

    @property
    def least_period_s(self) -> float:
        return LOG_INTERVAL_S * self.elog.parameters

    @property
    def period_s(self) -> float:
        """Return the time from row to row of the external data log."""
        return _on_grid(max(self.asked_period_s, self.least_period_s), self.resolution_s)


def _on_grid(value_s: float, step_s: float) -> float:
    return max(math.floor(value_s / step_s + 0.5), 1) * step_s
