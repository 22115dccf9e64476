"""The application's parts that need no libcoap, by the C tests of firmware/host/unit, under gcc's sanitizers."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def unit_tests(host_build: Callable[..., Path]) -> Path:
    return host_build("unit_tests", "-DSANITIZE=ON", "-DPAYLOAD_ENCRYPTION=ON")


@pytest.mark.parametrize("part", ["config", "credentials", "exchanges", "number", "payload", "writer"])
def test_part(unit_tests: Path, part: str) -> None:
    done = subprocess.run([unit_tests, part], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_part_is_run(unit_tests: Path) -> None:
    assert subprocess.run([unit_tests, "no-such-part"], check=False).returncode == 2
    sources = Path(__file__).parents[2] / "firmware" / "host" / "unit"
    parts = {path.stem.removeprefix("test_") for path in sources.glob("test_*.c")}
    marker = next(mark for mark in test_part.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]
    assert parts == set(marker.args[1])
