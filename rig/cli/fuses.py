"""``rig fuses``: what is burnt into a chip, in words, beside what a release wants."""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rig.bench.bench import board_of, fed
from rig.bench.config import BoardConfig, load_bench
from rig.board import SecurityFuses, read_fuses_at
from rig.errors import ConfigError


def show_fuses(bench: Path | None, name: str | None, port: str | None, *, as_json: bool) -> int:
    """Print the fuses of the boards of a bench file, of one of them, or of the board at *port*."""
    if port is not None and name is not None:
        raise ConfigError("--board names a board of a bench file; it does not go with --port")
    read = [(port, read_fuses_at(port))] if port is not None else list(_of_bench(bench, name))
    if as_json:
        print(json.dumps({"boards": [{"board": board, **_for_machines(fuses)} for board, fuses in read]}, indent=1))
        return 0
    for board, fuses in read:
        _print(board, fuses)
    return 0


def _of_bench(bench: Path | None, name: str | None) -> Iterator[tuple[str, SecurityFuses]]:
    assert bench is not None
    with tempfile.TemporaryDirectory(prefix="rig-fuses-") as logs:
        for board in _chosen(bench, name):
            with board_of(board, bench, Path(logs) / f"console-{board.name}.log") as opened, fed(board, bench):
                yield board.name, opened.fuses()


def _chosen(bench: Path, name: str | None) -> list[BoardConfig]:
    flashable = [board for board in load_bench(bench).boards if isinstance(board, BoardConfig)]
    boards = [board for board in flashable if name in (None, board.name)]
    if not boards:
        raise ConfigError(f"{bench}: no board{f' called {name!r}' if name else ''} with a port, so no fuses to read")
    return boards


def _for_machines(fuses: SecurityFuses) -> dict[str, object]:
    return {**asdict(fuses), "explained": [asdict(row) for row in fuses.explained()]}


def _print(board: str, fuses: SecurityFuses) -> None:
    table = Table(
        "asked by", "subject", "burnt", "a release wants", box=None, title_justify="left",
        title=f"{escape(board)}: {fuses.mac}, ESP32-C3 {fuses.revision}",
    )  # fmt: skip
    for row in fuses.explained():
        table.add_row(row.requirement, row.subject, escape(row.state), row.release)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
