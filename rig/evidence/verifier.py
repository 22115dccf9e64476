"""How a test states a verdict: written to the record first, failing the test after."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from rig.energy import Contribution, Difference, Measurement, compare
from rig.errors import BenchError
from rig.evidence.record import RunRecord
from rig.evidence.requirements import Limits, Requirement
from rig.evidence.verdicts import Decision, Limit, State, decide, unmet


class VerdictFailed(AssertionError):
    """The device does not meet a requirement; the record already says so."""


class NoVerdict(AssertionError):
    """What was observed allows no verdict on the device; the record already says so."""


_SHOWN_BY_NOTHING = {State.PASS, State.NOT_SUPPORTED, State.NOT_RUN}
"""Verdicts that say nothing against the device, so that no exchange has to prove them."""


@dataclass(frozen=True)
class Earlier:
    """A measurement of an earlier run, and the instrument that it was made with as that run's record tells it."""

    run_id: str
    measurement: Measurement
    instrument: Mapping[str, Any]


class Verifier:
    """States the verdicts of one test on the requirements that its marker names."""

    def __init__(
        self,
        record: RunRecord,
        test: str,
        requirements: Mapping[str, Requirement],
        limits: Limits,
        *,
        baseline: Callable[[str, str], Earlier | None] | None = None,
    ) -> None:
        """*baseline* gives what an earlier run has for the next measurement of a test and name, None for nothing."""
        self._record = record
        self._baseline = baseline
        self._test = test
        self._requirements = requirements
        self._limits = limits
        self.stated: set[str] = set()
        """The ids on which this test has stated a verdict."""

    def show(self, requirement: str, evidence: Sequence[Path]) -> None:
        """Put the exchange that proves a verdict into the record, where there is one.

        Called for each verdict that is against the device, or none.

        *evidence* are the files that the verdict names.
        """

    def check(
        self,
        requirement: str,
        statement: str,
        met: bool,
        *,
        observed: str,
        evidence: Sequence[Path] = (),
        notes: Sequence[str] = (),
        false_alarm: float | None = None,
    ) -> None:
        """State whether *requirement* is met, from something that was observed.

        Raises :class:`VerdictFailed` for a MUST or policy that is not met; a SHOULD or report that is not met is a
        deviation, which is recorded and does not fail the test.

        *false_alarm* is for a verdict that rests on chance: the probability that a device that meets the requirement is
        judged not to. The plan's sum stands in the report, and has a budget.
        """
        state = State.PASS if met else unmet(self._row(requirement).level)
        self.state(
            requirement, state, statement, observed=observed, evidence=evidence, notes=notes, false_alarm=false_alarm
        )
        if state is State.FAIL:
            raise VerdictFailed(f"{requirement}: {statement}: observed {observed}")

    def inconclusive(self, requirement: str, statement: str, *, observed: str, evidence: Sequence[Path] = ()) -> None:
        """State that nothing can be concluded, and fail the test with :class:`NoVerdict`."""
        self.state(requirement, State.INCONCLUSIVE, statement, observed=observed, evidence=evidence)
        raise NoVerdict(f"{requirement}: {statement}: {observed}")

    def state(
        self,
        requirement: str,
        state: State,
        statement: str,
        *,
        observed: str,
        evidence: Sequence[Path] = (),
        notes: Sequence[str] = (),
        false_alarm: float | None = None,
    ) -> None:
        """Write a verdict of *state*, with what proves it."""
        self._row(requirement)
        self.stated.add(requirement)
        self._record.write(
            "check",
            test=self._test,
            requirement=requirement,
            statement=statement,
            state=state,
            observed=observed,
            evidence=self._names(evidence),
            notes=list(notes),
            false_alarm=false_alarm,
        )
        if state not in _SHOWN_BY_NOTHING:
            self.show(requirement, evidence)

    def measure(
        self,
        requirement: str,
        measurement: Measurement,
        *,
        evidence: Sequence[Path] = (),
        notes: Sequence[str] = (),
        false_alarm: float | None = None,
    ) -> None:
        """Judge *measurement* against the limit of its name and state the verdict.

        *false_alarm* is as in :meth:`check`.

        Raises :class:`VerdictFailed` on fail and on the fail side of the guard band, :class:`NoVerdict` where the
        measurement has no stated uncertainty or a reservation against it.
        """
        self._row(requirement)
        limit = self._limits.for_measurement(measurement.name, measurement.unit)
        if not isfinite(measurement.value):
            raise BenchError(f"{requirement}: {measurement.name}: {measurement.value} is no measured value")
        findings = [self._judge(requirement, measurement, limit, evidence, notes, false_alarm)]
        earlier = self._baseline(self._test, measurement.name) if self._baseline else None
        if earlier is not None:
            found = self._compare(requirement, measurement, limit, earlier)
            if limit.max_increase is not None:
                increase = found.increase
                bound = replace(limit, name=increase.name, unit="1", max=limit.max_increase, min=None)
                findings.append(self._judge(requirement, increase, bound, evidence, (), None))
        for finding in findings:
            if finding is not None:
                raise finding

    def _judge(
        self,
        requirement: str,
        measurement: Measurement,
        limit: Limit,
        evidence: Sequence[Path],
        notes: Sequence[str],
        false_alarm: float | None,
    ) -> AssertionError | None:
        """Write the verdict on *measurement*; return what is to fail the test, if anything."""
        obstacles = _obstacles(measurement)
        decision = Decision(State.INCONCLUSIVE, None, limit.rule_id) if obstacles else _decide(measurement, limit)
        obstacles = (decision.reason,) if decision.reason else obstacles
        self.stated.add(requirement)
        self._record.write(
            "measurement",
            test=self._test,
            requirement=requirement,
            name=measurement.name,
            value=measurement.value,
            unit=measurement.unit,
            expanded_uncertainty=measurement.expanded_uncertainty,
            k=measurement.k,
            degrees_of_freedom=_finite(measurement.degrees_of_freedom),
            limit={"max": limit.max, "min": limit.min, "unit": limit.unit, "source": limit.source},
            rule=decision.rule,
            guard_band=decision.guard_band,
            acceptance={"max": decision.accept_max, "min": decision.accept_min},
            false_accept=decision.false_accept,
            false_reject=decision.false_reject,
            state=decision.state,
            side=decision.side,
            instrument=dict(self.instrument()) if measurement.ranges_a else {},
            ranges_a=list(measurement.ranges_a),
            gap_share=measurement.gap_share,
            repeats=measurement.repeats,
            evidence=self._names(evidence),
            budget=[_budget_row(row) for row in measurement.budget],
            notes=[*(f"no verdict: {obstacle}" for obstacle in obstacles), *notes],
            false_alarm=false_alarm,
        )
        if decision.state is not State.PASS:
            self.show(requirement, evidence)
        if decision.state is State.INCONCLUSIVE:
            return NoVerdict(f"{requirement}: {measurement}: {'; '.join(obstacles)}")
        if decision.state is State.FAIL or decision.side == "fail":
            return VerdictFailed(f"{requirement}: {measurement}: {decision.state} against the limit {limit}")
        return None

    def _compare(self, requirement: str, measurement: Measurement, limit: Limit, earlier: Earlier) -> Difference:
        """Write how *measurement* differs from its baseline, and return it."""
        same_meter = _same(self.instrument(), earlier.instrument)
        found = compare(measurement, earlier.measurement, same_meter=same_meter)
        self._record.write(
            "regression",
            test=self._test,
            requirement=requirement,
            name=measurement.name,
            unit=measurement.unit,
            value=measurement.value,
            baseline=found.baseline,
            baseline_run=earlier.run_id,
            difference=found.difference.value,
            expanded_uncertainty=found.difference.expanded_uncertainty,
            k=found.difference.k,
            relative=found.relative,
            same_meter=same_meter,
            state=found.change,
            max_increase=limit.max_increase,
            budget=[_budget_row(row) for row in found.difference.budget],
            notes=[f"not compared: {reason}" for reason in found.reasons],
        )
        return found

    def instrument(self) -> Mapping[str, Any]:
        """Return who measured, and until when its calibration holds, as the record tells it."""
        return {}

    def _row(self, requirement: str) -> Requirement:
        row = self._requirements.get(requirement)
        if row is None:
            known = ", ".join(self._requirements) or "none"
            raise ValueError(f"the test states {requirement}, which its requirement marker does not name ({known})")
        return row

    def _names(self, evidence: Sequence[Path]) -> list[str]:
        return [self._record.relative(path) for path in evidence]


