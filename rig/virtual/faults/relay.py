"""Faults of the network: rules of the relay in front of a board."""

from rig.virtual.faults.fault import Fault

RELAY_FAULTS: tuple[Fault, ...] = ()
