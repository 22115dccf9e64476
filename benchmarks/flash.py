"""Flashing: the rig beside stock esptool's command line, on virtual boards, in one run (some three minutes).

    python -m benchmarks.flash [--json]

Each figure is wall time. esptool is called as people call it, so that its start is in its figures (and given by
itself); the rig runs already and opens the port anew each time. Both write the same bootloader, partition table and
application of 1 MiB: "compressible" shrinks to two thirds, as firmware does, "random" not at all. "first" is a blank
flash, "again" the same files once more, for esptool with --skip-flashed; "all again" writes them once more all the
same. "identify" is connect, chip, MAC, flash size, and reset; a pty has no lines for a reset, so boards there are in
download mode and stay in it.

The line is not paced, so that what is compared is overhead: bytes arrive as fast as they are sent, and flash stores at
once. A real UART's baud rate comes on top for both; the rows "at 460800 baud" have it, with the flash's own time.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.output import run as run_benchmark
from rig.board import SerialPort, flash
from rig.board.flash import Mode
from rig.board.loader import connect, esptool_output_to, read_mac
from rig.formats import image, partitions
from rig.formats.flasher_args import ImageSet, read_image_set

FLASH_BAUDRATE = "460800"
APP_BYTES = 1 << 20
CONTENTS = ("compressible", "random")
PORTS = ("rfc2217", "pty")
TABLE = "nvs, data, nvs, 0x9000, 24K\nphy_init, data, phy, , 4K\nfactory, app, factory, 0x10000, 2M\n"
REPEATS = 5
_OVERHEAD_BYTES = 1024  # of an image around what it carries, more or less


@dataclass(frozen=True)
class VirtualBoard:
    """A board process: its MAC, and what a client opens."""

    mac: str
    port: str


def measure(scratch: Path) -> dict[str, object]:
    images = {content: image_set(scratch / content, filling(content)) for content in CONTENTS}
    stock, rig = {}, {}
    for port in PORTS:
        for content, files in images.items():
            name = f"{port}, {content}"
            with virtual_board(scratch, port) as board:
                stock[f"{name}, first"] = seconds(esptool, board, *write_flash(files))
                stock[f"{name}, again"] = seconds(esptool, board, *write_flash(files, "--skip-flashed"))
            with virtual_board(scratch, port) as board:
                rig[f"{name}, first"] = seconds(flash_with_rig, board, files)
                rig[f"{name}, again"] = median_seconds(flash_with_rig, board, files)
                rig[f"{name}, all again"] = median_seconds(flash_with_rig, board, files, "always")
        with virtual_board(scratch, port) as board:
            stock[f"{port}, identify"] = seconds(esptool, board, "flash-id")
            rig[f"{port}, identify"] = median_seconds(identify, board)
    with virtual_board(scratch, "rfc2217", pace_baud=True, write_latency=True) as board:
        for content, files in images.items():
            name = f"rfc2217 at 460800 baud, {content}"
            rig[f"{name}, first"] = seconds(flash_with_rig, board, files)
            rig[f"{name}, again"] = seconds(flash_with_rig, board, files)
    return {
        "stock_over_rig": {name: round(stock[name] / rig[name], 1) for name in stock},
        "stock_s": rounded(stock),
        "rig_s": rounded(rig),
        "esptool_start_s": round(median_seconds(run_esptool, "version"), 3),
        "aims": aims(stock, rig),
    }


def aims(stock: dict[str, float], rig: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return each aim with its limit and what was reached. Transfer: what writing adds to looking."""
    transfer = {port: rig[f"{port}, random, all again"] - rig[f"{port}, random, again"] for port in PORTS}
    paced = "rfc2217 at 460800 baud, random"
    return {
        "rig identifies over RFC 2217 within": aim(0.5, rig["rfc2217, identify"]),
        "transfer over RFC 2217, times the pty's, at most": aim(1.5, transfer["rfc2217"] / transfer["pty"]),
        "stock over rig, 1 MiB random over RFC 2217, at least": aim(
            20, stock["rfc2217, random, first"] / rig["rfc2217, random, first"]
        ),
        "again, share of the first, at most": aim(0.05, rig["rfc2217, random, again"] / rig["rfc2217, random, first"]),
        "again, share of the first, at 460800 baud, at most": aim(
            0.05, rig[f"{paced}, again"] / rig[f"{paced}, first"]
        ),
        "again, share of stock's first, at most": aim(
            0.05, rig["rfc2217, random, again"] / stock["rfc2217, random, first"]
        ),
    }


def aim(limit: float, reached: float) -> dict[str, float]:
    return {"limit": limit, "reached": round(reached, 3)}


