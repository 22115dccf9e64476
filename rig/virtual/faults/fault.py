"""What a faulty device of the virtual bench is, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Carrier = Literal["firmware", "chip", "relay", "device"]
Profile = Literal["lab", "release"]


@dataclass(frozen=True)
class Fault:
    """A device that is wrong on purpose.

    name: in kebab-case, says what is wrong. title: the same in one line. seed: the seeded fault of the reference list,
    empty where the list has none.
    turns_red: one to three requirement ids; the first must turn red, and no other than these may.
    carrier: what is wrong on the bench. firmware: a variant of the host build. board: settings of the simulated
    board. bench: what is wrong with all boards together: ``boards``, how many there are at least, and ``one_key``,
    whether they share it. device: switches of the scripted device. relay: rules of the relay. declares: what the
    maker's declaration says differently for this device, merged deeply. profile: the one under which the fault counts.
    """

    name: str
    title: str
    seed: str
    turns_red: tuple[str, ...]
    carrier: Carrier
    firmware: str | None = None
    board: Mapping[str, Any] = field(default_factory=dict)
    bench: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    relay: tuple[Mapping[str, Any], ...] = ()
    declares: Mapping[str, Any] = field(default_factory=dict)
    profile: Profile = "lab"
