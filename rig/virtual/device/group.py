"""Group communication (RFC 7252 section 8): requests to "All CoAP Nodes", answered after a leisure. Without I/O."""

import random

from rig.dtls.coap import GET, Message, Type, decode
from rig.dtls.session import Endpoint
from rig.dtls.wire import DecodeError
from rig.virtual.device.misbehaviour import Misbehaviour
from rig.virtual.device.service import Service, succeeded

ALL_COAP_NODES = "224.0.1.187"
PORT = 5683
DEFAULT_LEISURE_S = 5.0

_NO_SESSION = 0


class Group:
    """The device as a member of a group."""

    def __init__(self, wrong: Misbehaviour, draws: random.Random, service: Service) -> None:
        self._wrong = wrong
        self._draws = draws
        self._service = service
        self._next_id = draws.randrange(0x10000)
        self._waiting: list[tuple[float, Endpoint, bytes]] = []

    @property
    def deadline_s(self) -> float:
        """When `expire` has something to send; infinity if nothing waits."""
        return min((due_s for due_s, _, _ in self._waiting), default=float("inf"))

    def receive(self, now_s: float, peer: Endpoint, data: bytes) -> None:
        """Take a datagram to the group in. Nothing that arrives raises."""
        try:
            request = decode(data)
        except DecodeError:
            return
        if request.type != Type.NON or request.code != GET:
            return
        resource = self._service.resource_of(request)
        if not self._wrong.multicast_errors and (resource is None or not resource.multicast):
            return
        response = self._service.serve(now_s, _NO_SESSION, request)
        if not succeeded(response) and not self._wrong.multicast_errors:
            return
        self._next_id = (self._next_id + 1) % 0x10000
        answer = Message(Type.NON, response.code, self._next_id, request.token, response.options, response.payload)
        leisure_s = 0.0 if self._wrong.multicast_at_once else self._draws.uniform(0, DEFAULT_LEISURE_S)
        self._waiting.append((now_s + leisure_s, peer, answer.encode()))

    def expire(self, now_s: float) -> list[tuple[Endpoint, bytes]]:
        """Return the answers whose time has come."""
        due = [(peer, data) for due_s, peer, data in self._waiting if due_s <= now_s]
        self._waiting = [each for each in self._waiting if each[0] > now_s]
        return due
