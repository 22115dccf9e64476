"""The NVS reader against images made by Espressif's own generator."""

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from esp_idf_nvs_partition_gen import nvs_partition_gen
from hypothesis import given
from hypothesis import strategies as st

from rig.formats import nvs
from rig.formats.nvs import NvsValue

PSK_HEX = "00112233445566778899aabbccddeeff"
LONG_BLOB_HEX = bytes(n * 7 % 256 for n in range(9000)).hex()
ROWS = f"""\
key,type,encoding,value
coaps,namespace,,
identity,data,string,board-1
psk,data,hex2bin,{PSK_HEX}
long,data,hex2bin,{LONG_BLOB_HEX}
wifi,namespace,,
ssid,data,string,lab net
identity,data,string,{"x" * 300}
count,data,u8,255
signed,data,i8,-3
word,data,u16,65535
minus,data,i16,-300
big,data,u32,4000000000
negative,data,i32,-2000000000
huge,data,u64,18000000000000000000
deep,data,i64,-9000000000000000000
"""


def generate(directory: Path, rows: str, size: int = 0x8000, version: int = 2) -> bytes:
    source = directory / "nvs.csv"
    output = directory / "nvs.bin"
    source.write_text(rows)
    arguments = SimpleNamespace(
        input=str(source), output=str(output), size=hex(size), version=version, outdir=str(directory)
    )
    with contextlib.redirect_stdout(io.StringIO()):
        nvs_partition_gen.generate(arguments)
    return output.read_bytes()


@pytest.fixture(scope="module")
def partition(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return generate(tmp_path_factory.mktemp("nvs"), ROWS)


def test_every_type_is_read(partition: bytes) -> None:
    values = {key: value.value for key, value in nvs.read_nvs(partition).items()}
    assert values == {
        ("coaps", "identity"): "board-1",
        ("coaps", "psk"): bytes.fromhex(PSK_HEX),
        ("coaps", "long"): bytes.fromhex(LONG_BLOB_HEX),
        ("wifi", "ssid"): "lab net",
        ("wifi", "identity"): "x" * 300,
        ("wifi", "count"): 255,
        ("wifi", "signed"): -3,
        ("wifi", "word"): 65535,
        ("wifi", "minus"): -300,
        ("wifi", "big"): 4000000000,
        ("wifi", "negative"): -2000000000,
        ("wifi", "huge"): 18000000000000000000,
        ("wifi", "deep"): -9000000000000000000,
    }


def test_format_version_1_blob(tmp_path: Path) -> None:
    rows = f"key,type,encoding,value\ncoaps,namespace,,\npsk,data,hex2bin,{PSK_HEX}\n"
    assert nvs.read_nvs(generate(tmp_path, rows, version=1)) == {
        ("coaps", "psk"): NvsValue("blob", bytes.fromhex(PSK_HEX))
    }


def test_an_erased_string_is_gone(partition: bytes) -> None:
    page = bytearray(partition)
    page[32] &= 0b11110011  # entry 1 of page 0, the identity, from written to erased
    assert ("coaps", "identity") not in nvs.read_nvs(bytes(page))


def test_a_damaged_entry_is_left_out_and_the_others_stay(partition: bytes) -> None:
    start = partition.index(b"board-1")
    values = nvs.read_nvs(partition[:start] + b"B" + partition[start + 1 :])
    assert ("coaps", "identity") not in values
    assert values["coaps", "psk"].data == bytes.fromhex(PSK_HEX)


def test_a_blob_with_a_missing_chunk_is_left_out(partition: bytes) -> None:
    values = nvs.read_nvs(partition[:0x1000] + b"\xff" * 0x1000 + partition[0x2000:])
    assert ("coaps", "long") not in values


def test_the_later_page_wins(tmp_path: Path) -> None:
    old, new = (
        generate(tmp_path, f"key,type,encoding,value\ncoaps,namespace,,\nidentity,data,string,{name}\n")[:0x1000]
        for name in ("old", "new")
    )
    header = new[:4] + (7).to_bytes(4, "little") + new[8:28]
    new = header + nvs._crc32(header[4:]).to_bytes(4, "little") + new[32:]
    assert nvs.read_nvs(new + old)["coaps", "identity"].value == "new"


def test_erased_partition_is_empty_and_a_part_of_a_page_is_an_error() -> None:
    assert nvs.read_nvs(b"\xff" * 0x6000) == {}
    with pytest.raises(nvs.NvsError, match="whole pages"):
        nvs.read_nvs(bytes(100))


@given(st.lists(st.tuples(st.integers(0, 0x7FFF), st.integers(0, 255)), max_size=60))
def test_any_damage_is_survived(partition: bytes, damage: list[tuple[int, int]]) -> None:
    data = bytearray(partition)
    for offset, value in damage:
        data[offset] = value
    for found in nvs.read_nvs(bytes(data)).values():
        assert found.value is not None


@given(st.binary(min_size=1, max_size=4096 - 64), st.sampled_from([0xFFFFFFFE, 0xFFFFFFFC, 0xFFFFFFF8]))
def test_any_bytes_after_a_good_header_are_survived(data: bytes, state: int) -> None:
    header = bytes(4) + b"\xfe" + b"\xff" * 19
    page = state.to_bytes(4, "little") + header + nvs._crc32(header).to_bytes(4, "little") + data
    nvs.read_nvs(page.ljust(4096, b"\xff"))


KEYS = st.text("abcdefghij_", min_size=1, max_size=15)
# The generator takes strings up to 3968 bytes with their NUL; a blob is cut into chunks where it does not fit a page.
STRINGS = st.text("ab ü€", max_size=20) | st.integers(0, 3967).map(lambda size: "s" * size)
BLOBS = st.binary(max_size=40) | st.integers(0, 9000).map(lambda size: bytes(n * 7 % 256 for n in range(size)))


def integers(bits: int) -> st.SearchStrategy[tuple[str, object]]:
    unsigned = st.tuples(st.just(f"u{bits}"), st.integers(0, 2**bits - 1))
    return unsigned | st.tuples(st.just(f"i{bits}"), st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))


