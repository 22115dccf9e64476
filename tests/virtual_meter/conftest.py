"""A desk: a virtual instrument without sockets, its commands, and a clock that the test moves."""

from typing import Any

from rig.virtual.meter.command_set import Wait
from rig.virtual.meter.instrument import VirtualInstrument

MS = 1_000_000


class Desk:
    """An instrument, its commands, and a clock in nanoseconds; a family's desk sets the first two."""

    instrument: VirtualInstrument | Any
    commands: Any

    def __init__(self) -> None:
        self.t_ns = 1_000_000 * MS

    def now_ns(self) -> int:
        return self.t_ns

    def send(self, message: str) -> str:
        """Execute *message*; what waits is waited for by moving the clock."""
        answers = []
        for unit in self.commands.units(message):
            answer = self.commands.execute(unit)
            if isinstance(answer, Wait):
                while not answer.ready():
                    self.t_ns += 10 * MS
                answer = self.commands.finish(answer)
            if answer is not None:
                answers.append(answer.decode("latin-1"))
        return ";".join(answers)

    def current(self, after_ms: float, amps: float) -> None:
        """Let the board draw *amps* from *after_ms* on."""
        self.instrument.timeline.set_current(self.t_ns + round(after_ms * MS), amps)

    def line(self, after_ms: float, level: int) -> None:
        """Let the trigger line be at *level* from *after_ms* on."""
        self.instrument.timeline.set_level(self.t_ns + round(after_ms * MS), level)

    def wait(self, ms: float) -> None:
        """Let time pass at once."""
        self.t_ns += round(ms * MS)

    def pass_ms(self, ms: float) -> None:
        """Let time pass, with the clockwork running."""
        for _ in range(round(ms / 10)):
            self.t_ns += 10 * MS
            self.instrument.advance()
