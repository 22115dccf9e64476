"""The measurements of a run as a table: for pandas, and as CSV."""

from pathlib import Path

import pandas as pd

from rig.reports import record
from rig.reports.model import Measurement, Run
from rig.reports.verdicts import read_state

FILE = "measurements.csv"
COLUMNS = {
    "test": "str",
    "requirement": "str",
    "name": "str",
    "value": "float64",
    "unit": "str",
    "expanded_uncertainty": "float64",
    "k": "float64",
    "degrees_of_freedom": "float64",
    "limit_min": "float64",
    "limit_max": "float64",
    "limit_unit": "str",
    "rule": "str",
    "accept_min": "float64",
    "accept_max": "float64",
    "false_accept": "float64",
    "false_reject": "float64",
    "state": "str",
    "side": "str",
    "t_s": "float64",
    "evidence": "str",
}


def measurements_frame(run: Run) -> pd.DataFrame:
    """Return one row a measurement.

    ``value``, ``expanded_uncertainty`` and the limits are in ``unit`` and ``limit_unit``, NaN where there is none;
    ``t_s`` is the rig's clock, seconds from the start of the run; ``evidence`` joins the files with ``;``.
    """
    rows = [_row(measurement, run.start_s) for measurement in run.measurements]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def write_csv(run_dir: Path) -> Path:
    """Write ``measurements.csv`` of the run in *run_dir* and return its path."""
    path = run_dir / FILE
    frame = measurements_frame(record.load(run_dir))
    frame.to_csv(path, index=False, encoding="utf-8", errors="backslashreplace")
    return path


def _row(measurement: Measurement, start_s: float) -> dict[str, str | float | None]:
    bound, accepted = measurement.limit, measurement.acceptance
    return {
        "test": measurement.test,
        "requirement": measurement.requirement,
        "name": measurement.name,
        "value": measurement.value,
        "unit": measurement.unit,
        "expanded_uncertainty": measurement.expanded_uncertainty,
        "k": measurement.k,
        "degrees_of_freedom": measurement.degrees_of_freedom,
        "limit_min": bound.min if bound else None,
        "limit_max": bound.max if bound else None,
        "limit_unit": bound.unit if bound else "",
        "rule": measurement.rule,
        "accept_min": accepted.min if accepted else None,
        "accept_max": accepted.max if accepted else None,
        "false_accept": measurement.false_accept,
        "false_reject": measurement.false_reject,
        "state": read_state(measurement.state).value,
        "side": measurement.side,
        "t_s": round(measurement.t_s - start_s, 6),
        "evidence": ";".join(measurement.evidence),
    }
