"""The reader of image sets: ESP-IDF's flasher_args.json, and all of it merged into one file by esptool."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.errors import ConfigError
from rig.formats import image, partitions
from rig.formats.checks import check_image_set
from rig.formats.flasher_args import read_image_set

GOOD = {
    "write_flash_args": ["--flash_mode", "dio"],
    "flash_settings": {"flash_mode": "dio", "flash_size": "4MB", "flash_freq": "80m"},
    "flash_files": {"0x10000": "server.bin", "0x0": "bootloader/bootloader.bin", "0x8000": "table.bin"},
    "bootloader": {"offset": "0x0", "file": "bootloader/bootloader.bin", "encrypted": "false"},
    "app": {"offset": "0x10000", "file": "server.bin", "encrypted": "false"},
    "partition-table": {"offset": "0x8000", "file": "table.bin", "encrypted": "false"},
    "extra_esptool_args": {"after": "hard_reset", "before": "default_reset", "stub": True, "chip": "esp32c3"},
}


@pytest.fixture
def build(tmp_path):
    (tmp_path / "bootloader").mkdir()
    (tmp_path / "bootloader" / "bootloader.bin").write_bytes(b"b" * 100)
    (tmp_path / "server.bin").write_bytes(b"a" * 100)
    (tmp_path / "table.bin").write_bytes(b"t" * 100)
    return tmp_path


def write(directory, data):
    (directory / "flasher_args.json").write_text(json.dumps(data, indent=4))


def test_files_come_in_the_order_of_their_offsets(build):
    write(build, GOOD)
    images = read_image_set(build)
    assert [(file.name, file.offset) for file in images.files] == [
        ("bootloader", 0),
        ("partition-table", 0x8000),
        ("app", 0x10000),
    ]
    assert images.chip == "esp32c3"
    assert images.app.path == build / "server.bin"
    assert images.file("app") is images.app


def test_a_file_without_an_entry_is_named_by_its_stem(build):
    (build / "storage.bin").write_bytes(b"s")
    write(build, GOOD | {"flash_files": GOOD["flash_files"] | {"0x200000": "storage.bin"}})
    assert read_image_set(build).files[-1].name == "storage"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"flash_files": None}, "'flash_files'"),
        ({"flash_files": {"zero": "server.bin"}}, "'flash_files.zero'"),
        ({"flash_files": GOOD["flash_files"] | {"0x9000": 7}}, "'flash_files.0x9000'"),
        ({"flash_files": GOOD["flash_files"] | {"0x9000": "gone.bin"}}, "gone.bin"),
        ({"flash_files": GOOD["flash_files"] | {"0x9000": "no\0name"}}, "'flash_files.0x9000'"),
        ({"flash_files": GOOD["flash_files"] | {"-1": "server.bin"}}, "'flash_files.-1'"),
        ({"flash_files": GOOD["flash_files"] | {"0x10010": "table.bin"}}, "table at 0x10010 starts before app ends"),
        ({"app": None}, "'app'"),
        ({"app": {"offset": "0x10000", "file": "other.bin"}}, "'app.file'"),
        ({"app": {"offset": "0x20000", "file": "server.bin"}}, "'app.file'"),
        ({"app": {"offset": "0x10000", "file": 3}}, "'app.file'"),
        ({"app": {"offset": [], "file": "server.bin"}}, "'app.offset'"),
        ({"app": {"file": "server.bin", "encrypted": "true"}}, "'app.encrypted'"),
        ({"extra_esptool_args": {}}, "'extra_esptool_args.chip'"),
    ],
)
def test_an_error_names_file_and_key(build, change, named):
    write(build, GOOD | change)
    with pytest.raises(ConfigError) as caught:
        read_image_set(build)
    assert str(build / "flasher_args.json") in str(caught.value)
    assert named in str(caught.value)


def test_an_error_names_the_line(build):
    write(build, GOOD | {"app": {"offset": "0x10000", "file": "server.bin", "encrypted": "true"}})
    lines = (build / "flasher_args.json").read_text().splitlines()
    app = next(number for number, line in enumerate(lines, 1) if '"app"' in line)
    with pytest.raises(ConfigError, match=f"flasher_args.json:{app + 3}: key 'app.encrypted'"):
        read_image_set(build)
    (build / "flasher_args.json").write_text('{\n"flash_files": {},\n"app" 1}')
    with pytest.raises(ConfigError, match=r"flasher_args.json:3: is not valid JSON: Expecting ':' delimiter"):
        read_image_set(build)


def test_a_key_that_stands_twice_is_an_error(build):
    (build / "flasher_args.json").write_text('{"flash_files": {"0x0": "table.bin", "0x0": "server.bin"}}')
    with pytest.raises(ConfigError, match="key '0x0': stands twice"):
        read_image_set(build)


def test_the_json_file_itself_may_be_named(build):
    write(build, GOOD)
    assert read_image_set(build / "flasher_args.json") == read_image_set(build)


@pytest.mark.parametrize("name", ["", "flasher_args.json", "merged.bin"])
def test_a_missing_file_says_to_build(tmp_path, name):
    with pytest.raises(ConfigError, match="build the firmware first"):
        read_image_set(tmp_path / name)


def test_an_unknown_name_lists_the_known_ones(build):
    write(build, GOOD)
    with pytest.raises(ConfigError, match="bootloader, partition-table, app"):
        read_image_set(build).file("otadata")


TEXT = st.text("0x1a.\0/\ud800", max_size=8) | st.sampled_from(["server.bin", "0x10000", "x" * 300])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "other"]), JSON), st.binary(max_size=40))
def test_anything_else_is_a_config_error(tmp_path_factory, change, raw):
    path = tmp_path_factory.getbasetemp() / "flasher_args.json"
    for content in (json.dumps(GOOD | change).encode(), raw, b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"):
        path.write_bytes(content)
        with pytest.raises(ConfigError):
            read_image_set(path)


APP = image.build_host_image(b"\x7fELF" + bytes(3000), project="light", version="1")
OTHER = image.build_host_image(b"\x7fELF other", project="other", version="2")
CSV = """\
nvs, data, nvs, 0x9000, 16K
otadata, data, ota, , 8K
phy, data, phy, , 4K
ota_0, app, ota_0, 0x10000, 64K
ota_1, app, ota_1, , 64K
storage, data, 0x40, , 16K
blank, data, 0x41, , 16K
"""
STORAGE = b"storage" + b"\xff" * 100 + b"end"
# ota_seq 2 with its CRC, as ESP-IDF's otatool writes it: slot 1 is active.
OTADATA = (b"\x02\0\0\0" + b"\xff" * 24 + bytes.fromhex("7437f655")).ljust(0x2000, b"\xff")
PARTS = {
    0: image.build_bootloader(),
    0x8000: partitions.table_from_csv(CSV),
    0xD000: OTADATA,
    0x10000: APP,
    0x20000: OTHER,
    0x30000: STORAGE,
}


def merge(directory, parts, *options):
    """Let esptool merge the parts, as `idf.py merge-bin` does."""
    words = []
    for offset, data in parts.items():
        (directory / f"{offset:x}.bin").write_bytes(data)
        words += [hex(offset), str(directory / f"{offset:x}.bin")]
    merged = directory / "merged.bin"
    command = [sys.executable, "-m", "esptool", "--chip", "esp32c3", "merge-bin", "-o", str(merged)]
    subprocess.run([*command, *options, *words], check=True, capture_output=True)
    return merged


@pytest.mark.parametrize("options", [(), ("--pad-to-size", "4MB")])
def test_a_merged_image_comes_apart(tmp_path, options):
    images = read_image_set(merge(tmp_path, PARTS, *options))
    assert images.chip == "esp32c3"
    assert {file.name: file.offset for file in images.files} == {
        "bootloader": 0,
        "partition-table": 0x8000,
        "otadata": 0xD000,
        "ota_0": 0x10000,
        "app": 0x20000,
        "storage": 0x30000,
    }
    assert images.app is images.file("app")
    for file in images.files:
        assert file.read().rstrip(b"\xff") == PARTS[file.offset].rstrip(b"\xff")
    assert images.app.read() == OTHER
    check_image_set(images, revision=4)


def test_an_erased_ota_data_partition_stays_in_the_set_and_chooses_the_first_slot(tmp_path):
    images = read_image_set(merge(tmp_path, PARTS | {0xD000: b"\xff" * 0x2000}))
    assert images.app.offset == 0x10000
    assert images.file("otadata").read() == b"\xff" * 0x2000


def test_an_image_that_ends_with_erased_bytes_keeps_them(tmp_path):
    padded = next(
        candidate
        for number in range(10_000)
        if (candidate := image.build_host_image(b"\x7fELF", project="p", version=str(number))).endswith(b"\xff")
    )
    merged = merge(tmp_path, PARTS)
    merged.write_bytes(merged.read_bytes()[:0x20000] + padded + b"\xff" * 0x1000)
    assert read_image_set(merged).file("app").read() == padded


def test_bytes_outside_every_partition_are_a_part_of_their_own(tmp_path):
    images = read_image_set(merge(tmp_path, PARTS | {0x50000: b"stray"}))
    assert images.files[-1].name == "bytes at 0x38000"
    assert images.files[-1].read().endswith(b"stray")


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({0: APP}, "has no partition table at 0x8000"),
        ({0: PARTS[0], 0x8000: PARTS[0x8000]}, "no application in any app partition"),
        ({0: PARTS[0], 0x8000: PARTS[0x8000][:40] + b"?" + PARTS[0x8000][41:]}, "Incorrect MD5 checksum"),
    ],
)
def test_what_is_no_merged_image_is_a_config_error(tmp_path, parts, what):
    merged = merge(tmp_path, parts)
    with pytest.raises(ConfigError, match=what) as error:
        read_image_set(merged)
    assert str(merged) in str(error.value)


@given(st.binary(max_size=200), st.binary(max_size=300), st.integers(0, 0x11000))
def test_any_bytes_are_a_merged_image_or_a_config_error(tmp_path_factory, table, app, size):
    path = tmp_path_factory.getbasetemp() / "any.bin"
    content = b"\xe9".ljust(0x8000, b"\xff") + b"\xaa\x50" + table.ljust(0x7FFE, b"\xff") + b"\xe9" + app
    sound = PARTS[0].ljust(0x8000, b"\xff") + PARTS[0x8000].ljust(0x8000, b"\xff") + app
    for data in (content, content[:size], sound):
        path.write_bytes(data)
        try:
            images = read_image_set(path)
        except ConfigError:
            continue
        assert images.app.read() in data
