"""The supply wire: the board says what current it draws, the meter says what voltage is left at its pins."""

import contextlib
import select
import socket
import sys
import threading
from pathlib import Path

from rig.virtual.meter.instrument import VirtualInstrument

VOLTAGE_STEP_V = 1e-3
POLL_S = 0.05


class SupplyWire:
    """Serves one board at a time on a unix seqpacket socket."""

    def __init__(self, instrument: VirtualInstrument, path: Path) -> None:
        self._instrument = instrument
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._board: socket.socket | None = None
        self._sent_v: float | None = None
        self._warned = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="supply", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * POLL_S + 1)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def update(self) -> None:
        """Tell the board its voltage if it has changed by more than a millivolt."""
        with self._instrument.lock:
            voltage_v = self._instrument.board_voltage_v()
            if self._board is None or (self._sent_v is not None and abs(voltage_v - self._sent_v) <= VOLTAGE_STEP_V):
                return
            with contextlib.suppress(OSError):
                # A board that does not read keeps nobody waiting: the value goes out with the next update.
                self._board.send(f"{self._instrument.now_ns()} v {voltage_v:.6f}".encode(), socket.MSG_DONTWAIT)
                self._sent_v = voltage_v

    def _serve(self) -> None:
        while not self._stop.is_set():
            readable, _, _ = select.select([self._listener], [], [], POLL_S)
            if readable:
                board, _ = self._listener.accept()
                with board:
                    self._serve_board(board)

    def _serve_board(self, board: socket.socket) -> None:
        self._board, self._sent_v = board, None
        self.update()
        while not self._stop.is_set():
            readable, _, _ = select.select([board], [], [], self._until_next_change_s())
            if readable and not self._receive(board):
                break
            self.update()
        with self._instrument.lock:
            self._board = None
            self._instrument.timeline.set_current(self._instrument.now_ns(), 0.0)

    def _until_next_change_s(self) -> float:
        """Return how long to wait: messages may announce a change ahead of its time."""
        with self._instrument.lock:
            now_ns = self._instrument.now_ns()
            next_ns = self._instrument.timeline.next_change_ns(now_ns)
        return POLL_S if next_ns is None else min(POLL_S, (next_ns - now_ns) * 1e-9)

    def _receive(self, board: socket.socket) -> bool:
        try:
            message = board.recv(4096)
        except ConnectionError:
            return False
        if message:
            self._apply(message)
        return bool(message)

    def _apply(self, message: bytes) -> None:
        try:
            t_text, verb, value = message.decode("ascii").split()
            t_ns = int(t_text)
            with self._instrument.lock:
                timeline = self._instrument.timeline
                if verb == "i":
                    timeline.set_current(t_ns, float(value))
                elif verb == "gpio":
                    timeline.set_level(t_ns, int(value))
                else:
                    raise ValueError(verb)
                if timeline.late_events and not self._warned:
                    self._warned = True
                    print("virtual meter: events of the board arrive after they were measured", file=sys.stderr)
        except ValueError:
            print(f"virtual meter: not a message of the supply wire: {message!r}", file=sys.stderr)
