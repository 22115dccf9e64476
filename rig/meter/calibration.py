"""Calibration certificates: what a laboratory found of one instrument, as a checked file.

The rig corrects no reading by a certificate. An error that the laboratory found stays in the readings and enlarges
their uncertainty by its size (GUM F.2.4.5). What was found takes the place of the maker's figure where it is the
smaller one, where the maker states none, and where it shows the instrument to be outside the maker's figure.
"""

import math
from dataclasses import replace
from datetime import date
from pathlib import Path

from pydantic import Field, PositiveFloat, model_validator

from rig.energy import RangeAccuracy
from rig.errors import ConfigError
from rig.formats.checked_yaml import CheckedModel, load_checked

DAYS_PER_YEAR = 365.25


class Drift(CheckedModel):
    """How far the errors may move in a year: limits, in parts per million of reading and of range."""

    reading_ppm_per_year: float = Field(ge=0)
    range_ppm_per_year: float = Field(ge=0)


class RangeFinding(CheckedModel):
    """What was found in one range: gain error, offset error or both, each with its expanded uncertainty."""

    range_a: PositiveFloat
    gain_error_ppm: float | None = None
    gain_uncertainty_ppm: PositiveFloat | None = None
    offset_error_a: float | None = None
    offset_uncertainty_a: PositiveFloat | None = None

    @model_validator(mode="after")
    def _in_pairs(self) -> "RangeFinding":
        if (self.gain_error_ppm is None) != (self.gain_uncertainty_ppm is None):
            raise ValueError("gain_error_ppm and gain_uncertainty_ppm go together")
        if (self.offset_error_a is None) != (self.offset_uncertainty_a is None):
            raise ValueError("offset_error_a and offset_uncertainty_a go together")
        if self.gain_error_ppm is None and self.offset_error_a is None:
            raise ValueError("has neither a gain nor an offset")
        return self


class CertificateFile(CheckedModel):
    """The file as it is written; ``k`` is the coverage factor of its expanded uncertainties."""

    laboratory: str = Field(min_length=1)
    certificate: str = Field(min_length=1)
    serial: str = Field(min_length=1)
    calibrated_on: date
    due_on: date
    k: PositiveFloat
    drift: Drift | None = None
    ranges: tuple[RangeFinding, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> "CertificateFile":
        if self.due_on <= self.calibrated_on:
            raise ValueError("due_on is not after calibrated_on")
        ranges = [finding.range_a for finding in self.ranges]
        if len(set(ranges)) < len(ranges):
            raise ValueError("ranges: a range_a stands twice")
        return self


class Certificate:
    """A certificate in use on the day *today*."""

    def __init__(self, content: CertificateFile, path: Path, today: date) -> None:
        self._content = content
        self._path = path
        self._years = (today - content.calibrated_on).days / DAYS_PER_YEAR
        self.overdue = today > content.due_on
        """Whether it was due before today."""
        if today < content.calibrated_on:
            raise ConfigError(f"{path}: calibrated_on: {content.calibrated_on} is yet to come: check the host's date")

    @property
    def name(self) -> str:
        """Return the citation: certificate, laboratory, date."""
        content = self._content
        return f"certificate {content.certificate} of {content.laboratory}, {content.calibrated_on}"

    @property
    def due_on(self) -> date:
        return self._content.due_on

    @property
    def ranges_a(self) -> tuple[float, ...]:
        """Return the ranges that were calibrated, in ampere."""
        return tuple(finding.range_a for finding in self._content.ranges)

    def require_serial(self, serial: str) -> None:
        """Raise ConfigError where the instrument that answered is not the one that was calibrated."""
        if serial != self._content.serial:
            raise ConfigError(
                f"{self._path}: serial: the certificate is that of instrument {self._content.serial}, and the one on "
                f"the bench is {serial}"
            )

    def applied(self, maker: RangeAccuracy) -> RangeAccuracy:
        """Return the maker's figures of a range with those of the certificate in place of them where the rule says so.

        After the due date the figures stay as they are, and no verdict may rest on them.
        """
        accuracy = maker
        findings = self._content.ranges
        finding = next((one for one in findings if math.isclose(one.range_a, maker.range_a, rel_tol=1e-6)), None)
        if finding is not None:
            accuracy = self._with_findings(maker, finding)
        if self.overdue:
            reason = f"the calibration of instrument {self._content.serial} was due on {self.due_on} ({self.name})"
            accuracy = replace(accuracy, reservation="; ".join(one for one in (maker.reservation, reason) if one))
        return accuracy

    def _with_findings(self, maker: RangeAccuracy, finding: RangeFinding) -> RangeAccuracy:
        figures: dict[str, float] = {}
        drift = self._content.drift or Drift(reading_ppm_per_year=0, range_ppm_per_year=0)
        if finding.gain_error_ppm is not None and finding.gain_uncertainty_ppm is not None:
            error_rel, expanded_rel = abs(finding.gain_error_ppm) * 1e-6, finding.gain_uncertainty_ppm * 1e-6
            found_rel = self._standard(error_rel, expanded_rel, drift.reading_ppm_per_year * 1e-6)
            if _takes_over(found_rel, error_rel, maker.gain_rel, "gain" in maker.not_obtained):
                figures["gain"] = found_rel
        if finding.offset_error_a is not None and finding.offset_uncertainty_a is not None:
            drift_a = drift.range_ppm_per_year * 1e-6 * maker.range_a
            found_a = self._standard(abs(finding.offset_error_a), finding.offset_uncertainty_a, drift_a)
            if _takes_over(found_a, abs(finding.offset_error_a), maker.offset_a, "offset" in maker.not_obtained):
                figures["offset"] = found_a
        if not figures:
            return maker
        return replace(
            maker,
            document=f"{maker.document}; {' and '.join(figures)}: {self.name}",
            gain_rel=figures.get("gain", maker.gain_rel),
            offset_a=figures.get("offset", maker.offset_a),
            not_obtained={figure: why for figure, why in maker.not_obtained.items() if figure not in figures},
        )

    def _standard(self, error: float, expanded: float, drift_per_year: float) -> float:
        """Return the standard uncertainty of an error left uncorrected, grown by the drift since calibration.

        Twice it, the expanded uncertainty of the result, holds the whole error beside the rest.
        """
        drift = drift_per_year * self._years / math.sqrt(3)
        return math.hypot(expanded / self._content.k, drift) + error / 2


def _takes_over(found: float, error: float, maker: float, not_obtained: bool) -> bool:
    """Say whether what the laboratory found stands in for the maker's figure, both as standard uncertainties.

    An error of more than twice the maker's standard uncertainty is beyond what the maker promises.
    """
    return not_obtained or found < maker or error > 2 * maker


def load_certificate(path: Path, *, today: date | None = None) -> Certificate:
    """Read the certificate at *path*; *today* is the day on which it is used (the host's date).

    Raises:
        ConfigError: file, line and key of what is wrong.
    """
    return Certificate(load_checked(path, CertificateFile), path, today or date.today())
