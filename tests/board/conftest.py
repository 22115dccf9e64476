"""A virtual board as a process of its own, and the firmware for it."""

import itertools
import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rig.board import Board, BoardLock, Provisioning
from rig.formats.flasher_args import read_image_set
from rig.virtual.firmware import build_image_set


@dataclass(frozen=True)
class VirtualBoard:
    """What the process announced, and the file that is its flash."""

    process: subprocess.Popen
    url: str
    mac: str
    address: str
    flash_path: Path

    def at(self, url):
        """The same board, reached another way."""
        return replace(self, url=url)

    def open(self, log_path, **options):
        return Board("dut", self.url, self.mac, log_path, **options)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    return read_image_set(build_image_set(tmp_path_factory.mktemp("firmware") / "good"))


@pytest.fixture
def provisioning():
    return Provisioning("board-1", bytes(range(1, 17)), "lab", "open sesame")


@pytest.fixture
def virtual_boards(tmp_path):
    """Start boards, blank, each with a MAC and an address of its own."""
    with ExitStack() as running:
        yield lambda name: running.enter_context(_run_board(tmp_path / name))


@pytest.fixture
def virtual_board(virtual_boards):
    return virtual_boards("dut")


@contextmanager
def _run_board(directory):
    directory.mkdir()
    host, mac = _next_identity()
    config = {
        "name": directory.name,
        "mac": mac,
        "address": host,
        "flash": str(directory / "flash.bin"),
        "truth": str(directory / "truth.csv"),
        "supply": None,
    }
    config_path = directory / "board.json"
    config_path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "rig.virtual.board", "--config", str(config_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        announced = json.loads(process.stdout.readline())
        yield VirtualBoard(process, announced["console"], mac, host, directory / "flash.bin")
        process.stdin.close()
        process.wait(10)
    BoardLock(mac).path.unlink(missing_ok=True)


_numbers = itertools.count(1)


def _next_identity():
    """Return an address and a MAC (locally administered) that no other test process has."""
    pid = os.getpid()
    number = next(_numbers) & 0xFF
    mac = f"02:{number:02x}:{pid >> 24 & 255:02x}:{pid >> 16 & 255:02x}:{pid >> 8 & 255:02x}:{pid & 255:02x}"
    return f"127.{64 + (pid >> 16 & 63)}.{pid >> 8 & 255}.{(pid + number) % 254 + 1}", mac
