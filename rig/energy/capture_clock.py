"""The meter's clock on the rig's, without a wire between them: transmit bursts matched to packets.

A burst in the current at capture time c and the stamp p of the packet that it carried are two readings of one event:

    p = c (1 + drift) + offset + least + excess

*least* is the latency that every stamp has (airtime up to the stamp, interrupt, driver), *excess* >= 0 what queues and
schedulers add to one. From bursts and packets alone **only offset + least can be known**: the lower edge of the cloud
of differences p - c. Moving the offset and the least latency against each other changes no stamp, however many there
are. The mean of the excess is known too, as distance from that edge; the least latency is not. It enters as a prior,
which is a term of the uncertainty until a trigger wire measures it (:func:`compare_with_wire`).

The edge is found by Bayes' rule over a family of excess distributions (gamma of any scale, with stragglers), since
nobody knows the true one; how far the smallest of n differences may lie above the edge depends on that shape. Packets
without a burst and bursts without a packet are part of the model. Which burst belongs to which packet is searched over
the whole window of offsets and drifts, and refused where the answer could be chance or another place is nearly as good.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rig.energy.alignment import Bounds
from rig.energy.waveform import Waveform
from rig.errors import BenchError

Array = NDArray[np.float64]

#: Least latency of a stamp after the start of its burst: air time of a short frame, interrupt and driver. It is never
#: negative, and no more is known of it than a typical size: an exponential distribution (JCGM 101, 6.4), whose
#: standard uncertainty is its mean. At k = 2 that holds everything from 0 to 300 us.
LEAST_LATENCY_S = 100e-6
LEAST_LATENCY_UNCERTAINTY_S = 100e-6
#: How far two free-running crystals and a meter's time base may differ.
DRIFT_LIMIT = 200e-6
#: A match is believed if chance would bring one as good with no more than this probability.
CHANCE = 1e-3
#: Another place is a rival if it is true with more than these odds, where at most this share of packets lacks a burst.
RIVAL_ODDS, LACKING_AT_MOST = 3e-3, 0.2
#: Widths in which latencies may lie for the search of the place.
SEARCH_WIDTHS_S = (0.5e-3, 2e-3, 8e-3)
#: Bursts in the first search, which must not depend on drift too much; the rest follows from what they tell.
FIRST_BURSTS = 200
#: Matched packets that the edge is found from, spread evenly: more of them would not narrow what is stated.
ENOUGH_PACKETS = 120
#: Candidate places that are looked at one by one.
CANDIDATES = 300
MIN_MATCHES = 3

ROOT_3 = math.sqrt(3)


class AlignmentError(BenchError):
    """Bursts and packets do not tell where the recording lies on the rig's clock."""


class TooFewMatches(AlignmentError):
    """So few bursts and packets fit each other that chance explains them."""


class AmbiguousMatch(AlignmentError):
    """The bursts fit the packets at more than one place: regular traffic looks the same one period later."""


@dataclass(frozen=True)
class CaptureClock:
    """Maps capture time (second after the first sample began, on the meter's clock) to the rig's clock.

    ``rig_s = capture_s (1 + drift) + offset_s``. ``edge_uncertainty_s`` (of the edge at capture time ``reference_s``,
    where it does not correlate with the drift), ``drift_uncertainty`` and ``latency_uncertainty_s`` (of ``latency_s``,
    the least latency that was assumed) are standard uncertainties; ``stamp_half_width_s`` is the half-width of what all
    stamps may be off by besides (the router's clock against the rig's).
    ``residual_s`` is the median latency above the least one. *matched* packets of *packets*, *bursts* in the recording.
    """

    offset_s: float
    drift: float
    reference_s: float
    edge_uncertainty_s: float
    drift_uncertainty: float
    latency_s: float
    latency_uncertainty_s: float
    stamp_half_width_s: float
    residual_s: float
    matched: int
    bursts: int
    packets: int

    def to_rig_s(self, capture_s: float) -> float:
        """Map an instant of the recording to the rig's clock, in second."""
        return capture_s * (1 + self.drift) + self.offset_s

    def uncertainty_s(self, capture_s: float) -> float:
        """Return the expanded uncertainty (95 %, k = 2) of :meth:`to_rig_s` at an instant of the recording."""
        drift_s = (capture_s - self.reference_s) * self.drift_uncertainty
        stamps_s = self.stamp_half_width_s / ROOT_3
        return 2 * math.hypot(self.edge_uncertainty_s, drift_s, self.latency_uncertainty_s, stamps_s)

    def bounds(self, capture_s: float) -> Bounds:
        """Return the rig times between which an instant of the recording lies, at 95 %."""
        middle_s, half_s = self.to_rig_s(capture_s), self.uncertainty_s(capture_s)
        return Bounds(middle_s - half_s, middle_s + half_s, "bursts and packets")

    def place(self, waveform: Waveform) -> Waveform:
        """Return *waveform* on the rig's clock, its interval corrected for drift.

        ``t0_uncertainty_s`` is the largest expanded uncertainty of any instant in it: at its first or at its last.
        """
        ends_s = (0.0, waveform.duration_s)
        return replace(
            waveform,
            t0_s=self.to_rig_s(0.0),
            t0_uncertainty_s=max(self.uncertainty_s(end_s) for end_s in ends_s),
            interval_s=waveform.interval_s * (1 + self.drift),
            aperture_s=waveform.aperture_s * (1 + self.drift),
        )


