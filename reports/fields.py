"""Reading one JSON object of a record without trusting it.

A record may have been cut by a power loss or written by a later version, and a report that dies on it helps nobody:
what is missing or of another type is read as empty, never as an exception.
"""

import math
from dataclasses import dataclass
from typing import Any


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True)
class Fields:
    """One JSON object, and typed readers of its values."""

    values: dict[str, Any]

    def text(self, key: str) -> str:
        """Return a string; a number as it is written; empty when there is neither."""
        value = self.values.get(key)
        if isinstance(value, str):
            return value
        number = _finite(value)
        return "" if number is None else f"{number:g}"

    def number(self, key: str) -> float | None:
        """Return a finite number, or None."""
        return _finite(self.values.get(key))

    def whole(self, key: str) -> int | None:
        """Return a number without its fraction, or None."""
        number = self.number(key)
        return None if number is None else int(number)

    def flag(self, key: str) -> bool | None:
        """Return a truth value, or None."""
        value = self.values.get(key)
        return value if isinstance(value, bool) else None

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the strings of a list; one string counts as a list of one."""
        value = self.values.get(key)
        items = value if isinstance(value, list) else [value]
        return tuple(str(item) for item in items if isinstance(item, str | int | float))

    def object(self, key: str) -> "Fields | None":
        """Return the object under *key*, or None."""
        value = self.values.get(key)
        return Fields(value) if isinstance(value, dict) else None

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return the finite numbers of a list; one number counts as a list of one."""
        value = self.values.get(key)
        items = value if isinstance(value, list) else [value]
        return tuple(number for item in items if (number := _finite(item)) is not None)

    def objects(self, key: str) -> tuple["Fields", ...]:
        """Return the objects of a list."""
        value = self.values.get(key)
        return tuple(Fields(item) for item in value if isinstance(item, dict)) if isinstance(value, list) else ()

    def table(self, key: str) -> dict[str, Any]:
        """Return the object under *key* as it is, empty when there is none."""
        value = self.values.get(key)
        return value if isinstance(value, dict) else {}


def flatten(value: Any, path: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """Return nested JSON as rows of (dotted path, text), in its own order; below six levels it stays one text."""
    if depth < 6 and isinstance(value, dict) and value:
        pairs = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
    elif depth < 6 and isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        pairs = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    else:
        return [(path, _plain(value))]
    return [row for key, item in pairs for row in flatten(item, key, depth + 1)]


def _plain(value: Any) -> str:
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)
