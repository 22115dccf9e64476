"""Phases: the stretches between marks, and those that a recording shows by itself."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rig.energy.change_points import Segment
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


#: Quiet between packets that is counted to what they are for: the receiver's tail and a peer's answering time.
PAUSE_S = 0.05


def phases_of(segments: Sequence[Segment], *, pause_s: float = PAUSE_S) -> list[Phase]:
    """Return the phases that a recording shows without any mark: sleep, idle and active ones, in order, without holes.

    A phase is a run of segments in which the board does the same, from a change of level to a change of level, with the
    uncertainty of both. *active* is where the radio receives or sends (kinds active and burst), with pauses shorter
    than *pause_s*; *idle* where it is awake without, or sleeps for less than *pause_s* (light sleep between beacons);
    *sleep* is the rest.
    """
    runs = _runs([(_ACTIVITY[one.kind], (one,)) for one in segments])
    for name in ("idle", "active"):
        runs = _runs([_without_pause(runs, i, name, pause_s) for i in range(len(runs))])
    return [
        Phase(
            name,
            Mark(f"{name} begins", of[0].start_s, of[0].start_uncertainty_s),
            Mark(f"{name} ends", of[-1].end_s, of[-1].end_uncertainty_s),
        )
        for name, of in runs
    ]


_ACTIVITY = {"sleep": "sleep", "idle": "idle", "active": "active", "burst": "active"}
_QUIETER = {"active": ("idle", "sleep"), "idle": ("sleep",)}

_Run = tuple[str, tuple[Segment, ...]]


def _runs(parts: Sequence[_Run]) -> list[_Run]:
    """Return *parts* with neighbours of one name joined."""
    joined = ((name, tuple(group)) for name, group in groupby(parts, key=lambda part: part[0]))
    return [(name, tuple(one for _, of in group for one in of)) for name, group in joined]


def _without_pause(runs: Sequence[_Run], i: int, name: str, pause_s: float) -> _Run:
    """Return run *i*, renamed to *name* if it is a quieter run between two of that name, and short."""
    own, of = runs[i]
    between = 0 < i < len(runs) - 1 and runs[i - 1][0] == runs[i + 1][0] == name
    short = of[-1].end_s - of[0].start_s < pause_s
    return (name, of) if between and short and own in _QUIETER[name] else (own, of)
