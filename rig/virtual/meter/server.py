"""SCPI over TCP: line in, answer out, one thread a connection, one instrument behind them all."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rig.virtual.meter.command_set import CommandSet, Wait
from rig.virtual.meter.scpi import ScpiError

MAX_LINE = 1 << 16
WAIT_STEP_S = 0.005
TICK_S = 0.02


class Front(Protocol):
    """What an instrument is talked to through."""

    @property
    def facts(self) -> dict[str, str]:
        """Return where it answers: ``{"visa": resource name}`` or ``{"port": serial port}``."""

    def start(self, after_command: Callable[[], None]) -> None:
        """Answer from now on; *after_command* is called when a command may have changed the board's voltage."""

    def close(self) -> None: ...


class LateReply:
    """The oddity ``late_reply: {to: "DATA?", delay_s: 3.0}``: the first answer to a message with *to* comes late."""

    def __init__(self, to: str, delay_s: float) -> None:
        self._to = to
        self._delay_s = delay_s
        self._pending = bool(to)

    def delay_s(self, message: bytes) -> float:
        """Return how long the answer to *message* is kept back."""
        if not self._pending or self._to.encode() not in message:
            return 0.0
        self._pending = False
        return self._delay_s


class ScpiServer:
    """Listens on a port of the kernel's choice on 127.0.0.1.

    An *exclusive* instrument serves one connection at a time; the next one hears nothing until the first has gone.
    """

    def __init__(self, commands: CommandSet[Any], oddities: Mapping[str, Any], *, exclusive: bool = False) -> None:
        self._commands = commands
        self._late_reply = LateReply(**oddities.get("late_reply", {"to": "", "delay_s": 0.0}))
        self._exclusive = exclusive
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._after_command: Callable[[], None] = lambda: None
        self._threads = [
            threading.Thread(target=self._accept, name="scpi", daemon=True),
            threading.Thread(target=self._tick, name="clockwork", daemon=True),
        ]

    @property
    def facts(self) -> dict[str, str]:
        return {"visa": f"TCPIP::127.0.0.1::{self._listener.getsockname()[1]}::SOCKET"}

    def start(self, after_command: Callable[[], None]) -> None:
        self._after_command = after_command
        for thread in list(self._threads):
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2)
        self._listener.close()

    def _tick(self) -> None:
        while not self._stop.wait(TICK_S):
            self._commands.advance()

    def _accept(self) -> None:
        while not self._stop.is_set():
            readable, _, _ = select.select([self._listener], [], [], TICK_S)
            if readable:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=self._serve, args=(connection,), name="session", daemon=True)
                self._threads = [t for t in self._threads if t.is_alive()] + [thread]
                thread.start()
                if self._exclusive:
                    thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            buffer = b""
            while not self._stop.is_set():
                readable, _, _ = select.select([connection], [], [], 0.1)
                if not readable:
                    continue
                received = connection.recv(1 << 16)
                if not received:
                    return
                *lines, buffer = (buffer + received).split(b"\n")
                for line in lines:
                    self._handle(connection, line)
                if len(buffer) > MAX_LINE:
                    buffer = b""
                    self._commands.report(ScpiError(-363))

    def _handle(self, connection: socket.socket, line: bytes) -> None:
        answers = []
        for unit in self._commands.units(line.decode("latin-1")):
            answer = self._commands.execute(unit)
            if isinstance(answer, Wait):
                answer = self._wait(connection, answer)
            if answer is not None:
                answers.append(answer)
            self._after_command()
        if answers:
            self._stop.wait(self._late_reply.delay_s(line))
            connection.sendall(b";".join(answers) + b"\n")

    def _wait(self, connection: socket.socket, wait: Wait) -> bytes | None:
        """Wait as *OPC? and FETCh? do; a client that hangs up ends the waiting, not the acquisition."""
        while not wait.ready():
            time.sleep(WAIT_STEP_S)
            readable, _, _ = select.select([connection], [], [], 0)
            if self._stop.is_set() or (readable and not connection.recv(1, socket.MSG_PEEK)):
                raise ConnectionAbortedError
        return self._commands.finish(wait)
