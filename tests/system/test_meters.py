"""The whole bench with other instruments than the usual one: what feeds the board is on before it is needed."""

from pathlib import Path

import pytest

from rig.bench.config import load_bench
from rig.bench.doctor import examine
from rig.bench.virtual import virtual_bench
from rig.cli.flashing import flash_boards
from rig.virtual.meter.models import MODELS


def test_a_board_that_its_meter_feeds_is_flashed(tmp_path: Path) -> None:
    with virtual_bench(tmp_path / "bench", meter="rohde-schwarz-ngu201") as bench_file:
        flash_boards(bench_file, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("meter", MODELS)
def test_every_instrument_serves_a_bench(meter: str, tmp_path: Path) -> None:
    with virtual_bench(tmp_path / "bench", meter=meter) as bench_file:
        assert [entry.driver for entry in load_bench(bench_file).meters] == [meter]
        flash_boards(bench_file, tmp_path)
        findings = examine(bench_file, tmp_path)
    assert [finding for finding in findings if not finding.ok] == []
