"""Published flaws of components, a data file, and which of a build's components they concern."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from rig.formats.checked_yaml import CheckedModel, load_checked
from rig.formats.sbom import Component, version_key

Version = Annotated[str, BeforeValidator(str), Field(min_length=1)]


class AffectedRange(CheckedModel):
    """Versions at or above ``since`` and below ``fixed``."""

    since: Version | None = None
    fixed: Version

    def holds(self, version: str) -> bool:
        """Return whether *version* lies in the range."""
        key = version_key(version)
        return (self.since is None or version_key(self.since) <= key) and key < version_key(self.fixed)


class Advisory(CheckedModel):
    """One published flaw. ``components`` are the names that lists of components have for it, in lower case."""

    id: str = Field(pattern=r"^[A-Z]+-[0-9A-Z-]+$")
    components: tuple[str, ...] = Field(min_length=1)
    about: str
    ranges: tuple[AffectedRange, ...] = Field(min_length=1)
    source: str

    def concerns(self, component: Component) -> bool:
        """Return whether *component* has the flaw, by its name and version; one without a version has none."""
        named = component.name.lower() in self.components
        return named and bool(component.version) and any(one.holds(component.version) for one in self.ranges)


class _AdvisoryFile(CheckedModel):
    advisories: tuple[Advisory, ...]


def load_advisories(path: Path) -> tuple[Advisory, ...]:
    """Read the file; raises ConfigError with file, line and key."""
    return load_checked(path, _AdvisoryFile).advisories
