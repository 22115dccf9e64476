"""Faults of what a board sends and hears: rules of the relay in front of a healthy one.

The rules are at the board's edge of the relay: no recording shows what the faulty board would not have sent, and what
it would not have heard is recorded as sent to it.
"""

from rig.virtual.faults.fault import Fault

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
        "hangs-at-mtu-576",
        "answers nobody for 4 s when a large answer was lost and is asked for again",
        "MR13",
        ("WIR-07",),
        "relay",
        relay=(
            {
                "direction": "to_device",
                "action": "hang",
                "value": 4,
                "match": {"repeated": True, "coap": {"type": "CON", "code": "0.01", "path": "/blob"}},
            },
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
