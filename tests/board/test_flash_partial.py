"""Flashing in part: what differs and nothing else, what broke off half-way, and flash that does not store."""

import hashlib
import random
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from rig.board import BootFailure, ImagePart, SerialPort, flash
from rig.errors import BenchError, DeviceError
from rig.formats import image
from rig.formats.flasher_args import read_image_set

SECTOR = 0x1000
APP = 0x10000


@pytest.fixture
def larger(images, tmp_path):
    """Make image sets whose application carries more after its program, which still runs."""
    program = image.host_elf(image.parse(images.app.read()))

    def make(name, filling):
        shutil.copytree(images.source.parent, tmp_path / name)
        app = tmp_path / name / images.app.path.relative_to(images.source.parent)
        app.write_bytes(image.build_host_image(program + filling, project="coaps_server", version=name))
        return read_image_set(tmp_path / name)

    return make


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def part_of(report, name):
    return next(part for part in report.parts if part.name == name)


def sectors_that_differ(old, new):
    return [at for at in range(0, len(new), SECTOR) if old[at : at + SECTOR] != new[at : at + SECTOR]]


def test_a_change_in_place_writes_its_sectors_only(virtual_board, larger):
    filling = noise(300_000)
    before = larger("before", filling)
    after = larger("after", filling[:150_000] + b"something else" + filling[150_014:])
    changed = sectors_that_differ(before.app.read(), after.app.read())
    assert len(changed) == 3  # the descriptor, the change itself, and the sums at the end
    with SerialPort(virtual_board.url) as port:
        flash(port, before, mac=virtual_board.mac)
        worn = virtual_board.wear()
        app = part_of(flash(port, after, mac=virtual_board.mac), "app")
    assert [at - APP for at in virtual_board.erased_sectors(since=worn)] == changed
    assert changed[-1] < app.size < changed[-1] + SECTOR
    assert app.written_bytes == 2 * SECTOR + app.size - changed[-1]
    assert app.verified_md5 == hashlib.md5(after.app.read()).hexdigest()
    assert virtual_board.flash_path.read_bytes()[APP : APP + app.size] == after.app.read()


def test_a_change_that_moves_the_rest_writes_all_that_moved(virtual_board, larger):
    filling = noise(200_000)
    before, after = larger("before", filling), larger("after", b"moved" + filling)
    with SerialPort(virtual_board.url) as port:
        flash(port, before, mac=virtual_board.mac)
        app = part_of(flash(port, after, mac=virtual_board.mac), "app")
    assert len(filling) < app.written_bytes <= app.size
    assert virtual_board.flash_path.read_bytes()[APP : APP + app.size] == after.app.read()


def test_parts_of_any_length_are_written_and_mended(virtual_board, images):
    places = {0x300000: 1, 0x310000: 4096, 0x320000: 4097, 0x330000: 100_001}

    def flash_and_compare(port, contents):
        extra = [ImagePart(f"data{offset}", offset, data) for offset, data in contents.items()]
        report = flash(port, images, mac=virtual_board.mac, extra=extra)
        for offset, data in contents.items():
            assert content(virtual_board)[offset : offset + len(data)] == data
        return {part.offset: part.written_bytes for part in report.parts if part.offset in places}

    with SerialPort(virtual_board.url) as port:
        for seed in (1, 2):
            contents = {offset: noise(size, seed) for offset, size in places.items()}
            assert flash_and_compare(port, contents) == places
        mended = {offset: data[:-1] + bytes([data[-1] ^ 1]) for offset, data in contents.items()}
        assert flash_and_compare(port, mended) == {0x300000: 1, 0x310000: 4096, 0x320000: 4, 0x330000: 1700}


def test_flash_that_does_not_store_is_the_device_s_fault(virtual_boards, images, provisioning, tmp_path):
    virtual = virtual_boards("dut", stuck_at=APP + 3 * SECTOR)
    with virtual.open(tmp_path / "console.log") as board:
        with pytest.raises(DeviceError, match=r"failed to store app at 0x10000"):
            board.flash(images, provisioning)
        board.console.expect(r"rst:0x1 \(POWERON\)")  # it was started all the same


