"""SCPI over TCP: line in, answer out, one thread a connection, one instrument behind them all."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable

from rig.virtual.meter.commands import Commands
from rig.virtual.meter.instrument import Instrument, Wait
from rig.virtual.meter.scpi import ScpiError

MAX_LINE = 1 << 16
WAIT_STEP_S = 0.005
TICK_S = 0.02


class ScpiServer:
    """Listens on a port of the kernel's choice on 127.0.0.1."""

    def __init__(self, instrument: Instrument, after_command: Callable[[], None]) -> None:
        self._instrument = instrument
        self._after_command = after_command
        self._commands = Commands(instrument)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._accept, name="scpi", daemon=True),
            threading.Thread(target=self._tick, name="clockwork", daemon=True),
        ]

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        for thread in list(self._threads):
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2)
        self._listener.close()

    def _tick(self) -> None:
        while not self._stop.wait(TICK_S):
            self._instrument.advance()

    def _accept(self) -> None:
        while not self._stop.is_set():
            readable, _, _ = select.select([self._listener], [], [], TICK_S)
            if readable:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=self._serve, args=(connection,), name="session", daemon=True)
                self._threads = [t for t in self._threads if t.is_alive()] + [thread]
                thread.start()

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
                    with self._instrument.lock:
                        self._instrument.status.add_error(ScpiError(-363))

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
            connection.sendall(b";".join(answers) + b"\n")

    def _wait(self, connection: socket.socket, wait: Wait) -> bytes | None:
        """Wait as *OPC? and FETCh? do; a client that hangs up ends the waiting, not the acquisition."""
        while not wait.ready():
            time.sleep(WAIT_STEP_S)
            readable, _, _ = select.select([connection], [], [], 0)
            if self._stop.is_set() or (readable and not connection.recv(1, socket.MSG_PEEK)):
                raise ConnectionAbortedError
        return self._commands.finish(wait)
