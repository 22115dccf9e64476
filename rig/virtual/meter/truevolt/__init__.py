"""Keysight 34465A and 34470A (Truevolt), DC current, with the DIG and MEM options."""

from rig.virtual.meter.instrument import Order
from rig.virtual.meter.server import Front, ScpiServer
from rig.virtual.meter.truevolt.commands import Commands
from rig.virtual.meter.truevolt.instrument import Instrument

#: The 3 A jacks carry the board; the 10 A range uses jacks of its own, to which nothing is wired.
JACKS_A = 3.0


def build(order: Order) -> tuple[Instrument, Front]:
    """Return a 34465A and the server in front of it."""
    specimen = order.draw(jacks_a=JACKS_A)
    instrument = Instrument(specimen, order.rng, order.serial, order.supply_voltage_v)
    return instrument, ScpiServer(Commands(instrument), order.oddities)
