"""Verdicts that rest on chance: the probability of a false alarm that each states, and the plan's sum."""

from collections.abc import Iterator
from dataclasses import dataclass

from rig.reports.model import Check, Measurement, Run

BUDGET = 1e-4
"""How probable one false alarm in a whole plan may be."""


@dataclass(frozen=True)
class Statistics:
    """``rows`` are (requirement, test, probability); by Boole's inequality their sum bounds that of any false alarm."""

    rows: tuple[tuple[str, str, float], ...]

    @property
    def total(self) -> float:
        """The sum."""
        return sum(probability for _, _, probability in self.rows)

    @property
    def kept(self) -> bool:
        """Whether the plan stays within its budget."""
        return self.total <= BUDGET


def statistics_of(run: Run) -> Statistics:
    """Return what the verdicts of *run* state of themselves."""
    return Statistics(tuple(_rows(run)))


def _rows(run: Run) -> Iterator[tuple[str, str, float]]:
    judged: list[Check | Measurement] = [*run.checks, *run.measurements]
    for one in judged:
        if one.false_alarm is not None:
            yield one.requirement, one.test, one.false_alarm
