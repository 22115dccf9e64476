"""A measurement of a record as one to calculate with: with its budget, as it was when it was judged."""

import math
from typing import Literal

from rig.energy import Contribution, Measurement
from rig.reports import model

_NO_VERDICT = "no verdict: "


def figure_of(row: model.Measurement, value: float) -> Measurement:
    """Return *row*, whose value is *value*."""
    return Measurement(
        name=row.name,
        value=value,
        unit=row.unit,
        expanded_uncertainty=row.expanded_uncertainty,
        k=row.k,
        budget=tuple(_contribution(line) for line in row.budget if line.standard_uncertainty is not None),
        reservations=tuple(note.removeprefix(_NO_VERDICT) for note in row.notes if note.startswith(_NO_VERDICT)),
        ranges_a=row.ranges_a,
        gap_share=row.gap_share or 0.0,
        repeats=row.repeats or 1,
    )


def _contribution(line: model.BudgetLine) -> Contribution:
    """A line of which the record does not say that every repeat shares it is taken as one run's own."""
    freedom = math.inf if line.degrees_of_freedom is None else line.degrees_of_freedom
    kind: Literal["A", "B"] = "A" if line.kind == "A" else "B"
    return Contribution(line.source, line.standard_uncertainty or 0.0, line.unit, kind, line.systematic, freedom)
