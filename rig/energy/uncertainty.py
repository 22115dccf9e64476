"""What is measured of a waveform, with its uncertainty budget (JCGM 100, the GUM).

Gain and offset errors of a range are the same for every sample of it: they are never divided by the root of the
number of samples. Those of different ranges are independent, unless the instrument's document says that they come
from one reference: then the gains add linearly, which is the safe bound. Half-widths of rectangular distributions
become standard uncertainties by the root of three.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from rig.energy.measurement import SPREAD, Contribution, Measurement, combined, measured, spread
from rig.energy.waveform import (
    InvalidRecording,
    RangeAccuracy,
    RangeShare,
    Statistics,
    Supply,
    Waveform,
    WaveformError,
    Window,
)

ROOT_3 = math.sqrt(3)

#: The share of a window that may be lost. Up to it the worst state that was seen bounds what was missed; a recording
#: that lost more is invalid, and its uncertainty is not made wider.
MOST_LOST = 0.01
#: Samples looked at at a time.
CHUNK = 1 << 20
#: Samples of a measured voltage that tell its mean.
VOLTAGE_SAMPLES = 1000
#: Sub-windows whose means tell the noise where no document does, and how many samples that takes.
BATCHES = 20
NO_DOCUMENT = "the meter has no accuracy document: name one (accuracy:)"

GAIN = "meter gain"
OFFSET = "meter offset"
ZERO = "zero of the meter"
NOISE = "meter noise"
TIMEBASE = "time base"
SUPPLY = "supply voltage"
VOLTAGE_GAIN = "voltage gain"
VOLTAGE_OFFSET = "voltage offset"
VOLTAGE_NOISE = "voltage noise"
SERIES = "series resistance"
LOST = "lost samples"
UNSEEN = "current between the apertures"
ALIGNMENT = "alignment to the rig's clock"
START_EDGE = "start edge"
END_EDGE = "end edge"


def charge(name: str, window: Window) -> Measurement:
    """Return the charge of *window* in coulomb.

    Raises:
        InvalidRecording: the instrument calls the recording invalid, or too much of the window is lost.
    """
    return _of_window(name, "C", window, _charge, _filled)


def mean_current(name: str, window: Window) -> Measurement:
    """Return the mean current of *window* in ampere; raises as :func:`charge`.

    A clock that runs wrong scales the duration as it does the charge, so that a mean current does not see it.
    """
    return _of_window(name, "A", window, _charge, _per_second)


def energy(name: str, window: Window, supply: Supply) -> Measurement:
    """Return the energy in joule that the board took in *window*, at its own pins; raises as :func:`charge`.

    These are at V - I R, R being shunt plus leads of the range in use and V what was measured at the supply's sense
    point, or else the voltage of *supply*. The integral is exact per sample.
    """
    statistics, parts = window.statistics, _parts(window)
    voltage_v = _mean_voltage_v(window, supply)
    measurement = _of_window(name, "J", window, lambda part: _energy(part, voltage_v), _filled)
    filled = _filled(window)
    budget = list(measurement.budget)
    if statistics.sense_j is None:
        budget.append(_systematic(SUPPLY, statistics.charge_c * filled * supply.standard_uncertainty_v, "J"))
    figures = [part.figures for part in parts if part.figures is not None]
    if figures and statistics.sense_j is not None:
        gain_rel = max(one.voltage_gain_rel for one in figures)
        offset_v = max(one.voltage_offset_v for one in figures)
        budget.append(_systematic(VOLTAGE_GAIN, statistics.sense_j * filled * gain_rel, "J"))
        budget.append(_systematic(VOLTAGE_OFFSET, statistics.charge_c * filled * offset_v, "J"))
    if statistics.sense_j is not None:
        noise_j = _voltage_noise_v(window) * math.sqrt(statistics.square_a2s * window.waveform.interval_s) * filled
        budget.append(Contribution(VOLTAGE_NOISE, noise_j, "J", "A", systematic=False))
    if figures:
        # The leads are in series with the shunt of every range: what is wrong with them adds linearly.
        burden = sum(part.share.square_a2s * part.figures.series_uncertainty_ohm for part in parts if part.figures)
        budget.append(_systematic(SERIES, burden * filled, "J"))
    needed = [*NEEDED["J"], *(["voltage"] if statistics.sense_j is not None else [])]
    return _stated(measurement, budget, figures, needed)


def mean_of_readings(name: str, waveform: Waveform) -> Measurement:
    """Return the mean of slow readings of a steady current, in ampere, with their spread as a type A contribution.

    Of twice as many readings as there are batches, or more, the spread is that of the means of batches: noise that
    is not white would be made too small by the root of the number of readings.

    Raises:
        WaveformError: fewer than two readings, which have no spread.
        InvalidRecording: the instrument calls the readings invalid.
    """
    window = waveform.whole()
    statistics = window.statistics
    _refuse_invalid(waveform, statistics.gap_share)
    readings = waveform.samples[np.isfinite(waveform.samples)].astype(np.float64)
    if len(readings) < 2:
        raise WaveformError(f"{name}: the mean of {len(readings)} readings has no known spread: take at least two")
    seen = readings
    if len(readings) >= 2 * BATCHES:
        seen = np.array([batch.mean() for batch in np.array_split(readings, BATCHES)])
    parts = _parts(window)
    effects = [_scaled(_charge(part), _per_second(window)) for part in parts]
    budget = [spread(f"{SPREAD} the readings", seen, "A"), *_of_ranges(parts, effects, "A")]
    budget += _lost(statistics, 1.0, "A")
    figures = [part.figures for part in parts if part.figures is not None]
    ranges_a = tuple(waveform.ranges_a[index] for index in window.by_range)
    plain = Measurement(
        name, float(readings.mean()), "A", None, None, (), ranges_a=ranges_a, gap_share=statistics.gap_share
    )
    return _stated(plain, budget, figures, NEEDED["A"])


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


#: The figures of the instrument without which there is no uncertainty, by the unit of the result.
NEEDED = {
    "C": ("gain", "offset", "time base"),
    "A": ("gain", "offset"),
    "J": ("gain", "offset", "time base", "series resistance"),
}


@dataclass(frozen=True)
class _Part:
    """What was measured on one range inside a window, and the figures of that range where there are any."""

    figures: RangeAccuracy | None
    share: RangeShare

    @property
    def series_ohm(self) -> float:
        return self.figures.series_ohm if self.figures else 0.0


@dataclass(frozen=True)
class _Effect:
    """What a part adds to the result, and how much the result changes per relative gain and per ampere of offset."""

    value: float
    per_gain: float
    per_ampere: float


def _charge(part: _Part) -> _Effect:
    return _Effect(part.share.charge_c, part.share.charge_c, part.share.duration_s)


def _energy(part: _Part, voltage_v: float) -> _Effect:
    """Return the effect on an energy; *voltage_v* is the voltage, or the mean of what was measured of it."""
    share, series_ohm = part.share, part.series_ohm
    sense_j = voltage_v * share.charge_c if share.sense_j is None else share.sense_j
    return _Effect(
        value=sense_j - series_ohm * share.square_a2s,
        per_gain=sense_j - 2 * series_ohm * share.square_a2s,
        per_ampere=voltage_v * share.duration_s - 2 * series_ohm * share.charge_c,
    )


def _mean_voltage_v(window: Window, supply: Supply) -> float:
    """Return the voltage in *window*; of a measured one some samples are enough, as it tells sensitivities only."""
    voltage = window.waveform.voltage
    if voltage is None:
        return supply.voltage_v
    first, last = math.floor(window.start), math.ceil(window.end)
    seen = voltage[first : last : max((last - first) // VOLTAGE_SAMPLES, 1)].astype(np.float64)
    there = seen[np.isfinite(seen)]
    return float(there.mean()) if len(there) else supply.voltage_v


def _voltage_noise_v(window: Window) -> float:
    """Return the noise of a sample of the voltage, from the median step between some that follow each other.

    The median does not see the steps of the load, which are few. 0.6745 is the median of what is normally distributed,
    without its sign.
    """
    assert window.waveform.voltage is not None
    first = math.floor(window.start)
    seen = window.waveform.voltage[first : min(first + VOLTAGE_SAMPLES, math.ceil(window.end))].astype(np.float64)
    steps = np.abs(np.diff(seen))
    steps = steps[np.isfinite(steps)]
    return float(np.median(steps)) / (0.6745 * math.sqrt(2)) if len(steps) else 0.0


def _parts(window: Window) -> list[_Part]:
    figures = window.waveform.accuracy
    return [_Part(figures[index] if figures else None, share) for index, share in window.by_range.items()]


def _filled(window: Window) -> float:
    """Return what makes an integral whole again: lost time counts as if the mean of the rest had flowed."""
    return window.duration_s * _per_second(window)


def _per_second(window: Window) -> float:
    """Return what makes a mean of an integral; nothing is the mean where all samples are lost."""
    there_s = sum(share.duration_s for share in window.by_range.values())
    return 1 / there_s if there_s else 0.0


def _of_window(
    name: str,
    unit: str,
    window: Window,
    effect_of: Callable[[_Part], _Effect],
    scale_of: Callable[[Window], float],
) -> Measurement:
    """Return a result that is a sum over the ranges of *window*, without what is particular to its unit."""
    statistics = window.statistics
    _refuse_invalid(window.waveform, statistics.gap_share)
    scale, parts = scale_of(window), _parts(window)

    def value_of(moved: Window) -> float:
        return scale_of(moved) * sum(effect_of(part).value for part in _parts(moved))

    effects = [_scaled(effect_of(part), scale) for part in parts]
    figures = [part.figures for part in parts if part.figures is not None]
    budget = _of_ranges(parts, effects, unit)
    budget += _noise(window, parts, effects, unit)
    if "time base" in NEEDED[unit] and figures:
        ppm = _timebase_ppm(window.waveform)
        budget.append(_systematic(TIMEBASE, value_of(window) * ppm * 1e-6 / ROOT_3, unit))
    per_ampere = sum(effect.per_ampere for effect in effects)
    budget += _lost(statistics, per_ampere, unit)
    budget += _unseen(window, per_ampere, unit)
    budget += _edges(window, unit, value_of)
    ranges_a = tuple(window.waveform.ranges_a[index] for index in window.by_range)
    plain = Measurement(name, value_of(window), unit, None, None, (), ranges_a=ranges_a, gap_share=statistics.gap_share)
    return _stated(plain, budget, figures, NEEDED[unit])


def _lost(statistics: Statistics, per_ampere: float, unit: str) -> list[Contribution]:
    """Return what lost samples may have held: no more than the worst state that was seen, for so long."""
    if not statistics.gap_share:
        return []
    worst_a = max(statistics.max_a - statistics.mean_a, statistics.mean_a - statistics.min_a)
    half_width = statistics.gap_share * worst_a * abs(per_ampere)
    return [Contribution(LOST, half_width / ROOT_3, unit, "B", systematic=False)]


def _unseen(window: Window, per_ampere: float, unit: str) -> list[Contribution]:
    """Return what flowed while the meter did not look, where its aperture is shorter than the sample interval.

    A change of the current lies somewhere between two samples, which a rectangular distribution describes. A state
    that only one sample saw may have been missed as well, or seen twice: it counts with all of its height.
    """
    waveform = window.waveform
    blind_s = waveform.interval_s - waveform.aperture_s
    if blind_s <= 1e-3 * waveform.interval_s:
        return []
    squares = 0.0
    first, last = math.floor(window.start), math.ceil(window.end)
    for begin in range(first, last, CHUNK):
        # Two samples more than the chunk, so that no change on its border is left out.
        steps = np.diff(waveform.samples[begin : min(begin + CHUNK + 2, last)].astype(np.float64))
        steps = steps[np.isfinite(steps)]
        before, after = steps[:-1], steps[1:]
        alone = np.where(before * after < 0, np.minimum(np.abs(before), np.abs(after)), 0.0)
        squares += float(steps[:CHUNK] @ steps[:CHUNK]) / 12 + float(alone @ alone)
    unseen = abs(per_ampere) * _per_second(window) * blind_s * math.sqrt(squares)
    return [Contribution(UNSEEN, unseen, unit, "B", systematic=False)]


def _refuse_invalid(waveform: Waveform, gap_share: float) -> None:
    if waveform.invalid:
        raise InvalidRecording(f"the recording is invalid: {'; '.join(waveform.invalid)}")
    if gap_share > MOST_LOST:
        raise InvalidRecording(f"the recording is invalid: {gap_share:.2%} of it are lost, more than {MOST_LOST:.0%}")


def _scaled(effect: _Effect, scale: float) -> _Effect:
    return _Effect(effect.value * scale, effect.per_gain * scale, effect.per_ampere * scale)


def _of_ranges(parts: Sequence[_Part], effects: Sequence[_Effect], unit: str) -> list[Contribution]:
    """Return what the figures of each range contribute; a range is named where there is more than one."""
    lines: list[Contribution] = []
    for part, effect in zip(parts, effects, strict=True):
        if part.figures is not None:
            suffix = f", {part.figures.range_a:g} A range" if len(parts) > 1 else ""
            lines += _of_range(part.figures, effect, unit, suffix)
    gains = [line for line in lines if line.source.startswith(GAIN)]
    if len(gains) < 2 or not any(part.figures.common_reference for part in parts if part.figures):
        return lines
    together = sum(line.standard_uncertainty for line in gains)
    return [_systematic(f"{GAIN}, one reference for all ranges", together, unit), *(x for x in lines if x not in gains)]


def _of_range(figures: RangeAccuracy, effect: _Effect, unit: str, suffix: str) -> list[Contribution]:
    """Return what is the same for every sample of one range."""
    lines = []
    if "gain" not in figures.not_obtained:
        lines.append(_systematic(f"{GAIN}{suffix}", effect.per_gain * figures.gain_rel, unit))
    if "offset" not in figures.not_obtained:
        lines.append(_systematic(f"{OFFSET}{suffix}", effect.per_ampere * figures.offset_a, unit))
    if figures.zero_a:
        lines.append(_systematic(f"{ZERO}{suffix}", effect.per_ampere * figures.zero_a, unit))
    if figures.temperature:
        of_gain, of_offset = figures.temperature_gain_rel, figures.temperature_offset_a
        added = math.hypot(effect.per_gain * of_gain, effect.per_ampere * of_offset)
        lines.append(_systematic(f"{figures.temperature}{suffix}", added, unit))
    return lines


def _systematic(source: str, standard_uncertainty: float, unit: str) -> Contribution:
    return Contribution(source, abs(standard_uncertainty), unit, "B")


def _noise(window: Window, parts: Sequence[_Part], effects: Sequence[_Effect], unit: str) -> list[Contribution]:
    """Return what the meter's noise contributes: by its documents, or else as the window itself shows it (type A).

    Noise falls with the root of the number of samples. What is seen in the window is the spread of the means of
    sub-windows, in which the current's own changes are too: it is no less than the noise.
    """
    figures = [part.figures for part in parts]
    if all(one is not None and "noise" not in one.not_obtained for one in figures):
        interval_s = window.waveform.interval_s
        shares = [
            effect.per_ampere * one.noise_rms_a / math.sqrt(part.share.duration_s / interval_s)
            for part, effect, one in zip(parts, effects, figures, strict=True)
            if one is not None
        ]
        return [Contribution(NOISE, math.hypot(*shares), unit, "B", systematic=False)]
    if window.count < BATCHES:
        return []
    edges = np.linspace(window.start, window.end, BATCHES + 1).tolist()
    means = [window.waveform.statistics(a, b).mean_a for a, b in pairwise(edges)]
    seen = spread(f"{NOISE} (spread of {BATCHES} sub-windows)", np.array([m for m in means if m == m]), unit)
    per_ampere = abs(sum(effect.per_ampere for effect in effects))
    return [replace(seen, standard_uncertainty=seen.standard_uncertainty * per_ampere)]


def _stated(
    plain: Measurement, budget: Sequence[Contribution], figures: Sequence[RangeAccuracy], needed: Sequence[str]
) -> Measurement:
    """Return *plain* with its uncertainty, if all *needed* figures are there, and what speaks against a verdict."""
    missing = [one.not_obtained[figure] for one in figures for figure in needed if figure in one.not_obtained]
    if not figures:
        missing = [NO_DOCUMENT]
    elif not any(line.source.startswith((NOISE, SPREAD)) for line in budget):
        reason = next(one.not_obtained["noise"] for one in figures if "noise" in one.not_obtained)
        missing.append(f"{reason}, and fewer than {BATCHES} samples do not show it")
    reasons = dict.fromkeys([*missing, *(one.reservation for one in figures if one.reservation)])
    return combined(replace(plain, reservations=tuple(reasons)), budget, known=not missing)


def _timebase_ppm(waveform: Waveform) -> float:
    """Return the half-width of the sample clock's error, which is the same for every range."""
    return max((one.timebase_ppm for one in waveform.accuracy), default=0.0)


