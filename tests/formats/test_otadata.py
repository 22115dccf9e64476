"""The OTA data reader, on entries as ESP-IDF's otatool and bootloader write them."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.formats import otadata, partitions

NEW, VALID, INVALID, UNDEFINED = 0, 2, 3, 0xFFFFFFFF
# The CRC-32 of the sequence number, little-endian, as it stands in flash.
CRC = {1: "9a984347", 2: "7437f655", 3: "11504aed"}
BLANK = b"\xff" * 0x1000
TABLE = partitions.parse_csv(
    "otadata, data, ota, 0xd000, 8K\nfactory, app, factory, 0x10000, 64K\n"
    "second, app, ota_1, , 64K\nfirst, app, ota_0, , 64K\n"
)


def sector(sequence: int, state: int = UNDEFINED, crc: str | None = None) -> bytes:
    entry = struct.pack("<I20sI", sequence, b"\xff" * 20, state) + bytes.fromhex(crc or CRC[sequence])
    return entry.ljust(0x1000, b"\xff")


@pytest.mark.parametrize(
    ("first", "second", "active", "boots"),
    [
        (BLANK, BLANK, None, "factory"),
        (sector(1), BLANK, 1, "first"),
        (sector(1), sector(2), 2, "second"),
        (sector(3, VALID), sector(2, NEW), 3, "first"),
        (sector(1), sector(2, INVALID), 1, "first"),
        (sector(1), sector(2, crc="00000000"), 1, "first"),
        (sector(1, INVALID), BLANK, None, "factory"),
    ],
)
def test_the_valid_entry_with_the_greater_number_counts(first, second, active, boots):
    found = otadata.read_otadata(first + second)
    assert (found.active.sequence if found.active else None) == active
    assert otadata.boot_partition(TABLE, found).label == boots


def test_without_an_ota_partition_the_factory_application_starts():
    assert otadata.boot_partition(TABLE, None).label == "factory"
    assert otadata.boot_partition(TABLE[2:], None).label == "first"
    assert otadata.boot_partition(TABLE[:1], None) is None


def test_an_entry_is_told_in_words():
    entry, blank = otadata.read_otadata(sector(2, VALID) + BLANK).entries
    assert (entry.sequence, entry.state_name, entry.crc_ok, entry.blank) == (2, "valid", True, False)
    assert (blank.blank, blank.crc_ok) == (True, False)


@given(st.binary(max_size=64) | st.binary(min_size=32, max_size=32).map(lambda entry: entry.ljust(0x2000, b"\xff")))
def test_any_bytes_are_ota_data_or_its_error(data: bytes):
    try:
        found = otadata.read_otadata(data)
    except otadata.OtaDataError:
        assert len(data) != 0x2000
        return
    assert otadata.boot_partition(TABLE, found) in TABLE
    assert all(entry.state_name for entry in found.entries)
