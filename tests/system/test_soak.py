"""What takes longer than a test run may: the whole plan, again and again, on new boards each time."""

from typing import Any

import pytest


@pytest.mark.soak
@pytest.mark.parametrize("number", range(20))
def test_a_good_device_passes_every_time(number: int, rig: Any, verdicts: Any) -> None:
    del number
    run = rig("demo", "--json")
    assert run.returncode == 0, run.stderr
    assert set(verdicts(run).values()) == {"pass"}
