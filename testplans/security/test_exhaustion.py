"""What it takes to exhaust the device: EXH-01 to EXH-05. They come last in a plan, and end with a reset.

``--rig-soak`` takes the catalogue's numbers; without it each test is as long as a plan can bear.
"""

import json
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from rig.bench.bench import Bench
from rig.clock import now_s
from rig.coap.probe import Prober, ProbeSession, request
from rig.dtls.client import Client, Refused, Timers
from rig.dtls.coap import GET, PUT, Message, OptionNumber, Options, Type
from rig.dtls.conversation import Script
from rig.dtls.outgoing import Payload
from rig.errors import DeviceError
from rig.evidence.declaration import Declaration, Resource
from rig.fixtures.measure import Measure

RECOVERY_S = 60.0
FLOODS = (10, 50, 130)
FLOOD_TIMERS = Timers(first_s=0.4, give_up_s=1.0)
BURSTS = (50, 200, 800)
OBSERVATIONS = 30
QUIET_S = 0.3
ANSWER_S = 5.0
HEAP_SHARE = 0.1
"""Of the free heap, what a flood may leave allocated: caches that a first use fills."""

SEED = 20
BATCH = 50
LONGEST_PIECE_BYTES = 16
MUTATIONS, MUTATIONS_IN_SOAK = 300, 10_000
DRIFT_PER_1000 = 0.01
TABLES_SHARE = 0.05
REQUESTS, REQUESTS_IN_SOAK = 300, 5000
HANDSHAKES, HANDSHAKES_IN_SOAK = 30, 500
LEAK_BYTES_PER_REQUEST = 16
LEAK_BYTES_PER_HANDSHAKE = 64
SURE_SIGMAS = 5.0
"""A slope counts when it lies so many standard errors beyond its limit: successive readings are not independent."""

PANIC = re.compile(r"Guru Meditation|Backtrace:|abort\(\) was called|assert failed|CORRUPT HEAP|Stack smashing|panic")


@pytest.fixture
def reset_afterwards(bench: Bench) -> Iterator[None]:
    """Start the board anew once the test has closed what it opened: nobody after it finds an exhausted device."""
    yield
    if bench.board is not None:
        bench.reset()


class Watch:
    """What tells that the device has restarted, from when the watch began."""

    def __init__(self, bench: Bench, dut: Declaration, probe: Prober) -> None:
        self._console = bench.console
        self._dut = dut
        self._probe = probe
        self._before = self.figures()
        self._began_s = now_s()

    def figures(self) -> dict[str, Any]:
        """Return the device's own figures, read in a session of its own; empty where it has none."""
        if self._dut.figures is None:
            return {}
        with self._probe.session() as session:
            return read_figures(session, self._dut)

    def restarts(self) -> list[str]:
        """Return every sign of a restart."""
        found = self._on_console()
        figures, names = self.figures(), self._dut.figures
        if names and names.boot_count and figures[names.boot_count] != self._before[names.boot_count]:
            found.append(
                f"{names.boot_count} went from {self._before[names.boot_count]} to {figures[names.boot_count]}"
            )
        if names and names.handshakes and figures[names.handshakes] < self._before[names.handshakes]:
            found.append(
                f"{names.handshakes} fell from {self._before[names.handshakes]} to {figures[names.handshakes]}"
            )
        return found

    def heap_lost(self) -> float | None:
        """Return the share of the free heap that has not come back, where the device tells its heap."""
        before, after = free_heap(self._before, self._dut), free_heap(self.figures(), self._dut)
        return (before - after) / before if before and after is not None else None

    def _on_console(self) -> list[str]:
        if self._console is None:
            return []
        boots = [mark for mark in self._console.marks_since(self._began_s) if mark.name == "boot"]
        lines = [line.text for line in self._console.lines_since(self._began_s) if PANIC.search(line.text)]
        return [f"on the console: {what}" for what in (*(f"boot, {dict(mark.fields)}" for mark in boots), *lines)]


