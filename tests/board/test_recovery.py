"""Boards that do not answer: brought back, or named dead with what was tried. Each is a real virtual board."""

import dataclasses
import socket
import sys
import time
from pathlib import Path

import pytest

from rig.board import BoardDead, BoardLock, CommandPower, Recovery, SerialPort
from rig.board.loader import connect, read_mac
from rig.errors import BenchError


def actions(steps):
    return [step.action for step in steps]


def flip(content, at):
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


@pytest.fixture
def steps():
    return []


def test_a_board_that_answers_at_once_takes_no_step(virtual_boards, probe_content):
    board = virtual_boards("dut", probe_content)
    recovery = Recovery()
    with SerialPort(board.url) as port:
        assert read_mac(port, connect(port, recovery)) == board.mac
    assert recovery.steps == []


def test_a_boot_loop_is_ended_by_flashing(virtual_boards, firmware_content, images, provisioning, tmp_path):
    virtual = virtual_boards("dut", flip(firmware_content, images.app.offset + 0x2000))
    with virtual.open(tmp_path / "console.log") as board:
        board.console.expect("Factory app partition is not bootable")
        board.console.expect("rst:0x3 ")
        board.flash(images, provisioning)
        board.wait_network()


def test_a_flood_on_the_console_does_not_hide_the_loader(virtual_boards, probe_content):
    board = virtual_boards("dut", probe_content, flood_bytes_per_s=1_000_000)
    with SerialPort(board.url) as port:
        while not port.read():
            pass
        assert read_mac(port, connect(port)) == board.mac


def test_a_sleeping_board_is_woken(virtual_boards, probe_content, tmp_path):
    virtual = virtual_boards("dut", probe_content)
    with virtual.open(tmp_path / "console.log") as board:
        _sleep(board, 600_000)
        board.recover()
        board.console.expect("probe pid=")


def test_a_board_left_in_its_loader_starts(virtual_boards, probe_content, tmp_path):
    virtual = virtual_boards("dut", probe_content)
    with SerialPort(virtual.url) as port:
        connect(port)  # and no reset: a flasher that was killed here
    with virtual.open(tmp_path / "console.log") as board:
        board.recover()
        board.console.expect("probe pid=")


def test_a_held_boot_button_is_told_as_such(virtual_boards, probe_content, tmp_path):
    virtual = virtual_boards("dut", probe_content, boot_strap="download")
    with virtual.open(tmp_path / "console.log") as board:
        board.recover()
        with pytest.raises(BenchError, match="release BOOT"):
            board.wait_network()


def test_a_hung_board_is_brought_back_by_its_power(
    virtual_boards, firmware_content, images, provisioning, tmp_path, steps
):
    virtual = virtual_boards("dut", firmware_content, reset_lines="hung")
    with virtual.open(tmp_path / "console.log", power=virtual.power, on_step=steps.append) as board:
        report = board.flash(images, provisioning)
        board.wait_network()
    assert {part.action for part in report.parts} == {"skipped"}
    assert actions(steps)[-2:] == ["power cycle", "classic reset (0.05 s)"]
    assert steps[-1].outcome == "the loader answers"
    assert actions(steps)[:3] == ["classic reset (0.05 s)", "classic reset (0.55 s)", "USB-JTAG reset"]
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert sorted(step.at_s for step in steps) == [step.at_s for step in steps]


def test_a_hung_board_without_a_switch_is_dead_and_all_steps_are_named(virtual_boards, probe_content, tmp_path, steps):
    virtual = virtual_boards("dut", probe_content, reset_lines="hung")
    with (
        virtual.open(tmp_path / "console.log", on_step=steps.append) as board,
        pytest.raises(BoardDead, match="no connection to the chip's loader") as caught,
    ):
        board.recover()
    message = str(caught.value)
    assert all(step.action in message and step.outcome in message for step in steps)
    assert {"reset through EN", "classic reset (0.05 s)", "USB-JTAG reset"} <= set(actions(steps))
    assert "power cycle" not in message
    assert "that the board has power" in message


def test_a_switch_that_fails_is_one_of_the_steps(virtual_boards, probe_content, tmp_path):
    virtual = virtual_boards("dut", probe_content, reset_lines="hung")
    stuck = [sys.executable, "-c", "raise SystemExit('relay 3 is stuck')"]
    power = CommandPower(stuck, ["true"], settle_s=0.0, directory=tmp_path)
    with SerialPort(virtual.url) as port, pytest.raises(BoardDead, match=r"power cycle: .* relay 3 is stuck"):
        connect(port, Recovery(power))


@pytest.mark.soak
def test_power_alone_starts_a_board_without_reset_lines(virtual_boards, firmware_content, tmp_path, steps):
    virtual = virtual_boards("dut", firmware_content, reset_lines="absent")
    with virtual.open(tmp_path / "console.log", power=virtual.power, on_step=steps.append) as board:
        board.recover()
        board.wait_network()
    assert steps[-1].outcome == "the board starts, and its loader stays out of reach"


def test_a_port_on_which_nobody_speaks_is_a_dead_board():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"socket://127.0.0.1:{silent.getsockname()[1]}"
        with SerialPort(url) as port, pytest.raises(BoardDead, match="sync without a reset") as caught:
            connect(port)
    assert url in str(caught.value)


def test_a_usb_port_that_sleeps_with_its_chip_is_waited_for(virtual_boards, probe_content, tmp_path, steps):
    virtual = virtual_boards("dut", probe_content, usb_jtag=True)
    with virtual.open(tmp_path / "console.log", on_step=steps.append) as board:
        _sleep(board, 2000)
        with pytest.raises(BenchError):
            board.console.expect("nothing is read while the port is gone")
        board.recover()
        board.console.expect("probe pid=")
    assert "USB-JTAG reset" in actions(steps)
    assert steps[-1].outcome == "the loader answers"


def test_a_usb_port_that_sleeps_for_long_is_brought_back_by_power(virtual_boards, probe_content, tmp_path, steps):
    virtual = virtual_boards("dut", probe_content, usb_jtag=True)
    with virtual.open(tmp_path / "console.log", power=virtual.power, on_step=steps.append) as board:
        _sleep(board, 600_000)
        board.recover()
        board.console.expect("probe pid=")
    assert actions(steps)[:2] == ["reset through EN", "open the port"]
    assert "power cycle" in actions(steps)


def test_another_chip_is_told_and_not_power_cycled(virtual_boards, probe_content, tmp_path, steps):
    virtual = dataclasses.replace(virtual_boards("dut", probe_content), mac="02:ff:00:00:00:01")
    with (
        virtual.open(tmp_path / "console.log", power=virtual.power, on_step=steps.append) as board,
        pytest.raises(BenchError, match="the board there is"),
    ):
        board.fuses()
    BoardLock(virtual.mac).path.unlink()
    assert steps == []


def _sleep(board, duration_ms):
    """Send the board to deep sleep, and wait until its application is gone."""
    board.hard_reset()
    application = Path("/proc") / board.console.expect(r"probe pid=(\d+)")[1]
    board.console.write(f"sleep {duration_ms}\n")
    while application.exists():
        time.sleep(0.01)
