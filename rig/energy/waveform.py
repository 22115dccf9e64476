"""A recorded current and the exact arithmetic on stretches of it.

Samples are float32 (what an instrument delivers has no more digits); every sum over them is float64: a float32
running sum over 50 million samples of a realistic trace is wrong by tens of percent.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rig.energy.engine import COUNT, Engine, Totals, Track
from rig.energy.pyramid import Envelope
from rig.errors import BenchError


class WaveformError(BenchError):
    """The recording cannot answer the question: not aligned, too short, or invalid."""


class InvalidRecording(WaveformError):
    """The instrument calls the recording invalid, or too much of it is lost: nothing may be judged by it."""


@dataclass(frozen=True)
class RangeAccuracy:
    """The accuracy figures of one range at one aperture, as standard uncertainties where not said otherwise.

    ``document`` names where they come from. ``timebase_ppm`` is the half-width of the sample clock's error.
    ``series_ohm`` is the shunt plus the leads between the supply's sense point and the board. ``temperature`` says at
    which temperature the figures are used, ``temperature_gain_rel`` and ``temperature_offset_a`` what that adds.
    ``zero_a`` is that of the null that was subtracted. ``common_reference``: the gain errors of all ranges may have one
    cause. ``not_obtained`` has, by figure (gain, offset, noise, time base, series resistance, voltage), why there is
    none: it then stands as 0. ``reservation`` says why no verdict may rest on the figures although they are there.
    """

    document: str
    range_a: float
    gain_rel: float
    offset_a: float
    noise_rms_a: float
    timebase_ppm: float
    series_ohm: float
    series_uncertainty_ohm: float
    temperature: str = ""
    temperature_gain_rel: float = 0.0
    temperature_offset_a: float = 0.0
    zero_a: float = 0.0
    voltage_gain_rel: float = 0.0
    voltage_offset_v: float = 0.0
    common_reference: bool = False
    not_obtained: Mapping[str, str] = field(default_factory=dict)
    reservation: str = ""


@dataclass(frozen=True)
class Supply:
    """The voltage at the supply's sense point, in volt, with its standard uncertainty."""

    voltage_v: float
    standard_uncertainty_v: float = 0.0


@dataclass(frozen=True)
class RangeSpans:
    """Which range held when: from sample ``starts[i]`` (int64, ascending from 0) on, ``ranges_a[index[i]]`` (uint8)."""

    starts: NDArray[np.int64]
    index: NDArray[np.uint8]


@dataclass(frozen=True)
class Statistics:
    """What a window holds: ``square_a2s`` is the integral of the squared current, in A^2 s.

    ``sense_j`` is the integral of voltage times current at the supply's sense point, None where none was measured.
    ``gap_share`` of the duration is lost: the integrals are without it, and mean and rms are those of the rest. Where
    nothing is left, the minimum, maximum, mean and rms are NaN.
    """

    duration_s: float
    charge_c: float
    square_a2s: float
    min_a: float
    max_a: float
    sense_j: float | None = None
    gap_share: float = 0.0

    @property
    def mean_a(self) -> float:
        return self.charge_c / self._there_s if self._there_s else math.nan

    @property
    def rms_a(self) -> float:
        return math.sqrt(self.square_a2s / self._there_s) if self._there_s else math.nan

    @property
    def _there_s(self) -> float:
        return self.duration_s * (1 - self.gap_share)

    def energy_j(self, supply: Supply, series_ohm: float) -> float:
        """Return the energy that the board took: at its pins are V - I * R, R being shunt plus leads.

        The correction is exact per sample, because the integral of (V - I R) I is that of V I, or V Q where the voltage
        is only set and not measured, less R times the integral of I^2.
        """
        sense_j = supply.voltage_v * self.charge_c if self.sense_j is None else self.sense_j
        return sense_j - series_ohm * self.square_a2s


@dataclass(frozen=True)
class RangeShare:
    """What was measured on one range inside a window, without the lost samples; the integrals as in Statistics."""

    duration_s: float
    charge_c: float
    square_a2s: float
    sense_j: float | None