@dataclass(frozen=True)
class WireComparison:
    """What a trigger wire says of the least latency: a value with its standard uncertainty, to be the next prior.

    ``difference_s`` is what :meth:`CaptureClock.to_rig_s` says of the trigger less what the wire says.
    """

    difference_s: float
    latency_s: float
    latency_uncertainty_s: float


def compare_with_wire(clock: CaptureClock, trigger_capture_s: float, wire: Bounds) -> WireComparison:
    """Check *clock* against a trigger wire: *wire* bounds the rig time of what happened at *trigger_capture_s*.

    Returns the least latency of the stamps that brings both together: what was assumed, plus the difference. Its
    uncertainty is the wire's and that of the edge, and no longer that of the assumption.

    Raises:
        Contradiction: the two exclude each other.
    """
    clock.bounds(trigger_capture_s).within(wire)
    difference_s = clock.to_rig_s(trigger_capture_s) - wire.middle_s
    edge_s = replace(clock, latency_uncertainty_s=0.0).uncertainty_s(trigger_capture_s) / 2
    return WireComparison(difference_s, clock.latency_s + difference_s, math.hypot(wire.half_width_s / ROOT_3, edge_s))


def match_bursts(
    bursts_s: Array,
    packets_s: Array,
    *,
    duration_s: float,
    start: Bounds,
    latency_s: float = LEAST_LATENCY_S,
    latency_uncertainty_s: float = LEAST_LATENCY_UNCERTAINTY_S,
    stamp_half_width_s: float = 0.0,
    drift_limit: float = DRIFT_LIMIT,
) -> CaptureClock:
    """Return the meter's clock on the rig's.

    *bursts_s* (capture time, shape (n,)) are the instants in the recording of *duration_s* that the latencies count
    from, by default the starts of the bursts. *packets_s* (rig's clock, shape (m,)) are the stamps of what the board
    sent, also before and after the recording. *start* bounds the rig time of the first sample. *latency_s* is the least
    latency of a stamp, *latency_uncertainty_s* its standard uncertainty; *stamp_half_width_s* what else all stamps may
    be off by. The mean latency is not asked for: what exceeds the least one, the stamps themselves tell.

    Raises:
        TooFewMatches: fewer than three packets fit, or chance would fit as many.
        AmbiguousMatch: they fit at another place within *start* nearly as well.
    """
    trains = _Trains(np.sort(bursts_s), np.sort(packets_s), duration_s, drift_limit)
    place = _search(trains.middle(FIRST_BURSTS), start)
    used = FIRST_BURSTS
    edge = _find_edge(trains.middle(used), _Edge.at(place), place.width_s)
    while used < len(trains.bursts_s):
        used *= 2
        edge = _find_edge(trains.middle(used), edge, place.width_s)
    latencies_s = _latencies_s(trains, edge)
    return CaptureClock(
        offset_s=edge.at_reference_s - edge.reference_s * (1 + edge.drift) - latency_s,
        drift=edge.drift,
        reference_s=edge.reference_s,
        edge_uncertainty_s=edge.uncertainty_s,
        drift_uncertainty=edge.drift_uncertainty,
        latency_s=latency_s,
        latency_uncertainty_s=latency_uncertainty_s,
        stamp_half_width_s=stamp_half_width_s,
        residual_s=float(np.median(latencies_s)),
        matched=len(latencies_s),
        bursts=len(bursts_s),
        packets=len(packets_s),
    )


