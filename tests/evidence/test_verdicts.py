"""The decision rule and the order of the states."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.evidence.verdicts import Limit, Rule, State, decide, unmet, worst

CURRENT = Limit(name="deep_sleep_current", unit="A", max=10e-6)
RATE = Limit(name="success_rate", unit="1", min=0.8)


@pytest.mark.parametrize(
    ("value", "state", "side"),
    [
        (5e-6, State.PASS, None),
        (9.0e-6, State.PASS, None),
        (9.5e-6, State.CONDITIONAL, "pass"),
        (10e-6, State.CONDITIONAL, "pass"),
        (10.5e-6, State.CONDITIONAL, "fail"),
        (12e-6, State.FAIL, None),
    ],
)
def test_upper_limit_with_guard_band(value: float, state: State, side: str | None) -> None:
    decision = decide(value, 0.9e-6, CURRENT)
    assert (decision.state, decision.side) == (state, side)


def test_lower_limit_with_guard_band() -> None:
    assert decide(1.0, 0.12, RATE).state is State.PASS
    assert decide(0.85, 0.12, RATE).state is State.CONDITIONAL
    assert decide(0.5, 0.12, RATE).state is State.FAIL


def test_a_value_on_the_limit_without_uncertainty_does_not_fail() -> None:
    assert decide(10e-6, 0.0, CURRENT).side == "pass"


def test_a_limit_without_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="neither max nor min"):
        decide(1.0, 0.1, Limit(name="x", unit="s"))


@given(value=st.floats(-1e6, 1e6), uncertainty=st.floats(0, 1e3), bound=st.floats(-1e6, 1e6), higher=st.floats(0, 1e6))
def test_a_higher_value_is_never_judged_better(value: float, uncertainty: float, bound: float, higher: float) -> None:
    order: list[tuple[State, str | None]] = [(State.PASS, None), (State.CONDITIONAL, "pass")]
    order += [(State.CONDITIONAL, "fail"), (State.FAIL, None)]
    if 0 < bound <= uncertainty:
        order = [(State.PASS, None), (State.INCONCLUSIVE, None), (State.FAIL, None)]
    limit = Limit(name="x", unit="s", max=bound)
    first, second = decide(value, uncertainty, limit), decide(value + higher, uncertainty, limit)
    assert order.index((first.state, first.side)) <= order.index((second.state, second.side))


def test_what_nothing_judged_is_not_run() -> None:
    assert worst([]) is State.NOT_RUN


@given(st.lists(st.sampled_from(list(State)), min_size=1))
def test_pass_only_where_everything_passed(states: list[State]) -> None:
    assert (worst(states) is State.PASS) == (set(states) == {State.PASS})


def test_a_should_that_is_not_met_is_a_deviation() -> None:
    assert (unmet("MUST"), unmet("policy")) == (State.FAIL, State.FAIL)
    assert (unmet("SHOULD"), unmet("report")) == (State.DEVIATION, State.DEVIATION)


@pytest.mark.parametrize(
    ("rule", "guard_band", "expected"),
    [
        ("simple", 1.0, {8.9: "pass", 9.5: "pass", 10.0: "pass", 10.1: "fail", 12.0: "fail"}),
        ("guarded", 1.0, {8.9: "pass", 9.5: "fail", 10.0: "fail", 10.1: "fail", 12.0: "fail"}),
        ("guarded", 0.5, {8.9: "pass", 9.5: "pass", 9.6: "fail", 10.1: "fail"}),
        ("non-binary", 1.0, {8.9: "pass", 9.5: "conditional", 10.1: "conditional", 11.0: "fail", 12.0: "fail"}),
        ("non-binary", 0.5, {9.5: "pass", 9.6: "conditional", 10.4: "conditional", 10.5: "fail"}),
    ],
)
def test_the_rule_and_its_guard_band_decide(rule: Rule, guard_band: float, expected: dict[float, str]) -> None:
    limit = Limit(name="x", unit="mA", max=10.0, rule=rule, guard_band=guard_band)
    assert {value: decide(value, 1.0, limit).state.value for value in expected} == expected


def test_a_decision_tells_its_rule_and_its_acceptance_limits() -> None:
    both = Limit(name="x", unit="mA", min=2.0, max=10.0, rule="guarded", guard_band=0.83)
    decision = decide(5.0, 1.0, both)
    assert decision.rule == "ILAC-G8:09/2019 4.2.2, guard band w = 0.83 U"
    assert (decision.guard_band, decision.accept_min, decision.accept_max) == pytest.approx((0.83, 2.83, 9.17))
    simple = decide(5.0, 1.0, replace(both, rule="simple"))
    assert (simple.rule, simple.guard_band) == ("ILAC-G8:09/2019 4.2.1, simple acceptance", 0)
    assert (simple.accept_min, simple.accept_max) == (2.0, 10.0)
    assert decide(5.0, 1.0, CURRENT).rule == "ILAC-G8:09/2019 4.2.3, guard band w = U"


@pytest.mark.parametrize(
    ("guard_band", "risk"), [(1e-12, 0.5), (0.5, 0.158655), (0.83, 0.048457), (1.0, 0.0227501), (1.5, 0.0013499)]
)
def test_the_risk_at_the_acceptance_limit_is_that_of_the_guide(guard_band: float, risk: float) -> None:
    """JCGM 106 and ILAC-G8 table 1: at A with w = U and k = 2 the false accept is below 2.5 %."""
    limit = Limit(name="x", unit="mA", max=10.0, rule="guarded", guard_band=guard_band)
    decision = decide(10.0 - guard_band, 1.0, limit)
    assert decision.state is State.PASS
    assert decision.false_accept == pytest.approx(risk, rel=1e-4)
    assert decision.false_reject is None


def test_a_rejection_tells_the_risk_that_it_is_wrong() -> None:
    decision = decide(11.0, 1.0, Limit(name="x", unit="mA", max=10.0))
    assert decision.state is State.FAIL
    assert decision.false_reject == pytest.approx(0.0227501, rel=1e-4)
    assert decision.false_accept is None
    few = decide(11.0, 4.53 / 2, Limit(name="x", unit="mA", max=10.0), k=4.53, degrees_of_freedom=2)
    assert (few.state, few.side) == (State.CONDITIONAL, "fail")
    assert few.false_reject == pytest.approx(0.0917517, rel=1e-4)  # Student's t of 2 with two degrees of freedom


def test_without_uncertainty_there_is_no_risk() -> None:
    assert decide(9.0, 0.0, Limit(name="x", unit="mA", max=10.0)).false_accept == 0
    assert decide(11.0, 0.0, Limit(name="x", unit="mA", max=10.0)).false_reject == 0


def test_the_stated_risk_is_how_often_a_pass_is_wrong() -> None:
    """Of devices whose true value is as probable as the measurement says, that share is outside the limit."""
    rng = np.random.default_rng(5)
    limit = Limit(name="x", unit="mA", min=9.0, max=10.0, rule="simple")
    for value in (9.1, 9.5, 9.9, 10.2):
        decision = decide(value, 0.4, limit)
        true = rng.normal(value, 0.2, 200_000)
        outside = np.mean((true > 10.0) | (true < 9.0))
        stated = decision.false_accept if decision.state is State.PASS else 1 - (decision.false_reject or 0.0)
        assert stated == pytest.approx(outside, abs=0.005)


@pytest.mark.parametrize("rule", ["simple", "guarded", "non-binary"])
def test_an_uncertainty_as_large_as_the_limit_judges_only_what_is_clear(rule: Rule) -> None:
    limit = replace(CURRENT, rule=rule)
    unfit = decide(5e-6, 115e-6, limit)
    assert (unfit.state, unfit.false_accept, unfit.false_reject) == (State.INCONCLUSIVE, None, None)
    assert unfit.reason == "U = 0.00012 A is too large to judge deep_sleep_current at most 1e-05 A (no source)"
    assert decide(200e-6, 115e-6, limit).state is State.FAIL
    both = Limit(name="x", unit="V", min=3.2, max=3.4, rule=rule)
    assert decide(3.3, 0.11, both).state is State.INCONCLUSIVE
    assert decide(3.3, 0.09, both).state is State.PASS
    assert decide(-0.5, 0.04, Limit(name="x_increase", unit="1", max=0.03, rule=rule)).state is State.PASS
