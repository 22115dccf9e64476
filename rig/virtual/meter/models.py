"""Which virtual instruments there are, by the name of the driver that the rig uses for them.

To add a family:

1. A module (or package) here with ``build(order) -> (instrument, front)``. The *instrument* is a subclass of
   ``VirtualInstrument``: it says what voltage is left for the board, and ``advance`` takes the samples that are due
   from its ``timeline``. ``Channel.read`` turns true currents into readings with the specimen's errors,
   ``ranges_followed`` says which range a seamless instrument was on, ``VoltageChannel.read`` does the voltage.
   The *front* is what the rig talks to: ``ScpiServer(commands, order.oddities)``, or anything with ``start``,
   ``close`` and ``facts`` (PPK2: ``{"port": "/dev/pts/7"}`` instead of ``{"visa": ...}``).
2. For SCPI: an instrument that also has ``status``, ``settings``, ``reconfigure`` and ``idle`` (see
   ``command_set.ScpiInstrument``), and a subclass of ``CommandSet`` that fills the table: ``_add_common``, then
   ``_number``, ``_choice``, ``_switch``, ``_command``, ``_query``, or ``_table.add(pattern, handler)`` for the rest.
   A handler returns the bytes of its answer (``block``, ``indefinite_block``), None, or a ``Wait``.
   ``scpi.channel_list`` reads ``(@1)``. Errors: ``raise ScpiError(code, detail)``.
3. ``accuracy-<driver>-virtual.yaml`` beside this file: a specification of the virtual instrument's own, that says so.
4. One line in ``MODELS``, with ``feeds`` where it is the board's supply. ``oddities`` names those that the config can
   provoke; ``late_reply`` every server can.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.errors import ConfigError
from rig.virtual.meter import keithley, n6705, ngu, ppk2, siglent, truevolt
from rig.virtual.meter.instrument import Order, VirtualInstrument
from rig.virtual.meter.server import Front

HERE = Path(__file__).parent
#: ``log_holds_s: 0.5``: the FIFO of the data log holds less than its 20 s.
#: ``lost_slots: [3]``: the third slot is overwritten before anybody can fetch it.
DATA_LOG = ("late_reply", "log_holds_s")
FASTLOG = ("late_reply", "lost_slots")


@dataclass(frozen=True)
class Model:
    """How one instrument is built, its accuracy document, and the oddities that its config may provoke.

    One that ``feeds`` the board is its supply, and off until the rig switches it on.
    """

    build: Callable[[Order], tuple[VirtualInstrument, Front]]
    accuracy: Path
    oddities: tuple[str, ...] = ("late_reply",)
    feeds: bool = False


MODELS: Mapping[str, Model] = {
    "keysight-34465a": Model(truevolt.build, HERE / "accuracy-34465a-virtual.yaml"),
    "keithley-dmm6500": Model(
        keithley.build_dmm6500, HERE / "accuracy-keithley-dmm6500-virtual.yaml", ("late_reply", "language")
    ),
    "keithley-dmm7510": Model(
        keithley.build_dmm7510, HERE / "accuracy-keithley-dmm7510-virtual.yaml", ("late_reply", "language")
    ),
    "nordic-ppk2": Model(
        ppk2.build,
        HERE / "accuracy-nordic-ppk2-virtual.yaml",
        ("lose", "tear", "stale_bytes", "disconnect_s", "metadata"),
        feeds=True,
    ),
    "keysight-n6705c": Model(n6705.build, HERE / "accuracy-keysight-n6705c-virtual.yaml", DATA_LOG, feeds=True),
    "rohde-schwarz-ngu201": Model(
        ngu.build_ngu201, HERE / "accuracy-rohde-schwarz-ngu201-virtual.yaml", FASTLOG, feeds=True
    ),
    "rohde-schwarz-ngm202": Model(
        ngu.build_ngm202, HERE / "accuracy-rohde-schwarz-ngm202-virtual.yaml", FASTLOG, feeds=True
    ),
    "siglent-sdm3065x": Model(siglent.build, HERE / "accuracy-siglent-sdm3065x-virtual.yaml"),
}


def model_named(name: str, oddities: Mapping[str, Any]) -> Model:
    """Return the model *name*.

    Raises:
        ConfigError: there is none, or it has none of these *oddities*.
    """
    model = MODELS.get(name)
    if model is None:
        raise ConfigError(f"no virtual instrument for the driver {name!r}; there are: {', '.join(MODELS)}")
    unknown = sorted(set(oddities) - set(model.oddities))
    if unknown:
        raise ConfigError(f"virtual {name} has no oddity {unknown[0]!r}; it has: {', '.join(model.oddities)}")
    return model
