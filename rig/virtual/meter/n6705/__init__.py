"""Keysight N6705C with an N6781A source measure unit in slot 1; the other slots are empty."""

from rig.virtual.meter.instrument import Order
from rig.virtual.meter.n6705.commands import Commands
from rig.virtual.meter.n6705.instrument import Instrument
from rig.virtual.meter.n6705.sampling import LOG_HOLDS_S
from rig.virtual.meter.server import Front, ScpiServer


def build(order: Order) -> tuple[Instrument, Front]:
    """Return an N6705C and the server in front of it. Its output is off and programmed to 0 V, as after power on."""
    holds_s = float(order.oddities.get("log_holds_s", LOG_HOLDS_S))
    instrument = Instrument(order.draw(), order.rng, order.serial, holds_s)
    return instrument, ScpiServer(Commands(instrument), order.oddities)
