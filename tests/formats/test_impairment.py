"""The impairment value: what it refuses, and its dictionary form."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.formats.impairment import GilbertElliott, Impairment, ImpairmentError

percent = st.floats(0, 100)
some_percent = st.floats(0.01, 100)


@st.composite
def impairments(draw: st.DrawFn) -> Impairment:
    delay_s = draw(st.floats(0.001, 2))
    shape = draw(st.sampled_from(["uniform", "normal", "pareto", "paretonormal"]))
    bursts = st.builds(GilbertElliott, some_percent, some_percent, percent, percent)
    return Impairment(
        loss=draw(st.one_of(percent, bursts)),
        delay_s=delay_s,
        jitter_s=delay_s * draw(st.floats(0.01, 1)),
        distribution=shape,
        duplicate=draw(percent),
        reorder=draw(some_percent),
        gap=draw(st.integers(1, 10)),
        corrupt=draw(percent),
        rate_bit_s=draw(st.sampled_from([0, 8, 1_000_000])),
        limit=draw(st.integers(10_001, 10**6)),
        seed=draw(st.none() | st.integers(0, 2**32)),
    )


@given(impairments())
def test_the_dictionary_form_survives_json(impairment: Impairment) -> None:
    assert Impairment.from_dict(json.loads(json.dumps(impairment.to_dict()))) == impairment


def test_none_changes_nothing() -> None:
    assert Impairment.from_dict({}) == Impairment.none() == Impairment()
    assert str(Impairment.none()) == "netem limit 1000"


def test_the_text_is_in_netems_words() -> None:
    jittery = Impairment(5, 0.05, 0.01, "normal", duplicate=1, reorder=25, gap=5, corrupt=2, rate_bit_s=10**6, seed=42)
    assert str(jittery) == (
        "netem limit 1000 delay 50ms 10ms distribution normal loss random 5% duplicate 1% reorder 25% gap 5 "
        "corrupt 2% rate 1000000bit seed 42"
    )
    assert str(Impairment(GilbertElliott(1, 10, 70, 0.1))) == "netem limit 1000 loss gemodel 1% 10% 70% 0.1%"


def test_the_rate_of_the_burst_model() -> None:
    assert GilbertElliott(1, 10, 70, 0.1).rate == pytest.approx(0.0645, abs=0.0001)
    assert GilbertElliott(1, 25).rate == pytest.approx(0.0385, abs=0.0001)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"loss_correlation": 25}, "use GilbertElliott"),
        ({"los": 5}, "unknown key 'los' in Impairment: it has loss"),
        ({"loss": {"p": 1, "r": 2, "h": 3}}, "unknown key 'h' in GilbertElliott"),
        ({"loss": {"p": 1}}, "missing: r"),
        ({"loss": {"p": 1, "r": 0}}, "plain loss percentage"),
        ({"loss": 101}, "outside 0 to 100"),
        ({"loss": -1}, "outside 0 to 100"),
        ({"loss": float("nan")}, "outside 0 to 100"),
        ({"loss": "5%"}, "not a number"),
        ({"loss": True}, "not a number"),
        ({"duplicate": 200}, "duplicate"),
        ({"delay_s": float("inf")}, "delay_s"),
        ({"delay_s": 50, "limit": 100_000, "jitter_s": 51}, "jitter_s 51 exceeds delay_s 50"),
        ({"delay_s": 0.05, "distribution": "normal"}, "jitter_s is 0"),
        ({"delay_s": 0.05, "jitter_s": 0.01, "distribution": "gauss"}, "netem has uniform, normal"),
        ({"reorder": 25}, "give delay_s"),
        ({"delay_s": 0.05, "gap": 5}, "give reorder"),
        ({"delay_s": 2}, "limit 1000 is too small .* Give limit 2000"),
        ({"delay_s": 0.8, "jitter_s": 0.1, "distribution": "normal"}, "Give limit 1200"),
        ({"rate_bit_s": 7}, "byte a second"),
        ({"rate_bit_s": 1e6}, "not an integer"),
        ({"limit": 0}, "outside 1"),
        ({"gap": 0}, "outside 1"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_netem_gets_wrong_is_refused_with_the_way_out(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ImpairmentError, match=said):
        Impairment.from_dict(values)