@dataclass(frozen=True)
class _Trains:
    """Bursts on the meter's clock and packets on the rig's, both ascending."""

    bursts_s: Array
    packets_s: Array
    duration_s: float
    drift_limit: float
    #: From where to where of the recording these bursts are all that there are.
    from_s: float = 0.0

    @property
    def reference_s(self) -> float:
        return float(self.bursts_s.mean()) if len(self.bursts_s) else 0.0

    @property
    def counts(self) -> str:
        return f"{len(self.bursts_s)} bursts and {len(self.packets_s)} packets"

    def middle(self, count: int) -> "_Trains":
        """Return this with at most *count* bursts, around the middle one."""
        surplus = len(self.bursts_s) - count
        if surplus <= 0:
            return self
        first = surplus // 2
        bursts_s = self.bursts_s[first : first + count]
        length_s = float(bursts_s[-1] - bursts_s[0])
        return replace(self, bursts_s=bursts_s, duration_s=length_s, from_s=float(bursts_s[0]))


@dataclass(frozen=True)
class _Place:
    """A candidate: at the capture time *reference_s* the edge of the stamps is at *at_reference_s*."""

    at_reference_s: float
    drift: float
    reference_s: float
    width_s: float
    #: Packets (by index) with a burst in the width before them, and those inside the recording that have none.
    fitting: frozenset[int]
    lacking: frozenset[int]
    #: Bursts that have a packet.
    matched: int


def _search(trains: _Trains, start: Bounds) -> _Place:
    """Return where the bursts lie among the packets, having made sure that it is no accident and the only place."""
    if min(len(trains.bursts_s), len(trains.packets_s)) < MIN_MATCHES:
        raise TooFewMatches(f"{trains.counts} are too few to align by: at least {MIN_MATCHES} of each must fit")
    differences = _differences(trains, start)
    found = [place for width_s in SEARCH_WIDTHS_S if (place := _best(trains, differences, width_s))]
    if not found:
        raise TooFewMatches(f"none of {trains.counts} fit each other within the time that the recording may lie in")
    chances = [_chance(differences, trains, place) for place in found]
    best = found[int(np.argmin(chances))]
    if best.matched < MIN_MATCHES or min(chances) > CHANCE:
        raise TooFewMatches(
            f"{best.matched} of {trains.counts} fit each other, which is chance with a probability of up to "
            f"{min(1.0, min(chances)):.2g}: let the board send more often, or say better when the recording began"
        )
    _refuse_rivals(trains, differences, best)
    return best


@dataclass(frozen=True)
class _Differences:
    """Packet less burst for every pair that *start* allows: at the reference instant, and how it goes with drift."""

    offsets_s: Array
    lever_s: Array
    window_s: float


def _differences(trains: _Trains, start: Bounds) -> _Differences:
    bursts_s, packets_s, reference_s = trains.bursts_s, trains.packets_s, trains.reference_s
    reach_s = start.half_width_s + trains.drift_limit * (trains.from_s + trains.duration_s) + max(SEARCH_WIDTHS_S)
    first = np.searchsorted(packets_s, bursts_s + start.middle_s - reach_s)
    last = np.searchsorted(packets_s, bursts_s + start.middle_s + reach_s)
    counts = last - first
    burst = np.repeat(np.arange(len(bursts_s)), counts)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    packet = first[burst] + within
    lever_s = bursts_s[burst] - reference_s
    return _Differences(packets_s[packet] - lever_s, lever_s, 2 * reach_s)


def _drifts(trains: _Trains, width_s: float) -> Array:
    """Return drifts so close that the next one moves no burst by more than half a width."""
    lever_s = float(np.abs(trains.bursts_s - trains.reference_s).max())
    steps = 2 * math.ceil(2 * trains.drift_limit * lever_s / width_s) + 1
    return np.linspace(-trains.drift_limit, trains.drift_limit, steps)


