"""ESP-IDF partition tables: binary to entries, CSV to entries, entries to binary.

Sources: ESP-IDF, API Guides, "Partition Tables"; `flash_partitions.c` for what the loader checks and how it words it.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rig.errors import BenchError, ConfigError

TABLE_OFFSET = 0x8000
TABLE_BYTES = 0xC00
SECTOR_BYTES = 0x1000
APP_ALIGNMENT_BYTES = 0x10000
TYPE_APP = 0x00
TYPE_DATA = 0x01
SUBTYPE_FACTORY = 0x00
SUBTYPE_OTA_0 = 0x10
SUBTYPE_OTA_DATA = 0x00
SUBTYPE_NVS = 0x02
CREDENTIALS_LABEL = "creds"

_ENTRY = struct.Struct("<2sBBII16sI")
ENTRY_MAGIC = b"\xaa\x50"
_MD5_MAGIC = b"\xeb\xeb"
_END = b"\xff" * _ENTRY.size
_FIRST_OFFSET = TABLE_OFFSET + SECTOR_BYTES
_MAX_LABEL_BYTES = 16

_TYPES = {"app": TYPE_APP, "data": TYPE_DATA}
_APP_SUBTYPES = {"factory": SUBTYPE_FACTORY, "test": 0x20} | {f"ota_{n}": SUBTYPE_OTA_0 + n for n in range(16)}
_DATA_SUBTYPES = {
    "ota": SUBTYPE_OTA_DATA,
    "phy": 0x01,
    "nvs": SUBTYPE_NVS,
    "coredump": 0x03,
    "nvs_keys": 0x04,
    "efuse": 0x05,
    "undefined": 0x06,
    "esphttpd": 0x80,
    "fat": 0x81,
    "spiffs": 0x82,
    "littlefs": 0x83,
}
_SUBTYPES = {TYPE_APP: _APP_SUBTYPES, TYPE_DATA: _DATA_SUBTYPES}
_FLAGS = {"encrypted": 1, "readonly": 2}


class PartitionTableError(BenchError):
    """The binary table is damaged. ``detail`` is worded as ESP-IDF's loader words it."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(f"partition table: {detail}; flash the table again")


class PartitionMd5Error(PartitionTableError):
    """The MD5 entry does not match the entries before it."""

    def __init__(self) -> None:
        super().__init__("Incorrect MD5 checksum")


@dataclass(frozen=True)
class Partition:
    """One entry. ``offset`` and ``size`` are in bytes; ``flags`` bit 0 encrypted, bit 1 read-only."""

    label: str
    type: int
    subtype: int
    offset: int
    size: int
    flags: int = 0

    @property
    def end(self) -> int:
        """The first byte of flash after this partition."""
        return self.offset + self.size


def parse_table(data: bytes, *, flash_bytes: int | None = None) -> tuple[Partition, ...]:
    """Read the binary table at the start of *data*, as the loader does; a blank table has no entries.

    Raises PartitionTableError, or PartitionMd5Error where only the MD5 is wrong. A table without an MD5 entry is taken
    (the loader takes it too). Entries that reach beyond *flash_bytes* are an error when it is given.
    """
    entries, error = examine_table(data, flash_bytes=flash_bytes)
    if error is not None:
        raise error
    return entries


def examine_table(
    data: bytes, *, flash_bytes: int | None = None
) -> tuple[tuple[Partition, ...], PartitionTableError | None]:
    """Return the entries before the first thing that `parse_table` would refuse, and the error for that."""
    entries: list[Partition] = []
    try:
        entries.extend(_entries(data[:TABLE_BYTES], flash_bytes))
    except PartitionTableError as error:
        return tuple(entries), error
    return tuple(entries), None


def build_table(partitions: Sequence[Partition]) -> bytes:
    """Return the binary table of 0xC00 bytes, its MD5 entry included."""
    entries = b"".join(_write_entry(partition) for partition in partitions)
    digest = hashlib.md5(entries, usedforsecurity=False).digest()
    table = entries + _MD5_MAGIC + b"\xff" * 14 + digest
    if len(table) + len(_END) > TABLE_BYTES:
        raise ConfigError(f"partition table: {len(partitions)} partitions, the table holds {TABLE_BYTES // 32 - 2}")
    return table.ljust(TABLE_BYTES, b"\xff")


