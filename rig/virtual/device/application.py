"""The device's CoAP endpoint over DTLS: a message layer for each session, requests, notifications. Without I/O.

Sessions have numbers, from 1, because an address may change and may come back.
"""

import random
from dataclasses import dataclass, replace

from rig.dtls.coap import GET, Message, OptionNumber, Type, uint
from rig.virtual.device.answers import Response
from rig.virtual.device.message_layer import MessageLayer
from rig.virtual.device.misbehaviour import Misbehaviour
from rig.virtual.device.observe import DEREGISTER, REGISTER, Observation, Observations
from rig.virtual.device.resources import Status
from rig.virtual.device.service import Service, succeeded

BAD_OPTION = 0x82
_STANDING_VALUE = 7


@dataclass(frozen=True)
class Outgoing:
    """*data* is to be sent to the client of this session: protected, or in clear, which is never right."""

    client: int
    data: bytes
    clear: bool = False


class Application:
    """Serves the sessions that it is told of. Nothing that arrives raises anything but `Crash`."""

    def __init__(self, wrong: Misbehaviour, draws: random.Random, status: Status) -> None:
        self.duplicates = 0
        self.leaked_bytes = 0
        self.observations = Observations()
        self.service = Service(wrong, status, self.observations.changed)
        self._wrong = wrong
        self._draws = draws
        self._layers: dict[int, MessageLayer] = {}
        self._clear: list[Outgoing] = []

    @property
    def deadline_s(self) -> float:
        """When `expire` has something to do."""
        deadlines = [layer.deadline_s for layer in self._layers.values()]
        return min([self.service.sensor.due_s, *(each for each in deadlines if each is not None)])

    def connect(self, client: int) -> None:
        """A new session has this number."""
        self._layers[client] = MessageLayer(self._wrong, self._draws, self._count_duplicate)

    def disconnect(self, client: int) -> None:
        """The session is over, and its observations with it."""
        if not self._wrong.observations_outlive_session:
            self.forget(client)

    def forget(self, client: int) -> None:
        """Drop everything that has to do with a session."""
        self.service.forget(client)
        self.observations.forget(client)
        self._layers.pop(client, None)

    def receive(self, now_s: float, client: int, data: bytes) -> list[Outgoing]:
        """Take a message in; return what is to be sent, to this client and to others."""
        layer = self._layers.get(client)
        if layer is None:
            return []
        request = layer.receive(now_s, data)
        if request is not None:
            self._serve(now_s, client, layer, request)
        return self._collect(now_s)

    def expire(self, now_s: float) -> list[Outgoing]:
        """Do what is due by *now_s*."""
        if self.service.sensor.tick(now_s):
            self.observations.changed(self.service.sensor.path)
        for layer in self._layers.values():
            layer.expire(now_s)
        return self._collect(now_s)

    def _count_duplicate(self) -> None:
        self.duplicates += 1

    def _serve(self, now_s: float, client: int, layer: MessageLayer, request: Message) -> None:
        self.leaked_bytes += self._wrong.leak_bytes
        self._tell_debugger(client, request)
        response = self.service.serve(now_s, client, request)
        if response.code == BAD_OPTION and request.type == Type.NON:
            layer.reject(request)
            return
        layer.respond(request, self._observed(client, request, response))

    def _tell_debugger(self, client: int, request: Message) -> None:
        queries = request.values(OptionNumber.URI_QUERY)
        if self._wrong.debug_datagrams and queries:
            line = b"<7>coaps: " + request.path.encode() + b"?" + b"&".join(queries)
            self._clear.append(Outgoing(client, line, clear=True))

    # --- observation

    def _observed(self, client: int, request: Message, response: Response) -> Response:
        """Do what the request's Observe option asks for, and return the response that says so."""
        resource = self.service.resource_of(request)
        if request.code != GET or resource is None or not resource.observed or not succeeded(response):
            return response
        if request.observe == DEREGISTER:
            self.observations.remove(client, request.token)
        if request.observe != REGISTER:
            return response
        observation = self.observations.register(client, resource.path, request)
        return response if observation is None else self._numbered(observation, response)

    def _numbered(self, observation: Observation, response: Response) -> Response:
        value = _STANDING_VALUE if self._wrong.observe_value_stands else observation.next_value()
        return replace(response, options=(*response.options, (OptionNumber.OBSERVE, uint(value))))

    def _notify(self, now_s: float, layer: MessageLayer, observation: Observation) -> None:
        observation.due = False
        response = self.service.serve(now_s, observation.client, observation.request)
        resource = self.service.resource_of(observation.request)
        confirmable = resource is None or resource.observed == "CON" or observation.next_is_confirmable()
        if succeeded(response):
            response = self._numbered(observation, response)
        else:
            self.observations.remove(observation.client, observation.token)
        mixed = self._wrong.tokens_mixed and succeeded(response)
        token = self.observations.newest_of(observation.client).token if mixed else observation.token
        layer.notify(now_s, token, response, confirmable=confirmable)

    def _collect(self, now_s: float) -> list[Outgoing]:
        """Return what there is to be sent, with the notifications whose turn it is."""
        for client, layer in self._layers.items():
            for token in layer.unwanted:
                self.observations.remove(client, token)
            layer.unwanted.clear()
        for observation in self.observations:
            layer = self._layers[observation.client]
            if observation.due and not layer.busy:
                self._notify(now_s, layer, observation)
        sent, self._clear = self._clear, []
        for client, layer in self._layers.items():
            sent += [Outgoing(client, data) for data in layer.outbox]
            layer.outbox.clear()
        return sent
