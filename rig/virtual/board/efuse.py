"""The eFuses and their controller, as registers: bits that can be burnt once and never cleared.

Sources: ESP32-C3 Technical Reference Manual, "eFuse Controller (EFUSE)"; espefuse's description of the ESP32-C3.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

from rig.errors import ConfigError
from rig.virtual.board.reed_solomon import check_bytes

BASE = 0x60008800
WINDOW_BYTES = 0x200

_BLOCKS = {0: (0x2C, 24), 1: (0x44, 24)} | {number: (0x5C + 0x20 * (number - 2), 32) for number in range(2, 11)}
_NONE: Mapping[str, int] = {}
_DATA_BYTES = 32
_CHECK_BYTES = 12
_CELLS = slice(0x2C, 0x17C)
_ERRORS = slice(0x1C0, 0x1C8)
_CONF, _CMD = 0x1CC, 0x1D4
_PROGRAM_CODE, _READ_CODE = 0x5A5A, 0x5AA5
_READ, _PROGRAM = 1, 2
_ERROR_COUNT = 7
_FIRST_KEY_BLOCK = 4
# Which words of block 0 a bit of WR_DIS protects: bit -> ((word, mask), ...).
_PROTECTED: Mapping[int, tuple[tuple[int, int], ...]] = {
    0: ((1, 0x7F),),
    1: ((1, 1 << 7),),
    2: ((1, 0x0018DF00),),
    3: ((1, 0xE0000000), (2, 0x00030000)),
    4: ((2, 0x001C0000),),
    5: ((2, 1 << 21),),
    6: ((2, 1 << 22),),
    7: ((2, 1 << 23),),
    8: ((2, 0x0F000000),),
    9: ((2, 0xF0000000),),
    10: ((3, 0xF),),
    11: ((3, 0xF0),),
    12: ((3, 0xF00),),
    13: ((3, 0xF000),),
    15: ((3, 1 << 20),),
    16: ((3, 1 << 21),),
    18: ((3, 0xF0000000), (4, 0x3FFFFFFF)),
    19: ((4, 1 << 31), (5, 3)),
    30: ((1, 0x1FE00000),),
    31: ((1, 0x00070000),),
}

FUSES: Mapping[str, tuple[int, int, int]] = {
    "WR_DIS": (0, 0, 32),
    "RD_DIS": (1, 0, 7),
    "DIS_USB_JTAG": (1, 9, 1),
    "DIS_DOWNLOAD_ICACHE": (1, 10, 1),
    "SOFT_DIS_JTAG": (1, 16, 3),
    "DIS_PAD_JTAG": (1, 19, 1),
    "DIS_DOWNLOAD_MANUAL_ENCRYPT": (1, 20, 1),
    "SPI_BOOT_CRYPT_CNT": (2, 18, 3),
    "SECURE_BOOT_KEY_REVOKE0": (2, 21, 1),
    "SECURE_BOOT_KEY_REVOKE1": (2, 22, 1),
    "SECURE_BOOT_KEY_REVOKE2": (2, 23, 1),
    "KEY_PURPOSE_0": (2, 24, 4),
    "KEY_PURPOSE_1": (2, 28, 4),
    "SECURE_BOOT_EN": (3, 20, 1),
    "DIS_DIRECT_BOOT": (4, 1, 1),
    "SECURE_VERSION": (4, 14, 16),
}
"""Fuses that a new chip can be given: word of block 0, position and length."""


class Efuse:
    """The fuses of one chip and the registers in front of them.

    The file is the one that ``espefuse --virt --path-efuse-file`` works on: the register window, last byte first. A
    blank one gets the chip's *mac* and *revision* (major * 100 + minor), as a new chip has them from the factory, and
    *burnt*, the values of some of `FUSES`.
    Without a file the fuses end with the process. Raises ConfigError for a file of another size or another chip.
    """

    def __init__(self, path: Path | None, mac: bytes, revision: int, burnt: Mapping[str, int] = _NONE) -> None:
        self._path = path
        self._window = bytearray(WINDOW_BYTES)  # the registers as a host reads and writes them
        self._cells = bytearray(WINDOW_BYTES)  # what is burnt
        if path is not None and path.exists():
            self._load(path)
        self._make(mac, revision, burnt)
        self.latch()

    def read(self, address: int) -> int:
        """Return a register of the window."""
        value: int = struct.unpack_from("<I", self._window, address - BASE)[0]
        return value

    def write(self, address: int, value: int) -> None:
        """Write a register; a command is carried out at once, if the right code is in CONF."""
        offset = address - BASE
        if _CELLS.start <= offset < _CELLS.stop or _ERRORS.start <= offset < _ERRORS.stop:
            return  # read only
        struct.pack_into("<I", self._window, offset, value)
        if offset != _CMD:
            return
        (code,) = struct.unpack_from("<I", self._window, _CONF)
        if value & _PROGRAM and code == _PROGRAM_CODE:
            self._program(value >> 2 & 0xF)
        elif value & _READ and code == _READ_CODE:
            self.latch()
        struct.pack_into("<I", self._window, _CMD, 0)

    def latch(self) -> None:
        """Let what is burnt take effect, as the read command and every reset of the chip do."""
        self._window[_CELLS] = self._cells[_CELLS]
        self._window[_ERRORS] = self._cells[_ERRORS]
        for number in range(_FIRST_KEY_BLOCK, 11):
            if self._bits(1, number - _FIRST_KEY_BLOCK, 1):  # RD_DIS
                start, size = _BLOCKS[number]
                self._window[start : start + size] = bytes(size)

    # What the ROM looks at, of block 0

    @property
    def download_disabled(self) -> bool:
        """Whether the chip never enters its loader (DIS_DOWNLOAD_MODE)."""
        return bool(self._bits(4, 0, 1))

    @property
    def secure_download(self) -> bool:
        """Whether the loader serves the harmless commands only (ENABLE_SECURITY_DOWNLOAD)."""
        return bool(self._bits(4, 5, 1))

    @property
    def rom_is_silent(self) -> bool:
        """Whether the ROM prints nothing: UART_PRINT_CONTROL 3, or 1 (GPIO8 low prints; the board pulls it up)."""
        return self._bits(4, 6, 2) in (1, 3)

    @property
    def secure_version(self) -> int:
        """SECURE_VERSION, which counts by the number of its bits."""
        return self._bits(4, 14, 16).bit_count()

    @property
    def crypt_count(self) -> int:
        """SPI_BOOT_CRYPT_CNT: flash encryption is on with 1 or 3 of its bits set."""
        return self._bits(2, 18, 3)

    @property
    def key_purposes(self) -> bytes:
        """One number a key block."""
        return bytes([self._bits(2, 24, 4), self._bits(2, 28, 4), *(self._bits(3, 4 * n, 4) for n in range(4))])

    @property
    def security_flags(self) -> int:
        """The flags that GET_SECURITY_INFO reports."""
        flags = [
            self._bits(3, 20, 1),  # SECURE_BOOT_EN
            self._bits(3, 21, 1),  # SECURE_BOOT_AGGRESSIVE_REVOKE
            self._bits(4, 5, 1),  # ENABLE_SECURITY_DOWNLOAD
            *(self._bits(2, 21 + number, 1) for number in range(3)),  # SECURE_BOOT_KEY_REVOKE
            self._bits(1, 16, 3).bit_count() & 1,  # SOFT_DIS_JTAG: an odd number of bits disables
            self._bits(1, 19, 1),  # DIS_PAD_JTAG
            self._bits(1, 11, 1),  # DIS_USB_SERIAL_JTAG
            0,  # no data cache to disable
            self._bits(1, 10, 1),  # DIS_DOWNLOAD_ICACHE
        ]
        return sum(flag << number for number, flag in enumerate(flags))

    def _bits(self, word: int, position: int, length: int) -> int:
        (value,) = struct.unpack_from("<I", self._window, _BLOCKS[0][0] + 4 * word)
        bits: int = value >> position & (1 << length) - 1
        return bits

    # Burning

    def _program(self, number: int) -> None:
        if number not in _BLOCKS:
            return
        start, size = _BLOCKS[number]
        data = bytes(self._window[:_DATA_BYTES])
        before = bytes(self._cells[start : start + size]).ljust(_DATA_BYTES, b"\0")
        allowed = self._allowed(number)
        after = bytes(old | new & mask for old, new, mask in zip(before, data, allowed, strict=True))
        if number and any(allowed):
            self._note_errors(number, before, after)
        self._cells[start : start + size] = after[:size]
        self._save()

    def _allowed(self, number: int) -> bytes:
        """Return the bits of a block that WR_DIS leaves to be burnt."""
        (disabled,) = struct.unpack_from("<I", self._cells, _BLOCKS[0][0])
        if number:
            return bytes(_DATA_BYTES) if disabled >> 19 + number & 1 else b"\xff" * _DATA_BYTES
        words = [0xFFFFFFFF] * 8
        for bit, places in _PROTECTED.items():
            for word, mask in places if disabled >> bit & 1 else ():
                words[word] &= ~mask
        return struct.pack("<8I", *words)

    def _note_errors(self, number: int, before: bytes, after: bytes) -> None:
        """Set the error bits of a block whose check bytes do not fit: all but block 0 can be burnt only once."""
        burnt = check_bytes(before) if any(before) else bytes(_CHECK_BYTES)
        new = self._window[_DATA_BYTES : _DATA_BYTES + _CHECK_BYTES]
        if bytes(old | one for old, one in zip(burnt, new, strict=True)) == check_bytes(after):
            return
        (errors,) = struct.unpack_from("<Q", self._cells, _ERRORS.start)
        # The place of the failure bit is shifted by one block against that of the count: a fault of the real chip.
        errors |= _ERROR_COUNT << 4 * (number - 1) | (1 << 4 * number + 3 if number < 10 else 0)
        struct.pack_into("<Q", self._cells, _ERRORS.start, errors)

    def _make(self, mac: bytes, revision: int, factory: Mapping[str, int]) -> None:
        start = _BLOCKS[1][0]
        burnt = bytes(self._cells[start : start + 6][::-1])
        if not any(burnt):
            major, minor = divmod(revision, 100)
            words = [0, 0, 0, (minor & 7) << 18, 0, minor >> 3 << 23 | major << 24]
            struct.pack_into("<6I", self._cells, start, *words)
            self._cells[start : start + 6] = mac[::-1]
            for name, value in factory.items():
                self._burn_at_factory(name, value)
            self._save()
        elif burnt != mac:
            raise ConfigError(f"eFuse file {self._path}: of the chip {burnt.hex(':')}, not of {mac.hex(':')}")

    def _burn_at_factory(self, name: str, value: int) -> None:
        word, position, length = FUSES[name]
        offset = _BLOCKS[0][0] + 4 * word
        (before,) = struct.unpack_from("<I", self._cells, offset)
        struct.pack_into("<I", self._cells, offset, before | (value & (1 << length) - 1) << position)

    def _load(self, path: Path) -> None:
        window = path.read_bytes()[::-1]
        if len(window) != WINDOW_BYTES:
            raise ConfigError(f"eFuse file {path}: {len(window)} bytes, not {WINDOW_BYTES}; remove it to begin anew")
        self._cells[_CELLS] = window[_CELLS]
        self._cells[_ERRORS] = window[_ERRORS]

    def _save(self) -> None:
        if self._path is not None:
            self._path.write_bytes(self._cells[::-1])
