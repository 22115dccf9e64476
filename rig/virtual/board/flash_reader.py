"""The stub's fast read: blocks go out while the host acknowledges them by the number of bytes that it has got."""

import hashlib
from collections.abc import Callable


class FlashReader:
    """One read under way; *send* takes frames, and the last one is the MD5 of *data*."""

    def __init__(self, data: bytes, block_bytes: int, window_blocks: int, send: Callable[[bytes], None]) -> None:
        self._data = data
        self._block_bytes = block_bytes
        self._window_bytes = block_bytes * window_blocks
        self._send = send
        self._sent = 0
        self.done = False

    def acknowledge(self, received_bytes: int) -> None:
        """Go on with what the window allows."""
        while self._sent < len(self._data) and self._sent - received_bytes < self._window_bytes:
            block = self._data[self._sent : self._sent + self._block_bytes]
            self._send(block)
            self._sent += len(block)
        if received_bytes >= len(self._data):
            self._send(hashlib.md5(self._data, usedforsecurity=False).digest())
            self.done = True
