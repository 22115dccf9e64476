"""The kernel's netem for one direction, as a queue without I/O (semantics: net/sched/sch_netem.c).

Times are nanoseconds of the caller's monotonic clock. The draws come from one generator per purpose, so that the same
seed and packet order lose the same packets whatever the delay is.
"""

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import Generic, TypeVar

from rig.formats.impairment import GilbertElliott, Impairment

Destination = TypeVar("Destination")

# What netem counts beside the payload on an Ethernet port: Ethernet, IPv4 and UDP headers.
FRAME_OVERHEAD_BYTES = 42

_TABLE_END = 4.0
_STANDARD = NormalDist()


@dataclass(slots=True)
class Counters:
    """Packets since the start. At any time offered + duplicated = passed + dropped + queued.

    ``dropped`` is loss, a full queue and a purged one together; ``reordered`` are those sent past the queue.
    """

    offered: int = 0
    passed: int = 0
    dropped: int = 0
    duplicated: int = 0
    corrupted: int = 0
    reordered: int = 0
    queued: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Netem(Generic[Destination]):
    """Takes packets in, and hands them to *send* when they are due; *send* tells whether it could."""

    def __init__(self, send: Callable[[Destination, bytes], bool]) -> None:
        self._send = send
        self._queue: list[tuple[int, int, Destination, bytes]] = []
        self._serial = 0
        self.counters = Counters()
        self.configure(Impairment.none())

    def configure(self, impairment: Impairment) -> None:
        """Put *impairment* in force. Packets in delay keep their time, as at ``tc qdisc replace`` in place."""
        seed = random.SystemRandom().getrandbits(32) if impairment.seed is None else impairment.seed
        draws = {name: random.Random(f"{seed} {name}") for name in ("loss", "delay", "duplicate", "reorder", "corrupt")}
        self.impairment = impairment
        self.seed = seed
        self._draws = draws
        self._lose = _loss_model(impairment, draws["loss"])
        self._jitter = _jitter_model(impairment, draws["delay"])
        self._duplicate = impairment.duplicate / 100
        self._reorder = impairment.reorder / 100
        self._corrupt = impairment.corrupt / 100
        self._delay_ns = round(impairment.delay_s * 1e9)
        self._since_reorder = 0
        self._last_ns = max((item[0] for item in self._queue), default=0)

    def purge(self) -> None:
        """Drop what is in delay, as ``tc qdisc del`` does (and count it, which ``tc`` does not)."""
        self.counters.dropped += len(self._queue)
        self._queue.clear()
        self.counters.queued = 0
        self._last_ns = 0

    def offer(self, now_ns: int, destination: Destination, payload: bytes) -> None:
        """Take one packet in: duplicate, lose, corrupt, delay it."""
        counters = self.counters
        counters.offered += 1
        copies = 1
        if self._duplicate and self._draws["duplicate"].random() < self._duplicate:
            copies += 1
        if self._lose is not None and self._lose():
            copies -= 1
        if copies == 0:
            counters.dropped += 1
            return
        if copies == 2:
            counters.duplicated += 1
            self._offer_copy(now_ns, destination, payload)
        self._enqueue(now_ns, destination, payload)

    def release(self, now_ns: int) -> None:
        """Send everything that is due."""
        queue = self._queue
        while queue and queue[0][0] <= now_ns:
            _, _, destination, payload = heapq.heappop(queue)
            self._emit(destination, payload)
        self.counters.queued = len(queue)

    @property
    def next_due_ns(self) -> int | None:
        """When `release` has work next, or None."""
        return self._queue[0][0] if self._queue else None

    def _offer_copy(self, now_ns: int, destination: Destination, payload: bytes) -> None:
        """netem enqueues the copy anew, without duplicating it again: it can be lost on its own."""
        if self._lose is not None and self._lose():
            self.counters.dropped += 1
        else:
            self._enqueue(now_ns, destination, payload)

    def _enqueue(self, now_ns: int, destination: Destination, payload: bytes) -> None:
        if self._corrupt and payload and self._draws["corrupt"].random() < self._corrupt:
            payload = self._flip(payload)
        if len(self._queue) >= self.impairment.limit:
            self.counters.dropped += 1
            return
        due_ns = self._due_ns(now_ns, len(payload))
        if due_ns <= now_ns and (not self._queue or self._queue[0][0] > now_ns):
            self._emit(destination, payload)
            return
        self._serial += 1
        heapq.heappush(self._queue, (due_ns, self._serial, destination, payload))
        self.counters.queued = len(self._queue)

    def _due_ns(self, now_ns: int, length: int) -> int:
        if self._overtakes():
            self.counters.reordered += 1
            return now_ns
        self._since_reorder += 1
        delay_ns = self._delay_ns
        if self._jitter is not None:
            delay_ns = max(0, delay_ns + self._jitter())
        if not self.impairment.rate_bit_s:
            return now_ns + delay_ns
        # The link is busy until the last packet has left; waiting for it counts towards the delay.
        start_ns = max(now_ns + delay_ns, self._last_ns)
        wire_ns = (length + FRAME_OVERHEAD_BYTES) * 8 * 1_000_000_000 // self.impairment.rate_bit_s
        self._last_ns = start_ns + wire_ns
        return self._last_ns

    def _overtakes(self) -> bool:
        if not self._reorder or self._since_reorder < self.impairment.gap - 1:
            return False
        if self._draws["reorder"].random() >= self._reorder:
            return False
        self._since_reorder = 0
        return True

    def _flip(self, payload: bytes) -> bytes:
        """Flip one bit. A real router's flip is caught by the UDP checksum and becomes a loss that no counter shows;
        this one is sent with a good checksum and reaches DTLS."""
        self.counters.corrupted += 1
        bit = self._draws["corrupt"].randrange(len(payload) * 8)
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    def _emit(self, destination: Destination, payload: bytes) -> None:
        if self._send(destination, payload):
            self.counters.passed += 1
        else:
            self.counters.dropped += 1


