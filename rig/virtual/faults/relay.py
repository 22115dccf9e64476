"""Faults of what a board sends and hears: rules of the relay in front of a healthy one.

The rules are at the board's edge of the relay: no recording shows what the faulty board would not have sent, and what
it would not have heard is recorded as sent to it.
"""

from rig.virtual.faults.fault import Fault

_PATH_MTU_576_PAYLOAD_BYTES = 576 - 20 - 8
"""What an IPv4 packet of 576 bytes holds beside its header and UDP's."""

RELAY_FAULTS: tuple[Fault, ...] = (
    Fault(
        "last-flight-sent-once",
        "never repeats its ChangeCipherSpec and Finished for a client that missed them",
        "MR11",
        ("HS-03", "HS-18"),
        "relay",
        relay=({"direction": "to_client", "action": "drop", "match": {"flight": 6, "repeated": True}},),
    ),
    Fault(
        "large-datagrams-lost",
        "neither sends nor takes a packet of more than 576 bytes: large transfers hang",
        "MR13",
        ("WIR-07", "COAP-19", "COAP-21"),
        "relay",
        relay=tuple(
            {"direction": direction, "action": "drop", "match": {"longer_than_bytes": _PATH_MTU_576_PAYLOAD_BYTES}}
            for direction in ("to_client", "to_device")
        ),
    ),
    Fault(
        "handshake-dies-under-loss",
        "neither repeats a flight nor hears one that is repeated: a handshake with a loss in it is over",
        "MR14",
        ("HS-03", "HS-18", "HS-01"),
        "relay",
        relay=tuple(
            {"direction": direction, "action": "drop", "match": {"flight": flight, "repeated": True}}
            for direction, flight in (("to_client", 4), ("to_client", 6), ("to_device", 5))
        ),
    ),
    Fault(
        "notification-sent-once",
        "sends a confirmable notification once and never asks itself whether it was acknowledged",
        "MP24",
        ("COAP-11", "OBS-03"),
        "relay",
        relay=({"direction": "to_client", "action": "drop", "match": {"repeated": True, "coap": {"type": "CON"}}},),
    ),
    Fault(
        "reset-message-ignored",
        "does not look at Reset messages: goes on notifying an observer who refused",
        "MP11",
        ("OBS-02", "COAP-12"),
        "relay",
        relay=({"direction": "to_device", "action": "drop", "match": {"coap": {"type": "RST"}}},),
    ),
)
