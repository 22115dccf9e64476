"""The relay's control protocol: TCP, one JSON object a line, one JSON line in answer.

``hello``, ``clock``, ``forward``, ``impair``, ``rules``, ``read``, ``clear``, ``capture`` (the connection then carries
pcapng until the asker shuts its side down) and ``capture_size`` (bytes given to a running capture). Whoever sets an
impairment or rules owns them: when that connection closes, however, they are cleared.
"""

import contextlib
import json
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rig.errors import BenchError
from rig.formats.impairment import Impairment
from rig.formats.packet_rule import read_psks, read_rules
from rig.formats.udp_packet import Endpoint
from rig.virtual.relay.forwarding import Flow, Forwarding
from rig.virtual.relay.netem import Netem
from rig.virtual.relay.reactor import Reactor
from rig.virtual.relay.recorder import Recorder, WallClock

VERSION = 1
_LONGEST_LINE = 65536
_REPLY_TIMEOUT_S = 0.5
_RULES = "rules"


class RequestError(BenchError):
    """A request that the relay cannot serve; its text becomes the answer."""


class Control:
    """Accepts control connections and serves their requests."""

    def __init__(
        self, name: str, reactor: Reactor, forwarding: Forwarding, recorder: Recorder, clock: WallClock
    ) -> None:
        self.name = name
        self.reactor = reactor
        self.forwarding = forwarding
        self.recorder = recorder
        self.clock = clock
        self.owners: dict[str, Connection] = {}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        reactor.watch(self.listener, self._accept)

    def directions(self) -> dict[str, Netem[Flow]]:
        """Return the two queues by their name in the protocol."""
        return {"to_device": self.forwarding.to_device, "to_client": self.forwarding.to_client}

    def reset(self, name: str) -> None:
        """Clear one direction, or the rules, with what is in delay."""
        if name == _RULES:
            self.forwarding.rules.configure((), {})
            self.forwarding.rules.purge()
        else:
            netem = self.directions()[name]
            netem.configure(Impairment.none())
            netem.purge()
        self.owners.pop(name, None)

    def reset_owned_by(self, connection: "Connection") -> None:
        """Clear what *connection* had set: its other end is gone."""
        for name in [name for name, owner in self.owners.items() if owner is connection]:
            self.reset(name)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            Connection(self.listener.accept()[0], self)


