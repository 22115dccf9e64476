"""One session in the worker process: a fresh aiocoap Context, one connection, its requests and observations."""

import asyncio
import logging
import socket
import urllib.parse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import aiocoap
import aiocoap.error
from aiocoap.numbers.constants import TransportTuning
from aiocoap.pipe import Pipe
from aiocoap.protocol import Request

from rig.clock import now_s
from rig.coap.connection import SafeConnection, explain, require_tested_version
from rig.coap.errors import (
    ClientError,
    ConnectTimeout,
    LocalNetworkError,
    NotObservable,
    ObservationEnded,
    ProtocolError,
    RequestTimeout,
    ResetReceived,
    SessionDead,
    error_to_wire,
)
from rig.errors import RigError

log = logging.getLogger("rig.coap")

Emit = Callable[[dict[str, Any]], None]

_OBSERVE, _DEREGISTER = 0, 1


@dataclass(frozen=True)
class Tuning:
    """Transmission parameters of RFC 7252 clause 4.8 for one session; None keeps the RFC's value."""

    ack_timeout_s: float | None
    max_retransmit: int | None

    def for_message(self, confirmable: bool) -> TransportTuning:
        """Return them as aiocoap wants them on each message."""
        tuning = TransportTuning()
        tuning.reliability = confirmable
        if self.ack_timeout_s is not None:
            tuning.ACK_TIMEOUT = self.ack_timeout_s
        if self.max_retransmit is not None:
            tuning.MAX_RETRANSMIT = self.max_retransmit
        return tuning


@dataclass(frozen=True)
class Call:
    """One request: method name, path with query, options, patience."""

    method: str
    path: str
    timeout_s: float
    payload: bytes = field(default=b"", repr=False)
    content_format: int | None = None
    accept: int | None = None
    confirmable: bool = True

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def message(self, connection: SafeConnection, tuning: Tuning) -> aiocoap.Message:
        """Return the CoAP message, addressed to the connection that exists and to no other."""
        url = urllib.parse.urlsplit(self.path)
        message = aiocoap.Message(
            code=aiocoap.Code[self.method], payload=self.payload, transport_tuning=tuning.for_message(self.confirmable)
        )
        message.opt.uri_path = tuple(urllib.parse.unquote(part) for part in url.path.split("/")[1:] if url.path != "/")
        message.opt.uri_query = tuple(urllib.parse.unquote(part) for part in url.query.split("&") if part)
        message.opt.content_format = self.content_format
        message.opt.accept = self.accept
        message.remote = connection
        return message


@dataclass(frozen=True)
class Watch:
    """A running observation: what was asked, the request that started it, and its token once answered."""

    call: Call
    request: Request
    token: bytes


