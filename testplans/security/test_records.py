"""What a session's records may do, and what is dropped: REC-01 to REC-12, REC-15.

A datagram that ought to be dropped is followed by an ordinary request: its answer shows that the device has read past
the datagram, and that the session goes on. So nobody waits for silence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rig.coap.probe import Prober, ProbeSession, Transcript, request
from rig.dtls.alerts import FATAL, WARNING, Alert
from rig.dtls.client import CLOSE_NOTIFY, Refused, Silence
from rig.dtls.coap import GET, decode
from rig.dtls.connection import RENEGOTIATION_SCSV
from rig.dtls.contents import ApplicationData, Received
from rig.dtls.conversation import Script, Send, Wait
from rig.dtls.outgoing import Content, spoiled
from rig.dtls.records import DTLS_1_0, ContentType, parse_datagram
from rig.dtls.suites import SUITES
from rig.dtls.wire import DecodeError
from rig.evidence.declaration import SUITE_NUMBERS, Declaration
from rig.fixtures.measure import Measure

TLS_1_2 = 0x0303
INTERNAL_ERROR = 80
WITHIN_S = 3.0
"""How long the next request may take: it is sent again after 2 s, in case the network lost it."""
AT_ONCE_S = 1.0
DISTANCES = (31, 32, 63, 64)
AHEAD = 100
FORGERIES = (1, 10, 1000)
BURST, PAUSE_S = 50, 0.005
"""So many datagrams fit into the buffers on the way; a device need not be faster than that."""
HEADER_BYTES = 13
CBC_BLOCK_BYTES = 16

Stimulus = Callable[[ProbeSession, bytes], bytes]
"""Makes a datagram from a session and a request."""


@dataclass(frozen=True)
class Aftermath:
    """What came after some datagrams: answers to the requests in them, alerts, and whether the next one was answered.

    ``answers`` are tokens, one for each answer.
    """

    answers: tuple[bytes, ...]
    alerts: tuple[str, ...]
    alive: bool

    def __str__(self) -> str:
        alerts = f", {', '.join(self.alerts)}" if self.alerts else ""
        answers = f"{len(self.answers)} answered" if self.answers else "no answer"
        return f"{answers}{alerts}, next request {'answered' if self.alive else 'not answered'}"

    @property
    def dropped(self) -> bool:
        """Whether nothing came back but the answer to the next request."""
        return self.alive and not self.answers and not self.alerts


@pytest.mark.requirement("REC-01")
def test_replayed_record_is_discarded(probe: Prober, measure: Measure) -> None:
    with probe.session() as session:
        record = _plain(session, _get(probe))
        outcome = _after(probe, session, record, record)
    measure.check(
        "REC-01",
        "a request's record that is sent twice brings one response, and the next request is answered",
        len(outcome.answers) == 1 and outcome.alive,
        observed=str(outcome),
        evidence=[_facts(measure, {"replay": outcome})],
    )


@pytest.mark.requirement("REC-02")
def test_replay_window_covers_32_records(probe: Prober, measure: Measure) -> None:
    requests = {distance: request(GET, probe.life) for distance in DISTANCES}
    with probe.session() as session:
        client = session.client
        client.sequences[client.epoch] += AHEAD
        first = _after(probe, session)
        newest = client.sequences[client.epoch] - 1
        late = (
            client.record(client.application_data(one.encode()), sequence=newest - distance)
            for distance, one in requests.items()
        )
        outcome = _after(probe, session, *(record.encode() for record in late))
    taken = {distance: one.token in outcome.answers for distance, one in requests.items()}
    measure.check(
        "REC-02",
        "a record 31 behind the newest is accepted",
        first.alive and taken[DISTANCES[0]],
        observed=", ".join(f"{distance} behind: {'accepted' if one else 'dropped'}" for distance, one in taken.items()),
        evidence=[measure.facts("window", {"accepted_by_distance": taken})],
        notes=["64 records are preferred"],
    )


@pytest.mark.requirement("REC-03")
def test_forged_record_does_not_move_the_window(probe: Prober, measure: Measure) -> None:
    _all_dropped(probe, measure, "REC-03", "a forged record far ahead has no effect", {"forged": _far_ahead})


@pytest.mark.requirement("REC-04", "REC-05")
def test_forged_records_are_dropped(probe: Prober, measure: Measure) -> None:
    outcomes: dict[str, Aftermath] = {}
    with probe.session() as session:
        for count in FORGERIES:
            session.run(_forge(session, _get(probe), count))
            outcomes[f"{count} forged"] = _after(probe, session)
            if not outcomes[f"{count} forged"].alive:
                break
    total = sum(FORGERIES[: len(outcomes)])
    closed = not all(one.alive for one in outcomes.values())
    evidence = [_facts(measure, outcomes)]
    measure.check(
        "REC-05",
        "the number of forgeries after which the session is given up is known",
        True,
        observed=f"given up after {total} forgeries or fewer" if closed else f"not given up after {total} forgeries",
        evidence=evidence,
    )
    measure.check(
        "REC-04",
        "records with a wrong tag are dropped without an answer, and the next request is answered",
        all(one.dropped for one in outcomes.values()),
        observed=_told(outcomes),
        evidence=evidence,
    )


@pytest.mark.requirement("REC-06")
def test_records_of_wrong_length_are_dropped(probe: Prober, measure: Measure) -> None:
    outcomes = _outcomes(probe, {"4 bytes cut off": _cut, "length one too high": _too_long, "junk behind": _with_junk})
    measure.check(
        "REC-06",
        "a record of wrong length is dropped, and the next request is answered",
        all(one.alive and not one.alerts for one in outcomes.values()),
        observed=_told(outcomes),
        evidence=[_facts(measure, outcomes)],
        notes=["the whole record before the junk may be answered"],
    )


@pytest.mark.requirement("REC-07")
def test_records_of_another_epoch_are_discarded(probe: Prober, measure: Measure) -> None:
    stimuli = {f"epoch {epoch}": _of_epoch(epoch) for epoch in (0, 2, 65535)}
    _all_dropped(probe, measure, "REC-07", "sealed application data of another epoch has no effect", stimuli)


@pytest.mark.requirement("REC-08")
def test_nothing_in_clear_is_taken_after_the_handshake(probe: Prober, measure: Measure) -> None:
    stimuli = {
        "application data": _in_clear(ContentType.APPLICATION_DATA),
        "fatal alert": _in_clear(ContentType.ALERT, Alert(FATAL, INTERNAL_ERROR).encode()),
        "close_notify": _in_clear(ContentType.ALERT, Alert(WARNING, CLOSE_NOTIFY).encode()),
    }
    _all_dropped(probe, measure, "REC-08", "what comes unprotected has no effect", stimuli)


@pytest.mark.requirement("REC-09")
def test_records_of_another_version_are_dropped(probe: Prober, measure: Measure) -> None:
    stimuli = {f"version {version:#06x}": _of_version(version) for version in (TLS_1_2, DTLS_1_0)}
    _all_dropped(probe, measure, "REC-09", "a protected record of another version has no effect", stimuli)


@pytest.mark.requirement("REC-10")
def test_unknown_content_types_are_dropped(probe: Prober, measure: Measure) -> None:
    stimuli = {f"type {number}": _of_type(number) for number in (24, 99)}
    _all_dropped(probe, measure, "REC-10", "a valid record of an unknown content type is dropped", stimuli)


@pytest.mark.requirement("REC-11")
def test_every_record_of_a_datagram_is_processed(probe: Prober, measure: Measure) -> None:
    requests = [request(GET, probe.life) for _ in range(2)]
    with probe.session() as session:
        client = session.client
        both = client.datagram(*(client.application_data(one.encode()) for one in requests))
        before = len(client.seen)
        session.run(_until_answered(session, both, {one.token for one in requests}))
        at_once = _tokens(client.seen[before:])
    answered = [one.token in at_once for one in requests]
    measure.check(
        "REC-11",
        f"two requests in one datagram are both answered within {AT_ONCE_S:g} s, with nothing further sent",
        all(answered),
        observed=f"first {'answered' if answered[0] else 'not answered'}, second "
        f"{'answered' if answered[1] else 'not answered'}",
        evidence=[measure.facts("one-datagram", {"answered_at_once": answered})],
    )


@pytest.mark.requirement("REC-12")
def test_empty_records_are_harmless(probe: Prober, measure: Measure) -> None:
    _all_dropped(probe, measure, "REC-12", "application data of length zero has no effect", {"empty": _empty})


@pytest.mark.requirement("REC-15")
def test_overhead_of_a_record(probe: Prober, dut: Declaration, measure: Measure) -> None:
    found = {name: _overheads(probe, SUITE_NUMBERS[name]) for name in dut.dtls.suites}
    expected = {name: _expected_overhead(SUITE_NUMBERS[name]) for name in found}
    for name, sizes in found.items():
        for size in sizes:
            measure.observe("record_overhead_bytes", size, "B", suite=name)
    fits = [set(one) <= set(expected[name]) for name, one in found.items() if one]
    measure.check(
        "REC-15",
        "a record is longer than its content by what the suite needs",
        bool(fits) and all(fits),
        observed="; ".join(f"{name} {_listed(one)} (expected {_range(expected[name])})" for name, one in found.items()),
        evidence=[measure.facts("overhead", {"bytes": found})],
    )


def _all_dropped(
    probe: Prober, measure: Measure, requirement: str, statement: str, stimuli: Mapping[str, Stimulus]
) -> None:
    outcomes = _outcomes(probe, stimuli)
    measure.check(
        requirement,
        f"{statement}, and the next request is answered",
        all(one.dropped for one in outcomes.values()),
        observed=_told(outcomes),
        evidence=[_facts(measure, outcomes)],
    )


def _outcomes(probe: Prober, stimuli: Mapping[str, Stimulus]) -> dict[str, Aftermath]:
    """Send each stimulus in a session of its own."""
    outcomes = {}
    for name, stimulus in stimuli.items():
        with probe.session() as session:
            outcomes[name] = _after(probe, session, stimulus(session, _get(probe)))
    return outcomes


def _after(probe: Prober, session: ProbeSession, *datagrams: bytes) -> Aftermath:
    """Send datagrams as they are, then an ordinary request, and tell what came."""
    before = len(session.client.seen)
    session.run(session.client.send_each(*datagrams))
    ordinary = request(GET, probe.life)
    try:
        session.ask(ordinary, within_s=WITHIN_S)
        alive = True
    except (Silence, Refused):
        alive = False
    came = session.client.seen[before:]
    answers = tuple(token for token in _tokens(came) if token != ordinary.token)
    return Aftermath(answers, tuple(one.name for one in came if isinstance(one.content, Alert)), alive)


def _tokens(came: Sequence[Received]) -> list[bytes]:
    """Return the tokens of the responses among what came."""
    found = []
    for one in came:
        if isinstance(one.content, ApplicationData):
            try:
                found.append(decode(one.content.data).token)
            except DecodeError:
                continue
    return [token for token in found if token]


def _until_answered(session: ProbeSession, datagram: bytes, tokens: set[bytes]) -> Script[None]:
    client, before = session.client, len(session.client.seen)
    yield from client.send(datagram)
    end_s = (yield Send()).t_s + AT_ONCE_S
    while (left_s := end_s - (yield Send()).t_s) > 0 and not tokens <= set(_tokens(client.seen[before:])):
        moment = yield Wait(left_s)
        if moment.datagram is not None:
            client.receive(moment.t_s, moment.datagram)


def _get(probe: Prober) -> bytes:
    return request(GET, probe.life).encode()


def _plain(session: ProbeSession, data: bytes) -> bytes:
    return session.client.datagram(session.client.application_data(data))


def _far_ahead(session: ProbeSession, data: bytes) -> bytes:
    client = session.client
    return spoiled(client.record(client.application_data(data), sequence=1_000_000).encode())


def _forge(session: ProbeSession, data: bytes, count: int) -> Script[None]:
    for number in range(count):
        yield from session.client.send(spoiled(_plain(session, data)))
        if number % BURST == BURST - 1:
            yield from session.client.listen(PAUSE_S)


def _cut(session: ProbeSession, data: bytes) -> bytes:
    return _plain(session, data)[:-4]


def _too_long(session: ProbeSession, data: bytes) -> bytes:
    record = session.client.record(session.client.application_data(data))
    return replace(record, length=len(record.encode()) - HEADER_BYTES + 1).encode()


def _with_junk(session: ProbeSession, data: bytes) -> bytes:
    return _plain(session, data) + b"junk"


def _empty(session: ProbeSession, data: bytes) -> bytes:
    del data
    return _plain(session, b"")


def _of_epoch(epoch: int) -> Stimulus:
    def stimulus(session: ProbeSession, data: bytes) -> bytes:
        client = session.client
        record = client.record(client.application_data(data))
        return replace(record, epoch=epoch).encode()

    return stimulus


def _of_version(version: int) -> Stimulus:
    def stimulus(session: ProbeSession, data: bytes) -> bytes:
        return session.client.record(session.client.application_data(data), version=version).encode()

    return stimulus


def _of_type(content_type: int) -> Stimulus:
    def stimulus(session: ProbeSession, data: bytes) -> bytes:
        return session.client.datagram(Content(content_type, session.client.epoch, data))

    return stimulus


def _in_clear(content_type: ContentType, content: bytes = b"") -> Stimulus:
    def stimulus(session: ProbeSession, data: bytes) -> bytes:
        return session.client.datagram(Content(content_type, 0, content or data))

    return stimulus


def _overheads(probe: Prober, suite: int) -> list[int]:
    """Return by how many bytes the device's records exceed their content under this suite; none where it refuses it."""
    client = probe.client(offered_suites=(suite, RENEGOTIATION_SCSV))
    try:
        with probe.session(client) as session:
            session.get(probe.life)
    except (Refused, Silence):
        return []
    return sorted(set(_excess(session.wire.transcript, client.seen)))


