"""Flashing and booting, on the virtual board, through esptool's protocol and the console."""

import dataclasses
import hashlib
import os
import re
import shutil
import signal
import tty
from concurrent.futures import ThreadPoolExecutor

import pytest

from rig.board import (
    BoardBusy,
    BoardLock,
    BootFailure,
    ConsoleTimeout,
    ImagePart,
    SerialPort,
    WrongBoard,
    estimate_device_clock,
    flash,
    nvs_image,
)
from rig.clock import now_s
from rig.errors import BenchError, ConfigError
from rig.formats.flasher_args import read_image_set


def actions(report):
    return {part.name: part.action for part in report.parts}


def written(report):
    return {part.name: part.written_bytes for part in report.parts if part.written_bytes}


def with_app(images, directory, change):
    """Return a copy of the image set whose application went through *change*."""
    shutil.copytree(images.source.parent, directory)
    path = directory / images.app.path.relative_to(images.source.parent)
    path.write_bytes(change(path.read_bytes()))
    return read_image_set(directory)


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def test_a_blank_board_is_flashed_boots_and_is_then_left_alone(virtual_board, images, provisioning, tmp_path, capsys):
    told = []
    with virtual_board.open(tmp_path / "console.log") as board:
        first = board.flash(images, provisioning, on_progress=told.append, on_esptool=told.append)
        address = board.wait_network()
        second = board.flash(images, provisioning)
        again = board.wait_network()
    assert first.mac == virtual_board.mac
    assert first.chip == "esp32c3"
    assert first.app.project == "coaps_server"
    assert len(first.app.elf_sha256) == 32
    assert set(actions(first).values()) == {"written"}
    assert set(actions(second).values()) == {"skipped"}
    assert [part.sha256 for part in first.parts] == [part.sha256 for part in second.parts]
    assert (address.host, address.port) == (virtual_board.address, 5684)
    assert again.at_s > address.at_s
    assert any(text.startswith("app at 0x10000: writing") for text in told)
    assert any(text.endswith("100 %") for text in told)
    assert capsys.readouterr() == ("", "")
    held = virtual_board.flash_path.read_bytes()
    for file in images.files:
        data = file.path.read_bytes()
        assert held[file.offset : file.offset + len(data)] == data
    nvs = next(part for part in first.parts if part.name == "creds")
    assert held[nvs.offset : nvs.offset + nvs.size] == nvs_image(provisioning, nvs.size)
    for part in [*first.parts, *second.parts]:
        assert part.verified_md5 == hashlib.md5(held[part.offset : part.offset + part.size]).hexdigest()


def test_a_key_changed_writes_the_credentials_alone(virtual_board, images, provisioning, tmp_path):
    other = dataclasses.replace(provisioning, psk=bytes(range(17, 33)))
    with virtual_board.open(tmp_path / "console.log") as board:
        board.flash(images, provisioning)
        changed = board.flash(images, other)
        everything = board.flash(images, other, mode="always")
        board.wait_network()
    assert written(changed) == {"creds": 0x1000}
    assert written(everything) == {part.name: part.size for part in everything.parts}


def test_never_touches_neither_flash_nor_port(virtual_board, images, provisioning, tmp_path):
    with virtual_board.open(tmp_path / "console.log") as board:
        report = board.flash(images, provisioning, mode="never")
        assert set(actions(report).values()) == {"not checked"}
        assert report.mac is None
        assert report.app.project == "coaps_server"
        assert [line for line in board.console.lines if "DOWNLOAD" in line] == []


def test_the_wrong_board_is_refused_with_nothing_written(virtual_board, images, provisioning, tmp_path):
    with virtual_board.open(tmp_path / "console.log") as board:
        board.flash(images, provisioning)
    before = hashlib.sha256(virtual_board.flash_path.read_bytes()).digest()
    impostor = dataclasses.replace(virtual_board, mac="02:10:00:00:00:00")
    changed = dataclasses.replace(provisioning, identity="somebody else")
    with impostor.open(tmp_path / "impostor.log") as board:
        with pytest.raises(WrongBoard) as caught:
            board.flash(images, changed, mode="always")
        board.wait_network()  # it was left running
    BoardLock(impostor.mac).path.unlink()
    assert virtual_board.mac in str(caught.value)
    assert "02:10:00:00:00:00" in str(caught.value)
    assert hashlib.sha256(virtual_board.flash_path.read_bytes()).digest() == before


def test_a_damaged_image_is_refused_before_the_port_is_touched(virtual_board, images, provisioning, tmp_path):
    damaged = with_app(images, tmp_path / "damaged", lambda data: flip(data, 0x2000))
    with virtual_board.open(tmp_path / "console.log") as board:
        with pytest.raises(ConfigError, match=r"coaps_server\.bin: .*checksum"):
            board.flash(damaged, provisioning)
        assert board.console.lines == []


def test_damage_in_flash_is_told_by_the_device_and_mended_in_its_sector(
    virtual_boards, firmware_content, images, provisioning, tmp_path
):
    virtual = virtual_boards("dut", flip(firmware_content, images.app.offset + 0x2000))
    with virtual.open(tmp_path / "console.log") as board:
        board.hard_reset()
        with pytest.raises(BootFailure, match=r"esp_image: Checksum failed\. Calculated 0x[0-9a-f]+ read 0x"):
            board.wait_network()
        report = board.flash(images, provisioning)
        board.wait_network()
    assert written(report) == {"app": 0x1000}
    assert virtual.erased_sectors() == [images.app.offset + 0x2000]


