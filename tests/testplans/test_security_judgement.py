"""What the security plan judges by: its statistics, and what it takes for personal in an identity."""

import random

import pytest

from rig.testplans.security.test_psk import FALSE_ALARM, PAIRS, _published_keys, personal_marks, rank_sum_p_value


def test_the_rank_sum_test_is_exact() -> None:
    # All 20 ways to deal six values out to two groups of three: one has the three smallest ones.
    assert rank_sum_p_value([1, 2, 3], [4, 5, 6]) == pytest.approx(2 / 20)
    assert rank_sum_p_value([1, 2, 4], [3, 5, 6]) == pytest.approx(4 / 20)
    assert rank_sum_p_value([5, 5, 5], [5, 5, 5]) == 1


def test_delays_of_one_distribution_are_told_apart_as_seldom_as_stated() -> None:
    draws = random.Random(1)
    values = [rank_sum_p_value(*([draws.gauss(5, 1) for _ in range(8)] for _ in range(2))) for _ in range(400)]
    assert sum(value < 0.1 for value in values) < 60


def test_delays_that_differ_are_told_apart() -> None:
    draws = random.Random(1)
    first, second = ([draws.gauss(mean, 1) for _ in range(PAIRS)] for mean in (5, 8))
    assert rank_sum_p_value(first, second) < FALSE_ALARM


@pytest.mark.parametrize(
    "identity",
    [
        "ward-3/anna.smith@hospital.example",
        "c3-7c:df:a1:00:00:01",
        "c3-7CDFA1000001",
        "7c-df-a1-00-00-01",
        "call +44 20 7946 0018",
        "078-05-1120",
        "imei356938035643809",
        "patient 4929123456",
        "born 1971-03-31",
        "SN 20391",
        "serial:ab12",
    ],
)
def test_what_names_a_person_or_a_piece_of_hardware_is_found(identity: str) -> None:
    assert personal_marks(identity)


@pytest.mark.parametrize("identity", ["sensor-1", "light-1ee0e8a4", "light-12345678", "Client_identity", "room 4.17"])
def test_what_names_nobody_is_not(identity: str) -> None:
    assert not personal_marks(identity)


def test_the_boards_own_mac_is_found_in_any_shape() -> None:
    assert personal_marks("light-a10203", "7c:df:a1:a1:02:03") == ["the device's own MAC address"]
    assert not personal_marks("light-a10204", "7c:df:a1:a1:02:03")


def test_published_keys_are_read_with_their_sources() -> None:
    keys = dict(_published_keys())
    assert keys["an empty key (no key at all)"] == b""
    assert b"secret-key" in keys.values()
    assert len(set(keys.values())) == len(keys)
