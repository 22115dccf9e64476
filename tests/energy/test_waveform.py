from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.energy import Supply, Waveform, WaveformError
from rig.energy.engine import BLOCK

LONG = np.abs(np.random.default_rng(7).normal(0.05, 0.1, 5 * BLOCK + 777)).astype(np.float32)


def waveform(samples: np.ndarray, interval_s: float = 1e-3, **more: object) -> Waveform:
    return Waveform(samples, interval_s, interval_s, (1.0,), **more)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(st.floats(0, len(LONG) - 1), st.floats(1e-3, len(LONG)))
def test_any_window_agrees_with_brute_force_in_float64(start: float, length: float) -> None:
    end = min(start + length, float(len(LONG)))
    found = waveform(LONG).statistics(start, end)
    index = np.arange(len(LONG))
    weights = np.clip(np.minimum(index + 1, end) - np.maximum(index, start), 0, 1)
    wide = LONG.astype(np.float64)
    assert found.charge_c == pytest.approx(float(weights @ wide) * 1e-3, rel=1e-9, abs=1e-12)
    assert found.square_a2s == pytest.approx(float(weights @ wide**2) * 1e-3, rel=1e-9, abs=1e-12)
    inside = wide[int(np.floor(start)) : int(np.ceil(end))]
    assert (found.min_a, found.max_a) == (inside.min(), inside.max())
    assert found.duration_s == pytest.approx((end - start) * 1e-3)


def test_a_long_sum_of_small_and_large_currents_keeps_its_digits() -> None:
    samples = np.full(3_000_000, 5e-6, np.float32)
    samples[::1000] = 0.335
    assert waveform(samples).whole().statistics.charge_c == pytest.approx(
        1e-3 * float(samples.astype(np.float64).sum()), rel=1e-12
    )


def test_a_memory_mapped_recording_is_read_where_it_is(tmp_path: Path) -> None:
    LONG.tofile(tmp_path / "x.f32")
    mapped = np.memmap(tmp_path / "x.f32", dtype="<f4", mode="r")
    assert waveform(mapped).whole().statistics == waveform(LONG).whole().statistics


def test_energy_is_what_reaches_the_pins() -> None:
    statistics = waveform(np.array([0.1, 0.3], np.float32)).whole().statistics
    expected = ((3.3 - 0.1 * 0.5) * 0.1 + (3.3 - 0.3 * 0.5) * 0.3) * 1e-3
    assert statistics.energy_j(Supply(3.3), 0.5) == pytest.approx(expected, rel=1e-7)


def test_alignment_puts_the_trigger_where_the_caller_says() -> None:
    recorded = waveform(LONG, trigger_index=100, trigger_lag_s=0.5e-3, trigger_lag_uncertainty_s=0.5e-3)
    aligned = recorded.aligned(50.0, 1e-4)
    assert aligned.times_s()[100] == pytest.approx(50.0005)
    assert aligned.t0_uncertainty_s == pytest.approx(6e-4)
    window = aligned.window(50.0005, 50.0015)
    assert window.statistics.charge_c == pytest.approx(float(LONG[100]) * 1e-3, rel=1e-5)


def test_questions_that_have_no_answer_are_refused() -> None:
    with pytest.raises(WaveformError, match="not aligned"):
        waveform(LONG).window(0, 1)
    with pytest.raises(WaveformError, match="no trigger"):
        waveform(LONG).aligned(0.0, 0.0)
    placed = waveform(LONG, t0_s=10.0)
    for start_s, end_s in ((9.0, 10.5), (10.0, 1000.0), (10.5, 10.5), (10.6, 10.5)):
        with pytest.raises(WaveformError, match="not inside"):
            placed.window(start_s, end_s)
    assert placed.window(10.0, 11.0).duration_s == pytest.approx(1.0)