def test_an_image_that_a_virtual_board_cannot_run_is_the_bench_s_fault(virtual_board, images, provisioning, tmp_path):
    def without_host_program(data):
        """Misspell the mark of the host program by letters of the same sum, and make the SHA-256 of the image anew."""
        body = data[:-32].replace(b"HOST-ELF", b"TSOH-ELF")
        return body + hashlib.sha256(body).digest()

    riscv = with_app(images, tmp_path / "riscv", without_host_program)
    with virtual_board.open(tmp_path / "console.log") as board:
        board.flash(riscv, provisioning)
        with pytest.raises(BenchError, match="RISC-V"):
            board.wait_network()


def test_a_part_beyond_the_chip_s_flash_is_refused_with_nothing_written(virtual_board, images):
    beyond = ImagePart("storage", 4 << 20, b"data")
    with SerialPort(virtual_board.url) as port, pytest.raises(ConfigError, match=r"storage at 0x400000.*do not fit"):
        flash(port, images, mac=virtual_board.mac, extra=[beyond], mode="always")
    assert virtual_board.erased_sectors() == []


def test_parts_that_overlap_are_refused(virtual_board, images):
    overlapping = ImagePart("storage", images.app.offset + 16, b"data")
    with (
        SerialPort(virtual_board.url) as port,
        pytest.raises(ConfigError, match="storage at 0x10010 starts before app"),
    ):
        flash(port, images, mac=virtual_board.mac, extra=[overlapping])


def test_two_boards_can_be_flashed_at_a_time(virtual_boards, images, provisioning, tmp_path):
    told = {}

    def bring_up(virtual):
        heard = told.setdefault(virtual.mac, [])
        with virtual.open(tmp_path / f"{virtual.address}.log") as board:
            report = board.flash(images, provisioning, on_esptool=heard.append)
            return report.mac, board.wait_network().host

    first, second = virtual_boards("one"), virtual_boards("two")
    with ThreadPoolExecutor() as pool:
        assert set(pool.map(bring_up, [first, second])) == {(v.mac, v.address) for v in (first, second)}
    assert all(sum(text == "Stub flasher running" for text in heard) == 1 for heard in told.values())


def test_marks_of_a_boot_give_the_device_s_clock(virtual_board, images, provisioning, tmp_path):
    seen = []
    with virtual_board.open(tmp_path / "console.log", on_mark=seen.append) as board:
        board.flash(images, provisioning)
        started_s = now_s()
        board.hard_reset()
        network_up = board.console.wait_mark("network_up", since_s=started_s)
        clock = estimate_device_clock(board.console.marks())
        assert started_s < clock.to_rig_s(network_up.device_us * 1e-6) <= network_up.at_s
        assert board.console.marks()[-2].name == "boot"
    assert seen == board.console.marks()


def test_a_silent_port_is_no_connection(images):
    near, far = os.openpty()
    tty.setraw(near)
    tty.setraw(far)
    try:
        with SerialPort(os.ttyname(far)) as port, pytest.raises(BenchError, match="no connection") as caught:
            flash(port, images, mac="02:00:00:00:00:01", after="no-reset")
    finally:
        os.close(near)
        os.close(far)
    assert os.path.basename(port.url) in str(caught.value)
    assert "check the cable" in str(caught.value)


def test_a_blank_flash_is_told_as_the_rom_tells_it(virtual_board, tmp_path):
    with virtual_board.open(tmp_path / "console.log") as board:
        board.hard_reset()
        with pytest.raises(BootFailure, match="invalid header: 0xffffffff"):
            board.wait_network()


def test_a_board_without_credentials_says_so(virtual_board, images, tmp_path):
    with SerialPort(virtual_board.url) as port:
        flash(port, images, mac=virtual_board.mac)
    with virtual_board.open(tmp_path / "console.log") as board:
        board.hard_reset()
        with pytest.raises(BootFailure, match="no credentials in NVS"):
            board.wait_network()


def test_opening_does_not_reset(virtual_board, images, provisioning, tmp_path):
    with virtual_board.open(tmp_path / "first.log") as board:
        board.flash(images, provisioning)
        board.wait_network()
    with virtual_board.open(tmp_path / "second.log") as board, pytest.raises(ConsoleTimeout, match="network_up"):
        board.wait_network(timeout_s=0.5)


def test_a_held_board_is_refused_before_its_port_is_touched(virtual_board, tmp_path):
    with virtual_board.open(tmp_path / "first.log") as board:
        assert board.console.logfile.exists()
        second = dataclasses.replace(virtual_board, url="/dev/no-such-port").open(tmp_path / "second.log")
        with pytest.raises(BoardBusy, match=virtual_board.mac), second:
            pass


def test_leaving_frees_port_and_lock(virtual_board, tmp_path):
    for name in ("first", "second"):
        with virtual_board.open(tmp_path / f"{name}.log"):
            pass


def test_a_failed_entry_frees_the_lock(virtual_board, tmp_path):
    missing = dataclasses.replace(virtual_board, url="/dev/no-such-port")
    with pytest.raises(BenchError, match="/dev/no-such-port"), missing.open(tmp_path / "c.log"):
        pass
    with virtual_board.open(tmp_path / "c.log"):
        pass


def test_a_server_that_dies_is_the_bench_s_fault(virtual_board, tmp_path):
    with virtual_board.open(tmp_path / "console.log") as board:
        virtual_board.process.send_signal(signal.SIGKILL)
        with pytest.raises(BenchError, match=re.escape(virtual_board.url)):
            board.wait_network()


def test_an_image_for_another_chip_is_refused(virtual_board, images, provisioning, tmp_path):
    other = dataclasses.replace(images, chip="esp32s3")
    with virtual_board.open(tmp_path / "c.log") as board, pytest.raises(ConfigError, match="esp32s3"):
        board.flash(other, provisioning)
