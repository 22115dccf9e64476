"""The device's own confirmable messages, to observers who keep silent: COAP-11, COAP-12, OBS-03."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import comb

import pytest

from rig.bench.bench import Bench
from rig.coap.probe import Prober, ProbeSession, request
from rig.dtls.client import Client
from rig.dtls.coap import EMPTY, GET, PUT, Message, OptionNumber, Type, decode
from rig.dtls.contents import ApplicationData
from rig.dtls.conversation import Script, Send, Wait
from rig.dtls.wire import DecodeError
from rig.errors import DeviceError
from rig.evidence.declaration import Declaration, Resource
from rig.evidence.verdicts import State
from rig.fixtures.measure import Measure
from rig.fixtures.overlap import Overlapped, Part
from rig.lag import TOLERANCE_SHARE, LagMonitor

ACK_TIMEOUT_S, ACK_RANDOM_FACTOR, MAX_RETRANSMIT = 2.0, 1.5, 4  # RFC 7252 4.8
MAX_TRANSMIT_WAIT_S = 93.0  # RFC 7252 4.8.2
TOLERANCE_S = 0.1
LAG_LIMIT_S = TOLERANCE_SHARE * TOLERANCE_S
DOUBLING_TOLERANCE = 0.1
SAMPLES_NEEDED = 5
ALIKE_S, FALSE_ALARM = 0.03, 5e-5
OBSERVERS = 2
ROUNDS = 3
"""So often each observer acknowledges the second copy: one sample of the first interval each time."""
ROUND_S = 5.0
SETTLE_S = 2.0
AFTER_S = 3.0
TOLD = 8
RESTARTS = 2
MESSAGE_IDS = 0x10000


@dataclass
class Rounds:
    """How far the observers are, for the client that makes the changes, and whether it has made the last one."""

    done: list[int]
    over: bool = False


@dataclass(frozen=True)
class Sent:
    """One message of the device that nobody had asked for, and when each copy came."""

    message: Message
    copies_s: tuple[float, ...]

    @property
    def intervals_s(self) -> list[float]:
        """Return the times between copies."""
        return [later - earlier for earlier, later in pairwise(self.copies_s)]


@dataclass(frozen=True)
class Heard:
    """What one observer was told, in order, and when its acknowledgements or its Reset left, by Message ID."""

    sent: tuple[Sent, ...]
    answered_s: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Heardings:
    """All that the observers heard. ``last_change_s``: when the resource changed after the observers' time was over."""

    resource: Resource
    rejecting: Heard
    silent: tuple[Heard, ...]
    last_change_s: float


def silent_observers(probe: Prober, dut: Declaration) -> Sequence[Part]:
    """Observers who acknowledge the second copy some times and then nothing; who makes the changes resets the first."""
    resource = confirmable(dut)
    if resource is None:
        return []
    changer = probe.connect()
    changer.put(resource.path, resource.values[0].encode())
    observers = [probe.connect() for _ in range(max(1, min(OBSERVERS, dut.dtls.sessions - 2)))]
    for each in (changer, *observers):
        _register(each, resource.path)
    rounds = Rounds([0] * len(observers))
    parts = [Part(one.client, one.wire, _observe(one.client, rounds, at)) for at, one in enumerate(observers)]
    return [Part(changer.client, changer.wire, _change(changer.client, resource, rounds)), *parts]


def confirmable(dut: Declaration) -> Resource | None:
    """Return a resource that a PUT changes and whose notifications are confirmable."""
    fitting = (one for one in dut.resources if one.notifications == "CON" and "GET" in one.methods)
    return next((one for one in fitting if len(one.values) >= 2), None)


