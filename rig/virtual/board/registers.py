"""The registers that a flasher reads and writes: eFuses, the SPI1 controller in front of the flash, the RTC watchdog.

Sources: ESP32-C3 Technical Reference Manual; esptool's target description of the ESP32-C3.
"""

import struct
from collections.abc import Callable

from rig.virtual.board import efuse
from rig.virtual.board.efuse import Efuse
from rig.virtual.board.flash import FLASH_BYTES, Flash

REVISION = 3  # v0.3: major * 100 + minor; the revision of the chip whose texts are in bootloader.py

_SPI1 = 0x60002000
_SPI_CMD, _SPI_ADDR, _SPI_USR2 = _SPI1, _SPI1 + 0x04, _SPI1 + 0x20
_SPI_MOSI_DLEN, _SPI_MISO_DLEN, _SPI_W0 = _SPI1 + 0x24, _SPI1 + 0x28, _SPI1 + 0x58
_SPI_CMD_USR = 1 << 18
_WRITE_STATUS = {0x01: 0, 0x31: 1, 0x11: 2}
_READ_STATUS = {0x05: 0, 0x35: 1, 0x15: 2}
_WRITE_ENABLE, _VOLATILE_WRITE_ENABLE, _WRITE_DISABLE = 0x06, 0x50, 0x04
_READ_JEDEC_ID, _READ_SFDP = 0x9F, 0x5A
_WRITE_ENABLED = 1 << 1
# A 4 MiB part of Winbond; the vendor byte of its SFDP table says so too.
_JEDEC_ID = 0xEF | 0x40 << 8 | (FLASH_BYTES.bit_length() - 1) << 16
_SFDP = b"SFDP\x06\x01\x00\xff".ljust(16, b"\0") + b"\xef".ljust(64, b"\xff")
_WDT_CONFIG, _WDT_TIMEOUT, _WDT_PROTECT = 0x60008090, 0x60008094, 0x600080A8
_WDT_KEY = 0x50D83AA1
_WDT_ENABLED = 1 << 31
_SLOW_CLOCK_HZ = 136_000


class Registers:
    """32-bit registers; those that nobody has written read as zero, apart from the eFuses.

    *on_watchdog* is called with the delay in seconds when the RTC watchdog is started.
    """

    def __init__(self, fuses: Efuse, flash: Flash, on_watchdog: Callable[[float], None]) -> None:
        self._fuses = fuses
        self._on_watchdog = on_watchdog
        self._values: dict[int, int] = {}
        self._status = flash.status

    def read(self, address: int) -> int:
        """Return the register's value."""
        if efuse.BASE <= address <= efuse.BASE + efuse.WINDOW_BYTES - 4:
            return self._fuses.read(address)
        return self._values.get(address, 0)

    def write(self, address: int, value: int, mask: int) -> None:
        """Set the bits of *mask* to *value*; a command to a controller is carried out at once."""
        value = self.read(address) & ~mask & 0xFFFFFFFF | value & mask
        if efuse.BASE <= address <= efuse.BASE + efuse.WINDOW_BYTES - 4:
            self._fuses.write(address, value)
            return
        if address in (_WDT_CONFIG, _WDT_TIMEOUT) and self.read(_WDT_PROTECT) != _WDT_KEY:
            return
        self._values[address] = value
        if address == _SPI_CMD and value & _SPI_CMD_USR:
            self._values[_SPI_W0] = self._spi_answer(self.read(_SPI_W0))
            self._values[address] &= ~_SPI_CMD_USR
        elif address == _WDT_CONFIG and value & _WDT_ENABLED:
            self._on_watchdog(self.read(_WDT_TIMEOUT) / _SLOW_CLOCK_HZ)

    def load(self, address: int, data: bytes) -> None:
        """Put *data* into the chip's memory, from where it can be read back word by word."""
        padded = data + bytes(-len(data) % 4)
        for number, (value,) in enumerate(struct.iter_unpack("<I", padded)):
            self._values[(address + 4 * number) & 0xFFFFFFFF] = value

    def _spi_answer(self, data: int) -> int:
        opcode = self.read(_SPI_USR2) & 0xFF
        if opcode == _READ_JEDEC_ID:
            return _JEDEC_ID
        if opcode == _READ_SFDP:
            address = self.read(_SPI_ADDR)
            length = min((self.read(_SPI_MISO_DLEN) + 1) // 8, 4)
            return int.from_bytes(_SFDP[address : address + length], "little")
        if opcode in _READ_STATUS:
            return self._status[_READ_STATUS[opcode]]
        if opcode in (_WRITE_ENABLE, _VOLATILE_WRITE_ENABLE):
            self._status[0] |= _WRITE_ENABLED
        elif opcode == _WRITE_DISABLE:
            self._status[0] &= ~_WRITE_ENABLED
        elif opcode in _WRITE_STATUS and self._status[0] & _WRITE_ENABLED:
            first = _WRITE_STATUS[opcode]
            count = 2 if opcode == 0x01 and self.read(_SPI_MOSI_DLEN) > 8 else 1
            self._status[first : first + count] = data.to_bytes(4, "little")[:count]
            self._status[0] &= ~_WRITE_ENABLED
        return data
