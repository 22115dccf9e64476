"""``summary.json``: the verdicts and figures of a run for other programs."""

import json
from pathlib import Path
from typing import Any

from rig.reports import record
from rig.reports.chance import BUDGET, statistics_of
from rig.reports.model import Measurement, Regression, Run
from rig.reports.verdicts import Verdict, read_state, verdicts

SCHEMA = 1
FILE = "summary.json"


def write_summary(run_dir: Path) -> Path:
    """Write ``summary.json`` of the run in *run_dir* and return its path."""
    path = run_dir / FILE
    content = json.dumps(summary(record.load(run_dir)), indent=2, allow_nan=False)
    path.write_text(content + "\n", encoding="utf-8")
    return path


def summary(run: Run) -> dict[str, Any]:
    """Return the summary: ``verdicts`` has one row a requirement, ``measurements`` one a measurement.

    ``regressions`` has one row a measurement that was compared to an earlier run.

    ``false_alarm`` has the sum of the probabilities that the verdicts state of themselves, and its budget.
    """
    return {
        "schema": SCHEMA,
        "run": _run(run),
        "verdicts": [_verdict(verdict) for verdict in verdicts(run)],
        "measurements": [_measurement(measurement) for measurement in run.measurements],
        "regressions": [_regression(regression) for regression in run.regressions],
        "false_alarm": {"sum": statistics_of(run).total, "budget": BUDGET},
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.run_id,
        "wall_time": run.wall_time,
        "plan": run.plan,
        "finished": run.finished,
        "exit_code": run.exit_code,
        "duration_s": round(run.duration_s, 6),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    side = {"side": verdict.deciding.side} if verdict.deciding.side else {}
    return {
        "requirement": verdict.requirement.id,
        "state": verdict.state.value,
        "test": verdict.deciding.test,
        "observed": verdict.deciding.observed,
        "evidence": list(verdict.evidence),
        **side,
    }


def _regression(regression: Regression) -> dict[str, Any]:
    return {
        "name": regression.name,
        "baseline_run": regression.baseline_run,
        "baseline": regression.baseline,
        "difference": regression.difference,
        "unit": regression.unit,
        "expanded_uncertainty": regression.expanded_uncertainty,
        "relative": regression.relative,
        "same_meter": regression.same_meter,
        "state": regression.state,
        "requirement": regression.requirement,
        "test": regression.test,
    }


def _measurement(measurement: Measurement) -> dict[str, Any]:
    bound, accepted = measurement.limit, measurement.acceptance
    return {
        "name": measurement.name,
        "value": measurement.value,
        "unit": measurement.unit,
        "expanded_uncertainty": measurement.expanded_uncertainty,
        "k": measurement.k,
        "degrees_of_freedom": measurement.degrees_of_freedom,
        "limit": {"min": bound.min, "max": bound.max, "unit": bound.unit} if bound else None,
        "rule": measurement.rule,
        "acceptance": {"min": accepted.min, "max": accepted.max} if accepted else None,
        "false_accept": measurement.false_accept,
        "false_reject": measurement.false_reject,
        "state": read_state(measurement.state).value,
        "requirement": measurement.requirement,
        "test": measurement.test,
    }
