"""The 4 MiB SPI flash of the board, kept in a file; how often each sector was erased is kept in another beside it.

Times: Winbond W25Q32JV datasheet, "AC Electrical Characteristics", typical values.
"""

import mmap
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.errors import ConfigError

FLASH_BYTES = 4 << 20
SECTOR_BYTES = 0x1000
PAGE_BYTES = 256
PAGE_PROGRAM_S = 0.0004
SECTOR_ERASE_S = 0.045
BLOCK_ERASE_S = 0.150
CHIP_ERASE_S = 10.0

_BLOCK_BYTES = 0x10000
_COUNT = struct.Struct("<I")
_WEAR_BYTES = FLASH_BYTES // SECTOR_BYTES * _COUNT.size


class FlashRangeError(ValueError):
    """An address range does not lie in the flash."""


class Flash:
    """NOR flash: erasing sets whole sectors to 0xFF, programming can only clear bits.

    The files are mapped, so that what is written survives the end of the process whatever ends it. The wear file
    ``<path>.wear`` holds one 32-bit little-endian erase count a sector. The sector that contains *stuck_at* keeps its
    bits whatever is done to it.
    """

    def __init__(self, path: Path, *, stuck_at: int | None = None) -> None:
        if stuck_at is not None and not 0 <= stuck_at < FLASH_BYTES:
            raise ConfigError(f"flash file {path}: stuck_at 0x{stuck_at:x} is not in the {FLASH_BYTES} bytes of flash")
        self._stuck_sector = None if stuck_at is None else stuck_at // SECTOR_BYTES
        self._map = _mapped(path, FLASH_BYTES, b"\xff")
        self._wear = _mapped(path.with_name(f"{path.name}.wear"), _WEAR_BYTES, b"\0")
        self._busy_s = 0.0
        self.status = bytearray(b"\x00\x02\x60")  # the status registers as delivered: quad enabled, nothing protected

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._map.close()
        self._wear.close()

    def read(self, offset: int, length: int) -> bytes:
        """Return *length* bytes from *offset*. Raises FlashRangeError."""
        _check_range(offset, length)
        return self._map[offset : offset + length]

    def erase(self, offset: int, length: int) -> None:
        """Erase every sector that the range touches. Raises FlashRangeError."""
        _check_range(offset, length)
        start = offset - offset % SECTOR_BYTES
        end = -(-(offset + length) // SECTOR_BYTES) * SECTOR_BYTES
        self._busy_s += _erase_time_s(start, end)
        for sector in range(start // SECTOR_BYTES, end // SECTOR_BYTES):
            self._count(sector)
            self._store(sector * SECTOR_BYTES, b"\xff" * SECTOR_BYTES)

    def program(self, offset: int, data: bytes) -> None:
        """Program *data* at *offset*: the result is the AND of what was there and *data*. Raises FlashRangeError."""
        _check_range(offset, len(data))
        self._busy_s += -(-len(data) // PAGE_BYTES) * PAGE_PROGRAM_S
        before = self._map[offset : offset + len(data)]
        if before.count(b"\xff") != len(data):
            both = int.from_bytes(before, "little") & int.from_bytes(data, "little")
            data = both.to_bytes(len(data), "little")
        self._store(offset, data)

    def take_busy_s(self) -> float:
        """Return how long a real part would have been busy since the last call."""
        busy_s, self._busy_s = self._busy_s, 0.0
        return busy_s

    def _store(self, offset: int, data: bytes) -> None:
        if self._stuck_sector is None:
            self._map[offset : offset + len(data)] = data
            return
        stuck = range(self._stuck_sector * SECTOR_BYTES, (self._stuck_sector + 1) * SECTOR_BYTES)
        kept = self._map[stuck.start : stuck.stop]
        self._map[offset : offset + len(data)] = data
        self._map[stuck.start : stuck.stop] = kept

    def _count(self, sector: int) -> None:
        at = sector * _COUNT.size
        (count,) = _COUNT.unpack_from(self._wear, at)
        _COUNT.pack_into(self._wear, at, count + 1)


def _erase_time_s(start: int, end: int) -> float:
    """Return the time for the sectors from *start* to *end*, by the largest units that fit, as loaders do it."""
    if end - start == FLASH_BYTES:
        return CHIP_ERASE_S
    first_block, last_block = -(-start // _BLOCK_BYTES), end // _BLOCK_BYTES
    blocks = max(last_block - first_block, 0)
    sectors = (end - start - blocks * _BLOCK_BYTES) // SECTOR_BYTES
    return blocks * BLOCK_ERASE_S + sectors * SECTOR_ERASE_S


def _mapped(path: Path, size_bytes: int, empty: bytes) -> mmap.mmap:
    if not path.exists():
        path.write_bytes(empty * size_bytes)
    size = path.stat().st_size
    if size != size_bytes:
        raise ConfigError(f"file {path}: {size} bytes, not {size_bytes}; remove it to begin with an empty one")
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return mmap.mmap(descriptor, size_bytes)
    finally:
        os.close(descriptor)


def _check_range(offset: int, length: int) -> None:
    if offset < 0 or length < 0 or offset + length > FLASH_BYTES:
        raise FlashRangeError(f"0x{offset:x} + 0x{length:x}")
