"""What the plugin costs where it is installed and not used: plain pytest beside it, in one run.

    python -m benchmarks.overhead [--json]

Sessions of one and of many empty tests, round-robin, the shortest of several rounds; the cost of a test is the
difference of the two divided by the difference of their numbers.
"""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.output import run as run_benchmark

ROUNDS = 7
MANY = 400
PLAIN = ("-p", "no:rig.fixtures.plugin")


def measure(scratch: Path) -> dict[str, dict[str, float]]:
    """Return for each case the time of a session with one test and what each further test costs, in seconds."""
    (scratch / "pytest.ini").write_text("[pytest]\n")
    for count in (1, MANY):
        (scratch / f"test_{count}.py").write_text("".join(f"def test_{n}():\n    pass\n" for n in range(count)))
    shortest = {(case, count): float("inf") for case in ("plain pytest", "with the rig") for count in (1, MANY)}
    for _ in range(ROUNDS):
        for case, count in shortest:
            extra = PLAIN if case == "plain pytest" else ()
            shortest[case, count] = min(shortest[case, count], session_s(scratch, f"test_{count}.py", extra))
    return {case: figures(shortest[case, 1], shortest[case, MANY]) for case in ("plain pytest", "with the rig")}


def figures(one_s: float, many_s: float) -> dict[str, float]:
    return {"session_s": round(one_s, 4), "test_s": round((many_s - one_s) / (MANY - 1), 6)}


def session_s(scratch: Path, module: str, extra: tuple[str, ...]) -> float:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *extra, module]
    start_s = time.perf_counter()
    subprocess.run(command, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start_s


def table(result: dict[str, dict[str, float]]) -> str:
    rows = [f"{case:<14} {row['session_s']:>10.3f} s {row['test_s'] * 1e3:>14.3f} ms" for case, row in result.items()]
    return "\n".join([f"{'':<14} {'one test':>12} {'each further':>17}", *rows])


if __name__ == "__main__":
    run_benchmark(__doc__, measure, table)
