"""The commands that look and tell: report, doctor, bench."""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rig.errors import ConfigError


def report(run: Path, *, as_json: bool) -> int:
    """Write the reports of the run in folder *run* again, and print their paths."""
    from rig.evidence.record import JOURNAL
    from rig.reports.write import write_reports

    if not (run / JOURNAL).is_file():
        raise ConfigError(f"{run}: is not a run's folder: it has no {JOURNAL}")
    written = write_reports(run)
    if as_json:
        print(json.dumps({"files": [str(path) for path in written]}))
    else:
        for path in written:
            print(path)
    return 0


def doctor(bench: Path | None, *, as_json: bool) -> int:
    """Check a bench, or a virtual one where no file is named; exit code 2 when something is wrong."""
    from rig.bench.virtual import virtual_bench
    from rig.cli.flashing import flash_boards

    with tempfile.TemporaryDirectory(prefix="rig-doctor-") as directory:
        logs = Path(directory)
        if bench is not None:
            return _diagnose(bench, logs, as_json=as_json)
        with virtual_bench(logs / "virtual") as file:
            flash_boards(file, logs)
            return _diagnose(file, logs, as_json=as_json)


def _diagnose(bench: Path, logs: Path, *, as_json: bool) -> int:
    from rig.bench.doctor import examine

    findings = examine(bench, logs)
    if as_json:
        print(json.dumps({"findings": [asdict(one) for one in findings]}, indent=1))
    else:
        table = table_of("part", "check", "", "")
        for one in findings:
            table.add_row(one.part, one.check, "[green]ok[/]" if one.ok else "[bold red]wrong[/]", escape(one.detail))
        print_table(table)
    return 0 if all(one.ok for one in findings) else 2


def show_bench(file: Path, *, as_json: bool) -> int:
    """Print a bench file as it was understood; secrets are shown by where they are."""
    import yaml

    from rig.bench.config import load_bench

    model = load_bench(file).model_dump(mode="json", exclude_none=True)
    print(json.dumps(model, indent=1) if as_json else yaml.safe_dump(model, sort_keys=False).rstrip())
    return 0


def print_table(table: Table) -> None:
    """Print *table* in the terminal's width, or in one that cuts nothing where there is no terminal."""
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def table_of(*columns: str) -> Table:
    """Return an empty table without a frame."""
    table = Table(box=None)
    for column in columns:
        table.add_column(column)
    return table
