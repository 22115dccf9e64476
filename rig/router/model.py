"""What every router does for the rig, whichever machine does it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rig.errors import BenchError
from rig.formats.impairment import Impairment
from rig.formats.packet_rule import PacketRule
from rig.formats.udp_packet import Endpoint
from rig.router.capture import Capture


class RouterError(BenchError):
    """The router cannot be reached, or does not do what it was told."""


@dataclass(frozen=True)
class Counters:
    """Packets of one direction since the router started: take differences.

    offered + duplicated = passed + dropped + queued. Loss and an overflowing queue are both ``dropped``.
    """

    offered: int
    passed: int
    dropped: int
    duplicated: int
    corrupted: int
    reordered: int
    queued: int


@dataclass(frozen=True)
class DirectionState:
    """One direction: the impairment in force, with the seed drawn if none was given, and what it has done."""

    impairment: Impairment
    counters: Counters


@dataclass(frozen=True)
class FlowState:
    """One client as the router knows it: its own endpoint, the one the board sees, and the board's."""

    client: Endpoint
    at_board: Endpoint
    board: Endpoint


@dataclass(frozen=True)
class RuleState:
    """A rule in force, with the datagrams that matched it and those that it acted on since it was set."""

    rule: PacketRule
    matched: int
    acted: int


@dataclass(frozen=True)
class RouterState:
    """What a router read back. ``refused`` counts ICMP port-unreachable from boards, ``overflowed`` packets that the
    router itself was too slow for: the latter should be 0 in every run that is judged."""

    to_device: DirectionState
    to_client: DirectionState
    refused: int
    overflowed: int
    flows: tuple[FlowState, ...]
    rules: tuple[RuleState, ...]


class Router(Protocol):
    """A router as tests use it. Entering connects; leaving clears the impairments."""

    def __enter__(self) -> "Router":
        """Connect."""

    def __exit__(self, *error: object) -> None:
        """Clear the impairments and disconnect."""

    def endpoint_for(self, host: str, port: int) -> Endpoint:
        """Return where a client reaches the board's UDP endpoint *host*, *port* through this router."""

    def impair(self, to_device: Impairment | None = None, to_client: Impairment | None = None) -> RouterState:
        """Put impairments in force and read them back; None leaves that direction as it is.

        Raises `RouterError` when the router then has something else in force than it was asked for.
        """

    def impaired(
        self, to_device: Impairment | None = None, to_client: Impairment | None = None
    ) -> AbstractContextManager[RouterState]:
        """Impair within a ``with`` block; leaving it restores what was in force before."""

    def rules(self, rules: Sequence[PacketRule], psks: Mapping[bytes, bytes] | None = None) -> RouterState:
        """Put *rules* in place of the former ones and read them back; the first that acts on a datagram decides.

        They come before the impairment. *psks*, keys by identity, let rules look into protected records. Raises
        `RouterError` where the router has other rules in force then, or cannot tell packets apart at all.
        """

    def read(self) -> RouterState:
        """Return the impairments and rules in force and the counters."""

    def clear(self) -> None:
        """Take all impairments and rules off, with the packets that are in delay."""

    def capture(self, path: Path) -> AbstractContextManager[Capture]:
        """Record both sides of the router into the pcapng file *path*, which is complete up to now at any time."""
