"""One virtual meter put together: instrument, SCPI server, supply wire."""

from pathlib import Path

import numpy as np

from rig.virtual.meter.instrument import Instrument
from rig.virtual.meter.server import ScpiServer
from rig.virtual.meter.specification import draw_specimen
from rig.virtual.meter.supply import SupplyWire


class VirtualMeter:
    """A meter that is on: ``visa`` is the resource name under which it answers."""

    def __init__(self, *, accuracy: Path, supply: Path, seed: int, serial: str, supply_voltage_v: float) -> None:
        rng = np.random.default_rng(seed)
        specimen = draw_specimen(accuracy, rng)
        self.instrument = Instrument(specimen, rng, serial, supply_voltage_v)
        self._supply = SupplyWire(self.instrument, supply)
        self._server = ScpiServer(self.instrument, self._supply.update)
        self.visa = f"TCPIP::127.0.0.1::{self._server.port}::SOCKET"

    def start(self) -> None:
        self._supply.start()
        self._server.start()

    def close(self) -> None:
        self._server.close()
        self._supply.close()
