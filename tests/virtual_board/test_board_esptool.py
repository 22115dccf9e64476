"""The loader against unmodified esptool, by its Python API."""

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import esptool
import pytest
from esptool.targets import ESP32C3ROM

MAC = "7c:df:a1:0a:ff:c0"


@contextmanager
def connected(board, *, stub: bool = True, before: str = "default-reset") -> Iterator[ESP32C3ROM]:
    """Connect as esptool does, over a serial client that does not negotiate unchanged settings again."""
    with board.open_port() as port:
        rom = ESP32C3ROM(port)
        rom.connect(before)
        yield rom.run_stub() if stub else rom


@pytest.fixture(scope="module", autouse=True)
def _command_line_at_work(flashing):
    """Let the slow command of test_board_stock_esptool.py, which sleeps most of its 20 s, begin here."""


def test_stub_writes_reads_verifies_and_erases(run_board):
    board = run_board()
    random = os.urandom(0x30123)  # does not compress: the plain write command as well
    text = b"compressible " * 20000
    with connected(board) as stub:
        assert stub.IS_STUB
        assert ":".join(f"{byte:02x}" for byte in stub.read_mac()) == MAC
        assert stub.flash_id() == 0x1640EF
        stub.flash_set_parameters(4 << 20)
        esptool.write_flash(stub, [(0x20000, text), (0x100000, random)], flash_size="4MB")
        esptool.write_flash(stub, [(0x200000, random)], no_compress=True, flash_size="4MB")
        assert stub.read_flash(0x20000, len(text)) == text
        assert stub.read_flash(0x100000, len(random)) == stub.read_flash(0x200000, len(random)) == random
        esptool.verify_flash(stub, [(0x200000, random)], flash_size="4MB")
        stub.erase_region(0x100000, 0x1000)
        assert stub.read_flash(0x100000, 0x1800) == b"\xff" * 0x1000 + random[0x1000:0x1800]
        esptool.erase_flash(stub)
    assert set(board.flash.read_bytes()) == {0xFF}


def test_rom_alone_writes_and_reads(run_board):
    board = run_board()
    data = os.urandom(0x2100)
    with connected(board, stub=False) as rom:
        assert not rom.IS_STUB
        assert rom.get_chip_revision() == 3
        esptool.attach_flash(rom)
        esptool.write_flash(rom, [(0x20000, data)], no_compress=True, flash_size="4MB")
        assert rom.read_flash(0x20000, 200) == data[:200]
        esptool.write_flash(rom, [(0x40000, b"z" * 3000)], flash_size="4MB")
        assert rom.flash_md5sum(0x40000, 3000) == hashlib.md5(b"z" * 3000).hexdigest()
    assert board.flash.read_bytes()[0x20000:0x22100] == data


def test_usb_jtag_enters_the_loader_by_its_own_sequence_alone(run_board):
    board = run_board(usb_jtag=True)
    with connected(board, before="usb-reset", stub=False) as rom:
        assert ":".join(f"{byte:02x}" for byte in rom.read_mac()) == MAC
    for other, wrong in ((board, "default-reset"), (run_board(), "usb-reset")):
        with other.open_port() as port, pytest.raises(esptool.FatalError, match="Failed to connect"):
            ESP32C3ROM(port).connect(wrong, attempts=1)


def test_a_paced_line_follows_the_change_of_baud(run_board):
    board = run_board(pace_baud=True)
    data = os.urandom(0x1000)
    with connected(board) as stub:
        stub.change_baud(921600)
        stub.flash_set_parameters(4 << 20)
        esptool.write_flash(stub, [(0x20000, data)], flash_size="4MB")
        assert stub.read_flash(0x20000, len(data)) == data
    assert board.flash.read_bytes()[0x20000:0x21000] == data


def test_a_busy_port_refuses_the_second_client_and_keeps_the_first(run_board, probe_flash: bytes):
    board = run_board(flash=probe_flash)
    with board.console() as first:
        first.reset()
        first.expect("probe pid=")
        host, port = board.url.removeprefix("rfc2217://").split(":")
        with socket.create_connection((host, int(port))) as second:
            assert second.recv(1) == b""
        first.write("say 7")
        first.expect("said 7\r\n")
    with board.console() as again:
        again.write("say 8")
        again.expect("said 8\r\n")
