"""What the energy plan makes of single measurements: cycles, shares and rises."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from rig.energy import Contribution, Mark, Measurement, Phase, RangeAccuracy, Waveform
from rig.energy.measurement import measured
from rig.meter import Floor
from rig.router import Capture
from rig.testplans.energy.test_cycle import Woken, _cycle, _rise
from rig.testplans.energy.test_exchanges import _bursts
from rig.testplans.energy.windows import per

BOARD_PORT = 5684
GAIN_REL = 0.001


def accuracy(range_a: float) -> RangeAccuracy:
    return RangeAccuracy("a test", range_a, GAIN_REL, 1e-4 * range_a, 1e-6 * range_a, 10.0, 0.3, 0.003)


def recorded(current_a: float, range_a: float, count: int, interval_s: float, spread_a: float = 0.0) -> Waveform:
    samples = current_a + spread_a * np.where(np.arange(count) % 2, 1.0, -1.0)
    return Waveform(samples.astype(np.float32), interval_s, interval_s, (range_a,), (accuracy(range_a),), t0_s=100.0)


def floor(current_a: float, range_a: float = 100e-6) -> Floor:
    return Floor(recorded(current_a, range_a, 50, 0.02, spread_a=1e-9), (), 100.0, 101.0, 101.1, 1.0)


def woken(current_a: float) -> Woken:
    waveform = recorded(current_a, 1.0, 5000, 200e-6)
    return Woken(waveform, Phase("awake", Mark("ROM", 100.1), Mark("sleep", 100.9)), woke_s=100.1, slept_s=100.9)


def of(source: str, measurement: Measurement) -> float:
    return sum(row.standard_uncertainty for row in measurement.budget if row.source == source)


def test_a_cycle_is_asleep_at_the_floors_current_and_awake_at_its_own() -> None:
    found = _cycle(floor(5e-6), woken(40e-3), slept_s=96.9)
    assert found.value == pytest.approx((0.8 * 40e-3 + 3.2 * 5e-6) / 4.0, rel=1e-6)
    assert found.ranges_a == (100e-6, 1.0)


def test_the_gain_of_sleeping_and_waking_adds_linearly() -> None:
    found = _cycle(floor(5e-6), woken(40e-3), slept_s=96.9)
    assert of("meter gain", found) == pytest.approx(GAIN_REL * found.value, rel=1e-3)


def test_what_one_range_does_wrong_drops_out_of_a_rise() -> None:
    found = _rise(floor(5e-6), floor(6e-6))
    assert found.value == pytest.approx(1e-6, rel=1e-3)
    # The offset is 10 nA; what is left is the gain's error of the rise and the readings' spread.
    assert found.expanded_uncertainty == pytest.approx(2 * GAIN_REL * 1e-6, rel=0.05)


def test_a_rise_over_two_ranges_keeps_the_offsets_of_both() -> None:
    found = _rise(floor(5e-6), floor(800e-6, 10e-3))
    assert found.value == pytest.approx(795e-6, rel=1e-3)
    assert found.expanded_uncertainty is not None
    assert found.expanded_uncertainty > 2 * 1e-6


def test_a_measurement_by_the_kilobyte_keeps_its_relative_uncertainty() -> None:
    whole = measured("transfer", 0.0064, "J", (Contribution("meter gain", 64e-6, "J", "B"),))
    each = per(whole, "transfer_per_kilobyte", 2.048, "J/kB")
    assert (each.value, each.unit, each.k) == (pytest.approx(0.003125), "J/kB", whole.k)
    assert each.expanded_uncertainty == pytest.approx(0.02 * each.value)
    assert of("meter gain", each) == pytest.approx(0.01 * each.value)


@dataclass(frozen=True)
class Seen:
    t_s: float
    side: str
    source: tuple[str, int]
    destination: tuple[str, int]


class Recording:
    def __init__(self, *seen: Seen) -> None:
        self._seen = seen

    def packets(self) -> list[Any]:
        return list(self._seen)


def test_packets_of_one_value_are_one_burst() -> None:
    board, client = ("127.0.0.2", BOARD_PORT), ("127.0.0.1", 40000)
    times_s = (1.0, 1.002, 1.25, 1.2503, 1.2506, 1.5)
    seen = [Seen(t_s, "board", *((board, client) if n % 2 else (client, board))) for n, t_s in enumerate(times_s)]
    elsewhere = [Seen(1.1, "client", client, board), Seen(1.1, "board", ("127.0.0.3", 1), client)]
    recording = cast(Capture, Recording(*sorted([*seen, *elsewhere], key=lambda one: one.t_s)))
    assert _bursts(recording, BOARD_PORT, 0.125) == [(1.0, 1.002), (1.25, 1.2506), (1.5, 1.5)]
