"""Rohde & Schwarz NGU201 and NGM202: supplies that measure what they give, with FastLog over SCPI."""

from rig.virtual.meter.instrument import Order
from rig.virtual.meter.ngu.commands import Commands
from rig.virtual.meter.ngu.instrument import NGM202, NGU201, Instrument, Model
from rig.virtual.meter.server import Front, ScpiServer


def build_ngu201(order: Order) -> tuple[Instrument, Front]:
    """Return an NGU201 and the server in front of it. Its output is off and programmed to 0 V."""
    return _build(order, NGU201)


def build_ngm202(order: Order) -> tuple[Instrument, Front]:
    """Return an NGM202, the board on its first output, and the server in front of it."""
    return _build(order, NGM202)


def _build(order: Order, model: Model) -> tuple[Instrument, Front]:
    lost = frozenset(int(number) for number in order.oddities.get("lost_slots", ()))
    instrument = Instrument(model, order.draw(), order.rng, order.serial, lost)
    return instrument, ScpiServer(Commands(instrument), order.oddities)
