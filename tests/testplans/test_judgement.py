"""What the plans judge by: each rule on observations of a device that ought to fail it."""

import base64
import random

import pytest

from rig.dtls.coap import Message, OptionNumber, Type
from rig.testplans.coap.test_observe import _rises
from rig.testplans.coap.test_retransmission import _as_specified, most_alike, too_many_alike
from rig.testplans.resilience.test_loss import wilson_lower_bound
from rig.testplans.security.test_timing import _doubles, _typical
from rig.testplans.security.test_wire import _places

CANARY = "canary0123456789abcdef"


FIRSTS, RATIOS, RETRANSMISSIONS = [2.0, 2.3, 2.6, 3.0, 2.2], [2.0, 1.95, 2.05], [4, 4]


@pytest.mark.parametrize(
    ("firsts", "ratios", "retransmissions", "met"),
    [
        (FIRSTS, RATIOS, RETRANSMISSIONS, True),
        ([*FIRSTS, 3.5], RATIOS, RETRANSMISSIONS, True),
        ([*FIRSTS, 3.5, 3.5], RATIOS, RETRANSMISSIONS, False),
        ([2.0, 2.01, 2.0, 2.02, 2.0], RATIOS, RETRANSMISSIONS, False),
        ([2.0, 2.42, 2.01, 2.0, 2.0, 2.41, 2.0, 2.0], RATIOS, RETRANSMISSIONS, False),
        ([1.0, 1.2, 1.4, 1.5, 1.1], RATIOS, RETRANSMISSIONS, False),
        (FIRSTS, [1.0, 1.0, 1.0], RETRANSMISSIONS, False),
        (FIRSTS, RATIOS, [4, 9], False),
        (FIRSTS, RATIOS, [3, 4], False),
        ([], [], [], False),
    ],
)
def test_retransmission_as_specified(
    firsts: list[float], ratios: list[float], retransmissions: list[int], met: bool
) -> None:
    assert _as_specified(firsts, ratios, retransmissions) is met


def test_the_chance_that_first_intervals_of_a_right_device_are_alike() -> None:
    draws = random.Random(1)
    for samples in (5, 8):
        runs = ([draws.uniform(2, 3) for _ in range(samples)] for _ in range(20_000))
        alarms = sum(most_alike(firsts) >= too_many_alike(samples) for firsts in runs)
        assert alarms <= 3
    assert too_many_alike(8) == 6
    assert too_many_alike(0) == 1


@pytest.mark.parametrize(
    ("intervals", "met"),
    [
        ([1.0, 2.0, 4.0, 8.0], True),
        ([1.0, 2.0], True),
        ([9.0, 18.0], True),
        ([1.0], False),
        ([], False),
        ([1.0, 1.0, 1.0], False),
        ([2.0, 4.0, 8.0], False),
        ([1.0, 2.0, 4.0, 4.0], False),
    ],
)
def test_timers_of_a_handshake(intervals: list[float], met: bool) -> None:
    assert _doubles(intervals) is met


@pytest.mark.parametrize(
    ("handshakes", "typical"),
    [
        ([[1.4, 1.6], [1.0, 2.0], [1.0, 2.0]], [1.0, 2.0]),
        ([[1.4, 1.6], [1.0, 2.0], [None, 2.0]], [None, 2.0]),
        ([[None, 2.0], [1.0, 2.0], [None, None]], [1.0, 2.0]),
        ([[None], [None], [None]], [None]),
        ([[1.0, 2.0], [1.0], [1.0]], [1.0]),
    ],
)
def test_a_copy_that_was_held_up_does_not_count(
    handshakes: list[list[float | None]], typical: list[float | None]
) -> None:
    assert _typical(handshakes) == typical


@pytest.mark.parametrize(
    ("values", "met"), [([2, 3, 7], True), ([2**24 - 1, 0], True), ([2, 2], False), ([3, 2], False)]
)
def test_observe_values_rise_modulo_their_24_bits(values: list[int], met: bool) -> None:
    told = [Message(Type.CON, 0x45, 1, options=((OptionNumber.OBSERVE, value.to_bytes(3, "big")),)) for value in values]
    assert _rises(told) is met


@pytest.mark.parametrize("before", ["", "x", "xy"])
@pytest.mark.parametrize(
    "encode",
    [str.encode, lambda text: text.encode().hex().encode(), lambda text: base64.b64encode(text.encode())],
    ids=["text", "hexadecimal", "base64"],
)
def test_a_canary_is_found_however_it_is_written(encode, before: str) -> None:
    leak = b"\x17\xfe\xfd" + encode(before + CANARY + "after")
    assert list(_places([b"nothing", leak], CANARY)) == [2]


def test_a_packet_without_the_canary_is_not_suspected() -> None:
    assert not list(_places([CANARY[:-1].encode(), bytes(range(256))], CANARY))


def test_the_bound_of_a_success_rate() -> None:
    assert wilson_lower_bound(20, 20) == pytest.approx(0.881, abs=0.001)
    assert wilson_lower_bound(16, 20) < 0.64
    assert wilson_lower_bound(0, 20) == pytest.approx(0, abs=1e-9)
