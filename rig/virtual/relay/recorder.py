"""Captures of both sides of the relay, streamed as pcapng to whoever asked for one."""

import random
import socket
import time

from rig.formats import pcapng
from rig.virtual.relay.reactor import READ, WRITE, Reactor

CLIENT_SIDE, BOARD_SIDE = 0, 1

# A reader that stalls may hold back this much before packets are left out of its capture (and counted).
BACKLOG_BYTES = 64 << 20


class WallClock:
    """This process's own wall clock. Like a router's, it is off by an amount that nobody was told."""

    def __init__(self) -> None:
        self._skew_ns = random.SystemRandom().randrange(-3_000_000_000, 3_000_000_000)

    def now_ns(self) -> int:
        """Return nanoseconds since 1970 as this clock has them."""
        return time.time_ns() + self._skew_ns


class Stream:
    """One capture on one connection. It ends when the reader shuts down its sending side, or goes away."""

    def __init__(self, connection: socket.socket, reactor: Reactor, clock: WallClock) -> None:
        self._connection = connection
        self._reactor = reactor
        self._clock = clock
        self._pending = bytearray()
        self._counts = [[0, 0], [0, 0]]
        self._ends_seen = 0
        self._events = 0
        self.size = 0
        self.finishing = False
        self.closed = False
        self._append(pcapng.section_header())
        for name in ("client side", "board side"):
            self._append(pcapng.interface_description(name))
        self._watch()

    def add(self, side: int, block: bytes) -> None:
        """Append a packet block, or count it as left out when the reader is too far behind."""
        if self.finishing:
            return
        self._counts[side][0] += 1
        if len(self._pending) > BACKLOG_BYTES:
            self._counts[side][1] += 1
        else:
            self._append(block)

    def flush(self) -> None:
        """Send what the connection takes now; the rest goes when it is ready again."""
        try:
            sent = self._connection.send(self._pending) if self._pending else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close()
            return
        del self._pending[:sent]
        if self.finishing and not self._pending:
            self._close()
        else:
            self._watch()

    def _watch(self) -> None:
        events = (0 if self.finishing else READ) | (WRITE if self._pending else 0)
        if events != self._events:
            self._reactor.watch(self._connection, self._ready, events)
            self._events = events

    def _ready(self) -> None:
        if not self.finishing and self._reader_is_done():
            # A round later, so that datagrams that came before the end are in.
            self._ends_seen += 1
            if self._ends_seen == 2:
                self._finish()
        self.flush()

    def _reader_is_done(self) -> bool:
        try:
            return self._connection.recv(4096) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _finish(self) -> None:
        t_ns = self._clock.now_ns()
        for side, (received, dropped) in enumerate(self._counts):
            self._append(pcapng.interface_statistics(side, t_ns, received, dropped))
        self.finishing = True

    def _append(self, block: bytes) -> None:
        self._pending += block
        self.size += len(block)

    def _close(self) -> None:
        self.finishing = self.closed = True
        self._reactor.forget(self._connection)
        self._connection.close()


class Recorder:
    """Hands each packet to all captures that run."""

    def __init__(self, reactor: Reactor, clock: WallClock) -> None:
        self._reactor = reactor
        self._clock = clock
        self._streams: dict[int, Stream] = {}
        self._serial = 0
        self.active = False

    def start(self, connection: socket.socket) -> None:
        """Make *connection* carry a capture, from now on; its answer tells the capture's number."""
        self._serial += 1
        connection.sendall(b'{"ok": true, "capture": %d}\n' % self._serial)
        self._streams[self._serial] = Stream(connection, self._reactor, self._clock)
        self.active = True

    def size(self, number: object) -> int | None:
        """How many bytes capture *number* has been given so far, or None if it does not run."""
        stream = self._streams.get(number) if isinstance(number, int) else None
        return stream.size if stream else None

    def record(self, side: int, packet: bytes) -> None:
        """Record one packet now."""
        block = pcapng.enhanced_packet(side, self._clock.now_ns(), packet)
        for stream in self._streams.values():
            stream.add(side, block)

    def flush(self) -> None:
        """Send on what the captures have; called after each round of the loop."""
        for number, stream in list(self._streams.items()):
            if not stream.closed:
                stream.flush()
            if stream.closed:
                del self._streams[number]
                self.active = bool(self._streams)
