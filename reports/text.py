"""How the reports write text that came from a device, and numbers with their units."""

import math
import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_PREFIXES = ((1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))
_SI_UNITS = {"A", "V", "W", "J", "C", "s", "F", "Ω", "Hz"}
NBSP = "\N{NO-BREAK SPACE}"
DASH = "–"


def visible(text: str) -> str:
    """Return *text* with every character that acts instead of showing replaced by its code, as ``\\x1b`` for ESC.

    That is control characters, bidirectional overrides, zero-width characters and lone surrogates. Newline and tab
    stay.
    """
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) not in _HIDDEN:
        return char
    code = ord(char)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"


def scale(value: float, unit: str) -> tuple[float, str]:
    """Return the factor and the unit by which *value* reads with one to three digits before the point."""
    if unit.split("/")[0] not in _SI_UNITS or value == 0 or not math.isfinite(value):
        return 1.0, unit
    size = abs(value) * (1 + 1e-9)
    factor, prefix = next(((f, p) for f, p in _PREFIXES if size >= f), _PREFIXES[-1])
    return factor, prefix + unit


def number(value: float | None, unit: str, digits: int = 4) -> str:
    """Write a value with *digits* significant digits and its scaled unit; a dash for None."""
    if value is None:
        return DASH
    factor, scaled_unit = scale(value, unit)
    return _join(_significant(value / factor, digits), scaled_unit)


def quantity(value: float | None, expanded_uncertainty: float | None, unit: str) -> str:
    """Write a value and its expanded uncertainty to one place, two significant digits of the latter (GUM 7.2.6)."""
    if value is None or not expanded_uncertainty:
        return number(value, unit)
    factor, scaled_unit = scale(max(abs(value), abs(expanded_uncertainty)), unit)
    uncertainty = abs(expanded_uncertainty) / factor
    places = max(0, min(9, 1 - math.floor(math.log10(uncertainty)))) if uncertainty > 0 else 3
    both = f"{value / factor:.{places}f}{NBSP}±{NBSP}{uncertainty:.{places}f}"
    return f"({both}){NBSP}{scaled_unit}" if scaled_unit else both


def duration(seconds: float) -> str:
    """Write a duration as people say it: ``2 min 14 s``."""
    if seconds < 60:
        return _join(_significant(max(seconds, 0.0), 3), "s")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"


def byte_count(size: int | None) -> str:
    """Write a number of bytes with its thousands apart."""
    return DASH if size is None else f"{size:,} B".replace(",", "\N{THIN SPACE}")


def _significant(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    return text if "e" not in text or abs(value) >= 1e9 or abs(value) < 1e-6 else f"{value:.0f}"


def _join(text: str, unit: str) -> str:
    return f"{text}{NBSP}{unit}" if unit else text
