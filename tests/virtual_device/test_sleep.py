"""The scripted device's deep sleep: nobody is heard, the session goes on, and no record number comes again."""

import pytest

from rig.dtls.client import Silence
from rig.dtls.coap import PUT

SLEEP_S = 2.0


def sequences(session) -> list[int]:
    return [one.sequence for one in session.client.seen if one.epoch]


def test_it_answers_sleeps_and_goes_on_with_new_numbers(line) -> None:
    session = line().connect()
    boots = session.stats()["boot_count"]
    assert session.ask(PUT, "/power", payload=b"2000").code_text == "2.04"
    with pytest.raises(Silence):
        session.run(session.client.ask(b"\x40\x01\x00\x01", within_s=SLEEP_S / 2))
    session.line.now_s += SLEEP_S
    assert session.stats()["boot_count"] == boots + 1
    used = sequences(session)
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("body", [b"", b"0", b"86400001", b"1e3", b"-1"])
def test_a_duration_that_is_none_is_refused(line, body: bytes) -> None:
    assert line().connect().ask(PUT, "/power", payload=body).code_text == "4.00"
