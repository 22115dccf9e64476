"""``rig run`` and ``rig demo``: a plan through pytest, told line by line, and its reports."""

import argparse
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, TextIO

import pytest
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rig.cli.interruption import INTERRUPTION
from rig.errors import BenchError, ConfigError
from rig.evidence.record import new_run_id
from rig.evidence.verdicts import State
from rig.formats.checked_yaml import CheckedModel, load_checked
from rig.testplans import HERE

STYLES = {
    State.PASS: "green",
    State.FAIL: "bold red",
    State.ERROR: "bold magenta",
    State.INCONCLUSIVE: "yellow",
    State.CONDITIONAL: "yellow",
    State.DEVIATION: "yellow",
    State.NOT_RUN: "dim",
    State.NOT_SUPPORTED: "dim",
}


class Plan(CheckedModel):
    """A plan: which test modules run, in which order."""

    title: str
    tests: tuple[str, ...]


def load_plan(name: str) -> tuple[str, Plan, Path]:
    """Return name, content and folder of a plan: one that comes with the rig, or a file."""
    shipped = HERE / f"{name}.yaml"
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in HERE.glob("*.yaml") if one.stem != "limits"))
        raise ConfigError(f"no plan is called {name!r}, and there is no such file (plans: {known})")
    return path.stem, load_checked(path, Plan), path.parent


def run_plan(name: str, options: argparse.Namespace, *, bench_file: Path | None) -> int:
    """Run a plan and return the exit code of :mod:`rig.cli.main`."""
    if bench_file is not None and options.fault:
        raise ConfigError("--fault chooses a faulty virtual board; it does not go with --bench")
    if bench_file is not None and options.carrier:
        raise ConfigError("--carrier chooses a virtual board; it does not go with --bench")
    if bench_file is not None and options.meter:
        raise ConfigError("--meter chooses a virtual instrument; it does not go with --bench")
    stem, plan, folder = load_plan(name)
    run_dir = (options.run_dir or Path("runs") / new_run_id()).absolute()
    # A stream of its own: pytest captures what the tests print on the standard ones.
    # Not one of the first three descriptors, which pytest takes over even where they were closed.
    own = fcntl.fcntl(2 if options.json else 1, fcntl.F_DUPFD_CLOEXEC, 3)
    with os.fdopen(own, "w", encoding="utf-8") as stream:
        progress = Progress(stream)
        progress.begin(plan, run_dir)
        code = pytest.main(_pytest_arguments(stem, plan, folder, run_dir, options, bench_file), plugins=[progress])
        return _conclude(code, run_dir, progress, as_json=options.json)


def _pytest_arguments(
    stem: str, plan: Plan, folder: Path, run_dir: Path, options: argparse.Namespace, bench_file: Path | None
) -> list[str]:
    arguments = [str(folder / test) for test in plan.tests]
    arguments += ["-c", str(HERE / "pytest.ini"), f"--rootdir={folder.absolute()}", "-p", "no:terminal"]
    arguments += [f"--rig-plan={stem}", f"--rig-run-dir={run_dir}", f"--rig-flash={options.flash}"]
    arguments += [f"--junitxml={run_dir / 'junit.xml'}"]
    arguments += [f"--rig-bench={bench_file.absolute()}"] if bench_file else []
    arguments += [f"--rig-virtual-fault={options.fault}"] if options.fault else []
    arguments += [f"--rig-virtual-carrier={options.carrier}"] if options.carrier else []
    arguments += [f"--rig-virtual-meter={options.meter}"] if options.meter else []
    arguments += [f"--rig-limits={options.limits.absolute()}"] if options.limits else []
    arguments += [f"--rig-baseline={options.baseline.absolute()}"] if options.baseline else []
    arguments += [f"--rig-usage={options.usage.absolute()}"] if options.usage else []
    arguments += [f"--rig-profile={options.profile}"]
    arguments += ["-k", options.keyword] if options.keyword else []
    arguments += [f"--rig-only={options.only}"] if options.only else []
    arguments += ["-n", str(options.jobs)] if options.jobs > 1 else []
    return arguments


def _conclude(code: int, run_dir: Path, progress: "Progress", *, as_json: bool) -> int:
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise ConfigError("no test of the plan fits -k and --only")
    if code == pytest.ExitCode.USAGE_ERROR:
        return 2  # pytest has said why
    if code == pytest.ExitCode.INTERNAL_ERROR:
        raise BenchError(f"pytest could not run the plan: {progress.trouble}")
    if not (run_dir / "summary.json").is_file():
        raise ConfigError('no test of the plan verifies a requirement: mark one with @pytest.mark.requirement("ID")')
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    progress.end(summary, run_dir)
    if as_json:
        print(json.dumps(summary, indent=1))
    if INTERRUPTION.asked:
        return 130
    return exit_code(summary)


