"""The 4 MiB SPI flash of the board, kept in a file."""

import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.errors import ConfigError

FLASH_BYTES = 4 << 20
SECTOR_BYTES = 0x1000


class FlashRangeError(ValueError):
    """An address range does not lie in the flash."""


class Flash:
    """NOR flash: erasing sets whole sectors to 0xFF, programming can only clear bits.

    The file is mapped, so that what is written survives the end of the process whatever ends it.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(b"\xff" * FLASH_BYTES)
        size = path.stat().st_size
        if size != FLASH_BYTES:
            raise ConfigError(
                f"flash file {path}: {size} bytes, not {FLASH_BYTES}; remove it to begin with an empty one"
            )
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(descriptor, FLASH_BYTES)
        finally:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._map.close()

    def read(self, offset: int, length: int) -> bytes:
        """Return *length* bytes from *offset*. Raises FlashRangeError."""
        _check_range(offset, length)
        return self._map[offset : offset + length]

    def erase(self, offset: int, length: int) -> None:
        """Erase every sector that the range touches. Raises FlashRangeError."""
        _check_range(offset, length)
        start = offset - offset % SECTOR_BYTES
        end = -(-(offset + length) // SECTOR_BYTES) * SECTOR_BYTES
        self._map[start:end] = b"\xff" * (end - start)

    def program(self, offset: int, data: bytes) -> None:
        """Program *data* at *offset*: the result is the AND of what was there and *data*. Raises FlashRangeError."""
        _check_range(offset, len(data))
        end = offset + len(data)
        before = self._map[offset:end]
        if before.count(b"\xff") != len(data):
            both = int.from_bytes(before, "little") & int.from_bytes(data, "little")
            data = both.to_bytes(len(data), "little")
        self._map[offset:end] = data


def _check_range(offset: int, length: int) -> None:
    if offset < 0 or length < 0 or offset + length > FLASH_BYTES:
        raise FlashRangeError(f"0x{offset:x} + 0x{length:x}")
