"""Accuracy documents: what an instrument's maker promises, as a checked file.

A figure without its document, revision, page and conditions is refused. Figures are limits of error: rectangular
when the maker states no coverage, else expanded with the stated k (GUM 4.3.4, 4.3.7). A figure that nobody could read
in a document is left out, and ``not_obtained`` beside it says why: the instrument still measures, and a verdict that
would need the figure is inconclusive with exactly that reason.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from rig.energy import RangeAccuracy
from rig.errors import ConfigError
from rig.formats.checked_yaml import CheckedModel, load_checked
from rig.meter.calibration import Certificate

#: No board of a bench file is supplied with more: the voltage range that holds it is the one in use.
HIGHEST_SUPPLY_V = 5.0


class Conditions(CheckedModel):
    """Under which the figures hold.

    ``temperature_c`` is the interval around the temperature of calibration (TCAL). ``nplc`` or ``aperture_s`` is how
    long a reading integrates; noise figures need the aperture at which they hold.
    """

    temperature_c: tuple[float, float]
    warm_up_min: float = Field(ge=0)
    nplc: PositiveFloat | None = None
    aperture_s: PositiveFloat | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Conditions":
        low_c, high_c = self.temperature_c
        if low_c >= high_c:
            raise ValueError(f"temperature_c: from {low_c:g} to {high_c:g} is no interval")
        if self.nplc is None and self.aperture_s is None:
            raise ValueError("give nplc or aperture_s: how long a reading integrates")
        return self


class Coverage(CheckedModel):
    """Exactly one of the two: limits without a stated coverage, or an expanded uncertainty."""

    distribution: Literal["rectangular"] | None = None
    k: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "Coverage":
        if (self.distribution is None) == (self.k is None):
            raise ValueError("give either distribution: rectangular or k: the stated coverage factor")
        return self

    @property
    def divisor(self) -> float:
        """Return what turns a figure of the document into a standard uncertainty."""
        return self.k if self.k is not None else math.sqrt(3)


class RangeFigures(CheckedModel):
    """One line of the accuracy table.

    ``reading_ppm`` and ``range_ppm`` are parts per million of reading and of range, ``range_ppm_after_zero`` is what
    the latter becomes after a zero measurement. ``tempco_..._ppm_per_c`` is added per degree outside the conditions.
    ``burden_v`` is the voltage at full scale; where no ``shunt_ohm`` is known, the resistance lies between nothing and
    what that burden amounts to. Without ``noise_rms_a`` the noise is seen in the readings themselves.
    """

    range_a: PositiveFloat
    reading_ppm: PositiveFloat | None = None
    range_ppm: float | None = Field(None, ge=0)
    range_ppm_after_zero: float | None = Field(None, ge=0)
    tempco_reading_ppm_per_c: float | None = Field(None, ge=0)
    tempco_range_ppm_per_c: float | None = Field(None, ge=0)
    shunt_ohm: float | None = Field(None, ge=0)
    burden_v: float | None = Field(None, ge=0)
    noise_rms_a: PositiveFloat | None = None
    not_obtained: str = ""

    @model_validator(mode="after")
    def _absent_figures_are_explained(self) -> "RangeFigures":
        absent = [name for name in ("reading_ppm", "range_ppm", "noise_rms_a") if getattr(self, name) is None]
        if self.shunt_ohm is None and self.burden_v is None:
            absent.append("shunt_ohm or burden_v")
        if absent and not self.not_obtained:
            raise ValueError(f"has no {', '.join(absent)}: give the figure, or say why not (not_obtained: reason)")
        if (self.tempco_reading_ppm_per_c is None) != (self.tempco_range_ppm_per_c is None):
            raise ValueError("give both tempco_reading_ppm_per_c and tempco_range_ppm_per_c, or none")
        return self

    @model_validator(mode="after")
    def _burden_covers_the_shunt(self) -> "RangeFigures":
        if self.burden_v is None or self.shunt_ohm is None:
            return self
        if self.burden_v < self.shunt_ohm * self.range_a * (1 - 1e-6):
            raise ValueError(f"burden_v {self.burden_v:g} is less than shunt_ohm times range_a: one of them is wrong")
        return self


class VoltageFigures(CheckedModel):
    """One line of the voltage table of an instrument that measures voltage too; as for current."""

    range_v: PositiveFloat
    reading_ppm: PositiveFloat
    range_ppm: float = Field(ge=0)


class Document(CheckedModel):
    """The file as it is written.

    ``ranges_share: reference`` says that the gains of all ranges come from one reference: their errors then add
    linearly, which is the safe bound. ``not_obtained`` says why the document has no ``timebase_ppm``, or no voltage
    figures for an instrument that measures voltage. ``conditions`` and ``coverage`` are left out of a document that
    nobody could read, and that therefore has no figures.

    ``lead_ohm`` and ``series_tolerance_ppm`` are the bench's own, not the maker's: the resistance of the leads, both
    ways, and how far it and the shunt may be off. A document that has not been adapted to a bench leaves them out.
    """

    document: str = Field(min_length=1)
    revision: str = Field(min_length=1)
    page: str = Field(min_length=1)
    conditions: Conditions | None = None
    coverage: Coverage | None = None
    timebase_ppm: PositiveFloat | None = None
    lead_ohm: float | None = Field(None, ge=0)
    series_tolerance_ppm: PositiveFloat | None = None
    ranges_share: Literal["nothing", "reference"] = "nothing"
    ranges: tuple[RangeFigures, ...] = Field(min_length=1)
    voltage: tuple[VoltageFigures, ...] = ()
    not_obtained: str = ""

    @model_validator(mode="after")
    def _complete(self) -> "Document":
        if self.timebase_ppm is None and not self.not_obtained:
            raise ValueError("has no timebase_ppm: give the figure, or say why not (not_obtained: reason)")
        if self._has_figures():
            for name in ("conditions", "coverage"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name}: is missing, and without it the figures mean nothing")
        if (self.lead_ohm is None) != (self.series_tolerance_ppm is None):
            missing = "lead_ohm" if self.lead_ohm is None else "series_tolerance_ppm"
            raise ValueError(f"{missing}: is missing; lead_ohm and series_tolerance_ppm go together")
        noise = any(figures.noise_rms_a for figures in self.ranges)
        if noise and (self.conditions is None or self.conditions.aperture_s is None):
            raise ValueError("noise_rms_a needs conditions.aperture_s: the aperture at which it holds")
        return self

    def _has_figures(self) -> bool:
        lines = [(figures.reading_ppm, figures.range_ppm, figures.noise_rms_a) for figures in self.ranges]
        return bool(self.voltage) or any(figure is not None for line in lines for figure in line)

    @property
    def divisor(self) -> float:
        """Return what turns a figure into a standard uncertainty; there is none to turn without a coverage."""
        return self.coverage.divisor if self.coverage else 1.0


class Accuracy:
    """An accuracy document in use, with the certificate of the instrument where there is one.

    *temperature_c* is the temperature at the instrument; None is an unknown one, which is taken to be within the
    document's conditions, and the budget says so.
    """

    def __init__(
        self,
        document: Document,
        path: Path,
        *,
        certificate: Certificate | None = None,
        temperature_c: float | None = None,
    ) -> None:
        self.certificate = certificate
        self._document = document
        self._path = path
        self._temperature_c = temperature_c
        self._ranges = {figures.range_a: figures for figures in document.ranges}
        for range_a in certificate.ranges_a if certificate else ():
            self.figures(range_a)

    @property
    def document(self) -> str:
        """Return the citation: document, revision, page."""
        return f"{self._document.document}, revision {self._document.revision}, page {self._document.page}"

    def require_serial(self, serial: str) -> None:
        """Check that the certificate, where there is one, is that of the instrument that answered.

        Raises:
            ConfigError: it is another instrument's.
        """
        if self.certificate:
            self.certificate.require_serial(serial)

    def figures(self, range_a: float) -> RangeFigures:
        """Return the line of the table for *range_a*.

        Raises:
            ConfigError: the document has no such range.
        """
        for known_a, figures in self._ranges.items():
            if math.isclose(known_a, range_a, rel_tol=1e-6):
                return figures
        ranges = ", ".join(f"{known_a:g}" for known_a in self._ranges)
        raise ConfigError(f"{self._path}: ranges: no figures for the {range_a:g} A range (there are: {ranges})")

    def standard_uncertainty(self, range_a: float, reading_a: float) -> tuple[float, float]:
        """Return the gain's relative and the offset's absolute (ampere) standard uncertainty.

        Raises:
            ConfigError: the document has no such range or no figures for it, or *reading_a* is beyond its 120 %.
        """
        accuracy = self.of_range(range_a, 1.0)
        if abs(reading_a) > 1.2 * range_a * (1 + 1e-3):
            raise ConfigError(f"{self._path}: the figures of the {range_a:g} A range do not hold at {reading_a:g} A")
        for figure in ("gain", "offset"):
            if figure in accuracy.not_obtained:
                raise ConfigError(f"{self._path}: {accuracy.not_obtained[figure]}")
        return accuracy.gain_rel, accuracy.offset_a

    def of_range(self, range_a: float, aperture_s: float, *, zero_uncertainty_a: float | None = None) -> RangeAccuracy:
        """Return the figures of one range at one aperture; white noise falls with the root of the aperture.

        *zero_uncertainty_a* is the standard uncertainty of the null that is subtracted from the readings, in ampere,
        None where none is. The voltage figures are those of the lowest range that holds a board's supply.
        """
        figures, document = self.figures(range_a), self._document
        not_obtained: dict[str, str] = {}
        offset_ppm = figures.range_ppm
        if zero_uncertainty_a is not None and figures.range_ppm_after_zero is not None:
            offset_ppm = figures.range_ppm_after_zero
        if figures.reading_ppm is None:
            not_obtained["gain"] = self._why(f"the gain error of the {range_a:g} A range", figures.not_obtained)
        if offset_ppm is None:
            not_obtained["offset"] = self._why(f"the offset error of the {range_a:g} A range", figures.not_obtained)
        if document.timebase_ppm is None:
            not_obtained["time base"] = self._why("the error of the sample clock", document.not_obtained)
        if not document.voltage:
            not_obtained["voltage"] = self._why("the errors of measured voltage", document.not_obtained)
        divisor = document.divisor
        voltage_gain_rel, voltage_offset_v = self._voltage()
        series_ohm, series_uncertainty_ohm = self._series(figures, not_obtained)
        accuracy = RangeAccuracy(
            document=self.document,
            range_a=range_a,
            gain_rel=(figures.reading_ppm or 0.0) * 1e-6 / divisor,
            offset_a=(offset_ppm or 0.0) * 1e-6 * range_a / divisor,
            noise_rms_a=self._noise(figures, aperture_s, not_obtained),
            timebase_ppm=document.timebase_ppm or 0.0,
            series_ohm=series_ohm,
            series_uncertainty_ohm=series_uncertainty_ohm,
            zero_a=zero_uncertainty_a or 0.0,
            voltage_gain_rel=voltage_gain_rel,
            voltage_offset_v=voltage_offset_v,
            common_reference=document.ranges_share == "reference",
            not_obtained=not_obtained,
        )
        accuracy = self._at_temperature(accuracy, figures)
        return self.certificate.applied(accuracy) if self.certificate else accuracy

    def _why(self, figure: str, reason: str) -> str:
        return f"{figure} is not in {self._document.document}: {reason or 'it states none'}"

    def _noise(self, figures: RangeFigures, aperture_s: float, not_obtained: dict[str, str]) -> float:
        conditions = self._document.conditions
        reference_s = conditions.aperture_s if conditions else None
        if figures.noise_rms_a is None or reference_s is None:
            not_obtained["noise"] = self._why(f"the noise of the {figures.range_a:g} A range", figures.not_obtained)
            return 0.0
        return figures.noise_rms_a * math.sqrt(reference_s / aperture_s)

    def _series(self, figures: RangeFigures, not_obtained: dict[str, str]) -> tuple[float, float]:
        """Return the resistance between sense point and board and its standard uncertainty, in ohm."""
        document = self._document
        if document.lead_ohm is None or document.series_tolerance_ppm is None:
            not_obtained["series resistance"] = (
                f"{self._path.name} is not adapted to this bench: measure the resistance of its leads, and write "
                "lead_ohm and series_tolerance_ppm into a copy"
            )
            return figures.shunt_ohm or 0.0, 0.0
        tolerance = document.series_tolerance_ppm * 1e-6 / math.sqrt(3)
        if figures.shunt_ohm is not None:
            series_ohm = figures.shunt_ohm + document.lead_ohm
            return series_ohm, series_ohm * tolerance
        if figures.burden_v is None:
            what = f"the resistance of the {figures.range_a:g} A range"
            not_obtained["series resistance"] = self._why(what, figures.not_obtained)
            return document.lead_ohm, document.lead_ohm * tolerance
        half_ohm = figures.burden_v / figures.range_a / 2
        return half_ohm + document.lead_ohm, math.hypot(half_ohm / math.sqrt(3), document.lead_ohm * tolerance)

    def _voltage(self) -> tuple[float, float]:
        """Return gain (relative) and offset (volt) of measured voltage, as standard uncertainties."""
        lines = sorted(self._document.voltage, key=lambda line: line.range_v)
        if not lines:
            return 0.0, 0.0
        line = next((line for line in lines if line.range_v >= HIGHEST_SUPPLY_V), lines[-1])
        divisor = self._document.divisor
        return line.reading_ppm * 1e-6 / divisor, line.range_ppm * 1e-6 * line.range_v / divisor

    def _at_temperature(self, accuracy: RangeAccuracy, figures: RangeFigures) -> RangeAccuracy:
        """Return *accuracy* with what the temperature at the instrument adds to it."""
        if self._document.conditions is None:
            return accuracy
        low_c, high_c = self._document.conditions.temperature_c
        if self._temperature_c is None:
            return replace(accuracy, temperature=f"temperature (taken to be {low_c:g} to {high_c:g} °C)")
        temperature = f"temperature ({self._temperature_c:g} °C)"
        outside_c = max(low_c - self._temperature_c, self._temperature_c - high_c, 0.0)
        if not outside_c:
            return replace(accuracy, temperature=temperature)
        if figures.tempco_reading_ppm_per_c is None or figures.tempco_range_ppm_per_c is None:
            reason = (
                f"it is {self._temperature_c:g} °C at the meter; {self._document.document} holds from {low_c:g} to "
                f"{high_c:g} °C and has no temperature coefficient for the {figures.range_a:g} A range"
            )
            return replace(accuracy, temperature=temperature, reservation=reason)
        scale = outside_c * 1e-6 / self._document.divisor
        return replace(
            accuracy,
            temperature=temperature,
            temperature_gain_rel=figures.tempco_reading_ppm_per_c * scale,
            temperature_offset_a=figures.tempco_range_ppm_per_c * scale * figures.range_a,
        )


def load_accuracy(
    path: Path, *, certificate: Certificate | None = None, temperature_c: float | None = None
) -> Accuracy:
    """Read the accuracy document at *path*; *certificate* and *temperature_c* are those of :class:`Accuracy`.

    Raises:
        ConfigError: file, line and key of what is wrong.
    """
    document = load_checked(path, Document)
    for key, values in (
        ("ranges: a range_a", [figures.range_a for figures in document.ranges]),
        ("voltage: a range_v", [figures.range_v for figures in document.voltage]),
    ):
        if len(set(values)) < len(values):
            raise ConfigError(f"{path}: {key} stands twice")
    return Accuracy(document, path, certificate=certificate, temperature_c=temperature_c)