@pytest.mark.requirement("COAP-11")
@pytest.mark.rig_overlapped(scripts=silent_observers)
def test_device_retransmits_with_doubled_intervals(overlapped: Overlapped, measure: Measure) -> None:
    statement = "first interval 2 to 3 s and not always the same, each next one doubled, 4 retransmissions and no more"
    heard = _heard(overlapped)
    if heard is None:
        _no_confirmable(measure, "COAP-11", statement)
        return
    notifications = [one for each in heard.silent for one in each.sent if one.copies_s[0] < heard.last_change_s]
    if not notifications:
        raise DeviceError("the device sent no confirmable notification after a change")
    left_alone = [one for each in heard.silent for one in _left_alone(each, heard.last_change_s)]
    firsts = [one for each in notifications for one in _timed(each, overlapped.lag)[:1] if one is not None]
    ratios = [ratio for each in left_alone for ratio in _ratios(_timed(each, overlapped.lag))]
    begun = any(each.intervals_s for each in notifications)
    gone_on = any(len(each.intervals_s) > 1 for each in left_alone)
    facts = measure.facts(
        "notifications",
        {"intervals_s": [each.intervals_s for each in notifications], "worst_lag_s": overlapped.lag.worst_s},
    )
    if (begun and len(firsts) < SAMPLES_NEEDED) or (gone_on and not ratios):
        measure.inconclusive(
            "COAP-11",
            statement,
            observed=f"{len(firsts)} first intervals and {len(ratios)} ratios timed with a lag below "
            f"{LAG_LIMIT_S * 1000:g} ms, {SAMPLES_NEEDED} and 1 are needed; the rig's worst lag was "
            f"{overlapped.lag.worst_s * 1000:.0f} ms",
            evidence=[facts],
        )
    retransmissions = [len(each.copies_s) - 1 for each in left_alone]
    for each in left_alone:
        measure.observe("retransmission_interval_s", each.intervals_s, "s")
    measure.check(
        "COAP-11",
        statement,
        _as_specified(firsts, ratios, retransmissions),
        observed=f"first intervals {_listed(firsts)} s; ratios {_listed(ratios)}; "
        f"{', '.join(map(str, retransmissions)) or 'no'} retransmissions until {MAX_TRANSMIT_WAIT_S:g} s",
        evidence=[facts],
        notes=[
            f"one value in six may lie outside; {most_alike(firsts)} of {len(firsts)} first intervals lie within "
            f"{ALIKE_S:g} s, {too_many_alike(len(firsts))} would be too many"
        ],
        false_alarm=false_alarm(len(firsts), too_many_alike(len(firsts))),
    )


@pytest.mark.requirement("COAP-12")
@pytest.mark.rig_overlapped(scripts=silent_observers)
def test_answer_ends_retransmission_and_ids_are_not_reused(
    overlapped: Overlapped, probe: Prober, bench: Bench, measure: Measure
) -> None:
    statement = (
        "no copy after a Reset or an acknowledgement, no Message ID for two messages, another first one each boot"
    )
    heard = _heard(overlapped)
    if heard is None:
        _no_confirmable(measure, "COAP-12", statement)
        return
    everyone = (heard.rejecting, *heard.silent)
    late = [one for each in everyone for one in each.sent if _copied_after(one, each.answered_s)]
    reused = sum(len({one.message.message_id for one in each.sent}) < len(each.sent) for each in everyone)
    answered = sum(len(each.answered_s) for each in everyone)
    if not heard.rejecting.answered_s:
        raise DeviceError("the device sent no confirmable notification after a change")
    first_ids = _first_ids(probe, heard.resource, bench)
    facts = {"sessions": [[one.message.message_id for one in each.sent] for each in everyone], "first_ids": first_ids}
    measure.check(
        "COAP-12",
        statement,
        not late and not reused and len(set(first_ids)) == len(first_ids),
        observed=f"{answered} notifications answered, {len(late)} of them sent again; Message IDs reused in {reused} "
        f"sessions; first ones after a restart {', '.join(map(str, first_ids)) or 'not looked at'}",
        evidence=[measure.facts("message-ids", facts)],
        notes=[] if first_ids else ["the device cannot be restarted from here"],
        false_alarm=1 / MESSAGE_IDS if first_ids else None,
    )


@pytest.mark.requirement("OBS-03")
@pytest.mark.rig_overlapped(scripts=silent_observers)
def test_silent_observer_is_forgotten(overlapped: Overlapped, measure: Measure) -> None:
    statement = f"an observer that acknowledges nothing is told nothing new after {MAX_TRANSMIT_WAIT_S:g} s"
    heard = _heard(overlapped)
    if heard is None:
        _no_confirmable(measure, "OBS-03", statement)
        return
    told = [one for each in heard.silent for one in each.sent]
    if not told:
        raise DeviceError("the device sent no confirmable notification after a change")
    late = [one for one in told if one.copies_s[0] >= heard.last_change_s]
    facts = {"copies_s": [one.copies_s for one in told], "changed_s": heard.last_change_s}
    measure.check(
        "OBS-03",
        statement,
        not late,
        observed=f"{len(told) - len(late)} notifications to {len(heard.silent)} observers before, "
        f"{len(late)} after they had been silent for {MAX_TRANSMIT_WAIT_S:g} s and the resource changed",
        evidence=[measure.facts("observers", facts)],
    )


