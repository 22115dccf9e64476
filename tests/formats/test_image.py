"""The image codec: what it builds, esptool verifies; what is damaged, it names; any bytes at all, it survives."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.formats import image

ELF = b"\x7fELF" + bytes(range(256)) * 40
APP = image.build_host_image(ELF, project="light", version="1.2.3")


def flipped(data: bytes, offset: int, mask: int = 0xFF) -> bytes:
    return data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]


def with_checksum_repaired(data: bytes) -> bytes:
    """Make the XOR checksum right again after a flip in a segment; the SHA-256 stays wrong."""
    try:
        image.parse(data)
    except image.ImageChecksumError as error:
        return data[:-33] + bytes([error.calculated]) + data[-32:]
    raise AssertionError("the checksum was right")


def test_host_image_carries_the_program_and_its_descriptor() -> None:
    parsed = image.parse(APP, revision=4)
    assert image.host_elf(parsed) == ELF
    assert parsed.length == len(APP)
    assert parsed.sha256 == APP[-32:]
    assert parsed.app == image.AppDescriptor("light", "1.2.3", "v5.3.1", hashlib.sha256(ELF).digest(), "", "", 0)


def test_descriptor_stands_where_the_loader_looks_for_it() -> None:
    assert APP[0x20:0x24] == image.APP_DESCRIPTOR_MAGIC.to_bytes(4, "little")
    assert image.build_bootloader()[0x20] == image.BOOTLOADER_DESCRIPTOR_MAGIC


def test_segments_in_flash_lie_on_their_mmu_page_offset() -> None:
    for segment in image.parse(APP).segments:
        if segment.load_address >> 24 in (0x3C, 0x42):
            assert segment.load_address % 0x10000 == segment.offset % 0x10000


def test_equal_input_gives_equal_bytes() -> None:
    assert image.build_host_image(ELF, project="light", version="1.2.3") == APP


def test_trailing_bytes_of_the_partition_are_ignored() -> None:
    assert image.parse(APP + b"\xff" * 1000) == image.parse(APP)


def test_esptool_finds_the_images_valid(tmp_path: Path) -> None:
    for name, data in (("app.bin", APP), ("bootloader.bin", image.build_bootloader())):
        (tmp_path / name).write_bytes(data)
        command = [sys.executable, "-m", "esptool", "image-info", str(tmp_path / name)]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert "ESP32-C3" in shown
        assert shown.count("(valid)") == 2


def test_an_ordinary_image_carries_no_host_program() -> None:
    assert image.host_elf(image.parse(image.build_bootloader())) is None


def test_each_fault_has_its_own_error() -> None:
    with pytest.raises(image.ImageMagicError) as magic:
        image.parse(b"\x00" + APP[1:])
    assert magic.value.found == 0
    with pytest.raises(image.ImageChipError) as chip:
        image.parse(flipped(APP, 12, 5 ^ 9))
    assert chip.value.found == 9
    with pytest.raises(image.ImageRevisionError) as revision:
        image.parse(APP, revision=2)
    assert (revision.value.required, revision.value.revision) == (3, 2)
    with pytest.raises(image.ImageChecksumError) as checksum:
        image.parse(flipped(APP, 0x400))
    assert checksum.value.stored == APP[-33]
    with pytest.raises(image.ImageHashError):
        image.parse(with_checksum_repaired(flipped(APP, 0x400)))
    with pytest.raises(image.ImageSegmentError):
        image.parse(APP[:100])
    with pytest.raises(image.ImageMagicError):
        image.parse(b"")


@pytest.mark.parametrize("limit", [0, 0xFFFF])
def test_a_maximum_revision_that_is_not_set_is_no_limit(limit: int) -> None:
    unlimited = APP[:17] + limit.to_bytes(2, "little") + APP[19:]
    assert image.parse(unlimited, revision=500, verify_hash=False).max_revision == limit


def test_the_loader_words_what_does_not_fit() -> None:
    with pytest.raises(image.ImageRevisionError) as revision:
        image.parse(APP, revision=200)
    assert revision.value.detail == "Image requires chip rev <= v1.99, but chip is v2.0"
    with pytest.raises(image.ImageRevisionError) as revision:
        image.parse(APP, revision=2)
    assert revision.value.detail == "Image requires chip rev >= v0.3, but chip is v0.2"
    with pytest.raises(image.ImageLengthError) as length:
        image.parse(APP, partition_bytes=0x1000)
    assert length.value.detail == f"Image length {len(APP)} doesn't fit in partition length 4096"
    with pytest.raises(image.ImageSegmentError) as segment:
        image.parse(APP, address=0x18000)
    assert segment.value.detail == "Segment 0 load address 0x3c000020, doesn't match data 0x00018020"
    with pytest.raises(image.ImageSegmentError) as count:
        image.parse(APP[:1] + b"\x11" + APP[2:], address=0x10000)
    assert count.value.detail == "image at 0x10000 segment count 17 exceeds max 16"


def test_descriptors_are_read_from_damaged_and_cut_images() -> None:
    cut = b"\x00" + flipped(APP, 0x500)[1:0x600]
    described = image.read_app_descriptor(cut)
    assert described == image.parse(APP).app
    assert image.read_app_descriptor(APP[:0x11F]) is None
    assert image.read_app_descriptor(image.build_bootloader()) is None
    assert image.read_bootloader_descriptor(image.build_bootloader()) == image.BootloaderDescriptor(1, "v5.3.1", "")
    assert image.read_bootloader_descriptor(APP) is None


def test_the_rom_checks_no_hash() -> None:
    damaged = with_checksum_repaired(flipped(APP, 0x400))
    assert image.parse(damaged, verify_hash=False).entry == image.parse(APP).entry


def test_a_text_too_long_for_the_descriptor_is_an_error() -> None:
    with pytest.raises(image.ImageError, match="31 bytes"):
        image.build_host_image(ELF, project="p" * 32, version="1")


@given(st.binary(max_size=300))
def test_xor_checksum_is_the_xor_of_all_bytes(data: bytes) -> None:
    expected = 0xEF
    for byte in data:
        expected ^= byte
    assert image.xor_checksum(data) == expected


@given(st.binary(max_size=2000))
def test_any_program_comes_back(elf: bytes) -> None:
    assert image.host_elf(image.parse(image.build_host_image(elf, project="p", version="v"))) == elf


@given(st.binary(max_size=600))
def test_any_bytes_are_an_image_or_an_image_error(data: bytes) -> None:
    for candidate in (data, b"\xe9" + data, APP[:24] + data):
        try:
            image.host_elf(image.parse(candidate))
        except image.ImageError:
            continue


@given(st.integers(0, len(APP) - 33), st.binary(min_size=1, max_size=40))
def test_any_damage_is_examined(offset: int, noise: bytes) -> None:
    damaged = APP[:offset] + noise + APP[offset + len(noise) :]
    found = image.examine(damaged[: len(APP)], revision=4, partition_bytes=len(APP))
    assert found.errors or damaged == APP or offset <= 23 < offset + len(noise)
    assert image.host_elf(found) in (None, ELF)


@given(st.integers(0, len(APP) - 33), st.integers(1, 255))
def test_no_flipped_byte_goes_unnoticed(offset: int, mask: int) -> None:
    try:
        parsed = image.parse(flipped(APP, offset, mask))
    except image.ImageError:
        return
    assert offset == 23  # the byte that says whether a SHA-256 follows is not covered by the checksum
    assert parsed.sha256 is None
