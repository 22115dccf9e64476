"""From checks, measurements and test outcomes to one verdict a requirement.

The rule, in this one place: a requirement is as good as the worst of what judged it
(:func:`rig.evidence.verdicts.worst`); what nothing judged is not-run; a test that failed or broke without saying so in
a check is a judgement of its own, and a test that passed without recording what it saw proves nothing.
"""

from collections import defaultdict
from dataclasses import dataclass

from rig.evidence.verdicts import State, worst
from rig.reports.model import Bound, Case, Measurement, Requirement, Run
from rig.reports.text import NBSP, number, quantity


@dataclass(frozen=True)
class Judgement:
    """What one check, measurement or test outcome says about one requirement."""

    requirement: str
    state: State
    test: str
    statement: str
    observed: str
    side: str = ""
    evidence: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The state of a requirement in this run, and the judgements behind it, the worst first."""

    requirement: Requirement
    state: State
    judgements: tuple[Judgement, ...]

    @property
    def deciding(self) -> Judgement:
        """The judgement that the state comes from."""
        return self.judgements[0]

    @property
    def evidence(self) -> tuple[str, ...]:
        """The evidence files of every judgement, each once."""
        return tuple(dict.fromkeys(file for one in self.judgements for file in one.evidence))


def verdicts(run: Run) -> tuple[Verdict, ...]:
    """Return one verdict a requirement: those of the catalogue in the run's order, then any other that was judged."""
    recorded = [*_from_checks(run), *_from_measurements(run)]
    judgements = recorded + [one for case in run.cases for one in _from_outcome(case, recorded)]
    found: defaultdict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        found[judgement.requirement].append(judgement)
    catalogue = {row.id: row for row in run.requirements}
    others = [Requirement(name, "not in this run's catalogue") for name in found if name and name not in catalogue]
    return tuple(_verdict(row, found[row.id]) for row in [*run.requirements, *others])


def _verdict(requirement: Requirement, judgements: list[Judgement]) -> Verdict:
    nothing = Judgement(requirement.id, State.NOT_RUN, "", requirement.statement, "no test judged this")
    state = worst(one.state for one in judgements)
    ordered = sorted(judgements or [nothing], key=lambda one: one.state is not state)
    return Verdict(requirement, state, tuple(ordered))


def _from_checks(run: Run) -> list[Judgement]:
    return [
        Judgement(c.requirement, read_state(c.state), c.test, c.statement, c.observed, "", c.evidence, c.notes)
        for c in run.checks
    ]


def _from_measurements(run: Run) -> list[Judgement]:
    return [
        Judgement(m.requirement, read_state(m.state), m.test, m.name, describe(m), m.side, m.evidence, m.notes)
        for m in run.measurements
    ]


def _from_outcome(case: Case, recorded: list[Judgement]) -> list[Judgement]:
    """Return what the outcome of a test adds to what the test *recorded* about its requirements."""
    told = {(one.requirement, one.state) for one in recorded if one.test == case.name}
    states = {state for _, state in told}
    judged = {requirement for requirement, _ in told}
    added = ((requirement, _outcome(case, states, requirement in judged)) for requirement in case.requirements)
    return [Judgement(name, one[0], case.name, "outcome of the test", one[1]) for name, one in added if one]


def _outcome(case: Case, states: set[State], judged: bool) -> tuple[State, str] | None:
    """Return state and words for an outcome, or None where what was recorded already tells it.

    *states* are all that the test recorded, about any requirement; *judged*: some of it was about this one.
    """
    match case.outcome:
        case "error" if State.ERROR not in states:
            return State.ERROR, case.message or "the bench failed"
        case "failed" if states <= {State.PASS}:
            return State.FAIL, case.message or "the test failed"
        case _ if judged and case.outcome:
            return None
        case "error" | "failed":
            return State.NOT_RUN, "the test ended before it judged this"
        case "skipped":
            return State.NOT_RUN, case.message or "the test was skipped"
        case "passed":
            return State.INCONCLUSIVE, "the test passed and recorded nothing that it observed"
        case _:
            return State.NOT_RUN, "the run ended during this test"


_STATES = {state.value: state for state in State}


def read_state(text: str) -> State:
    """Return the state that *text* names; a word that is none is an error of the bench, never a pass."""
    return _STATES.get(text, State.ERROR)


def worst_first() -> tuple[State, ...]:
    """Return every state in the order of the rule, for a reader."""
    left = set(State)
    ordered = []
    while left:
        ordered.append(worst(left))
        left.remove(ordered[-1])
    return tuple(ordered)


def describe(measurement: Measurement) -> str:
    """Write a measurement in one line: value, uncertainty, coverage factor and limit."""
    coverage = f" (k = {measurement.k:g})" if measurement.k and measurement.expanded_uncertainty else ""
    value = quantity(measurement.value, measurement.expanded_uncertainty, measurement.unit)
    bound = f", limit {describe_bound(measurement.limit)}" if measurement.limit else ""
    return f"{value}{coverage}{bound}"


def describe_bound(bound: Bound | None) -> str:
    """Write a limit as an inequality, empty for none."""
    if bound is None:
        return ""
    sides = [("≥", bound.min), ("≤", bound.max)]
    return " and ".join(f"{sign}{NBSP}{number(value, bound.unit)}" for sign, value in sides if value is not None)