def _register(session: ProbeSession, path: str) -> None:
    answer = session.ask(request(GET, path, options=((OptionNumber.OBSERVE, b""),)))
    if answer.observe is None:
        raise DeviceError(
            f"GET {path} with Observe was answered {answer.code_text} without Observe: nothing to wait for"
        )


def _change(client: Client, resource: Resource, rounds: Rounds) -> Script[tuple[Resource, Heard, float]]:
    """Change the resource once for each round and once for good, and once more when the observers' time is over.

    This client observes too, and answers its first notification with a Reset.
    """
    answered_s: dict[int, float] = {}
    for number in range(ROUNDS):
        yield from _put(client, resource, number + 1)
        if not answered_s:
            yield from _reset_first(client, answered_s)
        end_s = (yield Send()).t_s + ROUND_S
        while min(rounds.done) <= number and (yield Send()).t_s < end_s:
            yield from _take(client, 0.05)
    yield from _put(client, resource, ROUNDS + 1)
    yield from client.listen(MAX_TRANSMIT_WAIT_S + SETTLE_S)
    last_change_s = (yield Send()).t_s
    yield from _put(client, resource, ROUNDS + 2)
    yield from client.listen(AFTER_S)
    rounds.over = True
    return resource, Heard(_notifications(client), answered_s), last_change_s


def _put(client: Client, resource: Resource, number: int) -> Script[None]:
    """Change the resource; the answer is not waited for, so that a notification before it is not missed."""
    value = resource.values[number % len(resource.values)].encode()
    yield from client.send(client.application_data(request(PUT, resource.path, payload=value).encode()))


def _reset_first(client: Client, answered_s: dict[int, float]) -> Script[None]:
    end_s = (yield Send()).t_s + AFTER_S
    while not (told := _notifications(client)) and (yield Send()).t_s < end_s:
        yield from _take(client, 0.05)
    for one in told:
        yield from _answer(client, Type.RST, one.message.message_id, answered_s)


def _observe(client: Client, rounds: Rounds, at: int) -> Script[Heard]:
    answered_s: dict[int, float] = {}
    while not rounds.over:
        yield from _take(client, AFTER_S / 2)
        for one in _notifications(client):
            repeated = len(one.copies_s) > 1 and one.message.message_id not in answered_s
            if repeated and rounds.done[at] < ROUNDS:
                yield from _answer(client, Type.ACK, one.message.message_id, answered_s)
                rounds.done[at] += 1
    return Heard(_notifications(client), answered_s)


def _answer(client: Client, kind: Type, message_id: int, answered_s: dict[int, float]) -> Script[None]:
    yield from client.send(client.application_data(Message(kind, EMPTY, message_id).encode()))
    answered_s[message_id] = client.sent[-1].t_s


def _take(client: Client, within_s: float) -> Script[None]:
    """Take in what comes first, if anything does in time."""
    moment = yield Wait(within_s)
    if moment.datagram is not None:
        client.receive(moment.t_s, moment.datagram)


def _notifications(client: Client) -> tuple[Sent, ...]:
    """Return the notifications that came, each with the times of its copies, which are the same byte for byte."""
    times: dict[bytes, list[float]] = {}
    for one in client.seen:
        if isinstance(one.content, ApplicationData):
            times.setdefault(one.content.data, []).append(one.t_s)
    found = (Sent(message, tuple(copies_s)) for data, copies_s in times.items() if (message := _decoded(data)))
    return tuple(one for one in found if one.message.observe is not None and one.message.type != Type.ACK)


def _decoded(data: bytes) -> Message | None:
    try:
        return decode(data)
    except DecodeError:
        return None