class Connection:
    """One control connection."""

    def __init__(self, peer: socket.socket, control: Control) -> None:
        self._peer = peer
        self._control = control
        self._received = b""
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        control.reactor.watch(peer, self._ready)

    def _ready(self) -> None:
        try:
            data = self._peer.recv(_LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        if not data or len(self._received) > _LONGEST_LINE:
            self._close()
            return
        while b"\n" in self._received:
            line, self._received = self._received.split(b"\n", 1)
            if not self._serve(line):
                return

    def _serve(self, line: bytes) -> bool:
        """Serve one request; False when this connection takes no more."""
        try:
            request = _parse(line)
            if request["op"] == "capture":
                self._control.reactor.forget(self._peer)
                self._control.recorder.start(self._peer)
                return False
            answer = {"ok": True, **self._answer(request)}
        except BenchError as error:
            answer = {"ok": False, "error": str(error)}
        return self._reply(json.dumps(answer).encode() + b"\n")

    def _reply(self, line: bytes) -> bool:
        try:
            self._peer.settimeout(_REPLY_TIMEOUT_S)
            self._peer.sendall(line)
            self._peer.setblocking(False)
        except OSError:  # gone, or it does not read its answers
            self._close()
            return False
        return True

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "hello": self._hello,
            "clock": self._clock,
            "forward": self._forward,
            "impair": self._impair,
            "rules": self._rules,
            "read": self._read,
            "clear": self._clear,
            "capture_size": self._capture_size,
        }
        operation = operations.get(request["op"])
        if operation is None:
            raise RequestError(f"unknown op {request['op']!r}: there are {', '.join(operations)}, capture")
        return operation(request)

    def _hello(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"name": self._control.name, "version": VERSION}

    def _clock(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"realtime_s": self._control.clock.now_ns() / 1e9}

    def _forward(self, request: dict[str, Any]) -> dict[str, Any]:
        board = _endpoint(request.get("to"))
        try:
            return {"front": _text(self._control.forwarding.front_for(board))}
        except OSError as error:
            raise RequestError(f"no front for {_text(board)}: {error}") from error

    def _impair(self, request: dict[str, Any]) -> dict[str, Any]:
        direction, values = request.get("direction"), request.get("impairment")
        if direction not in self._control.directions():
            raise RequestError(f"unknown direction {direction!r}: there are to_device, to_client")
        if not isinstance(values, dict):
            raise RequestError("impair needs an object under 'impairment'")
        self._control.directions()[direction].configure(Impairment.from_dict(values))
        self._control.owners[direction] = self
        return {}

    def _rules(self, request: dict[str, Any]) -> dict[str, Any]:
        rules, psks = read_rules(request.get("rules")), read_psks(request.get("psks"))
        self._control.forwarding.rules.configure(rules, psks)
        self._control.owners[_RULES] = self
        return {}

    def _read(self, _: dict[str, Any]) -> dict[str, Any]:
        directions = {name: _state(netem) for name, netem in self._control.directions().items()}
        forwarding = self._control.forwarding
        flows = [
            {"client": _text(flow.client), "relay": _text(flow.address), "board": _text(flow.front.board)}
            for flow in forwarding.flows()
        ]
        overflowed = _socket_drops(forwarding.sockets())
        counts = {"refused": forwarding.refused, "overflowed": overflowed}
        return {**directions, **counts, "rules": forwarding.rules.state(), "flows": flows}

    def _clear(self, _: dict[str, Any]) -> dict[str, Any]:
        for name in (*self._control.directions(), _RULES):
            self._control.reset(name)
        return {}

    def _capture_size(self, request: dict[str, Any]) -> dict[str, Any]:
        size = self._control.recorder.size(request.get("capture"))
        if size is None:
            raise RequestError(f"no capture {request.get('capture')!r} is running")
        return {"bytes": size}

    def _close(self) -> None:
        self._control.reactor.forget(self._peer)
        self._peer.close()
        self._control.reset_owned_by(self)


def _state(netem: Netem[Flow]) -> dict[str, Any]:
    in_force = netem.impairment if netem.impairment == Impairment.none() else replace(netem.impairment, seed=netem.seed)
    return {"impairment": in_force.to_dict(), "counters": netem.counters.to_dict()}


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except ValueError as error:
        raise RequestError(f"not a JSON line: {error}") from error
    if not isinstance(request, dict) or not isinstance(request.get("op"), str):
        raise RequestError("a request is an object with an 'op'")
    return request


def _endpoint(text: object) -> Endpoint:
    host, _, port = str(text).rpartition(":")
    try:
        socket.inet_aton(host)
        number = int(port)
    except (OSError, ValueError) as error:
        raise RequestError(f"{text!r} is not an IPv4 address and port") from error
    if not 0 < number < 65536:
        raise RequestError(f"{text!r} has no valid port")
    return host, number


def _text(endpoint: Endpoint) -> str:
    return f"{endpoint[0]}:{endpoint[1]}"


def _socket_drops(sockets: list[socket.socket]) -> int:
    """Return the datagrams that the kernel dropped because this process was too slow (/proc/net/udp, last column)."""
    own = {_table_address(each.getsockname()) for each in sockets}
    with open("/proc/net/udp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sum(int(row[-1]) for row in rows if row[1] in own)


def _table_address(endpoint: Endpoint) -> str:
    """Return address and port as the kernel's table has them: the address as a number of this machine's byte order."""
    number = int.from_bytes(socket.inet_aton(endpoint[0]), sys.byteorder)
    return f"{number:08X}:{endpoint[1]:04X}"