VALUES = st.one_of(
    integers(8),
    integers(16),
    integers(32),
    integers(64),
    st.tuples(st.just("str"), STRINGS),
    st.tuples(st.just("blob"), BLOBS),
)
CONTENTS = st.dictionaries(st.tuples(KEYS, KEYS), VALUES, max_size=12)
PAGES = 40


def written(contents: dict[tuple[str, str], tuple[str, object]]) -> bytes:
    """Let Espressif's generator write the values."""
    partition = io.BytesIO()
    with nvs_partition_gen.nvs_open(partition, PAGES * 4096, version=nvs_partition_gen.Page.VERSION2) as opened:
        for (namespace, key), (kind, value) in contents.items():
            nvs_partition_gen.write_entry(opened, namespace, "namespace", "", "")
            index = opened.get_namespace_idx()
            encoding = {"str": "string", "blob": "hex2bin"}.get(kind, kind)
            opened.write_entry(key, value.hex() if isinstance(value, bytes) else value, encoding, index)
    return partition.getvalue()


@given(CONTENTS)
def test_whatever_the_generator_writes_is_read_back(contents) -> None:
    found = nvs.examine_nvs(written(contents))
    assert {key: (value.type, value.value) for key, value in found.values.items()} == contents
    assert [page.unreadable for page in found.pages] == [0] * len(found.pages)


@given(st.dictionaries(KEYS, st.integers(0, 2**32 - 1), min_size=1, max_size=300), st.data())
def test_an_erased_entry_is_gone_and_the_others_stay(numbers: dict[str, int], data: st.DataObject) -> None:
    """The library erases an entry by clearing its two bits in the page's bitmap."""
    contents = {("app", key): ("u32", value) for key, value in numbers.items()}
    partition = bytearray(written(contents))
    position = data.draw(st.integers(0, len(numbers) - 1))
    page, index = divmod(position + 1, nvs.ENTRIES_PER_PAGE)  # the namespace has the first entry
    partition[page * nvs.PAGE_BYTES + 32 + index // 4] &= ~(0b11 << index % 4 * 2)
    gone = list(contents)[position]
    assert nvs.read_nvs(bytes(partition)).keys() == contents.keys() - {gone}
