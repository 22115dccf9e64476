"""``rig capture`` at the full rate of a streaming instrument, killed in the middle."""

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rig.clock import now_s
from rig.energy import load_recording
from rig.energy.recording import load_header, voltage_of
from rig.meter.drivers import Driver

BENCH = """\
boards:
  - {{name: light1, type: network, host: 127.0.0.1, identity: light-1, psk: {{env: NONE}}, meter: smu}}
meters:
  - {{name: smu, driver: rohde-schwarz-ngu201, resource: "{visa}", accuracy: "{accuracy}",
      output: {{voltage_v: 3.3, current_limit_a: 0.5}}}}
"""
DRAWN_A = 0.05
#: The instrument publishes a block of 250 ms, 125 000 samples, at a time: at least one is on disk then.
SOME_BYTES = 4 * 100_000


@pytest.fixture
def driver() -> Driver:
    return "rohde-schwarz-ngu201"


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_what_is_on_disk_when_it_is_killed_is_a_recording(
    kills: int, virtual: Any, board: Any, document: Path, tmp_path: Path
) -> None:
    board.current(DRAWN_A)
    bench, seed = tmp_path / "bench.yaml", random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")
    delays = random.Random(seed)
    bench.write_text(BENCH.format(visa=virtual.visa, accuracy=document), encoding="utf-8")
    for number in range(kills):
        path = tmp_path / f"{number}.f32"
        seen_bytes = killed_capture(bench, path, delays.uniform(0, 0.6))
        read = load_recording(path)
        assert not load_header(path).complete
        assert len(read) >= seen_bytes // 4
        assert read.interval_s == 2e-6
        statistics = read.whole().statistics
        assert statistics.mean_a == pytest.approx(DRAWN_A, rel=0.02)
        assert statistics.sense_j == pytest.approx(3.3 * DRAWN_A * read.duration_s, rel=0.02)
        assert np.abs(read.samples - DRAWN_A).max() < 0.01
        path.unlink()


def killed_capture(bench: Path, path: Path, delay_s: float) -> int:
    """Record without end, kill the process some time after the first block, and return what was seen on disk before."""
    command = [sys.executable, "-m", "rig.cli.main", "capture", str(path), "--bench", str(bench)]
    with subprocess.Popen([*command, "--range", "auto"], stdout=subprocess.DEVNULL) as process:
        until_s = now_s() + 30
        while not (path.exists() and path.stat().st_size >= SOME_BYTES) and now_s() < until_s:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(delay_s)
        seen_bytes = min(path.stat().st_size, voltage_of(path).stat().st_size)
        process.kill()
    assert seen_bytes >= SOME_BYTES
    return seen_bytes