@pytest.mark.requirement("EXH-01")
@pytest.mark.usefixtures("reset_afterwards")
def test_half_open_flood(bench: Bench, dut: Declaration, probe: Prober, measure: Measure) -> None:
    watch = Watch(bench, dut, probe)
    rows = [_flood(probe, count) for count in FLOODS]
    served = all(row["served_after_s"] is not None for row in rows)
    restarts = watch.restarts() if served else []
    told = [
        f"{row['half_open']} half-open, {row['answered']} of them answered, served {_after(row['served_after_s'])}"
        for row in rows
    ]
    measure.check(
        "EXH-01",
        f"after 10, 50 and 130 handshakes that stop half way a new client is served within {RECOVERY_S:g} s, "
        "without a restart",
        served and not restarts,
        observed=f"{'; '.join(told)}; signs of a restart: {', '.join(restarts) or 'none'}",
        evidence=[measure.facts("half-open", {"floods": rows, "restarts": restarts})],
    )


@pytest.mark.requirement("EXH-02")
@pytest.mark.usefixtures("reset_afterwards")
def test_session_table_full(bench: Bench, dut: Declaration, probe: Prober, measure: Measure) -> None:
    watch = Watch(bench, dut, probe)
    older = [probe.connect() for _ in range(dut.dtls.sessions)]
    at_first = [_use(session, probe.life) for session in older]
    newest = _one_more(probe)
    at_last = [_use(session, probe.life) for session in older]
    lost = [number for number, how in enumerate(at_last, 1) if how == "silent"]
    evicted = at_last.count("closed")
    for session in older:
        session.close()
    restarts = watch.restarts()
    measure.check(
        "EXH-02",
        f"with {len(older)} sessions open all are served, and one more is served in an idle one's place or refused",
        set(at_first) == {"served"} and newest != "silent" and not lost and evicted <= 1 and not restarts,
        observed=f"{at_first.count('served')} of {len(older)} declared sessions served; one more was {newest}; "
        f"then {at_last.count('served')} of the older served, {evicted} closed by the device, {len(lost)} silent; "
        f"signs of a restart: {', '.join(restarts) or 'none'}",
        evidence=[measure.facts("sessions", {"at_first": at_first, "newest": newest, "at_last": at_last})],
    )


@pytest.mark.requirement("EXH-03")
@pytest.mark.usefixtures("reset_afterwards")
def test_request_and_observe_flood(bench: Bench, dut: Declaration, probe: Prober, measure: Measure) -> None:
    watch = Watch(bench, dut, probe)
    observable = dut.resource("GET", observable=True)
    with probe.session() as witness:
        with probe.session() as flooder:
            bursts = [_burst(flooder, probe.life, count) for count in BURSTS]
            observed = _observations(flooder, observable) if observable else 0
        witnessed = _use(witness, probe.life)
    served_after_s = _served_after_s(probe)
    restarts = watch.restarts() if served_after_s is not None else []
    lost = watch.heap_lost() if served_after_s is not None else None
    answered = ", ".join(f"{row['answered']} of {row['sent']} in {row['took_s']:.2f} s" for row in bursts)
    measure.check(
        "EXH-03",
        f"after floods of requests and of observations other clients are served, within {RECOVERY_S:g} s and without a "
        f"restart, and {100 * (1 - HEAP_SHARE):g} % of the free heap have come back",
        witnessed == "served" and served_after_s is not None and not restarts and (lost or 0.0) <= HEAP_SHARE,
        observed=f"requests answered: {answered}; {observed} of {OBSERVATIONS} observations taken; "
        f"the other session was {witnessed}, a new client served {_after(served_after_s)}; "
        f"free heap not come back: {'not told' if lost is None else f'{100 * lost:.1f} %'}; "
        f"signs of a restart: {', '.join(restarts) or 'none'}",
        evidence=[measure.facts("flood", {"bursts": bursts, "observations": observed, "heap_lost": lost})],
    )


