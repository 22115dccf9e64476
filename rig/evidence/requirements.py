"""The requirement catalogue and the limits: data files, checked when they are read."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from rig.errors import ConfigError
from rig.evidence.verdicts import Level, Limit
from rig.formats.checked_yaml import CheckedModel, load_checked


class Requirement(CheckedModel):
    """One statement about the device that a clause backs."""

    id: str = Field(pattern=r"^[A-Z0-9]+-[0-9]{2}$")
    title: str
    statement: str
    clause: str
    level: Level
    method: str


class Catalogue(CheckedModel):
    """The requirement catalogue."""

    requirements: tuple[Requirement, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        ids = [row.id for row in self.requirements]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise ValueError(f"ids that stand twice: {', '.join(twice)}")
        return self

    def by_id(self) -> dict[str, Requirement]:
        """Return the rows by their id."""
        return {row.id: row for row in self.requirements}


class _LimitRow(CheckedModel):
    unit: str
    max: float | None = None
    min: float | None = None
    source: str

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("has neither max nor min")
        return self


class _LimitsFile(CheckedModel):
    limits: dict[str, _LimitRow]


class Limits:
    """The limits of one file, by the name of the measurement that each is for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rows = load_checked(path, _LimitsFile).limits
        self._limits = {
            name: Limit(name=name, unit=row.unit, max=row.max, min=row.min, source=row.source)
            for name, row in rows.items()
        }

    def for_measurement(self, name: str, unit: str) -> Limit:
        """Return the limit for *name*; raises ConfigError where there is none or it has another unit."""
        limit = self._limits.get(name)
        if limit is None:
            raise ConfigError(f"{self.path}: limits: no limit named {name!r}; add one with its unit and source")
        if limit.unit != unit:
            raise ConfigError(f"{self.path}: limits.{name}.unit: is {limit.unit!r}, the measurement is in {unit!r}")
        return limit

    def all(self) -> tuple[Limit, ...]:
        """Return every limit of the file."""
        return tuple(self._limits.values())


def load_catalogue(path: Path) -> Catalogue:
    """Read a requirement catalogue; raises ConfigError naming file, line and key."""
    return load_checked(path, Catalogue)
