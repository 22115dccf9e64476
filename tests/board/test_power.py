"""The switch of a board's supply: two commands, and what a virtual board makes of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rig.board.power
from rig.board import CommandPower
from rig.clock import now_s
from rig.errors import BenchError

LOST = """
import os, signal, sys
from pathlib import Path
from rig.board import CommandPower
with CommandPower(["touch", "off"], ["rm", "-f", "off"], settle_s=0.0, directory=Path(sys.argv[1])) as power:
    power.off()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def switch(tmp_path, off=("touch", "off"), on=("rm", "-f", "off"), settle_s=0.0):
    """A supply that is off while the file ``off`` is there."""
    return CommandPower(off, on, settle_s=settle_s, directory=tmp_path)


def is_off(tmp_path):
    return (tmp_path / "off").exists()


def test_the_commands_run_in_their_directory_and_leaving_leaves_power_on(tmp_path):
    with switch(tmp_path) as power:
        power.off()
        assert is_off(tmp_path)
        power.on()
        assert not is_off(tmp_path)
        power.off()
    assert not is_off(tmp_path)


def test_an_error_in_the_block_leaves_power_on(tmp_path):
    with pytest.raises(ZeroDivisionError), switch(tmp_path) as power:
        assert 1 / (power.off() or 0)
    assert not is_off(tmp_path)


def test_entering_gives_the_power_back_that_a_killed_rig_took(tmp_path):
    ended = subprocess.run([sys.executable, "-c", LOST, str(tmp_path)], check=False, cwd=os.getcwd())
    assert ended.returncode == -9
    assert is_off(tmp_path)
    with switch(tmp_path):
        assert not is_off(tmp_path)


def test_no_shell_reads_the_command(tmp_path):
    with switch(tmp_path, off=("touch", "off; rm -rf *", "$HOME")) as power:
        power.off()
    assert {path.name for path in tmp_path.iterdir()} == {"off; rm -rf *", "$HOME"}


def test_a_command_that_fails_is_told_with_what_it_said(tmp_path):
    command = (sys.executable, "-c", "print('no such hub'); raise SystemExit(3)")
    with switch(tmp_path, off=command) as power, pytest.raises(BenchError) as caught:
        power.off()
    message = str(caught.value)
    assert "raise SystemExit(3)" in message
    assert "exit code 3 and said: no such hub" in message


def test_a_command_that_is_not_there(tmp_path):
    with (
        pytest.raises(BenchError, match=r"`no-such-relay on` cannot be run: No such file.*power: in the bench file"),
        switch(tmp_path, on=("no-such-relay", "on")),
    ):
        pass


def test_a_command_that_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(rig.board.power, "COMMAND_TIMEOUT_S", 0.5)
    command = (sys.executable, "-c", "import time; print('waiting', flush=True); time.sleep(600)")
    with switch(tmp_path, off=command) as power, pytest.raises(BenchError, match=r"did not end within 0\.5 s"):
        power.off()


def test_a_board_that_lost_its_power_starts_from_nothing(virtual_boards, firmware_content, tmp_path):
    virtual = virtual_boards("dut", firmware_content)
    with virtual.open(tmp_path / "console.log", power=virtual.power) as board:
        board.power_off()
        assert not board.starts_from_reset()
        since_s = now_s()
        board.power_on()
        board.wait_network()
        board.power_cycle()
        board.wait_network()
        starts = [line.text for line in board.console.lines_since(since_s) if "rst:" in line.text]
    assert starts == ["rst:0x1 (POWERON),boot:0xc (SPI_FAST_FLASH_BOOT)"] * 2


def test_leaving_a_board_leaves_it_powered(virtual_boards, firmware_content, tmp_path):
    virtual = virtual_boards("dut", firmware_content)
    with virtual.open(tmp_path / "first.log", power=virtual.power) as board:
        board.power_off()
    with virtual.open(tmp_path / "second.log") as board:
        assert board.starts_from_reset()


def test_a_port_that_goes_away_with_the_power_is_opened_again(virtual_boards, probe_content, tmp_path):
    virtual = virtual_boards("dut", probe_content, usb_jtag=True)
    with virtual.open(tmp_path / "console.log", power=virtual.power) as board:
        board.power_off()
        with pytest.raises(BenchError):
            board.console.expect("nothing is read without power")
        board.power_on()
        board.hard_reset()
        board.console.expect("probe pid=")


def test_a_board_without_a_switch_says_so(virtual_board, tmp_path):
    with (
        virtual_board.open(tmp_path / "console.log") as board,
        pytest.raises(BenchError, match=r"board dut: nothing switches its power.*power:"),
    ):
        board.power_cycle()
    assert Path(board.console.logfile).exists()