def _loss_model(impairment: Impairment, draws: random.Random) -> Callable[[], bool] | None:
    loss = impairment.loss
    if isinstance(loss, GilbertElliott):
        return _gilbert_elliott(loss, draws)
    if not loss:
        return None
    share = loss / 100
    return lambda: draws.random() < share


def _gilbert_elliott(model: GilbertElliott, draws: random.Random) -> Callable[[], bool]:
    """Each packet first draws the next state, then its own loss from the state it found."""
    bad = False

    def lose() -> bool:
        nonlocal bad
        was_bad = bad
        if draws.random() < (model.r if was_bad else model.p) / 100:
            bad = not bad
        return draws.random() < (model.one_minus_h if was_bad else model.one_minus_k) / 100

    return lose


def _jitter_model(impairment: Impairment, draws: random.Random) -> Callable[[], int] | None:
    if not impairment.jitter_s:
        return None
    sigma_ns = impairment.jitter_s * 1e9
    deviate = {"uniform": _uniform, "normal": _normal, "pareto": _pareto, "paretonormal": _pareto_normal}
    shape = deviate[impairment.distribution]
    return lambda: round(sigma_ns * shape(draws))


def _uniform(draws: random.Random) -> float:
    return 2 * draws.random() - 1


def _normal(draws: random.Random) -> float:
    return max(-_TABLE_END, min(_TABLE_END, draws.gauss(0, 1)))


def _pareto(draws: random.Random) -> float:
    return _pareto_at(draws.random())


def _pareto_normal(draws: random.Random) -> float:
    """A quarter normal, three quarters Pareto. netem's table pairs equal ranks of the two, hence one draw."""
    share = draws.random()
    return 0.25 * _STANDARD.inv_cdf(min(max(share, 1e-5), 1 - 1e-5)) + 0.75 * _pareto_at(share)


def _pareto_at(share: float) -> float:
    """netem's table: shape 3 from 1 on, moved by its mean of 1.5, scaled by 4/3, cut off at 4."""
    return min(_TABLE_END, (4 / 3) * (math.pow(1 - share, -1 / 3) - 1.5))
