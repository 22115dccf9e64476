"""The board's serial port as a plain TCP connection: bytes only, one client at a time."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

_HOST = "127.0.0.1"
_MAX_UNREAD_BYTES = 4 << 20


class Client(asyncio.Protocol):
    """One TCP connection. The first holds the port; any other is closed at once."""

    def __init__(self, port: "TcpPort") -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.take(data)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._port.client is self:
            self._port.client = None

    def take(self, data: bytes) -> None:
        """Pass serial data on to the board."""
        self._port.on_data(data)

    def send(self, data: bytes) -> None:
        """Send serial data."""
        self.write(data)

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        # A client that does not read loses data, as with any UART; the board never waits for it.
        if self._transport is not None and self._transport.get_write_buffer_size() < _MAX_UNREAD_BYTES:
            self._transport.write(data)

    def drop(self) -> None:
        """Close the connection; what is still on its way to the client is lost."""
        if self._transport is not None:
            self._transport.abort()


class _Refused(asyncio.Protocol):
    """A connection to a port that is taken."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class TcpPort:
    """The port: bytes from the client go to *on_data*. It keeps its number while the device comes and goes."""

    scheme = "socket"

    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        self.on_data = on_data
        self.client: Client | None = None
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Task[None] | None = None
        self._listener: socket.socket | None = None
        self._reserved = _bound(0)  # keeps the number from others while nobody listens there

    def appear(self) -> str:
        """Listen on a free port of 127.0.0.1, always the same, and return the URL."""
        number = self._reserved.getsockname()[1]
        if self._listener is None:
            self._listener = _bound(number)
            self._listener.listen()
            self._starting = asyncio.get_running_loop().create_task(self._serve(self._listener))
        return f"{self.scheme}://{_HOST}:{number}"

    def vanish(self) -> None:
        """Stop listening and drop the client."""
        if self._starting is not None:
            self._starting.cancel()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self.client is not None:
            self.client.drop()

    def send(self, data: bytes) -> None:
        """Send *data* to the client; with nobody on the line it is lost, as on any UART."""
        if self.client is not None:
            self.client.send(data)

    def host_baud(self) -> int | None:
        """Return None: the client's rate does not reach the board."""
        return None

    def make_client(self) -> Client:
        """Return the protocol of the one who holds the port."""
        return Client(self)

    async def _serve(self, listener: socket.socket) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._accept, sock=listener)

    def _accept(self) -> asyncio.Protocol:
        if self.client is not None:
            return _Refused()
        self.client = self.make_client()
        return self.client


def _bound(number: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((_HOST, number))
    return bound
