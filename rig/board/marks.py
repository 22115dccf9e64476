"""The marks of the console: instants that the firmware names, and the device's clock estimated from them.

A mark is one line of ESP-IDF's log format: ``I (1234) mark: <name> t_us=<microseconds since boot> [key=value ...]``.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rig.clock import ClockMap

# What a mark's line takes on the wire: some 60 characters of 10 bits at 115200 baud.
MARK_LINE_S = 0.005

_MARK = re.compile(r"I \([0-9]{1,20}\) mark: (?P<name>\S+) t_us=(?P<t_us>[0-9]{1,20})(?P<fields>(?: [^\s=]+=\S*)*)\s*")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Mark:
    """An instant with a name.

    ``at_s`` is the rig's clock when the end of the line was read, ``device_us`` the device's own time since its boot,
    ``fields`` the other ``key=value`` pairs as text.
    """

    name: str
    at_s: float
    device_us: int
    fields: Mapping[str, str]


def parse_mark(line: str, at_s: float) -> Mark | None:
    """Return the mark that *line* holds, or None. Text before it (a cut line, an ANSI colour) does not hide it."""
    plain = _COLOUR.sub("", line)
    start = plain.find("I (")
    while start >= 0:
        found = _MARK.fullmatch(plain, start)
        if found is not None:
            return _mark(found, at_s)
        start = plain.find("I (", start + 1)
    return None


def estimate_device_clock(marks: Sequence[Mark]) -> ClockMap:
    """Map the device's time of its latest boot, in seconds, onto the rig's clock.

    Every mark since the last ``boot`` mark is a reading of both clocks, with the device's reading first: the line is
    printed, sent, received and stamped after the instant it tells. This latency is never negative, so the true offset
    is at most the smallest difference seen, and that is the estimate. ``uncertainty_s`` is the spread of arrivals
    (median less minimum), and never less than what the line itself takes on the wire: a latency that all marks share
    cannot be seen from here. Drift is left out: a boot is short, a crystal is good to some 10 ppm.

    Raises ValueError when there is no mark.
    """
    starts = [index for index, mark in enumerate(marks) if mark.name == "boot"]
    latest = marks[starts[-1] :] if starts else marks
    offsets = [mark.at_s - mark.device_us * 1e-6 for mark in latest]
    if not offsets:
        raise ValueError("no mark to estimate the device's clock from")
    spread_s = statistics.median(offsets) - min(offsets)
    return ClockMap(offset_s=min(offsets), uncertainty_s=max(spread_s, MARK_LINE_S))


def _mark(found: re.Match[str], at_s: float) -> Mark:
    pairs = (pair.split("=", 1) for pair in found["fields"].split())
    return Mark(name=found["name"], at_s=at_s, device_us=int(found["t_us"]), fields=dict(pairs))