def _heard(overlapped: Overlapped) -> Heardings | None:
    """Return what all heard; None where the device has nothing that it notifies confirmably."""
    if not overlapped.results:
        return None
    (resource, rejecting, last_change_s), *silent = overlapped.results
    return Heardings(resource, rejecting, tuple(silent), last_change_s)


def _left_alone(heard: Heard, until_s: float) -> list[Sent]:
    """Return the notifications before *until_s* that were neither acknowledged nor rejected."""
    return [one for one in heard.sent if one.copies_s[0] < until_s and one.message.message_id not in heard.answered_s]


def _no_confirmable(measure: Measure, requirement: str, statement: str) -> None:
    observed = "no resource is declared that a PUT changes and that is notified confirmably"
    measure.state(requirement, State.NOT_SUPPORTED, statement, observed=observed)


def _timed(sent: Sent, lag: LagMonitor) -> list[float | None]:
    """Return the intervals; None for one that begins or ends where the rig ran late."""
    late = [lag.around_s(t_s) > LAG_LIMIT_S for t_s in sent.copies_s]
    return [None if any(late[at : at + 2]) else one for at, one in enumerate(sent.intervals_s)]


def _ratios(intervals: Sequence[float | None]) -> list[float]:
    return [later / earlier for earlier, later in pairwise(intervals) if earlier is not None and later is not None]


def _as_specified(firsts: Sequence[float], ratios: Sequence[float], retransmissions: Sequence[int]) -> bool:
    """RFC 7252 4.8: ACK_TIMEOUT 2 s, ACK_RANDOM_FACTOR 1.5, MAX_RETRANSMIT 4; 4.2: a random start, then doubled."""
    longest_s = ACK_TIMEOUT_S * ACK_RANDOM_FACTOR
    begins = _nearly_all(firsts, lambda one: ACK_TIMEOUT_S - TOLERANCE_S <= one <= longest_s + TOLERANCE_S)
    doubles = _nearly_all(ratios, lambda one: abs(one / 2 - 1) <= DOUBLING_TOLERANCE)
    ends = bool(retransmissions) and all(one == MAX_RETRANSMIT for one in retransmissions)
    return begins and doubles and ends and most_alike(firsts) < too_many_alike(len(firsts))


def _nearly_all(values: Sequence[float], inside: Callable[[float], bool]) -> bool:
    """Whether there are values and at most one in six is not *inside*: the device's host may have been late too."""
    return bool(values) and 6 * sum(not inside(one) for one in values) <= len(values)


def most_alike(firsts: Sequence[float]) -> int:
    """Return how many of the first intervals lie within `ALIKE_S` of each other."""
    return max((sum(0 <= other - one <= ALIKE_S for other in firsts) for one in firsts), default=0)


def too_many_alike(samples: int) -> int:
    """Return how many first intervals may not be alike: few enough for devices that were late now and then.

    So many of a right device's are alike with a probability of no more than `FALSE_ALARM`.
    """
    return next(alike for alike in range(1, samples + 2) if false_alarm(samples, alike) <= FALSE_ALARM)


def false_alarm(samples: int, alike: int) -> float:
    """Return a bound on the probability that so many of *samples* evenly spread first intervals are alike."""
    width = ALIKE_S / (ACK_TIMEOUT_S * (ACK_RANDOM_FACTOR - 1))
    return float(comb(samples, alike) * alike * width ** (alike - 1))


def _copied_after(sent: Sent, answered_s: dict[int, float]) -> bool:
    answer_s = answered_s.get(sent.message.message_id)
    return answer_s is not None and sent.copies_s[-1] > answer_s


def _first_ids(probe: Prober, resource: Resource, bench: Bench) -> list[int]:
    """Return the Message ID of the first notification after each of some restarts; none where there is no restart."""
    found: list[int] = []
    for _ in range(RESTARTS if bench.board is not None else 0):
        bench.reset()
        answered_s: dict[int, float] = {}
        with probe.session() as session:
            session.put(resource.path, resource.values[0].encode())
            _register(session, resource.path)
            session.run(_put(session.client, resource, 1))
            session.run(_reset_first(session.client, answered_s))
        found += answered_s
    return found


def _listed(values: Sequence[float]) -> str:
    more = f" and {len(values) - TOLD} more" if len(values) > TOLD else ""
    return (", ".join(f"{one:.2f}" for one in values[:TOLD]) or "none") + more