def _candidates(trains: _Trains, differences: _Differences, width_s: float) -> list[tuple[int, float, float]]:
    """Return (pairs, offset at the reference, drift) of the places with the most pairs within *width_s*."""
    found: list[tuple[int, float, float]] = []
    for drift in _drifts(trains, width_s):
        at_s = np.sort(differences.offsets_s - drift * differences.lever_s)
        pairs = np.searchsorted(at_s, at_s + width_s, side="right") - np.arange(len(at_s))
        for index in _apart(at_s, pairs, width_s):
            found.append((int(pairs[index]), float(at_s[index]), float(drift)))
    return sorted(found, reverse=True)[:CANDIDATES]


def _apart(at_s: Array, pairs: NDArray[np.int64], width_s: float) -> NDArray[np.int64]:
    """Return the best place of each half width, of those with two pairs or more."""
    index = np.flatnonzero(pairs >= 2)
    order = index[np.argsort(-pairs[index], kind="stable")]
    _, first = np.unique(np.floor(at_s[order] / (width_s / 2)), return_index=True)
    return np.asarray(order[np.sort(first)][:CANDIDATES])


def _best(trains: _Trains, differences: _Differences, width_s: float) -> _Place | None:
    places = _places(trains, differences, width_s)
    return max(places, key=lambda place: (place.matched, -len(place.lacking)), default=None)


def _places(trains: _Trains, differences: _Differences, width_s: float) -> list[_Place]:
    candidates = _candidates(trains, differences, width_s)
    return [_score(trains, offset_s, drift, width_s) for _, offset_s, drift in candidates]


def _score(trains: _Trains, offset_s: float, drift: float, width_s: float) -> _Place:
    """Count what fits when the edge lies at *offset_s*; a quarter of the width more on both sides, for the drift."""
    slack_s = width_s / 4
    reference_s = trains.reference_s
    expected_s = offset_s + (trains.bursts_s - reference_s) * (1 + drift)
    packets_s = trains.packets_s
    burst = np.searchsorted(expected_s, packets_s + slack_s, side="right") - 1
    near = (burst >= 0) & (packets_s - expected_s[burst] <= width_s + slack_s)
    begin_s = offset_s + (trains.from_s - reference_s) * (1 + drift)
    inside = (packets_s > begin_s + width_s) & (packets_s < begin_s + trains.duration_s * (1 + drift))
    matched = len(np.unique(burst[near]))
    fitting, lacking = np.flatnonzero(near).tolist(), np.flatnonzero(inside & ~near).tolist()
    return _Place(offset_s, drift, reference_s, width_s, frozenset(fitting), frozenset(lacking), matched)


def _chance(differences: _Differences, trains: _Trains, place: _Place) -> float:
    """Return an upper bound of the expected number of places that fit as well if all pairs fell at random."""
    expected = len(differences.offsets_s) * 1.5 * place.width_s / differences.window_s
    if place.matched <= expected:
        return math.inf
    trials = len(_drifts(trains, place.width_s)) * differences.window_s / place.width_s
    tail = place.matched * math.log(expected) - math.lgamma(place.matched + 1) - expected
    return trials * math.exp(max(tail - math.log1p(-expected / (place.matched + 1)), -700.0))


def _refuse_rivals(trains: _Trains, differences: _Differences, best: _Place) -> None:
    """Raise where another place would be as believable."""
    rivals = [
        place
        for place in _places(trains, differences, best.width_s)
        if abs(place.at_reference_s - best.at_reference_s) > 2 * best.width_s and _odds(place, best) > RIVAL_ODDS
    ]
    if rivals:
        rival = max(rivals, key=lambda place: place.matched)
        away_s = rival.at_reference_s - best.at_reference_s
        raise AmbiguousMatch(
            f"{trains.counts}: {best.matched} fit each other at one place and {rival.matched} at another, "
            f"{away_s * 1e3:+.1f} ms from it: send at irregular times, or say better when the recording began"
        )


def _odds(rival: _Place, best: _Place) -> float:
    """Return how probable *best*'s match is if *rival* is the true place, compared to the reverse.

    Bursts without a packet say nothing, since packets get lost; nor do packets outside the recording. At a true place
    few packets inside it lack a burst. And what a false place matches must come from the traffic's likeness to itself
    at that distance, which the packets that both places can judge show: how many of them fit at both.
    """
    both = len(rival.fitting & best.fitting)
    judged = len(best.fitting & (rival.fitting | rival.lacking))
    likeness = (both + 1) / (judged + 2)
    lacks = len(best.fitting & rival.lacking) - len(rival.fitting & best.lacking)
    outside = len(best.fitting) - judged
    return float(likeness**outside * (likeness * LACKING_AT_MOST) ** lacks)


