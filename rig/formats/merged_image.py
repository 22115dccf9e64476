"""The content of a whole flash in one file, taken apart: what ``idf.py merge-bin`` or ``esptool read-flash`` leave.

The file begins at flash address 0. What is nothing but 0xFF is taken for erased flash.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rig.errors import BenchError
from rig.formats import image, otadata, partitions
from rig.formats.partitions import SECTOR_BYTES, TABLE_OFFSET, Partition

_TABLE_END = TABLE_OFFSET + SECTOR_BYTES


class MergedImageError(BenchError):
    """The file holds no partition table where one must be, or no application."""


@dataclass(frozen=True)
class Region:
    """A stretch of the file that belongs together; ``size`` in bytes, 0 where it is erased.

    ``partition`` is None for the bootloader, the partition table, and for bytes that no partition claims.
    """

    name: str
    offset: int
    size: int
    partition: Partition | None = None


def looks_merged(data: bytes) -> bool:
    """Tell whether *data* has the beginning of a partition table at 0x8000 and is no single image beyond that."""
    if data[TABLE_OFFSET : TABLE_OFFSET + 2] != partitions.ENTRY_MAGIC:
        return False
    if data[:1] != bytes([image.IMAGE_MAGIC]):
        return True
    length = image.examine(data).length
    return length is None or length <= TABLE_OFFSET


def regions(data: bytes) -> tuple[Region, ...]:
    """Return bootloader, partition table, every partition and every other bytes that are not erased, by offset.

    An application ends with its image, or with the last byte that is not 0xFF. Other partitions with content are given
    whole, as far as the file goes: what is erased in them belongs to the content. Raises MergedImageError without a
    partition table, PartitionTableError where it is damaged.
    """
    table = partitions.parse_table(data[TABLE_OFFSET:_TABLE_END])
    if not table:
        raise MergedImageError(f"no partition table at 0x{TABLE_OFFSET:x}; merge bootloader, table and application")
    claimed = [*fixed_regions(data), *(_partition_region(data, entry) for entry in table)]
    return tuple(sorted([*claimed, *_unclaimed(data, table)], key=lambda region: region.offset))


def fixed_regions(data: bytes) -> tuple[Region, Region]:
    """Return the two that lie in the same place whatever the table says: the bootloader and the table."""
    table_bytes = max(partitions.TABLE_BYTES, _used(data[TABLE_OFFSET:_TABLE_END]))
    return (
        Region("bootloader", 0, _image_bytes(data[:TABLE_OFFSET])),
        Region("partition-table", TABLE_OFFSET, min(table_bytes, len(data) - TABLE_OFFSET)),
    )


def boot_region(data: bytes, found: Sequence[Region]) -> Region:
    """Return the application that the bootloader would start. Raises MergedImageError where there is none."""
    table = [region.partition for region in found if region.partition is not None]
    slot = partitions.find(table, partitions.TYPE_DATA, partitions.SUBTYPE_OTA_DATA)
    chosen = otadata.boot_partition(table, _otadata(data, slot))
    apps = [region for region in found if region.size and _is_app(region)]
    if not apps:
        raise MergedImageError("no application in any app partition; merge bootloader, table and application")
    return next((region for region in apps if region.partition == chosen), apps[0])


def _is_app(region: Region) -> bool:
    return region.partition is not None and region.partition.type == partitions.TYPE_APP


def _otadata(data: bytes, slot: Partition | None) -> otadata.OtaData | None:
    if slot is None or slot.end > len(data) or slot.size != otadata.OTADATA_BYTES:
        return None
    return otadata.read_otadata(data[slot.offset : slot.end])


def _partition_region(data: bytes, entry: Partition) -> Region:
    content = data[entry.offset : entry.end]
    if entry.type == partitions.TYPE_APP:
        size = _image_bytes(content)
    elif entry.type == partitions.TYPE_DATA and entry.subtype == partitions.SUBTYPE_OTA_DATA:
        size = len(content)  # erased it means something too: start the factory application
    else:
        size = len(content) if _used(content) else 0
    return Region(entry.label, entry.offset, size, entry)


def _unclaimed(data: bytes, table: Sequence[Partition]) -> Iterator[Region]:
    position = _TABLE_END
    for entry in [*sorted(table, key=lambda entry: entry.offset), None]:
        end = entry.offset if entry is not None else len(data)
        size = _used(data[position:end])
        if size:
            yield Region(f"bytes at 0x{position:x}", position, size)
        position = max(position, entry.end if entry is not None else 0)


def _image_bytes(content: bytes) -> int:
    """Return how much of *content* counts: an image may end with bytes of 0xFF, and something may follow it."""
    try:
        length = image.examine(content).length
    except image.ImageEndError:
        length = None
    return max(_used(content), length or 0)


def _used(content: bytes) -> int:
    return len(content.rstrip(b"\xff"))
