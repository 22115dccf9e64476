"""What is wrong with an image set, found before it is flashed.

Everything that the mask ROM and ESP-IDF's second-stage loader would refuse at the next start, and what they would not
notice: files in the wrong place, a table that does not fit the flash. The loaders' own texts are in rig.formats.image
and rig.formats.partitions.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rig.errors import ConfigError
from rig.formats import image, partitions
from rig.formats.flasher_args import ImageFile, ImageSet
from rig.formats.image import Header, Segment
from rig.formats.partitions import APP_ALIGNMENT_BYTES, SECTOR_BYTES, TABLE_OFFSET, Partition

BOOTLOADER = "bootloader"
PARTITION_TABLE = "partition-table"

_CHIP = "esp32c3"
_FIRST_OFFSET = TABLE_OFFSET + SECTOR_BYTES
_REBUILD = "build the firmware again"
_TABLE_FIX = "correct partitions.csv and build again"
_FIT_FIX = "make the partition larger or the file smaller"


class ImageSetError(ConfigError):
    """The image set would not boot, or would end up in the wrong place. ``findings``: a sentence each, with the fix."""

    def __init__(self, findings: Sequence[str]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(findings))


def check_image_set(images: ImageSet, *, flash_bytes: int = 4 << 20, revision: int | None = None) -> None:
    """Check every image, the partition table, and that all of it fits together and into *flash_bytes*.

    *revision* is the chip's silicon revision (major * 100 + minor), None where it is not known. Raises ImageSetError
    with all findings, each naming the file and the fix; ConfigError where a file cannot be read.
    """
    parts = [_Part(file, file.read()) for file in images.files]
    findings = list(_Check(images, parts, flash_bytes, revision).findings())
    if findings:
        raise ImageSetError(findings)


@dataclass(frozen=True)
class _Part:
    file: ImageFile
    data: bytes

    @property
    def end(self) -> int:
        return self.file.offset + len(self.data)

    def finding(self, what: str, fix: str) -> str:
        return f"{self.file.path}: {self.file.name} at {self.file.offset:#x}: {what}; {fix}"


@dataclass(frozen=True)
class _Check:
    images: ImageSet
    parts: Sequence[_Part]
    flash_bytes: int
    revision: int | None

    def findings(self) -> Iterator[str]:
        if self.images.chip != _CHIP:
            yield f"{self.images.source}: is built for {self.images.chip}; this rig flashes {_CHIP}, build for that"
        yield from self._places()
        bootloader, table_part = self._part(BOOTLOADER), self._part(PARTITION_TABLE)
        for name, part in ((BOOTLOADER, bootloader), (PARTITION_TABLE, table_part)):
            if part is None:
                yield f"{self.images.source}: has no {name}; {_REBUILD}"
        if bootloader is not None:
            yield from self._bootloader(bootloader)
        entries, error = partitions.examine_table(table_part.data) if table_part is not None else ((), None)
        if table_part is not None:
            yield from self._table(table_part, entries, error, _header(bootloader))
        table = entries if error is None else ()
        for part in self.parts:
            if part not in (bootloader, table_part):
                yield from self._content(part, table)

    def _part(self, name: str) -> _Part | None:
        return next((part for part in self.parts if part.file.name == name), None)

    def _places(self) -> Iterator[str]:
        """Flash is erased by sectors, so no two files may share one."""
        for part in self.parts:
            if part.file.offset % SECTOR_BYTES:
                yield part.finding(f"does not begin at a sector (0x{SECTOR_BYTES:x})", "correct its offset")
            if part.end > self.flash_bytes:
                yield part.finding(f"ends at {part.end:#x}, beyond the flash of {_mib(self.flash_bytes)}", _TABLE_FIX)
        for first, second in itertools.pairwise(self.parts):
            if first.end > second.file.offset:
                yield second.finding(f"starts before {first.file.name} ends ({first.end:#x})", _TABLE_FIX)

    def _bootloader(self, part: _Part) -> Iterator[str]:
        if part.file.offset != 0:
            yield part.finding("the mask ROM looks for the bootloader at 0x0", _REBUILD)
        if part.end > TABLE_OFFSET:
            fix = "lower CONFIG_BOOTLOADER_LOG_LEVEL or its options"
            yield part.finding(f"{len(part.data)} bytes reach into the partition table at {TABLE_OFFSET:#x}", fix)
        yield from self._image(part)
        header = _header(part)
        if header is not None and (header.flash_bytes is None or header.flash_bytes > self.flash_bytes):
            size = _mib(header.flash_bytes) if header.flash_bytes else "an unknown size"
            what = f"is built for a flash of {size}, the chip has {_mib(self.flash_bytes)}"
            yield part.finding(what, "set CONFIG_ESPTOOLPY_FLASHSIZE to the chip's")
        if image.read_app_descriptor(part.data) is not None:
            yield part.finding("is an application, not a bootloader", "flash build/bootloader/bootloader.bin there")
        elif image.read_bootloader_descriptor(part.data) is None:
            yield part.finding("has no bootloader descriptor", "build it with ESP-IDF 5.1 or later")

    def _table(
        self,
        part: _Part,
        entries: Sequence[Partition],
        error: partitions.PartitionTableError | None,
        bootloader: Header | None,
    ) -> Iterator[str]:
        if part.file.offset != TABLE_OFFSET:
            yield part.finding(f"must lie at {TABLE_OFFSET:#x}", f"set CONFIG_PARTITION_TABLE_OFFSET={TABLE_OFFSET:#x}")
        if error is not None:
            yield part.finding(error.detail, _REBUILD)
            return
        for what in table_findings(entries):
            yield part.finding(what, _TABLE_FIX)
        yield from self._table_in_flash(part, entries, bootloader)

    def _table_in_flash(self, part: _Part, table: Sequence[Partition], bootloader: Header | None) -> Iterator[str]:
        """The loader goes by the flash size in its own header, whatever the chip has."""
        for entry in table:
            if entry.end > self.flash_bytes:
                what = f"{entry.label!r} ends at {entry.end:#x}, beyond the flash of {_mib(self.flash_bytes)}"
                yield part.finding(what, _TABLE_FIX)
            elif bootloader is not None and entry.end > (bootloader.flash_bytes or self.flash_bytes):
                size = _mib(bootloader.flash_bytes or 0)
                what = f"{entry.label!r} ends at {entry.end:#x}, beyond the {size} in the bootloader's header"
                yield part.finding(what, "set CONFIG_ESPTOOLPY_FLASHSIZE to the chip's")

    def _content(self, part: _Part, table: Sequence[Partition]) -> Iterator[str]:
        is_app = part.file == self.images.app
        slot = next((slot for slot in table if slot.offset <= part.file.offset < slot.end), None)
        if slot is None and table:
            yield part.finding("lies in no partition of the table", _TABLE_FIX)
        if slot is not None and part.end > slot.end:
            yield part.finding(
                f"{len(part.data)} bytes do not fit {slot.label!r}, which ends at {slot.end:#x}", _FIT_FIX
            )
        if slot is not None and is_app and slot.type != partitions.TYPE_APP:
            yield part.finding(f"lies in {slot.label!r}, which is no app partition", _TABLE_FIX)
        if slot is not None and slot.type == partitions.TYPE_APP and part.file.offset != slot.offset:
            yield part.finding(f"is not at the start of {slot.label!r} ({slot.offset:#x})", _TABLE_FIX)
        if is_app or (slot is not None and slot.type == partitions.TYPE_APP):
            yield from self._application(part)

    def _application(self, part: _Part) -> Iterator[str]:
        yield from self._image(part)
        if image.read_app_descriptor(part.data) is None:
            yield part.finding("has no application descriptor", "flash the application's .bin there, not another file")

    def _image(self, part: _Part) -> Iterator[str]:
        try:
            found = image.examine(part.data, revision=self.revision, address=part.file.offset)
        except image.ImageEndError as short:
            yield part.finding(f"has {short.available} bytes, an image's header alone {short.needed}", _REBUILD)
            return
        for error in found.errors:
            yield f"{part.file.path}: {part.file.name} at {part.file.offset:#x}: {str(error).removeprefix('image: ')}"
        if found.checksum is not None and found.header.chip_id == image.CHIP_ID_ESP32C3:
            for what in load_findings(found.header, found.segments):
                yield part.finding(what, _REBUILD)


def load_findings(header: Header, segments: Sequence[Segment]) -> Iterator[str]:
    """Give what is wrong with where an image is loaded: a segment outside memory, an entry point outside segments."""
    for number, segment in enumerate(segments):
        if image.memory_region(segment.load_address) is None:
            yield f"segment {number} loads to 0x{segment.load_address:08x}, where no memory is"
    if not any(_holds(segment, header.entry) for segment in segments):
        yield f"its entry point 0x{header.entry:08x} lies in no segment"


def table_findings(table: Sequence[Partition]) -> Iterator[str]:
    """Give what is wrong with a partition table that can be read: no application, alignment, overlaps, names."""
    if not any(entry.type == partitions.TYPE_APP for entry in table):
        yield "has no app partition" if table else "is blank"
    for entry in table:
        alignment = APP_ALIGNMENT_BYTES if entry.type == partitions.TYPE_APP else SECTOR_BYTES
        if entry.offset % alignment:
            yield f"{entry.label!r} at {entry.offset:#x} is not aligned to {alignment:#x}"
        if entry.size == 0:
            yield f"{entry.label!r} is empty"
        if entry.offset < _FIRST_OFFSET:
            yield f"{entry.label!r} at {entry.offset:#x} lies before {_FIRST_OFFSET:#x}, over bootloader or table"
    for first, second in itertools.combinations(table, 2):
        if first.offset < second.end and second.offset < first.end:
            yield f"{first.label!r} and {second.label!r} overlap"
        if first.label == second.label:
            yield f"two partitions are called {first.label!r}"


def _header(part: _Part | None) -> Header | None:
    try:
        return image.read_header(part.data) if part is not None else None
    except image.ImageEndError:
        return None


def _holds(segment: Segment, address: int) -> bool:
    return 0 <= address - segment.load_address < len(segment.data)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):g} MiB"
