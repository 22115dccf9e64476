"""The router between the rig and the boards: what impairs the network and records it."""

from rig.formats.impairment import GilbertElliott, Impairment, ImpairmentError
from rig.formats.packet_rule import CoapMatch, Match, PacketRule, PacketRuleError
from rig.router.capture import Capture, CapturedPacket, read_capture
from rig.router.model import Counters, DirectionState, FlowState, Router, RouterError, RouterState, RuleState
from rig.router.relay import RelayRouter

__all__ = [
    "Capture",
    "CapturedPacket",
    "CoapMatch",
    "Counters",
    "DirectionState",
    "FlowState",
    "GilbertElliott",
    "Impairment",
    "ImpairmentError",
    "Match",
    "PacketRule",
    "PacketRuleError",
    "RelayRouter",
    "Router",
    "RouterError",
    "RouterState",
    "RuleState",
    "read_capture",
]
