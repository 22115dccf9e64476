"""What the mask ROM and the second-stage loader check in flash, and what they say about it on the console.

Pure functions of the flash content. The texts are those of the ESP32-C3's ROM and of ESP-IDF 5.3's bootloader; which
fault stops the chip and which makes it start over was seen on the real ROM.
"""

import enum
from dataclasses import dataclass, field

from rig.formats import image, partitions
from rig.formats.image import Image
from rig.formats.partitions import Partition
from rig.virtual.board.flash import FLASH_BYTES, Flash
from rig.virtual.board.registers import REVISION_MAJOR, REVISION_MINOR

_REVISION = REVISION_MAJOR * 100 + REVISION_MINOR
_ROM_ASSERTION = "ets_main.c 333 "
_USAGE = {(0, 0x00): "factory app", (1, 0x00): "OTA data", (1, 0x01): "RF data", (1, 0x02): "WiFi data"}
_FIRST_LOG_MS = 24
_LOG_STEP_MS = 4


@dataclass(frozen=True)
class Cause:
    """Why the chip starts: the ROM's number and name for it, and ``esp_reset_reason_t`` for the application."""

    code: int
    name: str
    reason: int


POWER_ON = Cause(0x1, "POWERON", 1)
SOFTWARE = Cause(0xC, "RTC_SW_CPU_RST", 3)
PANIC = Cause(0xC, "RTC_SW_CPU_RST", 4)
BOOTLOADER_RESET = Cause(0x3, "RTC_SW_SYS_RST", 3)
DEEP_SLEEP = Cause(0x5, "DSLEEP", 8)
BROWNOUT = Cause(0xF, "BROWNOUT_RST", 9)
USB_RESET = Cause(0x15, "USB_UART_CHIP_RESET", 11)


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
    return (*lines, "waiting for download") if download else lines


def rom_stage(flash: Flash) -> Stage:
    """Check the bootloader as the mask ROM does: magic, chip id, checksum; no SHA-256 without secure boot."""
    data = flash.read(0, partitions.TABLE_OFFSET)
    started = ("SPIWP:0xee", "mode:DIO, clock div:1")
    try:
        found = image.parse(data, verify_hash=False)
    except image.ImageMagicError:
        return Stage((f"invalid header: 0x{int.from_bytes(data[:4], 'little'):08x}",), Then.REPEAT)
    except image.ImageChipError as error:
        expected = f"Expected {image.CHIP_ID_ESP32C3} read {error.found}"
        return Stage((*started, f"Invalid chip id. {expected}. Bootloader for wrong chip?", _ROM_ASSERTION), Then.STOP)
    except image.ImageChecksumError as error:
        sums = f"Calculated 0x{error.calculated:x} stored 0x{error.stored:x}"
        return Stage((*started, f"Checksum failure. {sums}", _ROM_ASSERTION), Then.STOP)
    except image.ImageSegmentError as error:
        return Stage((*started, error.detail, _ROM_ASSERTION), Then.STOP)
    loads = [f"load:0x{segment.load_address:08x},len:0x{len(segment.data):x}" for segment in found.segments]
    return Stage((*started, *loads, f"entry 0x{found.entry:08x}"), Then.BOOTLOADER)


def bootloader_stage(flash: Flash) -> Stage:
    """Check partition table and application as ESP-IDF's second-stage loader does."""
    log = _Log()
    log.info("boot", "ESP-IDF v5.3.1 2nd stage bootloader")
    log.info("boot", f"chip revision: {image.revision_text(_REVISION)}")
    for what, value in (("SPI Speed     ", "80MHz"), ("SPI Mode      ", "DIO"), ("SPI Flash Size", "4MB")):
        log.info("boot.esp32c3", f"{what} : {value}")
    try:
        table = partitions.parse_table(
            flash.read(partitions.TABLE_OFFSET, partitions.TABLE_BYTES), flash_bytes=FLASH_BYTES
        )
    except partitions.PartitionTableError as error:
        log.error("flash_parts", error.detail)
        log.error("boot", "load partition table error!")
        return Stage(tuple(log.lines), Then.RESET)
    _log_table(log, table)
    app = _load_app(log, flash, table)
    if app is None:
        log.error("boot", "No bootable app partitions in the partition table")
        return Stage(tuple(log.lines), Then.RESET)
    return Stage(tuple(log.lines), Then.APPLICATION, app, table)


