"""Image sets that must not be flashed: each fault is found, and its file, the finding and the fix are named."""

import dataclasses
import hashlib
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import ConfigError
from rig.formats import image, partitions
from rig.formats.checks import ImageSetError, check_image_set
from rig.formats.flasher_args import ImageSet, read_image_set
from rig.formats.partitions import Partition

BOOTLOADER, TABLE, APP_AT = "bootloader/bootloader.bin", "partition_table/partition-table.bin", 0x10000
APP = image.build_host_image(b"\x7fELF" + bytes(range(256)) * 20, project="light", version="1")
CSV = "nvs, data, nvs, 0x9000, 24K\nphy, data, phy, , 4K\nfactory, app, factory, , 1536K\ncreds, data, nvs, , 12K\n"


def put(at, data):
    return lambda content: content[:at] + data + content[at + len(data) :]


def flip(at):
    return lambda content: content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def table(*entries):
    return lambda _: partitions.build_table(entries)


def rebuilt(change):
    """Change an image's bytes and make checksum and hash right again."""

    def changed(content):
        found = image.examine(change(content))
        body = bytearray(change(content)[: found.length - 32])
        body[-1] = found.checksum[1]
        return bytes(body) + hashlib.sha256(body).digest()

    return changed


@pytest.fixture
def build(tmp_path):
    """Make an image set with one file changed, and perhaps its flasher_args.json."""

    def make(name=None, change=None, **arguments) -> ImageSet:
        files = {BOOTLOADER: image.build_bootloader(), TABLE: partitions.table_from_csv(CSV), "app.bin": APP}
        offsets = {"bootloader": "0x0", "partition-table": "0x8000", "app": "0x10000"} | arguments.pop("offsets", {})
        if name is not None:
            files[name] = change(files.get(name, b""))
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(content)
        named = dict(zip(("bootloader", "partition-table", "app"), files, strict=False))
        entries = {key: {"offset": offsets[key], "file": file} for key, file in named.items() if key in offsets}
        flash_files = {entry["offset"]: entry["file"] for entry in entries.values()} | arguments.pop("more", {})
        chip = {"chip": arguments.pop("chip", "esp32c3")}
        (tmp_path / "flasher_args.json").write_text(
            json.dumps({"flash_files": flash_files, **entries, "extra_esptool_args": chip})
        )
        return read_image_set(tmp_path)

    return make


def test_a_sound_set_passes(build):
    check_image_set(build(), revision=4)


