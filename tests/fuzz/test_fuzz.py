"""Every decoder on damaged input: a little of it always, for long in the soak. ``python -m tests.fuzz`` has a table."""

import secrets

import pytest

from tests.fuzz import runner
from tests.fuzz.runner import HEAD, fuzz
from tests.fuzz.targets import TARGETS, Decoder, Target

SEED, EXECUTIONS = 20260, 100
SOAK_S = 120.0
EACH = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@EACH
def test_nothing_but_its_own_error_comes_out(target: Target) -> None:
    result = fuzz(target, SEED, executions=EXECUTIONS)
    assert result.findings == {}
    assert result.executions == EXECUTIONS


@pytest.mark.soak
@EACH
def test_nothing_but_its_own_error_comes_out_for_long(target: Target, capsys: pytest.CaptureFixture[str]) -> None:
    seed = secrets.randbits(32)
    result = fuzz(target, seed, seconds=SOAK_S)
    with capsys.disabled():
        print(f"\n{HEAD}\n{result.row}   seed {seed}")
    assert result.findings == {}


@pytest.mark.parametrize("target", [one for one in TARGETS if isinstance(one, Decoder)], ids=lambda target: target.name)
def test_the_seeds_are_valid(target: Decoder) -> None:
    assert target.inputs()
    for seed in target.inputs():
        target.take(seed)


def test_a_fault_is_found_with_the_input_that_shows_it() -> None:
    def take(data: bytes) -> None:
        if data[-1:] == b"\xff":
            raise KeyError(7)

    result = fuzz(Decoder("faulty", lambda: [bytes(8)], take), SEED, executions=1000)
    ((cause, told),) = result.findings.items()
    assert cause.startswith("KeyError in take, line ")
    assert told.startswith("7; fed: ")
    assert told.endswith("ff")


def test_what_does_not_come_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(_data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(runner, "HANG_S", 0.05)
    assert list(fuzz(Decoder("endless", lambda: [b"x"], take), SEED, executions=1).findings) == ["hang"]
