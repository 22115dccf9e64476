"""Each misbehaviour of the CoAP side can be seen from outside, and an orderly device shows none."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from itertools import pairwise
from typing import Any

import pytest

from rig.dtls.client import Silence
from rig.dtls.coap import EMPTY, GET, PUT, Message, OptionNumber, Type, decode
from rig.dtls.misbehaviour import Misbehaviour as DtlsMisbehaviour
from rig.dtls.records import parse_datagram
from rig.errors import ConfigError
from rig.virtual.device.group import Group
from rig.virtual.device.misbehaviour import Misbehaviour
from rig.virtual.device.process import split_switches

CON, NON, ACK, RST = Type.CON, Type.NON, Type.ACK, Type.RST
BLOCK1, BLOCK2 = OptionNumber.BLOCK1, OptionNumber.BLOCK2
REGISTER = (OptionNumber.OBSERVE, b"")
CORE = ((OptionNumber.URI_PATH, b".well-known"), (OptionNumber.URI_PATH, b"core"))
GROUP_CLIENT = ("192.0.2.9", 5683)

Make = Callable[..., Any]
"""Makes a talk, or a line: what a probe takes is the name of its parameter."""


# --- messages


def duplicates_executed(talk: Any) -> bool:
    for _ in range(2):
        talk.ask(PUT, payload=b"on", message_id=5)
    return bool(talk.application.service.executed == 2)


def duplicates_acknowledged_wrongly(talk: Any) -> bool:
    return bool(talk.ask(GET, message_id=5) != talk.ask(GET, message_id=5))


def tokens_cut(talk: Any) -> bool:
    return bool(talk.ask(GET, token=b"12345678").token == b"1234")


def ping_unanswered(talk: Any) -> bool:
    return not talk.tell(Message(CON, EMPTY, 1))


def any_coap_version(talk: Any) -> bool:
    data = bytearray(Message(CON, GET, 1, options=((OptionNumber.URI_PATH, b"light"),)).encode())
    data[0] |= 0x80
    return bool(talk.give(bytes(data)))


def empty_payload_accepted(talk: Any) -> bool:
    data = Message(CON, GET, 1, options=((OptionNumber.URI_PATH, b"light"),)).encode() + b"\xff"
    return bool(talk.give(data)[0].type == ACK)


# --- options and response codes


def critical_ignored(talk: Any) -> bool:
    return bool(talk.ask(GET, "/light", (65001, b"")).code_text == "2.05")


def elective_refused(talk: Any) -> bool:
    return bool(talk.ask(GET, "/light", (65000, b"")).code_text == "4.02")


def not_found_is_5_00(talk: Any) -> bool:
    return bool(talk.ask(GET, "/nope").code_text == "5.00")


def accept_ignored(talk: Any) -> bool:
    return bool(talk.ask(GET, "/light", (OptionNumber.ACCEPT, b"\x27\x0f")).code_text == "2.05")


# --- blocks


def block2_shifted(talk: Any) -> bool:
    first = talk.ask(GET, "/blob?n=600", (BLOCK2, b"\x04")).payload
    later = talk.ask(GET, "/blob?n=600", (BLOCK2, b"\x82")).payload  # block 8 of 64 bytes
    assert first.startswith(b"0000000\n")
    return not later.startswith(b"0000200\n")


def szx_7_accepted(talk: Any) -> bool:
    return bool(talk.ask(GET, "/blob?n=600", (BLOCK2, b"\x07")).code_text == "2.05")


def block1_gap_accepted(talk: Any) -> bool:
    talk.ask(PUT, "/blob", (BLOCK1, b"\x08"), payload=bytes(16))
    return bool(talk.ask(PUT, "/blob", (BLOCK1, b"\x20"), payload=bytes(16)).code_text == "2.04")


def no_blocks(talk: Any) -> bool:
    return bool(len(talk.ask(GET, "/blob?n=1300", (BLOCK2, b"\x02")).payload) == 1300)


# --- observation and retransmission


def notified(talk: Any, value: bytes = b"on") -> list[Message]:
    """Observe the light, have it changed by another client; return what comes of it."""
    talk.ask(GET, "/light", REGISTER)
    return changed(talk, value)


def changed(talk: Any, value: bytes) -> list[Message]:
    before = len(talk.sent)
    talk.ask(PUT, payload=value, client=2)
    return [message for _, number, message in talk.sent[before:] if number == 1]


def intervals(talk: Any) -> list[float]:
    (first,) = notified(talk)
    times = [talk.now_s, *(t_s for t_s, message in talk.wait(100) if message == first)]
    return [later - earlier for earlier, later in pairwise(times)]


def tokens_mixed(talk: Any) -> bool:
    talk.ask(GET, "/light", REGISTER, token=b"light")
    talk.ask(GET, "/sensor", REGISTER, token=b"sensor")
    return bool(changed(talk, b"on")[0].token == b"sensor")


def observe_value_stands(talk: Any) -> bool:
    return bool(talk.ask(GET, "/light", REGISTER).observe == notified(talk)[0].observe)


def reset_ignored(talk: Any) -> bool:
    talk.tell(Message(RST, EMPTY, notified(talk)[0].message_id))
    return bool(changed(talk, b"off"))


def confirmable_untracked(talk: Any) -> bool:
    return not intervals(talk)


def fixed_interval(talk: Any) -> bool:
    return intervals(talk) == [2.0] * 4


def no_jitter(talk: Any) -> bool:
    return intervals(talk)[0] == 2.0


def retransmits_for_ever(talk: Any) -> bool:
    return len(intervals(talk)) > 8


def observations_outlive_session(line: Any) -> bool:
    observer = line.connect()
    observer.ask(GET, "/light", REGISTER)
    observer.run(observer.client.close())
    before = len(line.heard[observer.address])
    line.connect().ask(PUT, payload=b"on")
    sent = line.heard[observer.address][before:]
    return any(b"on" in record.fragment and not record.epoch for each in sent for record in parse_datagram(each))


# --- multicast


def group_answers(talk: Any, *options: tuple[int, bytes]) -> list[tuple[float, str]]:
    """Ask the group in 20 messages; return when the device answers, after how long, and with what code."""
    wrong = talk.application.service._wrong
    group = Group(wrong, talk.application._draws, talk.application.service)
    for number in range(20):
        group.receive(0.0, GROUP_CLIENT, Message(NON, GET, number, b"t", options).encode())
    answers = []
    while group.deadline_s < 100:
        now_s = group.deadline_s
        answers += [(now_s, decode(data).code_text) for _, data in group.expire(now_s)]
    return answers


def multicast_errors(talk: Any) -> bool:
    return bool(group_answers(talk, *CORE, (65001, b"")))


def multicast_at_once(talk: Any) -> bool:
    return group_answers(talk, *CORE) == [(0.0, "2.05")] * 20


# --- confidentiality, memory, crashes


def debug_datagrams(line: Any) -> bool:
    session = line.connect()
    session.ask(GET, "/light?note=canary")
    return any(b"canary" in datagram for datagram in line.heard[session.address])


def leak_bytes(line: Any) -> bool:
    session = line.connect()
    return bool(session.stats()["free_heap"] - session.stats()["free_heap"] == 252)


def restarts(line: Any, provoke: Callable[[], Any]) -> bool:
    """Whether what *provoke* does restarts the device: a session of before is lost, and boots are counted."""
    before = line.connect()
    boots = before.stats()["boot_count"]
    provoke()
    line.now_s += 3.0
    return bool(line.connect().stats()["boot_count"] == boots + 1)


def half_open_exhausts(line: Any) -> bool:
    def provoke() -> None:
        for _ in range(40):
            with suppress(Silence):  # who has restarted does not answer
                line.half_open()

    return restarts(line, provoke)


def panics_above_bytes(line: Any) -> bool:
    session = line.connect()
    assert session.ask(PUT, "/blob", payload=bytes(100)).code_text == "2.04"
    return restarts(line, lambda: send(session, Message(CON, PUT, 9, b"", CORE_OF_BLOB, bytes(101))))


def tiny_fragment_resets(line: Any) -> bool:
    session = line.connect()
    hello = bytes.fromhex("16fefd 0000 000000000009 000d 01 000029 0000 000000 000001 fe".replace(" ", ""))
    return restarts(line, lambda: session.run(session.client.send(hello)))


CORE_OF_BLOB = ((OptionNumber.URI_PATH, b"blob"),)


def send(session: Any, message: Message) -> None:
    session.run(session.client.send(session.client.application_data(message.encode())))


SWITCHES = [field.name for field in fields(Misbehaviour)]
VALUES = {"leak_bytes": 252, "half_open_exhausts": 40, "panics_above_bytes": 100}
BESIDE = {
    "observations_outlive_session": {"clear_data_without_session": True},
    "multicast_errors": {"multicast": True},
    "multicast_at_once": {"multicast": True},
}
ON_A_LINE = {
    "observations_outlive_session",
    "debug_datagrams",
    "leak_bytes",
    "half_open_exhausts",
    "panics_above_bytes",
    "tiny_fragment_resets",
}


@pytest.mark.parametrize("switch", [name for name in SWITCHES if name != "multicast"])
def test_a_misbehaviour_is_seen_and_an_orderly_device_shows_it_not(switch: str, talk: Make, line: Make) -> None:
    make, probe = line if switch in ON_A_LINE else talk, globals()[switch]
    assert probe(make(**{switch: VALUES.get(switch, True), **BESIDE.get(switch, {})}))
    assert not probe(make())


def test_the_switches_of_both_sides_have_names_of_their_own() -> None:
    assert not set(SWITCHES) & {field.name for field in fields(DtlsMisbehaviour)}


def test_switches_go_to_their_side_and_unknown_ones_are_named() -> None:
    coap, dtls = split_switches({"tokens_cut": True, "extra_keys": ["", "6162"], "replay_window_bits": 16})
    assert coap == Misbehaviour(tokens_cut=True)
    assert dtls == DtlsMisbehaviour(extra_keys=(b"", b"ab"), replay_window_bits=16)
    with pytest.raises(ConfigError, match="tokens_cutt"):
        split_switches({"tokens_cutt": True})


def test_a_healthy_member_of_a_group_answers_after_a_leisure(talk: Make) -> None:
    answers = group_answers(talk(multicast=True), *CORE)
    times = [t_s for t_s, _ in answers]
    assert [code for _, code in answers] == ["2.05"] * 20
    assert 0 <= min(times) < max(times) <= 5
    assert len(set(times)) == 20
    assert group_answers(talk(multicast=True), (OptionNumber.URI_PATH, b"light")) == []


def test_one_empty_payload_is_passed_over_and_no_more(talk: Make) -> None:
    data = Message(CON, GET, 7).encode() + b"\xf0" + b"\xff" * 5000
    assert talk(empty_payload_accepted=True).give(data) == [Message(RST, EMPTY, 7)]


def test_two_records_of_a_datagram_are_both_served(line: Make) -> None:
    session = line().connect()
    asked = [Message(CON, GET, number, b"", ((OptionNumber.URI_PATH, b"light"),)).encode() for number in (1, 2)]
    records = b"".join(session.client.datagram(session.client.application_data(each)) for each in asked)
    before = len(session.line.heard[session.address])
    session.run(session.client.send(records))
    assert len(session.line.heard[session.address]) - before == 2
