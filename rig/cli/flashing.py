"""Flashing and provisioning every board of a bench file, several at a time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rig.bench.bench import provisioning_of
from rig.bench.config import BoardConfig, load_bench
from rig.board import Board
from rig.clock import now_s
from rig.formats.flasher_args import read_image_set

_AT_ONCE = 4


def flash_boards(bench_file: Path, log_directory: Path) -> None:
    """Flash each board with the firmware and credentials that the bench file names, and wait for its network."""
    config = load_bench(bench_file)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for outcome in [pool.submit(_flash, board, bench_file, log_directory) for board in config.boards]:
            outcome.result()


def _flash(board: BoardConfig, bench_file: Path, log_directory: Path) -> None:
    assert board.port is not None
    assert board.firmware is not None
    images = read_image_set(bench_file.parent / board.firmware)
    log = log_directory / f"flash-{board.name}.log"
    with Board(board.name, board.port, board.mac, log) as opened:
        since_s = now_s()
        opened.flash(images, provisioning_of(board, bench_file), "auto")
        opened.wait_network(20.0, since_s=since_s)
