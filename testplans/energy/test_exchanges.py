"""Energy of single exchanges beside each other: ENE-01, ENE-13 to ENE-18."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from rig.bench.bench import Bench
from rig.board import Board
from rig.clock import now_s
from rig.coap import Session
from rig.coap.probe import Observation, Prober, ProbeSession, request
from rig.dtls import coap as messages
from rig.dtls.client import Client, NotVerified, Refused, Silence, Timers
from rig.dtls.connection import EXTENSIONS, ResumableSession
from rig.dtls.conversation import Script, Wait
from rig.dtls.extensions import SessionTicket, pairs
from rig.dtls.suites import SUITES
from rig.energy import Mark, Phase, Waveform, combine_repeats, energy
from rig.errors import BenchError, DeviceError
from rig.evidence.declaration import SUITE_NUMBERS, Declaration, Resource
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.router import Capture, Router
from rig.testplans.energy.windows import RADIO_TAIL_S, Exchanges, Result, per, steady

pytestmark = pytest.mark.usefixtures("router", "meter")

REPEATS = 5
WRONG_KEY_S = 0.15
"""How long an answer to a wrong key is waited for: less than the time after which a flight is repeated."""
VALUES = 8
PACE_S = 0.25
BEFORE_VALUE_S = 0.005
"""What a device does for a value before it has it on the air."""
FINE_S = 200e-6
EDGE_S = 0.005
"""What a window stays away from the ends of its recording: more than the two clocks may differ."""
TRANSFER_S = 0.5
KILOBYTE = 1000
HANDSHAKE, REQUEST = "handshake_start", "request_start"
"""The console's marks of the edges on the trigger line."""


@pytest.mark.requirement("ENE-01")
@pytest.mark.usefixtures("quiet_board")
def test_energy_of_a_handshake_with_a_wrong_key(
    exchanges: Exchanges, board: Board, probe: Prober, measure: Measure
) -> None:
    found = exchanges.repeated(
        "wrong_key_energy",
        "handshake with a wrong key",
        lambda: _with_wrong_key(probe),
        mark=HANDSHAKE,
        repeats=REPEATS,
    )
    # The device may keep what these clients have begun for half a minute.
    board.hard_reset()
    board.wait_network()
    _judge(measure, "ENE-01", found, "the right identity; the client does not repeat its last flight")


@pytest.mark.requirement("ENE-01")
@pytest.mark.usefixtures("quiet_board")
def test_energy_of_a_session_and_its_first_request(
    exchanges: Exchanges, probe: Prober, dut: Declaration, measure: Measure
) -> None:
    kept = {"session_energy": None} | {
        f"session_energy_by_{means.replace('-', '_')}": _left_by(probe, means) for means in dut.dtls.resumption
    }
    found = [_of_a_session(exchanges, probe, name, session) for name, session in kept.items()]
    for result in found:
        _judge(measure, "ENE-01", result, f"handshake and GET {probe.life} of the raw client")


@pytest.mark.requirement("ENE-13")
@pytest.mark.usefixtures("quiet_board")
def test_energy_of_a_handshake_with_each_suite(
    exchanges: Exchanges, probe: Prober, dut: Declaration, measure: Measure
) -> None:
    found = {suite: _with_suite(exchanges, probe, suite) for suite in dut.dtls.suites if _is_psk(suite)}
    if not found:
        pytest.skip("no suite with a pre-shared key is declared")
    for suite, result in found.items():
        measure.observe("handshake_energy", result.measurement.value, "J", suite=suite)
    for suite, result in found.items():
        _judge(measure, "ENE-13", result, f"suite {suite}, offered alone by the raw client")


@pytest.mark.requirement("ENE-14")
@pytest.mark.usefixtures("quiet_board")
def test_energy_of_a_resumed_handshake(exchanges: Exchanges, probe: Prober, dut: Declaration, measure: Measure) -> None:
    found = {
        means: exchanges.repeated(
            "resumed_handshake_energy",
            f"handshake resumed by {means}",
            _resuming(probe, means),
            mark=HANDSHAKE,
            repeats=REPEATS,
        )
        for means in dut.dtls.resumption
    }
    for means, result in found.items():
        _judge(measure, "ENE-14", result, f"an abbreviated handshake by {means}")


@pytest.mark.requirement("ENE-15")
@pytest.mark.usefixtures("quiet_board")
def test_energy_of_a_non_confirmable_request(
    exchanges: Exchanges, coap: Coaps, probe: Prober, measure: Measure
) -> None:
    with coap.session() as session:
        found = exchanges.repeated(
            "non_confirmable_request_energy",
            "non-confirmable request",
            lambda: _answered(session, probe.life, confirmable=False),
            mark=REQUEST,
            repeats=REPEATS,
        )
    _judge(measure, "ENE-15", found)


