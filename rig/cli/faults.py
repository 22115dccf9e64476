"""``rig faults``: the faulty devices of the virtual bench, and the matrix that shows which of them the plan finds."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape

from rig.cli.commands import print_table, table_of
from rig.errors import ConfigError
from rig.virtual.faults import FAULTS, Fault
from rig.virtual.faults.baseline import Baseline, load_baseline

PLAN = "full"
SENTINELS = ("PSK-01", "CK-01", "CS-04", "REC-01", "REC-07", "HS-13", "ALR-01", "COAP-01", "COAP-16", "OBS-01")
"""Ids that a run against a fault's own ids judges too: what was right must stay so."""
RUN_TIMEOUT_S = 1800.0
RED = ("fail", "deviation")
UNSETTLED = ("error", "inconclusive")

RowState = Literal["killed", "alive", "false alarm", "healthy", "no run"]


@dataclass(frozen=True)
class Row:
    """One device and what the plan found. ``red`` and ``unsettled`` are beyond the carrier's baseline."""

    name: str
    carrier: str
    seed: str
    expected: tuple[str, ...]
    red: tuple[str, ...]
    unsettled: tuple[str, ...]
    state: RowState
    duration_s: float
    detail: str = ""


def faults(options: argparse.Namespace) -> int:
    """List the faulty devices, or run the plan against each of them (and the healthy carriers) with ``--run``."""
    chosen = _chosen(options.names)
    if not options.run:
        return _list(chosen, as_json=options.json)
    rows = run_matrix(chosen, with_healthy=not options.names, jobs=options.jobs, own=options.own, runs=options.runs)
    if options.out is not None:
        options.out.write_text(markdown(rows), encoding="utf-8")
    if options.json:
        print(json.dumps({"faults": [asdict(row) for row in rows], "totals": totals(rows)}, indent=1))
    else:
        _print(rows)
    return 0 if all(row.state in ("killed", "healthy") for row in rows) else 1


def run_matrix(
    chosen: Sequence[Fault], *, with_healthy: bool, jobs: int, own: bool, runs: Path | None
) -> tuple[Row, ...]:
    """Run the plan against each fault, *jobs* at a time, and with *with_healthy* against each carrier without one.

    *own* judges only a fault's own ids and the sentinels. *runs* keeps the records, which are thrown away otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="rig-faults-") as scratch:
        folder = runs.absolute() if runs is not None else Path(scratch)
        parts: list[Callable[[], Row]] = [partial(_faulty, fault, folder, own) for fault in chosen]
        parts += [partial(healthy, carrier, folder, own) for carrier in ("firmware", "device")] if with_healthy else []
        with ThreadPoolExecutor(jobs) as pool:
            rows = list(pool.map(_told, parts))
        # Timing verdicts are inconclusive on a busy host: what has none is looked at again, alone.
        for index, fault in enumerate(chosen):
            if rows[index].state == "alive" and fault.turns_red[0] in rows[index].unsettled:
                rows[index] = _told(partial(_faulty, fault, folder / "again", own))
        return tuple(rows)


def totals(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many rows ended in each state."""
    return dict(Counter(row.state for row in rows))


def markdown(rows: Sequence[Row]) -> str:
    """Return the matrix as a page for the documentation."""
    counts = ", ".join(f"{count} {state}" for state, count in totals(rows).items())
    lines = [
        "# Faulty devices and what the plan finds",
        "",
        f"Written by `rig faults --run`: {counts}. *Red* is what is failed or deviates beyond the carrier's baseline.",
        "",
        "| fault | seed | carrier | named | red | state |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        expected, red = ", ".join(row.expected), ", ".join(row.red)
        lines.append(f"| {row.name} | {row.seed} | {row.carrier} | {expected} | {red} | {row.state} |")
    return "\n".join(lines) + "\n"


def _chosen(names: Sequence[str]) -> list[Fault]:
    known = {fault.name: fault for fault in FAULTS}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"no faulty device is called {', '.join(unknown)}; `rig faults` lists them")
    return [known[name] for name in names] or list(FAULTS)


