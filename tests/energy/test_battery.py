"""Battery life: the projection against hand calculation and Monte Carlo, and the usage profiles that ship."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from rig.energy import Contribution, Measurement
from rig.energy.battery import DAY_S, YEAR_S, Life, UsageProfile, load_usage, project
from rig.energy.measurement import coverage_factor, measured
from rig.errors import ConfigError
from rig.testplans import USAGE

VOLTAGE_V = 3.3
PROFILE = {
    "title": "a node",
    "source": "this test",
    "battery": {"capacity_mah": 2400, "usable_share": 0.8, "cutoff_v": 3.0, "self_discharge_percent_per_year": 0},
    "sleep": "deep_sleep_current",
    "wakes_per_day": 0,
    "messages_per_wake": 0,
    "bytes_per_message": 0,
    "handshakes_per_day": {"full": 24},
}


def profile(**changes: object) -> UsageProfile:
    return UsageProfile.model_validate({**PROFILE, **changes})


def figure(name: str, value: float, unit: str, *budget: Contribution) -> Measurement:
    return measured(name, value, unit, budget or (Contribution("meter gain", 0.001 * value, unit, "B"),))


def figures(*more: Measurement) -> dict[str, Measurement]:
    known = [
        figure("deep_sleep_current", 5e-6, "A"),
        figure("handshake_energy", 0.120, "J"),
        figure("wake_energy", 0.1, "J"),
        figure("request_energy", 0.006, "J"),
        figure("idle_current", 0.021, "A"),
        *more,
    ]
    return {one.name: one for one in known}


def life(usage: UsageProfile, known: dict[str, Measurement]) -> Life:
    found = project(usage, known, VOLTAGE_V)
    assert found.missing == ()
    assert found.life is not None
    return found.life


def test_a_node_that_sleeps_and_shakes_hands() -> None:
    found = life(profile(), figures())
    handshakes_a = 24 * 0.120 / VOLTAGE_V / DAY_S
    assert found.current_a == pytest.approx(5e-6 + handshakes_a)
    assert found.years == pytest.approx(14.5, abs=0.05)
    assert {one.part: one.share for one in found.shares} == {
        "sleep": pytest.approx(5e-6 / found.current_a),
        "handshakes": pytest.approx(handshakes_a / found.current_a),
        "self-discharge": 0.0,
    }


def test_self_discharge_takes_its_share_of_the_nominal_capacity() -> None:
    found = life(profile(battery={**PROFILE["battery"], "self_discharge_percent_per_year": 1}), figures())  # type: ignore[dict-item]
    assert found.years == pytest.approx(12.3, abs=0.05)
    (lost,) = [one for one in found.shares if one.part == "self-discharge"]
    assert lost.current_a == pytest.approx(2.7e-6, abs=0.05e-6)
    assert sum(one.share for one in found.shares) == pytest.approx(1.0)


def test_every_part_of_a_day_counts() -> None:
    usage = profile(wakes_per_day=96, messages_per_wake=2, idle_s_per_wake=0.5)
    found = life(usage, figures())
    per_day_c = 24 * 0.120 / VOLTAGE_V + 96 * 0.1 / VOLTAGE_V + 192 * 0.006 / VOLTAGE_V + 96 * 0.5 * 0.021
    per_day_c += (DAY_S - 48) * 5e-6
    assert found.current_a == pytest.approx(per_day_c / DAY_S)
    assert {one.part for one in found.shares} == {"sleep", "wake", "handshakes", "messages", "idle", "self-discharge"}


def test_a_share_tells_what_more_of_it_costs() -> None:
    found = life(profile(), figures())
    (handshakes,) = [one for one in found.shares if one.part == "handshakes"]
    more = life(profile(), figures(figure("handshake_energy", 0.120 * 1.001, "J")))
    assert found.years - more.years == pytest.approx(0.1 * handshakes.years_per_percent, rel=0.01)


def test_the_gain_of_one_meter_adds_linearly_and_spreads_add_in_squares() -> None:
    sleep_a, handshakes_a = 5e-6, 24 * 0.120 / VOLTAGE_V / DAY_S

    def with_budget(make: Callable[[float, str], Contribution]) -> Life:
        sleep = figure("deep_sleep_current", 5e-6, "A", make(5e-6, "A"))
        return life(profile(), figures(sleep, figure("handshake_energy", 0.120, "J", make(0.120, "J"))))

    shared = with_budget(lambda value, unit: Contribution("meter gain", 0.01 * value, unit, "B"))
    assert shared.expanded_uncertainty_a == pytest.approx(2 * 0.01 * (sleep_a + handshakes_a))
    spread = with_budget(lambda value, unit: Contribution("spread", 0.01 * value, unit, "A", False, 4))
    parts = [0.01 * sleep_a, 0.01 * handshakes_a]
    freedom = math.hypot(*parts) ** 4 / sum(part**4 / 4 for part in parts)
    assert spread.k == coverage_factor(freedom)
    assert spread.expanded_uncertainty_a == pytest.approx(spread.k * math.hypot(*parts))


def test_the_interval_covers_what_the_errors_do() -> None:
    truth_years = life(profile(), figures()).years
    draws = np.random.default_rng(5)
    covered = 0
    for _ in range(2000):
        gain = draws.normal(0, 0.01)
        spreads = draws.normal(0, 0.02, 2)
        budgets = [
            (
                Contribution("meter gain", 0.01 * value, unit, "B"),
                Contribution("spread", 0.02 * value, unit, "A", False),
            )
            for value, unit in ((5e-6, "A"), (0.120, "J"))
        ]
        sleep = figure("deep_sleep_current", 5e-6 * (1 + gain + spreads[0]), "A", *budgets[0])
        shake = figure("handshake_energy", 0.120 * (1 + gain + spreads[1]), "J", *budgets[1])
        found = life(profile(), figures(sleep, shake))
        covered += found.low_years <= truth_years <= found.high_years
    assert 0.94 <= covered / 2000 <= 0.97


def test_what_is_not_known_makes_the_projection_incomplete_and_is_named() -> None:
    usage = profile(wakes_per_day=24, messages_per_wake=1, message="non-confirmable", handshakes_per_day={"resumed": 1})
    without = {**figures(), "wake_energy": Measurement("wake_energy", 0.1, "J", None, None, ())}
    found = project(usage, without, VOLTAGE_V)
    assert found.life is None
    assert found.missing == ("wake_energy", "resumed_handshake_energy", "non_confirmable_request_energy")


def test_what_does_not_fit_into_a_datagram_costs_by_the_kilobyte() -> None:
    blocks = figure("blockwise_energy_per_kilobyte", 0.004, "J/kB")
    usage = profile(wakes_per_day=24, messages_per_wake=1, bytes_per_message=5000)
    found = life(usage, figures(blocks))
    (messages,) = [one for one in found.shares if one.part == "messages"]
    assert messages.current_a == pytest.approx(24 * 5 * 0.004 / VOLTAGE_V / DAY_S)


def test_a_device_that_stays_in_its_network_pays_no_wake() -> None:
    found = life(profile(sleep="idle_current", wakes_per_day=8640, messages_per_wake=1), figures())
    assert {one.part for one in found.shares} == {"sleep", "handshakes", "messages", "self-discharge"}
    assert found.years * YEAR_S / DAY_S == pytest.approx(3.8, abs=0.1)


def test_an_uncertainty_as_large_as_the_current_leaves_no_upper_bound() -> None:
    doubtful = figure("deep_sleep_current", 5e-6, "A", Contribution("meter offset", 1e-4, "A", "B"))
    assert life(profile(), figures(doubtful)).high_years == math.inf


@pytest.mark.parametrize("path", sorted(USAGE.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_profile_is_complete_with_what_the_plan_measures(path: Path) -> None:
    found = life(load_usage(path), figures())
    assert found.low_years <= found.years <= found.high_years


def test_the_classic_deployments_ship() -> None:
    counts = {path.stem: load_usage(path).devices for path in USAGE.glob("*.yaml")}
    assert counts == {"patient-monitor": 800, "wearable": 200, "soil-sensor": 500, "smart-meter": 1, "hvac-node": 1}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"wakes_per_dy": 3}, "wakes_per_dy"),
        ({"sleep": "hibernation"}, "sleep"),
        ({"wakes_per_day": 8640, "idle_s_per_wake": 11}, "more than a day"),
        ({"battery": {**PROFILE["battery"], "usable_share": 1.2}}, "battery.usable_share"),  # type: ignore[dict-item]
    ],
)
def test_a_mistake_in_a_profile_is_told_with_its_place(tmp_path: Path, change: dict[str, object], told: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**PROFILE, **change}))
    with pytest.raises(ConfigError, match=told) as error:
        load_usage(path)
    assert str(error.value).startswith(f"{path}:")