class Endpoint:
    """A session with one device. After a timeout or a failure it is dead: its Context is thrown away.

    The Context is never given the key: it could make a connection of its own only by asking for one, so a request
    can never start a second handshake.
    """

    def __init__(self, host: str, port: int, tuning: Tuning, emit: Emit) -> None:
        self._host = host
        self._port = port
        self._tuning = tuning
        self._emit = emit
        self._context: aiocoap.Context | None = None
        self._connection: SafeConnection | None = None
        self._dead: RigError | None = None
        self._watches: dict[int, Watch] = {}

    @property
    def peer(self) -> str:
        """Host and port, for messages."""
        return f"{self._host}:{self._port}"

    async def connect(self, identity: bytes, psk: bytes, timeout_s: float) -> dict[str, Any]:
        """Shake hands, and nothing more: no CoAP message is sent."""
        require_tested_version()
        address = await self._resolve(timeout_s)
        self._context = await aiocoap.Context.create_client_context(transports=["tinydtls"])
        interface = self._context.request_interfaces[0].token_interface.message_interface
        self._connection = SafeConnection(address, self._port, identity, psk, interface)
        interface._pool[(address, self._port, identity)] = self._connection
        try:
            await asyncio.wait_for(self._connection.handshake.wait(), timeout_s)
        except TimeoutError:
            await self._give_up(self._connect_timeout(timeout_s))
        return await self._connected(self._connection)

    async def request(self, call: Call) -> dict[str, Any]:
        """Send one request, block-wise if it must be, and return the response's fields."""
        connection = await self._live(str(call))
        message = call.message(connection, self._tuning)
        sent_s = now_s()
        request = self._require_context().request(message)
        response = await self._answer(request.response, call)
        return {**_fields(response), "sent_s": sent_s, "received_s": connection.read_s[response.mid]}

    async def observe(self, observation: int, call: Call) -> dict[str, Any]:
        """Register an observation (RFC 7641 clause 3.1); its notifications are emitted under this number."""
        connection = await self._live(f"observe {call.path}")
        message = call.message(connection, self._tuning)
        message.opt.observe = _OBSERVE
        sent_s = now_s()
        request = self._require_context().request(message, handle_blockwise=False)
        # The callback interface, because the iterator keeps only the latest of several quick notifications.
        request.observation.register_callback(
            lambda notification: self._notify(observation, notification, connection.read_s[notification.mid]),
            _suppress_deprecation=True,
        )
        request.observation.register_errback(
            lambda error: self._end_watch(observation, error), _suppress_deprecation=True
        )
        # Known before the answer, so that an end that comes close behind it is not lost.
        self._watches[observation] = Watch(call, request, b"")
        try:
            response = await self._answer(request.response, call)
        except RigError:
            self._watches.pop(observation, None)
            raise
        if response.opt.observe is None:
            self._watches.pop(observation, None)
            raise NotObservable(
                f"{self.peer} answered observe {call.path} with {_dotted(response)} and no Observe option"
            )
        self._watches[observation] = Watch(call, request, response.token)
        if _in_blocks(response):
            await self.cancel(observation)
            raise self._blocks_unsupported()
        return {
            **_fields(response),
            "observe": response.opt.observe,
            "sent_s": sent_s,
            "received_s": connection.read_s[response.mid],
        }

    async def cancel(self, observation: int) -> None:
        """Deregister explicitly, by GET with Observe 1 and the observation's own token (RFC 7641 clause 3.6)."""
        watch = self._watches.pop(observation, None)
        if watch is None or self._dead is not None:
            return
        connection = await self._live(f"cancel of observe {watch.call.path}")
        watch.request.observation.cancel()
        watch.request._stop_interest()
        message = watch.call.message(connection, self._tuning)
        message.opt.observe = _DEREGISTER
        await self._answer(self._send_with_token(message, watch.token), watch.call)

    async def close(self) -> None:
        """Send close_notify if the session lives, and free the Context. Idempotent."""
        if self._dead is None:
            self._dead = SessionDead(f"the session with {self.peer} was closed")
        for observation in list(self._watches):
            self._end_watch(observation, self._dead)
        context, self._context = self._context, None
        if context is not None:
            await context.shutdown()

    async def _resolve(self, timeout_s: float) -> str:
        """Return the device's address; raise if it has none or this host has no route to it."""
        loop = asyncio.get_running_loop()
        try:
            asked = loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
            found = await asyncio.wait_for(asked, timeout_s)
        except TimeoutError:
            raise LocalNetworkError(
                f"cannot resolve {self._host} within {timeout_s:g} s: check the name server"
            ) from None
        except socket.gaierror as error:
            raise LocalNetworkError(
                f"cannot resolve {self._host}: {error.strerror}; check the board's address"
            ) from None
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.connect(address)
            except OSError as error:
                raise explain(error, self.peer, "handshake") from None
        return str(address[0])

    async def _connected(self, connection: SafeConnection) -> dict[str, Any]:
        if connection.failure is not None:
            await self._give_up(explain(connection.failure, self.peer, "handshake"))
        if connection.connected_s is None or connection.first_sent_s is None:
            await self._give_up(ClientError(f"no handshake with {self.peer} could be started: see the worker's log"))
        return {
            "local_port": connection.local_port,
            "t_connect_s": connection.first_sent_s,
            "handshake_s": connection.connected_s - connection.first_sent_s,
        }

    def _connect_timeout(self, timeout_s: float) -> ConnectTimeout:
        return ConnectTimeout(
            f"{self.peer} did not complete the DTLS handshake within {timeout_s:g} s: it is off or asleep, "
            "datagrams were lost, or the key differs (many servers answer a wrong key with silence)"
        )

    def _require_context(self) -> aiocoap.Context:
        if self._context is None:
            raise ClientError(f"the session with {self.peer} is not connected: enter it or call connect() first")
        return self._context

    async def _live(self, doing: str) -> SafeConnection:
        """Return the connection, or raise what ended it: the first time the cause, later SessionDead."""
        if self._dead is not None:
            raise SessionDead(f"session is dead: open a new one ({self._dead})")
        if self._connection is None:
            raise ClientError(f"the session with {self.peer} is not connected: enter it or call connect() first")
        if self._connection.failure is not None:
            await self._give_up(explain(self._connection.failure, self.peer, f"idle time before {doing}"))
        return self._connection

    async def _give_up(self, error: RigError) -> NoReturn:
        """Make the session unusable because of *error*, free it, and raise."""
        self._dead = error
        await self.close()
        raise error

    async def _answer(self, response: Awaitable[aiocoap.Message], call: Call) -> aiocoap.Message:
        # A request that timed out goes on retransmitting and blocks the next one, so the whole Context goes with it.
        try:
            return await asyncio.wait_for(response, call.timeout_s)
        except TimeoutError:
            await self._give_up(RequestTimeout(f"{self.peer} did not answer {call} within {call.timeout_s:g} s"))
        except (aiocoap.error.Error, OSError) as raised:
            if isinstance(raised, aiocoap.error.LibraryShutdown):
                raise SessionDead(f"session ended during {call}: open a new one ({self._dead})") from raised
            error = explain(raised, self.peer, str(call))
            if isinstance(error, ResetReceived | ProtocolError):
                raise error from raised
            await self._give_up(error)

    def _send_with_token(self, message: aiocoap.Message, token: bytes) -> Awaitable[aiocoap.Message]:
        tokens = self._require_context().request_interfaces[0]
        pipe = Pipe(message, log)
        request = Request(pipe, asyncio.get_running_loop(), log)
        tokens.next_token = lambda: token
        try:
            tokens.request(pipe)
        finally:
            del tokens.next_token
        response: Awaitable[aiocoap.Message] = request.response
        return response

    def _notify(self, observation: int, message: aiocoap.Message, received_s: float) -> None:
        if message.opt.observe is None:
            self._end_watch(
                observation,
                ObservationEnded(f"{self.peer} ended an observation with {_dotted(message)} {message.payload[:40]!r}"),
            )
            return
        if _in_blocks(message):
            # Still registered at the device, so still to be cancelled.
            self._emit({"observation": observation, "error": error_to_wire(self._blocks_unsupported())})
            return
        event = {**_fields(message), "observe": message.opt.observe, "received_s": received_s}
        self._emit({"observation": observation, "notification": event})

    def _blocks_unsupported(self) -> ClientError:
        return ClientError(f"{self.peer} notifies in several blocks; the coaps client observes what fits into one")

    def _end_watch(self, observation: int, error: Exception) -> None:
        if self._watches.pop(observation, None) is None:
            return
        if not isinstance(error, RigError):
            error = explain(error, self.peer, "an observation")
        self._emit({"observation": observation, "error": error_to_wire(error)})


def _dotted(message: aiocoap.Message) -> str:
    return f"{int(message.code) >> 5}.{int(message.code) & 0x1F:02d}"


def _in_blocks(message: aiocoap.Message) -> bool:
    return message.opt.block2 is not None and bool(message.opt.block2.more)


def _fields(message: aiocoap.Message) -> dict[str, Any]:
    options = [(int(option.number), option.encode()) for option in message.opt.option_list()]
    return {"code": _dotted(message), "payload": message.payload, "options": options}
