"""What boots and what does not: the console of a board whose flash is damaged byte by byte."""

import binascii
import struct
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
        r"boot_comm: Image requires chip rev >= v2\.0, but chip is v0\.3\r\n" + NOT_BOOTABLE + LOOP,
    ),
    "bootloader segment count": (
        put(1, b"\x11"),
        r"mode:DIO, clock div:1\r\nInvalid image block count: 17 \(max 16\)\r\n" + STOPPED,
    ),
    "bootloader segment length": (
        put(31, b"\x7f"),
        r"mode:DIO, clock div:1\r\nInvalid image block, can't boot\.\r\n" + STOPPED,
    ),
    "app for older chips": (
        put(APP + 17, (2).to_bytes(2, "little")),
        r"boot_comm: Image requires chip rev <= v0\.2, but chip is v0\.3\r\n" + NOT_BOOTABLE + LOOP,
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


def test_a_wrong_hash_of_the_bootloader_is_told_and_nothing_more(boot, probe_flash: bytes):
    length = len(image.build_bootloader())
    content = bytearray(probe_flash)
    flip(length - 1)(content)
    console = boot(bytes(content))
    console.expect(
        r"SHA-256 comparison failed:\r\nCalculated: [0-9a-f]{64}\r\nExpected: [0-9a-f]{64}\r\n"
        r"Attempting to boot anyway\.\.\.\r\nentry 0x403cc71a\r\n"
    )
    console.expect("probe pid=")


OTADATA, SLOT_0, SLOT_1 = 0xD000, 0x110000, 0x210000
OTA_CSV = (
    "nvs, data, nvs, 0x9000, 16K\notadata, data, ota, 0xd000, 8K\n{factory}"
    "ota_0, app, ota_0, 0x110000, 1M\nota_1, app, ota_1, 0x210000, 1M\n"
)
FACTORY = "factory, app, factory, 0x10000, 1M\n"


def ota_entry(sequence: int, *, state: int = 0xFFFFFFFF, crc_error: int = 0) -> bytes:
    crc = binascii.crc32(struct.pack("<I", sequence), 0xFFFFFFFF) ^ crc_error
    return struct.pack("<I20sII", sequence, b"", state, crc)


def ota_flash(probe_flash: bytes, *, factory: bool, entries: tuple[bytes, bytes], slots: tuple[int, ...]) -> bytes:
    content = bytearray(probe_flash)
    probe = probe_flash[APP:SLOT_0].rstrip(b"\xff")
    put(APP, b"\xff" * len(probe))(content)
    put(TABLE, partitions.table_from_csv(OTA_CSV.format(factory=FACTORY if factory else "")))(content)
    for number, entry in enumerate(entries):
        put(OTADATA + 0x1000 * number, entry)(content)
    for slot in slots:
        put(slot, probe)(content)
    return bytes(content)


OTA_CHOICES = {
    "blank, with factory": (True, (b"", b""), (APP, SLOT_0), "Defaulting to factory image(?s:.*)", APP),
    "the higher sequence": (True, (ota_entry(3), ota_entry(2)), (APP, SLOT_0, SLOT_1), "", SLOT_0),
    "the other one": (True, (ota_entry(3), ota_entry(4)), (APP, SLOT_0, SLOT_1), "", SLOT_1),
    "aborted": (True, (ota_entry(3), ota_entry(4, state=4)), (APP, SLOT_0, SLOT_1), "", SLOT_0),
    "both invalid": (
        True,
        (ota_entry(3, crc_error=1), ota_entry(4, crc_error=1)),
        (APP, SLOT_0),
        "ota data partition invalid, falling back to factory(?s:.*)",
        APP,
    ),
    "slot damaged": (
        True,
        (ota_entry(2), b""),
        (APP,),
        r"OTA app partition slot 1 is not bootable(?s:.*)OTA app partition slot 0 is not bootable(?s:.*)",
        APP,
    ),
    "forwards": (False, (ota_entry(1), b""), (SLOT_1,), r"OTA app partition slot 0 is not bootable(?s:.*)", SLOT_1),
}


@pytest.mark.parametrize("choice", OTA_CHOICES)
def test_otadata_chooses_the_application(choice: str, boot, probe_flash: bytes):
    factory, entries, slots, words, booted = OTA_CHOICES[choice]
    console = boot(ota_flash(probe_flash, factory=factory, entries=entries, slots=slots))
    console.expect(rf"End of partition table\r\n(?s:.*){words}Loaded app from partition at offset 0x{booted:x}\r\n")
    console.expect("probe pid=")


def test_blank_otadata_without_a_factory_application_is_filled_in(boot, probe_flash: bytes):
    console = boot(ota_flash(probe_flash, factory=False, entries=(b"", b""), slots=(SLOT_0,)))
    console.expect(r"No factory image, trying OTA 0(?s:.*)Set actual ota_seq=1 in otadata\[0\]\r\n")
    console.expect("probe pid=")
    console.reset()
    said = console.expect(r"End of partition table(?s:.*)Loaded app from partition at offset 0x110000").group()
    assert b"No factory" not in said