def _edges(window: Window, unit: str, value_of: Callable[[Window], float]) -> list[Contribution]:
    """Return what uncertain edges do, found by moving them through the recording itself.

    The alignment moves both edges together. Each mark moves its own edge, by half a sample more than it is uncertain
    itself: where inside a sample the current changed is not recorded.
    """
    if window.sharp:
        return []
    waveform = window.waveform
    reference = waveform.trigger_index or 0
    away_s = max(abs(window.start - reference), abs(window.end - reference)) * waveform.interval_s
    drift_s = away_s * _timebase_ppm(waveform) * 1e-6
    moves = (
        (ALIGNMENT, waveform.t0_uncertainty_s + drift_s, (1, 1), True),
        (START_EDGE, window.start_uncertainty_s + waveform.interval_s / 2, (1, 0), False),
        (END_EDGE, window.end_uncertainty_s + waveform.interval_s / 2, (0, 1), False),
    )
    here = value_of(window)

    def half_width(by_s: float, edges: tuple[int, int]) -> float:
        steps = np.linspace(-by_s, by_s, 9).tolist()
        return max(abs(value_of(window.moved(edges[0] * step, edges[1] * step)) - here) for step in steps)

    return [
        Contribution(source, half_width(by_s, edges) / ROOT_3, unit, "B", systematic)
        for source, by_s, edges, systematic in moves
    ]
