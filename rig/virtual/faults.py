"""Faulty devices of the virtual bench, by name: what is wrong with each and which requirements it must turn red."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fault:
    """A device that is wrong on purpose.

    ``firmware`` names the variant of the application that is flashed; ``board`` are settings of the simulated board
    itself (its electrical faults).
    """

    name: str
    title: str
    turns_red: tuple[str, ...]
    firmware: str | None = None
    board: dict[str, float] = field(default_factory=dict)


FAULTS = (
    Fault(
        "plain-coap-open",
        "answers CoAP without DTLS on UDP port 5683",
        ("WIR-01",),
        firmware="plain-coap-open",
    ),
    Fault(
        "any-psk-identity",
        "accepts any PSK identity that comes with the right key",
        ("PSK-03",),
        firmware="any-psk-identity",
    ),
    Fault(
        "deep-sleep-800ua",
        "draws 800 uA in deep sleep: a part of the board stays powered",
        ("ENE-04",),
        board={"sleep_current_a": 800e-6},
    ),
    Fault(
        "deep-sleep-12ua",
        "draws 12 uA in deep sleep, a little above the limit of 10 uA",
        ("ENE-04",),
        board={"sleep_current_a": 12e-6},
    ),
)


def fault_named(name: str) -> Fault | None:
    """Return the fault called *name*, or None where there is none."""
    return next((fault for fault in FAULTS if fault.name == name), None)
