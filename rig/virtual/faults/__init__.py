"""Faulty devices of the virtual bench, by name: what is wrong with each and which requirements it must turn red."""

from rig.virtual.faults.chip import CHIP_FAULTS
from rig.virtual.faults.device import DEVICE_FAULTS
from rig.virtual.faults.device_sessions import SESSION_FAULTS
from rig.virtual.faults.fault import Carrier, Fault
from rig.virtual.faults.firmware import FIRMWARE_FAULTS
from rig.virtual.faults.relay import RELAY_FAULTS

__all__ = ["FAULTS", "Carrier", "Fault", "fault_named"]

# The relay's first: they wait the longest, and whoever runs them all begins with them.
FAULTS = (*RELAY_FAULTS, *FIRMWARE_FAULTS, *CHIP_FAULTS, *DEVICE_FAULTS, *SESSION_FAULTS)


def fault_named(name: str) -> Fault | None:
    """Return the fault called *name*, or None where there is none."""
    return next((fault for fault in FAULTS if fault.name == name), None)
