"""What a verdict can be, which of several is the worst, and the rule by which a number becomes one."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class State(StrEnum):
    """The states of a verdict; see DESIGN: a verdict is never a bare assert."""

    PASS = "pass"
    FAIL = "fail"
    DEVIATION = "deviation"
    """A SHOULD that the device does not meet, or a reported property that is not as its clause has it."""
    CONDITIONAL = "conditional"
    """Inside the guard band; the side of the limit it lies on is told with it."""
    NOT_SUPPORTED = "not-supported"
    INCONCLUSIVE = "inconclusive"
    """Something was observed, and it does not allow a verdict on the device."""
    NOT_RUN = "not-run"
    ERROR = "error"
    """The bench failed; this says nothing about the device."""


Side = Literal["pass", "fail"]
Level = Literal["MUST", "SHOULD", "policy", "report"]
"""``policy``: the rig proposes it, the clause is only the motive; ``report``: told, and never failed."""

_WORST_FIRST = (
    State.FAIL,
    State.ERROR,
    State.INCONCLUSIVE,
    State.CONDITIONAL,
    State.DEVIATION,
    State.NOT_RUN,
    State.NOT_SUPPORTED,
    State.PASS,
)


def worst(states: Iterable[State]) -> State:
    """Return the worst of *states*; a requirement that nothing judged is not-run."""
    found = set(states)
    return next((state for state in _WORST_FIRST if state in found), State.NOT_RUN)


def unmet(level: Level) -> State:
    """Return the state of a requirement of *level* that the device does not meet."""
    return State.DEVIATION if level in ("SHOULD", "report") else State.FAIL


@dataclass(frozen=True)
class Limit:
    """A product's own number for one measurement: ``min <= value <= max``, either side may be open."""

    name: str
    unit: str
    max: float | None = None
    min: float | None = None
    source: str = ""

    def __str__(self) -> str:
        bounds = [f"at least {self.min:g} {self.unit}"] if self.min is not None else []
        bounds += [f"at most {self.max:g} {self.unit}"] if self.max is not None else []
        return f"{self.name} {' and '.join(bounds)} ({self.source or 'no source'})"


@dataclass(frozen=True)
class Decision:
    """The outcome of the decision rule: the state, and for *conditional* the side of the limit."""

    state: State
    side: Side | None
    rule: str


RULE = "ILAC-G8:09/2019 4.2.3, guard band w = U"


def decide(value: float, expanded_uncertainty: float, limit: Limit) -> Decision:
    """Judge *value* against *limit* with a guard band as wide as the expanded uncertainty.

    ILAC-G8:09/2019 4.2.3 (non-binary): pass below ``limit - U``, conditional pass up to the limit, conditional
    fail up to ``limit + U``, fail above; mirrored for a lower limit. *value*, *expanded_uncertainty* and the limit
    have one unit.
    """
    margins = [limit.max - value] if limit.max is not None else []
    if limit.min is not None:
        margins.append(value - limit.min)
    if not margins:
        raise ValueError(f"limit {limit.name} has neither max nor min")
    margin = min(margins)
    if abs(margin) >= expanded_uncertainty and margin != 0:
        return Decision(State.PASS if margin > 0 else State.FAIL, None, RULE)
    return Decision(State.CONDITIONAL, "pass" if margin >= 0 else "fail", RULE)