@pytest.mark.requirement("ENE-16")
def test_energy_of_a_request_without_dtls(
    exchanges: Exchanges, bench: Bench, board: Board, router: Router, probe: Prober, dut: Declaration, measure: Measure
) -> None:
    board.hard_reset()
    board.wait_network()
    port = next(one.port for one in dut.ports if one.service == "coap")
    front = router.endpoint_for(bench.address()[0], port)
    path = next((one.path for one in dut.resources if one.path == probe.life), dut.resources[0].path)
    found = exchanges.repeated(
        "plain_request_energy",
        "request without DTLS",
        lambda: _asked_in_clear(probe, front, path),
        mark=REQUEST,
        repeats=REPEATS,
        port=port,
    )
    _judge(measure, "ENE-16", found, f"GET {path} on port {port}")


@pytest.mark.requirement("ENE-17")
@pytest.mark.usefixtures("quiet_board")
def test_energy_of_a_value_notified_and_polled(bench: Bench, probe: Prober, dut: Declaration, measure: Measure) -> None:
    resource = next((one for one in dut.resources if one.observable and one.period), None)
    if resource is None:
        pytest.skip("no resource is declared that can be observed and whose pace a tester can set")
    with probe.session() as session, _paced(session, resource) as pace_s:
        observation = Observation(session, resource.path)
        notified = _values(bench, measure, "notified value", pace_s, lambda: observation.next(2 * pace_s + 1))
        observation.cancel()
        polled = _values(bench, measure, "polled value", pace_s, _poll(session, resource.path, pace_s))
    share = notified.measurement.value / polled.measurement.value
    told = f"a value that is notified takes {share:.2f} of the energy of one that is asked for"
    _judge(measure, "ENE-17", notified, told)
    _judge(measure, "ENE-17", polled, told)


@pytest.mark.requirement("ENE-18")
@pytest.mark.usefixtures("quiet_board")
def test_energy_of_a_block_wise_transfer(exchanges: Exchanges, coap: Coaps, dut: Declaration, measure: Measure) -> None:
    resource = dut.resource("GET", blockwise=True)
    if resource is None:
        pytest.skip("no resource is declared that GET answers block by block")
    sizes: list[int] = []
    with coap.session() as session:
        found = exchanges.repeated(
            "blockwise_energy",
            "block-wise transfer",
            lambda: _answered(session, resource.path, sizes=sizes),
            mark=REQUEST,
            repeats=REPEATS,
            duration_s=TRANSFER_S,
        )
    kilobytes = sizes[0] / KILOBYTE
    each = per(found.measurement, "blockwise_energy_per_kilobyte", kilobytes, "J/kB")
    result = Result(each, found.evidence, found.notes)
    _judge(measure, "ENE-18", result, f"GET {resource.path}: {sizes[0]} bytes; 1 kB is {KILOBYTE} bytes")


def _judge(measure: Measure, requirement: str, found: Result, *notes: str) -> None:
    measure(requirement, found.measurement, evidence=found.evidence, notes=[*found.notes, *notes])


def _is_psk(suite: str) -> bool:
    return SUITES[SUITE_NUMBERS[suite]].key_exchange == "psk"


def _with_suite(exchanges: Exchanges, probe: Prober, suite: str) -> Result:
    return exchanges.repeated(
        "suite_handshake_energy",
        f"handshake with {suite}",
        lambda: probe.session(probe.client(offered_suites=(SUITE_NUMBERS[suite], 0x00FF))),
        mark=HANDSHAKE,
        repeats=REPEATS,
    )


@contextmanager
def _with_wrong_key(probe: Prober) -> Iterator[None]:
    client = probe.client(psk=bytes(byte ^ 0x55 for byte in probe.psk))
    client.timers = Timers(give_up_s=WRONG_KEY_S)
    wire = probe.wire()
    try:
        probe.run(client.handshake(), client, wire)
    except (Silence, Refused, NotVerified):
        yield
    else:
        raise DeviceError("a handshake with a wrong key was completed: there is no refusal to measure")


@contextmanager
def _asking(probe: Prober, client: Client) -> Iterator[None]:
    with probe.session(client) as session:
        answer = session.get(probe.life).code_text
        if answer != "2.05":
            raise DeviceError(f"GET {probe.life} was answered {answer}: there is no session to measure")
        yield


def _of_a_session(exchanges: Exchanges, probe: Prober, name: str, kept: ResumableSession | None) -> Result:
    what = "session taken up again" if kept else "session with a full handshake"
    return exchanges.repeated(
        name, what, lambda: _asking(probe, probe.client(resume=kept)), mark=HANDSHAKE, repeats=REPEATS
    )


def _left_by(probe: Prober, means: str) -> ResumableSession:
    """Return what is kept of a full handshake made now, by which its session can be taken up."""
    offer = EXTENSIONS + pairs(SessionTicket()) if means == "ticket" else EXTENSIONS
    first = probe.client(hello_extensions=offer)
    with probe.session(first):
        pass
    kept = first.session
    if not (kept.ticket if means == "ticket" else kept.session_id):
        raise DeviceError(f"no {means} was handed out, though resumption by it is declared")
    return kept


