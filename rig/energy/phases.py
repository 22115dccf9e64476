"""Phases: the stretches between marks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rig.energy.waveform import Waveform, Window


@dataclass(frozen=True)
class Mark:
    """An instant with a name: rig time in second, and the half-width in which it lies."""

    name: str
    t_s: float
    uncertainty_s: float = 0.0


@dataclass(frozen=True)
class Phase:
    """The stretch between two marks."""

    name: str
    start: Mark
    end: Mark

    @property
    def duration_s(self) -> float:
        return self.end.t_s - self.start.t_s

    def window(self, waveform: Waveform) -> Window:
        """Return this phase of *waveform*, which has to be aligned."""
        return waveform.window(
            self.start.t_s,
            self.end.t_s,
            start_uncertainty_s=self.start.uncertainty_s,
            end_uncertainty_s=self.end.uncertainty_s,
        )


def phases_between(marks: Iterable[Mark], names: Mapping[str, tuple[str, str]]) -> list[Phase]:
    """Return the phases that *marks* delimit, by start time.

    *names* gives for each phase its start and its end mark. A start is closed by the next end; a start that is
    followed by another start first (a boot that did not finish) begins no phase, and an end without a start ends none.
    """
    ordered = sorted(marks, key=lambda mark: mark.t_s)
    phases = []
    for name, (start_name, end_name) in names.items():
        start: Mark | None = None
        for mark in ordered:
            if mark.name == end_name and start is not None:
                phases.append(Phase(name, start, mark))
                start = None
            if mark.name == start_name:
                start = mark
    return sorted(phases, key=lambda phase: phase.start.t_s)
