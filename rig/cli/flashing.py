"""Flashing and provisioning the boards of a bench file, several at a time; ``rig flash``."""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Literal, TypeVar

from rig.bench.bench import board_of, fed, provisioning_of
from rig.bench.config import BoardConfig, load_bench
from rig.board import Board, FlashedPart, FlashReport
from rig.errors import ConfigError, DeviceError, RigError
from rig.formats.flasher_args import read_image_set

_AT_ONCE = 4
_NETWORK_TIMEOUT_S = 20.0

Mode = Literal["auto", "always"]
Result = TypeVar("Result")


def flash_boards(bench_file: Path, log_directory: Path) -> None:
    """Flash each board with the firmware and credentials that the bench file names, and wait for its network."""

    def flash(config: BoardConfig, board: Board) -> None:
        _flash(config, board, bench_file, "auto")
        board.wait_network(_NETWORK_TIMEOUT_S)

    for outcome in _with_each(_flashable(bench_file), bench_file, log_directory, flash):
        outcome.result()


def flash_bench(bench_file: Path, name: str | None, mode: Mode, *, as_json: bool) -> int:
    """Flash the boards of a bench file, or the one called *name*, and print what became of each part.

    Exit code 1 where a board failed to store what it was sent, 2 where something else went wrong with one.
    """
    boards = _chosen(bench_file, name)
    reports: dict[str, FlashReport] = {}
    errors: dict[str, RigError] = {}
    with tempfile.TemporaryDirectory(prefix="rig-flash-") as logs:
        outcomes = _with_each(
            boards, bench_file, Path(logs), lambda config, board: _flash(config, board, bench_file, mode)
        )
        for config, outcome in zip(boards, outcomes, strict=True):
            try:
                reports[config.name] = outcome.result()
            except RigError as error:
                errors[config.name] = error
    _print(reports, errors, as_json=as_json)
    if any(isinstance(error, DeviceError) for error in errors.values()):
        return 1
    return 2 if errors else 0


def _chosen(bench_file: Path, name: str | None) -> list[BoardConfig]:
    """Return the boards to flash: the one asked for, which must be able to, or all that are."""
    boards = [board for board in _flashable(bench_file) if name in (None, board.name)]
    able = [board for board in boards if board.firmware is not None]
    if not able:
        who = f"no board called {name!r}" if name is not None and not boards else "no board with a port and firmware"
        raise ConfigError(f"{bench_file}: {who}, so nothing to flash; correct the name, or add the keys")
    return able


def _flashable(bench_file: Path) -> list[BoardConfig]:
    return [board for board in load_bench(bench_file).boards if isinstance(board, BoardConfig)]


def _with_each(
    boards: Sequence[BoardConfig], bench_file: Path, logs: Path, action: Callable[[BoardConfig, Board], Result]
) -> list[Future[Result]]:
    """Open each board and do *action* with it; when this returns, all is done."""

    def open_and_act(config: BoardConfig) -> Result:
        with board_of(config, bench_file, logs / f"flash-{config.name}.log") as board, fed(config, bench_file):
            return action(config, board)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [pool.submit(open_and_act, config) for config in boards]


def _flash(config: BoardConfig, board: Board, bench_file: Path, mode: Mode) -> FlashReport:
    assert config.firmware is not None
    images = read_image_set(bench_file.parent / config.firmware)
    return board.flash(images, provisioning_of(config, bench_file), mode)


def _print(reports: Mapping[str, FlashReport], errors: Mapping[str, RigError], *, as_json: bool) -> None:
    if as_json:
        boards = [{"board": name, **_for_machines(report)} for name, report in reports.items()]
        failed = [{"board": name, "error": str(error)} for name, error in errors.items()]
        print(json.dumps({"boards": boards, "failed": failed}, indent=1))
        return
    for name, report in reports.items():
        app = f"{report.app.project} {report.app.version}"
        print(f"{name}: {report.mac}, {report.chip}, {app}: {report.duration_s:.2f} s")
        for part in report.parts:
            print(f"  {_line(part)}")
    for name, error in errors.items():
        print(f"rig: {name}: {error}", file=sys.stderr)


def _line(part: FlashedPart) -> str:
    done = f"{part.written_bytes} of {part.size} bytes written" if part.written_bytes else "in flash already"
    return f"{part.name:<16} {part.offset:#8x} {part.size:>8} bytes  {done}, MD5 {part.verified_md5} verified"


def _for_machines(report: FlashReport) -> dict[str, object]:
    fields = asdict(report)
    fields["app"]["elf_sha256"] = report.app.elf_sha256.hex()
    return fields