def _obstacles(measurement: Measurement) -> tuple[str, ...]:
    """Return why no verdict can rest on *measurement*, nothing where one can."""
    if measurement.expanded_uncertainty is None and not measurement.reservations:
        return ("the meter has no accuracy document; name one (accuracy:)",)
    return measurement.reservations


def _decide(measurement: Measurement, limit: Limit) -> Decision:
    assert measurement.expanded_uncertainty is not None
    return decide(
        measurement.value,
        measurement.expanded_uncertainty,
        limit,
        k=measurement.k or 2.0,
        degrees_of_freedom=measurement.degrees_of_freedom,
    )


def _same(instrument: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two records tell of one instrument: it is known by its model and serial number."""
    known = bool(instrument.get("serial"))
    return known and all(instrument.get(key) == other.get(key) for key in ("model", "serial"))


def _budget_row(row: Contribution) -> dict[str, Any]:
    return {
        "source": row.source,
        "standard_uncertainty": row.standard_uncertainty,
        "unit": row.unit,
        "kind": row.kind,
        "systematic": row.systematic,
        "degrees_of_freedom": _finite(row.degrees_of_freedom),
    }


def _finite(number: float) -> float | None:
    """Return *number* as JSON can hold it: None for infinitely many."""
    return number if isfinite(number) else None
