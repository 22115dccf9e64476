"""The ports of the serial line, the switch in the supply, and boards whose reset circuit does not work."""

import os
import random
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig.virtual.board import slip

PORTS = ["pty", "socket", "rfc2217"]
BOOTED = r"probe pid=(\d+) reason=(\d+) address=\S+ rtc=(\d+) ram=(\d+)\r\n"


def test_all_ports_are_open_at_once_and_each_hears_the_chip(run_board, probe_flash: bytes):
    board = run_board(flash=probe_flash, ports=PORTS)
    assert board.facts["console"] == board.facts["pty"]
    assert board.facts["socket"].startswith("socket://127.0.0.1:")
    assert board.facts["rfc2217"].startswith("rfc2217://127.0.0.1:")
    with board.plain_port("pty") as pty, board.plain_port("socket") as plain, board.console() as telnet:
        telnet.reset()
        for console in (pty, plain, telnet):
            console.expect(BOOTED)
        for number, console in enumerate((pty, plain, telnet)):
            console.write(f"say {number}")
            for listener in (pty, plain, telnet):
                listener.expect(f"said {number}\r\n")
        pty.write("bytes")
        for console in (pty, plain, telnet):
            assert console.expect(r"(?s)(.{4}) end\r\n").group(1) == b"\xff\xc0\xff\xff"


def test_a_tty_opened_again_says_nothing_of_what_was_said_meanwhile(run_board, probe_flash: bytes):
    board = run_board(flash=probe_flash, ports=["pty", "socket"])
    with board.plain_port("socket") as plain:
        with board.plain_port("pty") as pty:
            pty.await_application()
        plain.write("say 2")
        plain.expect("said 2\r\n")
        with board.plain_port("pty") as pty:
            pty.write("say 3")
            said = pty.expect(r"(?s).*said 3\r\n").group()
    assert b"said 2" not in said


def test_the_switch_takes_the_power_and_the_rtc_memory(run_board, meter, probe_flash: bytes):
    board = run_board(flash=probe_flash, supply=meter.path)
    with board.console() as console:
        meter.read_until_current(28e-3)
        console.reset()
        console.expect(BOOTED)
        console.write("restart")
        assert console.expect(BOOTED).groups()[1:] == (b"3", b"2", b"1")
        board.power("off")
        meter.read_until(lambda: meter.current[-1][1] == 0.0)
        console.write("say 1")
        console.reset()  # EN of a chip without power
        board.power("on")
        meter.read_until_current(28e-3)
        assert [current for _, current in meter.current[-2:]] == [0.0, 28e-3]
        console.expect(r"rst:0x1 \(POWERON\)")
        assert console.expect(BOOTED).groups()[1:] == (b"1", b"1", b"1")


def test_a_switch_that_is_not_there_is_one_sentence(tmp_path: Path):
    command = [sys.executable, "-m", "rig.virtual.power", str(tmp_path / "none"), "off"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_held_boot_button_is_download_mode_at_every_reset_that_samples_it(run_board, probe_flash: bytes):
    board = run_board(flash=probe_flash, boot_strap="download")
    with board.console() as console:
        for _ in range(2):
            console.reset()
            console.expect(r"boot:0x4 \(DOWNLOAD\(USB/UART0/1\)\)\r\nwaiting for download\r\n")
        board.power("off")
        board.power("on")
        console.expect("waiting for download\r\n")


def test_without_reset_lines_only_power_restarts_the_chip(run_board, probe_flash: bytes):
    board = run_board(flash=probe_flash, reset_lines="absent")
    with board.console() as console:
        console.await_application()
        console.reset()
        console.write("say 2")
        assert b"rst:" not in console.expect(r"(?s).*said 2\r\n").group()
        board.power("off")
        board.power("on")
        console.expect(BOOTED)


def test_a_hung_chip_says_nothing_until_its_power_has_been_cycled(run_board, probe_flash: bytes):
    board = run_board(flash=probe_flash, reset_lines="hung")
    with board.console() as console:
        console.reset()
        console.write("say 1")
        board.power("off")
        board.power("on")
        assert console.expect(r"(?s).*rst:0x1 \(POWERON\)").group().startswith(b"ESP-ROM")
        console.expect(BOOTED)
        console.reset()
        console.expect(BOOTED)


def test_usb_jtag_resets_by_its_own_rules(run_board, probe_flash: bytes):
    with run_board(flash=probe_flash, usb_jtag=True).console() as console:
        console.port.rts = True
        console.expect(r"rst:0x15 \(USB_UART_CHIP_RESET\),boot:0xc \(SPI_FAST_FLASH_BOOT\)")
        assert console.expect(BOOTED).group(2) == b"11"
        console.port.rts = False
        for dtr, rts in ((True, False), (True, True), (False, True), (False, False)):
            console.port.dtr = dtr
            console.port.rts = rts
        console.expect(r"rst:0x15 \(USB_UART_CHIP_RESET\),boot:0x4 \(DOWNLOAD\(USB/UART0/1\)\)")
        console.reset()
        console.expect(BOOTED)


def test_usb_jtag_is_gone_in_deep_sleep_and_back_after_the_wake(run_board, probe_flash: bytes):
    board = run_board(flash=probe_flash, usb_jtag=True, ports=PORTS)
    tty = Path(board.facts["pty"])
    numbers = [int(board.facts[name].rpartition(":")[2]) for name in ("socket", "rfc2217")]
    with board.plain_port("socket") as plain:
        plain.await_application()
    with socket.create_connection(("127.0.0.1", numbers[0])) as held:
        held.sendall(b"sleep 600000\n")
        while held.recv(4096):
            pass
    assert not os.path.lexists(tty)
    for number in numbers:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", number))
    board.power("off")
    board.power("on")
    with board.plain_port("pty") as console:
        console.await_application()
        console.write("sleep 300")
        while tty.exists():
            pass
    while not tty.exists():
        pass
    with board.console() as console:
        console.await_application()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=5)
@given(st.integers(0, 2**32))
def test_noise_at_every_port_kills_no_board(noisy_board, seed: int):
    noise = random.Random(seed).randbytes(20000)
    for name in ("socket", "rfc2217"):
        host, number = noisy_board.facts[name].split("//")[1].split(":")
        with socket.create_connection((host, int(number))) as wire:
            wire.settimeout(30)
            try:
                wire.sendall(noise)
                wire.shutdown(socket.SHUT_WR)
                while wire.recv(65536):
                    pass
            except (ConnectionResetError, BrokenPipeError):
                pass  # a Telnet command that cannot be read ends the connection
    with noisy_board.plain_port("pty") as console:
        console.port.write(noise + slip.encode(struct.pack("<BBHI", 0, 8, 36, 0) + bytes(36)))
        console.expect(r"(?s)\x01\x08\x04\x00.{4}\x00\x00\x00\x00")
    assert noisy_board.process.poll() is None


@pytest.fixture(scope="module")
def noisy_board(start_board, tmp_path_factory: pytest.TempPathFactory):
    with start_board(tmp_path_factory.mktemp("noise"), ports=PORTS, boot_strap="download") as board:
        yield board
