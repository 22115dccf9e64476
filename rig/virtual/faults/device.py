"""Faults of DTLS and CoAP behaviour: switches of the scripted device."""

from rig.virtual.faults.fault import Fault

DEVICE_FAULTS: tuple[Fault, ...] = ()