FACTORY = Partition("factory", 0, 0, APP_AT, 0x180000)
DAMAGES = [
    # What the mask ROM or the loader would refuse
    (BOOTLOADER, put(0, b"\x00"), "magic byte is 0x00, not 0xe9"),
    (BOOTLOADER, put(12, b"\x00"), "built for chip id 0, not 5"),
    (BOOTLOADER, flip(0x200), "checksum is 0x"),
    (TABLE, put(0, b"\xff" * 0xC00), "is blank"),
    (TABLE, flip(12), "Incorrect MD5 checksum"),
    (TABLE, put(1, b"\x00"), "partition 0 invalid magic number 0xaa"),
    ("app.bin", put(0, b"\x00"), "magic byte is 0x00, not 0xe9"),
    ("app.bin", flip(0x500), "checksum is 0x"),
    ("app.bin", lambda data: put(len(data) - 33, bytes([data[-33] ^ 0xFF]))(flip(0x500)(data)), "SHA-256 is"),
    ("app.bin", put(12, b"\x09"), "built for chip id 9, not 5"),
    ("app.bin", put(15, struct.pack("<H", 200)), "needs chip revision >= v2.0, the chip is v0.4"),
    ("app.bin", put(17, struct.pack("<H", 3)), "needs chip revision <= v0.3, the chip is v0.4"),
    ("app.bin", put(31, b"\x7f"), "invalid segment length 0x7f"),
    ("app.bin", put(1, b"\x11"), "image at 0x10000 segment count 17 exceeds max 16"),
    ("app.bin", lambda data: data[:-100], "the file is cut short"),
    ("app.bin", lambda data: data[:10], "has 10 bytes, an image's header alone 24"),
    (
        "app.bin",
        rebuilt(put(24, struct.pack("<I", 0x3C000000))),
        "load address 0x3c000000, doesn't match data 0x00010020",
    ),
    # What they would not notice, or not tell
    ("app.bin", rebuilt(put(24, struct.pack("<I", 0x20000020))), "segment 0 loads to 0x20000020, where no memory is"),
    ("app.bin", rebuilt(put(4, struct.pack("<I", 0x50))), "entry point 0x00000050 lies in no segment"),
    ("app.bin", rebuilt(put(32, b"\x00")), "has no application descriptor"),
    (BOOTLOADER, lambda _: APP, "is an application, not a bootloader"),
    (BOOTLOADER, rebuilt(put(32, b"\x00")), "has no bootloader descriptor"),
    (BOOTLOADER, put(3, b"\x3f"), "is built for a flash of 8 MiB, the chip has 4 MiB"),
    (BOOTLOADER, put(3, b"\x9f"), "is built for a flash of an unknown size"),
    (BOOTLOADER, put(3, b"\x0f"), "'factory' ends at 0x190000, beyond the 1 MiB in the bootloader's header"),
    (TABLE, table(Partition("nvs", 1, 2, 0x9000, 0x6000)), "has no app partition"),
    (TABLE, table(FACTORY, Partition("nvs", 1, 2, 0x20000, 0x6000)), "'factory' and 'nvs' overlap"),
    (TABLE, table(FACTORY, Partition("factory", 1, 2, 0x9000, 0x6000)), "two partitions are called 'factory'"),
    (TABLE, table(FACTORY, Partition("nvs", 1, 2, 0x7000, 0x1000)), "lies before 0x9000, over bootloader or table"),
    (TABLE, table(FACTORY, Partition("nvs", 1, 2, 0x9100, 0x1000)), "'nvs' at 0x9100 is not aligned to 0x1000"),
    (TABLE, table(FACTORY, Partition("nvs", 1, 2, 0x9000, 0)), "'nvs' is empty"),
    (TABLE, table(Partition("factory", 0, 0, 0x18000, 0x100000)), "'factory' at 0x18000 is not aligned to 0x10000"),
    (
        TABLE,
        table(Partition("factory", 0, 0, APP_AT, 0x400000)),
        "'factory' ends at 0x410000, beyond the flash of 4 MiB",
    ),
    (
        TABLE,
        table(Partition("factory", 0, 0, APP_AT, 0x1000)),
        f"{len(APP)} bytes do not fit 'factory', which ends at 0x11000",
    ),
    (TABLE, table(Partition("factory", 0, 0, 0x20000, 0x10000)), "lies in no partition of the table"),
    (TABLE, table(Partition("data", 1, 0x40, APP_AT, 0x10000)), "lies in 'data', which is no app partition"),
]


