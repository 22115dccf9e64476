"""A measurement: a value with its uncertainty budget, and how budgets are combined (JCGM 100, the GUM)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rig.errors import BenchError

#: GUM table G.2: the t-factor for 95.45 % by degrees of freedom. Between two entries the lower one holds.
T_FACTORS = (
    *((1, 13.97), (2, 4.53), (3, 3.31), (4, 2.87), (5, 2.65), (6, 2.52), (7, 2.43), (8, 2.37), (9, 2.32), (10, 2.28)),
    *((11, 2.25), (12, 2.23), (13, 2.21), (14, 2.20), (15, 2.18), (16, 2.17), (17, 2.16), (18, 2.15), (19, 2.14)),
    *((20, 2.13), (25, 2.11), (30, 2.09), (35, 2.07), (40, 2.06), (45, 2.06), (50, 2.05), (100, 2.025)),
)
#: Beyond this the normal distribution is used.
MANY = 10_000
SPREAD = "spread of"


@dataclass(frozen=True)
class Contribution:
    """One line of a budget: a standard uncertainty in the unit of the result, by statistics (A) or otherwise (B).

    *systematic* contributions are the same in every repeat with the same bench; the others differ from one repeat
    to the next and show in their spread. ``degrees_of_freedom`` is infinite for type B.
    """

    source: str
    standard_uncertainty: float
    unit: str
    kind: Literal["A", "B"]
    systematic: bool = True
    degrees_of_freedom: float = math.inf


@dataclass(frozen=True)
class Measurement:
    """A result. ``expanded_uncertainty`` and ``k`` are None where a figure of the instrument is missing.

    Such a result is a number without a meaning for a verdict: whoever judges it has to say inconclusive.
    ``reservations`` are the reasons for which no verdict may rest on the result, a missing figure among them.
    ``ranges_a`` are the ranges that it was measured on, ``gap_share`` is the share of lost samples, ``repeats`` how
    many single measurements it is the mean of.
    """

    name: str
    value: float
    unit: str
    expanded_uncertainty: float | None
    k: float | None
    budget: tuple[Contribution, ...]
    reservations: tuple[str, ...] = ()
    ranges_a: tuple[float, ...] = ()
    gap_share: float = 0.0
    repeats: int = 1

    def __str__(self) -> str:
        doubt = "unknown uncertainty" if self.expanded_uncertainty is None else f"{self.expanded_uncertainty:.2g}"
        factor = "" if self.k is None else f" (k = {self.k:.3g})"
        return f"{self.name} = {self.value:.6g} {self.unit} +- {doubt}{factor}"

    @property
    def standard_uncertainty(self) -> float | None:
        """Return the combined standard uncertainty, None when unknown."""
        return None if self.expanded_uncertainty is None else _root_sum(self.budget)

    @property
    def degrees_of_freedom(self) -> float:
        """Return the effective degrees of freedom (Welch-Satterthwaite, GUM G.4.1)."""
        return effective_degrees_of_freedom(self.budget)


def coverage_factor(degrees_of_freedom: float) -> float:
    """Return k for a coverage of 95.45 % (GUM G.6.4; the degrees of freedom are truncated)."""
    if degrees_of_freedom >= MANY:
        return 2.0
    return next((k for entry, k in reversed(T_FACTORS) if entry <= degrees_of_freedom), T_FACTORS[0][1])


def effective_degrees_of_freedom(budget: Iterable[Contribution]) -> float:
    """Return the Welch-Satterthwaite degrees of freedom of a combined uncertainty."""
    budget = tuple(budget)
    # Relative to the total, so that the fourth power of a microjoule does not vanish.
    total = _root_sum(budget)
    finite = [c for c in budget if math.isfinite(c.degrees_of_freedom) and c.standard_uncertainty > 0]
    weight = sum((c.standard_uncertainty / total) ** 4 / c.degrees_of_freedom for c in finite)
    return 1 / weight if weight else math.inf


def measured(name: str, value: float, unit: str, budget: Sequence[Contribution], *, known: bool = True) -> Measurement:
    """Combine *budget* into a measurement; *known* is False when the instrument's share is missing from it."""
    if not known:
        return Measurement(name, value, unit, None, None, tuple(budget))
    k = coverage_factor(effective_degrees_of_freedom(budget))
    return Measurement(name, value, unit, k * _root_sum(budget), k, tuple(budget))


def combine_repeats(name: str, repeats: Sequence[Measurement]) -> Measurement:
    """Return the mean of *repeats* of one quantity: their spread (type A) and what they share (type B).

    Contributions that differ from one repeat to the next are in the spread already and are not counted again. One
    repeat has no spread and is returned with its own budget.
    """
    if not repeats:
        raise BenchError(f"{name}: there is nothing to combine")
    if len({(repeat.unit, repeat.name) for repeat in repeats}) > 1:
        raise BenchError(f"{name}: repeats of different quantities cannot be combined")
    unit = repeats[0].unit
    plain = Measurement(
        name,
        float(np.mean([repeat.value for repeat in repeats])),
        unit,
        None,
        None,
        (),
        reservations=tuple(dict.fromkeys(one for repeat in repeats for one in repeat.reservations)),
        ranges_a=tuple(sorted({range_a for repeat in repeats for range_a in repeat.ranges_a})),
        gap_share=max(repeat.gap_share for repeat in repeats),
        repeats=sum(repeat.repeats for repeat in repeats),
    )
    budget = list(repeats[0].budget)
    if len(repeats) > 1:
        own = spread(f"{SPREAD} {len(repeats)} repeats", np.array([repeat.value for repeat in repeats]), unit)
        budget = [own, *_shared(repeats)]
    return combined(plain, budget, known=all(repeat.expanded_uncertainty is not None for repeat in repeats))


def spread(source: str, values: NDArray[np.float64], unit: str) -> Contribution:
    """Return the standard uncertainty of the mean of *values* from their own spread (GUM 4.2.3)."""
    deviation = float(values.std(ddof=1)) / math.sqrt(len(values))
    return Contribution(source, deviation, unit, "A", systematic=False, degrees_of_freedom=len(values) - 1)


def combined(plain: Measurement, budget: Sequence[Contribution], *, known: bool) -> Measurement:
    """Return *plain* with what :func:`measured` makes of *budget*."""
    stated = measured(plain.name, plain.value, plain.unit, budget, known=known)
    return replace(plain, expanded_uncertainty=stated.expanded_uncertainty, k=stated.k, budget=stated.budget)


def _shared(repeats: Sequence[Measurement]) -> list[Contribution]:
    """Return the systematic contributions of the mean: fully correlated, so they average like the values do."""
    sources = dict.fromkeys(c.source for repeat in repeats for c in repeat.budget if c.systematic)
    shared = []
    for source in sources:
        lines = [c for repeat in repeats for c in repeat.budget if c.source == source and c.systematic]
        mean = sum(c.standard_uncertainty for c in lines) / len(repeats)
        freedom = min(c.degrees_of_freedom for c in lines)
        shared.append(Contribution(source, mean, lines[0].unit, lines[0].kind, degrees_of_freedom=freedom))
    return shared


def _root_sum(budget: Iterable[Contribution]) -> float:
    return math.hypot(*(contribution.standard_uncertainty for contribution in budget))
