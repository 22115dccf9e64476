"""What boots and what does not: the console of a board whose flash is damaged byte by byte."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rig.formats import image, partitions

APP = 0x10000
TABLE = partitions.TABLE_OFFSET
STOPPED = r"ets_main\.c 333 \r\n"
LOOP = r"(?s:.*)rst:0x3 \(RTC_SW_SYS_RST\),boot:0xc \(SPI_FAST_FLASH_BOOT\)\r\n(?s:.*)ESP-IDF v5"
NOT_BOOTABLE = r"(?s:.*)boot: Factory app partition is not bootable(?s:.*)boot: No bootable app partitions"

Damage = Callable[[bytearray], None]


def put(offset: int, data: bytes) -> Damage:
    def damage(flash: bytearray) -> None:
        flash[offset : offset + len(data)] = data

    return damage


def flip(offset: int) -> Damage:
    def damage(flash: bytearray) -> None:
        flash[offset] ^= 0xFF

    return damage


def flip_and_repair_checksum(flash: bytearray) -> None:
    checksum_at = APP + image.parse(bytes(flash[APP:])).length - 33
    flash[APP + 0x500] ^= 0xFF
    flash[checksum_at] ^= 0xFF


FAULTS = {
    "empty flash": (put(0, b"\xff" * (4 << 20)), "(invalid header: 0xffffffff\r\n){3}"),
    "bootloader magic": (put(0, b"\x00"), r"(invalid header: 0x2f020300\r\n){2}"),
    "bootloader chip id": (
        put(12, b"\x00"),
        r"Invalid chip id\. Expected 5 read 0\. Bootloader for wrong chip\?\r\n" + STOPPED,
    ),
    "bootloader data": (
        flip(0x200),
        r"Checksum failure\. Calculated 0x[0-9a-f]+ stored 0x[0-9a-f]+\r\n" + STOPPED,
    ),
    "table blank": (
        put(TABLE, b"\xff" * 0xC00),
        r"E \(\d+\) boot: No bootable app partitions in the partition table\r\n" + LOOP,
    ),
    "table MD5": (
        flip(TABLE + 0x0C),
        r"E \(\d+\) flash_parts: Incorrect MD5 checksum\r\nE \(\d+\) boot: Failed to verify partition table\r\n"
        r"E \(\d+\) boot: load partition table error!\r\n" + LOOP,
    ),
    "app magic": (
        flip(APP),
        r"E \(\d+\) esp_image: image at 0x10000 has invalid magic byte \(nothing flashed here\?\)\r\n"
        + NOT_BOOTABLE
        + LOOP,
    ),
    "app data": (
        flip(APP + 0x500),
        r"E \(\d+\) esp_image: Checksum failed\. Calculated 0x[0-9a-f]+ read 0x[0-9a-f]+\r\n" + NOT_BOOTABLE + LOOP,
    ),
    "app data, checksum repaired": (
        flip_and_repair_checksum,
        r"E \(\d+\) esp_image: Image hash failed - image is corrupt\r\n" + NOT_BOOTABLE + LOOP,
    ),
    "app chip id": (
        put(APP + 12, b"\x09"),
        r"E \(\d+\) boot_comm: mismatch chip ID, expected 5, found 9\r\n" + NOT_BOOTABLE + LOOP,
    ),
    "app revision": (
        put(APP + 15, (200).to_bytes(2, "little")),
        r"boot_comm: Image requires chip rev >= v2\.0, but chip is v0\.4\r\n" + NOT_BOOTABLE + LOOP,
    ),
    "app segment length": (
        put(APP + 31, b"\x7f"),
        r"E \(\d+\) esp_image: invalid segment length 0x7f[0-9a-f]{6}\r\n" + NOT_BOOTABLE + LOOP,
    ),
}


@pytest.fixture(scope="module")
def boot(tmp_path_factory: pytest.TempPathFactory, start_board) -> Iterator[Callable[[bytes], Any]]:
    """Put content into the flash of one board, reset it, and give its console."""
    with start_board(tmp_path_factory.mktemp("boot")) as board, board.console() as console:

        def put_and_reset(content: bytes) -> Any:
            console.port.rts = True
            with board.flash.open("r+b") as flash:
                flash.write(content)
            console.reset()
            return console

        yield put_and_reset


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_flash_says_so_and_does_not_run(fault: str, boot, probe_flash: bytes):
    damage, pattern = FAULTS[fault]
    content = bytearray(probe_flash)
    damage(content)
    console = boot(bytes(content))
    console.expect(r"ESP-ROM:esp32c3-api1-20210207\r\nBuild:Feb  7 2021\r\nrst:0x1 \(POWERON\),boot:0xc ")
    said = console.expect(pattern)
    assert b"probe" not in said.group()


def test_a_riscv_image_is_refused_in_words(boot, probe_flash: bytes):
    content = bytearray(probe_flash)
    put(APP, image.build_bootloader())(content)  # a sound image that carries no host program
    boot(bytes(content)).expect("virtual bench: the application in flash is a RISC-V image.*flash the host build")


def test_sound_flash_boots_with_the_text_of_rom_and_bootloader(run_board, probe_flash: bytes):
    board = run_board(flash=probe_flash)
    with board.console() as console:
        console.reset()
        console.expect(
            r"rst:0x1 \(POWERON\),boot:0xc \(SPI_FAST_FLASH_BOOT\)\r\nSPIWP:0xee\r\nmode:DIO, clock div:1\r\n"
        )
        console.expect(r"load:0x3fcd5820,len:0x1738\r\n(load:0x[0-9a-f]{8},len:0x[0-9a-f]+\r\n){2}entry 0x403cc71a\r\n")
        console.expect(r"I \(\d+\) boot: ESP-IDF v5\.3\.1 2nd stage bootloader\r\n")
        console.expect(r"boot:  2 factory          factory app      00 00 00010000 00200000\r\n")
        console.expect(r"esp_image: segment 0: paddr=00010020 vaddr=3c000020 size=[0-9a-f]+h \( *\d+\) map\r\n")
        console.expect(r"boot: Loaded app from partition at offset 0x10000\r\n")
        said = console.expect(r"probe pid=\d+ reason=1 address=(\S+) rtc=1 ram=1\r\n")
        assert said.group(1).decode() == board.address


def test_download_mode_announces_itself(run_board):
    with run_board().console() as console:
        console.port.rts = True
        console.port.dtr = True
        console.port.rts = False
        console.expect(r"rst:0x1 \(POWERON\),boot:0x4 \(DOWNLOAD\(USB/UART0/1\)\)\r\nwaiting for download\r\n")
