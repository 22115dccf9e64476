"""The connection to a relay: one JSON object a line and one JSON line in answer, over TCP."""

import contextlib
import json
import socket
import threading
from typing import Any

from rig.clock import ClockMap, now_s
from rig.router.model import RouterError

TIMEOUT_S = 5.0
_CLOCK_ROUNDS = 16
_LONGEST_ANSWER = 8 << 20


class ControlConnection:
    """One control connection. Any failure is a `RouterError` that names the relay's address."""

    def __init__(self, address: str) -> None:
        """Connect to *address*, ``host:port``."""
        self.address = address
        self._lock = threading.Lock()
        self._received = b""
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise RouterError(f"router control {address!r} is not host:port")
        try:
            self.socket = socket.create_connection((host, int(port)), TIMEOUT_S)
        except (OSError, OverflowError) as error:
            raise RouterError(f"router at {address} cannot be reached: {error}. Is the relay running?") from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and return the answer."""
        try:
            with self._lock:
                self.socket.sendall(json.dumps({"op": op, **arguments}).encode() + b"\n")
                answer = json.loads(self._line())
        except (OSError, ValueError) as error:
            raise RouterError(f"router at {self.address} did not answer {op!r}: {error}") from error
        if not isinstance(answer, dict) or answer.get("ok") is not True:
            reason = answer.get("error") if isinstance(answer, dict) else answer
            raise RouterError(f"router at {self.address} refused {op!r}: {reason}")
        return answer

    def measure_clock(self) -> ClockMap:
        """Map the relay's wall clock onto the rig's, from the shortest of several round trips."""
        return min((self._clock_round() for _ in range(_CLOCK_ROUNDS)), key=lambda found: found.uncertainty_s)

    def take_over(self) -> bytes:
        """Return what came behind the last answer; from here on the caller reads the socket."""
        rest, self._received = self._received, b""
        return rest

    def close(self) -> None:
        """Disconnect."""
        with contextlib.suppress(OSError):
            self.socket.close()

    def _clock_round(self) -> ClockMap:
        asked_s = now_s()
        realtime_s = self.ask("clock").get("realtime_s")
        answered_s = now_s()
        if not isinstance(realtime_s, int | float):
            raise RouterError(f"router at {self.address} has no clock: it answered {realtime_s!r}")
        return ClockMap((asked_s + answered_s) / 2 - realtime_s, (answered_s - asked_s) / 2)

    def _line(self) -> bytes:
        while b"\n" not in self._received:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("it closed the connection")
            self._received += data
            if len(self._received) > _LONGEST_ANSWER:
                raise ValueError("the answer never ends")
        line, self._received = self._received.split(b"\n", 1)
        return line
