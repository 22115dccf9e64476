"""UDP ports of the rig on which scripts run, one at a time or many at once, and what passed through them."""

import selectors
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from rig.clock import now_s
from rig.coap.errors import LocalNetworkError
from rig.dtls.conversation import Conversation, Script
from rig.formats.udp_packet import Endpoint

_MAX_DATAGRAM = 65535
_DISCARD = 9
_MAX_LATENESS_S = 0.0005
_DRAWS = 64
_PORTS_OF_LATE: deque[int] = deque(maxlen=8192)
"""Ports that wires had. A device may still hold a session for one, and leave a newcomer there without an answer."""


class Port(Protocol):
    """What a script can run on."""

    def fileno(self) -> int:
        """Return the socket's descriptor, for a selector."""

    def send(self, *datagrams: bytes) -> None:
        """Send datagrams as they are."""

    def read(self) -> bytes | None:
        """Return a datagram that is there, or None."""


@dataclass(frozen=True)
class Passed:
    """One datagram, and the rig's time when it was sent or read."""

    t_s: float
    from_client: bool
    datagram: bytes


@dataclass
class Transcript:
    """All that passed through one wire, in order. ``clients`` are those that spoke on it; they hold the keys.

    ``proof_of_life``: only that was asked for, so that it is evidence for nothing else.
    """

    local: Endpoint
    remote: Endpoint
    passed: list[Passed] = field(default_factory=list)
    clients: list[Any] = field(default_factory=list)
    proof_of_life: bool = False
    refused: int = 0
    """How often the network said that nobody listens there (ICMP port unreachable)."""