def table(result: dict[str, object]) -> str:
    stock, rig, ratios, goals = (result[key] for key in ("stock_s", "rig_s", "stock_over_rig", "aims"))
    assert isinstance(stock, dict)
    assert isinstance(rig, dict)
    assert isinstance(ratios, dict)
    assert isinstance(goals, dict)
    lines = [f"{'':<48}{'esptool':>10}{'rig':>10}{'ratio':>8}"]
    for name, rig_s in rig.items():
        beside = f"{stock[name]:>8.2f} s{rig_s:>8.2f} s{ratios[name]:>8.1f}" if name in stock else f"{rig_s:>18.2f} s"
        lines.append(f"{name:<48}{beside}")
    lines += [f"esptool's start alone: {result['esptool_start_s']} s", "", f"{'':<60}{'aim':>8}{'reached':>10}"]
    return "\n".join([*lines, *(f"{name:<60}{one['limit']:>8}{one['reached']:>10}" for name, one in goals.items())])


def filling(content: str) -> bytes:
    """Return a program that says nothing by itself, with as much behind it as makes an application of 1 MiB."""
    program = Path("/bin/cat").read_bytes()
    rest = random.Random(1).randbytes(APP_BYTES - _OVERHEAD_BYTES - len(program))
    return program + (rest if content == "random" else bytes(byte & 31 for byte in rest))


def image_set(directory: Path, carried: bytes) -> ImageSet:
    """Write a build directory whose application carries these bytes, and read it."""
    files = {
        0: ("bootloader", image.build_bootloader()),
        partitions.TABLE_OFFSET: ("partition-table", partitions.table_from_csv(TABLE)),
        0x10000: ("app", image.build_host_image(carried, project="benchmark", version="1")),
    }
    directory.mkdir()
    for name, data in files.values():
        (directory / f"{name}.bin").write_bytes(data)
    entries = {name: {"offset": hex(offset), "file": f"{name}.bin"} for offset, (name, _) in files.items()}
    flash_files = {entry["offset"]: entry["file"] for entry in entries.values()}
    arguments = {"flash_files": flash_files, **entries, "extra_esptool_args": {"chip": "esp32c3"}}
    (directory / "flasher_args.json").write_text(json.dumps(arguments))
    return read_image_set(directory)


_numbers = iter(range(1, 256))


@contextmanager
def virtual_board(scratch: Path, port: str, **switches: object) -> Iterator[VirtualBoard]:
    """Run a board with a blank flash."""
    pid, number = os.getpid(), next(_numbers)
    mac = f"02:20:00:{number:02x}:{pid >> 8 & 255:02x}:{pid & 255:02x}"
    directory = scratch / f"board{number}"
    directory.mkdir()
    config = {
        "name": "dut",
        "mac": mac,
        "address": f"127.{128 + (pid >> 16 & 63)}.{pid >> 8 & 255}.{max(pid & 255, 1)}",
        "flash": str(directory / "flash.bin"),
        "truth": str(directory / "truth.csv"),
        "supply": None,
        "ports": [port],
        "boot_strap": "download" if port == "pty" else "normal",
        **switches,
    }
    (directory / "board.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "rig.virtual.board", "--config", str(directory / "board.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield VirtualBoard(mac, json.loads(process.stdout.readline())[port])
        process.stdin.close()


def flash_with_rig(board: VirtualBoard, images: ImageSet, mode: Mode = "auto") -> None:
    with SerialPort(board.port) as port:
        flash(port, images, mac=board.mac, mode=mode)


def identify(board: VirtualBoard) -> None:
    """Do what `esptool flash-id` does."""
    with SerialPort(board.port) as port, esptool_output_to(None):
        loader = connect(port)
        assert read_mac(port, loader) == board.mac
        loader.flash_spi_attach(0)
        loader.flash_id()
        if port.has_reset_lines:
            port.hard_reset()


def esptool(board: VirtualBoard, *command: str) -> None:
    connection = ["--chip", "esp32c3", "--port", board.port, "--baud", FLASH_BAUDRATE]
    without_lines = ["--before", "no-reset", "--after", "no-reset"] if board.port.startswith("/") else []
    run_esptool(*connection, *without_lines, *command)


def run_esptool(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "esptool", *arguments], check=True, stdout=subprocess.DEVNULL)


def write_flash(images: ImageSet, *options: str) -> list[str]:
    return ["write-flash", *options, *(word for file in images.files for word in (hex(file.offset), str(file.path)))]


def median_seconds(action: Callable[..., object], *arguments: object) -> float:
    return statistics.median(seconds(action, *arguments) for _ in range(REPEATS))


def seconds(action: Callable[..., object], *arguments: object) -> float:
    start_s = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - start_s


def rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()}


if __name__ == "__main__":
    run_benchmark(__doc__, measure, table)
