"""Damaged images, twice: found in the image set before flashing, and named by the rig after they were flashed anyway.

The rows are those of the table in the project's reference on ROM and bootloader (made on the real mask ROM). The files
are put into flash as another tool would put them, past the rig's checks.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rig.board import Board, BoardLock, BootFailure, ConsoleTimeout
from rig.formats import image, partitions
from rig.formats.checks import ImageSetError, check_image_set
from rig.formats.flasher_args import ImageSet, read_image_set

# Locally administered, and another one in each process that runs tests: a board is locked by its MAC.
MAC = "02:dd:" + os.getpid().to_bytes(4, "big").hex(":")
CHIP_REVISION = 3
TABLE_CSV = "nvs, data, nvs, 0x9000, 24K\nfactory, app, factory, 0x10000, 2M\n"
PATHS = {0: "bootloader/bootloader.bin", 0x8000: "partition_table/partition-table.bin", 0x10000: "app.bin"}
NAMES = {0: "bootloader", 0x8000: "partition-table", 0x10000: "app"}
STOPPED = "ets_main.c 333 "
NOT_BOOTABLE = (
    "boot: Factory app partition is not bootable",
    "boot: No bootable app partitions in the partition table",
)
# How long a chip that has stopped is listened to: a few times the interval of one that starts over.
SILENCE_S = 1.0


@dataclass(frozen=True)
class Row:
    """One fault: in which part, what is done to it, how the check names it, and what the chip says and does."""

    part: int
    damage: Callable[[bytes], bytes]
    finding: str
    says: Callable[[bytes], tuple[str, ...]]
    then: str


def put(at: int, data: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content[:at] + data + content[at + len(data) :]


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def flip_and_repair(content: bytes) -> bytes:
    """Flip a byte of the data and of the checksum; the SHA-256 stays wrong."""
    return flip(len(content) - 33)(flip(0x500)(content))


def words(*lines: str) -> Callable[[bytes], tuple[str, ...]]:
    return lambda _: lines


def sums(text: str, *after: str) -> Callable[[bytes], tuple[str, ...]]:
    """The checksum stands before the SHA-256; every flipped bit of the data flips one of the calculated sum."""
    return lambda content: (text.format(stored=content[-33], calculated=content[-33] ^ 0xFF), *after)


ROWS = {
    "bootloader magic": Row(
        0, put(0, b"\x00"), "magic byte is 0x00, not 0xe9", words(*3 * ["invalid header: 0x2f020300"]), "repeats"
    ),
    "bootloader chip id": Row(
        0,
        put(12, b"\x00"),
        "built for chip id 0, not 5 (ESP32-C3); rebuild for esp32c3",
        words("Invalid chip id. Expected 5 read 0. Bootloader for wrong chip?", STOPPED),
        "stops",
    ),
    "bootloader data": Row(
        0,
        flip(0x500),
        "the data give 0x",
        sums("Checksum failure. Calculated 0x{calculated:02x} stored 0x{stored:02x}", STOPPED),
        "stops",
    ),
    "partition table blank": Row(
        0x8000,
        put(0, b"\xff" * 0xC00),
        "is blank",
        words("boot: No bootable app partitions in the partition table"),
        "resets",
    ),
    "partition MD5": Row(
        0x8000,
        flip(12),
        "Incorrect MD5 checksum",
        words("flash_parts: Incorrect MD5 checksum", "boot: load partition table error!"),
        "resets",
    ),
    "app magic": Row(
        0x10000,
        put(0, b"\x00"),
        "magic byte is 0x00, not 0xe9",
        words("esp_image: image at 0x10000 has invalid magic byte (nothing flashed here?)", *NOT_BOOTABLE),
        "resets",
    ),
    "app data": Row(
        0x10000,
        flip(0x500),
        "the data give 0x",
        sums("esp_image: Checksum failed. Calculated 0x{calculated:x} read 0x{stored:x}", *NOT_BOOTABLE),
        "resets",
    ),
    "app data, checksum repaired": Row(
        0x10000,
        flip_and_repair,
        "the appended SHA-256 is",
        words("esp_image: Image hash failed - image is corrupt", *NOT_BOOTABLE),
        "resets",
    ),
    "app chip id": Row(
        0x10000,
        put(12, b"\x09"),
        "built for chip id 9, not 5",
        words("boot_comm: mismatch chip ID, expected 5, found 9", *NOT_BOOTABLE),
        "resets",
    ),
    "app min revision": Row(
        0x10000,
        put(15, (200).to_bytes(2, "little")),
        "needs chip revision >= v2.0, the chip is v0.3",
        words("boot_comm: Image requires chip rev >= v2.0, but chip is v0.3", *NOT_BOOTABLE),
        "resets",
    ),
}


@pytest.fixture
def parts(probe_image: bytes) -> dict[int, bytes]:
    return {0: image.build_bootloader(), 0x8000: partitions.table_from_csv(TABLE_CSV), 0x10000: probe_image}


def write_image_set(directory: Path, parts: dict[int, bytes]) -> ImageSet:
    for offset, data in parts.items():
        path = directory / PATHS[offset]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    entries = {name: {"offset": hex(offset), "file": PATHS[offset]} for offset, name in NAMES.items()}
    flash_files = {hex(offset): path for offset, path in PATHS.items()}
    arguments = {"flash_files": flash_files, **entries, "extra_esptool_args": {"chip": "esp32c3"}}
    (directory / "flasher_args.json").write_text(json.dumps(arguments))
    return read_image_set(directory)


def flash_content(parts: dict[int, bytes]) -> bytes:
    content = bytearray(b"\xff" * (4 << 20))
    for offset, data in parts.items():
        content[offset : offset + len(data)] = data
    return bytes(content)


@contextmanager
def opened(url: str, log: Path) -> Iterator[Board]:
    with Board("dut", url, MAC, log) as board:
        yield board
    BoardLock(MAC).path.unlink(missing_ok=True)


def test_a_sound_set_is_found_sound(parts: dict[int, bytes], tmp_path: Path) -> None:
    check_image_set(write_image_set(tmp_path, parts), revision=CHIP_REVISION)


@pytest.mark.parametrize("name", ROWS)
def test_a_damaged_image_is_found_before_flashing_and_named_after(
    name: str, parts: dict[int, bytes], tmp_path: Path, run_board
) -> None:
    row = ROWS[name]
    says = row.says(parts[row.part])
    damaged = parts | {row.part: row.damage(parts[row.part])}

    with pytest.raises(ImageSetError) as found:
        check_image_set(write_image_set(tmp_path, damaged), revision=CHIP_REVISION)
    assert re.search(f"{PATHS[row.part]}: .*{re.escape(row.finding)}", str(found.value))

    with opened(run_board(flash=flash_content(damaged), mac=MAC).url, tmp_path / "console.log") as board:
        board.hard_reset()
        with pytest.raises(BootFailure) as failure:
            board.wait_network()
        assert says[0] in str(failure.value)
        for line in says:
            board.console.expect(rf"{re.escape(line)}\r\n")
        assert_reaction(board, row.then)


def assert_reaction(board: Board, then: str) -> None:
    match then:
        case "repeats":
            board.console.expect(r"invalid header: 0x[0-9a-f]{8}\r\n")
            assert not any("rst:0x3" in line for line in board.console.lines)
        case "resets":
            board.console.expect(r"rst:0x3 \(RTC_SW_SYS_RST\),boot:0xc \(SPI_FAST_FLASH_BOOT\)\r\n")
            board.console.expect(r"rst:0x3 \(RTC_SW_SYS_RST\)")
        case "stops":
            with pytest.raises(ConsoleTimeout):
                board.console.expect(r".", SILENCE_S)
