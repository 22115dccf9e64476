"""The loader's protocol without a port: framing, damaged requests, any bytes at all."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig.errors import ConfigError
from rig.formats.image import xor_checksum
from rig.virtual.board import slip
from rig.virtual.board.efuse import Efuse
from rig.virtual.board.flash import FLASH_BYTES, Flash, FlashRangeError
from rig.virtual.board.loader import Loader, Surroundings
from rig.virtual.board.registers import REVISION

FLASH_BEGIN, FLASH_DATA, MEM_BEGIN, MEM_END, MEM_DATA, SYNC, WRITE_REG, READ_REG = 2, 3, 5, 6, 7, 8, 9, 10
SPI_ATTACH, CHANGE_BAUDRATE, MD5, ERASE_FLASH, READ_FLASH = 0x0D, 0x0F, 0x13, 0xD0, 0xD2
MAC = bytes.fromhex("7cdfa10affc0")
OPCODES = [*range(0x02, 0x15), *range(0xD0, 0xD4)]


class Host:
    """What a flasher sends and hears."""

    def __init__(self, flash: Flash, *, latency: bool = False) -> None:
        self.heard: list[bytes] = []
        self.left_loader = 0
        self._decoder = slip.Decoder()
        self.baud = 115200
        self.watchdog_s: float | None = None
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.fuses = Efuse(None, MAC, REVISION)
        around = Surroundings(self._hear, self._set_baud, self._after, self._leave, self._watch)
        self.loader = Loader(flash, self.fuses, around, latency=latency)

    def _hear(self, data: bytes) -> None:
        self.heard.extend(self._decoder.feed(data))

    def _set_baud(self, baud: int) -> None:
        self.baud = baud

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.later.append((delay_s, action))

    def _leave(self) -> None:
        self.left_loader += 1

    def _watch(self, delay_s: float) -> None:
        self.watchdog_s = delay_s

    def say(self, opcode: int, data: bytes = b"", checksum: int = 0) -> list[bytes]:
        self.heard.clear()
        self.loader.feed(slip.encode(struct.pack("<BBHI", 0, opcode, len(data), checksum) + data))
        return list(self.heard)

    def start_stub(self) -> None:
        assert self.say(MEM_END, struct.pack("<II", 0, 0x40380000))[-1] == b"OHAI"


@pytest.fixture(scope="module")
def flash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flash]:
    with Flash(tmp_path_factory.mktemp("flash") / "flash.bin") as empty:
        yield empty


@given(st.lists(st.binary(min_size=1, max_size=50)), st.integers(1, 20))
def test_slip_frames_come_back_whole_however_they_are_cut(payloads: list[bytes], size: int) -> None:
    stream = b"".join(slip.encode(payload) for payload in payloads)
    decoder = slip.Decoder()
    frames = [frame for i in range(0, len(stream), size) for frame in decoder.feed(stream[i : i + size])]
    assert frames == payloads


@given(st.binary(max_size=200))
def test_slip_decodes_any_bytes(data: bytes) -> None:
    slip.Decoder().feed(data)


def test_sync_is_answered_eight_times_and_tells_rom_from_stub(flash: Flash) -> None:
    host = Host(flash)
    data = bytes.fromhex("07071220") + b"\x55" * 32
    assert host.say(SYNC, data) == [struct.pack("<BBHI", 1, SYNC, 4, 0x20120707) + bytes(4)] * 8
    host.start_stub()
    assert host.say(SYNC, data) == [struct.pack("<BBHI", 1, SYNC, 2, 0) + bytes(2)] * 8


def test_unknown_commands_and_stub_commands_without_a_stub_are_refused(flash: Flash) -> None:
    host = Host(flash)
    for opcode in (0x77, ERASE_FLASH, READ_FLASH):
        assert host.say(opcode)[0][-4:] == b"\x01\x05\x00\x00"
    host.start_stub()
    assert host.say(0x77)[0][-2:] == b"\xff\x00"


def test_a_block_with_a_wrong_checksum_is_refused_and_not_written(flash: Flash) -> None:
    host = Host(flash)
    block = b"data"
    request = struct.pack("<IIII", len(block), 0, 0, 0) + block
    assert host.say(FLASH_DATA, request, xor_checksum(block))[0][8:10] == b"\x01\x06"  # nothing was begun
    host.say(FLASH_BEGIN, struct.pack("<IIII", 4, 1, 0x400, 0x5000))
    assert host.say(FLASH_DATA, request, xor_checksum(block) ^ 1)[0][8:10] == b"\x01\x07"
    assert flash.read(0x5000, 4) == b"\xff" * 4
    assert host.say(FLASH_DATA, request, xor_checksum(block))[0][8:10] == b"\x00\x00"
    assert flash.read(0x5000, 5) == b"data\xff"


def test_ranges_beyond_the_flash_are_refused(flash: Flash) -> None:
    host = Host(flash)
    assert host.say(MD5, struct.pack("<IIII", FLASH_BYTES - 1, 2, 0, 0))[0][-4:-2] == b"\x01\x08"
    assert host.say(FLASH_BEGIN, struct.pack("<IIII", 0x1000, 1, 0x400, FLASH_BYTES))[0][-4:-2] == b"\x01\x08"


def test_a_read_waits_for_its_acknowledgements_and_ends_with_the_md5(flash: Flash) -> None:
    host = Host(flash)
    host.start_stub()
    blocks = host.say(READ_FLASH, struct.pack("<IIII", 0x100000, 4096, 1024, 2))[1:]
    assert [len(block) for block in blocks] == [1024, 1024]
    for acknowledged in (1024, 2048, 3072, 4096):
        host.loader.feed(slip.encode(struct.pack("<I", acknowledged)))
    assert [len(frame) for frame in host.heard[1:]] == [1024] * 4 + [16]
    assert len(host.say(SYNC)) == 8


def test_nor_flash_programs_zeros_only_and_erases_sectors(tmp_path: Path) -> None:
    with Flash(tmp_path / "flash.bin") as flash:
        flash.program(0x1FFE, b"\xf0\x0f\xaa")
        flash.program(0x1FFE, b"\x3c\x3c")
        assert flash.read(0x1FFE, 3) == b"\x30\x0c\xaa"
        flash.erase(0x1FFF, 1)
        assert flash.read(0x1FFE, 3) == b"\xff\xff\xaa"
        with pytest.raises(FlashRangeError):
            flash.read(FLASH_BYTES, 1)
    with Flash(tmp_path / "flash.bin") as flash:
        assert flash.read(0x2000, 1) == b"\xaa"


def test_a_stuck_sector_keeps_its_bits_and_its_neighbours_do_not(tmp_path: Path) -> None:
    with Flash(tmp_path / "flash.bin") as flash:
        flash.program(0x1FFF, b"\x01\x02")
        flash.program(0x2FFF, b"\x03\x04")
    with Flash(tmp_path / "flash.bin", stuck_at=0x2345) as flash:
        flash.erase(0x1000, 0x3000)
        flash.program(0x1FFF, b"\x00\x00")
        assert flash.read(0x1FFF, 2) == b"\x00\x02"
        assert flash.read(0x2FFF, 2) == b"\x03\xff"


def test_erasing_wears_the_sectors_it_erases(tmp_path: Path) -> None:
    for _ in range(2):
        with Flash(tmp_path / "flash.bin") as flash:
            flash.erase(0x1000, 0x1001)
    counts = struct.unpack("<1024I", (tmp_path / "flash.bin.wear").read_bytes())
    assert counts[:5] == (0, 2, 2, 0, 0)


def test_a_flash_file_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flash.bin").write_bytes(bytes(100))
    with pytest.raises(ConfigError, match="100 bytes"):
        Flash(tmp_path / "flash.bin")


def test_the_rom_leaves_the_last_register_in_later_replies_and_the_stub_does_not(flash: Flash) -> None:
    host = Host(flash)
    address = struct.pack("<I", 0x60008844)
    value = int.from_bytes(MAC[2:], "big")
    assert struct.unpack_from("<I", host.say(READ_REG, address)[0], 4) == (value,)
    assert struct.unpack_from("<I", host.say(SPI_ATTACH, bytes(8))[0], 4) == (value,)
    assert struct.unpack_from("<I", host.say(SYNC)[0], 4) == (0x20120707,)
    host.start_stub()
    assert struct.unpack_from("<I", host.say(READ_REG, address)[0], 4) == (value,)
    assert struct.unpack_from("<I", host.say(SPI_ATTACH, bytes(8))[0], 4) == (0,)


def test_a_change_of_baud_comes_after_its_answer(flash: Flash) -> None:
    host = Host(flash)
    assert host.say(CHANGE_BAUDRATE, struct.pack("<II", 460800, 115200))[0][8:10] == bytes(2)
    assert host.baud == 460800
    assert host.say(CHANGE_BAUDRATE, bytes(8))[0][8:10] == b"\x01\x05"


def begin_and_write_one_block(host: Host) -> None:
    host.say(FLASH_BEGIN, struct.pack("<IIII", 0x3000, 3, 0x1000, 0x8000))
    host.say(FLASH_DATA, struct.pack("<IIII", 0x1000, 0, 0, 0) + b"n" * 0x1000, xor_checksum(b"n" * 0x1000))


def test_a_write_cut_off_leaves_erased_flash_with_the_rom_and_old_content_with_the_stub(tmp_path: Path) -> None:
    for stub, left in ((False, b"\xff"), (True, b"o")):
        with Flash(tmp_path / f"flash{stub}.bin") as flash:
            flash.program(0x8000, b"o" * 0x3000)
            host = Host(flash)
            if stub:
                host.start_stub()
            begin_and_write_one_block(host)
            assert flash.read(0x8000, 0x3000) == b"n" * 0x1000 + left * 0x2000


def test_with_latency_requests_wait_for_the_flash_and_the_stub_acknowledges_blocks_first(tmp_path: Path) -> None:
    with Flash(tmp_path / "flash.bin") as flash:
        host = Host(flash, latency=True)
        begin_and_write_one_block(host)
        assert host.heard == []
        ((erase_s, ready),) = host.later
        assert erase_s == pytest.approx(3 * 0.045)
        host.later.clear()
        ready()
        assert [frame[1] for frame in host.heard] == [FLASH_BEGIN]
        ((write_s, ready),) = host.later
        assert write_s == pytest.approx(16 * 0.0004)
        ready()
        assert [frame[1] for frame in host.heard] == [FLASH_BEGIN, FLASH_DATA]
        host.later.clear()

        host.start_stub()
        begin_and_write_one_block(host)
        assert [frame[1] for frame in host.heard] == [FLASH_DATA]
        ((both_s, _),) = host.later
        assert both_s == pytest.approx(0.045 + 16 * 0.0004)


def test_what_is_uploaded_can_be_read_back(flash: Flash) -> None:
    host = Host(flash)
    host.say(MEM_BEGIN, struct.pack("<IIII", 12, 2, 8, 0x3FC80000))
    for number, block in enumerate((b"8 bytes!", b"four")):
        host.say(MEM_DATA, struct.pack("<IIII", len(block), number, 0, 0) + block, xor_checksum(block))
    read = [host.say(READ_REG, struct.pack("<I", 0x3FC80000 + 4 * number))[0][4:8] for number in range(3)]
    assert b"".join(read) == b"8 bytes!four"


def test_the_rtc_watchdog_starts_only_unlocked(flash: Flash) -> None:
    host = Host(flash)
    enable = struct.pack("<IIII", 0x60008090, 1 << 31, 0xFFFFFFFF, 0)
    host.say(WRITE_REG, enable)
    assert host.watchdog_s is None
    for address, value in ((0x600080A8, 0x50D83AA1), (0x60008094, 1360)):
        host.say(WRITE_REG, struct.pack("<IIII", address, value, 0xFFFFFFFF, 0))
    host.say(WRITE_REG, enable)
    assert host.watchdog_s == pytest.approx(0.01)


requests = st.tuples(st.sampled_from(OPCODES), st.binary(max_size=64), st.integers(0, 0xFFFFFFFF))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.booleans(), st.booleans(), st.lists(requests | st.binary(max_size=80), max_size=12))
def test_any_requests_and_any_noise_are_survived(flash: Flash, stub: bool, latency: bool, said: list) -> None:
    host = Host(flash, latency=latency)
    if stub:
        host.start_stub()
    for item in said:
        if isinstance(item, bytes):
            host.loader.feed(item)
        else:
            host.say(*item)
        while host.later:
            host.later.pop()[1]()
