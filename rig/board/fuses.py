"""The security fuses of a chip: read through esptool's own espefuse, told in words, never burnt.

Source of the fields: ESP32-C3 Technical Reference Manual, "eFuse Controller (EFUSE)", as espefuse names them. What a
release wants of them is what the requirements PLT-03 to PLT-05 ask for; whether a board is one is not judged here.
"""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rig.board.loader import FAILURES, check_mac, connect, esptool_output_to, first_line, read_mac
from rig.board.lock import BoardLock
from rig.board.recovery import Recovery
from rig.board.serialport import SerialPort
from rig.errors import BenchError

KEY_BLOCKS = 6
_DIGEST_SLOTS = 3


@dataclass(frozen=True)
class KeyBlock:
    """One of the six key blocks. ``purpose`` is espefuse's name; the key itself is not kept."""

    number: int
    purpose: str
    read_protected: bool
    write_protected: bool


@dataclass(frozen=True)
class SecurityFuses:
    """What is burnt into a chip, by the names of espefuse in lower case; True where the bit is set.

    ``revision``: as ``v0.4``. ``spi_boot_crypt_cnt``: 0 to 7, flash encryption is on with one or three bits set.
    ``soft_dis_jtag``: 0 to 7, JTAG is off (until unlocked by HMAC) with one or three bits set. ``uart_print_control``:
    0 always, 1 and 2 by GPIO8, 3 never. ``secure_version``: the bits set in the field, which is how it counts.
    """

    mac: str
    revision: str
    secure_boot_en: bool
    secure_boot_aggressive_revoke: bool
    secure_boot_key_revoke: tuple[bool, ...]
    spi_boot_crypt_cnt: int
    dis_download_manual_encrypt: bool
    dis_download_icache: bool
    dis_pad_jtag: bool
    dis_usb_jtag: bool
    soft_dis_jtag: int
    dis_usb_serial_jtag: bool
    dis_download_mode: bool
    enable_security_download: bool
    dis_usb_serial_jtag_download_mode: bool
    dis_force_download: bool
    dis_direct_boot: bool
    uart_print_control: int
    dis_usb_serial_jtag_rom_print: bool
    secure_version: int
    key_blocks: tuple[KeyBlock, ...]

    @property
    def flash_encrypted(self) -> bool:
        """Whether the chip decrypts what it reads from flash."""
        return _odd(self.spi_boot_crypt_cnt)

    def explained(self) -> Iterator["Explained"]:
        """Tell the fuses in words, each beside what a release wants."""
        yield from _secure_boot(self)
        yield from _flash_encryption(self)
        yield from _ways_in(self)


@dataclass(frozen=True)
class Explained:
    """One fact about the fuses. ``requirement``: the row of the catalogue that asks for it; ``release``: what for."""

    requirement: str
    subject: str
    state: str
    release: str


def read_fuses(port: SerialPort, *, mac: str, recovery: Recovery | None = None) -> SecurityFuses:
    """Read the fuses of the board with this MAC, whose lock the caller holds; the chip is left in its loader.

    Raises WrongBoard, BoardDead, BenchError.
    """
    with esptool_output_to(None):
        loader = connect(port, recovery)
        found = read_mac(port, loader)
        check_mac(port, expected=mac, found=found)
        return _read(port, loader, found)


def read_fuses_at(url: str) -> SecurityFuses:
    """Read the fuses of whatever board is at the port *url*, and start it again.

    Its MAC, and with it its lock, is known only once its loader has answered. Raises BoardBusy, BoardDead, BenchError.
    """
    with SerialPort(url) as port, esptool_output_to(None):
        loader = connect(port)
        try:
            mac = read_mac(port, loader)
            with BoardLock(mac):
                return _read(port, loader, mac)
        finally:
            # On a port without reset lines the chip stays in its loader, where somebody had put it.
            with contextlib.suppress(BenchError):
                port.restore()
                port.hard_reset()


def _read(port: SerialPort, loader: Any, mac: str) -> SecurityFuses:
    with warnings.catch_warnings():
        # espefuse imports names that click has deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        from espefuse import init_commands
    try:
        fuses = init_commands(esp=loader).efuses
        major, minor = loader.get_major_chip_version(), loader.get_minor_chip_version()
    except FAILURES as error:
        raise BenchError(f"port {port.url}: the fuses cannot be read: {first_line(error)}; check the cable") from error
    broken = [block.name for block in fuses.blocks if block.fail]
    if broken:
        raise BenchError(f"port {port.url}: fuse blocks with errors: {', '.join(broken)}; what they hold is unknown")

    def bit(name: str) -> bool:
        return bool(fuses[name].get_raw())

    return SecurityFuses(
        mac=mac,
        revision=f"v{major}.{minor}",
        secure_boot_en=bit("SECURE_BOOT_EN"),
        secure_boot_aggressive_revoke=bit("SECURE_BOOT_AGGRESSIVE_REVOKE"),
        secure_boot_key_revoke=tuple(bit(f"SECURE_BOOT_KEY_REVOKE{slot}") for slot in range(_DIGEST_SLOTS)),
        spi_boot_crypt_cnt=int(fuses["SPI_BOOT_CRYPT_CNT"].get_raw()),
        dis_download_manual_encrypt=bit("DIS_DOWNLOAD_MANUAL_ENCRYPT"),
        dis_download_icache=bit("DIS_DOWNLOAD_ICACHE"),
        dis_pad_jtag=bit("DIS_PAD_JTAG"),
        dis_usb_jtag=bit("DIS_USB_JTAG"),
        soft_dis_jtag=int(fuses["SOFT_DIS_JTAG"].get_raw()),
        dis_usb_serial_jtag=bit("DIS_USB_SERIAL_JTAG"),
        dis_download_mode=bit("DIS_DOWNLOAD_MODE"),
        enable_security_download=bit("ENABLE_SECURITY_DOWNLOAD"),
        dis_usb_serial_jtag_download_mode=bit("DIS_USB_SERIAL_JTAG_DOWNLOAD_MODE"),
        dis_force_download=bit("DIS_FORCE_DOWNLOAD"),
        dis_direct_boot=bit("DIS_DIRECT_BOOT"),
        uart_print_control=int(fuses["UART_PRINT_CONTROL"].get_raw()),
        dis_usb_serial_jtag_rom_print=bit("DIS_USB_SERIAL_JTAG_ROM_PRINT"),
        secure_version=int(fuses["SECURE_VERSION"].get_raw()).bit_count(),
        key_blocks=tuple(_key_block(fuses, number) for number in range(KEY_BLOCKS)),
    )


