"""The reader of ESP-IDF's flasher_args.json."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.errors import ConfigError
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
    (directory / "flasher_args.json").write_text(json.dumps(data))


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
        ({"flash_files": {"0x0": 7}}, "'flash_files.0x0'"),
        ({"flash_files": {"0x0": "gone.bin"}}, "gone.bin"),
        ({"flash_files": {"0x10000": "server.bin", "0x10010": "table.bin"}}, "'flash_files.0x10010'"),
        ({"app": {"file": "other.bin"}}, "'app'"),
        ({"app": {"file": 3}}, "'app.file'"),
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


def test_a_missing_file_says_to_build(tmp_path):
    with pytest.raises(ConfigError, match="build the firmware first"):
        read_image_set(tmp_path)


def test_an_unknown_name_lists_the_known_ones(build):
    write(build, GOOD)
    with pytest.raises(ConfigError, match="bootloader, partition-table, app"):
        read_image_set(build).file("otadata")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "other"]), JSON), st.binary(max_size=40))
def test_anything_else_is_a_config_error(tmp_path_factory, change, raw):
    directory = tmp_path_factory.mktemp("build")
    write(directory, GOOD | change)
    with pytest.raises(ConfigError):
        read_image_set(directory)
    (directory / "flasher_args.json").write_bytes(raw)
    with pytest.raises(ConfigError):
        read_image_set(directory)
