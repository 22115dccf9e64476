"""Bounds of one instant from two witnesses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.energy import Bounds, Contradiction

TIMES = st.floats(0, 1e6)


@given(instant=TIMES, spreads=st.tuples(*[st.floats(0, 1e3)] * 4))
def test_what_two_true_witnesses_leave_holds_the_instant(instant: float, spreads: tuple[float, ...]) -> None:
    one = Bounds(instant - spreads[0], instant + spreads[1], "one")
    other = Bounds(instant - spreads[2], instant + spreads[3], "other")
    both = one.within(other)
    assert both.earliest_s <= instant <= both.latest_s
    assert both.half_width_s <= min(one.half_width_s, other.half_width_s)
    assert both == Bounds(other.within(one).earliest_s, other.within(one).latest_s, "one and other")


def test_witnesses_that_exclude_each_other_are_told() -> None:
    with pytest.raises(Contradiction, match=r"the console and the packets contradict each other by 1\.000 ms"):
        Bounds(1.000, 1.001, "the console").within(Bounds(1.002, 1.003, "the packets"))
