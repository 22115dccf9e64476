"""What takes its time: HS-01, HS-02, HS-17, CK-03. The scripts run at once; see :mod:`rig.fixtures.overlap`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from statistics import median

import pytest

from rig.coap.probe import Prober, request
from rig.dtls.alerts import FATAL, Alert
from rig.dtls.client import Client, Refused, Silence
from rig.dtls.coap import GET, decode
from rig.dtls.contents import Received
from rig.dtls.conversation import Script
from rig.dtls.handshake import HelloVerifyRequest, ServerHello
from rig.errors import DeviceError
from rig.evidence.declaration import Declaration, Figures
from rig.evidence.verdicts import State
from rig.fixtures.measure import Measure
from rig.fixtures.overlap import Overlapped, Part
from rig.lag import TOLERANCE_SHARE, LagMonitor

HANDSHAKES = 3
"""Handshakes that stop half way; one of the device's is left for who else asks it meanwhile."""
HALF_OPEN_S = 60.0
"""A timer may grow to 60 s (RFC 6347 4.2.4.1), and so long a half-open handshake may occupy the device (HS-17)."""
FIRST_TIMER_S, PROFILE_TIMER_S = 1.0, 9.0  # RFC 6347 4.2.4.1, RFC 7925 11
FIRST_TOLERANCE = 0.2
DOUBLING_TOLERANCE = 0.1
LAG_LIMIT_S = TOLERANCE_SHARE * FIRST_TOLERANCE * FIRST_TIMER_S
"""The second interval, 2 s within 10 %, has the same tolerance in seconds."""
COPIES_NEEDED = 2
STAGGER_S = 0.7
SILENCE_S = 10.0
TOLD = 6
INTERNAL_ERROR = 80


@dataclass(frozen=True)
class Counts:
    """What the device tells of itself, where it does."""

    half_open: int | None
    free_heap_bytes: int | None


@dataclass(frozen=True)
class Stopped:
    """A handshake that stopped half way: all that came, and how the device ended it, if it did."""

    seen: tuple[Received, ...]
    ended: str

    @property
    def copies_s(self) -> list[float]:
        """When each copy of the server's flight came."""
        return [one.t_s for one in self.seen if isinstance(one.content, ServerHello)]


def half_open(probe: Prober, dut: Declaration) -> Sequence[Part]:
    """Handshakes that stop at ServerHelloDone, and a client that asks for the device's counts before and after."""
    before = None
    if dut.figures is not None:
        with probe.session() as session:
            before = _counts(session.get(dut.figures.path).payload, dut.figures)
    clients = [probe.client() for _ in range(max(1, min(HANDSHAKES, dut.dtls.handshakes - 1)))]
    witness = probe.client()
    watch = Part(witness, probe.wire(), _ask_counts(witness, dut.figures, before))
    # One after the other, so that the rig is not late for all of them at once.
    parts = [Part(each, probe.wire(), _stop_half_way(each, STAGGER_S * at)) for at, each in enumerate(clients)]
    return [watch, *parts]


def silent_after_hello(probe: Prober, dut: Declaration) -> Sequence[Part]:
    """One ClientHello without a cookie."""
    del dut
    client = probe.client()
    return [Part(client, probe.wire(), _say_hello_once(client))]


@pytest.mark.requirement("HS-01")
@pytest.mark.rig_overlapped(scripts=half_open)
def test_flight_is_retransmitted_with_doubled_timers(overlapped: Overlapped, measure: Measure) -> None:
    stopped: Sequence[Stopped] = overlapped.results[1:]
    statement = "the flight comes again after 1 s (9 s by the IoT profile), then at doubled intervals"
    intervals = [_intervals(one.copies_s) for one in stopped]
    typical = _typical([_timed(one.copies_s, overlapped.lag) for one in stopped])
    notes = [f"medians of {len(stopped)} handshakes; an end of an interval where the rig ran late does not count"]
    facts = measure.facts(
        "retransmissions",
        {"intervals_s": intervals, "ended": [one.ended for one in stopped], "worst_lag_s": overlapped.lag.worst_s},
    )
    medians = _leading(typical)
    if len(medians) < min(COPIES_NEEDED, len(typical)):
        measure.inconclusive(
            "HS-01",
            statement,
            observed=f"{len(medians)} intervals could be timed with a lag below {LAG_LIMIT_S * 1000:g} ms; "
            f"the rig's worst lag was {overlapped.lag.worst_s * 1000:.0f} ms",
            evidence=[facts],
        )
    measure.check(
        "HS-01",
        statement,
        _doubles(medians),
        observed=f"intervals of {_listed(medians)} s{_profile(medians)}; {_ends(stopped)}",
        evidence=[facts],
        notes=notes,
    )


