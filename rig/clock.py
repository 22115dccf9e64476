"""The rig's one clock, and the mapping of other clocks onto it.

Every console chunk, packet, trigger and mark carries a time of this clock, taken at the moment it was read.
Nothing is ordered by wall time.
"""

import time
from dataclasses import dataclass


def now_s() -> float:
    """Return the rig's time in seconds (CLOCK_MONOTONIC of the host the rig runs on)."""
    return time.monotonic()


@dataclass(frozen=True)
class ClockMap:
    """How another clock reads against the rig's: ``rig_s = other_s + offset_s``.

    ``uncertainty_s`` is the half-width in which the true offset lies: half of the shortest round trip for a clock
    that was asked, the spread of arrival times for one that was only listened to.
    """

    offset_s: float
    uncertainty_s: float

    def to_rig_s(self, other_s: float) -> float:
        """Map a reading of the other clock, in seconds, to the rig's clock."""
        return other_s + self.offset_s
