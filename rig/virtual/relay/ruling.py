"""Rules carried out: each datagram is taken apart once, and the first rule that acts on it decides."""

import heapq
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rig.dtls.keyring import Keyring
from rig.formats.packet_rule import Direction, PacketRule
from rig.virtual.relay.inspection import Inspection

Client = TypeVar("Client")


@dataclass
class _Conversation:
    """One client's: what was seen of it, and how many datagrams matched each rule."""

    inspection: Inspection
    matched: list[int]


class Ruling(Generic[Client]):
    """Takes datagrams in and hands them to *to_device* or *to_client*, which tell whether they could send."""

    def __init__(self, to_device: Callable[[Client, bytes], bool], to_client: Callable[[Client, bytes], bool]) -> None:
        self._onward: dict[Direction, Callable[[Client, bytes], bool]] = {
            "to_device": to_device,
            "to_client": to_client,
        }
        self._queue: list[tuple[int, int, Direction, Client, bytes]] = []
        self._serial = 0
        self.configure((), {})

    def configure(self, rules: Sequence[PacketRule], psks: Mapping[bytes, bytes]) -> None:
        """Put *rules* in place of the former ones; *psks* open what they look into, keys by identity.

        Counts begin anew. What is in delay keeps its time.
        """
        self._rules = tuple(rules)
        self._keyring = Keyring(dict(psks))
        self._matched = [0] * len(self._rules)
        self._acted = [0] * len(self._rules)
        self._hangs_until_ns = 0
        self._conversations: weakref.WeakKeyDictionary[Client, _Conversation] = weakref.WeakKeyDictionary()

    def purge(self) -> None:
        """Drop what is in delay."""
        self._queue.clear()

    def state(self) -> list[dict[str, Any]]:
        """Return each rule with the datagrams that matched it and those that it acted on."""
        rows = zip(self._rules, self._matched, self._acted, strict=True)
        return [{"rule": rule.to_dict(), "matched": matched, "acted": acted} for rule, matched, acted in rows]

    def offer(self, now_ns: int, direction: Direction, client: Client, payload: bytes) -> bool:
        """Take one datagram in; False only where it was to be sent at once and could not be."""
        if not self._rules:
            return self._onward[direction](client, payload)
        if now_ns < self._hangs_until_ns:
            return True
        rule = self._rule_for(direction, client, payload)
        if rule is None:
            return self._onward[direction](client, payload)
        if rule.action == "hang":
            self._hangs_until_ns = now_ns + _nanoseconds(rule)
            return True
        if rule.action == "delay":
            self._serial += 1
            heapq.heappush(self._queue, (now_ns + _nanoseconds(rule), self._serial, direction, client, payload))
            return True
        return all(self._onward[direction](client, each) for each in _altered(rule, payload))

    def release(self, now_ns: int) -> None:
        """Send everything whose delay is over."""
        while self._queue and self._queue[0][0] <= now_ns:
            _, _, direction, client, payload = heapq.heappop(self._queue)
            self._onward[direction](client, payload)

    @property
    def next_due_ns(self) -> int | None:
        """When `release` has work next, or None."""
        return self._queue[0][0] if self._queue else None

    def _rule_for(self, direction: Direction, client: Client, payload: bytes) -> PacketRule | None:
        conversation = self._conversations.get(client)
        if conversation is None:
            conversation = _Conversation(Inspection(self._keyring), [0] * len(self._rules))
            self._conversations[client] = conversation
        content = conversation.inspection.look(direction == "to_device", payload)
        acting = None
        for number, rule in enumerate(self._rules):
            if rule.direction != direction or not content.fits(rule.match):
                continue
            self._matched[number] += 1
            conversation.matched[number] += 1
            if acting is None and rule.acts_on(conversation.matched[number]):
                self._acted[number] += 1
                acting = rule
        return acting


def _nanoseconds(rule: PacketRule) -> int:
    assert rule.value is not None
    return round(rule.value * 1e9)


def _altered(rule: PacketRule, payload: bytes) -> list[bytes]:
    """Return what is sent in the place of *payload* by a rule without a time."""
    if rule.action == "drop":
        return []
    assert isinstance(rule.value, int)
    if rule.action == "duplicate":
        return [payload] * (1 + rule.value)
    if rule.action == "truncate":
        return [payload[: rule.value]]
    return [_flipped(payload, rule.value)]


def _flipped(payload: bytes, place: int) -> bytes:
    """Invert the lowest bit of one byte; a place outside the datagram is its nearest end."""
    if not payload:
        return payload
    damaged = bytearray(payload)
    damaged[max(-len(payload), min(place, len(payload) - 1))] ^= 1
    return bytes(damaged)
