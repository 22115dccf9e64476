"""The output of an instrument that feeds the board: what is programmed, since when, and what the board then gets."""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rig.virtual.meter.timeline import Timeline


@dataclass(frozen=True)
class Programmed:
    """What the output is set to."""

    on: bool = False
    voltage_v: float = 0.0
    limit_a: float = 0.0


@dataclass(frozen=True)
class Delivered:
    """What left the output in each of a row of apertures, shape (n,) each; the voltage is that at the terminals."""

    current_a: NDArray[np.float64]
    voltage_v: NDArray[np.float64]


class Output:
    """A voltage source with a current limit; ``lead_ohm`` lies between its terminals and the board.

    Where the board wants more than the limit it gets the limit, and the voltage falls as at a resistor.
    """

    def __init__(self, timeline: Timeline, lead_ohm: float, limit_a: float) -> None:
        self._timeline = timeline
        self._lead_ohm = lead_ohm
        self._times_ns = [0]
        self._states = [Programmed(limit_a=limit_a)]

    @property
    def programmed(self) -> Programmed:
        return self._states[-1]

    def program(
        self, t_ns: int, *, on: bool | None = None, voltage_v: float | None = None, limit_a: float | None = None
    ) -> None:
        """Change what is given from *t_ns* on."""
        before = self.programmed
        self._times_ns.append(max(t_ns, self._times_ns[-1]))
        self._states.append(
            Programmed(
                before.on if on is None else on,
                before.voltage_v if voltage_v is None else voltage_v,
                before.limit_a if limit_a is None else limit_a,
            )
        )

    def board_voltage_v(self, t_ns: int) -> float:
        """Return the voltage at the board's supply pins at *t_ns*, which is not in the past."""
        state, current_a = self.programmed, self._timeline.current_at(t_ns)
        if not state.on:
            return 0.0
        given_a = min(current_a, state.limit_a)
        voltage_v = state.voltage_v if given_a == current_a else state.voltage_v * given_a / current_a
        return max(voltage_v - given_a * self._lead_ohm, 0.0)

    def limited(self, first_ns: int, last_ns: int) -> bool:
        """Return whether the current limit was in force at any time between the two instants."""
        t_ns: int | None = first_ns
        while t_ns is not None and t_ns <= last_ns:
            state = self._states[max(bisect_right(self._times_ns, t_ns) - 1, 0)]
            if state.on and self._timeline.current_at(t_ns) > state.limit_a:
                return True
            t_ns = self._timeline.next_change_ns(t_ns)
        return False

    def deliver(self, base_ns: int, starts_ns: NDArray[np.float64], aperture_ns: float) -> Delivered:
        """Return the means over an aperture from each of *starts_ns* (ascending, after *base_ns*)."""
        wanted_a = self._timeline.means_a(base_ns, starts_ns, aperture_ns)
        times_ns = np.array([t_ns - base_ns for t_ns in self._times_ns], dtype=np.float64)
        which = np.maximum(np.searchsorted(times_ns, starts_ns, side="right") - 1, 0)
        voltage_v = np.array([state.voltage_v if state.on else 0.0 for state in self._states])[which]
        limit_a = np.array([state.limit_a if state.on else 0.0 for state in self._states])[which]
        current_a = np.minimum(wanted_a, limit_a)
        share = np.divide(current_a, wanted_a, out=np.ones_like(wanted_a), where=wanted_a > limit_a)
        return Delivered(current_a, voltage_v * share)

    def forget(self, before_ns: int) -> None:
        """Drop what held only before *before_ns*."""
        keep = max(bisect_right(self._times_ns, before_ns) - 1, 0)
        del self._times_ns[:keep], self._states[:keep]
