"""Observation: OBS-01, OBS-02, OBS-04, OBS-05; message types by purpose: COAP-25."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import pytest

from rig.bench.bench import Bench
from rig.coap.probe import Observation, Prober, ProbeSession, Said
from rig.dtls import coap
from rig.dtls.client import Silence
from rig.dtls.coap import Message, Type
from rig.dtls.records import ContentType, parse_datagram
from rig.dtls.wire import DecodeError
from rig.evidence.declaration import Declaration, Resource
from rig.fixtures.measure import Measure

QUIET_S = 0.5
"""How long is listened for a notification that must not come, after another one has come for the same change."""
AFTER_CLOSE_S = 1.0
UNACKNOWLEDGED_S = 1.0
"""Shorter than ACK_TIMEOUT: no copy falls into it."""
SETTLE_S = 3.0
OWN_PACE_S = 12.0
READINGS = 3
VALUES = 1 << 24
MOSTLY = 0.5
WITHOUT_DATA = (ContentType.ALERT, ContentType.HANDSHAKE, ContentType.CHANGE_CIPHER_SPEC)
WANTED = {"command": "CON", "alarm": "CON", "configuration": "CON", "telemetry": "NON"}


@pytest.mark.requirement("OBS-01")
def test_tokens_of_observations_are_never_mixed(probe: Prober, dut: Declaration, measure: Measure) -> None:
    resource = _changeable(dut)
    other = next((one for one in dut.resources if one.period), None)
    with probe.session() as session, _hastened(session, other):
        _put(session, resource, resource.values[0])
        # Queries that the resource does not know make two observations of it in one session.
        observed = [Observation(session, _with_query(resource.path, name)) for name in ("first", "second")]
        beside = Observation(session, other.path) if other else None
        changes = (*resource.values[1::-1], resource.values[1])
        told = [_follow(session, resource, observed, value) for value in changes]
        readings = [beside.next() for _ in range(2)] if beside else []
        strays = _strays(session, [*observed, *([beside] if beside else [])])
    seen = [[one for change in told for one in change[index]] for index in range(len(observed))]
    rising = all(_rises([watch.first, *came]) for watch, came in zip(observed, seen, strict=True))
    rising = rising and (beside is None or _rises([beside.first, *readings]))
    missing = sum(not came for change in told for came in change)
    measure.check(
        "OBS-01",
        "each observation is told every change under its own token, with rising Observe values",
        not missing and not strays and rising,
        observed=f"{resource.path} set to {', '.join(changes)}: under token {observed[0].token.hex()} came "
        f"{_told(seen[0])}, under {observed[1].token.hex()} {_told(seen[1])}; of the other resource "
        f"{other.path if other else '(none declared)'}: {_told(readings)}; changes not told: {missing}; "
        f"under no observation's token: {_told(strays)}",
    )


@pytest.mark.requirement("OBS-02")
def test_an_observation_ends_by_deregistration_and_by_reset(probe: Prober, dut: Declaration, measure: Measure) -> None:
    resource = _changeable(dut)
    with probe.session() as session:
        _put(session, resource, resource.values[0])
        cancelled, rejected, kept = (
            Observation(session, _with_query(resource.path, name)) for name in ("cancelled", "rejected", "kept")
        )
        answer = cancelled.cancel()
        ended = {cancelled: len(session.said)}
        try:
            _put(session, resource, resource.values[1])
            rejected.reject(rejected.next(acknowledge=False))
            kept.next()
            session.hear(QUIET_S)  # a copy that was on its way
            ended[rejected] = len(session.said)
            _put(session, resource, resource.values[0])
            told = kept.next()
        except Silence as silence:
            measure.inconclusive("OBS-02", "those who go on observing are told of a change", observed=str(silence))
        session.hear(QUIET_S)
    late = [_own(one, session.said[since:]) for one, since in ended.items()]
    deregistered = answer.code_text == "2.05" and answer.observe is None
    measure.check(
        "OBS-02",
        "after a deregistration, and after a Reset, no notification follows, while another observer is told",
        deregistered and not any(late),
        observed=f"Observe 1 is answered {answer.code_text} {'with' if answer.observe is not None else 'without'} "
        f"Observe; then came {_told(late[0])}; after a Reset {_told(late[1])}; the third observer was told "
        f"{_told([told])}",
    )


@pytest.mark.requirement("OBS-04")
def test_one_unacknowledged_notification_at_a_time(probe: Prober, dut: Declaration, measure: Measure) -> None:
    resource = next((one for one in dut.resources if one.values and one.notifications == "CON"), None)
    if resource is None:
        pytest.skip("no resource is declared that notifies confirmably and that a PUT changes")
    with probe.session() as observer, probe.session() as changer:
        _put(changer, resource, resource.values[0])
        observation = Observation(observer, resource.path)
        for value in (*resource.values[1::-1], *resource.values[1::-1]):
            _put(changer, resource, value)
        came = [one for one in observer.hear(UNACKNOWLEDGED_S) if isinstance(one, Message) and observation.is_own(one)]
        for one in came:
            observation.acknowledge(one)
        newest = resource.values[0].encode()
        final = came if came and came[-1].payload == newest else observation.until(newest, SETTLE_S)
    outstanding = {one.message_id for one in came if one.type == Type.CON}
    measure.check(
        "OBS-04",
        "no more than one confirmable notification is unacknowledged at a time, and the newest state is told after it",
        len(outstanding) <= 1,
        observed=f"{resource.path} changed 4 times without an acknowledgement: {len(outstanding)} confirmable "
        f"notifications within {UNACKNOWLEDGED_S:g} s; after the acknowledgement {_told(final)}",
        notes=["that one notification in 24 hours is confirmable was not judged: a run is too short for it"],
    )


@pytest.mark.requirement("OBS-05")
def test_an_observation_ends_with_its_session(probe: Prober, dut: Declaration, bench: Bench, measure: Measure) -> None:
    resource = _changeable(dut)
    closed = _after_end(probe, resource, lambda session: session.close())
    told = f"after close_notify: {', '.join(closed) or 'nothing'}"
    restarted: list[str] = []
    if bench.board is not None:
        restarted = _after_end(probe, resource, lambda _: bench.reset())
        told += f"; after a reset: {', '.join(restarted) or 'nothing'}"
    measure.check(
        "OBS-05",
        "after the end of its session, and after a restart, an observer is sent no notification, least of all in clear",
        not closed and not restarted,
        observed=f"{resource.path} changed, {AFTER_CLOSE_S:g} s at the observer's port: {told}",
    )


@pytest.mark.requirement("COAP-25")
def test_message_types_fit_the_purpose(probe: Prober, dut: Declaration, measure: Measure) -> None:
    told: dict[str, list[str]] = {}
    wrong: list[str] = []
    with probe.session() as session:
        for resource in (one for one in dut.resources if one.observable):
            kinds = [one.type.name for one in _notifications(session, resource)]
            wanted = WANTED.get(resource.purpose, resource.notifications)
            told[f"{resource.path} ({resource.purpose})"] = kinds
            # RFC 7641 4.5: among non-confirmable notifications one is confirmable from time to time.
            share = kinds.count("NON") / max(1, len(kinds))
            usual = "NON" if share > MOSTLY else "CON" if not share else "both"
            if not usual == wanted == resource.notifications:
                wrong.append(resource.path)
    if not all(told.values()):
        silent = ", ".join(what for what, kinds in told.items() if not kinds)
        measure.inconclusive("COAP-25", "every observable resource notifies", observed=f"no notification of {silent}")
    measure.check(
        "COAP-25",
        "commands, alarms and configuration are notified confirmably, telemetry non-confirmably",
        not wrong,
        observed=f"{'; '.join(f'{what}: {chr(44).join(kinds)}' for what, kinds in told.items())}; "
        f"wrong for their purpose: {', '.join(wrong) or 'none'}",
    )


def _changeable(dut: Declaration) -> Resource:
    found = dut.switchable(observable=True)
    if found is None:
        pytest.skip("no observable resource is declared that takes two values by PUT")
    return found


def _put(session: ProbeSession, resource: Resource, value: str) -> None:
    session.put(resource.path, value.encode())


def _with_query(path: str, name: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{name}"


@contextmanager
def _hastened(session: ProbeSession, resource: Resource | None) -> Iterator[None]:
    """Let a resource that changes by itself do so at its fastest."""
    period = resource.period if resource else None
    if period is None:
        yield
        return
    session.put(period.path, period.body.replace("{ms}", str(period.shortest_ms)).encode())
    try:
        yield
    finally:
        session.put(period.path, period.body.replace("{ms}", str(period.ms)).encode())


def _follow(
    session: ProbeSession, resource: Resource, observed: Sequence[Observation], value: str
) -> list[tuple[Message, ...]]:
    """Change the resource; return, for each observation, what it was told until it knew."""
    _put(session, resource, value)
    told: list[tuple[Message, ...]] = []
    for one in observed:
        try:
            told.append(one.until(value.encode(), SETTLE_S))
        except Silence:
            told.append(())
    return told


def _own(observation: Observation, said: Sequence[Said]) -> list[Message]:
    """Return what the device said under the observation's token."""
    came = [one.message for one in said if not one.from_client and isinstance(one.message, Message)]
    return [one for one in came if observation.is_own(one)]


