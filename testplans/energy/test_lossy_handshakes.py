"""What handshakes cost on a path that loses packets: ENE-21."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from rig.clock import now_s
from rig.coap.probe import Prober
from rig.dtls.alerts import FATAL
from rig.dtls.client import Client, Timers
from rig.dtls.conversation import Script
from rig.energy import Mark, Phase, combine_repeats, energy
from rig.errors import DeviceError
from rig.fixtures.measure import Measure
from rig.formats.impairment import Impairment
from rig.router import Router
from rig.testplans.energy.windows import RADIO_TAIL_S, Result, steady

pytestmark = pytest.mark.usefixtures("meter", "quiet_board")

SEED = 500
GIVE_UP_S = 20.0
PAUSE_S = 0.15
"""Between two handshakes: longer than the radio's tail."""
FINE_S = 500e-6
PATH_S = 0.002
"""Half-width of the time between the client and the board's air."""
CLOSE_TRIES, CLOSE_S, INTERNAL_ERROR = 3, 0.1, 80


@dataclass(frozen=True)
class Losses:
    """A loss in percent each way, how many handshakes are tried on it, and for how long they are recorded."""

    percent: float
    handshakes: int
    recorded_s: float

    @property
    def name(self) -> str:
        """The name of the measurement."""
        return f"handshake_energy_at_{self.percent:g}_percent_loss"


PLAN = (Losses(0.0, 5, 3.0), Losses(10.0, 6, 20.0), Losses(20.0, 5, 30.0))
SOAK = (
    Losses(0.0, 20, 12.0),
    Losses(5.0, 40, 90.0),
    Losses(10.0, 40, 120.0),
    Losses(20.0, 40, 300.0),
    Losses(30.0, 40, 600.0),
)


@pytest.mark.requirement("ENE-21")
def test_energy_of_handshakes_under_loss(
    pytestconfig: pytest.Config, probe: Prober, router: Router, measure: Measure
) -> None:
    series = SOAK if pytestconfig.getoption("--rig-soak") else PLAN
    found = [_lossy(losses, probe, router, measure) for losses in series]
    for result in found:
        measure("ENE-21", result.measurement, evidence=result.evidence, notes=result.notes)


def _lossy(losses: Losses, probe: Prober, router: Router, measure: Measure) -> Result:
    seed = SEED + round(losses.percent)
    to_device, to_client = (Impairment(loss=losses.percent, seed=each) for each in (seed, seed + 1))
    with (
        measure.packets(f"loss-{losses.percent:g}") as packets,
        router.impaired(to_device=to_device, to_client=to_client),
        steady(measure, f"loss-{losses.percent:g}", losses.recorded_s, FINE_S) as current,
    ):
        began_s = now_s()
        windows = list(_handshakes(probe, losses.handshakes, until_s=began_s + losses.recorded_s))
        took_s = now_s() - began_s
        waveform = current.result(timeout_s=losses.recorded_s + 10)
    evidence = [packets.path, measure.keep(waveform, windows)]
    if len(windows) < losses.handshakes:
        statement = (
            f"{losses.handshakes} handshakes at {losses.percent:g} % loss are done within {losses.recorded_s:g} s"
        )
        told = f"{len(windows)} were done in {took_s:.1f} s"
        measure.inconclusive("ENE-21", statement, observed=told, evidence=evidence)
    repeats = [energy(losses.name, one.window(waveform), measure.supply) for one in windows]
    lasted_s = [one.duration_s - RADIO_TAIL_S for one in windows]
    notes = [
        f"mean of {len(repeats)} handshakes of {min(lasted_s):.3g} s to {max(lasted_s):.3g} s, waiting included; "
        f"{losses.percent:g} % of the packets lost each way, from seed {seed}",
        "the client repeats a flight after 1 s, 2 s, 4 s ... (RFC 6347 4.2.4.1), whole in one datagram",
        "the energies of single handshakes are far from normally distributed: with so few U is a guide",
    ]
    return Result(combine_repeats(losses.name, repeats), evidence, notes)


def _handshakes(probe: Prober, count: int, *, until_s: float) -> Iterator[Phase]:
    """Shake hands, one after the other; yield from the first ClientHello to the radio's tail after the last flight."""
    for number in range(count):
        client, wire = probe.client(), probe.wire()
        client.timers = Timers(give_up_s=GIVE_UP_S)
        time.sleep(PAUSE_S)
        began_s = now_s()
        try:
            probe.run(client.handshake(), client, wire)
            done = True
        except DeviceError:
            done = False
        ended_s = now_s()
        if ended_s + PAUSE_S > until_s:
            return
        time.sleep(RADIO_TAIL_S)
        yield Phase(
            f"handshake {number + 1}" if done else f"handshake {number + 1}, given up",
            Mark("first ClientHello", began_s, PATH_S),
            Mark("end of the radio's tail", ended_s + RADIO_TAIL_S, PATH_S),
        )
        probe.run(_leave(client, done), client, wire)


def _leave(client: Client, done: bool) -> Script[None]:
    """End what was begun; that may be lost as well."""
    for _ in range(CLOSE_TRIES):
        if not done:
            yield from client.send(client.alert(FATAL, INTERNAL_ERROR))
        elif (yield from client.close(CLOSE_S)):
            return
