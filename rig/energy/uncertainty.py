"""Measurements with their uncertainty budgets (JCGM 100, the GUM).

Gain and offset errors of a range are the same for every sample of it: they are never divided by the root of the
number of samples. Half-widths of rectangular distributions become standard uncertainties by the root of three.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rig.energy.waveform import RangeAccuracy, Statistics, Supply, Waveform, WaveformError, Window
from rig.errors import BenchError

ROOT_3 = math.sqrt(3)

#: GUM table G.2: the t-factor for 95.45 % by degrees of freedom. Between two entries the lower one holds.
T_FACTORS = (
    *((1, 13.97), (2, 4.53), (3, 3.31), (4, 2.87), (5, 2.65), (6, 2.52), (7, 2.43), (8, 2.37), (9, 2.32), (10, 2.28)),
    *((11, 2.25), (12, 2.23), (13, 2.21), (14, 2.20), (15, 2.18), (16, 2.17), (17, 2.16), (18, 2.15), (19, 2.14)),
    *((20, 2.13), (25, 2.11), (30, 2.09), (35, 2.07), (40, 2.06), (45, 2.06), (50, 2.05), (100, 2.025)),
)
#: Beyond this the normal distribution is used.
MANY = 10_000


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
    """A result. ``expanded_uncertainty`` and ``k`` are None when the instrument has no accuracy document.

    Such a result is a number without a meaning for a verdict: whoever judges it has to say inconclusive.
    """

    name: str
    value: float
    unit: str
    expanded_uncertainty: float | None
    k: float | None
    budget: tuple[Contribution, ...]

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


def charge(name: str, window: Window) -> Measurement:
    """Return the charge of *window* in coulomb."""
    statistics = window.statistics
    budget = _integral_budget(window, "C", lambda s: s.charge_c, gain=statistics.charge_c, per_ampere=1.0)
    return measured(name, statistics.charge_c, "C", budget, known=bool(window.waveform.accuracy))


def mean_current(name: str, window: Window) -> Measurement:
    """Return the mean current of *window* in ampere."""
    per_second = 1 / window.duration_s
    statistics = window.statistics
    budget = _integral_budget(window, "A", lambda s: s.mean_a, gain=statistics.mean_a, per_ampere=per_second)
    # A clock that runs wrong scales the duration too, so that a mean current does not see it.
    budget = [contribution for contribution in budget if contribution.source != TIMEBASE]
    return measured(name, statistics.mean_a, "A", budget, known=bool(window.waveform.accuracy))


def energy(name: str, window: Window, supply: Supply) -> Measurement:
    """Return the energy in joule that the board took in *window*, at its own pins (see Statistics.energy_j)."""
    statistics, accuracy = window.statistics, _figures(window.waveform)
    series_ohm = accuracy.series_ohm if accuracy else 0.0

    def energy_j(of: Statistics) -> float:
        return of.energy_j(supply, series_ohm)

    pin_voltage_v = supply.voltage_v - 2 * series_ohm * statistics.mean_a
    gain = supply.voltage_v * statistics.charge_c - 2 * series_ohm * statistics.square_a2s
    budget = _integral_budget(window, "J", energy_j, gain=gain, per_ampere=pin_voltage_v)
    budget.append(Contribution("supply voltage", abs(statistics.charge_c) * supply.standard_uncertainty_v, "J", "B"))
    if accuracy:
        burden = statistics.square_a2s * accuracy.series_uncertainty_ohm
        budget.append(Contribution("series resistance", burden, "J", "B"))
    return measured(name, energy_j(statistics), "J", budget, known=accuracy is not None)


def mean_of_readings(name: str, waveform: Waveform) -> Measurement:
    """Return the mean of slow readings of a steady current, in ampere, with their spread as a type A contribution.

    Raises:
        WaveformError: fewer than two readings, which have no spread.
    """
    readings = waveform.samples.astype(np.float64)
    if len(readings) < 2:
        raise WaveformError(f"{name}: the mean of {len(readings)} readings has no known spread: take at least two")
    mean_a = float(readings.mean())
    freedom = len(readings) - 1
    spread = float(readings.std(ddof=1)) / math.sqrt(len(readings))
    budget = [Contribution("spread of the readings", spread, "A", "A", systematic=False, degrees_of_freedom=freedom)]
    accuracy = _figures(waveform)
    if accuracy:
        budget.append(Contribution(GAIN, abs(mean_a) * accuracy.gain_rel, "A", "B"))
        budget.append(Contribution(OFFSET, accuracy.offset_a, "A", "B"))
    return measured(name, mean_a, "A", budget, known=accuracy is not None)


def duration(
    name: str,
    start_s: float,
    end_s: float,
    *,
    start_uncertainty_s: float,
    end_uncertainty_s: float,
    clock_ppm: float = 0,
) -> Measurement:
    """Return the time between two marks, in second; the uncertainties and *clock_ppm* are half-widths."""
    budget = [
        Contribution("start mark", start_uncertainty_s / ROOT_3, "s", "B", systematic=False),
        Contribution("end mark", end_uncertainty_s / ROOT_3, "s", "B", systematic=False),
        Contribution(TIMEBASE, abs(end_s - start_s) * clock_ppm * 1e-6 / ROOT_3, "s", "B"),
    ]
    return measured(name, end_s - start_s, "s", budget)


def combine_repeats(name: str, repeats: Sequence[Measurement]) -> Measurement:
    """Return the mean of *repeats* of one quantity: their spread (type A) and what they share (type B).

    Contributions that differ from one repeat to the next are in the spread already and are not counted again. One
    repeat has no spread and is returned with its own budget.
    """
    if not repeats:
        raise BenchError(f"{name}: there is nothing to combine")
    if len({(repeat.unit, repeat.name) for repeat in repeats}) > 1:
        raise BenchError(f"{name}: repeats of different quantities cannot be combined")
    known = all(repeat.expanded_uncertainty is not None for repeat in repeats)
    unit = repeats[0].unit
    if len(repeats) == 1:
        return measured(name, repeats[0].value, unit, repeats[0].budget, known=known)
    values = np.array([repeat.value for repeat in repeats])
    spread = float(values.std(ddof=1)) / math.sqrt(len(values))
    budget = [_spread_contribution(spread, unit, len(values)), *_shared(repeats)]
    return measured(name, float(values.mean()), unit, budget, known=known)


GAIN = "meter gain"
OFFSET = "meter offset"
NOISE = "meter noise"
TIMEBASE = "time base"
ALIGNMENT = "alignment to the rig's clock"
START_EDGE = "start edge"
END_EDGE = "end edge"


def _integral_budget(
    window: Window, unit: str, quantity: Callable[[Statistics], float], *, gain: float, per_ampere: float
) -> list[Contribution]:
    """Return the budget of an integral over *window*.

    *gain* is how much the result changes per relative change of the current, *per_ampere* how much per ampere of
    offset and second of duration.
    """
    budget = _edges(window, unit, quantity)
    waveform = window.waveform
    accuracy = _figures(waveform)
    if accuracy is None:
        return budget
    noise = abs(per_ampere) * waveform.interval_s * accuracy.noise_rms_a * math.sqrt(window.count)
    return [
        Contribution(GAIN, abs(gain) * accuracy.gain_rel, unit, "B"),
        Contribution(OFFSET, abs(per_ampere) * window.duration_s * accuracy.offset_a, unit, "B"),
        Contribution(NOISE, noise, unit, "B", systematic=False),
        Contribution(TIMEBASE, abs(quantity(window.statistics)) * accuracy.timebase_ppm * 1e-6 / ROOT_3, unit, "B"),
        *budget,
    ]


def _figures(waveform: Waveform) -> RangeAccuracy | None:
    """Return the figures of the widest range that was used, None without an accuracy document."""
    return max(waveform.accuracy, key=lambda figures: figures.range_a, default=None)


def _edges(window: Window, unit: str, quantity: Callable[[Statistics], float]) -> list[Contribution]:
    """Return what uncertain edges do, found by moving them through the recording itself.

    The alignment moves both edges together. Each mark moves its own edge, by half a sample more than it is uncertain
    itself: where inside a sample the current changed is not recorded.
    """
    if window.sharp:
        return []
    waveform = window.waveform
    reference = waveform.trigger_index or 0
    away_s = max(abs(window.start - reference), abs(window.end - reference)) * waveform.interval_s
    accuracy = _figures(waveform)
    drift_s = away_s * accuracy.timebase_ppm * 1e-6 if accuracy else 0.0
    moves = (
        (ALIGNMENT, waveform.t0_uncertainty_s + drift_s, (1, 1), True),
        (START_EDGE, window.start_uncertainty_s + waveform.interval_s / 2, (1, 0), False),
        (END_EDGE, window.end_uncertainty_s + waveform.interval_s / 2, (0, 1), False),
    )
    here = quantity(window.statistics)

    def half_width(by_s: float, edges: tuple[int, int]) -> float:
        steps = np.linspace(-by_s, by_s, 9)
        return max(abs(quantity(window.moved(edges[0] * step, edges[1] * step)) - here) for step in steps)

    return [
        Contribution(source, half_width(by_s, edges) / ROOT_3, unit, "B", systematic)
        for source, by_s, edges, systematic in moves
    ]


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


def _spread_contribution(spread: float, unit: str, repeats: int) -> Contribution:
    source = f"spread of {repeats} repeats"
    return Contribution(source, spread, unit, "A", systematic=False, degrees_of_freedom=repeats - 1)


def _root_sum(budget: Iterable[Contribution]) -> float:
    return math.hypot(*(contribution.standard_uncertainty for contribution in budget))
