"""What is tried to bring a board back that does not answer: each step with what came of it, told when it is over."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from rig.board.power import PowerSwitch, cycle
from rig.board.serialport import SerialPort
from rig.clock import now_s
from rig.errors import BenchError

# A chip's own USB port is gone while the chip sleeps, and one that the board feeds takes seconds to come back after its
# power did. A board whose power can be switched is not left to its sleep for so long.
PORT_WAIT_S = 15.0
SHORT_PORT_WAIT_S = 3.0
_RETRY_S = 0.1


@dataclass(frozen=True)
class Step:
    """One thing that was tried. ``number`` counts from 1 in each recovery; ``at_s``: when it was over, rig's clock."""

    number: int
    action: str
    outcome: str
    at_s: float


OnStep = Callable[[Step], None]


class Recovery:
    """One attempt at reaching a board: what may be used for it, and the steps it took.

    *power*: the switch of the board's supply, if there is one. *on_step* is told each step when it is over.
    """

    def __init__(self, power: PowerSwitch | None = None, on_step: OnStep | None = None) -> None:
        self.power = power
        self.steps: list[Step] = []
        self._on_step = on_step

    def tell(self, action: str, outcome: str) -> None:
        """Note a step that is over."""
        step = Step(len(self.steps) + 1, action, outcome, now_s())
        self.steps.append(step)
        if self._on_step is not None:
            self._on_step(step)

    def power_cycle(self) -> bool:
        """Switch the board's supply off and on; False where there is no switch, or it failed."""
        if self.power is None:
            return False
        try:
            cycle(self.power)
        except BenchError as error:
            self.tell("power cycle", str(error))
            return False
        self.tell("power cycle", "done")
        return True

    def story(self) -> str:
        """Return all steps in one line; those in a row that ended alike are told together."""
        groups = itertools.groupby(self.steps, key=lambda step: step.outcome)
        return "; ".join(f"{', '.join(step.action for step in steps)}: {outcome}" for outcome, steps in groups)


def open_again(port: SerialPort, timeout_s: float) -> None:
    """Open *port* as soon as that succeeds. Raises the BenchError of the last try when *timeout_s* is over."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            return port.open()
        except BenchError:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(_RETRY_S)