@dataclass
class _Log:
    """Lines in ESP-IDF's log format, stamped in milliseconds since boot."""

    lines: list[str] = field(default_factory=list)

    def info(self, tag: str, text: str) -> None:
        self._add("I", tag, text)

    def error(self, tag: str, text: str) -> None:
        self._add("E", tag, text)

    def _add(self, level: str, tag: str, text: str) -> None:
        stamp_ms = _FIRST_LOG_MS + _LOG_STEP_MS * len(self.lines)
        self.lines.append(f"{level} ({stamp_ms}) {tag}: {text}")


def _log_table(log: _Log, table: tuple[Partition, ...]) -> None:
    log.info("boot", "Partition Table:")
    log.info("boot", "## Label            Usage          Type ST Offset   Length")
    for number, entry in enumerate(table):
        usage = _USAGE.get((entry.type, entry.subtype), "Unknown app" if entry.type == 0 else "Unknown data")
        place = f"{entry.type:02x} {entry.subtype:02x} {entry.offset:08x} {entry.size:08x}"
        log.info("boot", f"{number:2d} {entry.label:<16} {usage:<16} {place}")
    log.info("boot", "End of partition table")


def _load_app(log: _Log, flash: Flash, table: tuple[Partition, ...]) -> Image | None:
    """Load the factory application, or the first OTA slot of a table without one."""
    for subtype, name in ((partitions.SUBTYPE_FACTORY, "Factory"), (partitions.SUBTYPE_OTA_0, "OTA")):
        slot = partitions.find(table, partitions.TYPE_APP, subtype)
        if slot is None:
            continue
        app = _verify_app(log, flash.read(slot.offset, slot.size), slot)
        if app is not None:
            log.info("boot", f"Loaded app from partition at offset 0x{slot.offset:x}")
            return app
        log.error("boot", f"{name} app partition is not bootable")
    return None


def _verify_app(log: _Log, data: bytes, slot: Partition) -> Image | None:
    try:
        app = image.parse(data, revision=_REVISION)
    except image.ImageMagicError:
        log.error("esp_image", f"image at 0x{slot.offset:x} has invalid magic byte (nothing flashed here?)")
    except image.ImageChipError as error:
        log.error("boot_comm", f"mismatch chip ID, expected {image.CHIP_ID_ESP32C3}, found {error.found}")
    except image.ImageRevisionError as error:
        needed, chip = image.revision_text(error.required), image.revision_text(error.revision)
        log.error("boot_comm", f"Image requires chip rev >= {needed}, but chip is {chip}")
    except image.ImageSegmentError as error:
        log.error("esp_image", error.detail)
    except image.ImageChecksumError as error:
        log.error("esp_image", f"Checksum failed. Calculated 0x{error.calculated:x} read 0x{error.stored:x}")
    except image.ImageHashError:
        log.error("esp_image", "Image hash failed - image is corrupt")
    else:
        _log_segments(log, app, slot)
        return app
    return None


def _log_segments(log: _Log, app: Image, slot: Partition) -> None:
    for number, segment in enumerate(app.segments):
        mapped = "map" if segment.load_address >> 24 in (0x3C, 0x42) else "load"
        size = len(segment.data)
        place = f"paddr={slot.offset + segment.offset:08x} vaddr={segment.load_address:08x}"
        log.info("esp_image", f"segment {number}: {place} size={size:05x}h ({size:6d}) {mapped}")