@pytest.mark.parametrize(("name", "change", "what"), DAMAGES, ids=[what for _, _, what in DAMAGES])
def test_a_damaged_file_is_named_with_the_finding(build, name, change, what):
    images = build(name, change)
    with pytest.raises(ImageSetError) as caught:
        check_image_set(images, revision=4)
    (finding, *_) = [text for text in caught.value.findings if what in text]
    assert ".bin: " in finding
    assert finding.rpartition("; ")[2]  # the fix


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"chip": "esp32"}, "flasher_args.json: is built for esp32; this rig flashes esp32c3"),
        ({"offsets": {"bootloader": "0x1000"}}, "the mask ROM looks for the bootloader at 0x0"),
        ({"offsets": {"bootloader": "0x7000"}}, "partition-table at 0x8000: starts before bootloader ends"),
        ({"offsets": {"partition-table": "0x9000"}}, "must lie at 0x8000; set CONFIG_PARTITION_TABLE_OFFSET=0x8000"),
        ({"offsets": {"app": "0x20000"}}, "app at 0x20000: is not at the start of 'factory' (0x10000)"),
        ({"offsets": {"app": "0x10010"}}, "does not begin at a sector"),
        ({"offsets": {"app": "0x3ff000"}}, "beyond the flash of 4 MiB"),
        ({"more": {"0x190000": "app.bin"}}, "bytes do not fit 'creds', which ends at 0x193000"),
        ({"more": {"0x300000": "app.bin"}}, "app at 0x300000: lies in no partition of the table"),
    ],
)
def test_a_file_in_the_wrong_place_is_named(build, arguments, what):
    name, change = ("app.bin", lambda data: data + b"x" * 0x3000) if "'creds'" in what else (None, None)
    if "starts before" in what:
        with pytest.raises(ConfigError, match="starts before bootloader ends"):
            build(**arguments)
        return
    with pytest.raises(ImageSetError) as caught:
        check_image_set(build(name, change, **arguments))
    assert what in str(caught.value)


def test_a_bootloader_too_long_is_named(build):
    offsets = {"partition-table": "0x10000", "app": "0x20000"}
    images = build(BOOTLOADER, lambda data: data + bytes(0x8000), offsets=offsets)
    with pytest.raises(ImageSetError, match="reach into the partition table at 0x8000") as caught:
        check_image_set(images)
    assert "must lie at 0x8000" in str(caught.value)


def test_all_findings_are_told_at_once(build):
    with pytest.raises(ImageSetError) as caught:
        check_image_set(build("app.bin", rebuilt(put(12, b"\x09\0\x03\xc8\0")), chip="esp32s3"), revision=4)
    chip, image_chip, revision = caught.value.findings
    assert "is built for esp32s3" in chip
    assert "built for chip id 9" in image_chip
    assert ">= v2.0" in revision


def test_the_application_is_checked_although_the_table_is_damaged(build):
    images = build(TABLE, flip(12))
    images.app.path.write_bytes(flip(0x500)(APP))
    with pytest.raises(ImageSetError) as caught:
        check_image_set(images)
    assert "Incorrect MD5 checksum" in caught.value.findings[0]
    assert "app at 0x10000: checksum is" in caught.value.findings[1]


def test_a_part_that_is_missing_is_named(build):
    images = build()
    incomplete = dataclasses.replace(images, files=(images.app,))
    with pytest.raises(ImageSetError) as caught:
        check_image_set(incomplete)
    assert "flasher_args.json: has no bootloader; build" in caught.value.findings[0]
    assert "flasher_args.json: has no partition-table; build" in caught.value.findings[1]


def test_without_a_revision_any_is_accepted(build):
    check_image_set(build("app.bin", rebuilt(put(15, struct.pack("<H", 200)))))


@settings(deadline=None)  # it writes files
@given(st.sampled_from([BOOTLOADER, TABLE, "app.bin"]), st.integers(0, 0xBFF), st.binary(min_size=1, max_size=40))
def test_any_damage_is_survived(tmp_path_factory, name, at, noise):
    directory = tmp_path_factory.getbasetemp()
    files = {BOOTLOADER: image.build_bootloader(), TABLE: partitions.table_from_csv(CSV), "app.bin": APP}
    for path, content in files.items():
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_bytes(put(at, noise)(content) if path == name else content)
    flash_files = dict(zip(("0x0", "0x8000", "0x10000"), files, strict=True))
    entries = dict(zip(("bootloader", "partition-table", "app"), flash_files.items(), strict=True))
    named = {key: {"offset": offset, "file": file} for key, (offset, file) in entries.items()}
    arguments = {"flash_files": flash_files, **named, "extra_esptool_args": {"chip": "esp32c3"}}
    (directory / "flasher_args.json").write_text(json.dumps(arguments))
    try:
        check_image_set(read_image_set(directory))
    except ImageSetError:
        return
    assert read_image_set(directory).file("app").read()
