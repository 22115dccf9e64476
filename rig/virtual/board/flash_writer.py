"""One write to flash through the loader, from its begin command to its last block."""

import zlib

from rig.virtual.board.flash import SECTOR_BYTES, Flash

_BLOCK_BYTES = 0x10000


class InflateError(Exception):
    """The compressed stream cannot be read."""


class FlashWriter:
    """Takes blocks, compressed if *compressed*, and writes *size_bytes* at *offset*.

    The ROM erases the whole range first (*erase_first*), the stub step by step just before it writes: what a write cut
    off half-way leaves behind differs. What goes beyond the announced size is not written.
    """

    def __init__(self, flash: Flash, offset: int, size_bytes: int, *, compressed: bool, erase_first: bool) -> None:
        self.compressed = compressed
        self._flash = flash
        self._offset = offset
        self._remaining = size_bytes
        self._inflate = zlib.decompressobj()
        self._erased = offset - offset % SECTOR_BYTES
        self._erase_end = -(-(offset + size_bytes) // SECTOR_BYTES) * SECTOR_BYTES
        flash.read(offset, size_bytes)  # raises FlashRangeError before anything is done
        if erase_first:
            flash.erase(offset, size_bytes)
            self._erased = self._erase_end

    def take(self, block: bytes) -> None:
        """Write the next block. Raises InflateError."""
        if self.compressed:
            try:
                # One byte more than announced is enough to see that there is too much.
                block = self._inflate.decompress(block, self._remaining + 1)
            except zlib.error as error:
                raise InflateError(str(error)) from error
        data = block[: self._remaining]
        self._erase_until(self._offset + len(data))
        self._flash.program(self._offset, data)
        self._offset += len(data)
        self._remaining -= len(data)

    def _erase_until(self, end: int) -> None:
        while self._erased < end:
            whole = self._erased % _BLOCK_BYTES == 0 and self._erase_end - self._erased >= _BLOCK_BYTES
            step = _BLOCK_BYTES if whole else SECTOR_BYTES
            self._flash.erase(self._erased, step)
            self._erased += step
