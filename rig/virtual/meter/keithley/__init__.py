"""Keithley DMM6500 and DMM7510 with the command set SCPI: reading buffers, trigger model, digitized current."""

from rig.virtual.meter.instrument import Order
from rig.virtual.meter.keithley.commands import Commands
from rig.virtual.meter.keithley.instrument import Instrument
from rig.virtual.meter.server import Front, ScpiServer

#: The front jacks carry the board; the 10 A range is on the rear.
JACKS_A = 3.0


def build_dmm6500(order: Order) -> tuple[Instrument, Front]:
    """Return a DMM6500 and the server in front of it."""
    return _build(order, "DMM6500")


def build_dmm7510(order: Order) -> tuple[Instrument, Front]:
    """Return a DMM7510 and the server in front of it."""
    return _build(order, "DMM7510")


def _build(order: Order, model: str) -> tuple[Instrument, Front]:
    specimen = order.draw(jacks_a=JACKS_A)
    instrument = Instrument(specimen, order.rng, order.serial, order.supply_voltage_v)
    commands = Commands(instrument, model, order.oddities.get("language", "SCPI"))
    # One controlling interface at a time: who comes second waits until the first has gone.
    return instrument, ScpiServer(commands, order.oddities, exclusive=True)
