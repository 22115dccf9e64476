"""The event log of the instrument: errors, warnings and information in one queue."""

from collections import deque

from rig.virtual.meter.scpi import ScpiError
from rig.virtual.meter.status import ERROR_QUEUE_SIZE, STB_ERROR_QUEUE, Status

ERROR, WARNING, INFORMATION = 1, 2, 4
_STAMP = "2026/01/01 00:00:00.000"


class KeithleyStatus(Status):
    """``SYST:ERR?`` gives the errors of the log, ``SYST:EVEN:NEXT?`` what is asked for.

    What is older than the entry that was given is not seen any more (DMM7510 reference manual, page 6-142).
    """

    def __init__(self) -> None:
        super().__init__()
        self._log: deque[tuple[int, str, int]] = deque()
        self._reported: set[int] = set()

    def add_error(self, error: ScpiError) -> None:
        self.mark(error.code)
        self._add(error.code, error.text, ERROR)

    def report_once(self, code: int, text: str, kind: int) -> None:
        """Log an event that is not the answer to a command, once in a run."""
        if code not in self._reported:
            self._reported.add(code)
            self._add(code, text, kind)

    def forget_reported(self) -> None:
        self._reported.clear()

    def next_error(self) -> str:
        return self.next_event(ERROR)

    def next_event(self, kinds: int) -> str:
        """Return and remove the oldest entry of *kinds* (a sum of ERROR, WARNING, INFORMATION)."""
        for index, (code, text, kind) in enumerate(self._log):
            if kind & kinds:
                for _ in range(index + 1):
                    self._log.popleft()
                return f'{code},"{text};{kind};{_STAMP}"'
        return '0,"No error;0;0 0"'

    def count(self, kinds: int) -> int:
        return sum(bool(kind & kinds) for _, _, kind in self._log)

    def clear(self) -> None:
        super().clear()
        self._log.clear()

    def byte(self) -> int:
        return super().byte() | (STB_ERROR_QUEUE if self.count(ERROR) else 0)

    def _add(self, code: int, text: str, kind: int) -> None:
        if len(self._log) == ERROR_QUEUE_SIZE:
            self._log[-1] = (-350, "Error queue overflow", ERROR)
        else:
            self._log.append((code, text, kind))
