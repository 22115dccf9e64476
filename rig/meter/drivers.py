"""The drivers, by the names that a bench file knows them by."""

from collections.abc import Callable
from typing import Literal

from rig.meter.accuracy import Accuracy
from rig.meter.ppk2.driver import Ppk2
from rig.meter.protocol import Meter
from rig.meter.scpi.declaration import load_declaration
from rig.meter.scpi.keithley import Keithley
from rig.meter.scpi.meter import Output, ScpiMeter
from rig.meter.scpi.n6705 import N6705
from rig.meter.scpi.ngu import Ngu
from rig.meter.scpi.siglent import Siglent
from rig.meter.scpi.truevolt import Truevolt

ScpiDriver = Literal[
    "keysight-34465a",
    "keithley-dmm6500",
    "keithley-dmm7510",
    "keysight-n6705c",
    "rohde-schwarz-ngu201",
    "rohde-schwarz-ngm202",
    "siglent-sdm3065x",
]
Driver = Literal[ScpiDriver, "nordic-ppk2"]

SCPI_FAMILIES: dict[ScpiDriver, type[ScpiMeter]] = {
    "keysight-34465a": Truevolt,
    "keithley-dmm6500": Keithley,
    "keithley-dmm7510": Keithley,
    "keysight-n6705c": N6705,
    "rohde-schwarz-ngu201": Ngu,
    "rohde-schwarz-ngm202": Ngu,
    "siglent-sdm3065x": Siglent,
}


def open_meter(
    driver: Driver,
    address: str,
    accuracy: Accuracy | None,
    on_errors: Callable[[list[str]], None] | None = None,
    output: Output | None = None,
) -> Meter:
    """Return the meter at *address*, to be entered; see :class:`rig.meter.scpi.meter.ScpiMeter`.

    *address* is a VISA resource name, or a serial port where the driver is for an instrument that has one.
    """
    if driver == "nordic-ppk2":
        return Ppk2(address, accuracy, on_errors, output)
    return SCPI_FAMILIES[driver](address, load_declaration(driver), accuracy, on_errors, output)
