"""What every virtual instrument is, whatever its family: a supply of the board with a clock, and drawn errors."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rig.virtual.meter.specification import Specimen, draw_specimen
from rig.virtual.meter.timeline import Timeline

#: Readings are computed this long after their time, so that late messages of the board are still in order.
LAG_NS = 20_000_000


@dataclass(frozen=True)
class Order:
    """What somebody who builds an instrument is given."""

    accuracy: Path
    rng: np.random.Generator
    serial: str
    supply_voltage_v: float
    oddities: Mapping[str, Any]

    def draw(self, *, jacks_a: float = float("inf")) -> Specimen:
        """Draw the specimen; ranges above *jacks_a* use jacks of their own, to which nothing is wired."""
        return draw_specimen(self.accuracy, self.rng, jacks_a=jacks_a)


class VirtualInstrument(ABC):
    """One virtual instrument. Every public method holds ``lock`` or is called by one that does."""

    def __init__(
        self,
        specimen: Specimen,
        rng: np.random.Generator,
        serial: str,
        supply_voltage_v: float,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.lock = threading.RLock()
        self.serial = serial
        self.timeline = Timeline()
        self.now_ns = now_ns
        self._specimen = specimen
        self._rng = rng
        self._supply_voltage_v = supply_voltage_v

    @abstractmethod
    def board_voltage_v(self) -> float:
        """Return the voltage at the board's supply pins now (0 where the output is off)."""

    @abstractmethod
    def advance(self) -> None:
        """Take every sample that is due by now less ``LAG_NS``, and drop what the timeline need not keep.

        It takes the lock itself: the clockwork calls it every 20 ms.
        """
