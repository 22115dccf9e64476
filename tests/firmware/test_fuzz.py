"""The request handlers, with the real libcoap before them, under mutated requests and gcc's sanitizers."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "firmware" / "host" / "fuzz"
SEED = 3


@pytest.fixture(scope="module")
def fuzz_requests(host_build: Callable[..., Path]) -> Path:
    return host_build("fuzz_requests", "-DSANITIZE=ON")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("corpus")
    environment = os.environ | {"PYTHONPATH": str(FUZZ.parents[2])}
    subprocess.run([sys.executable, FUZZ / "make_corpus.py", directory], check=True, env=environment)
    return directory


def fuzz(program: Path, corpus: Path, runs: int, seed: int, at: Path) -> subprocess.CompletedProcess[str]:
    command = [program, f"-runs={runs}", f"-seed={seed}", corpus]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=at)


def test_valid_requests_leave_the_device_alive(fuzz_requests: Path, corpus: Path) -> None:
    for path in sorted(corpus.iterdir()):
        done = subprocess.run([fuzz_requests, path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{path.name}: {done.stderr}"


def test_mutated_requests_find_nothing(fuzz_requests: Path, corpus: Path, tmp_path: Path) -> None:
    done = fuzz(fuzz_requests, corpus, 30_000, SEED, tmp_path)
    assert done.stdout == "executions: 30000, findings: 0\n", done.stdout + done.stderr


def test_a_finding_is_told_and_its_input_kept(fuzz_requests: Path, tmp_path: Path, corpus: Path) -> None:
    """Here the finding is that the server gets no socket."""
    starved = ["prlimit", "--nofile=4", fuzz_requests, "-runs=10", "-seed=1", corpus]
    done = subprocess.run(starved, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r"finding: crash-1-0\nexecutions: 0, findings: 1\n", done.stdout)
    assert (tmp_path / "crash-1-0").is_file()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 104))
def test_millions_of_mutated_requests(fuzz_requests: Path, corpus: Path, tmp_path: Path, seed: int) -> None:
    done = fuzz(fuzz_requests, corpus, 2_000_000, seed, tmp_path)
    assert done.stdout == "executions: 2000000, findings: 0\n", done.stdout + done.stderr
