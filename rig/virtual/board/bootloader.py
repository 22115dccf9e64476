"""The second-stage bootloader of ESP-IDF 5.3: partition table, choice of the application, checks of its image.

Source: ESP-IDF v5.3.1, components/bootloader_support.
"""

from dataclasses import dataclass, field

from rig.formats import image, otadata, partitions
from rig.formats.image import Image
from rig.formats.partitions import Partition
from rig.virtual.board.boot import Stage, Then, segment_headers
from rig.virtual.board.flash import FLASH_BYTES, SECTOR_BYTES, Flash
from rig.virtual.board.registers import REVISION

_OTA_SUBTYPES = range(0x10, 0x20)
_TEST_SUBTYPE = 0x20
_DATA_USAGE = {0x00: "OTA data", 0x01: "RF data", 0x02: "WiFi data", 0x04: "NVS keys", 0x05: "efuse"}
_FACTORY = -1
_FIRST_LOG_MS = 24
_LOG_STEP_MS = 4


@dataclass(frozen=True)
class Policy:
    """What the bootloader asks of an application beyond its shape.

    ``verify``: that checksum and SHA-256 are right (else as built with CONFIG_BOOTLOADER_SKIP_VALIDATE_ALWAYS);
    ``secure_version``: that it is of this secure version at least (CONFIG_BOOTLOADER_APP_ANTI_ROLLBACK).
    """

    verify: bool = True
    secure_version: int = 0


def bootloader_stage(flash: Flash, policy: Policy) -> Stage:
    """Check partition table and application. As the real one, it notes its choice in otadata where that is blank."""
    log = _Log()
    log.info("boot", "ESP-IDF v5.3.1 2nd stage bootloader")
    log.info("boot", f"chip revision: {image.revision_text(REVISION)}")
    for what, value in (("SPI Speed     ", "80MHz"), ("SPI Mode      ", "DIO"), ("SPI Flash Size", "4MB")):
        log.info("boot.esp32c3", f"{what} : {value}")
    log.info("boot", "Enabling RNG early entropy source...")
    try:
        table = partitions.parse_table(
            flash.read(partitions.TABLE_OFFSET, partitions.TABLE_BYTES), flash_bytes=FLASH_BYTES
        )
    except partitions.PartitionTableError as error:
        log.error("flash_parts", error.detail)
        log.error("boot", "Failed to verify partition table")
        log.error("boot", "load partition table error!")
        return Stage(tuple(log.lines), Then.RESET)
    _log_table(log, table)
    app = _Chooser(log, flash, table, policy).load()
    if app is None:
        log.error("boot", "No bootable app partitions in the partition table")
        return Stage(tuple(log.lines), Then.RESET)
    log.info("boot", "Disabling RNG early entropy source...")
    return Stage(tuple(log.lines), Then.APPLICATION, app, table)


@dataclass
class _Log:
    """Lines in ESP-IDF's log format, stamped in milliseconds since boot."""

    lines: list[str] = field(default_factory=list)

    def info(self, tag: str, text: str) -> None:
        self._add("I", tag, text)

    def warning(self, tag: str, text: str) -> None:
        self._add("W", tag, text)

    def error(self, tag: str, text: str) -> None:
        self._add("E", tag, text)

    def _add(self, level: str, tag: str, text: str) -> None:
        stamp_ms = _FIRST_LOG_MS + _LOG_STEP_MS * len(self.lines)
        self.lines.append(f"{level} ({stamp_ms}) {tag}: {text}")


def _log_table(log: _Log, table: tuple[Partition, ...]) -> None:
    log.info("boot", "Partition Table:")
    log.info("boot", "## Label            Usage          Type ST Offset   Length")
    for number, entry in enumerate(table):
        place = f"{entry.type:02x} {entry.subtype:02x} {entry.offset:08x} {entry.size:08x}"
        log.info("boot", f"{number:2d} {entry.label:<16} {_usage(entry):<16} {place}")
    log.info("boot", "End of partition table")


def _usage(entry: Partition) -> str:
    if entry.type == partitions.TYPE_DATA:
        return _DATA_USAGE.get(entry.subtype, "Unknown data")
    if entry.type != partitions.TYPE_APP:
        return "unknown"
    if entry.subtype in _OTA_SUBTYPES:
        return "OTA app"
    return {partitions.SUBTYPE_FACTORY: "factory app", _TEST_SUBTYPE: "test app"}.get(entry.subtype, "Unknown app")


