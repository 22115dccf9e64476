"""Every decoder on damaged input: a little of it always, for long in the soak. ``python -m tests.fuzz`` has a table."""

import secrets

import pytest

from tests.fuzz.runner import HEAD, fuzz
from tests.fuzz.targets import TARGETS, Target

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
