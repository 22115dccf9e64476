"""ESP-IDF's OTA data partition: which application slot the second-stage loader starts.

Source: ESP-IDF, API Reference, "Over The Air Updates (OTA)", section "OTA Data Partition"; `esp_flash_partitions.h` for
the layout: two sectors, each begins with one entry, and the valid entry with the greater sequence number counts.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from rig.errors import BenchError
from rig.formats import partitions
from rig.formats.partitions import SECTOR_BYTES, Partition

OTADATA_BYTES = 2 * SECTOR_BYTES

_ENTRY = struct.Struct("<I20sII")
_BLANK_SEQUENCE = 0xFFFFFFFF
_OTA_SLOTS = 16
_STATES = {0: "new", 1: "pending-verify", 2: "valid", 3: "invalid", 4: "aborted", 0xFFFFFFFF: "undefined"}
_NOT_BOOTED = (3, 4)
VALID = 2


class OtaDataError(BenchError):
    """The bytes cannot be an OTA data partition."""


@dataclass(frozen=True)
class OtaEntry:
    """One of the two entries. ``state`` is ``esp_ota_img_states_t``; ``crc_ok`` where the CRC fits the sequence."""

    sequence: int
    state: int
    crc_ok: bool

    @property
    def state_name(self) -> str:
        """ESP-IDF's word for the state, or its number."""
        return _STATES.get(self.state, f"0x{self.state:x}")

    @property
    def unwritten(self) -> bool:
        """True where nothing was written, or what was written is damaged."""
        return self.sequence == _BLANK_SEQUENCE or not self.crc_ok

    @property
    def blank(self) -> bool:
        """True where the entry was never written, or its application may not be started."""
        return self.sequence == _BLANK_SEQUENCE or self.state in _NOT_BOOTED


@dataclass(frozen=True)
class OtaData:
    """Both entries, in the order of their sectors."""

    entries: tuple[OtaEntry, OtaEntry]

    @property
    def active(self) -> OtaEntry | None:
        """The entry that the loader goes by, or None."""
        valid = [entry for entry in self.entries if entry.crc_ok and not entry.blank]
        return max(valid, key=lambda entry: entry.sequence, default=None)


def read_otadata(data: bytes) -> OtaData:
    """Read an OTA data partition. Raises OtaDataError where *data* is not two sectors long."""
    if len(data) != OTADATA_BYTES:
        raise OtaDataError(f"otadata: {len(data)} bytes, must have {OTADATA_BYTES} (two sectors); read all of it")
    return OtaData((_entry(data, 0), _entry(data, SECTOR_BYTES)))


def build_entry(sequence: int, state: int) -> bytes:
    """Return an entry as it is written at the start of one of the two sectors."""
    return _ENTRY.pack(sequence, b"\xff" * 20, state, _crc(sequence))


def boot_partition(table: Sequence[Partition], otadata: OtaData | None) -> Partition | None:
    """Return the application partition that the loader tries first, or None where the table has none.

    *otadata* is None for a table without an OTA data partition: then it is the factory application. Else the active
    entry's slot, counted modulo the number of slots; without one the factory application, or the first slot.
    """
    apps = [entry for entry in table if entry.type == partitions.TYPE_APP]
    slots = sorted((entry for entry in apps if _is_slot(entry)), key=lambda entry: entry.subtype)
    active = otadata.active if otadata is not None else None
    if active is not None and slots:
        return slots[(active.sequence - 1) % 2**32 % len(slots)]
    factory = partitions.find(table, partitions.TYPE_APP, partitions.SUBTYPE_FACTORY)
    return factory or next(iter(slots), None)


def _is_slot(partition: Partition) -> bool:
    return partitions.SUBTYPE_OTA_0 <= partition.subtype < partitions.SUBTYPE_OTA_0 + _OTA_SLOTS


def _entry(data: bytes, offset: int) -> OtaEntry:
    sequence, _, state, crc = _ENTRY.unpack_from(data, offset)
    return OtaEntry(sequence, state, crc == _crc(sequence))


def _crc(sequence: int) -> int:
    # The ROM's CRC-32 starts from 0xFFFFFFFF, which it inverts once more.
    return zlib.crc32(sequence.to_bytes(4, "little"), 0xFFFFFFFF)