@dataclass(frozen=True)
class Waveform:
    """Equally spaced mean currents in ampere, shape (n,), float32, possibly memory-mapped.

    Sample k is the mean over ``aperture_s`` from ``t0_s + k * interval_s``; one that was lost is NaN. ``t0_s`` is a rig
    time and None as long as nobody knows it; ``t0_uncertainty_s`` is the half-width in which it lies.
    ``trigger_index`` is the first sample after the trigger, whose start lies ``trigger_lag_s`` (give or take
    ``trigger_lag_uncertainty_s``) after the trigger itself. ``gaps`` are (first lost sample, how many). ``ranges_a``
    are all ranges that were used, ``spans`` says when (None: the first one throughout), ``accuracy`` has the figures of
    each; empty means that no accuracy document exists, and that no verdict can rest on this waveform. ``voltage`` in
    volt, shape (n,), float32, is what was measured at the supply's sense point. ``invalid`` are the reasons for which
    the instrument itself says that nothing may be judged by this recording.
    """

    samples: NDArray[np.float32]
    interval_s: float
    aperture_s: float
    ranges_a: tuple[float, ...]
    accuracy: tuple[RangeAccuracy, ...] = ()
    t0_s: float | None = None
    t0_uncertainty_s: float = 0.0
    trigger_index: int | None = None
    trigger_lag_s: float = 0.0
    trigger_lag_uncertainty_s: float = 0.0
    gaps: tuple[tuple[int, int], ...] = ()
    spans: RangeSpans | None = None
    voltage: NDArray[np.float32] | None = None
    invalid: tuple[str, ...] = ()
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def duration_s(self) -> float:
        return len(self.samples) * self.interval_s

    @property
    def range_a(self) -> float:
        """Return the widest range that was used, in ampere."""
        return max(self.ranges_a)

    @property
    def end_s(self) -> float:
        """Return the rig time at which the recording ends."""
        return self._aligned_t0_s() + self.duration_s

    def aligned(self, trigger_s: float, uncertainty_s: float) -> "Waveform":
        """Return this waveform placed on the rig's clock.

        *trigger_s* is the rig time of the trigger, *uncertainty_s* the half-width in which it lies. How far the
        first sample after a trigger may lag behind it is added.
        """
        if self.trigger_index is None:
            raise WaveformError("this waveform has no trigger to align it by")
        return replace(
            self,
            t0_s=trigger_s + self.trigger_lag_s - self.trigger_index * self.interval_s,
            t0_uncertainty_s=uncertainty_s + self.trigger_lag_uncertainty_s,
        )

    def times_s(self) -> NDArray[np.float64]:
        """Return the rig time of the start of each sample, shape (n,)."""
        return self._aligned_t0_s() + np.arange(len(self.samples), dtype=np.float64) * self.interval_s

    def window(
        self, start_s: float, end_s: float, *, start_uncertainty_s: float = 0.0, end_uncertainty_s: float = 0.0
    ) -> "Window":
        """Return the stretch between two rig times; the uncertainties are half-widths of the two marks.

        Raises:
            WaveformError: not aligned, not inside the recording, or empty.
        """
        t0_s = self._aligned_t0_s()
        start, end = (start_s - t0_s) / self.interval_s, (end_s - t0_s) / self.interval_s
        return self._checked(start, end, start_uncertainty_s, end_uncertainty_s)

    def between(self, start_s: float, end_s: float) -> "Window":
        """Return the stretch between two times after the first sample: that very stretch, so its edges are sharp.

        Raises:
            WaveformError: not inside the recording, or empty.
        """
        start, end = start_s / self.interval_s, end_s / self.interval_s
        return self._checked(start, end, 0.0, 0.0, sharp=True)

    def whole(self) -> "Window":
        """Return the whole recording as a window, which needs no alignment and has sharp edges."""
        return self._checked(0.0, float(len(self.samples)), 0.0, 0.0, sharp=True)

    def statistics(self, start: float, end: float) -> Statistics:
        """Return the statistics between two positions counted in samples; a part of a sample counts in proportion."""
        totals, lost = self._totals(start, end)
        _, current, square, power = (totals.sums.sum(axis=0) * self.interval_s).tolist()
        there = totals.low <= totals.high
        return Statistics(
            duration_s=(end - start) * self.interval_s,
            charge_c=current,
            square_a2s=square,
            min_a=totals.low if there else math.nan,
            max_a=totals.high if there else math.nan,
            sense_j=None if self.voltage is None else power,
            gap_share=lost / (end - start),
        )

    def by_range(self, start: float, end: float) -> dict[int, RangeShare]:
        """Return what was measured on which of ``ranges_a``, by its index, between two positions as in statistics()."""
        totals, _ = self._totals(start, end)
        shares = {}
        for index, share in enumerate((totals.sums * self.interval_s).tolist()):
            duration_s, charge_c, square_a2s, sense_j = share
            if duration_s > 0:
                shares[index] = RangeShare(duration_s, charge_c, square_a2s, None if self.voltage is None else sense_j)
        return shares

    def envelope(self, start: int, end: int, bins: int) -> Envelope:
        """Return the outline of samples [start, end), for a plot; see :meth:`rig.energy.pyramid.Pyramid.envelope`."""
        return self._engine.pyramid.envelope(start, end, bins)

    def _aligned_t0_s(self) -> float:
        if self.t0_s is None:
            raise WaveformError(
                "the waveform is not aligned to the rig's clock yet: call aligned() with the trigger's time"
            )
        return self.t0_s

    @cached_property
    def _engine(self) -> Engine:
        spans = self.spans or RangeSpans(np.zeros(1, np.int64), np.zeros(1, np.uint8))
        return Engine(Track(self.samples, self.voltage, spans.starts, spans.index, len(self.ranges_a)))

    def _totals(self, start: float, end: float) -> tuple[Totals, float]:
        """Return the totals with the first and the last sample in proportion, and how many samples are lost."""
        first, last = math.floor(start), math.ceil(end)
        totals = self._engine.totals(first, last)
        lost = last - first - float(totals.sums[:, COUNT].sum())
        for index, weight in ((first, start - first), (last - 1, last - end)):
            if weight:
                sample = self._engine.totals(index, index + 1).sums
                totals.sums[:] -= weight * sample
                lost -= weight * (1 - float(sample[:, COUNT].sum()))
        return totals, lost

    def _checked(self, start: float, end: float, start_u_s: float, end_u_s: float, sharp: bool = False) -> "Window":
        slack = 1e-6
        if not (-slack <= start < end <= len(self.samples) + slack):
            from_s, to_s = start * self.interval_s, end * self.interval_s
            raise WaveformError(
                f"the window from {from_s:.6f} s to {to_s:.6f} s after the first sample is empty or not inside the "
                f"recording of {self.duration_s:.6f} s: record longer, or check the marks"
            )
        start, end = max(start, 0.0), min(end, float(len(self.samples)))
        return Window(self, start, end, start_u_s, end_u_s, sharp)