def exit_code(summary: dict[str, Any]) -> int:
    """Return the exit code that the verdicts of a run amount to."""
    verdicts = summary["verdicts"]
    states = {State(row["state"]) for row in verdicts}
    if State.FAIL in states or any(row.get("side") == "fail" for row in verdicts):
        return 1
    if State.ERROR in states:
        return 2
    return 3 if states & {State.INCONCLUSIVE, State.NOT_RUN} or not states else 0


class Progress:
    """The pytest plugin that tells a run on a terminal, in place of pytest's own reporter."""

    def __init__(self, stream: TextIO) -> None:
        # A file or a pipe has no width of its own; a narrow guess would cut the figures.
        self.console = Console(file=stream, highlight=False, width=None if stream.isatty() else 160)
        self.trouble = ""
        self._began = time.monotonic()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Take the name under which the fixtures look for somebody to tell their progress to."""
        if config.pluginmanager.get_plugin("rig-progress") is None:
            config.pluginmanager.register(_Sayer(self.console), "rig-progress")

    def begin(self, plan: Plan, run_dir: Path) -> None:
        """Tell what runs."""
        self.console.print(f"[bold]{escape(plan.title)}[/]  record: {escape(str(run_dir))}", soft_wrap=True)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell which test begins."""
        clear_line(self.console)
        self.console.print(f"  [dim]...[/] {escape(_short(nodeid))}", end="" if self.console.is_terminal else "\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell how a test ended."""
        if report.when != "call" and report.outcome == "passed":
            return
        clear_line(self.console)
        ids = " ".join(str(value) for key, value in report.user_properties if key == "verifies")
        word, style = {"passed": ("ok", "green"), "skipped": ("not run", "dim")}.get(
            report.outcome, ("not ok", "bold red")
        )
        self.console.print(f"  [{style}]{word:7}[/] {ids:8} {escape(_short(report.nodeid))} ({report.duration:.1f} s)")
        if report.outcome == "failed":
            self.console.print(f"          {escape(_reason(report))}", style="red", soft_wrap=True)

    def pytest_runtest_logfinish(self) -> None:
        """End the run when it was asked to end during a test that did not."""
        INTERRUPTION.check()

    def pytest_internalerror(self, excrepr: object) -> None:
        """Keep what went wrong inside pytest."""
        self.trouble = str(excrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why a test module could not be read."""
        if report.failed:
            self.trouble = report.longreprtext

    def end(self, summary: dict[str, Any], run_dir: Path) -> None:
        """Print the verdicts, the figures, and where the report is."""
        self.console.print()
        self.console.print(verdict_table(summary))
        if summary["measurements"]:
            self.console.print(measurement_table(summary))
        self.console.print(f"{time.monotonic() - self._began:.0f} s; report: {run_dir / 'report.html'}", soft_wrap=True)


class _Sayer:
    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        """Print one line of progress."""
        clear_line(self._console)
        self._console.print(f"  [dim]{escape(line)}[/]")


def clear_line(console: Console) -> None:
    """Take back the name of the test that began last, which stands on a terminal's last line till something is said."""
    if console.is_terminal:
        console.file.write("\r\x1b[K")


def _short(nodeid: str) -> str:
    return nodeid.rsplit("::", 1)[-1].removeprefix("test_").replace("_", " ")


def _reason(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message) if crash is not None else report.longreprtext
    return text.strip().splitlines()[0] if text.strip() else "no reason given"


def verdict_table(summary: dict[str, Any]) -> Table:
    """Return the verdicts of a run as a table for the terminal."""
    table = Table(title="Verdicts", title_justify="left", box=None)
    for column in ("requirement", "state", "observed"):
        table.add_column(column)
    for row in summary["verdicts"]:
        state = State(row["state"])
        side = f" ({row['side']} side)" if row.get("side") else ""
        table.add_row(row["requirement"], f"[{STYLES[state]}]{state}{side}[/]", escape(str(row.get("observed") or "")))
    return table


def measurement_table(summary: dict[str, Any]) -> Table:
    """Return the measurements of a run as a table for the terminal."""
    table = Table(title="Measurements", title_justify="left", box=None)
    for column in ("name", "value", "unit", "U (k)", "limit", "state"):
        table.add_column(column)
    for row in summary["measurements"]:
        limit = row["limit"] or {}
        bounds = [
            f"{word} {limit[key]:g}" for key, word in (("min", ">="), ("max", "<=")) if limit.get(key) is not None
        ]
        uncertainty = row["expanded_uncertainty"]
        spread = "none" if uncertainty is None else f"{uncertainty:.2g} ({row['k']:.2f})"
        state = State(row["state"])
        table.add_row(
            row["name"], f"{row['value']:.4g}", row["unit"], spread, " ".join(bounds), f"[{STYLES[state]}]{state}[/]"
        )
    return table
