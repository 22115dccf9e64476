"""Faults of the application: variants of the firmware's host build."""

from rig.virtual.faults.fault import Fault

FIRMWARE_FAULTS = (
    Fault(
        "plain-coap-open",
        "answers CoAP without DTLS on UDP port 5683",
        "MS5",
        ("WIR-01",),
        "firmware",
        firmware="plain-coap-open",
    ),
    Fault(
        "any-psk-identity",
        "accepts any PSK identity that comes with the right key",
        "MS1",
        ("PSK-03",),
        "firmware",
        firmware="any-psk-identity",
    ),
)
