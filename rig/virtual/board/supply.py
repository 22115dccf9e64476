"""The board's supply: the wire to the meter in series with it, and the record of what was demanded.

The wire is a Unix seqpacket socket with one ASCII message a packet. To the meter: ``<t_ns> i <amps>`` and
``<t_ns> gpio <0|1>`` (the trigger line); from it: ``<t_ns> v <volts>`` at the board's pins.
"""

import asyncio
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from rig.errors import BenchError
from rig.virtual.board.power import OFF_CURRENT_A, Demand

NOMINAL_VOLTAGE_V = 3.3
_CONNECT_TIMEOUT_S = 10.0
_CONNECT_RETRY_S = 0.1
_MESSAGE_BYTES = 256
# The application's events arrive a little after they happened. Changes that only time brings (the end of an airtime,
# of the receiver's tail) are told this much later, so that an event on its way can still come before them.
_SETTLING_NS = 2_000_000


class SupplyWire:
    """The socket to the meter. *on_voltage* gets volts, or None when the meter has gone and the board is cut off."""

    def __init__(self, path: str, on_voltage: Callable[[float | None], None], on_return: Callable[[], None]) -> None:
        self._path = path
        self._on_voltage = on_voltage
        self._on_return = on_return
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._waiting: deque[bytes] = deque()

    async def connect(self) -> None:
        """Wait for the meter. Raises BenchError when it has not come within 10 s."""
        deadline_s = self._loop.time() + _CONNECT_TIMEOUT_S
        while not self._try_connect():
            if self._loop.time() > deadline_s:
                raise BenchError(f"no meter listens at {self._path}; start the meter before the board")
            await asyncio.sleep(_CONNECT_RETRY_S)

    def send(self, message: str) -> None:
        """Send one message; without a meter it goes nowhere."""
        if self._socket is None:
            return
        self._waiting.append(message.encode())
        if len(self._waiting) == 1:
            self._flush()

    def close(self) -> None:
        """Let go of the meter."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        self._waiting.clear()

    def _try_connect(self) -> bool:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            return False
        self._socket = connection
        self._loop.add_reader(connection, self._receive, connection)
        return True

    def _reconnect(self) -> None:
        if self._try_connect():
            self._on_return()
        else:
            self._loop.call_later(_CONNECT_RETRY_S, self._reconnect)

    def _receive(self, connection: socket.socket) -> None:
        try:
            message = connection.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._lost()
            return
        match message.split():
            case [_, b"v", volts]:
                self._on_voltage(float(volts))
            case _:
                raise BenchError(f"supply wire: message {message!r} is not '<t_ns> v <volts>'; meter and board differ")

    def _flush(self) -> None:
        assert self._socket is not None
        try:
            while self._waiting:
                self._socket.send(self._waiting[0])
                self._waiting.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._flush)
        except OSError:
            self._lost()
        else:
            self._loop.remove_writer(self._socket)

    def _lost(self) -> None:
        if self._socket is None:
            return
        print(f"supply wire: the meter at {self._path} has gone; the board is without power", file=sys.stderr)
        self.close()
        self._on_voltage(None)
        self._loop.call_later(_CONNECT_RETRY_S, self._reconnect)


class Supply:
    """What the chip reports its consumption to; passes it on to the meter and to the truth file (``t_ns,amps``).

    Without a meter (*path* None) the board is fed with 3.3 V. Between the meter and the board lies the board's own
    switch, closed at first. *on_voltage* as for SupplyWire.
    """

    def __init__(self, path: str | None, truth: Path, on_voltage: Callable[[float | None], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_voltage = on_voltage
        self._truth = truth.open("a", encoding="ascii")
        self._wire = SupplyWire(path, self._set_voltage, self._meter_returned) if path is not None else None
        self._voltage_v: float | None = None
        self._closed = True
        self._demand = Demand(time.monotonic_ns(), OFF_CURRENT_A)
        self._timer: asyncio.TimerHandle | None = None
        self._trigger = False

    async def connect(self) -> None:
        """Connect to the meter, if there is one, and feed the chip."""
        if self._wire is not None:
            await self._wire.connect()
        self._publish()
        self._set_voltage(NOMINAL_VOLTAGE_V)

    def switch(self, on: bool) -> None:
        """Close or open the switch in the supply path."""
        if on != self._closed:
            self._closed = on
            self._on_voltage(self._voltage_v if on else None)

    def close(self) -> None:
        """Let go of the meter and of the truth file."""
        if self._timer is not None:
            self._timer.cancel()
        if self._wire is not None:
            self._wire.close()
        self._truth.close()

    def state(self, current_a: float, *, radio: bool = False, t_ns: int | None = None) -> None:
        """The chip is in a state that draws *current_a*, from *t_ns* on (now, if None)."""
        self._demand.state(time.monotonic_ns() if t_ns is None else t_ns, current_a, radio=radio)
        self._publish()

    def transmit(self, t_ns: int, udp_payload_bytes: int) -> None:
        """One datagram is sent."""
        self._demand.transmit(t_ns, udp_payload_bytes)
        self._publish()

    def receive(self, t_ns: int) -> None:
        """One datagram was received."""
        self._demand.receive(t_ns)
        self._publish()

    def trigger(self, level: bool, t_ns: int | None = None) -> None:
        """The trigger line takes *level*."""
        if level != self._trigger:
            self._trigger = level
            self._tell(f"{time.monotonic_ns() if t_ns is None else t_ns} gpio {int(level)}")

    def _tell(self, message: str) -> None:
        if self._wire is not None:
            self._wire.send(message)

    def _meter_returned(self) -> None:
        self._tell(f"{time.monotonic_ns()} i {self._demand.current_a():.9g}")
        self._set_voltage(NOMINAL_VOLTAGE_V)

    def _set_voltage(self, voltage_v: float | None) -> None:
        self._voltage_v = voltage_v
        if self._closed:
            self._on_voltage(voltage_v)

    def _publish(self) -> None:
        changes = self._demand.take(time.monotonic_ns() - _SETTLING_NS)
        for change in changes:
            self._truth.write(f"{change.t_ns},{change.current_a:.9g}\n")
            self._tell(f"{change.t_ns} i {change.current_a:.9g}")
        if changes:
            self._truth.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ns = self._demand.next_change_ns()
        if due_ns is not None:
            self._timer = self._loop.call_at((due_ns + _SETTLING_NS) / 1e9, self._publish)