class _Chooser:
    """Chooses the application by otadata and loads it; where that fails, the next one that boots."""

    def __init__(self, log: _Log, flash: Flash, table: tuple[Partition, ...], policy: Policy) -> None:
        self._log = log
        self._policy = policy
        self._flash = flash
        apps = [entry for entry in table if entry.type == partitions.TYPE_APP]
        self._factory = next((entry for entry in apps if entry.subtype == partitions.SUBTYPE_FACTORY), None)
        self._test = next((entry for entry in apps if entry.subtype == _TEST_SUBTYPE), None)
        self._slots = {entry.subtype - _OTA_SUBTYPES.start: entry for entry in apps if entry.subtype in _OTA_SUBTYPES}
        self._otadata = partitions.find(table, partitions.TYPE_DATA, 0x00)
        self._notes_choice = False

    def load(self) -> Image | None:
        """Return the application that boots, or None."""
        start = self._selected()
        for index in (*range(start, _FACTORY - 1, -1), *range(start + 1, len(self._slots))):
            slot = self._factory if index == _FACTORY else self._slots.get(index)
            if slot is None:
                continue
            app = self._try(slot)
            if app is not None:
                self._note_choice(index)
                return app
            name = "Factory app partition" if index == _FACTORY else f"OTA app partition slot {index}"
            self._log.error("boot", f"{name} is not bootable")
        app = self._try(self._test) if self._test is not None else None
        if app is not None:
            self._log.warning("boot", "Falling back to test app as only bootable partition")
        return app

    def _selected(self) -> int:
        if self._otadata is None:
            return _FACTORY
        entries = otadata.read_otadata(self._flash.read(self._otadata.offset, otadata.OTADATA_BYTES)).entries
        if all(entry.blank for entry in entries) or not self._slots:
            if self._factory is not None:
                self._log.info("boot", "Defaulting to factory image")
                return _FACTORY
            self._log.info("boot", "No factory image, trying OTA 0")
            self._notes_choice = all(entry.unwritten for entry in entries)
            return 0
        sequences = [entry.sequence for entry in entries if not entry.blank and entry.crc_ok]
        if sequences:
            return (max(sequences) - 1) % len(self._slots)
        what = "falling back to factory" if self._factory is not None else "and no factory, will try all partitions"
        comma = "," if self._factory is not None else ""
        self._log.error("boot", f"ota data partition invalid{comma} {what}")
        return _FACTORY

    def _try(self, slot: Partition) -> Image | None:
        data = self._flash.read(slot.offset, FLASH_BYTES - slot.offset)
        described = image.read_app_descriptor(data)
        if described is not None and described.secure_version < self._policy.secure_version:
            return None  # the real one says no more than that the partition is not bootable
        app = _verify_app(self._log, data, slot, self._policy.verify)
        if app is not None:
            self._log.info("boot", f"Loaded app from partition at offset 0x{slot.offset:x}")
        return app

    def _note_choice(self, index: int) -> None:
        if index == _FACTORY or not self._notes_choice or self._otadata is None:
            return
        sequence = index + 1
        self._flash.erase(self._otadata.offset, SECTOR_BYTES)
        self._flash.program(self._otadata.offset, otadata.build_entry(sequence, otadata.VALID))
        self._log.info("boot", f"Set actual ota_seq={sequence} in otadata[0]")


def _verify_app(log: _Log, data: bytes, slot: Partition, verify: bool) -> Image | None:
    try:
        app = image.parse(data, revision=REVISION, partition_bytes=slot.size, address=slot.offset, verify_data=verify)
    except image.ImageMagicError:
        log.error("esp_image", f"image at 0x{slot.offset:x} has invalid magic byte (nothing flashed here?)")
    except image.ImageChipError as error:
        log.error("boot_comm", f"mismatch chip ID, expected {image.CHIP_ID_ESP32C3}, found {error.found}")
    except image.ImageRevisionError as error:
        log.error("boot_comm", error.detail)
    except image.ImageLengthError as error:
        _log_segments(log, data, slot)
        log.error("esp_image", error.detail)
    except image.ImageSegmentError as error:
        log.error("esp_image", error.detail)
    except image.ImageChecksumError as error:
        _log_segments(log, data, slot)
        log.error("esp_image", f"Checksum failed. Calculated 0x{error.calculated:x} read 0x{error.stored:x}")
    except image.ImageHashError:
        _log_segments(log, data, slot)
        log.error("esp_image", "Image hash failed - image is corrupt")
    else:
        _log_segments(log, data, slot)
        return app
    return None


def _log_segments(log: _Log, data: bytes, slot: Partition) -> None:
    for number, (address, position, size) in enumerate(segment_headers(data)):
        mapped = "map" if address >> 24 in (0x3C, 0x42) else "load"
        place = f"paddr={slot.offset + position:08x} vaddr={address:08x}"
        log.info("esp_image", f"segment {number}: {place} size={size:05x}h ({size:6d}) {mapped}")