@dataclass(frozen=True)
class _Edge:
    """The lower edge of the stamps: rig time at the capture time *reference_s*, and drift; standard uncertainties."""

    at_reference_s: float
    drift: float
    reference_s: float
    uncertainty_s: float
    drift_uncertainty: float

    @classmethod
    def at(cls, place: _Place) -> "_Edge":
        return cls(place.at_reference_s, place.drift, place.reference_s, math.inf, math.inf)


#: The family of excess distributions: gammas of these shapes, means between these, and stragglers (exponential).
SHAPES = (1, 2, 4)
MEANS_S = (20e-6, 3e-3)
STRAGGLERS, STRAGGLER_MEAN_S = 0.1, 5e-3
#: Share of packets that have a burst in the recording, and packets without one compared to all of them.
HAVE_BURST, LACK_BURST = 0.8, 0.1
#: How long after its burst a packet is looked for.
TAIL_S = 25e-3
#: How late a stamp may be for its packet to count as matched.
MATCHED_S = 10e-3
#: Points of the grid in offset, drift and mean excess, and how often it is drawn closer.
GRID, ROUNDS = (17, 11, 9), 6


def _latencies_s(trains: _Trains, edge: _Edge) -> Array:
    """Return how long after the edge of its burst each packet that has one was stamped; a burst has one packet."""
    expected_s = edge.at_reference_s + (trains.bursts_s - edge.reference_s) * (1 + edge.drift)
    burst = np.searchsorted(expected_s, trains.packets_s + 2 * edge.uncertainty_s, side="right") - 1
    after_s = trains.packets_s - expected_s[burst]
    near = (burst >= 0) & (after_s < MATCHED_S)
    _, first = np.unique(burst[near], return_index=True)
    return np.asarray(np.maximum(after_s[near][first], 0.0))


def _find_edge(trains: _Trains, guess: _Edge, width_s: float) -> _Edge:
    """Return the posterior mean and deviation of edge and drift, given all pairs near *guess*."""
    reference_s = trains.reference_s
    centre_s = guess.at_reference_s + (reference_s - guess.reference_s) * (1 + guess.drift)
    lever_s = float(np.abs(trains.bursts_s - reference_s).max())
    pairs = _Pairs.near(trains, centre_s, guess.drift, width_s)
    offset = _Axis(-1.5 * width_s, 1.5 * width_s)
    reach = 2 * width_s / max(lever_s, 1e-3)
    limit = trains.drift_limit
    drift = _Axis(-reach, reach, -limit - guess.drift, limit - guess.drift)
    least, most = (math.log(mean_s) for mean_s in MEANS_S)
    mean = _Axis(least, most, least, most)
    for _ in range(ROUNDS):
        offsets_s, drifts, means = offset.points(GRID[0]), drift.points(GRID[1]), mean.points(GRID[2])
        cube = _posterior(pairs, offsets_s, drifts, np.exp(means))
        weights = cube.sum(axis=0)
        offset = offset.closer(offsets_s, weights.sum(axis=1))
        drift = drift.closer(drifts, weights.sum(axis=0))
        mean = mean.closer(means, cube.sum(axis=(1, 2)))
    return _edge_from(trains, guess, centre_s, offsets_s, drifts, weights)


def _edge_from(
    trains: _Trains, guess: _Edge, centre_s: float, offsets_s: Array, drifts: Array, weights: Array
) -> _Edge:
    mean_s, mean_drift = float(weights.sum(axis=1) @ offsets_s), float(weights.sum(axis=0) @ drifts)
    off, dri = offsets_s - mean_s, drifts - mean_drift
    variance_s2, variance_drift = float(weights.sum(axis=1) @ off**2), float(weights.sum(axis=0) @ dri**2)
    covariance_s = float(off @ weights @ dri)
    # The instant at which the two do not correlate: from it the uncertainty grows the same way into both directions.
    shift_s = -covariance_s / variance_drift if variance_drift > 0 else 0.0
    variance_s2 -= covariance_s**2 / variance_drift if variance_drift > 0 else 0.0
    drift = guess.drift + mean_drift
    return _Edge(
        at_reference_s=centre_s + mean_s + shift_s * (1 + drift),
        drift=drift,
        reference_s=trains.reference_s + shift_s,
        uncertainty_s=math.sqrt(max(variance_s2, 0.0)) * _skew(off, weights.sum(axis=1)),
        drift_uncertainty=math.sqrt(variance_drift),
    )


