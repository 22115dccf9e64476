"""The decision rule and the order of the states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.evidence.verdicts import Limit, State, decide, unmet, worst

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
    order = [(State.PASS, None), (State.CONDITIONAL, "pass"), (State.CONDITIONAL, "fail"), (State.FAIL, None)]
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
