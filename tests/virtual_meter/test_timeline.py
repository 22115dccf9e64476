import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.virtual.meter.timeline import Timeline

events = st.lists(st.tuples(st.integers(1000, 100_000), st.floats(0, 1)), max_size=30, unique_by=lambda event: event[0])


@settings(deadline=None)
@given(events, st.integers(0, 90_000), st.integers(1, 5000), st.integers(1, 40))
def test_means_agree_with_a_sum_over_nanoseconds(
    changes: list[tuple[int, float]], first: int, aperture: int, count: int
) -> None:
    timeline = Timeline()
    level = np.zeros(400_000)
    for t_ns, amps in sorted(changes):
        level[t_ns:] = amps
    for t_ns, amps in changes:  # in any order
        timeline.set_current(t_ns, amps)
    starts = first + np.arange(count) * (aperture + 7.0)
    expected = [level[int(start) : int(start) + aperture].mean() for start in starts]
    assert timeline.means_a(0, starts, aperture) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(events, st.integers(0, 120_000))
def test_dropping_what_was_read_changes_nothing_that_comes(changes: list[tuple[int, float]], read_ns: int) -> None:
    whole, pruned = Timeline(), Timeline()
    for t_ns, amps in changes:
        whole.set_current(t_ns, amps)
        pruned.set_current(t_ns, amps)
    pruned.mark_read(read_ns)
    starts = read_ns + np.arange(20) * 1000.0
    assert pruned.means_a(0, starts, 1000.0) == pytest.approx(whole.means_a(0, starts, 1000.0), abs=1e-12)


def test_a_timeline_that_is_read_stays_small() -> None:
    timeline = Timeline()
    for t_ns in range(0, 1_000_000, 10):
        timeline.set_current(t_ns, 0.1)
        timeline.set_level(t_ns, t_ns // 10 % 2)
        timeline.mark_read(t_ns - 1000)
    assert len(timeline) < 300


def test_a_late_event_takes_effect_where_reading_goes_on_and_is_counted() -> None:
    timeline = Timeline()
    timeline.mark_read(1000)
    timeline.set_current(500, 0.2)
    assert timeline.late_events == 1
    assert timeline.current_at(1000) == 0.2


def test_edges_are_found_by_direction_and_time() -> None:
    timeline = Timeline()
    for t_ns, level in ((300, 0), (100, 1), (500, 1), (200, 1)):
        timeline.set_level(t_ns, level)
    assert timeline.first_edge_ns(0, 1000, rising=True) == 100
    assert timeline.first_edge_ns(100, 1000, rising=True) == 500
    assert timeline.first_edge_ns(0, 1000, rising=False) == 300
    assert timeline.first_edge_ns(100, 499, rising=True) is None
