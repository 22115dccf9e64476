"""Handshakes under loss: HS-18."""

from math import sqrt
from typing import Any

import pytest

from rig.coap.probe import Prober
from rig.dtls.alerts import FATAL
from rig.dtls.client import Client, Timers
from rig.dtls.conversation import Script, Send
from rig.energy import Measurement
from rig.errors import DeviceError
from rig.evidence.declaration import Declaration
from rig.fixtures.measure import Measure
from rig.formats.impairment import Impairment
from rig.router import Router

ATTEMPTS = 60
LOSS_PERCENT = 10.0
LIMIT_S = 60.0
SEED = 20
CLOSE_TRIES, CLOSE_S = 3, 0.3
INTERNAL_ERROR = 80
Z_95_ONE_SIDED = 1.645


@pytest.mark.requirement("HS-18")
def test_handshakes_complete_under_loss(probe: Prober, router: Router, dut: Declaration, measure: Measure) -> None:
    clients = [probe.client() for _ in range(ATTEMPTS)]
    to_device, to_client = (Impairment(loss=LOSS_PERCENT, seed=seed) for seed in (SEED, SEED + 1))
    with probe.alive(), measure.packets("loss") as capture, router.impaired(to_device=to_device, to_client=to_client):
        rows = probe.together([(client, _attempt(client)) for client in clients], at_once=dut.dtls.handshakes)
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
            "the client repeats a flight after 1 s, 2 s, 4 s ... (RFC 6347 4.2.4.1), whole in one datagram",
        ],
    )


def _attempt(client: Client) -> Script[dict[str, Any]]:
    """Try one handshake; its session is closed again, which may be lost as well."""
    client.timers = Timers(give_up_s=LIMIT_S)
    began_s = (yield Send()).t_s
    try:
        yield from client.handshake()
        ok = True
    except DeviceError:
        ok = False
    row = {"ok": ok, "duration_s": round((yield Send()).t_s - began_s, 3), "flights": len(client.sent)}
    yield from _leave(client, ok)
    return row


def _leave(client: Client, ok: bool) -> Script[None]:
    for _ in range(CLOSE_TRIES):
        if not ok:
            yield from client.send(client.alert(FATAL, INTERNAL_ERROR))
        elif (yield from client.close(CLOSE_S)):
            return


def wilson_lower_bound(successes: int, attempts: int) -> float:
    """Return the one-sided 95 % lower bound of a success rate (Wilson's score interval)."""
    rate, z2 = successes / attempts, Z_95_ONE_SIDED**2
    centre = rate + z2 / (2 * attempts)
    spread = Z_95_ONE_SIDED * sqrt(rate * (1 - rate) / attempts + z2 / (4 * attempts**2))
    return (centre - spread) / (1 + z2 / attempts)
