"""Starting a virtual bench: a process of its own, of which the rig knows only the ``bench.yaml`` it writes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rig.errors import BenchError

_STOP_TIMEOUT_S = 15.0


@contextmanager
def virtual_bench(
    directory: Path,
    *,
    boards: int = 1,
    fault: str | None = None,
    carrier: str | None = None,
    profile: str = "lab",
    meter: str | None = None,
    temporary: bool = False,
) -> Iterator[Path]:
    """Run a virtual bench while the block runs and give the path of its ``bench.yaml``.

    *carrier* is "firmware", "small-firmware" or "device"; without one the fault decides, and without a fault it is the
    firmware. *profile* "release" gives boards that are programmed and burnt as those of a release. *meter* is the
    driver whose instrument measures the boards; without one it is keysight-34465a.
    The bench dies with this process, however that dies: its lifeline is a pipe. *temporary* lets the bench remove
    *directory* when it ends. Raises BenchError with the bench's own sentence when it does not start.
    """
    command = [sys.executable, "-m", "rig.virtual", "--boards", str(boards), "--dir", str(directory)]
    command += ["--fault", fault] if fault else []
    command += ["--carrier", carrier] if carrier else []
    command += ["--profile", profile]
    command += ["--meter", meter] if meter else []
    command += ["--temporary"] if temporary else []
    # A session of its own: Ctrl-C reaches the rig alone, which then puts the bench in order before it goes.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            yield Path(_ready(process)["bench"])
        finally:
            process.stdin.close()
            _wait_or_kill(process)


def _ready(process: subprocess.Popen[bytes]) -> dict[str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    if not line:
        said = process.stderr.read().decode(errors="replace").strip().splitlines()
        raise BenchError(f"the virtual bench did not start: {said[-1] if said else 'it said nothing'}")
    facts: dict[str, str] = json.loads(line)
    return facts


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
