"""Accuracy documents: what an instrument's maker promises, as a checked file.

A figure without its document, revision, page and conditions is refused. Figures are limits of error: rectangular
when the maker states no coverage, else expanded with the stated k (GUM 4.3.4, 4.3.7).
"""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from rig.energy import RangeAccuracy
from rig.errors import ConfigError
from rig.formats.checked_yaml import CheckedModel, load_checked


class Conditions(CheckedModel):
    """Under which the figures hold; ``aperture_s`` is the aperture of ``noise_rms_a``."""

    temperature_c: tuple[float, float]
    warm_up_min: float = Field(ge=0)
    aperture_s: PositiveFloat


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
    """One line of the accuracy table: parts per million of reading and of range, shunt, noise, burden at full scale."""

    range_a: PositiveFloat
    reading_ppm: PositiveFloat
    range_ppm: PositiveFloat
    shunt_ohm: PositiveFloat
    noise_rms_a: PositiveFloat
    burden_v: PositiveFloat

    @model_validator(mode="after")
    def _burden_covers_the_shunt(self) -> "RangeFigures":
        if self.burden_v < self.shunt_ohm * self.range_a * (1 - 1e-6):
            raise ValueError(f"burden_v {self.burden_v:g} is less than shunt_ohm times range_a: one of them is wrong")
        return self


class Document(CheckedModel):
    """The file as it is written."""

    document: str = Field(min_length=1)
    revision: str = Field(min_length=1)
    page: str = Field(min_length=1)
    conditions: Conditions
    coverage: Coverage
    timebase_ppm: PositiveFloat
    lead_ohm: float = Field(ge=0)
    series_tolerance_ppm: PositiveFloat
    ranges: tuple[RangeFigures, ...] = Field(min_length=1)


class Accuracy:
    """An accuracy document in use."""

    def __init__(self, document: Document, path: Path) -> None:
        self._document = document
        self._path = path
        self._ranges = {figures.range_a: figures for figures in document.ranges}

    @property
    def document(self) -> str:
        """Return the citation: document, revision, page."""
        return f"{self._document.document}, revision {self._document.revision}, page {self._document.page}"

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
            ConfigError: the document has no such range, or *reading_a* is beyond its 120 %.
        """
        figures = self.figures(range_a)
        if abs(reading_a) > 1.2 * range_a * (1 + 1e-3):
            raise ConfigError(f"{self._path}: the figures of the {range_a:g} A range do not hold at {reading_a:g} A")
        divisor = self._document.coverage.divisor
        return figures.reading_ppm * 1e-6 / divisor, figures.range_ppm * 1e-6 * range_a / divisor

    def of_range(self, range_a: float, aperture_s: float) -> RangeAccuracy:
        """Return the figures of one range at one aperture; white noise falls with the root of the aperture."""
        figures, document = self.figures(range_a), self._document
        gain_rel, offset_a = self.standard_uncertainty(range_a, 0.0)
        series_ohm = figures.shunt_ohm + document.lead_ohm
        return RangeAccuracy(
            document=self.document,
            range_a=range_a,
            gain_rel=gain_rel,
            offset_a=offset_a,
            noise_rms_a=figures.noise_rms_a * math.sqrt(document.conditions.aperture_s / aperture_s),
            timebase_ppm=document.timebase_ppm,
            series_ohm=series_ohm,
            series_uncertainty_ohm=series_ohm * document.series_tolerance_ppm * 1e-6 / math.sqrt(3),
        )


def load_accuracy(path: Path) -> Accuracy:
    """Read the accuracy document at *path*.

    Raises:
        ConfigError: file, line and key of what is wrong.
    """
    document = load_checked(path, Document)
    if len({figures.range_a for figures in document.ranges}) < len(document.ranges):
        raise ConfigError(f"{path}: ranges: a range_a stands twice")
    return Accuracy(document, path)
