"""The board's serial port on the network with its modem lines: RFC 2217 (Telnet Com Port Control Option)."""

import struct
import sys
from collections.abc import Callable
from typing import Any, cast

from serial import rfc2217

from rig.virtual.board.tcp_port import Client, TcpPort

_IAC = b"\xff"


class ControlLines:
    """The serial port as pyserial's PortManager sees it: settings that are only stored, and two lines that act."""

    def __init__(self, on_lines: Callable[[bool, bool], None]) -> None:
        self.baudrate = 115200
        self.bytesize = 8
        self.parity = "N"
        self.stopbits = 1
        self.xonxoff = False
        self.rtscts = False
        self.break_condition = False
        self.cts = True
        self.dsr = True
        self.ri = False
        self.cd = True
        self._on_lines = on_lines
        self._dtr = False
        self._rts = False

    @property
    def dtr(self) -> bool:
        return self._dtr

    @dtr.setter
    def dtr(self, level: bool) -> None:
        self._dtr = level
        self._on_lines(self._dtr, self._rts)

    @property
    def rts(self) -> bool:
        return self._rts

    @rts.setter
    def rts(self, level: bool) -> None:
        self._rts = level
        self._on_lines(self._dtr, self._rts)

    def release(self) -> None:
        """Drop both lines at once, as a serial driver does when its port is closed."""
        self._dtr = self._rts = False
        self._on_lines(False, False)

    def reset_input_buffer(self) -> None:
        """Nothing is held here: what the board sends is on its way already."""

    def reset_output_buffer(self) -> None:
        """Nothing is held here: what the client sends is taken at once."""


class PortManager(rfc2217.PortManager):
    """pyserial's Telnet state machine, with plain data passed by it in whole pieces."""

    def feed(self, data: bytes) -> bytes:
        """Return the serial data in *data*; commands among it are carried out."""
        out = []
        position = 0
        while position < len(data):
            if self._in_plain_data():
                end = data.find(_IAC, position)
                end = len(data) if end < 0 else end
                out.append(data[position:end])
                position = end
            else:
                end = position
            if position < len(data):
                out.extend(self.filter(data[position : position + 1]))
                position += 1
        return b"".join(out)

    def _in_plain_data(self) -> bool:
        return self.mode == rfc2217.M_NORMAL and self.suboption is None


class _Rfc2217Client(Client):
    """One connection that speaks Telnet with the Com Port Control Option."""

    def __init__(self, port: "Rfc2217Port") -> None:
        super().__init__(port)
        self._lines = port.lines
        self._manager = PortManager(cast(Any, port.lines), cast(Any, self))

    def data_received(self, data: bytes) -> None:
        try:
            plain = self._manager.feed(data)
        except (struct.error, KeyError, TypeError) as error:
            print(f"console: the client's Telnet command cannot be read ({error}); closing", file=sys.stderr)
            self.drop()
            return
        if plain:
            self.take(plain)

    def connection_lost(self, _error: Exception | None) -> None:
        super().connection_lost(_error)
        self._lines.release()

    def send(self, data: bytes) -> None:
        self.write(data.replace(_IAC, _IAC + _IAC))


class Rfc2217Port(TcpPort):
    """The port with its modem lines: DTR and RTS go to *on_lines*."""

    scheme = "rfc2217"

    def __init__(self, on_data: Callable[[bytes], None], on_lines: Callable[[bool, bool], None]) -> None:
        super().__init__(on_data)
        self.lines = ControlLines(on_lines)

    def host_baud(self) -> int | None:
        """Return the rate that the client has asked for."""
        return self.lines.baudrate

    def make_client(self) -> Client:
        return _Rfc2217Client(self)
