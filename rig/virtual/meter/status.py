"""An instrument's error queue and status registers (SCPI-99 volume 1, chapter 9)."""

from collections import deque

from rig.virtual.meter.scpi import ERROR_TEXTS, ScpiError

ERROR_QUEUE_SIZE = 20

ESR_OPERATION_COMPLETE = 1
ESR_POWER_ON = 1 << 7
STB_ERROR_QUEUE = 1 << 2
STB_QUESTIONABLE = 1 << 3
STB_EVENT_STATUS = 1 << 5
STB_OPERATION = 1 << 7


class Register:
    """A condition register, its latched events (read clears) and its enable mask."""

    def __init__(self) -> None:
        self.condition = 0
        self.event = 0
        self.enable = 0

    def set_condition(self, bits: int) -> None:
        """Replace the condition; what rises is latched as an event."""
        self.event |= bits & ~self.condition
        self.condition = bits

    def latch(self, bits: int) -> None:
        """Record an event that has no condition."""
        self.event |= bits

    def read_event(self) -> int:
        event, self.event = self.event, 0
        return event


class Status:
    """Error queue, standard event register, questionable and operation registers."""

    def __init__(self) -> None:
        self.questionable = Register()
        self.operation = Register()
        self.standard_event = ESR_POWER_ON
        self.standard_event_enable = 0
        self.service_request_enable = 0
        self.errors: deque[tuple[int, str]] = deque()

    def add_error(self, error: ScpiError) -> None:
        """Append to the queue; a full queue loses the newest and says so (-350)."""
        self.mark(error.code)
        if len(self.errors) == ERROR_QUEUE_SIZE:
            self.errors[-1] = (-350, ERROR_TEXTS[-350])
        else:
            self.errors.append((error.code, error.text))

    def mark(self, code: int) -> None:
        """Set the bit of the standard event register that an error *code* belongs to."""
        self.standard_event |= 1 << (5 if -200 < code < 0 else 4 if -300 < code < 0 else 3)

    def next_error(self) -> str:
        code, text = self.errors.popleft() if self.errors else (0, ERROR_TEXTS[0])
        return f'{code:+d},"{text}"'

    def clear(self) -> None:
        """Act as *CLS: events and errors go, conditions stay."""
        self.questionable.event = self.operation.event = self.standard_event = 0
        self.errors.clear()

    def read_standard_event(self) -> int:
        event, self.standard_event = self.standard_event, 0
        return event

    def byte(self) -> int:
        """Return the status byte."""
        return (
            (STB_ERROR_QUEUE if self.errors else 0)
            | (STB_QUESTIONABLE if self.questionable.event & self.questionable.enable else 0)
            | (STB_EVENT_STATUS if self.standard_event & self.standard_event_enable else 0)
            | (STB_OPERATION if self.operation.event & self.operation.enable else 0)
        )
