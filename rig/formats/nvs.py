"""Reader of ESP-IDF's NVS partition (non-volatile storage, format version 2 and 1, not encrypted).

Source: ESP-IDF, API Reference, "Non-Volatile Storage Library", section "Internals": pages of 4096 bytes, each a header,
a bitmap of entry states and 126 entries of 32 bytes. What the library would throw away on start (a page with a damaged
header, an entry with a wrong CRC, a blob with a missing chunk) is left out here as well.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from rig.errors import BenchError

PAGE_BYTES = 4096
ENTRY_BYTES = 32
ENTRIES_PER_PAGE = 126

_PAGE_HEADER = struct.Struct("<IIB19sI")
_ENTRY = struct.Struct("<BBBBI16s8s")
_VARIABLE = struct.Struct("<H2xI")
_BLOB_INDEX = struct.Struct("<IBB2x")
_BITMAP = slice(32, 64)
_FIRST_ENTRY = 64
_ENTRY_WRITTEN = 0b10
_PAGE_STATES = {0xFFFFFFFE: "active", 0xFFFFFFFC: "full", 0xFFFFFFF8: "freeing"}
_NAMESPACE_INDEX = 0
_NAMESPACE_TYPE = 0x01
_STRING, _BLOB_V1, _BLOB_DATA, _BLOB_INDEX_TYPE = 0x21, 0x41, 0x42, 0x48
_INTEGERS = {
    0x01: ("u8", 1),
    0x11: ("i8", 1),
    0x02: ("u16", 2),
    0x12: ("i16", 2),
    0x04: ("u32", 4),
    0x14: ("i32", 4),
    0x08: ("u64", 8),
    0x18: ("i64", 8),
}


class NvsError(BenchError):
    """The bytes cannot be an NVS partition."""


@dataclass(frozen=True)
class NvsValue:
    """A stored value: its type as ESP-IDF's CSV names it (``u8`` ... ``i64``, ``str``, ``blob``) and its bytes.

    Integers are little-endian; a string comes without its NUL.
    """

    type: str
    data: bytes

    @property
    def value(self) -> int | str | bytes:
        """The value as Python has it."""
        if self.type == "blob":
            return self.data
        if self.type == "str":
            return self.data.decode("utf-8", "replace")
        return int.from_bytes(self.data, "little", signed=self.type.startswith("i"))


@dataclass(frozen=True)
class NvsPage:
    """A page in use. ``offset`` in the partition; ``unreadable`` entries are damaged, or encrypted."""

    offset: int
    sequence: int
    state: str
    unreadable: int


@dataclass(frozen=True)
class NvsContent:
    """A partition's pages, oldest first, and what is stored in them, by (namespace, key)."""

    pages: tuple[NvsPage, ...]
    values: dict[tuple[str, str], NvsValue]


@dataclass(frozen=True)
class _Entry:
    namespace: int
    type: int
    chunk: int
    key: str
    inline: bytes
    payload: bytes


def read_nvs(partition: bytes) -> dict[tuple[str, str], NvsValue]:
    """Return ``{(namespace, key): value}`` of an NVS partition; an erased one is empty.

    Raises NvsError when the size is not a multiple of the page size.
    """
    return examine_nvs(partition).values


def examine_nvs(partition: bytes) -> NvsContent:
    """Return the values of an NVS partition with the pages that hold them. Raises NvsError as `read_nvs` does."""
    if len(partition) % PAGE_BYTES:
        raise NvsError(f"NVS: {len(partition)} bytes are not whole pages of {PAGE_BYTES}; read the whole partition")
    pages: list[NvsPage] = []
    entries: list[_Entry] = []
    for offset, sequence, state in _pages_in_order(partition):
        found = list(_page_entries(partition[offset : offset + PAGE_BYTES]))
        readable = [entry for entry in found if entry is not None]
        pages.append(NvsPage(offset, sequence, state, unreadable=len(found) - len(readable)))
        entries += readable
    return NvsContent(tuple(pages), _values(entries))