def table_from_csv(text: str) -> bytes:
    """Return the binary table for ESP-IDF's ``partitions.csv``. Raises ConfigError that names the line."""
    return build_table(parse_csv(text))


def parse_csv(text: str) -> tuple[Partition, ...]:
    """Read ESP-IDF's ``partitions.csv``: ``# Name, Type, SubType, Offset, Size, Flags``.

    A blank offset means: after the partition before, aligned to 64 KiB for an app and 4 KiB for data. Numbers are
    decimal or 0x, with K or M for 1024 and 1048576. Labels, alignment, sizes and overlaps are checked; a ConfigError
    names the line.
    """
    partitions: list[Partition] = []
    lines: list[int] = []
    for line, row in enumerate(text.splitlines(), 1):
        fields = [field.strip() for field in row.split("#", 1)[0].split(",")]
        if not any(fields):
            continue
        partition = _csv_partition(fields, partitions[-1].end if partitions else _FIRST_OFFSET, line)
        _check_against(partition, zip(partitions, lines, strict=True), line)
        partitions.append(partition)
        lines.append(line)
    return tuple(partitions)


def find(partitions: Iterable[Partition], type_: int, subtype: int) -> Partition | None:
    """Return the first partition of this type and subtype, or None."""
    return next((entry for entry in partitions if entry.type == type_ and entry.subtype == subtype), None)


def credentials(partitions: Iterable[Partition]) -> Partition | None:
    """Return the NVS partition that holds the board's own secrets, or None.

    It is called ``creds`` and nobody but the rig writes it; ESP-IDF keeps its own values (radio calibration) in the
    partition ``nvs``.
    """
    return next((entry for entry in partitions if entry.type == TYPE_DATA and entry.label == CREDENTIALS_LABEL), None)


def type_name(partition: Partition) -> str:
    """Return the CSV's word for the partition's type, or its number in hexadecimal."""
    return next((name for name, value in _TYPES.items() if value == partition.type), f"0x{partition.type:02x}")


def flag_names(partition: Partition) -> tuple[str, ...]:
    """Return the CSV's words for the partition's flags."""
    return tuple(name for name, bit in _FLAGS.items() if partition.flags & bit)


def subtype_name(partition: Partition) -> str:
    """Return the CSV's word for the partition's subtype, or its number in hexadecimal."""
    names = _SUBTYPES.get(partition.type, {})
    return next((name for name, value in names.items() if value == partition.subtype), f"0x{partition.subtype:02x}")


