"""Handshakes under loss: HS-18."""

from math import sqrt
from typing import Any

import pytest

from rig.clock import now_s
from rig.energy import Measurement
from rig.errors import DeviceError
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.formats.impairment import Impairment
from rig.router import Router

ATTEMPTS = 20
LOSS_PERCENT = 10.0
LIMIT_S = 60.0
SEED = 20
Z_95_ONE_SIDED = 1.645


@pytest.mark.requirement("HS-18")
def test_handshakes_complete_under_loss(coap: Coaps, router: Router, measure: Measure) -> None:
    with coap.alive(), measure.packets("loss") as capture:
        rows = [_attempt(coap, router, SEED + 2 * number) for number in range(ATTEMPTS)]
    measure.attempts(rows)
    done = [row["duration_s"] for row in rows if row["ok"]]
    rate = len(done) / ATTEMPTS
    measure(
        "HS-18",
        Measurement(
            name="handshake_success_rate_at_10_percent_loss",
            value=rate,
            unit="1",
            expanded_uncertainty=rate - wilson_lower_bound(len(done), ATTEMPTS),
            k=Z_95_ONE_SIDED,
            budget=(),
        ),
        evidence=[capture.path],
        notes=[
            f"{len(done)} of {ATTEMPTS} attempts within {LIMIT_S:g} s; U reaches down to the 95 % Wilson bound",
            f"durations {min(done, default=0):.1f} to {max(done, default=0):.1f} s",
            "the client's own retransmission timer (tinydtls) starts at 2 s and doubles, one record a datagram",
        ],
    )


def _attempt(coap: Coaps, router: Router, seed: int) -> dict[str, Any]:
    """Try one handshake under loss of its own seed; the session is closed over a clear path."""
    began_s = now_s()
    with router.impaired(
        to_device=Impairment(loss=LOSS_PERCENT, seed=seed), to_client=Impairment(loss=LOSS_PERCENT, seed=seed + 1)
    ):
        try:
            session = coap.connect(connect_timeout_s=LIMIT_S)
        except DeviceError:
            session = None
        duration_s = now_s() - began_s
    if session is not None:
        session.close()
    return {"seed": seed, "ok": session is not None, "duration_s": round(duration_s, 3)}


def wilson_lower_bound(successes: int, attempts: int) -> float:
    """Return the one-sided 95 % lower bound of a success rate (Wilson's score interval)."""
    rate, z2 = successes / attempts, Z_95_ONE_SIDED**2
    centre = rate + z2 / (2 * attempts)
    spread = Z_95_ONE_SIDED * sqrt(rate * (1 - rate) / attempts + z2 / (4 * attempts**2))
    return (centre - spread) / (1 + z2 / attempts)
