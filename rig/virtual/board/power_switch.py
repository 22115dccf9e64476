"""The switch in the board's supply, as a Unix stream socket: a line ``off`` or ``on`` is carried out, then ``ok``."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

_POSITIONS = {b"off\n": False, b"on\n": True}


class PowerSwitch:
    """Listens at *path*; *on_switch* gets True for on."""

    def __init__(self, path: Path, on_switch: Callable[[bool], None]) -> None:
        self.path = path
        self._on_switch = on_switch
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Be there for ``python -m rig.virtual.power``."""
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            # A socket's path holds 107 bytes, and the board's folder may be deeper than that.
            listener.bind(f"/proc/self/fd/{folder}/{self.path.name}")
        finally:
            os.close(folder)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line in _POSITIONS:
                self._on_switch(_POSITIONS[line])
            writer.write(b"ok\n" if line in _POSITIONS else b"say off or on\n")
        writer.close()