@pytest.mark.requirement("HS-02")
@pytest.mark.rig_overlapped(scripts=half_open)
def test_copies_keep_message_numbers_and_get_new_record_numbers(overlapped: Overlapped, measure: Measure) -> None:
    flights = [_flight(one) for one in overlapped.results[1:]]
    numbers, records = [_numbers(one) for one in flights], [_records(one) for one in flights]
    facts = measure.facts("copies", {"message_numbers": numbers, "record_numbers": records})
    if not any(len(copies) > 1 for one in numbers for copies in one.values()):
        measure.inconclusive("HS-02", "copies can be compared", observed="no message came twice", evidence=[facts])
    kept = all(len(set(copies)) == 1 for one in numbers for copies in one.values())
    renewed = all(len(set(one)) == len(one) for one in records)
    measure.check(
        "HS-02",
        "every copy of a message has its message number, in a record with a number of its own",
        kept and renewed,
        observed=f"message numbers {'kept' if kept else 'changed'}; record numbers of the flights "
        f"{'; '.join(dict.fromkeys(', '.join(map(str, one)) for one in records))}",
        evidence=[facts],
    )


@pytest.mark.requirement("HS-17")
@pytest.mark.rig_overlapped(scripts=half_open)
def test_half_open_handshakes_are_let_go(
    overlapped: Overlapped, probe: Prober, dut: Declaration, measure: Measure
) -> None:
    before, after = overlapped.results[0]
    stopped = len(overlapped.results) - 1
    if after is not None and after.half_open is not None:
        met = after.half_open <= before.half_open
        observed = f"half-open before {before.half_open}, after {HALF_OPEN_S:g} s {after.half_open}; "
        observed += f"free heap before {before.free_heap_bytes}, after {after.free_heap_bytes} bytes"
    else:
        clients = [probe.client() for _ in range(dut.dtls.handshakes)]
        granted = sum(probe.together([(client, _is_served(client)) for client in clients]))
        met = granted == len(clients)
        observed = f"{granted} of {len(clients)} handshakes are served at once after {HALF_OPEN_S:g} s"
    measure.check(
        "HS-17",
        f"what {stopped} handshakes that stopped at ServerHelloDone occupied is free after {HALF_OPEN_S:g} s",
        met,
        observed=observed,
        evidence=[measure.facts("half-open", {"handshakes": stopped, "observed": observed})],
    )


@pytest.mark.requirement("CK-03")
@pytest.mark.rig_overlapped(scripts=silent_after_hello)
def test_hello_verify_request_comes_once(overlapped: Overlapped, measure: Measure) -> None:
    seen: tuple[Received, ...] = overlapped.results[0]
    statement = f"one HelloVerifyRequest, and no second one in {SILENCE_S:g} s of silence"
    requests = [one for one in seen if isinstance(one.content, HelloVerifyRequest)]
    facts = measure.facts("silence", {"came": [{"t_s": one.t_s - seen[0].t_s, "what": one.name} for one in seen]})
    observed = f"{len(requests)} HelloVerifyRequests; all that came: {', '.join(one.name for one in seen) or 'nothing'}"
    if not requests:
        measure.state("CK-03", State.NOT_SUPPORTED, statement, observed=observed, evidence=[facts])
        return
    measure.check("CK-03", statement, len(requests) == 1, observed=observed, evidence=[facts])


def _stop_half_way(client: Client, after_s: float) -> Script[Stopped]:
    yield from client.listen(after_s)
    try:
        yield from client.hello()
    except (Refused, Silence) as error:
        return Stopped(tuple(client.seen), str(error))
    yield from client.listen(HALF_OPEN_S + HANDSHAKES * STAGGER_S)
    yield from client.send(client.alert(FATAL, INTERNAL_ERROR))
    alerts = [one.name for one in client.seen if isinstance(one.content, Alert)]
    return Stopped(tuple(client.seen), ", ".join(dict.fromkeys(alerts)))


