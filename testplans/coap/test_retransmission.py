"""Reliability of the device's own confirmable messages: COAP-11."""

import time
from contextlib import suppress
from itertools import pairwise

import pytest

from rig.coap import NoAnswer, Session
from rig.dtls.coap import Type, decode
from rig.dtls.session import Session as DtlsSession
from rig.errors import DeviceError
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.formats.impairment import Impairment
from rig.router import Router

ACK_TIMEOUT_S = 2.0
ACK_RANDOM_FACTOR = 1.5
MAX_RETRANSMIT = 4
MAX_TRANSMIT_SPAN_S = 45.0
TOLERANCE = 0.1
TIMER_SLACK_S = 0.05
SETTLE_S = 2.0


@pytest.mark.requirement("COAP-11")
def test_device_retransmits_with_doubled_intervals(coap: Coaps, router: Router, measure: Measure) -> None:
    with measure.packets("retransmission") as capture, coap.session() as observer, coap.session() as changer:
        observation = observer.observe("/light")
        value = "off" if observation.first.text == "on" else "on"
        with router.impaired(to_client=Impairment(loss=100.0)):
            _change_unheard(changer, value)
            time.sleep(MAX_TRANSMIT_SPAN_S + SETTLE_S)
        observation.cancel()
    copies = _copies(measure.sessions(capture, {coap.identity: coap.psk}))
    intervals = [later - earlier for earlier, later in pairwise(copies)]
    measure.observe("retransmission_interval_s", intervals, "s")
    measure.check(
        "COAP-11",
        "first interval 2 to 3 s, each next one doubled (10 %), 5 copies within MAX_TRANSMIT_SPAN (45 s) and no more",
        _as_specified(intervals),
        observed=f"{len(copies)} copies at intervals of {', '.join(f'{one:.2f}' for one in intervals) or 'none'} s",
        evidence=[capture.path],
        notes=["the copies were timed on the board's side of the router, which lost all of them towards the client"],
    )


def _change_unheard(changer: Session, value: str) -> None:
    """Change /light once: a confirmable request would be sent again, as its answer is lost too."""
    with suppress(NoAnswer):
        changer.put("/light", value, confirmable=False, timeout_s=1.0)


def _copies(sessions: tuple[DtlsSession, ...]) -> list[float]:
    """Return when the copies of the one unacknowledged notification passed; raises DeviceError when there was none."""
    times: dict[tuple[object, int], list[float]] = {}
    for session in sessions:
        for record in session.application_data:
            message = decode(record.plaintext or b"")
            if not record.from_client and message.type == Type.CON and message.observe is not None:
                times.setdefault((session.client, message.message_id), []).append(record.t_s)
    if not times:
        raise DeviceError("the device sent no confirmable notification of /light after a change")
    return max(times.values(), key=len)


def _as_specified(intervals: list[float]) -> bool:
    """RFC 7252 4.8: ACK_TIMEOUT 2 s, ACK_RANDOM_FACTOR 1.5, MAX_RETRANSMIT 4; 4.2: the timeout is doubled."""
    if len(intervals) != MAX_RETRANSMIT:
        return False
    shortest, longest = ACK_TIMEOUT_S - TIMER_SLACK_S, ACK_TIMEOUT_S * ACK_RANDOM_FACTOR + TIMER_SLACK_S
    doubled = all(abs(later / earlier / 2 - 1) <= TOLERANCE for earlier, later in pairwise(intervals))
    return shortest <= intervals[0] <= longest and doubled
