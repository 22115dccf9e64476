"""The relay's netem as a queue: statistics, determinism, book-keeping. No socket, no clock but the test's."""

import math
from itertools import pairwise
from statistics import mean, median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.formats.impairment import GilbertElliott, Impairment
from rig.virtual.relay.netem import FRAME_OVERHEAD_BYTES, Counters, Netem

MS = 1_000_000


class Line:
    """A queue with what came out of it: (time, packet number or payload)."""

    def __init__(self, impairment: Impairment) -> None:
        self.now_ns = 0
        self.out: list[tuple[int, bytes]] = []
        self.netem: Netem[None] = Netem(self._send)
        self.netem.configure(impairment)

    def _send(self, _: None, payload: bytes) -> bool:
        self.out.append((self.now_ns, payload))
        return True

    def offer(self, count: int, spacing_ns: int = MS, size: int = 4) -> None:
        """Offer numbered packets, releasing what is due exactly when it is due."""
        for number in range(count):
            self.run_until(self.now_ns + spacing_ns)
            self.netem.offer(self.now_ns, None, number.to_bytes(size, "big"))

    def run_until(self, end_ns: int) -> None:
        while (due_ns := self.netem.next_due_ns) is not None and due_ns <= end_ns:
            self.now_ns = max(self.now_ns, due_ns)
            self.netem.release(self.now_ns)
        self.now_ns = end_ns

    def numbers(self) -> list[int]:
        return [int.from_bytes(payload, "big") for _, payload in self.out]


def delays_ms(impairment: Impairment, count: int = 5000) -> list[float]:
    line = Line(impairment)
    line.offer(count)
    line.run_until(line.now_ns + 10**11)
    return [t_ns / MS - (int.from_bytes(payload, "big") + 1) for t_ns, payload in line.out]


def reconciled(counters: Counters) -> bool:
    return counters.offered + counters.duplicated == counters.passed + counters.dropped + counters.queued


def assert_share(found: int, count: int, share: float) -> None:
    assert abs(found - count * share) <= 4 * math.sqrt(count * share * (1 - share))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("loss", [1, 10, 50])
def test_random_loss(seed: int, loss: float) -> None:
    line = Line(Impairment(loss=loss, seed=seed))
    line.offer(10_000)
    assert_share(line.netem.counters.dropped, 10_000, loss / 100)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", [GilbertElliott(1, 25), GilbertElliott(1, 10, 70, 0.1)])
def test_loss_in_bursts(seed: int, model: GilbertElliott) -> None:
    count = 60_000
    line = Line(Impairment(loss=model, seed=seed))
    line.offer(count)
    # Bursts make the count vary more than independent losses do, by (2 - p - r) / (p + r) at most.
    spread = math.sqrt(count * model.rate * (1 - model.rate) * (200 - model.p - model.r) / (model.p + model.r))
    assert abs(line.netem.counters.dropped - count * model.rate) <= 4 * spread


def test_bursts_are_as_long_as_the_model_says() -> None:
    line = Line(Impairment(loss=GilbertElliott(1, 25), seed=1))
    line.offer(60_000)
    arrived = line.numbers()
    bursts = [after - before - 1 for before, after in pairwise(arrived) if after > before + 1]
    assert mean(bursts) == pytest.approx(4, abs=4 * math.sqrt(12 / len(bursts)))  # geometric with r = 1/4


def test_all_or_nothing_are_exact() -> None:
    everything, nothing = Line(Impairment(loss=100)), Line(Impairment(loss=0))
    everything.offer(500)
    nothing.offer(500)
    assert (len(everything.out), len(nothing.out)) == (0, 500)


def test_the_same_seed_loses_the_same_packets_whatever_the_delay() -> None:
    def survivors(impairment: Impairment) -> list[int]:
        line = Line(impairment)
        line.offer(2000)
        line.run_until(line.now_ns + 10**10)
        return sorted(line.numbers())

    first = survivors(Impairment(loss=5, seed=42))
    assert survivors(Impairment(loss=5, seed=42)) == first
    assert survivors(Impairment(loss=5, delay_s=0.05, jitter_s=0.01, seed=42)) == first
    assert survivors(Impairment(loss=5, seed=43)) != first


def test_configuring_again_starts_the_seed_again() -> None:
    impairment = Impairment(loss=GilbertElliott(10, 30), seed=7)
    line = Line(impairment)
    line.offer(300)
    first = line.numbers()
    line.out.clear()
    line.netem.configure(impairment)
    line.offer(300)
    assert line.numbers() == first


def test_delay_without_jitter_is_exact() -> None:
    assert set(delays_ms(Impairment(delay_s=0.05), 200)) == {50.0}


