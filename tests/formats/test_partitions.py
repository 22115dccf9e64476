"""The partition table codec, binary and CSV."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.errors import ConfigError
from rig.formats import partitions
from rig.formats.partitions import Partition

CSV = """\
# Name,   Type, SubType, Offset,  Size, Flags
nvs,      data, nvs,     0x9000,  0x6000,
phy_init, data, phy,     ,        4K,
factory,  app,  factory, ,        1500K,
keys,     data, 0x40,    ,        1M,  encrypted:readonly  # ours
"""


def test_csv_gives_the_entries_with_blank_offsets_filled_in() -> None:
    assert partitions.parse_csv(CSV) == (
        Partition("nvs", 1, 2, 0x9000, 0x6000),
        Partition("phy_init", 1, 1, 0xF000, 0x1000),
        Partition("factory", 0, 0, 0x10000, 1500 * 1024),
        Partition("keys", 1, 0x40, 0x187000, 0x100000, 3),
    )


def test_binary_table_layout() -> None:
    table = partitions.table_from_csv(CSV)
    assert len(table) == partitions.TABLE_BYTES
    assert table[:32] == bytes.fromhex("aa50010200900000006000006e76730000000000000000000000000000000000")
    assert table[128:160] == b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(table[:128]).digest()
    assert set(table[160:]) == {0xFF}
    assert partitions.parse_table(table, flash_bytes=4 << 20) == partitions.parse_csv(CSV)


def test_find_and_name() -> None:
    table = partitions.parse_csv(CSV)
    nvs = partitions.find(table, partitions.TYPE_DATA, partitions.SUBTYPE_NVS)
    assert nvs is not None
    assert nvs.label == "nvs"
    assert partitions.find(table, partitions.TYPE_APP, 0x10) is None
    assert [partitions.subtype_name(entry) for entry in table] == ["nvs", "phy", "factory", "0x40"]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("nvs, data, nvs, 0x9000", "4 fields"),
        (", data, nvs, 0x9000, 4K", "name ''"),
        ("a_name_of_17_byte, data, nvs, 0x9000, 4K", "1 to 16 bytes"),
        ("n\0vs, data, nvs, 0x9000, 4K", r"'n\x00vs' has a character that cannot be printed"),
        ("x, file, nvs, 0x9000, 4K", "unknown type 'file'"),
        ("x, data, nsv, 0x9000, 4K", "unknown subtype 'nsv'"),
        ("x, data, nvs, 0x9100, 4K", "offset 0x9100"),
        ("x, app, factory, 0x9000, 4K", "multiple of 0x10000"),
        ("x, data, nvs, 0x9000, 5000", "size 0x1388"),
        ("x, data, nvs, 0x9000, big", "size 'big'"),
        ("x, data, nvs, 0x9000, ", "size ''"),
        ("x, data, nvs, 0x8000, 4K", "before 0x9000"),
        ("x, data, nvs, 0x9000, 4K, secret", "unknown flag 'secret'"),
        ("first, data, nvs, 0x20000, 4K", "already used on line 2"),
        ("x, data, nvs, 0xa000, 4K", "overlaps 'first' of line 2"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(row: str, what: str) -> None:
    csv = f"# Name\nfirst, data, nvs, 0xa000, 8K\n\n{row}\n"
    with pytest.raises(ConfigError, match="line 4") as error:
        partitions.table_from_csv(csv)
    assert what in str(error.value)


def test_loader_checks() -> None:
    table = partitions.table_from_csv(CSV)
    with pytest.raises(partitions.PartitionMd5Error):
        partitions.parse_table(table[:40] + b"\x01" + table[41:])
    with pytest.raises(partitions.PartitionTableError, match="partition 1 invalid magic number 0x5000"):
        partitions.parse_table(table[:32] + b"\x00" + table[33:])
    with pytest.raises(partitions.PartitionTableError, match="exceeds flash chip size 0x100000"):
        partitions.parse_table(table, flash_bytes=1 << 20)
    with pytest.raises(partitions.PartitionTableError, match="no terminating entry"):
        partitions.parse_table(table[:128])
    assert partitions.parse_table(b"\xff" * partitions.TABLE_BYTES) == ()


@given(st.binary(max_size=400))
def test_any_bytes_are_a_table_or_a_table_error(data: bytes) -> None:
    for candidate in (data, b"\xaa\x50" + data):
        try:
            partitions.parse_table(candidate, flash_bytes=4 << 20)
        except partitions.PartitionTableError:
            continue


@given(st.text(max_size=200) | st.lists(st.text("axdp,nvs0K9M #", max_size=40)).map("\n".join))
def test_any_text_is_a_table_or_a_config_error(text: str) -> None:
    try:
        table = partitions.table_from_csv(text)
    except ConfigError:
        return
    assert partitions.parse_table(table) == partitions.parse_csv(text)