def _values(entries: list[_Entry]) -> dict[tuple[str, str], NvsValue]:
    names = {
        entry.inline[0]: entry.key
        for entry in entries
        if entry.namespace == _NAMESPACE_INDEX and entry.type == _NAMESPACE_TYPE
    }
    chunks = {(entry.namespace, entry.key, entry.chunk): entry.payload for entry in entries if entry.type == _BLOB_DATA}
    values: dict[tuple[str, str], NvsValue] = {}
    for entry in entries:
        value = _value(entry, chunks)
        if value is not None and entry.namespace in names:
            values[names[entry.namespace], entry.key] = value
    return values


def _pages_in_order(partition: bytes) -> list[tuple[int, int, str]]:
    """Return (offset, sequence number, state) of the readable pages, oldest first, so that a later write wins."""
    pages = []
    for offset in range(0, len(partition), PAGE_BYTES):
        state, sequence, _, _, crc = _PAGE_HEADER.unpack_from(partition, offset)
        if state in _PAGE_STATES and crc == _crc32(partition[offset + 4 : offset + 28]):
            pages.append((offset, sequence, _PAGE_STATES[state]))
    return sorted(pages, key=lambda page: page[1])


def _page_entries(page: bytes) -> Iterator[_Entry | None]:
    """Give the written entries of *page*, None for each that cannot be read."""
    bitmap = int.from_bytes(page[_BITMAP], "little")
    index = 0
    while index < ENTRIES_PER_PAGE:
        span = 1
        if bitmap >> (2 * index) & 0b11 == _ENTRY_WRITTEN:
            entry, span = _read_entry(page, index)
            yield entry
        index += span


def _read_entry(page: bytes, index: int) -> tuple[_Entry | None, int]:
    start = _FIRST_ENTRY + index * ENTRY_BYTES
    raw = page[start : start + ENTRY_BYTES]
    namespace, type_, span, chunk, crc, key_field, inline = _ENTRY.unpack(raw)
    if crc != _crc32(raw[:4] + raw[8:]) or not 1 <= span <= ENTRIES_PER_PAGE - index:
        return None, 1
    key = key_field.split(b"\0", 1)[0].decode("ascii", "replace")
    payload = b""
    if type_ in (_STRING, _BLOB_V1, _BLOB_DATA):
        size, payload_crc = _VARIABLE.unpack(inline)
        payload = page[start + ENTRY_BYTES : start + ENTRY_BYTES + size]
        if size > (span - 1) * ENTRY_BYTES or payload_crc != _crc32(payload):
            return None, span
    return (_Entry(namespace, type_, chunk, key, inline, payload) if key.isprintable() else None), span


def _value(entry: _Entry, chunks: dict[tuple[int, str, int], bytes]) -> NvsValue | None:
    if entry.namespace == _NAMESPACE_INDEX:
        return None
    if entry.type in _INTEGERS:
        name, size = _INTEGERS[entry.type]
        return NvsValue(name, entry.inline[:size])
    if entry.type == _STRING:
        return NvsValue("str", entry.payload.removesuffix(b"\0"))
    if entry.type == _BLOB_V1:
        return NvsValue("blob", entry.payload)
    if entry.type == _BLOB_INDEX_TYPE:
        return _joined_blob(entry, chunks)
    return None


def _joined_blob(entry: _Entry, chunks: dict[tuple[int, str, int], bytes]) -> NvsValue | None:
    size, count, first = _BLOB_INDEX.unpack(entry.inline)
    data = b"".join(chunks.get((entry.namespace, entry.key, first + number), b"") for number in range(count))
    return NvsValue("blob", data) if len(data) == size else None


def _crc32(data: bytes) -> int:
    """NVS starts the chip ROM's CRC-32 from 0xFFFFFFFF, which that routine inverts once more."""
    return zlib.crc32(data, 0xFFFFFFFF)