def test_the_application_is_written_first_and_the_bootloader_last(virtual_board, images, provisioning, tmp_path):
    told = []
    with virtual_board.open(tmp_path / "console.log") as board:
        report = board.flash(images, provisioning, on_progress=told.append)
    assert [text.split()[0] for text in told] == ["app", "creds", "partition-table", "bootloader"]
    assert [part.name for part in report.parts] == ["bootloader", "partition-table", "app", "creds"]


def test_a_killed_flash_leaves_a_board_that_does_not_start_and_the_next_run_finishes_it(
    virtual_boards, firmware_content, larger, provisioning, tmp_path
):
    virtual = virtual_boards("dut", firmware_content, write_latency=True)
    new = larger("new", noise(300_000))
    half_way = APP + 0x20000
    command = [sys.executable, "-m", "rig.cli.main", "flash", "--bench", str(virtual.bench_file(new))]
    with subprocess.Popen(command) as flashing:
        while content(virtual)[half_way : half_way + SECTOR] == b"\xff" * SECTOR:
            assert flashing.poll() is None
        flashing.kill()
    with virtual.open(tmp_path / "console.log") as board:
        board.hard_reset()
        with pytest.raises(BootFailure, match="esp_image"):
            board.wait_network()
        app = part_of(board.flash(new, provisioning), "app")
        board.wait_network()
    assert 0 < app.written_bytes <= app.size - 2 * 0x10000


def test_a_connection_lost_in_mid_write_is_told_and_the_next_flash_goes_on(
    virtual_board, larger, provisioning, tmp_path
):
    new = larger("new", noise(300_000))
    with (
        Cable(virtual_board.url, breaks_after=150_000) as cable,
        virtual_board.at(cable.url).open(tmp_path / "console.log") as board,
    ):
        with pytest.raises(BenchError, match=r"flashing app at 0x10000 broke off.*flash again"):
            board.flash(new, provisioning)
        app = part_of(board.flash(new, provisioning), "app")
        board.wait_network()
    assert 0 < app.written_bytes < app.size


@pytest.mark.parametrize("name", ["pty", "socket"])
def test_a_port_without_modem_lines_flashes_a_board_in_download_mode(
    virtual_boards, images, provisioning, tmp_path, name
):
    virtual = virtual_boards("dut", ports=[name], boot_strap="download")
    told = []
    with virtual.open(tmp_path / "console.log") as board:
        first = board.flash(images, provisioning, on_progress=told.append)
        second = board.flash(images, provisioning)
    assert {part.action for part in first.parts} == {"written"}
    assert {part.action for part in second.parts} == {"skipped"}
    assert "cannot reset it" in told[-1]


def test_a_merged_image_is_flashed_as_the_build_is(virtual_board, images, provisioning, tmp_path):
    merged = tmp_path / "merged.bin"
    offsets = [word for file in images.files for word in (hex(file.offset), str(file.path))]
    command = [sys.executable, "-m", "esptool", "--chip", "esp32c3", "merge-bin", "--output", str(merged), *offsets]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with virtual_board.open(tmp_path / "console.log") as board:
        board.flash(read_image_set(merged), provisioning)
        board.wait_network()
        assert {part.action for part in board.flash(images, provisioning).parts} == {"skipped"}


def content(virtual):
    return virtual.flash_path.read_bytes()


class Cable:
    """A network cable to the board's server, which breaks once, after so many bytes from the client."""

    def __init__(self, url, breaks_after):
        host, _, port = url.removeprefix("rfc2217://").rpartition(":")
        self._far_end = (host, int(port))
        self._left = breaks_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _serve(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, socket.create_connection(self._far_end) as board:
                    back = threading.Thread(target=self._carry, args=(board, client, False))
                    back.start()
                    self._carry(client, board, self._left > 0)
                    board.shutdown(socket.SHUT_RDWR)
                    back.join()

    def _carry(self, source, destination, breaks):
        with suppress(OSError):
            while data := source.recv(4096):
                destination.sendall(data)
                self._left -= len(data) if breaks else 0
                if breaks and self._left <= 0:
                    return
