"""The router between the rig and the boards: what impairs the network and records it."""

from rig.formats.impairment import GilbertElliott, Impairment, ImpairmentError
from rig.router.capture import Capture, CapturedPacket
from rig.router.model import Counters, DirectionState, FlowState, Router, RouterError, RouterState
from rig.router.relay import RelayRouter

__all__ = [
    "Capture",
    "CapturedPacket",
    "Counters",
    "DirectionState",
    "FlowState",
    "GilbertElliott",
    "Impairment",
    "ImpairmentError",
    "RelayRouter",
    "Router",
    "RouterError",
    "RouterState",
]
