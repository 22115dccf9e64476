"""The registers that a flasher reads and writes: eFuses, and the SPI1 controller in front of the flash chip.

Sources: ESP32-C3 Technical Reference Manual, "eFuse Controller (EFUSE)"; esptool's target description of the ESP32-C3.
"""

from rig.virtual.board.flash import FLASH_BYTES

REVISION_MAJOR = 0
REVISION_MINOR = 4

_EFUSE_BLOCK1 = 0x60008844
_SPI1 = 0x60002000
_SPI_CMD, _SPI_ADDR, _SPI_USR2, _SPI_MISO_DLEN, _SPI_W0 = (_SPI1 + offset for offset in (0x00, 0x04, 0x20, 0x28, 0x58))
_SPI_CMD_USR = 1 << 18
_READ_JEDEC_ID, _READ_SFDP = 0x9F, 0x5A
# A 4 MiB part of Winbond; the vendor byte of its SFDP table says so too.
_JEDEC_ID = 0xEF | 0x40 << 8 | (FLASH_BYTES.bit_length() - 1) << 16
_SFDP = b"SFDP\x06\x01\x00\xff".ljust(16, b"\0") + b"\xef".ljust(64, b"\xff")


class Registers:
    """32-bit registers; those that nobody has written read as zero, apart from the eFuses."""

    def __init__(self, mac: bytes) -> None:
        self._values = {
            _EFUSE_BLOCK1: int.from_bytes(mac[2:6], "big"),
            _EFUSE_BLOCK1 + 4: int.from_bytes(mac[0:2], "big"),
            _EFUSE_BLOCK1 + 12: (REVISION_MINOR & 7) << 18,
            _EFUSE_BLOCK1 + 20: REVISION_MINOR >> 3 << 23 | REVISION_MAJOR << 24,
        }

    def read(self, address: int) -> int:
        """Return the register's value."""
        return self._values.get(address, 0)

    def write(self, address: int, value: int, mask: int) -> None:
        """Set the bits of *mask* to *value*; a command to the SPI controller is carried out at once."""
        if _EFUSE_BLOCK1 <= address < _EFUSE_BLOCK1 + 24:
            return
        self._values[address] = self.read(address) & ~mask & 0xFFFFFFFF | value & mask
        if address == _SPI_CMD and self._values[address] & _SPI_CMD_USR:
            self._values[_SPI_W0] = self._spi_answer()
            self._values[address] &= ~_SPI_CMD_USR

    def _spi_answer(self) -> int:
        opcode = self.read(_SPI_USR2) & 0xFF
        if opcode == _READ_JEDEC_ID:
            return _JEDEC_ID
        if opcode == _READ_SFDP:
            address = self.read(_SPI_ADDR)
            length = min((self.read(_SPI_MISO_DLEN) + 1) // 8, 4)
            return int.from_bytes(_SFDP[address : address + length], "little")
        return 0  # the status registers: nothing busy, nothing protected
