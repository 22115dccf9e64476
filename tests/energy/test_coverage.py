"""Is the stated uncertainty true? Many instruments, drawn from the accuracy document, against the exact charge."""

from pathlib import Path

import numpy as np
import pytest

from rig.energy import Measurement, Supply, Waveform, charge, energy, mean_of_readings
from rig.evidence.verdicts import Limit, State, decide
from rig.meter import load_accuracy
from rig.virtual.meter.specification import Specimen, draw_specimen
from rig.virtual.meter.timeline import Timeline
from rig.virtual.meter.truevolt.sampler import Acquisition, ReadingMemory, Setup, Source

DOCUMENT = Path("rig/virtual/meter/accuracy-34465a-virtual.yaml")
ACCURACY = load_accuracy(DOCUMENT)
SEEDS = 200
SUPPLY_V = 3.3
LATENCY_HALF_WIDTH_S = 5e-6


def profile(rng: np.random.Generator, start_ns: int, end_ns: int) -> list[tuple[int, float]]:
    """Return changes of the current as a radio makes them: bursts of transmission over receiver and processor."""
    changes, t_ns = [(0, 5e-6)], start_ns
    while t_ns < end_ns:
        changes.append((int(t_ns), float(rng.choice([0.021, 0.028, 0.084, 0.276]))))
        t_ns += int(rng.exponential(2e6)) + 20_000
    return [*changes, (end_ns, 5e-6)]


def truth(changes: list[tuple[int, float]], start_ns: int, end_ns: int) -> tuple[float, float]:
    """Return the integrals of the current and of its square between two instants."""
    total = np.zeros(2)
    for (t_ns, amps), (next_ns, _) in zip(changes, [*changes[1:], (1 << 60, 0.0)], strict=True):
        seconds = max(min(next_ns, end_ns) - max(t_ns, start_ns), 0) * 1e-9
        total += seconds * np.array((amps, amps**2))
    return float(total[0]), float(total[1])


def record(
    specimen: Specimen,
    rng: np.random.Generator,
    changes: list[tuple[int, float]],
    range_a: float,
    setup_s: tuple[float, int],
) -> Waveform:
    """Let *specimen* record *changes* from its trigger at 0.1 s on, with an aperture and a count."""
    interval_s, count = setup_s
    timeline, memory = Timeline(), ReadingMemory(2_000_000)
    for t_ns, amps in changes:
        timeline.set_current(t_ns, amps)
    timeline.set_level(100_000_000, 1)
    host_ns = interval_s * 1e9 * (1 + specimen.clock_error)
    setup = Setup(
        channel=specimen.channel(range_a),
        aperture_s=interval_s,
        aperture_ns=host_ns,
        interval_ns=host_ns,
        count=count,
        pretrigger=0,
        triggers=1,
        source=Source.EXTERNAL,
        rising=True,
        level_a=0.0,
        delay_ns=0.0,
        latency_ns=specimen.trigger_latency_ns,
    )
    acquisition = Acquisition(setup, timeline, memory, 50_000_000, rng)
    acquisition.advance(10_000_000_000)
    assert acquisition.done
    accuracy = ACCURACY.of_range(range_a, interval_s)
    samples = memory.all().astype(np.float32)
    recorded = Waveform(samples, interval_s, interval_s, (range_a,), (accuracy,), trigger_index=0, trigger_lag_s=5e-6)
    return recorded.aligned(0.1, LATENCY_HALF_WIDTH_S)


def deviation(measurement: Measurement, true_value: float) -> float:
    """Return the error in units of the stated expanded uncertainty."""
    assert measurement.expanded_uncertainty is not None
    return (measurement.value - true_value) / measurement.expanded_uncertainty


def one_charge_and_energy(seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    specimen = draw_specimen(DOCUMENT, rng)
    start_ns, end_ns = 150_000_000, 300_000_000 + int(rng.uniform(0, 1e8))
    changes = profile(rng, 120_000_000, 450_000_000)
    window = record(specimen, rng, changes, 1.0, (20e-6, 20_000)).window(start_ns * 1e-9, end_ns * 1e-9)
    charge_c, square_a2s = truth(changes, start_ns, end_ns)
    energy_j = SUPPLY_V * charge_c - specimen.channel(1.0).series_ohm * square_a2s
    found = energy("energy", window, Supply(SUPPLY_V))
    return deviation(charge("charge", window), charge_c), deviation(found, energy_j)


def one_floor(seed: int) -> float:
    rng = np.random.default_rng(seed)
    specimen = draw_specimen(DOCUMENT, rng)
    current_a = float(rng.uniform(2e-6, 20e-6))
    readings = record(specimen, rng, [(0, current_a)], 100e-6, (0.02, 25))
    return deviation(mean_of_readings("floor", readings), current_a)


def assert_honest(deviations: np.ndarray) -> None:
    """At least 95 % inside, and not by stating far too much: the typical error is a good part of the statement."""
    assert np.mean(np.abs(deviations) <= 1) >= 0.95
    assert np.sqrt(np.mean(deviations**2)) == pytest.approx(0.5, abs=0.2)


def test_charge_and_energy_are_within_their_stated_uncertainty() -> None:
    deviations = np.array([one_charge_and_energy(seed) for seed in range(SEEDS)])
    assert_honest(deviations[:, 0])
    assert_honest(deviations[:, 1])


def test_a_sleep_floor_is_within_its_stated_uncertainty() -> None:
    assert_honest(np.array([one_floor(seed) for seed in range(SEEDS)]))


def floor_of_5_microampere(seed: int, range_a: float) -> Measurement:
    rng = np.random.default_rng(seed)
    specimen = draw_specimen(DOCUMENT, rng)
    return mean_of_readings("floor", record(specimen, rng, [(0, 5e-6)], range_a, (0.02, 50)))


def test_deep_sleep_is_within_two_percent_on_a_suitable_range() -> None:
    limit = Limit("floor", "A", max=10e-6)
    for seed in range(SEEDS // 4):
        floor = floor_of_5_microampere(seed, 100e-6)
        assert floor.expanded_uncertainty is not None
        assert floor.value == pytest.approx(5e-6, rel=0.02)
        assert floor.expanded_uncertainty < 0.02 * 5e-6
        assert decide(floor.value, floor.expanded_uncertainty, limit).state is State.PASS


def test_deep_sleep_on_an_unsuitable_range_is_a_value_with_its_uncertainty_and_no_verdict() -> None:
    for seed in range(20):
        floor = floor_of_5_microampere(seed, 1.0)
        assert floor.expanded_uncertainty is not None
        assert abs(floor.value - 5e-6) <= floor.expanded_uncertainty
        assert floor.expanded_uncertainty > 100e-6
        found = decide(floor.value, floor.expanded_uncertainty, Limit("floor", "A", max=10e-6))
        assert found.state is State.INCONCLUSIVE
        assert "too large to judge" in found.reason
