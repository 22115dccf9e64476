"""A measurement against its limit as a small drawing: the value, its expanded uncertainty, and the limit."""

from dataclasses import dataclass

from rig.reports.model import Measurement


@dataclass(frozen=True)
class Gauge:
    """Places in per cent of the width: value, both ends of its uncertainty, and each limit."""

    point: float
    low: float
    high: float
    limits: tuple[float, ...]


def gauge(measurement: Measurement) -> Gauge | None:
    """Return where to draw a measurement, or None without a positive limit to draw it against."""
    bound = measurement.limit
    if measurement.value is None or bound is None:
        return None
    limits = [side for side in (bound.min, bound.max) if side is not None]
    uncertainty = abs(measurement.expanded_uncertainty or 0.0)
    full = 1.2 * max([*limits, measurement.value + uncertainty], default=0.0)
    if full <= 0 or bound.unit != measurement.unit:
        return None
    point, low, high, *sides = (
        _percent(value / full)
        for value in (measurement.value, measurement.value - uncertainty, measurement.value + uncertainty, *limits)
    )
    return Gauge(point, low, high, tuple(sides))


def closeness(measurement: Measurement) -> float:
    """Return how much of what its limit allows a measurement takes, its uncertainty included; 1 is the limit."""
    bound = measurement.limit
    if measurement.value is None or bound is None:
        return 0.0
    doubt = abs(measurement.expanded_uncertainty or 0.0)
    above = (measurement.value + doubt) / bound.max if bound.max else 0.0
    below = bound.min / (measurement.value - doubt) if bound.min and measurement.value > doubt else 0.0
    return max(above, below)


def _percent(share: float) -> float:
    return round(100 * min(1.0, max(0.0, share)), 2)
