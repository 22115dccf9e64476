"""The parser of marks, and the estimate of the device's clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.board import Mark, estimate_device_clock, parse_mark

WORD = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="="), min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)


@given(
    st.integers(0, 2**32 - 1),
    WORD,
    st.integers(0, 2**63),
    st.dictionaries(WORD, VALUE, max_size=5),
    st.text(max_size=8),
)
def test_every_written_mark_is_read_back(ms, name, t_us, fields, noise):
    pairs = "".join(f" {key}={value}" for key, value in fields.items())
    mark = parse_mark(f"{noise}\x1b[0;32mI ({ms}) mark: {name} t_us={t_us}{pairs}\x1b[0m", 1.5)
    assert mark == Mark(name=name, at_s=1.5, device_us=t_us, fields=fields)


@given(st.text())
def test_any_text_is_a_mark_or_none(text):
    mark = parse_mark(text, 0.0)
    assert mark is None or f"mark: {mark.name} t_us=" in text


@pytest.mark.parametrize(
    "line",
    [
        "",
        "I (12) wifi: network_up t_us=1",
        "I (12) mark: network_up",
        "I (12) mark: network_up t_us=",
        "I (12) mark: network_up t_us=-3",
        "I (12) mark: network_up t_us=5 address",
        "E (12) mark: network_up t_us=5",
    ],
)
def test_lines_that_are_no_marks(line):
    assert parse_mark(line, 0.0) is None


def mark(name, device_us, at_s):
    return Mark(name=name, at_s=at_s, device_us=device_us, fields={})


@given(st.floats(0, 1e6), st.lists(st.tuples(st.integers(0, 60_000_000), st.floats(0, 0.2)), min_size=1, max_size=30))
def test_the_true_offset_is_never_above_the_estimate(offset_s, readings):
    marks = [mark("m", us, offset_s + us * 1e-6 + latency_s) for us, latency_s in readings]
    clock = estimate_device_clock(marks)
    smallest_s = min(latency_s for _, latency_s in readings)
    assert clock.offset_s == pytest.approx(offset_s + smallest_s, abs=1e-6)
    assert clock.uncertainty_s >= 0.005


def test_only_the_latest_boot_counts():
    marks = [mark("boot", 0, 10.0), mark("network_up", 500_000, 10.5), mark("boot", 0, 20.001), mark("x", 1000, 20.002)]
    assert estimate_device_clock(marks).offset_s == pytest.approx(20.001)


def test_without_marks_there_is_no_clock():
    with pytest.raises(ValueError, match="no mark"):
        estimate_device_clock([])