def _ask_counts(
    client: Client, figures: Figures | None, before: Counts | None
) -> Script[tuple[Counts | None, Counts | None]]:
    """Ask shortly before the handshakes that stopped are ended from here."""
    yield from client.listen(HALF_OPEN_S + (HANDSHAKES - 1) * STAGGER_S)
    if figures is None:
        return before, None
    yield from client.handshake()
    answer = yield from client.ask(request(GET, figures.path).encode())
    yield from client.close()
    return before, _counts(decode(answer).payload, figures)


def _say_hello_once(client: Client) -> Script[tuple[Received, ...]]:
    yield from client.send(client.client_hello())
    return (yield from client.listen(SILENCE_S))


def _is_served(client: Client) -> Script[bool]:
    try:
        yield from client.hello()
    except DeviceError:
        return False
    yield from client.send(client.alert(FATAL, INTERNAL_ERROR))
    return True


def _counts(payload: bytes, figures: Figures) -> Counts:
    told = json.loads(payload)
    return Counts(told.get(figures.half_open), told.get(figures.free_heap_bytes))


def _intervals(times_s: Sequence[float]) -> list[float]:
    return [round(later - earlier, 4) for earlier, later in pairwise(times_s)]


def _timed(times_s: Sequence[float], lag: LagMonitor) -> list[float | None]:
    """Return the intervals, without those that begin or end where the rig ran late."""
    late = [lag.around_s(t_s) > LAG_LIMIT_S for t_s in times_s]
    return [None if any(late[at : at + 2]) else one for at, one in enumerate(_intervals(times_s))]


def _typical(handshakes: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the median of each place that most handshakes have; None where too few handshakes were timed there."""
    places = [[one[at] for one in handshakes if at < len(one)] for at in range(max(map(len, handshakes), default=0))]
    common = [one for one in places if 2 * len(one) > len(handshakes)]
    return [_median([each for each in one if each is not None]) for one in common]


def _median(timed_s: Sequence[float]) -> float | None:
    """Return the median; None where two differ, one of which was held up on its way, and no third says which."""
    differ = len(timed_s) == 2 and max(timed_s) > (1 + DOUBLING_TOLERANCE) * min(timed_s)
    return None if differ or not timed_s else median(timed_s)


def _leading(typical: Sequence[float | None]) -> list[float]:
    """Return the medians up to the first place that could not be timed."""
    return [one for one in takewhile(lambda one: one is not None, typical) if one is not None]


def _doubles(intervals: Sequence[float]) -> bool:
    if len(intervals) < COPIES_NEEDED:
        return False
    first = min((FIRST_TIMER_S, PROFILE_TIMER_S), key=lambda timer_s: abs(intervals[0] - timer_s))
    begins = abs(intervals[0] / first - 1) <= FIRST_TOLERANCE
    return begins and all(abs(later / earlier / 2 - 1) <= DOUBLING_TOLERANCE for earlier, later in pairwise(intervals))


def _profile(intervals: Sequence[float]) -> str:
    profile = intervals and abs(intervals[0] / PROFILE_TIMER_S - 1) <= FIRST_TOLERANCE
    return " (the first timer of the IoT profile)" if profile else ""


def _ends(stopped: Sequence[Stopped]) -> str:
    ends = dict.fromkeys(one.ended for one in stopped if one.ended)
    return f"the device said {'; '.join(ends)}" if ends else "the device said nothing more"


def _listed(values: Sequence[float]) -> str:
    more = f" and {len(values) - TOLD} more" if len(values) > TOLD else ""
    return (", ".join(f"{one:.2f}" for one in values[:TOLD]) or "no") + more


def _flight(stopped: Stopped) -> list[Received]:
    """Return the messages of the server's flight, every copy of them."""
    messages = (one for one in stopped.seen if one.message_seq is not None)
    return [one for one in messages if not isinstance(one.content, HelloVerifyRequest)]


def _numbers(flight: Sequence[Received]) -> dict[str, list[int]]:
    """Return the message numbers that the copies of each message have."""
    names = dict.fromkeys(one.name for one in flight)
    return {
        name: [one.message_seq for one in flight if one.name == name and one.message_seq is not None] for name in names
    }


def _records(flight: Sequence[Received]) -> list[int]:
    """Return the record number of each record; one record may hold several messages."""
    return [number for _, number in dict.fromkeys((one.t_s, one.sequence) for one in flight)]
