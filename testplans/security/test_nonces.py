"""No nonce twice under one key: REC-13. It looks at what the run has recorded before, so it comes late in a plan."""

import pytest

from rig.coap.probe import Prober
from rig.dtls.dissector import Dissector
from rig.fixtures.measure import Measure
from rig.testplans.security.test_sleep import device_nonces

REQUESTS = 20
TOLD = 5


@pytest.mark.requirement("REC-13")
def test_no_nonce_comes_twice_under_one_key(probe: Prober, measure: Measure) -> None:
    with probe.session() as session:
        for _ in range(REQUESTS):
            session.get(probe.life)
    own = Dissector({})
    for one in session.wire.transcript.passed:
        ends = (session.wire.local, probe.endpoint) if one.from_client else (probe.endpoint, session.wire.local)
        own.feed(one.t_s, *ends, one.datagram)
    seen = [*own.sessions(), *measure.recorded_sessions()]
    counts = [device_nonces(one.records) for one in seen]
    again = [f"{nonce.hex()} {times} times" for one in counts for nonce, times in one.items() if times > 1]
    records, keys = sum(one.total() for one in counts), sum(bool(one) for one in counts)
    measure.check(
        "REC-13",
        "the device uses no explicit nonce twice under one key, in the whole run so far",
        records >= REQUESTS and not again,
        observed=f"{records} protected records of the device under {keys} keys; used again: "
        f"{', '.join(again[:TOLD]) or 'none'}",
        evidence=[measure.facts("nonces", {"records": records, "keys": keys, "used_again": again})],
    )
