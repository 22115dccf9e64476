"""Group requests: MC-01, MC-02."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from rig.coap.probe import Prober, request
from rig.dtls import coap
from rig.dtls.coap import Message, Type, decode
from rig.dtls.conversation import Script, Send, Wait
from rig.dtls.wire import DecodeError
from rig.evidence.declaration import Declaration
from rig.evidence.verdicts import State
from rig.fixtures.measure import Measure
from rig.fixtures.overlap import Overlapped, Part

ALL_COAP_NODES = "224.0.1.187"
PORT = 5683
LEISURE_S = 5.0
SLACK_S = 0.3
REQUESTS = 30
PAUSE_S = 0.01
SPREAD_S = 0.25
"""30 delays drawn from a leisure of more than a second lie this close with a probability below 1e-15."""
CRITICAL = 65001
DISCOVERY = "/.well-known/core"


Answers = dict[bytes, list[tuple[float, Message]]]
"""What came for each token, with the delay in seconds since its request; a Reset counts by its Message ID."""


@dataclass(frozen=True)
class Asked:
    """What was asked of a group, and what came for it."""

    requests: dict[str, list[Message]]
    came: Answers

    def of(self, what: str) -> list[tuple[float, Message]]:
        """Return what came for these requests."""
        return [one for each in self.requests[what] for one in self.came[each.token]]


def manners(probe: Prober, dut: Declaration) -> Sequence[Part]:
    """Requests of all kinds to the group that the device has joined."""
    if not dut.multicast_groups:
        return []
    requests = {
        "NON": [request(coap.GET, DISCOVERY, type=Type.NON) for _ in range(REQUESTS)],
        "CON": [request(coap.GET, DISCOVERY)],
        "bad option": [request(coap.GET, DISCOVERY, type=Type.NON, options=((CRITICAL, b"x"),))],
        "no such path": [request(coap.GET, "/nowhere", type=Type.NON)],
    }
    return [Part(None, probe.group_wire((dut.multicast_groups[0], PORT)), _ask(requests))]


def everything(probe: Prober, dut: Declaration) -> Sequence[Part]:
    """GET of every resource that is known, to the group."""
    group = (dut.multicast_groups or (ALL_COAP_NODES,))[0]
    paths = dict.fromkeys((*(one.path for one in dut.resources if "GET" in one.methods), DISCOVERY))
    requests = {path: [request(coap.GET, path, type=Type.NON)] for path in paths}
    return [Part(None, probe.group_wire((group, PORT)), _ask(requests))]


@pytest.mark.requirement("MC-01")
@pytest.mark.rig_overlapped(scripts=manners)
def test_manners_in_a_group(overlapped: Overlapped, measure: Measure) -> None:
    (asked,) = overlapped.results
    answers, errors = asked.of("NON"), asked.of("no such path")
    delays = [t_s for t_s, _ in answers]
    resets = [one for each in asked.came.values() for _, one in each if one.type == Type.RST]
    answered = [what for what in ("CON", "bad option") if asked.of(what)]
    spread_s = max(delays) - min(delays) if delays else 0.0
    observed = (
        f"{len(delays)} answers to {REQUESTS} NON GET {DISCOVERY}, {_range(delays)}; {len(resets)} Resets; answered "
        f"besides: {', '.join(answered) or 'nothing'}; to a path that is not there: "
        f"{', '.join(one.code_text for _, one in errors) or 'silence'}"
    )
    statement = "only NON group requests are answered, after a random leisure, never with a Reset"
    if not resets and not answered and (errors or not delays or spread_s < SPREAD_S):
        # 8.2: an error SHOULD NOT be answered, and the answer SHOULD wait for a random time of the leisure.
        measure.state("MC-01", State.DEVIATION, statement, observed=observed)
    else:
        measure.check("MC-01", statement, not resets and not answered, observed=observed)


@pytest.mark.requirement("MC-02")
@pytest.mark.rig_overlapped(scripts=everything)
def test_what_a_group_can_reach(overlapped: Overlapped, dut: Declaration, measure: Measure) -> None:
    (asked,) = overlapped.results
    reached = {path for path in asked.requests if any(one.code >> 5 == 2 for _, one in asked.of(path))}
    declared = {one.path for one in dut.resources if one.multicast and dut.multicast_groups}
    measure.check(
        "MC-02",
        "by multicast no other resources can be read than those declared for it, and those can",
        reached == declared,
        observed=f"GET of {', '.join(asked.requests)} to the group: readable {', '.join(sorted(reached)) or 'none'}; "
        f"declared {', '.join(sorted(declared)) or 'none'}; waited {LEISURE_S + SLACK_S:g} s",
    )


def _ask(requests: dict[str, list[Message]]) -> Script[Asked]:
    """Send requests with short pauses, and hear what comes within the leisure."""
    messages = [one for each in requests.values() for one in each]
    found: Answers = {one.token: [] for one in messages}
    sent: dict[bytes, float] = {}
    by_id = {one.message_id: one.token for one in messages}
    for message in messages:
        sent[message.token] = (yield Send((message.encode(),))).t_s
        yield from _hear(found, sent, by_id, sent[message.token] + PAUSE_S)
    yield from _hear(found, sent, by_id, max(sent.values()) + LEISURE_S + SLACK_S)
    return Asked(requests, found)


def _hear(found: Answers, sent: dict[bytes, float], by_id: dict[int, bytes], end_s: float) -> Script[None]:
    now_s = (yield Send()).t_s
    while now_s < end_s:
        moment = yield Wait(end_s - now_s)
        now_s = moment.t_s
        if moment.datagram is None:
            return
        try:
            message = decode(moment.datagram)
        except DecodeError:
            continue
        token = by_id.get(message.message_id, b"") if message.type == Type.RST else message.token
        if token in found:
            found[token].append((now_s - sent[token], message))


def _range(delays: list[float]) -> str:
    return f"{min(delays):.2f} to {max(delays):.2f} s later" if delays else "never"