def _excess(transcript: Transcript, seen: Sequence[Received]) -> list[int]:
    contents = {one.sequence: one.content.data for one in seen if isinstance(one.content, ApplicationData)}
    records = [one for each in transcript.passed if not each.from_client for one in parse_datagram(each.datagram)]
    data = (one for one in records if one.content_type == ContentType.APPLICATION_DATA and one.sequence in contents)
    return [HEADER_BYTES + len(one.fragment) - len(contents[one.sequence]) for one in data]


def _expected_overhead(number: int) -> range:
    """Return the sizes that fit: CBC pads to a whole block with at least one byte."""
    suite = SUITES[number]
    least = HEADER_BYTES + suite.explicit_nonce_bytes + suite.tag_bytes
    return range(least + 1, least + 1 + CBC_BLOCK_BYTES) if suite.mode == "cbc" else range(least, least + 1)


def _range(sizes: range) -> str:
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values)) + " bytes" if values else "not negotiated"


def _told(outcomes: Mapping[str, Aftermath]) -> str:
    return "; ".join(f"{name}: {one}" for name, one in outcomes.items())


def _facts(measure: Measure, outcomes: Mapping[str, Aftermath]) -> Path:
    return measure.facts(
        "records",
        {
            name: {"answers": len(one.answers), "alerts": one.alerts, "alive": one.alive}
            for name, one in outcomes.items()
        },
    )
