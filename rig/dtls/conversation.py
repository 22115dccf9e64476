"""Scripts: generators that yield what to send and how long to wait. A conversation runs one, without any I/O.

A script yields `Send` or `Wait` and is given a `Moment` for it. Whoever runs it has a socket and a clock, or a
simulated peer and simulated time; the script cannot tell.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Send these datagrams, in this order, without a pause."""

    datagrams: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Wait:
    """Go on with the next datagram that comes, or after *for_s* seconds without one; 0 takes what is there already."""

    for_s: float


@dataclass(frozen=True)
class Moment:
    """The caller's time in seconds, and the datagram that came at it, if any."""

    t_s: float
    datagram: bytes | None = None


Script: TypeAlias = Generator[Send | Wait, Moment, T]


class Conversation(Generic[T]):
    """Runs a script: datagrams in with the caller's time, datagrams out.

    next_timeout_s: when to call `timeout` if nothing comes, in the caller's time; None once the script has ended
    """

    def __init__(self, script: Script[T]) -> None:
        self.next_timeout_s: float | None = None
        self._script = script
        self._results: list[T] = []

    @property
    def ended(self) -> bool:
        """Whether the script has come to its end."""
        return bool(self._results)

    @property
    def result(self) -> T:
        """What the script returned."""
        if not self._results:
            raise ValueError("the script has not ended yet")
        return self._results[0]

    def start(self, t_s: float) -> tuple[bytes, ...]:
        """Begin; return the datagrams to send."""
        return self._run(None, t_s)

    def receive(self, t_s: float, datagram: bytes) -> tuple[bytes, ...]:
        """Take a datagram in; return the datagrams to send. What comes after the end is not looked at."""
        return () if self.ended else self._run(Moment(t_s, datagram), t_s)

    def timeout(self, t_s: float) -> tuple[bytes, ...]:
        """Say that it is `next_timeout_s`; return the datagrams to send."""
        return () if self.ended else self._run(Moment(t_s), t_s)

    def _run(self, moment: Moment | None, t_s: float) -> tuple[bytes, ...]:
        outgoing: list[bytes] = []
        self.next_timeout_s = None
        try:
            step = next(self._script) if moment is None else self._script.send(moment)
            while isinstance(step, Send):
                outgoing += step.datagrams
                step = self._script.send(Moment(t_s))
            self.next_timeout_s = t_s + step.for_s
        except StopIteration as end:
            self._results.append(end.value)
        return tuple(outgoing)
