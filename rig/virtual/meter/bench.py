"""One virtual meter put together: instrument, what it is talked to through, supply wire."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rig.virtual.meter.instrument import Order
from rig.virtual.meter.models import model_named
from rig.virtual.meter.supply import SupplyWire


class VirtualMeter:
    """A meter that is on: ``facts`` says where it answers ("visa": a resource name, or "port": a serial port)."""

    def __init__(
        self,
        *,
        model: str,
        accuracy: Path,
        supply: Path,
        seed: int,
        serial: str,
        supply_voltage_v: float,
        oddities: Mapping[str, Any] | None = None,
    ) -> None:
        oddities = oddities or {}
        order = Order(accuracy, np.random.default_rng(seed), serial, supply_voltage_v, oddities)
        self.instrument, self._front = model_named(model, oddities).build(order)
        self._supply = SupplyWire(self.instrument, supply)
        self.facts = self._front.facts

    def start(self) -> None:
        self._supply.start()
        self._front.start(self._supply.update)

    def close(self) -> None:
        self._front.close()
        self._supply.close()