@pytest.mark.requirement("EXH-04")
@pytest.mark.usefixtures("reset_afterwards")
def test_altered_input_is_survived(
    bench: Bench, dut: Declaration, probe: Prober, measure: Measure, pytestconfig: pytest.Config
) -> None:
    count = MUTATIONS_IN_SOAK if pytestconfig.getoption("--rig-soak") else MUTATIONS
    watch = Watch(bench, dut, probe)
    fuzz = Fuzz(dut, probe)
    while fuzz.sent < count and not fuzz.died:
        fuzz.batch()
    restarts = [] if fuzz.died else watch.restarts()
    drift = fit(fuzz.heap)
    free = [each for _, each in fuzz.heap] or [0.0]
    leaks = drift.falls_faster_than(DRIFT_PER_1000 * free[0] / 1000) and free[0] - free[-1] > TABLES_SHARE * free[0]
    measure.check(
        "EXH-04",
        f"after every {BATCH} altered records, handshake and CoAP messages a request is answered; no restart, no "
        f"panic, and beyond the {100 * TABLES_SHARE:g} % that tables may fill no more than {100 * DRIFT_PER_1000:g} % "
        "of the free heap lost per 1000",
        not fuzz.died and not restarts and not leaks,
        observed=f"{fuzz.sent} altered messages (seed {SEED}); {fuzz.died or 'a request answered after each batch'}; "
        f"sessions that had to be renewed: {fuzz.renewed}; free heap {drift} bytes per message, "
        f"{free[0]:.0f} at first, {free[-1]:.0f} at last; "
        f"signs of a restart: {', '.join(restarts) or 'none'}",
        evidence=[measure.facts("fuzz", {"seed": SEED, "sent": fuzz.sent, "free_heap_bytes": fuzz.heap})],
    )


@pytest.mark.requirement("EXH-05")
@pytest.mark.usefixtures("reset_afterwards")
def test_no_leak_in_long_use(dut: Declaration, probe: Prober, measure: Measure, pytestconfig: pytest.Config) -> None:
    if dut.figures is None or dut.figures.free_heap_bytes is None:
        pytest.skip("the device does not tell its free heap (declaration: figures.free_heap_bytes)")
    soak = pytestconfig.getoption("--rig-soak")
    paths = [one.path for one in dut.resources if "GET" in one.methods and not one.blockwise]
    with probe.session() as session:
        in_requests = _heap_over(
            REQUESTS_IN_SOAK if soak else REQUESTS, session, dut, partial(_read_all, session, paths)
        )
        in_handshakes = _heap_over(
            HANDSHAKES_IN_SOAK if soak else HANDSHAKES, session, dut, partial(_in_and_out, probe)
        )
    requests, handshakes = _late_slope(in_requests), _late_slope(in_handshakes)
    measure.check(
        "EXH-05",
        f"the free heap does not fall by more than {LEAK_BYTES_PER_REQUEST} bytes per request and "
        f"{LEAK_BYTES_PER_HANDSHAKE} bytes per handshake",
        not requests.falls_faster_than(LEAK_BYTES_PER_REQUEST)
        and not handshakes.falls_faster_than(LEAK_BYTES_PER_HANDSHAKE),
        observed=f"free heap {requests} bytes per request in {in_requests[-1][0]:g} requests, "
        f"{handshakes} bytes per handshake in {in_handshakes[-1][0]:g} handshakes; it was "
        f"{in_requests[0][1]:g} bytes at first and {in_handshakes[-1][1]:g} at last",
        evidence=[measure.facts("heap", {"requests": in_requests, "handshakes": in_handshakes})],
        notes=["the first fifth of the readings, in which caches fill, is left out of the slopes"],
    )


