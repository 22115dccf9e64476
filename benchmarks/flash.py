"""Flashing: the rig beside stock esptool, over one virtual board, in one run.

    python -m benchmarks.flash [--json]

Each figure is the wall time from "somebody wants this firmware on that board" to "the board restarts with it", MAC
check and MD5 verification included: the rig in a running process, esptool as its command line is used.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.output import run as run_benchmark
from rig.board import Board, Provisioning, nvs_image
from rig.formats import partitions
from rig.formats.flasher_args import ImageSet, read_image_set
from rig.virtual.firmware import build_image_set

FLASH_BAUDRATE = "460800"
PROVISIONING = Provisioning("board-1", bytes(range(1, 17)), "lab", "open sesame")


def measure(scratch: Path) -> dict[str, object]:
    images = read_image_set(build_image_set(scratch / "firmware"))
    mac = f"02:20:00:00:{os.getpid() >> 8 & 255:02x}:{os.getpid() & 255:02x}"
    with virtual_board(scratch, mac) as url:
        with Board("dut", url, mac, scratch / "console.log") as board:
            figures = {
                "rig, blank board": seconds(lambda: board.flash(images, PROVISIONING)),
                "rig, nothing changed": seconds(lambda: board.flash(images, PROVISIONING)),
                "rig, all written again": seconds(lambda: board.flash(images, PROVISIONING, mode="always")),
            }
        command = esptool_command(url, images, scratch)
        figures["esptool write-flash"] = seconds(lambda: run(command))
        figures["esptool write-flash --skip-flashed"] = seconds(lambda: run([*command, "--skip-flashed"]))
    size = sum(file.path.stat().st_size for file in images.files) + nvs_partition(images).size
    return {"image_bytes": size, "duration_s": {name: round(value, 3) for name, value in figures.items()}}


def table(result: dict[str, object]) -> str:
    figures = result["duration_s"]
    assert isinstance(figures, dict)
    rows = [f"{name:<36} {duration_s:>8.2f} s" for name, duration_s in figures.items()]
    return "\n".join([f"{result['image_bytes']} bytes in four parts, RFC 2217 on loopback", *rows])


@contextmanager
def virtual_board(scratch: Path, mac: str) -> Iterator[str]:
    pid = os.getpid()
    config = {
        "name": "dut",
        "mac": mac,
        "address": f"127.{128 + (pid >> 16 & 63)}.{pid >> 8 & 255}.{max(pid & 255, 1)}",
        "flash": str(scratch / "flash.bin"),
        "truth": str(scratch / "truth.csv"),
        "supply": None,
    }
    (scratch / "board.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "rig.virtual.board", "--config", str(scratch / "board.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["console"]
        process.stdin.close()


def esptool_command(url: str, images: ImageSet, scratch: Path) -> list[str]:
    nvs = nvs_partition(images)
    nvs_path = scratch / "nvs.bin"
    nvs_path.write_bytes(nvs_image(PROVISIONING, nvs.size))
    parts = [word for file in images.files for word in (hex(file.offset), str(file.path))]
    connection = ["--chip", images.chip, "--port", url, "--baud", FLASH_BAUDRATE]
    return [sys.executable, "-m", "esptool", *connection, "write-flash", *parts, hex(nvs.offset), str(nvs_path)]


def nvs_partition(images: ImageSet) -> partitions.Partition:
    entries = partitions.parse_table(images.file("partition-table").path.read_bytes())
    found = partitions.credentials(entries)
    assert found is not None
    return found


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def seconds(action: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    action()
    return time.perf_counter() - start_s


if __name__ == "__main__":
    run_benchmark(__doc__, measure, table)
