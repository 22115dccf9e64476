"""How late the rig itself runs: a timing verdict is worth nothing where its host could not keep the time."""

import threading
from types import TracebackType
from typing import Self

from rig.clock import now_s

TOLERANCE_SHARE = 0.1
"""A timing verdict needs a host whose lag is at most this share of the tolerance that it judges with."""
_PERIOD_S = 0.005
_WORTH_KEEPING_S = 0.001


class LagMonitor:
    """While it is entered a thread sleeps again and again, and notes how late it wakes.

    What delays this thread (other processes, this one's own work) delays the reading of a datagram as much.
    """

    def __init__(self) -> None:
        self.worst_s = 0.0
        """The largest lateness so far, in seconds."""
        self._late: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lag monitor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def exceeds(self, tolerance_s: float) -> bool:
        """Return whether the lag so far is too large to judge times with *tolerance_s*."""
        return self.worst_s > TOLERANCE_SHARE * tolerance_s

    def around_s(self, t_s: float) -> float:
        """Return the largest lateness in whose course something that was read at *t_s* may have waited."""
        return max((woken - due for due, woken in self._late if due - _PERIOD_S <= t_s <= woken + _PERIOD_S), default=0)

    def _watch(self) -> None:
        due_s = now_s() + _PERIOD_S
        while not self._ended.wait(max(0.0, due_s - now_s())):
            woken_s = now_s()
            self.worst_s = max(self.worst_s, woken_s - due_s)
            if woken_s - due_s > _WORTH_KEEPING_S:
                self._late.append((due_s, woken_s))
            due_s = now_s() + _PERIOD_S
