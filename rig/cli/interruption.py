"""Ctrl-C during a run: never lost, wherever it arrives."""

import signal
from types import FrameType


class Interruption:
    """Raises KeyboardInterrupt when the process is asked to end, and remembers that it was asked.

    Python drops an exception that comes up in a finaliser or in another callback from C. So whoever works in steps asks
    after each one, with `check`.
    """

    def __init__(self) -> None:
        self._asked = False

    def install(self) -> None:
        """Take SIGINT and SIGTERM; a script's shell starts what it puts into the background with SIGINT ignored."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    @property
    def asked(self) -> bool:
        """Whether the process was asked to end."""
        return self._asked

    def check(self) -> None:
        """Raise KeyboardInterrupt if it was asked for before."""
        if self._asked:
            raise KeyboardInterrupt

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        raise KeyboardInterrupt


INTERRUPTION = Interruption()
