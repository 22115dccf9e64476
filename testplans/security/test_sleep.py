"""Sessions over deep sleep and reset: ALR-04, RSM-06, RSM-07."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest

from rig.bench.bench import Bench
from rig.board import Board, Console
from rig.clock import now_s
from rig.coap.probe import Prober, ProbeSession, request
from rig.dtls.coap import GET, PUT
from rig.dtls.session import SeenRecord, Session
from rig.errors import DeviceError
from rig.evidence.declaration import Declaration
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.fixtures.partitions import read_data_partitions
from rig.fixtures.sleep import deep_sleep_of, put_to_sleep
from rig.formats.leaks import find_leaks

CLOSE_NOTIFY = 0
SLEEP_S = 1.0
SETTLE_S = 0.2
WAKE_S = 15.0
ANSWER_S = 1.5
REQUESTS = 3

pytestmark = pytest.mark.usefixtures("router")


@pytest.mark.requirement("ALR-04")
def test_sessions_are_closed_before_deep_sleep(
    probe: Prober, coap: Coaps, console: Console, dut: Declaration, measure: Measure
) -> None:
    way = deep_sleep_of(dut)
    with measure.packets("going-to-sleep") as capture:
        idle = probe.connect()
        idle.get(probe.life)
        slept_s = put_to_sleep(coap, console, way, SLEEP_S)
        console.wait_mark("network_up", since_s=slept_s, timeout_s=WAKE_S)
        works = way.sessions_survive and _answers(idle, probe.life)
    seen = measure.sessions(capture, {coap.identity: coap.psk})
    closed = [session for session in seen if _closed_by_device(session)]
    measure.check(
        "ALR-04",
        "before deep sleep the device sends close_notify in every open session, or keeps them as declared",
        len(closed) == len(seen) or works,
        observed=f"{len(seen)} sessions open, close_notify of the device's in {len(closed)}"
        + ("; the session works after the wake" if works else ""),
        evidence=[capture.path],
    )


@pytest.mark.requirement("RSM-06")
def test_no_nonce_again_after_sleep_and_reset(probe: Prober, dut: Declaration, bench: Bench, measure: Measure) -> None:
    way = deep_sleep_of(dut)
    with measure.packets("nonces") as capture:
        session = probe.connect()
        _ask(session, probe.life)
        with suppress(DeviceError):
            session.ask(request(PUT, way.path, payload=way.body.format(ms=round(SLEEP_S * 1000)).encode()), ANSWER_S)
        time.sleep(SLEEP_S)
        _await_life(probe)
        _ask(session, probe.life)
        if bench.board is not None:
            bench.board.hard_reset()
            _await_life(probe)
            _ask(session, probe.life)
    seen = measure.sessions(capture, {probe.identity.decode(): probe.psk})
    used = [device_nonces(one.records) for one in seen]
    again = {nonce.hex(): times for one in used for nonce, times in one.items() if times > 1}
    records = sum(sum(one.values()) for one in used)
    measure.check(
        "RSM-06",
        "over deep sleep and reset the device uses no nonce twice under one key",
        records > 0 and not again,
        observed=f"{records} protected records of the device in {len(seen)} sessions; used again: "
        f"{', '.join(f'{nonce} ({times} times)' for nonce, times in again.items()) or 'none'}",
        evidence=[capture.path],
    )


@pytest.mark.requirement("RSM-07")
def test_no_master_secret_in_flash(
    bench: Bench, board: Board, probe: Prober, dut: Declaration, measure: Measure
) -> None:
    way = deep_sleep_of(dut)
    session = probe.connect()
    master = session.client.master_secret
    assert master is not None
    asked_s = now_s()
    session.put(way.path, way.body.format(ms=round(SLEEP_S * 1000)).encode())
    board.wait_network(SLEEP_S + WAKE_S, since_s=asked_s)
    data = read_data_partitions(bench, board)
    leaks = [
        f"{leak} in partition {label}"
        for label, content in data.items()
        for leak in find_leaks(content, {"the master secret": master})
    ]
    measure.check(
        "RSM-07",
        "no data partition of flash holds the master secret of a session that was open before the sleep",
        not leaks,
        observed=f"partitions read: {', '.join(data)}; {', '.join(leaks) or 'no master secret'}",
        evidence=[measure.facts("flash", {"partitions": {label: len(content) for label, content in data.items()}})],
    )


def device_nonces(records: Sequence[SeenRecord]) -> Counter[bytes]:
    """Return how often the device used each explicit nonce among the records of one session, by epoch and nonce."""
    return Counter(
        one.epoch.to_bytes(2, "big") + one.explicit_nonce
        for one in records
        if not one.from_client and one.explicit_nonce is not None
    )


def _closed_by_device(session: Session) -> bool:
    return any(not one.from_client and one.alert.description == CLOSE_NOTIFY for one in session.alerts)


def _answers(session: ProbeSession, path: str) -> bool:
    """Whether a session is answered; one that the device has closed, or does not have any more, is not."""
    try:
        return session.ask(request(GET, path), ANSWER_S).code_text == "2.05"
    except DeviceError:
        return False


def _ask(session: ProbeSession, path: str) -> None:
    """Have the device send records in this session, if it still has it."""
    for _ in range(REQUESTS):
        if not _answers(session, path):
            return


def _await_life(probe: Prober) -> None:
    end_s = now_s() + WAKE_S
    while (why := probe.died()) and now_s() < end_s:
        time.sleep(SETTLE_S)
    if why:
        probe.prove_alive()