def _skew(deviations: Array, weights: Array) -> float:
    """Return by how much two standard deviations fall short of the farther end of the central 95 %, at least 1."""
    below = np.cumsum(weights) - weights / 2
    ends = np.interp((0.025, 0.975), below, deviations)
    deviation = math.sqrt(float(weights @ deviations**2))
    return max(1.0, float(np.abs(ends).max()) / (2 * deviation)) if deviation > 0 else 1.0


@dataclass(frozen=True)
class _Axis:
    """A stretch of a parameter that holds what is worth looking at, and what the parameter may be at all."""

    low: float
    high: float
    least: float = -math.inf
    most: float = math.inf

    def points(self, count: int) -> Array:
        return np.linspace(max(self.low, self.least), min(self.high, self.most), count)

    def closer(self, points: Array, weights: Array) -> "_Axis":
        """Return the stretch around the mass, five deviations wide on each side, and at least three steps of the grid.

        It may leave the one before: on a coarse grid the mass lies beside where a finer one shows it.
        """
        mean = float(weights @ points)
        deviation = math.sqrt(float(weights @ (points - mean) ** 2))
        reach = max(5 * deviation, 3 * float(points[1] - points[0]))
        return replace(self, low=mean - reach, high=mean + reach)


@dataclass(frozen=True)
class _Pairs:
    """Every burst and packet that may belong together: shape (k,), ordered by packet.

    ``excess_s`` is the latency when the edge lies at the guess, ``first`` where each packet's pairs begin.
    """

    excess_s: Array
    lever_s: Array
    packet: NDArray[np.int64]
    first: NDArray[np.int64]
    packets_per_s: float

    @classmethod
    def near(cls, trains: _Trains, centre_s: float, drift: float, width_s: float) -> "_Pairs":
        lever_s = trains.bursts_s - trains.reference_s
        expected_s = centre_s + lever_s * (1 + drift)
        packets_s = trains.packets_s
        low = np.searchsorted(expected_s, packets_s - TAIL_S)
        high = np.searchsorted(expected_s, packets_s + 4 * width_s)
        known = np.flatnonzero(high > low)
        if len(known) > ENOUGH_PACKETS:
            known = known[np.linspace(0, len(known) - 1, ENOUGH_PACKETS).astype(np.int64)]
        counts = high[known] - low[known]
        first = np.cumsum(counts) - counts
        packet = np.repeat(known, counts)
        burst = low[packet] + np.arange(int(counts.sum())) - np.repeat(first, counts)
        rate = len(packets_s) / max(float(packets_s[-1] - packets_s[0]), 1e-3)
        return cls(packets_s[packet] - expected_s[burst], lever_s[burst], packet, first, rate)


def _posterior(pairs: _Pairs, offsets_s: Array, drifts: Array, means_s: Array) -> Array:
    """Return the weights of mean excess, edge and drift, shape as these, summing to 1, over all shapes."""
    excess_s = pairs.excess_s - (offsets_s[:, None, None] + drifts[None, :, None] * pairs.lever_s)
    late_s, happened = np.maximum(excess_s, 0.0), excess_s >= 0
    straggling = happened * np.exp(-late_s / STRAGGLER_MEAN_S) / STRAGGLER_MEAN_S
    straggling = np.add.reduceat(straggling, pairs.first, axis=2)
    powers = {shape: happened * late_s ** (shape - 1) for shape in SHAPES}
    rest = HAVE_BURST * STRAGGLERS * straggling + LACK_BURST * pairs.packets_per_s
    logs = np.empty((len(means_s), len(SHAPES), len(offsets_s), len(drifts)))
    for row, mean_s in enumerate(means_s):
        for column, shape in enumerate(SHAPES):
            scale_s = mean_s / shape
            norm = math.lgamma(shape) + shape * math.log(scale_s)
            density = np.add.reduceat(powers[shape] * np.exp(-late_s / scale_s - norm), pairs.first, axis=2)
            logs[row, column] = np.log(HAVE_BURST * (1 - STRAGGLERS) * density + rest).sum(axis=2)
    weights = np.exp(logs - logs.max()).sum(axis=1)
    return np.asarray(weights / weights.sum())
