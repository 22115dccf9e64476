"""The drivers, by the names that a bench file knows them by."""

from collections.abc import Callable
from typing import Literal

from rig.meter.accuracy import Accuracy
from rig.meter.protocol import Meter
from rig.meter.scpi.declaration import load_declaration
from rig.meter.scpi.meter import Output, ScpiMeter
from rig.meter.scpi.siglent import Siglent
from rig.meter.scpi.truevolt import Truevolt

ScpiDriver = Literal["keysight-34465a", "siglent-sdm3065x"]
Driver = ScpiDriver

SCPI_FAMILIES: dict[ScpiDriver, type[ScpiMeter]] = {"keysight-34465a": Truevolt, "siglent-sdm3065x": Siglent}


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
    return SCPI_FAMILIES[driver](address, load_declaration(driver), accuracy, on_errors, output)