def _resuming(probe: Prober, means: str) -> Callable[[], AbstractContextManager[None]]:
    """Return what takes up the session that is left by a full handshake made now."""
    kept = _left_by(probe, means)

    @contextmanager
    def resumed() -> Iterator[None]:
        client = probe.client(resume=kept)
        with probe.session(client):
            if not client.resumed:
                raise DeviceError(f"a session offered by {means} led to a full handshake: nothing is resumed")
            yield

    return resumed


@contextmanager
def _answered(
    session: Session, path: str, *, confirmable: bool = True, sizes: list[int] | None = None
) -> Iterator[None]:
    response = session.get(path, confirmable=confirmable)
    if response.code != "2.05":
        raise DeviceError(f"GET {path} was answered {response.code}: there is no request to measure")
    if sizes is not None:
        sizes.append(len(response.payload))
    yield


@contextmanager
def _asked_in_clear(probe: Prober, front: tuple[str, int], path: str) -> Iterator[None]:
    wire = probe.wire(to=front)
    wire.send(request(messages.GET, path).encode())
    if not wire.run(_datagram(1.0)):
        raise DeviceError(f"GET {path} without DTLS is not answered, as declared")
    yield


def _datagram(within_s: float) -> Script[bool]:
    return (yield Wait(within_s)).datagram is not None


@contextmanager
def _paced(session: ProbeSession, resource: Resource) -> Iterator[float]:
    """Let the resource change at a pace that gives each value a window of its own; give that pace in seconds."""
    period = resource.period
    assert period is not None
    ms = max(period.shortest_ms, round(PACE_S * 1000))
    session.put(period.path, period.body.replace("{ms}", str(ms)).encode())
    try:
        yield ms / 1000
    finally:
        session.put(period.path, period.body.replace("{ms}", str(period.ms)).encode())


def _poll(session: ProbeSession, path: str, pace_s: float) -> Callable[[], object]:
    """Return what asks for a value *pace_s* after the one before it, and the first after as long a pause."""
    asked_s: float | None = None

    def ask() -> None:
        nonlocal asked_s
        session.hear(pace_s if asked_s is None else max(asked_s + pace_s - now_s(), 0.0))
        asked_s = now_s()
        session.get(path)

    return ask


def _values(bench: Bench, measure: Measure, what: str, pace_s: float, take: Callable[[], object]) -> Result:
    """Return the energy of each of the values that *take* waits for, one after the other."""
    label, lasts_s = what.replace(" ", "-"), (VALUES + 2) * pace_s
    with measure.packets(label) as packets, steady(measure, label, lasts_s, FINE_S) as current:
        began_s = now_s()
        for _ in range(VALUES):
            take()
        if now_s() - began_s > lasts_s:
            raise BenchError(f"{VALUES} values took {now_s() - began_s:.1f} s where {lasts_s:g} s were recorded")
        waveform = current.result(timeout_s=lasts_s + 10)
    bursts = _bursts(packets, bench.board_config.coaps_port, pace_s / 2)
    windows = [phase for phase in _phases(what, bursts, packets) if _inside(phase, waveform)]
    if len(windows) < VALUES:
        raise DeviceError(f"{len(windows)} of {VALUES} values were seen on the air within {lasts_s:g} s")
    single = [energy(f"{label.replace('-', '_')}_energy", one.window(waveform), measure.supply) for one in windows]
    notes = [
        f"mean of {len(single)} values, one each {pace_s * 1000:g} ms",
        f"each from {BEFORE_VALUE_S * 1000:g} ms before its first packet to {RADIO_TAIL_S * 1000:g} ms after its last",
    ]
    evidence: list[Path] = [packets.path, measure.keep(waveform, windows)]
    return Result(combine_repeats(single[0].name, single), evidence, notes)


def _inside(phase: Phase, waveform: Waveform) -> bool:
    assert waveform.t0_s is not None
    return waveform.t0_s + EDGE_S < phase.start.t_s and phase.end.t_s < waveform.end_s - EDGE_S


def _bursts(packets: Capture, board_port: int, apart_s: float) -> list[tuple[float, float]]:
    """Return first and last packet of each stretch of packets at the board with no more than *apart_s* between them."""
    times_s = [
        packet.t_s
        for packet in packets.packets()
        if packet.side == "board" and board_port in (packet.source[1], packet.destination[1])
    ]
    found: list[tuple[float, float]] = []
    for t_s in times_s:
        if found and t_s - found[-1][1] <= apart_s:
            found[-1] = (found[-1][0], t_s)
        else:
            found.append((t_s, t_s))
    return found


def _phases(what: str, bursts: Sequence[tuple[float, float]], packets: Capture) -> list[Phase]:
    doubt_s = packets.clock.uncertainty_s
    return [
        Phase(
            what,
            Mark("before the first packet", first_s - BEFORE_VALUE_S, doubt_s),
            Mark("end of the radio's tail", last_s + RADIO_TAIL_S, doubt_s),
        )
        for first_s, last_s in bursts
    ]
