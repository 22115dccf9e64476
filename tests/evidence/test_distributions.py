"""Tail probabilities against published tables."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.evidence.distributions import upper_tail


@pytest.mark.parametrize(
    ("t", "degrees_of_freedom", "tail"),
    # The normal tail at 0, 1, 1.645, 2 and 3, and GUM table G.2: half of what is outside for 95.45 % and 99 %.
    [
        (0.0, math.inf, 0.5),
        (1.0, math.inf, 0.158655),
        (1.644854, math.inf, 0.05),
        (2.0, math.inf, 0.0227501),
        (3.0, math.inf, 0.0013499),
        (13.968, 1, 0.02275),
        (4.5266, 2, 0.02275),
        (2.2837, 10, 0.02275),
        (2.0252, 100, 0.02275),
        (63.657, 1, 0.005),
        (3.1693, 10, 0.005),
        (2.6259, 100, 0.005),
    ],
)
def test_tails_are_those_of_the_tables(t: float, degrees_of_freedom: float, tail: float) -> None:
    assert upper_tail(t, degrees_of_freedom) == pytest.approx(tail, rel=5e-4)
    assert upper_tail(-t, degrees_of_freedom) == pytest.approx(1 - tail, rel=5e-4)


@given(st.floats(0.5, 9_999), st.floats(-50, 50), st.floats(0, 10))
def test_a_tail_falls_and_is_heavier_than_the_normal_one(nu: float, t: float, further: float) -> None:
    assert 0 <= upper_tail(t + further, nu) <= upper_tail(t, nu) + 1e-12 <= 1 + 1e-12
    assert upper_tail(abs(t), nu) >= upper_tail(abs(t)) - 1e-9


def test_one_and_two_degrees_of_freedom_have_a_closed_form() -> None:
    for t in (0.1, 0.7, 2.0, 30.0):
        assert upper_tail(t, 1) == pytest.approx(0.5 - math.atan(t) / math.pi, rel=1e-10)
        assert upper_tail(t, 2) == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)), rel=1e-10)
