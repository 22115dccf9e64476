"""A coaps session and its observations, as tests use them."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rig.coap.errors import ClientCrashed, ClientError, SessionDead
from rig.coap.observation import Observation
from rig.coap.process import WorkerProcess
from rig.coap.values import Response, Secret, response_from_wire
from rig.errors import RigError

LONGEST_PSK = 16
LONGEST_IDENTITY = 32
DEFAULT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0


def check_credentials(identity: str, psk: Secret) -> None:
    """Refuse what tinydtls cannot hold: a longer key overwrites its stack, a NUL cuts the identity short."""
    length = len(psk.reveal())
    if not 1 <= length <= LONGEST_PSK:
        raise ClientError(
            f"a key of {length} bytes: the coaps client's library (DTLSSocket with tinydtls) holds 1 to {LONGEST_PSK}; "
            "use the raw DTLS client for other keys"
        )
    encoded = identity.encode("utf-8")
    if not 1 <= len(encoded) <= LONGEST_IDENTITY or b"\0" in encoded:
        raise ClientError(
            f"an identity of {len(encoded)} bytes: the coaps client's library (DTLSSocket with tinydtls) holds 1 to "
            f"{LONGEST_IDENTITY}, none of them NUL; use the raw DTLS client for other identities"
        )


@dataclass(frozen=True)
class SessionSettings:
    """With whom and how patiently. Times in seconds."""

    host: str
    port: int
    identity: str
    psk: Secret = field(repr=False)
    connect_timeout_s: float
    ack_timeout_s: float | None
    max_retransmit: int | None

    def __str__(self) -> str:
        return f"{self.host}:{self.port} as {self.identity!r}"


@dataclass(frozen=True)
class Connected:
    """What the handshake left: this end's UDP port, when the first ClientHello left, and how long it all took."""

    local_port: int
    t_connect_s: float
    handshake_s: float


class Session:
    """One DTLS session over one UDP socket, with a handshake of its own that no request is part of.

    After a timeout, an alert or a refused datagram it is dead: the first use says why, every further one raises
    SessionDead. A dead session is never revived in silence; open a new one.
    """

    def __init__(
        self, settings: SessionSettings, worker: Callable[[], WorkerProcess], numbers: "itertools.count[int]"
    ) -> None:
        self._settings = settings
        self._start_worker = worker
        self._numbers = numbers
        self._number = next(numbers)
        self._worker: WorkerProcess | None = None
        self._connected: Connected | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Session with {self._settings}>"

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def local_port(self) -> int:
        """The UDP port of the client's end, as it appears in a capture."""
        return self._facts.local_port

    @property
    def t_connect_s(self) -> float:
        """When the first ClientHello left, on the rig's clock."""
        return self._facts.t_connect_s

    @property
    def handshake_s(self) -> float:
        """From the first ClientHello to the device's Finished, in seconds. No CoAP message is part of it."""
        return self._facts.handshake_s

    def connect(self) -> None:
        """Shake hands with the device. A session connects once.

        Raises ConnectTimeout, ConnectionRefused, HostUnreachable or AlertReceived for the device, LocalNetworkError,
        ClientCrashed or ClientError for the bench.
        """
        if self._worker is not None or self._closed:
            raise ClientError(f"the session with {self._settings} was connected or closed before: open a new one")
        self._worker = self._start_worker()
        settings = self._settings
        try:
            result = self._worker.call(
                "connect",
                f"handshake with {settings}",
                settings.connect_timeout_s,
                session=self._number,
                host=settings.host,
                port=settings.port,
                identity=settings.identity,
                psk=settings.psk,
                ack_timeout_s=settings.ack_timeout_s,
                max_retransmit=settings.max_retransmit,
            )
        except ClientCrashed:
            self._closed = True
            raise
        except RigError:
            self.close()
            raise
        self._connected = Connected(**result)

    def close(self) -> None:
        """Send close_notify, once, and free the session. Idempotent; after a crash of the worker it does nothing."""
        worker, was_closed = self._worker, self._closed
        self._closed = True
        if worker is None or was_closed or not worker.alive:
            return
        worker.call("close", f"close of {self._settings}", CLOSE_TIMEOUT_S, session=self._number)

    def get(
        self,
        path: str,
        *,
        accept: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        confirmable: bool = True,
    ) -> Response:
        """GET a resource. Raises RequestTimeout, AlertReceived, ResetReceived ... for the device; any code returns."""
        return self._request("GET", path, accept=accept, timeout_s=timeout_s, confirmable=confirmable)

    def put(
        self,
        path: str,
        payload: bytes | str,
        *,
        content_format: int | None = None,
        accept: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        confirmable: bool = True,
    ) -> Response:
        """PUT a representation (text is sent as UTF-8), block-wise if it is longer than 1024 bytes."""
        return self._request(
            "PUT",
            path,
            payload=payload,
            content_format=content_format,
            accept=accept,
            timeout_s=timeout_s,
            confirmable=confirmable,
        )

    def post(
        self,
        path: str,
        payload: bytes | str = b"",
        *,
        content_format: int | None = None,
        accept: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        confirmable: bool = True,
    ) -> Response:
        """POST a representation (text is sent as UTF-8), block-wise if it is longer than 1024 bytes."""
        return self._request(
            "POST",
            path,
            payload=payload,
            content_format=content_format,
            accept=accept,
            timeout_s=timeout_s,
            confirmable=confirmable,
        )

    def delete(self, path: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, confirmable: bool = True) -> Response:
        """DELETE a resource."""
        return self._request("DELETE", path, timeout_s=timeout_s, confirmable=confirmable)

    def observe(self, path: str, *, accept: int | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Observation:
        """Register an observation (RFC 7641) and return it with its first response.

        Several may run on one session. Raises NotObservable if the device answers without the Observe option.
        """
        observation = next(self._numbers)
        worker = self._require_worker()
        events = worker.subscribe(observation)
        try:
            result = self._call("observe", "GET", path, timeout_s, accept=accept, observation=observation)
        except RigError:
            worker.unsubscribe(observation)
            raise
        first = response_from_wire(result)
        return Observation(worker, events, self._number, observation, path, first, result["observe"])

    @property
    def _facts(self) -> Connected:
        if self._connected is None:
            raise ClientError(f"the session with {self._settings} is not connected: enter it or call connect() first")
        return self._connected

    def _require_worker(self) -> WorkerProcess:
        if self._closed:
            raise SessionDead(f"session is dead: open a new one (the session with {self._settings} was closed)")
        if self._worker is None:
            raise ClientError(f"the session with {self._settings} is not connected: enter it or call connect() first")
        return self._worker

    def _request(self, method: str, path: str, *, timeout_s: float, **fields: Any) -> Response:
        return response_from_wire(self._call("request", method, path, timeout_s, **fields))

    def _call(
        self,
        op: str,
        method: str,
        path: str,
        timeout_s: float,
        *,
        payload: bytes | str = b"",
        content_format: int | None = None,
        accept: int | None = None,
        confirmable: bool = True,
        **more: Any,
    ) -> Mapping[str, Any]:
        if not path.startswith("/"):
            raise ClientError(f"the path {path!r} must begin with '/'")
        body = payload.encode("utf-8") if isinstance(payload, str) else payload
        verb = "observe" if op == "observe" else method
        return self._require_worker().call(
            op,
            f"{verb} {path} ({len(body)} bytes) to {self._settings}",
            timeout_s,
            session=self._number,
            method=method,
            path=path,
            payload=body,
            content_format=content_format,
            accept=accept,
            confirmable=confirmable,
            **more,
        )
