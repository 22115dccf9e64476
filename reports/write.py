"""Every report of a run, written or written again from its record."""

from pathlib import Path

from rig.reports.html import write_report
from rig.reports.summary import write_summary
from rig.reports.tables import write_csv


def write_reports(run_dir: Path) -> tuple[Path, ...]:
    """Write ``summary.json``, ``measurements.csv`` and ``report.html`` into the run's folder; return their paths."""
    return write_summary(run_dir), write_csv(run_dir), write_report(run_dir)