class Wire:
    """A UDP port towards one endpoint. What comes from anywhere else is not seen.

    *host* and *port* are the local ones; empty and 0 leave the choice to the system, and it will be a port that no wire
    had of late. Raises LocalNetworkError where the host of the rig cannot send.
    """

    def __init__(self, remote: Endpoint, *, host: str = "", port: int = 0) -> None:
        try:
            self._socket = _connected((host, port), remote)
            for _ in range(_DRAWS):
                if port or self._socket.getsockname()[1] not in _PORTS_OF_LATE:
                    break
                self._socket.close()
                self._socket = _connected((host, 0), remote)
        except OSError as error:
            raise LocalNetworkError(f"no way from {host or 'this host'}:{port} to {remote}: {error}") from None
        self._socket.setblocking(False)
        self.transcript = Transcript(self._socket.getsockname(), self._socket.getpeername())
        _PORTS_OF_LATE.append(self.local[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def refused(self) -> int:
        """How often the network said that nobody listens there (ICMP port unreachable)."""
        return self.transcript.refused

    @property
    def local(self) -> Endpoint:
        """The wire's own address and port."""
        return self.transcript.local

    @property
    def closed(self) -> bool:
        """Whether the port has been given up."""
        return self._socket.fileno() < 0

    def fileno(self) -> int:
        """Return the socket's descriptor, for a selector."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the port; a session that is up on it stays up at the device."""
        self._socket.close()

    def run(self, script: Script[Any]) -> Any:
        """Run a script to its end and return what it returns."""
        return run_together([(self, script)])[0]

    def send(self, *datagrams: bytes) -> None:
        """Send datagrams as they are."""
        for datagram in datagrams:
            try:
                self._socket.send(datagram)
            except ConnectionRefusedError:  # reports an earlier datagram; this one was not sent yet
                self.transcript.refused += 1
                self._send_again(datagram)
            except OSError as error:
                raise LocalNetworkError(f"cannot send to {self.transcript.remote}: {error}") from None
            self.transcript.passed.append(Passed(now_s(), True, datagram))

    def read(self) -> bytes | None:
        """Return a datagram that is there, or None."""
        try:
            datagram = self._socket.recv(_MAX_DATAGRAM)
        except BlockingIOError:
            return None
        except ConnectionRefusedError:
            self.transcript.refused += 1
            return None
        self.transcript.passed.append(Passed(now_s(), False, datagram))
        return datagram

    def listen(self, for_s: float) -> tuple[bytes, ...]:
        """Return the datagrams that come within *for_s* seconds."""
        found: list[bytes] = []
        end_s = now_s() + for_s
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            while (left_s := end_s - now_s()) > 0:
                selector.select(left_s)
                while (datagram := self.read()) is not None:
                    found.append(datagram)
        return tuple(found)

    def _send_again(self, datagram: bytes) -> None:
        try:
            self._socket.send(datagram)
        except OSError as error:
            raise LocalNetworkError(f"cannot send to {self.transcript.remote}: {error}") from None


class GroupWire:
    """A UDP port from which a multicast group is asked. Only what comes from *host*, any port, is read.

    The group is asked by the interface that leads to *host*. Raises LocalNetworkError where there is none.
    """

    def __init__(self, group: Endpoint, host: str) -> None:
        self._host = socket.gethostbyname(host)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            interface = socket.inet_aton(_address_towards(self._host))
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            self._socket.bind(("", 0))
        except OSError as error:
            self._socket.close()
            raise LocalNetworkError(f"no way to the group {group[0]}: {error}") from None
        self._socket.setblocking(False)
        self.transcript = Transcript(self._socket.getsockname(), group)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Return the socket's descriptor, for a selector."""
        return self._socket.fileno()

    def send(self, *datagrams: bytes) -> None:
        """Send datagrams to the group."""
        for datagram in datagrams:
            try:
                self._socket.sendto(datagram, self.transcript.remote)
            except OSError as error:
                raise LocalNetworkError(f"cannot send to the group {self.transcript.remote[0]}: {error}") from None
            self.transcript.passed.append(Passed(now_s(), True, datagram))

    def read(self) -> bytes | None:
        """Return a datagram of the device that is there, or None."""
        while True:
            try:
                datagram, peer = self._socket.recvfrom(_MAX_DATAGRAM)
            except BlockingIOError:
                return None
            if peer[0] == self._host:
                self.transcript.passed.append(Passed(now_s(), False, datagram))
                return datagram


def _connected(local: Endpoint, remote: Endpoint) -> socket.socket:
    result = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        result.bind(local)
        result.connect(remote)
    except OSError:
        result.close()
        raise
    return result


def _address_towards(host: str) -> str:
    """Return the address of this machine from which *host* is reached; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect((host, _DISCARD))
        return str(route.getsockname()[0])


def run_together(parts: Sequence[tuple[Port, Script[Any]]]) -> list[Any]:
    """Run scripts at the same time, each on a wire of its own; return what each returned, in order.

    A script that raises ends them all; let it return what it saw instead where the others are to go on.
    """
    talks = [(wire, Conversation(script)) for wire, script in parts]
    with selectors.DefaultSelector() as selector:
        for wire, talk in talks:
            selector.register(wire, selectors.EVENT_READ, talk)
            wire.send(*talk.start(now_s()))
        while open_talks := [(wire, talk) for wire, talk in talks if not talk.ended]:
            _wait(selector, open_talks)
            for wire, talk in open_talks:
                _step(wire, talk)
    return [talk.result for _, talk in talks]


def _wait(selector: selectors.BaseSelector, open_talks: Sequence[tuple[Port, Conversation[Any]]]) -> None:
    due_s = min(talk.next_timeout_s for _, talk in open_talks if talk.next_timeout_s is not None)
    selector.select(max(0.0, due_s - now_s()))


def _step(wire: Port, talk: Conversation[Any]) -> None:
    """Give a script what has come for it, or the time that it waited for."""
    while not talk.ended and (datagram := wire.read()) is not None:
        wire.send(*talk.receive(now_s(), datagram))
    if talk.next_timeout_s is not None and talk.next_timeout_s - now_s() < _MAX_LATENESS_S:
        wire.send(*talk.timeout(max(talk.next_timeout_s, now_s())))
