"""A virtual board as a process of its own, its switch, and the firmware for it."""

import itertools
import json
import os
import struct
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rig.board import Board, BoardLock, CommandPower, Provisioning, nvs_image
from rig.formats import image, partitions
from rig.formats.flasher_args import read_image_set
from rig.virtual.firmware import build_image_set

PROVISIONING = Provisioning("board-1", bytes(range(1, 17)), "lab", "open sesame")


@dataclass(frozen=True)
class VirtualBoard:
    """What the process announced, and the file that is its flash."""

    process: subprocess.Popen
    url: str
    mac: str
    address: str
    flash_path: Path
    facts: dict

    def at(self, url):
        """The same board, reached another way."""
        return replace(self, url=url)

    def open(self, log_path, **options):
        return Board("dut", self.url, self.mac, log_path, **options)

    def bench_file(self, images):
        """Write a bench file with this board and the credentials of the fixture ``provisioning``."""
        path = self.flash_path.with_name("bench.yaml")
        path.write_text(
            f"boards:\n  - name: light1\n    mac: {self.mac}\n    port: {self.url}\n"
            f"    firmware: {images.source.parent}\n    identity: {PROVISIONING.identity}\n    psk: {{file: psk}}\n"
            f"    wifi: {{ssid: {PROVISIONING.wifi_ssid}, passphrase: {{file: passphrase}}}}\n"
        )
        path.with_name("psk").write_text(PROVISIONING.psk.hex())
        path.with_name("passphrase").write_text(PROVISIONING.wifi_passphrase)
        return path

    def wear(self):
        """Return how often each sector has been erased, in the order of their offsets."""
        return [count for (count,) in struct.iter_unpack("<I", Path(f"{self.flash_path}.wear").read_bytes())]

    def erased_sectors(self, since=None):
        """Return the flash offsets of the sectors erased since the board began, or since an earlier ``wear()``."""
        before = since or [0] * len(self.wear())
        return [number * 0x1000 for number, count in enumerate(self.wear()) if count > before[number]]

    @property
    def power(self):
        switch = [sys.executable, "-m", "rig.virtual.power", self.facts["power"]]
        return CommandPower([*switch, "off"], [*switch, "on"], settle_s=0.0, directory=Path.cwd())


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    return read_image_set(build_image_set(tmp_path_factory.mktemp("firmware") / "good"))


@pytest.fixture
def provisioning():
    return PROVISIONING


@pytest.fixture
def virtual_boards(tmp_path):
    """Start boards, each with a MAC and an address of its own: ``virtual_boards(name, content, **switches)``.

    *content* is what stands in flash at the start; without it the flash is blank.
    """
    with ExitStack() as running:
        yield lambda name, content=b"", **switches: running.enter_context(
            _run_board(tmp_path / name, content, switches)
        )


@pytest.fixture
def virtual_board(virtual_boards):
    return virtual_boards("dut")


@pytest.fixture(scope="session")
def firmware_content(images):
    """A whole flash that holds the firmware, and the credentials of the fixture ``provisioning``."""
    credentials = partitions.credentials(partitions.parse_table(images.file("partition-table").path.read_bytes()))
    parts = [(file.offset, file.path.read_bytes()) for file in images.files]
    parts.append((credentials.offset, nvs_image(PROVISIONING, credentials.size)))
    return _flash_of(parts)


@pytest.fixture(scope="session")
def probe_content(tmp_path_factory):
    """A whole flash that holds the application of the virtual board's own tests, which does what its console says."""
    program = tmp_path_factory.mktemp("probe") / "probe"
    source = Path(__file__).parents[1] / "virtual_board" / "probe.c"
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-o", str(program), str(source)], check=True)
    app = image.build_host_image(program.read_bytes(), project="probe", version="1")
    table = partitions.table_from_csv("factory, app, factory, 0x10000, 2M\n")
    return _flash_of([(0, image.build_bootloader()), (partitions.TABLE_OFFSET, table), (0x10000, app)])


def _flash_of(parts):
    content = bytearray(b"\xff" * (4 << 20))
    for offset, data in parts:
        content[offset : offset + len(data)] = data
    return bytes(content)


@contextmanager
def _run_board(directory, content, switches):
    directory.mkdir()
    if content:
        (directory / "flash.bin").write_bytes(content)
    host, mac = _next_identity()
    config = {
        "name": directory.name,
        "mac": mac,
        "address": host,
        "flash": str(directory / "flash.bin"),
        "truth": str(directory / "truth.csv"),
        "supply": None,
        **switches,
    }
    config_path = directory / "board.json"
    config_path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "rig.virtual.board", "--config", str(config_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        announced = json.loads(process.stdout.readline())
        yield VirtualBoard(process, announced["console"], mac, host, directory / "flash.bin", announced)
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
