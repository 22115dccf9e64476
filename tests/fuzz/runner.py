"""Runs a target: for so many inputs, or for so long."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from tests.fuzz.targets import Found, Target

HANG_S = 30.0
"""One input takes microseconds to milliseconds: what has not come back by then never will."""


class Hang(BaseException):
    """A target does not come back; nothing in it that takes errors may take this."""


@dataclass
class Result:
    """What came of a target. ``longest_s`` is the time of its slowest input; ``findings`` one for each cause."""

    name: str
    executions: int = 0
    duration_s: float = 0.0
    longest_s: float = 0.0
    findings: dict[str, str] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """One line of the table."""
        rate = self.executions / self.duration_s if self.duration_s else 0.0
        numbers = f"{self.executions:>10} {rate:>9.0f}/s {self.longest_s * 1000:>9.1f} ms {len(self.findings):>9}"
        return f"{self.name:30} {numbers}"


HEAD = f"{'target':30} {'executions':>10} {'rate':>11} {'slowest':>12} {'findings':>9}"


def fuzz(target: Target, seed: int, *, executions: int | None = None, seconds: float | None = None) -> Result:
    """Give *target* inputs drawn from *seed*, so many or for so long."""
    draws, result = random.Random(seed), Result(target.name)
    started_s = now_s = time.perf_counter()
    while executions is None or result.executions < executions:
        if seconds is not None and now_s - started_s >= seconds:
            break
        try:
            with _watchdog():
                target.once(draws)
        except Found as found:
            result.findings.setdefault(found.cause, str(found))
        except Hang:
            result.findings["hang"] = f"no end after {HANG_S:g} s; execution {result.executions} of seed {seed}"
        before_s, now_s = now_s, time.perf_counter()
        result.executions += 1
        result.longest_s = max(result.longest_s, now_s - before_s)
    result.duration_s = now_s - started_s
    return result


@contextmanager
def _watchdog() -> Iterator[None]:
    def expire(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
