"""esptool's and espefuse's own commands, unmodified, at every port of the board.

pyserial's RFC 2217 client sleeps most of the 18 s and more that a command takes, so most of that is left to the soak
tests; in every run test_board_stock_esptool.py writes there.
"""

import os
from pathlib import Path

import pytest

MAC = "7c:df:a1:0a:ff:c0"
PORTS = {"pty": [], "socket": ["--before", "no-reset"], "rfc2217": []}
EVERY_PORT = ["pty", "socket", pytest.param("rfc2217", marks=pytest.mark.soak)]


@pytest.fixture
def board(run_board):
    """A board whose BOOT button is held: pty and socket have no lines that could start the loader."""
    return run_board(ports=list(PORTS), boot_strap="download")


@pytest.fixture
def esptool(board, tool):
    """``esptool(port, arguments...)`` runs a command and leaves the chip in the loader."""

    def run(port: str, *arguments: object) -> str:
        return tool("esptool", "--port", board.facts[port], *PORTS[port], "--after", "no-reset", *arguments)

    return run


@pytest.mark.parametrize("port", EVERY_PORT)
def test_esptool_writes_verifies_reads_and_erases(port: str, board, esptool, tmp_path: Path):
    random = os.urandom(0x9234)
    parts = [(0x0, b"compressible " * 3000), (0x10000, random), (0x30000, b"\x5a" * 100)]
    arguments: list[object] = []
    for offset, data in parts:
        path = tmp_path / f"{offset:x}.bin"
        path.write_bytes(data)
        arguments += [hex(offset), path]

    said = esptool(port, "flash-id")
    assert "ESP32-C3 (QFN32) (revision v0.3)" in said
    assert MAC in said
    assert "Detected flash size: 4MB" in said
    assert esptool(port, "write-flash", *arguments).count("Hash of data verified.") == 3
    esptool(port, "verify-flash", *arguments)
    read = tmp_path / "read.bin"
    esptool(port, "read-flash", "0x10000", "0x9234", read)
    assert read.read_bytes() == random
    esptool(port, "erase-region", "0x11000", "0x1000")
    held = board.flash.read_bytes()
    assert held[0x10000:0x13000] == random[:0x1000] + b"\xff" * 0x1000 + random[0x2000:0x3000]
    assert held[0x30000:0x30065] == b"\x5a" * 100 + b"\xff"


@pytest.mark.parametrize("port", EVERY_PORT)
def test_esptool_without_its_stub(port: str, board, esptool, tmp_path: Path):
    data = os.urandom(3000)
    path = tmp_path / "data.bin"
    path.write_bytes(data)
    assert "Hash of data verified." in esptool(port, "--no-stub", "write-flash", "0x20000", path)
    read = tmp_path / "read.bin"
    esptool(port, "--no-stub", "read-flash", "0x20000", "256", read)
    assert read.read_bytes() == data[:256]
    assert board.flash.read_bytes()[0x20000:0x21000] == data.ljust(0x1000, b"\xff")


@pytest.mark.parametrize("port", EVERY_PORT)
def test_espefuse_summary(port: str, board, tool):
    said = tool("espefuse", "--chip", "esp32c3", "--port", board.facts[port], *PORTS[port], "summary")
    assert f"{MAC} (OK)" in said
    assert "SECURE_BOOT_EN (BLOCK0)" in said


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["--no-stub", "get-security-info"], "Secure Boot: Disabled"),
        (["read-flash-status"], "Flash memory status: 0x0200"),
        (["read-mem", "0x60008844"], "0x60008844 = 0xa10affc0"),
        pytest.param(["--no-stub", "read-flash-status"], "Flash memory status: 0x0200", marks=pytest.mark.soak),
        pytest.param(["read-mac"], MAC, marks=pytest.mark.soak),
        pytest.param(["chip-id"], MAC, marks=pytest.mark.soak),
        pytest.param(["read-flash-sfdp", "0", "4"], "0x53 0x46 0x44 0x50", marks=pytest.mark.soak),
        pytest.param(["--baud", "921600", "flash-id"], "Changed.", marks=pytest.mark.soak),
        pytest.param(["erase-flash"], "Flash memory erased successfully", marks=pytest.mark.soak),
    ],
)
def test_what_esptool_asks(command: list[str], words: str, esptool):
    assert words in esptool("pty", *command)


def test_run_and_watchdog_reset_leave_the_loader(run_board, probe_flash: bytes, tool):
    board = run_board(flash=probe_flash, ports=["pty", "socket"], boot_strap="download")
    with board.plain_port("socket") as console:
        tool("esptool", "--port", board.facts["pty"], "--after", "watchdog-reset", "--no-stub", "flash-id")
        console.expect(r"rst:0x10 \(RTCWDT_RTC_RST\),boot:0x4 \(DOWNLOAD")
        tool("esptool", "--port", board.facts["pty"], "--no-stub", "run")
        console.await_application()


def test_a_stuck_sector_fails_esptool_s_own_verification(run_board, tool, tmp_path: Path):
    board = run_board(ports=["pty"], boot_strap="download", stuck_at=0x21000)
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(0x3000))
    with pytest.raises(AssertionError, match="MD5 of file does not match data in flash"):
        tool("esptool", "--port", board.facts["pty"], "write-flash", "0x20000", path)
