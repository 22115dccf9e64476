"""The board's serial port on the network: RFC 2217 (Telnet Com Port Control Option), one client at a time."""

import asyncio
import struct
import sys
from collections.abc import Callable
from typing import Any, cast

from serial import rfc2217

_IAC = b"\xff"
_MAX_UNREAD_BYTES = 4 << 20


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


class Uart:
    """The port: bytes from the client go to *on_data*, DTR and RTS to *on_lines*."""

    def __init__(self, on_data: Callable[[bytes], None], on_lines: Callable[[bool, bool], None]) -> None:
        self.on_data = on_data
        self.lines = ControlLines(on_lines)
        self.client: _Client | None = None
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        """Listen on a free port of 127.0.0.1 and return it."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def send(self, data: bytes) -> None:
        """Send *data* to the client; with nobody on the line it is lost, as on any UART."""
        if self.client is not None:
            self.client.send(data)

    def close(self) -> None:
        """Stop listening and drop the client."""
        if self._server is not None:
            self._server.close()
        if self.client is not None:
            self.client.drop()


class _Client(asyncio.Protocol):
    """One TCP connection. The first holds the port; any other is closed at once."""

    def __init__(self, uart: Uart) -> None:
        self._uart = uart
        self._transport: asyncio.Transport | None = None
        self._manager: PortManager | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._uart.client is not None:
            self._transport.close()
            return
        self._uart.client = self
        self._manager = PortManager(cast(Any, self._uart.lines), cast(Any, self))

    def data_received(self, data: bytes) -> None:
        if self._manager is None:
            return
        try:
            plain = self._manager.feed(data)
        except (struct.error, KeyError, TypeError) as error:
            print(f"console: the client's Telnet command cannot be read ({error}); closing", file=sys.stderr)
            self.drop()
            return
        if plain:
            self._uart.on_data(plain)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._uart.client is self:
            self._uart.client = None
            self._uart.lines.release()

    def write(self, data: bytes) -> None:
        """Send bytes as they are (what PortManager calls for its own replies)."""
        # A client that does not read loses data, as with any UART; the board never waits for it.
        if self._transport is not None and self._transport.get_write_buffer_size() < _MAX_UNREAD_BYTES:
            self._transport.write(data)

    def send(self, data: bytes) -> None:
        """Send serial data."""
        self.write(data.replace(_IAC, _IAC + _IAC))

    def drop(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