class Fuzz:
    """Altered input in batches, each followed by a request that must be answered.

    sent: altered messages so far. died: why the device is not alive any more, empty while it is. renewed: sessions
    that the device gave up. heap: free heap after each batch, by the number of altered messages.
    """

    def __init__(self, dut: Declaration, probe: Prober) -> None:
        self.sent = 0
        self.died = ""
        self.renewed = 0
        self.heap: list[tuple[float, float]] = []
        self._dut = dut
        self._probe = probe
        self._draws = random.Random(SEED)
        self._requests = _valid_requests(dut)
        self._witness = probe.connect()
        self._target = probe.connect()
        self._stranger = probe.wire()

    def batch(self) -> None:
        """Alter handshakes on one port, CoAP messages and records in a session on another; then ask in a third."""
        third = BATCH // 3
        self._alter_handshake(third)
        self._alter_session(third, BATCH - 2 * third)
        self.sent += BATCH
        try:
            self._target, self._witness = self._living(self._target), self._living(self._witness)
            free = free_heap(read_figures(self._witness, self._dut), self._dut) if self._dut.figures else None
        except DeviceError as error:
            self.died = f"no answer after altered message {self.sent}: {error}"
            return
        self.heap += [] if free is None else [(self.sent, free)]

    def _living(self, session: ProbeSession) -> ProbeSession:
        """Return *session*, or a new one where the device does not serve it any more."""
        if _use(session, self._probe.life) == "served":
            return session
        self.renewed += 1
        renewed = self._probe.connect()
        renewed.get(self._probe.life)
        return renewed

    def _alter_session(self, messages: int, records: int) -> None:
        client = self._target.client
        data = [self._draws.choice(self._requests).encode() for _ in range(messages + records)]
        self._target.tell(*(altered(self._draws, each) for each in data[:messages]))
        sealed = [client.datagram(client.application_data(each)) for each in data[messages:]]
        self._target.wire.send(*(altered(self._draws, each) for each in sealed))

    def _alter_handshake(self, count: int) -> None:
        """Alter messages of a handshake before they are protected: its ClientHello, and its last flight."""
        client, wire = self._probe.client(), self._probe.wire()
        client.timers = Timers(give_up_s=2.0)
        hellos = count // 2
        strangers = (self._probe.client() for _ in range(hellos))
        # From one port all the time: what a device bounds by address is not what is tried here.
        self._stranger.send(*(self._altered_record(each, each.client_hello()) for each in strangers))
        with suppress(DeviceError):
            self._probe.half_open(client, wire)
            flight = client.last_flight()
            wire.send(*(self._altered_record(client, self._draws.choice(flight)) for _ in range(count - hellos)))
        client.epoch = 0  # the alert goes in clear: of the flight's keys the device may know nothing
        self._probe.abandon(client, wire)

    def _altered_record(self, client: Client, payload: Payload) -> bytes:
        record = client.record(payload)
        return replace(record, plaintext=altered(self._draws, record.plaintext)).encode()


def read_figures(session: ProbeSession, dut: Declaration) -> dict[str, Any]:
    """Return what the device tells of itself."""
    assert dut.figures is not None
    figures: dict[str, Any] = json.loads(session.get(dut.figures.path).payload)
    return figures


def free_heap(figures: dict[str, Any], dut: Declaration) -> float | None:
    """Return the free heap among *figures*, in bytes."""
    name = dut.figures.free_heap_bytes if dut.figures else None
    return float(figures[name]) if name and figures else None


@dataclass(frozen=True)
class Slope:
    """A straight line's slope and its standard error, both in the unit of y per unit of x."""

    value: float = 0.0
    error: float = 0.0

    def falls_faster_than(self, limit: float) -> bool:
        """Whether it surely falls by more than *limit*."""
        return -self.value - SURE_SIGMAS * self.error > limit

    def __str__(self) -> str:
        return f"{self.value:+.2f} ± {self.error:.2f}"


