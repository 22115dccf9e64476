"""Lists of components: SPDX 2.x as JSON or as tag-value text (what esp-idf-sbom writes), CycloneDX as JSON."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.errors import ConfigError

_PACKAGE = re.compile(r"^PackageName:[ \t]*(?P<name>.+?)[ \t]*$", re.MULTILINE)
_VERSION = re.compile(r"^PackageVersion:[ \t]*(?P<version>.+?)[ \t]*$", re.MULTILINE)
_PACKAGING = re.compile(r"[~+-].*")
_PARTS = re.compile(r"[0-9]{1,18}|[a-z]+")


@dataclass(frozen=True)
class Component:
    """One component of a build; ``version`` is empty where the list does not tell it."""

    name: str
    version: str


def read_components(path: Path) -> tuple[Component, ...]:
    """Read a list of components. Raises ConfigError naming the file for what is neither SPDX nor CycloneDX."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    found = _from_json(text) if text.lstrip().startswith("{") else _from_tags(text)
    if not found:
        raise ConfigError(f"{path}: lists no component; an SPDX (JSON or tag-value) or CycloneDX (JSON) file does")
    return found


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return what orders versions as libcoap and Mbed TLS number them: 4.3.5 < 4.3.5a < 4.3.5.1 < 4.3.6 < 4.10.

    What a packager adds (``4.3.5~7``, ``3.6.2-1``) does not count: it says nothing of the component's own version.
    """
    upstream = _PACKAGING.sub("", version.strip().lower().removeprefix("v"))
    return tuple((1, int(part), "") if part[0].isdigit() else (0, 0, part) for part in _PARTS.findall(upstream))


def _from_json(text: str) -> tuple[Component, ...]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(data, dict):
        return ()
    rows = [*_rows(data, "packages", "versionInfo"), *_rows(data, "components", "version")]
    return tuple(rows)


def _rows(data: dict[str, Any], key: str, version: str) -> list[Component]:
    rows = data.get(key)
    packages = [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []
    return [Component(str(one["name"]), str(one.get(version) or "")) for one in packages if one.get("name")]


def _from_tags(text: str) -> tuple[Component, ...]:
    names = list(_PACKAGE.finditer(text))
    ends = [name.start() for name in names[1:]] + [len(text)]
    versions = [_VERSION.search(text, name.end(), end) for name, end in zip(names, ends, strict=False)]
    return tuple(
        Component(name["name"], found["version"] if found else "") for name, found in zip(names, versions, strict=True)
    )