def _list(chosen: Sequence[Fault], *, as_json: bool) -> int:
    if as_json:
        rows = [
            {
                "name": one.name,
                "title": one.title,
                "seed": one.seed,
                "carrier": one.carrier,
                "requirements": list(one.turns_red),
            }
            for one in chosen
        ]
        print(json.dumps({"faults": rows}, indent=1))
        return 0
    table = table_of("name", "seed", "carrier", "what is wrong", "turns red")
    for one in chosen:
        table.add_row(one.name, one.seed, one.carrier, escape(one.title), ", ".join(one.turns_red))
    print_table(table)
    return 0


def _faulty(fault: Fault, folder: Path, own: bool) -> Row:
    options = ["--fault", fault.name, "--profile", fault.profile]
    if own:
        options += ["--only", ",".join(dict.fromkeys((*fault.turns_red, *SENTINELS)))]
    began_s = time.monotonic()
    states, detail = _run(fault.name, options, folder)
    red, unsettled = _beyond(states, load_baseline(fault.carrier))
    return Row(
        fault.name,
        fault.carrier,
        fault.seed,
        fault.turns_red,
        red,
        unsettled,
        _verdict(fault, red) if states else "no run",
        round(time.monotonic() - began_s, 1),
        detail,
    )


def _verdict(fault: Fault, red: Sequence[str]) -> RowState:
    if set(red) - set(fault.turns_red):
        return "false alarm"
    return "killed" if fault.turns_red[0] in red else "alive"


def healthy(carrier: Literal["firmware", "device"], folder: Path, own: bool) -> Row:
    """Run the plan against a carrier without a fault; it must not leave its baseline."""
    options = ["--carrier", carrier]
    options += ["--only", ",".join(SENTINELS)] if own else []
    began_s = time.monotonic()
    states, detail = _run(f"healthy-{carrier}", options, folder)
    red, unsettled = _beyond(states, load_baseline(carrier))
    state: RowState = "no run" if not states else "false alarm" if red else "healthy"
    duration_s = round(time.monotonic() - began_s, 1)
    return Row(f"healthy-{carrier}", carrier, "", (), red, unsettled, state, duration_s, detail)


def _beyond(states: dict[str, str], baseline: Baseline) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids that are red, and those without a verdict, beyond the baseline."""
    beyond = {one: state for one, state in states.items() if one not in baseline.reds}
    red = tuple(one for one, state in beyond.items() if state in RED)
    return red, tuple(one for one, state in beyond.items() if state in UNSETTLED)


def _run(name: str, options: Sequence[str], folder: Path) -> tuple[dict[str, str], str]:
    """Run the plan in a process of its own; return the state of each requirement, or why there is none."""
    run_dir = folder / name
    command = [sys.executable, "-m", "rig.cli.main", "run", PLAN, "--run-dir", str(run_dir), *options]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, env=os.environ
        )
    except subprocess.TimeoutExpired:
        return {}, f"not at its end after {RUN_TIMEOUT_S:g} s"
    try:
        summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    except OSError:
        said = (done.stderr + done.stdout).strip().splitlines()
        return {}, said[-1] if said else f"it ended with code {done.returncode} and said nothing"
    return _states(summary), ""


def _states(summary: dict[str, Any]) -> dict[str, str]:
    """Conditional on the fail side counts as fail."""
    return {row["requirement"]: "fail" if row.get("side") == "fail" else row["state"] for row in summary["verdicts"]}


def _told(part: Callable[[], Row]) -> Row:
    row = part()
    print(
        f"{row.state:12} {row.name} ({row.duration_s:g} s): {', '.join(row.red) or 'nothing red'} {row.detail}",
        file=sys.stderr,
        flush=True,
    )
    return row


def _print(rows: Sequence[Row]) -> None:
    table = table_of("fault", "carrier", "named", "red", "without verdict", "state", "s")
    for row in rows:
        table.add_row(
            row.name,
            row.carrier,
            ", ".join(row.expected),
            ", ".join(row.red),
            ", ".join(row.unsettled),
            row.state,
            f"{row.duration_s:g}",
        )
    print_table(table)
    print(", ".join(f"{count} {state}" for state, count in totals(rows).items()))