def fit(points: Sequence[tuple[float, float]]) -> Slope:
    """Fit a straight line by least squares; fewer than three points have no slope."""
    if len(points) < 3:
        return Slope()
    mean_x, mean_y = (sum(each) / len(points) for each in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return Slope(slope, math.sqrt(rest / (len(points) - 2) / spread))


def _flood(probe: Prober, count: int) -> dict[str, Any]:
    clients = [probe.client() for _ in range(count)]
    answered = probe.together([(client, _stopped(client)) for client in clients])
    return {"half_open": count, "answered": sum(answered), "served_after_s": _served_after_s(probe)}


def _stopped(client: Client) -> Script[bool]:
    """Stop at ServerHelloDone; return whether it came."""
    client.timers = FLOOD_TIMERS
    try:
        yield from client.hello()
    except DeviceError:
        return False
    return True


def _served_after_s(probe: Prober) -> float | None:
    """Return after what time a new client has shaken hands and got an answer; None if that takes too long."""
    began_s = now_s()
    client = probe.client()
    client.timers = Timers(longest_s=4.0, give_up_s=RECOVERY_S)
    try:
        with probe.session(client) as session:
            session.get(probe.life)
    except DeviceError:
        return None
    took_s = now_s() - began_s
    return took_s if took_s <= RECOVERY_S else None


def _after(served_after_s: float | None) -> str:
    return f"not within {RECOVERY_S:g} s" if served_after_s is None else f"after {served_after_s:.1f} s"


def _use(session: ProbeSession, path: str) -> str:
    """Make a request; return ``served``, ``closed`` if the device has said so, ``silent``, or the answer's code."""
    session.hear(0.0)
    if session.ended:
        return "closed"
    try:
        answer = session.ask(request(GET, path), within_s=ANSWER_S)
    except Refused:
        return "closed"
    except DeviceError:
        return "silent"
    return "served" if answer.code_text == "2.05" else answer.code_text


def _one_more(probe: Prober) -> str:
    try:
        with probe.session() as session:
            return _use(session, probe.life)
    except Refused as error:
        return f"refused with alert {error.alert.name}"
    except DeviceError:
        return "silent"


def _burst(session: ProbeSession, path: str, count: int) -> dict[str, Any]:
    """Send requests as fast as they go; the answers are taken in on the way, so that none is lost on the rig's side."""
    wanted = {message.token: message for message in (request(GET, path, type=Type.NON) for _ in range(count))}
    messages = list(wanted.values())
    began_s = now_s()
    heard: list[Any] = []
    for at in range(0, count, BATCH):
        session.tell(*messages[at : at + BATCH])
        heard += session.hear(0.0)
    while late := session.hear(QUIET_S):
        heard += late
    answered = {each.token for each in heard if isinstance(each, Message)} & wanted.keys()
    return {"sent": count, "answered": len(answered), "took_s": session.client.received[-1].t_s - began_s}


def _observations(session: ProbeSession, resource: Resource) -> int:
    """Register again and again, each time with another token; return how many registrations were taken."""
    register = ((int(OptionNumber.OBSERVE), b""),)
    answers = [session.ask(request(GET, resource.path, options=register)) for _ in range(OBSERVATIONS)]
    return sum(answer.observe is not None for answer in answers)


def _heap_over(
    count: int, reader: ProbeSession, dut: Declaration, step: Callable[[], int]
) -> list[tuple[float, float]]:
    """Repeat *step*, which tells how much it has done, until *count* is done; return the free heap by what was done."""
    done, found = 0, []
    while done < count:
        done += step()
        free = free_heap(read_figures(reader, dut), dut)
        assert free is not None
        found.append((float(done), free))
    return found


def _read_all(session: ProbeSession, paths: Sequence[str]) -> int:
    for path in paths:
        session.get(path)
    return len(paths)


def _in_and_out(probe: Prober) -> int:
    with probe.session():
        return 1


def _late_slope(readings: Sequence[tuple[float, float]]) -> Slope:
    return fit(readings[len(readings) // 5 :])


def _valid_requests(dut: Declaration) -> list[Message]:
    """Return requests that change nothing, or switch between declared values, with the options that they may have."""
    numbers = OptionNumber.OBSERVE, OptionNumber.ACCEPT, OptionNumber.BLOCK2, OptionNumber.ETAG
    options: list[Options] = [(), *(((int(number), b"\x02"),) for number in numbers)]
    reads = [one for one in dut.resources if "GET" in one.methods and one.purpose != "configuration"]
    found = [request(GET, one.path, options=each) for one in reads for each in options]
    switch = dut.switchable()
    if switch is not None:
        found += [request(PUT, switch.path, payload=each.encode()) for each in switch.values]
    return found


def altered(draws: random.Random, data: bytes) -> bytes:
    """Alter *data* in one to three places: bits, bytes at the ends of their range, pieces gone, doubled or put in."""
    changed = bytearray(data)
    for _ in range(draws.randint(1, 3)):
        at = draws.randrange(len(changed)) if changed else 0
        piece = slice(at, at + draws.randint(1, LONGEST_PIECE_BYTES))
        match draws.randrange(6):
            case 0 if changed:
                changed[at] ^= 1 << draws.randrange(8)
            case 1 if changed:
                changed[at] = draws.choice((0x00, 0x7F, 0x80, 0xFF))
            case 2:
                del changed[at:]
            case 3:
                del changed[piece]
            case 4:
                changed[at:at] = changed[piece]
            case _:
                changed[at:at] = draws.randbytes(draws.randint(1, LONGEST_PIECE_BYTES))
    return bytes(changed)
