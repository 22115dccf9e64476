"""What an instrument that feeds the board measures: the current that it gives and the voltage at its terminals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.output import Output
from rig.virtual.meter.ranging import Ammeter
from rig.virtual.meter.specification import VoltageChannel


@dataclass(frozen=True)
class Probes:
    """What measures: of the output, with the errors of this specimen."""

    output: Output
    ammeter: Ammeter
    voltmeter: VoltageChannel
    rng: np.random.Generator

    def read(
        self, base_ns: int, starts_ns: NDArray[np.float64], aperture_s: float, host_ns: float
    ) -> NDArray[np.float64]:
        """Return current and voltage readings, shape (2, n); *host_ns* is a second of the instrument's clock."""
        given = self.output.deliver(base_ns, starts_ns, aperture_s * host_ns)
        current = self.ammeter.read(given.current_a, aperture_s)
        return np.array((current, self.voltmeter.read(given.voltage_v, aperture_s, self.rng)))