@dataclass(frozen=True)
class Window:
    """A stretch of a waveform between two positions counted in samples.

    ``start_uncertainty_s`` and ``end_uncertainty_s`` are the half-widths of its two marks. A *sharp* window is that
    stretch by definition and has no uncertain edges.
    """

    waveform: Waveform
    start: float
    end: float
    start_uncertainty_s: float = 0.0
    end_uncertainty_s: float = 0.0
    sharp: bool = False

    @property
    def duration_s(self) -> float:
        return (self.end - self.start) * self.waveform.interval_s

    @property
    def count(self) -> float:
        return self.end - self.start

    @cached_property
    def statistics(self) -> Statistics:
        return self.waveform.statistics(self.start, self.end)

    @cached_property
    def by_range(self) -> dict[int, RangeShare]:
        return self.waveform.by_range(self.start, self.end)

    def moved(self, start_by_s: float, end_by_s: float) -> "Window":
        """Return this window with its edges moved, as far as the recording and the other edge allow."""
        interval_s, total = self.waveform.interval_s, float(len(self.waveform))
        start = min(max(self.start + start_by_s / interval_s, 0.0), total - 1e-6)
        end = max(min(self.end + end_by_s / interval_s, total), start + 1e-6)
        return replace(self, start=start, end=end)
