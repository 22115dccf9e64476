"""What a verdict can be, which of several is the worst, and the rule by which a number becomes one."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from rig.evidence.distributions import upper_tail


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


Rule = Literal["simple", "guarded", "non-binary"]
"""Decision rules of ILAC-G8:09/2019: simple acceptance, and with a guard band, binary or non-binary."""

_CLAUSES: dict[Rule, str] = {"simple": "4.2.1", "guarded": "4.2.2", "non-binary": "4.2.3"}


@dataclass(frozen=True)
class Limit:
    """A product's own number for one measurement: ``min <= value <= max``, either side may be open.

    ``rule`` is how it is judged and ``guard_band`` how wide its guard band is, in expanded uncertainties; both are
    agreed before anything is measured (ISO/IEC 17025 7.1.3). With the rule *simple* there is no guard band.
    ``max_increase`` is by which share of a baseline the measurement may exceed it.
    """

    name: str
    unit: str
    max: float | None = None
    min: float | None = None
    source: str = ""
    rule: Rule = "non-binary"
    guard_band: float = 1.0
    max_increase: float | None = None

    def __str__(self) -> str:
        bounds = [f"at least {self.min:g} {self.unit}"] if self.min is not None else []
        bounds += [f"at most {self.max:g} {self.unit}"] if self.max is not None else []
        return f"{self.name} {' and '.join(bounds)} ({self.source or 'no source'})"

    @property
    def rule_id(self) -> str:
        """Return the clause of the rule and its guard band, as the record names them."""
        clause = f"ILAC-G8:09/2019 {_CLAUSES[self.rule]}"
        if self.rule == "simple":
            return f"{clause}, simple acceptance"
        factor = "U" if self.guard_band == 1 else f"{self.guard_band:g} U"
        return f"{clause}, guard band w = {factor}"


@dataclass(frozen=True)
class Decision:
    """The outcome of the decision rule: the state, and for *conditional* the side of the limit.

    ``guard_band`` is its width w, ``accept_min`` and ``accept_max`` are the acceptance limits, all in the limit's unit.
    ``false_accept`` is the probability that what was accepted is outside the limit, ``false_reject`` that what was
    rejected is inside (JCGM 106 9.3.2, specific risk); only the one that belongs to the verdict is there. ``reason``
    says why a verdict is inconclusive.
    """

    state: State
    side: Side | None
    rule: str
    guard_band: float | None = None
    accept_min: float | None = None
    accept_max: float | None = None
    false_accept: float | None = None
    false_reject: float | None = None
    reason: str = ""


def decide(
    value: float,
    expanded_uncertainty: float,
    limit: Limit,
    *,
    k: float = 2.0,
    degrees_of_freedom: float = math.inf,
) -> Decision:
    """Judge *value* against *limit* by the limit's rule, with a guard band w of so many expanded uncertainties.

    ILAC-G8:09/2019 with the acceptance limit ``A = limit - w``, mirrored for a lower limit: *simple*, pass up to the
    limit and fail above it; *guarded*, pass up to A and fail above it; *non-binary*, pass up to A, conditional pass up
    to the limit, conditional fail up to ``limit + w``, fail above. *value*, *expanded_uncertainty* and the limit have
    one unit; *k* and *degrees_of_freedom* are those of the uncertainty.

    Where that is as large as what it is to be judged by (the limit itself, half the interval between two), and the
    limit is nearer than it, no rule tells a good device from a bad one: the verdict is inconclusive.
    """
    if limit.max is None and limit.min is None:
        raise ValueError(f"limit {limit.name} has neither max nor min")
    above = math.inf if limit.max is None else limit.max - value
    below = math.inf if limit.min is None else value - limit.min
    if abs(min(above, below)) < expanded_uncertainty and _unfit(expanded_uncertainty, limit):
        reason = f"U = {expanded_uncertainty:.2g} {limit.unit} is too large to judge {limit}"
        return Decision(State.INCONCLUSIVE, None, limit.rule_id, reason=reason)
    width = 0.0 if limit.rule == "simple" else limit.guard_band * expanded_uncertainty
    state, side = _outcome(min(above, below), width, limit.rule)
    outside = _beyond(above, expanded_uncertainty / k, degrees_of_freedom)
    outside += _beyond(below, expanded_uncertainty / k, degrees_of_freedom)
    accepted = state is State.PASS or side == "pass"
    return Decision(
        state=state,
        side=side,
        rule=limit.rule_id,
        guard_band=width,
        accept_min=None if limit.min is None else limit.min + width,
        accept_max=None if limit.max is None else limit.max - width,
        false_accept=min(outside, 1.0) if accepted else None,
        false_reject=None if accepted else max(1.0 - outside, 0.0),
    )


def _unfit(expanded_uncertainty: float, limit: Limit) -> bool:
    if limit.max is not None and limit.min is not None:
        return expanded_uncertainty >= (limit.max - limit.min) / 2
    bound = limit.max if limit.max is not None else limit.min
    return bound is not None and 0 < bound <= expanded_uncertainty


def _outcome(margin: float, width: float, rule: Rule) -> tuple[State, Side | None]:
    """Return the verdict on a value *margin* inside its limit with a guard band of *width*."""
    if rule != "non-binary":
        return (State.PASS if margin >= width else State.FAIL), None
    if abs(margin) >= width and margin != 0:
        return (State.PASS if margin > 0 else State.FAIL), None
    return State.CONDITIONAL, "pass" if margin >= 0 else "fail"


def _beyond(margin: float, standard_uncertainty: float, degrees_of_freedom: float) -> float:
    """Return the probability that the true value lies further on than *margin* from the one measured."""
    if math.isinf(margin):
        return 0.0
    if standard_uncertainty == 0:
        return 0.0 if margin >= 0 else 1.0
    return upper_tail(margin / standard_uncertainty, degrees_of_freedom)
