"""A running virtual bench, and the command line as a user calls it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

RIG = [sys.executable, "-m", "rig.cli.main"]
Rig = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def virtual_bench(directory: Path, *options: str) -> Iterator[dict[str, Any]]:
    """Run ``rig virtual`` and give its one board from ``endpoints.json``, with ``bench`` (the bench file) added."""
    command = [*RIG, "virtual", "--json", "--dir", str(directory), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        (board,) = json.loads(Path(ready["endpoints"]).read_text())["boards"]
        yield {**board, "bench": Path(ready["bench"])}
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


@pytest.fixture(scope="module")
def flashed_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A board that is provisioned, flashed and running."""
    with virtual_bench(tmp_path_factory.mktemp("bench")) as board:
        yield board


@pytest.fixture
def virtual_bench_with(tmp_path: Path) -> Callable[..., Any]:
    """Return what runs a virtual bench with the options that it is given."""
    return lambda *options: virtual_bench(tmp_path / "bench", *options)


@pytest.fixture
def blank_board(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A board as new: its flash is empty."""
    with virtual_bench(tmp_path / "bench", "--blank") as board:
        yield board


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[str]:
    """Run a router and give the HOST:PORT of its control connection."""
    config = tmp_path / "relay.json"
    config.write_text(json.dumps({"name": "relay", "host": "127.0.0.1"}))
    command = [sys.executable, "-m", "rig.virtual.relay", "--config", str(config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["control"]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Run the command line in an empty folder and return how it ended."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*RIG, *map(str, arguments)]
        environment = {**os.environ, "COLUMNS": "200"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def verdicts() -> Callable[[subprocess.CompletedProcess[str]], dict[str, str]]:
    """Read the state of each requirement from a run that printed JSON."""

    def read(run: subprocess.CompletedProcess[str]) -> dict[str, str]:
        assert run.stdout, run.stderr
        return {row["requirement"]: row["state"] for row in json.loads(run.stdout)["verdicts"]}

    return read
