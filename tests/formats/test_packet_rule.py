"""Rules as data: what is taken, what is refused, and that nothing is lost on the way through JSON."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.dtls.coap import Type
from rig.dtls.handshake import HandshakeType
from rig.dtls.records import ContentType
from rig.formats.packet_rule import (
    FLIGHTS,
    CoapMatch,
    CoapTypeName,
    ContentTypeName,
    HandshakeName,
    Match,
    PacketRule,
    PacketRuleError,
    psks_to_dict,
    read_psks,
    read_rules,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
KEYS = ["direction", "action", "match", "value", "nth", "first", "every", "handshake", "coap", "flight", "path"]


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def rules(draw: st.DrawFn) -> PacketRule:
    direction = draw(st.sampled_from(["to_client", "to_device"]))
    code = st.builds("{}.{:02d}".format, st.integers(0, 7), st.integers(0, 31))
    coap = st.builds(
        CoapMatch,
        optional(st.sampled_from(get_args(CoapTypeName))),
        optional(code),
        optional(st.text(max_size=9).map(lambda text: "/" + text)),
    )
    match = Match(
        draw(optional(st.sampled_from(get_args(ContentTypeName)))),
        draw(optional(st.integers(0, 65535))),
        tuple(draw(st.lists(st.sampled_from(get_args(HandshakeName)), max_size=3))),
        draw(optional(st.integers(0, 255))),
        draw(optional(coap)),
        draw(optional(st.sampled_from(FLIGHTS[direction]))),
        draw(optional(st.booleans())),
        draw(optional(st.integers(0, 65535))),
    )
    action, values = draw(
        st.sampled_from(
            [
                ("drop", st.none()),
                ("delay", st.floats(0, 3600, exclude_min=True)),
                ("hang", st.floats(0, 3600, exclude_min=True)),
                ("duplicate", st.integers(1, 100)),
                ("flip", st.integers(-65535, 65534)),
                ("truncate", st.integers(0, 65535)),
            ]
        )
    )
    chosen = draw(st.sampled_from([{}, {"nth": 2}, {"first": 3}, {"every": 4}]))
    return PacketRule(direction, action, match, draw(values), **chosen)


@given(rules())
def test_a_rule_passes_through_json_unchanged(rule: PacketRule) -> None:
    (read,) = read_rules([json.loads(json.dumps(rule.to_dict()))])
    assert read == rule


def test_any_coap_message_at_all_is_another_match_than_anything() -> None:
    rule = PacketRule("to_client", "drop", Match(coap=CoapMatch()))
    assert rule.to_dict() == {"direction": "to_client", "action": "drop", "match": {"coap": {}}}
    assert PacketRule("to_client", "drop").to_dict() == {"direction": "to_client", "action": "drop"}


@given(JSON | st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5), max_size=2))
def test_whatever_is_no_rule_is_refused_in_the_parsers_own_words(values: object) -> None:
    try:
        found = read_rules(values)
    except PacketRuleError:
        return
    assert [PacketRule.from_dict(rule.to_dict()) for rule in found] == list(found)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"direction": "up", "action": "drop"}, "direction"),
        ({"direction": "to_client"}, "action"),
        ({"direction": "to_client", "action": "lose"}, "action"),
        ({"direction": "to_client", "action": "drop", "value": 1}, "no value"),
        ({"direction": "to_client", "action": "delay"}, "seconds"),
        ({"direction": "to_client", "action": "delay", "value": float("nan")}, "seconds"),
        ({"direction": "to_client", "action": "duplicate", "value": 0}, "duplicate"),
        ({"direction": "to_client", "action": "truncate", "value": -1}, "truncate"),
        ({"direction": "to_client", "action": "drop", "nth": 0}, "nth"),
        ({"direction": "to_client", "action": "drop", "nth": 1, "first": 1}, "exclude"),
        ({"direction": "to_client", "action": "drop", "match": {"flight": 5}}, "flight 5"),
        ({"direction": "to_client", "action": "drop", "match": {"flights": 6}}, "flights"),
        ({"direction": "to_client", "action": "drop", "match": {"handshake": "finished"}}, "handshake"),
        ({"direction": "to_client", "action": "drop", "match": {"handshake": ["hello"]}}, "handshake"),
        ({"direction": "to_client", "action": "drop", "match": {"coap": {"code": "2.5"}}}, "code"),
        ({"direction": "to_client", "action": "drop", "match": {"coap": {"path": "light"}}}, "path"),
        ({"direction": "to_client", "action": "drop", "match": {"coap": None}}, "coap"),
    ],
)
def test_a_refusal_names_the_rule_and_the_field(wrong: dict[str, Any], says: str) -> None:
    fine = {"direction": "to_client", "action": "drop"}
    with pytest.raises(PacketRuleError, match=f"rule 2: .*{says}"):
        read_rules([fine, wrong])


def test_which_occurrences_are_acted_on() -> None:
    def acted(**chosen: int) -> list[int]:
        rule = PacketRule("to_client", "drop", **chosen)
        return [number for number in range(1, 8) if rule.acts_on(number)]

    assert acted() == [1, 2, 3, 4, 5, 6, 7]
    assert (acted(nth=3), acted(first=2), acted(every=3)) == ([3], [1, 2], [3, 6])


def test_the_names_are_those_of_the_codecs() -> None:
    assert set(get_args(ContentTypeName)) == {kind.name.lower() for kind in ContentType}
    assert set(get_args(HandshakeName)) == {kind.name.lower() for kind in HandshakeType}
    assert set(get_args(CoapTypeName)) == {kind.name for kind in Type}


@given(st.dictionaries(st.binary(max_size=9), st.binary(max_size=9), max_size=3))
def test_keys_pass_through_json_unchanged(psks: dict[bytes, bytes]) -> None:
    assert read_psks(json.loads(json.dumps(psks_to_dict(psks)))) == psks


def test_keys_that_are_not_hexadecimal_are_not_repeated_in_the_refusal() -> None:
    with pytest.raises(PacketRuleError) as refused:
        read_psks({"6c": "secret words"})
    assert "secret" not in str(refused.value)


def test_a_rule_reads_as_one_line() -> None:
    rule = PacketRule("to_client", "drop", Match(flight=6), first=1)
    assert str(rule) == "drop to_client, match {'flight': 6}, first 1"
