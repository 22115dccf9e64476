"""Has a quantity changed since a baseline? The difference of two measurements, without what both have in common.

Measured by one instrument on one range, both have the same gain and offset error: in the difference the former counts
for the change alone, and the latter for the difference in duration (GUM F.1.2.3, correlated inputs). A meter of 10 %
so tells a change of 3 %. What the errors moved between the two runs is not known to any document and not counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from rig.energy.measurement import Contribution, Measurement, measured
from rig.energy.uncertainty import (
    GAIN,
    OFFSET,
    SERIES,
    TIMEBASE,
    VOLTAGE_GAIN,
    VOLTAGE_OFFSET,
)
from rig.errors import BenchError

Change = Literal["unchanged", "higher", "lower", "inconclusive"]

#: What belongs to the instrument itself and is the same whenever it measures.
OF_THE_METER = (GAIN, OFFSET, TIMEBASE, VOLTAGE_GAIN, VOLTAGE_OFFSET, SERIES)


@dataclass(frozen=True)
class Difference:
    """By how much a measurement is above its baseline, in ``unit``; ``relative`` is the share of the baseline.

    ``change`` is *higher* or *lower* only where the difference exceeds its expanded uncertainty; *inconclusive* where
    that is not known, and ``reasons`` say why.
    """

    difference: Measurement
    baseline: float
    change: Change
    reasons: tuple[str, ...] = ()

    @property
    def relative(self) -> float | None:
        """Return the difference as a share of the baseline, None where that is nothing."""
        return self.difference.value / abs(self.baseline) if self.baseline else None

    @property
    def increase(self) -> Measurement:
        """Return the difference as a share of the baseline, with its uncertainty, for a limit on it.

        Raises:
            BenchError: the baseline is nothing, of which there are no shares.
        """
        found, whole = self.difference, abs(self.baseline)
        if not whole:
            raise BenchError(f"{found.name}: its baseline is 0: an increase over it has no limit in shares")
        budget = [
            replace(line, standard_uncertainty=line.standard_uncertainty / whole, unit="1") for line in found.budget
        ]
        known = found.expanded_uncertainty is not None
        increase = measured(f"{found.name}_increase", found.value / whole, "1", budget, known=known)
        return replace(increase, reservations=self.reasons, ranges_a=found.ranges_a, repeats=found.repeats)


def compare(measurement: Measurement, baseline: Measurement, *, same_meter: bool) -> Difference:
    """Return the difference of two measurements of one quantity.

    *same_meter*: one instrument, known by its serial number, measured both.

    Raises:
        BenchError: they are not measurements of one quantity.
    """
    if (measurement.name, measurement.unit) != (baseline.name, baseline.unit):
        raise BenchError(f"{measurement.name} in {measurement.unit} has {baseline.name} in {baseline.unit} as baseline")
    shared, own = _split(measurement.budget, same_meter)
    shared_before, own_before = _split(baseline.budget, same_meter)
    budget = [*own, *(replace(line, source=f"{line.source}, baseline") for line in own_before)]
    for source in dict.fromkeys([*shared, *shared_before]):
        line = shared.get(source) or shared_before[source]
        change = _size(shared.get(source)) - _size(shared_before.get(source))
        budget.append(replace(line, source=f"{source}, shared", standard_uncertainty=abs(change)))
    known = measurement.expanded_uncertainty is not None and baseline.expanded_uncertainty is not None
    value = measurement.value - baseline.value
    found = replace(
        measured(measurement.name, value, measurement.unit, budget, known=known),
        ranges_a=measurement.ranges_a,
        repeats=measurement.repeats,
    )
    reasons = _reasons(measurement, baseline, same_meter=same_meter)
    return Difference(found, baseline.value, _change(found, reasons), reasons)


def _split(
    budget: Iterable[Contribution], same_meter: bool
) -> tuple[dict[str, Contribution], tuple[Contribution, ...]]:
    """Return what both measurements have in common, by its source, and the rest."""
    budget = tuple(budget)
    shared = {
        line.source: line
        for line in budget
        if same_meter and line.systematic and line.source.split(",")[0] in OF_THE_METER
    }
    return shared, tuple(line for line in budget if line.source not in shared)


def _size(line: Contribution | None) -> float:
    return line.standard_uncertainty if line else 0.0


def _reasons(measurement: Measurement, baseline: Measurement, *, same_meter: bool) -> tuple[str, ...]:
    """Return why nothing can be said of a difference: an uncertainty is missing, or none may be relied on.

    A calibration that is overdue does not matter where the instrument is compared with itself.
    """
    found: list[str] = []
    for one, what in ((measurement, ""), (baseline, "baseline: ")):
        if one.expanded_uncertainty is None:
            found += [f"{what}{reason}" for reason in one.reservations or ("its uncertainty is not known",)]
        elif not same_meter:
            found += [f"{what}{reason}" for reason in one.reservations]
    return tuple(found)


def _change(difference: Measurement, reasons: tuple[str, ...]) -> Change:
    uncertainty = difference.expanded_uncertainty
    if reasons or uncertainty is None:
        return "inconclusive"
    if abs(difference.value) <= uncertainty:
        return "unchanged"
    return "higher" if difference.value > 0 else "lower"
