"""What is in flash is what runs: stock esptool, images that differ, and one that is damaged."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rig.virtual.firmware import build_image_set

Board = dict[str, Any]


def esptool(board: Board, *arguments: str) -> None:
    command = [sys.executable, "-m", "esptool", "--chip", "esp32c3", "--port", board["console"]]
    run = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def write(board: Board, images: Path) -> None:
    files = ["0x0", "bootloader/bootloader.bin", "0x8000", "partition_table/partition-table.bin"]
    files += ["0x10000", "coaps_server.bin"]
    paths = [name if name.startswith("0x") else str(images / name) for name in files]
    esptool(board, "--before", "default-reset", "write-flash", *paths)


def ask_once_up(board: Board, path: str) -> str:
    """Ask until the board, which esptool has just reset, no longer refuses; the bound ends a test that would hang."""
    for _ in range(100):
        answer = ask(board, path)
        if "refused" not in answer:
            return answer
        time.sleep(0.1)
    raise AssertionError("the board does not come up")


def ask(board: Board, path: str) -> str:
    url = f"coaps://{board['coaps']['host']}:5684{path}"
    command: list[str | bytes] = ["coap-client-openssl", "-B", "10", "-u", board["identity"], "-k"]
    run = subprocess.run([*command, bytes.fromhex(board["psk_hex"]), url], capture_output=True, check=False)
    return run.stdout.decode().strip()


@pytest.mark.parametrize("light", ["on", "off"])
def test_builds_that_differ_in_the_first_value_of_light_answer_differently(
    flashed_board: Board, tmp_path: Path, light: str
) -> None:
    write(flashed_board, build_image_set(tmp_path / "build", light_initial=light))
    assert ask_once_up(flashed_board, "/light") == light


def test_flash_reads_back_as_it_was_written(blank_board: Board, tmp_path: Path) -> None:
    images = build_image_set(tmp_path / "build")
    write(blank_board, images)
    for offset, name in (("0x8000", "partition_table/partition-table.bin"), ("0x10000", "coaps_server.bin")):
        written = (images / name).read_bytes()
        back = tmp_path / "back.bin"
        esptool(blank_board, "read-flash", offset, str(len(written)), str(back))
        assert back.read_bytes() == written


def test_a_damaged_image_does_not_boot_and_the_rig_says_why(blank_board: Board, tmp_path: Path, rig: Any) -> None:
    images = build_image_set(tmp_path / "build")
    app = images / "coaps_server.bin"
    damaged = bytearray(app.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    app.write_bytes(damaged)
    write(blank_board, images)
    run = rig("run", "--bench", blank_board["bench"], "--flash", "never", "-k", "ccm_8")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "does not start: E" in run.stdout
    assert "esp_image: Checksum failed" in run.stdout
