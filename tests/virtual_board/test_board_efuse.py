"""The eFuses: against espefuse, at the port and on the file, and by their registers."""

import struct
from pathlib import Path

import pytest
import reedsolo
from hypothesis import given
from hypothesis import strategies as st

from rig.errors import ConfigError
from rig.virtual.board.efuse import BASE, Efuse
from rig.virtual.board.reed_solomon import check_bytes

MAC = bytes.fromhex("7cdfa10affc0")
REVISION = 4
CONF, CMD, ERRORS_0 = BASE + 0x1CC, BASE + 0x1D4, BASE + 0x1C0
BLOCK0, BLOCK3, BLOCK4 = BASE + 0x2C, BASE + 0x7C, BASE + 0x9C


def program(fuses: Efuse, block: int, data: bytes, *, check: bytes | None = None, code: int = 0x5A5A) -> None:
    data = data.ljust(32, b"\0")
    for number, word in enumerate(struct.unpack("<11I", data + (check_bytes(data) if check is None else check))):
        fuses.write(BASE + 4 * number, word)
    fuses.write(CONF, code)
    fuses.write(CMD, 2 | block << 2)
    fuses.write(CONF, 0x5AA5)
    fuses.write(CMD, 1)


def words(fuses: Efuse, address: int, count: int) -> bytes:
    return struct.pack(f"<{count}I", *(fuses.read(address + 4 * number) for number in range(count)))


@given(st.binary(min_size=32, max_size=32))
def test_check_bytes_are_those_of_espefuse(data: bytes) -> None:
    assert check_bytes(data) == bytes(reedsolo.RSCodec(12).encode(data))[32:]


@given(st.lists(st.binary(min_size=24, max_size=24), min_size=1, max_size=5))
def test_burning_sets_bits_and_never_clears_one(rounds: list[bytes]) -> None:
    fuses = Efuse(None, MAC, REVISION)
    expected = 0
    for data in rounds:
        data = bytes(4) + data[4:]  # WR_DIS stays open
        program(fuses, 0, data)
        expected |= int.from_bytes(data, "little")
    assert words(fuses, BLOCK0, 6) == expected.to_bytes(24, "little")


@given(st.lists(st.tuples(st.integers(0, 0x7F), st.integers(0, 0xFFFFFFFF)), max_size=20))
def test_any_writes_to_the_registers_are_survived(writes: list[tuple[int, int]]) -> None:
    fuses = Efuse(None, MAC, REVISION)
    for number, value in writes:
        fuses.write(BASE + 4 * number, value)
    assert words(fuses, BASE + 0x44, 2)[:6] == MAC[::-1]


def test_nothing_is_burnt_without_the_code_and_nothing_shows_before_it_is_read() -> None:
    fuses = Efuse(None, MAC, REVISION)
    program(fuses, 3, b"\x01", code=0)
    assert words(fuses, BLOCK3, 8) == bytes(32)
    fuses.write(BASE, 1)
    fuses.write(CONF, 0x5A5A)
    fuses.write(CMD, 2 | 3 << 2)
    assert words(fuses, BLOCK3, 8) == bytes(32)
    fuses.latch()
    assert words(fuses, BLOCK3, 8) == b"\x01".ljust(32, b"\0")


def test_write_and_read_protection() -> None:
    fuses = Efuse(None, MAC, REVISION)
    program(fuses, 4, bytes(range(32)))
    assert words(fuses, BLOCK4, 8) == bytes(range(32))
    program(
        fuses, 0, struct.pack("<II", 1 << 22 | 1 << 2, 1)
    )  # WR_DIS of block 3 and of DIS_USB_JTAG; RD_DIS of block 4
    assert words(fuses, BLOCK4, 8) == bytes(32)
    program(fuses, 3, b"\x01")
    program(fuses, 0, struct.pack("<II", 0, 1 << 9 | 1 << 16))
    assert words(fuses, BLOCK3, 8) == bytes(32)
    assert words(fuses, BLOCK0, 2) == struct.pack("<II", 1 << 22 | 1 << 2, 1 | 1 << 16)


