"""The mask ROM: why the chip starts, what it says, and what it checks of the bootloader.

The texts are those of the ESP32-C3's ROM; which fault stops the chip and which makes it start over was seen on the
real ROM.
"""

import enum
import hashlib
import struct
from dataclasses import dataclass

from rig.formats import image, partitions
from rig.formats.image import Image
from rig.formats.partitions import Partition
from rig.virtual.board.flash import Flash

_ROM_ASSERTION = "ets_main.c 333 "
_HEADER_BYTES = 24
_SEGMENT = struct.Struct("<II")
# Where the ROM is while it reads flash; on a watchdog's reset it prints the address it was at.
_SAVED_PC = "Saved PC:0x4004c0dc"


@dataclass(frozen=True)
class Cause:
    """Why the chip starts: the ROM's number and name for it, and ``esp_reset_reason_t`` for the application."""

    code: int
    name: str
    reason: int

    @property
    def samples_straps(self) -> bool:
        """Whether GPIO8 and GPIO9 are read again: at resets of the whole chip, not of its digital part alone."""
        return self.code in _CHIP_RESETS

    @property
    def of_watchdog(self) -> bool:
        """Whether a hardware watchdog did it."""
        return "WDT" in self.name


_CHIP_RESETS = (0x1, 0xF, 0x10, 0x12, 0x13, 0x17)
POWER_ON = Cause(0x1, "POWERON", 1)
SOFTWARE = Cause(0xC, "RTC_SW_CPU_RST", 3)
PANIC = Cause(0xC, "RTC_SW_CPU_RST", 4)
TASK_WATCHDOG = Cause(0xC, "RTC_SW_CPU_RST", 6)
BOOTLOADER_RESET = Cause(0x3, "RTC_SW_SYS_RST", 3)
DEEP_SLEEP = Cause(0x5, "DSLEEP", 8)
BROWNOUT = Cause(0xF, "BROWNOUT_RST", 9)
USB_RESET = Cause(0x15, "USB_UART_CHIP_RESET", 11)
BOOT_WATCHDOG = Cause(0x7, "TG0WDT_SYS_RST", 6)
RTC_WATCHDOG = Cause(0x10, "RTCWDT_RTC_RST", 7)
# Resets that hardware does to a running application, by the ROM's name.
HARDWARE_RESETS = {
    cause.name: cause
    for cause in (
        BOOT_WATCHDOG,
        Cause(0x8, "TG1WDT_SYS_RST", 5),
        Cause(0x9, "RTCWDT_SYS_RST", 7),
        Cause(0xB, "TG0WDT_CPU_RST", 7),
        Cause(0xD, "RTCWDT_CPU_RST", 7),
        BROWNOUT,
        RTC_WATCHDOG,
        Cause(0x11, "TG1WDT_CPU_RST", 7),
        Cause(0x12, "SUPER_WDT_RST", 7),
        Cause(0x13, "GLITCH_RTC_RST", 0),
        Cause(0x17, "POWER_GLITCH_RESET", 0),
    )
}


class Then(enum.Enum):
    """What the chip does after a stage of booting."""

    BOOTLOADER = enum.auto()
    APPLICATION = enum.auto()
    REPEAT = enum.auto()
    RESET = enum.auto()
    STOP = enum.auto()


@dataclass(frozen=True)
class Stage:
    """The outcome of one stage: lines for the console, what comes next, and what it found in flash."""

    lines: tuple[str, ...]
    then: Then
    app: Image | None = None
    table: tuple[Partition, ...] = ()


def banner(cause: Cause, *, download: bool) -> tuple[str, ...]:
    """Return the ROM's first lines; GPIO8 is pulled up on the board, so the boot nibble is 0xc or 0x4."""
    mode = "0x4 (DOWNLOAD(USB/UART0/1))" if download else "0xc (SPI_FAST_FLASH_BOOT)"
    lines = ("ESP-ROM:esp32c3-api1-20210207", "Build:Feb  7 2021", f"rst:0x{cause.code:x} ({cause.name}),boot:{mode}")
    return (*lines, _SAVED_PC) if cause.of_watchdog else lines


def rom_stage(flash: Flash) -> Stage:
    """Check the bootloader as the mask ROM does: magic, chip id, segments, checksum; a wrong SHA-256 is only told."""
    data = flash.read(0, partitions.TABLE_OFFSET)
    started = ("SPIWP:0xee", "mode:DIO, clock div:1")
    try:
        found = image.parse(data, verify_hash=False)
    except image.ImageMagicError:
        return Stage((f"invalid header: 0x{int.from_bytes(data[:4], 'little'):08x}",), Then.REPEAT)
    except image.ImageChipError as error:
        expected = f"Expected {image.CHIP_ID_ESP32C3} read {error.found}"
        return _stop(*started, f"Invalid chip id. {expected}. Bootloader for wrong chip?")
    except image.ImageChecksumError as error:
        sums = f"Calculated 0x{error.calculated:02x} stored 0x{error.stored:02x}"
        return _stop(*started, *_loads(data), f"Checksum failure. {sums}")
    except image.ImageSegmentError:
        if data[1] > image.MAX_SEGMENTS:
            return _stop(*started, f"Invalid image block count: {data[1]} (max {image.MAX_SEGMENTS})")
        return _stop(*started, "Invalid image block, can't boot.")
    lines = (*started, *_loads(data), *_hash_complaint(data, found), f"entry 0x{found.entry:08x}")
    return Stage(lines, Then.BOOTLOADER)


def _stop(*lines: str) -> Stage:
    return Stage((*lines, _ROM_ASSERTION), Then.STOP)


def segment_headers(data: bytes) -> list[tuple[int, int, int]]:
    """Return load address, place in *data* and length of every segment, of an image that may be damaged inside them."""
    headers = []
    position = _HEADER_BYTES
    for _ in range(data[1]):
        address, length = _SEGMENT.unpack_from(data, position)
        position += _SEGMENT.size
        headers.append((address, position, length))
        position += length
    return headers


def _loads(data: bytes) -> list[str]:
    return [f"load:0x{address:08x},len:0x{length:x}" for address, _, length in segment_headers(data)]


def _hash_complaint(data: bytes, found: Image) -> tuple[str, ...]:
    if found.sha256 is None:
        return ()
    calculated = hashlib.sha256(data[: found.length - len(found.sha256)]).digest()
    if calculated == found.sha256:
        return ()
    values = f"Calculated: {calculated.hex()}", f"Expected: {found.sha256.hex()}"
    return "SHA-256 comparison failed:", *values, "Attempting to boot anyway..."