def _strays(session: ProbeSession, observed: Sequence[Observation]) -> list[Message]:
    """Return what came with a token of no observation."""
    came = [one for one in session.hear(0) if isinstance(one, Message) and one.code != coap.EMPTY]
    return [one for one in came if not any(watch.is_own(one) for watch in observed)]


def _notifications(session: ProbeSession, resource: Resource) -> list[Message]:
    """Observe a resource for some changes; return its notifications."""
    found: list[Message] = []
    with _hastened(session, resource):
        if resource.values:
            _put(session, resource, resource.values[0])
        observation = Observation(session, resource.path)
        for number in range(READINGS):
            if resource.values:
                _put(session, resource, resource.values[(number + 1) % 2])
            try:
                found.append(observation.next(SETTLE_S if resource.values or resource.period else OWN_PACE_S))
            except Silence:
                break
        observation.cancel()
    return found


def _after_end(probe: Prober, resource: Resource, end: Callable[[ProbeSession], object]) -> list[str]:
    """Observe, end the session, change the resource in another; return what reached the observer's port."""
    session = probe.connect()
    session.put(resource.path, resource.values[0].encode())
    Observation(session, resource.path)
    end(session)
    with probe.session() as changer:
        for value in resource.values[1::-1]:
            _put(changer, resource, value)
    came = session.wire.listen(AFTER_CLOSE_S)
    return [kind for one in came for kind in _data_in(one)]


def _data_in(datagram: bytes) -> list[str]:
    """Return what of a datagram may be a notification: application data, protected or not, and bytes in clear."""
    try:
        records = parse_datagram(datagram)
    except DecodeError:
        return [f"{len(datagram)} bytes that are no DTLS record"]
    carrying = [one for one in records if one.content_type not in WITHOUT_DATA]
    return [f"application data, {'protected' if one.epoch else 'in clear'}" for one in carrying]


def _rises(messages: Sequence[Message]) -> bool:
    """RFC 7641 4.4: each value is larger than the one before, modulo 2^24."""
    values = [one.observe for one in messages]
    return None not in values and all(0 < (b or 0) - (a or 0) & VALUES - 1 < VALUES >> 1 for a, b in pairwise(values))


def _told(messages: Sequence[Message]) -> str:
    return ", ".join(f"{one.payload.decode(errors='replace')} ({one.observe})" for one in messages) or "nothing"