@pytest.mark.parametrize(
    ("shape", "p1", "p50", "p99", "least", "most"),
    [
        ("uniform", 40.2, 50.0, 59.8, 40, 60),
        ("normal", 26.7, 50.0, 73.3, 10, 90),
        ("pareto", 43.4, 46.8, 90.0, 43.3, 90),
        ("paretonormal", 39.2, 47.6, 85.8, 30, 91),
    ],
)
def test_jitter_has_netems_shapes(shape: str, p1: float, p50: float, p99: float, least: float, most: float) -> None:
    impairment = Impairment.from_dict(
        {"delay_s": 0.05, "jitter_s": 0.01, "distribution": shape, "seed": 1, "limit": 10_000}
    )
    delays = sorted(delays_ms(impairment))
    assert least <= delays[0]
    assert delays[-1] <= most
    assert delays[50] == pytest.approx(p1, abs=2.5)
    assert median(delays) == pytest.approx(p50, abs=0.8)
    assert delays[-50] == pytest.approx(p99, abs=4)


def test_rate_serialises_frames() -> None:
    line = Line(Impairment(rate_bit_s=1_000_000))
    line.offer(20, spacing_ns=1, size=500)
    line.run_until(10**10)
    gaps = {after[0] - before[0] for before, after in pairwise(line.out)}
    assert gaps == {(500 + FRAME_OVERHEAD_BYTES) * 8 * 1000}
    assert line.numbers() == list(range(20))


def test_rate_keeps_jittered_packets_in_line() -> None:
    line = Line(Impairment(delay_s=0.05, jitter_s=0.05, rate_bit_s=10**9, seed=1))
    line.offer(500)
    line.run_until(line.now_ns + 10**10)
    assert line.numbers() == list(range(500))


def test_duplicates() -> None:
    line = Line(Impairment(duplicate=20, seed=3))
    line.offer(5000)
    assert_share(line.netem.counters.duplicated, 5000, 0.2)
    assert len(line.out) == 5000 + line.netem.counters.duplicated


def test_corrupt_flips_exactly_one_bit() -> None:
    line = Line(Impairment(corrupt=10, seed=3))
    line.offer(5000, size=40)
    flipped = [bin(got ^ sent).count("1") for sent, got in enumerate(line.numbers())]
    assert set(flipped) == {0, 1}
    assert sum(flipped) == line.netem.counters.corrupted
    assert_share(sum(flipped), 5000, 0.1)


def test_reorder_sends_every_gap_th_packet_past_the_others() -> None:
    line = Line(Impairment(delay_s=0.01, reorder=100, gap=5))
    line.offer(50)
    line.run_until(10**10)
    assert line.netem.counters.reordered == 10
    at_once = [int.from_bytes(data, "big") for t_ns, data in line.out if t_ns == (int.from_bytes(data, "big") + 1) * MS]
    assert at_once == list(range(4, 50, 5))


def test_limit_drops_what_does_not_fit() -> None:
    line = Line(Impairment(delay_s=0.1, limit=100))
    line.offer(250, spacing_ns=0)
    assert (line.netem.counters.queued, line.netem.counters.dropped) == (100, 150)
    line.run_until(10**9)
    assert line.numbers() == list(range(100))


def test_a_change_in_place_loses_nothing_and_purge_counts_what_it_drops() -> None:
    line = Line(Impairment(delay_s=0.05))
    line.offer(20)
    line.netem.configure(Impairment.none())
    assert line.netem.counters.queued == 20
    line.run_until(10**9)
    assert line.numbers() == list(range(20))
    line.netem.configure(Impairment(delay_s=0.05))
    line.offer(20)
    line.netem.purge()
    assert (line.netem.counters.queued, line.netem.counters.dropped) == (0, 20)
    assert reconciled(line.netem.counters)


@settings(max_examples=50)
@given(
    st.sampled_from([0.0, 30.0, GilbertElliott(20, 40)]),
    st.sampled_from([0.0, 0.01]),
    st.sampled_from([0.0, 50.0]),
    st.sampled_from([0, 100_000]),
    st.integers(0, 1000),
    st.integers(10, 40),
)
def test_the_counters_reconcile_at_any_time(
    loss: float | GilbertElliott, delay_s: float, duplicate: float, rate: int, seed: int, limit: int
) -> None:
    line = Line(Impairment(loss, delay_s, duplicate=duplicate, corrupt=10, rate_bit_s=rate, limit=limit, seed=seed))
    for _ in range(10):
        line.offer(10, spacing_ns=MS // 4)
        assert reconciled(line.netem.counters)
    line.run_until(10**11)
    assert reconciled(line.netem.counters)
    assert line.netem.counters.queued == 0
    assert line.netem.counters.passed == len(line.out)


def test_a_packet_that_cannot_be_sent_is_dropped_not_passed() -> None:
    netem: Netem[None] = Netem(lambda _, __: False)
    netem.offer(0, None, b"x")
    assert (netem.counters.passed, netem.counters.dropped) == (0, 1)