def _entries(table: bytes, flash_bytes: int | None) -> Iterator[Partition]:
    md5_seen = False
    for number in range(len(table) // _ENTRY.size):
        entry = table[number * _ENTRY.size : (number + 1) * _ENTRY.size]
        if entry[:2] == ENTRY_MAGIC:
            yield _read_entry(entry, number, flash_bytes)
        elif entry[:2] == _MD5_MAGIC:
            if md5_seen:
                raise PartitionTableError("Only one MD5 checksum is allowed")
            md5_seen = True
            if hashlib.md5(table[: number * _ENTRY.size], usedforsecurity=False).digest() != entry[16:]:
                raise PartitionMd5Error
        elif entry[:4] == b"\xff\xff\xff\xff":
            return
        else:
            magic = int.from_bytes(entry[:2], "little")
            raise PartitionTableError(f"partition {number} invalid magic number 0x{magic:x}")
    raise PartitionTableError("partition table has no terminating entry, not valid")


def _read_entry(entry: bytes, number: int, flash_bytes: int | None) -> Partition:
    _, type_, subtype, offset, size, label, flags = _ENTRY.unpack(entry)
    if flash_bytes is not None and offset + size > flash_bytes:
        bounds = f"offset 0x{offset:x} size 0x{size:x} exceeds flash chip size 0x{flash_bytes:x}"
        raise PartitionTableError(f"partition {number} invalid - {bounds}")
    return Partition(label.split(b"\0", 1)[0].decode("utf-8", "replace"), type_, subtype, offset, size, flags)


def _write_entry(partition: Partition) -> bytes:
    return _ENTRY.pack(
        ENTRY_MAGIC,
        partition.type,
        partition.subtype,
        partition.offset,
        partition.size,
        partition.label.encode(),
        partition.flags,
    )


def _csv_partition(fields: list[str], next_offset: int, line: int) -> Partition:
    if not 5 <= len(fields) <= 6:
        raise _csv_error(line, f"{len(fields)} fields; write Name, Type, SubType, Offset, Size and perhaps Flags")
    label, type_text, subtype_text, offset_text, size_text = fields[:5]
    if not label or len(label.encode()) > _MAX_LABEL_BYTES:
        raise _csv_error(line, f"name {label!r} must have 1 to {_MAX_LABEL_BYTES} bytes")
    if not label.isprintable():
        raise _csv_error(line, f"name {label!r} has a character that cannot be printed")
    type_ = _word_or_number(type_text, _TYPES, "type", line)
    subtype = _word_or_number(subtype_text or "undefined", _SUBTYPES.get(type_, {}), "subtype", line)
    alignment = APP_ALIGNMENT_BYTES if type_ == TYPE_APP else SECTOR_BYTES
    offset = _number(offset_text, "offset", line) if offset_text else -(-next_offset // alignment) * alignment
    size = _number(size_text, "size", line)
    if offset % alignment:
        raise _csv_error(line, f"offset 0x{offset:x} of {label!r} is not a multiple of 0x{alignment:x}")
    if size <= 0 or size % SECTOR_BYTES:
        raise _csv_error(line, f"size 0x{size:x} of {label!r} is not a positive multiple of 0x{SECTOR_BYTES:x}")
    if offset + size > 1 << 32:
        raise _csv_error(line, f"{label!r} ends at 0x{offset + size:x}, beyond 32 bits")
    return Partition(label, type_, subtype, offset, size, _flags(fields[5] if len(fields) == 6 else "", line))


def _check_against(partition: Partition, earlier: Iterable[tuple[Partition, int]], line: int) -> None:
    if partition.offset < _FIRST_OFFSET:
        raise _csv_error(line, f"{partition.label!r} at 0x{partition.offset:x} lies before 0x{_FIRST_OFFSET:x}")
    for other, other_line in earlier:
        if partition.label == other.label:
            raise _csv_error(line, f"name {partition.label!r} is already used on line {other_line}")
        if partition.offset < other.end and other.offset < partition.end:
            raise _csv_error(line, f"{partition.label!r} overlaps {other.label!r} of line {other_line}")


def _word_or_number(text: str, words: dict[str, int], what: str, line: int) -> int:
    if text in words:
        return words[text]
    try:
        value = int(text, 0)
    except ValueError:
        raise _csv_error(line, f"unknown {what} {text!r}; one of {', '.join(words) or 'a number'}") from None
    if not 0 <= value < 0xFF:
        raise _csv_error(line, f"{what} {text} is not in 0..254")
    return value


def _number(text: str, what: str, line: int) -> int:
    unit = {"K": 1024, "M": 1024 * 1024}.get(text[-1:].upper(), 1)
    try:
        value = int(text[:-1] if unit > 1 else text, 0) * unit
    except ValueError:
        raise _csv_error(line, f"{what} {text!r} is no number (decimal or 0x..., with K or M)") from None
    if not 0 <= value < 1 << 32:
        raise _csv_error(line, f"{what} {text} is not in 32 bits")
    return value


def _flags(text: str, line: int) -> int:
    flags = 0
    for word in filter(None, (word.strip() for word in text.split(":"))):
        if word not in _FLAGS:
            raise _csv_error(line, f"unknown flag {word!r}; one of {', '.join(_FLAGS)}")
        flags |= _FLAGS[word]
    return flags


def _csv_error(line: int, what: str) -> ConfigError:
    return ConfigError(f"partition table CSV, line {line}: {what}")
