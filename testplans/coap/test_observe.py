"""Observation: OBS-01."""

from collections.abc import Iterable
from itertools import pairwise

import pytest

from rig.dtls.coap import GET, Message, decode
from rig.dtls.session import Session as DtlsSession
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure

CHANGES = ("on", "off", "on")


@pytest.mark.requirement("OBS-01")
@pytest.mark.usefixtures("router")
def test_tokens_of_two_observations_are_never_mixed(coap: Coaps, measure: Measure) -> None:
    told: dict[str, list[str]] = {"first": [], "second": []}
    with measure.packets("observe") as capture, coap.session() as session:
        session.put("/light", b"off")
        # The queries make two observations of one resource in one session.
        with session.observe("/light?first") as first, session.observe("/light?second") as second:
            for value in CHANGES:
                session.put("/light", value.encode())
                told["first"].append(first.next(timeout_s=5).payload.decode())
                told["second"].append(second.next(timeout_s=5).payload.decode())
    seen = measure.only_session(capture, {coap.identity: coap.psk})
    registered = _registrations(seen)
    notified = _notifications(seen)
    right = [list(CHANGES)] * 2 == [told["first"], told["second"]]
    own_token = set(notified) == set(registered) and len(registered) == 2
    rising = all(_rises(values) for values in notified.values())
    measure.check(
        "OBS-01",
        f"each of two observations is told {', '.join(CHANGES)} under its own token, Observe values rising",
        right and own_token and rising,
        observed=f"registered tokens {_hex(registered)}, notified {_hex(notified)}; "
        f"first told {told['first']}, second told {told['second']}; Observe values {list(notified.values())}",
        evidence=[capture.path],
    )


def _messages(session: DtlsSession, *, from_client: bool) -> list[Message]:
    records = [record for record in session.application_data if record.from_client == from_client]
    return [decode(record.plaintext or b"") for record in records]


def _registrations(session: DtlsSession) -> set[bytes]:
    requests = _messages(session, from_client=True)
    return {one.token for one in requests if one.code == GET and one.observe == 0}


def _notifications(session: DtlsSession) -> dict[bytes, list[int]]:
    """Return the Observe values under each token, in order."""
    values: dict[bytes, list[int]] = {}
    for message in _messages(session, from_client=False):
        if message.observe is not None:
            values.setdefault(message.token, []).append(message.observe)
    return values


def _rises(values: list[int]) -> bool:
    return all(0 < (later - earlier) % 2**24 < 2**23 for earlier, later in pairwise(values))


def _hex(tokens: Iterable[bytes]) -> str:
    return ", ".join(sorted(token.hex() for token in tokens))