def _key_block(fuses: Any, number: int) -> KeyBlock:
    block = fuses[f"BLOCK_KEY{number}"]
    purpose = str(fuses[f"KEY_PURPOSE_{number}"].get())
    return KeyBlock(number, purpose, not block.is_readable(), not block.is_writeable())


def _secure_boot(fuses: SecurityFuses) -> Iterator[Explained]:
    row = "PLT-03"
    yield Explained(row, "secure boot", _on(fuses.secure_boot_en), "on")
    revoked = [str(slot) for slot, is_revoked in enumerate(fuses.secure_boot_key_revoke) if is_revoked]
    digests = [key for key in fuses.key_blocks if key.purpose.startswith("SECURE_BOOT_DIGEST")]
    yield Explained(row, "digests of signing keys", _blocks(digests), "one to three, write-protected")
    yield Explained(row, "revoked digest slots", ", ".join(revoked) or "none", "every slot without a digest")
    yield Explained(row, "aggressive revocation", _on(fuses.secure_boot_aggressive_revoke), "as the product decides")
    yield Explained(row, "secure version", str(fuses.secure_version), "that of the oldest image allowed to start")


def _flash_encryption(fuses: SecurityFuses) -> Iterator[Explained]:
    row = "PLT-04"
    count = f"{_on(fuses.flash_encrypted)} (SPI_BOOT_CRYPT_CNT = {fuses.spi_boot_crypt_cnt})"
    yield Explained(row, "flash encryption", count, "on, count 7: it cannot be turned off any more")
    keys = [key for key in fuses.key_blocks if key.purpose.startswith("XTS_AES")]
    yield Explained(row, "flash encryption key", _blocks(keys), "one, read-protected and write-protected")
    yield Explained(row, "encryption by the loader", _open(fuses.dis_download_manual_encrypt), "closed")
    yield Explained(row, "instruction cache in the loader", _open(fuses.dis_download_icache), "closed")
    used = [key for key in fuses.key_blocks if key not in keys and not key.purpose.startswith(("USER", "SECURE_BOOT"))]
    yield Explained(row, "other keys", _blocks(used), "read-protected")


def _ways_in(fuses: SecurityFuses) -> Iterator[Explained]:
    row = "PLT-05"
    yield Explained(row, "JTAG at the pads", _open(fuses.dis_pad_jtag), "closed")
    yield Explained(row, "JTAG over USB", _open(fuses.dis_usb_jtag), "closed")
    soft = f"{_open(_odd(fuses.soft_dis_jtag))} (SOFT_DIS_JTAG = {fuses.soft_dis_jtag})"
    yield Explained(row, "JTAG until unlocked by HMAC", soft, "closed, or both JTAG ways closed for good")
    loader = "closed" if fuses.dis_download_mode else "secure" if fuses.enable_security_download else "open"
    yield Explained(row, "serial loader", loader, "closed, or secure download mode")
    yield Explained(row, "serial loader over USB", _open(fuses.dis_usb_serial_jtag_download_mode), "closed")
    yield Explained(row, "loader forced by software", _open(fuses.dis_force_download), "closed")
    yield Explained(row, "USB serial port", _open(fuses.dis_usb_serial_jtag), "closed where the product has no use")
    yield Explained(row, "direct boot", _open(fuses.dis_direct_boot), "closed")
    prints = ("always", "when GPIO8 is low at reset", "when GPIO8 is high at reset", "never")
    yield Explained(row, "ROM prints on UART0", prints[fuses.uart_print_control], "never")
    yield Explained(row, "ROM prints on USB", "never" if fuses.dis_usb_serial_jtag_rom_print else "always", "never")


def _blocks(keys: list[KeyBlock]) -> str:
    return "; ".join(f"block {key.number}: {key.purpose}{_protection(key)}" for key in keys) or "none"


def _protection(key: KeyBlock) -> str:
    words = [word for word, held in (("read", key.read_protected), ("write", key.write_protected)) if held]
    return f", {'- and '.join(words)}-protected" if words else ", unprotected"


def _odd(bits: int) -> bool:
    return bits.bit_count() % 2 == 1


def _on(is_set: bool) -> str:
    return "on" if is_set else "off"


def _open(is_closed: bool) -> str:
    return "closed" if is_closed else "open"