def test_a_block_burnt_twice_shows_errors() -> None:
    fuses = Efuse(None, MAC, REVISION)
    program(fuses, 3, b"\x01")
    assert fuses.read(ERRORS_0) == 0
    program(fuses, 3, b"\x02")
    assert fuses.read(ERRORS_0) == 7 << 8 | 1 << 15
    program(fuses, 5, b"\x02", check=bytes(12))
    assert fuses.read(ERRORS_0) == 7 << 8 | 1 << 15 | 7 << 16 | 1 << 23


def test_the_file_holds_what_is_burnt_and_belongs_to_one_chip(tmp_path: Path) -> None:
    path = tmp_path / "efuse.bin"
    program(Efuse(path, MAC, REVISION), 3, b"abc")
    assert words(Efuse(path, MAC, REVISION), BLOCK3, 1) == b"abc\0"
    with pytest.raises(ConfigError, match="of the chip 7c:df:a1:0a:ff:c0"):
        Efuse(path, bytes(6), REVISION)
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="5 bytes"):
        Efuse(path, MAC, REVISION)


def test_espefuse_burns_at_the_port_and_finds_the_same_in_the_file(run_board, tool, tmp_path: Path):
    path = tmp_path / "efuse.bin"
    key = tmp_path / "key.bin"
    key.write_bytes(bytes(range(32)))
    board = run_board(ports=["pty"], boot_strap="download", efuse=str(path))
    at_port = ["--chip", "esp32c3", "--port", board.facts["pty"], "--do-not-confirm"]
    burn = ["burn-efuse", "DIS_PAD_JTAG", "1", "SECURE_BOOT_EN", "1"]
    tool("espefuse", *at_port, *burn, "burn-key", "BLOCK_KEY0", key, "SECURE_BOOT_DIGEST0")
    for where in (at_port, ["--chip", "esp32c3", "--virt", "--path-efuse-file", path]):
        facts = [" ".join(line.split()) for line in tool("espefuse", *where, "summary").splitlines()]
        assert any(line.startswith("DIS_PAD_JTAG (BLOCK0)") and "= True" in line for line in facts)
        assert any(line.startswith("SECURE_BOOT_EN (BLOCK0)") and "= True" in line for line in facts)
        assert any(line.startswith("= 00 01 02 03 04 05 06") for line in facts)
    said = tool("esptool", "--port", board.facts["pty"], "--no-stub", "--after", "no-reset", "get-security-info")
    assert "Secure Boot: Enabled" in said
    assert "BLOCK_KEY0 - SECURE_BOOT_DIGEST0" in said


def burn_in_file(path: Path, tool, *fuses: str) -> None:
    tool("espefuse", "--chip", "esp32c3", "--virt", "--path-efuse-file", path, "--do-not-confirm", "burn-efuse", *fuses)


def test_download_mode_disabled_means_no_loader(run_board, tool, probe_flash: bytes, tmp_path: Path):
    path = tmp_path / "efuse.bin"
    burn_in_file(path, tool, "DIS_DOWNLOAD_MODE", "1")
    with run_board(flash=probe_flash, efuse=str(path)).console() as console:
        console.port.rts = True
        console.port.dtr = True
        console.port.rts = False
        console.expect(r"boot:0x4 \(DOWNLOAD\(USB/UART0/1\)\)\r\nDownload boot modes disabled\r\n")
        console.port.dtr = False
        console.reset()
        console.expect("probe pid=")


def test_secure_download_mode_serves_the_harmless_commands_only(run_board, tool, tmp_path: Path):
    path = tmp_path / "efuse.bin"
    burn_in_file(path, tool, "ENABLE_SECURITY_DOWNLOAD", "1", "SOFT_DIS_JTAG", "1")
    board = run_board(ports=["pty"], boot_strap="download", efuse=str(path))
    port = ["--port", board.facts["pty"], "--after", "no-reset", "--no-stub"]
    said = tool("esptool", *port, "get-security-info")
    assert "Secure Download Mode" in said
    data = tmp_path / "data.bin"
    data.write_bytes(b"data" * 100)
    tool("esptool", "--chip", "esp32c3", *port, "write-flash", "--flash-size", "4MB", "0x1000", data)
    assert board.flash.read_bytes()[0x1000 : 0x1000 + 400] == data.read_bytes()
    with pytest.raises(AssertionError):
        tool("esptool", "--chip", "esp32c3", *port, "read-mem", "0x60008844")
