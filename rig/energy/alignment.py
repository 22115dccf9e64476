"""Bounds on when something happened, each from a witness of its own, and what is left where they overlap."""

from dataclasses import dataclass

from rig.errors import BenchError


class Contradiction(BenchError):
    """Two witnesses of one instant exclude each other: a clock, a cable or an assumption on the bench is wrong."""


@dataclass(frozen=True)
class Bounds:
    """An instant lies between two rig times, in seconds; ``witness`` says who knows that."""

    earliest_s: float
    latest_s: float
    witness: str

    @property
    def middle_s(self) -> float:
        return (self.earliest_s + self.latest_s) / 2

    @property
    def half_width_s(self) -> float:
        return (self.latest_s - self.earliest_s) / 2

    def within(self, other: "Bounds") -> "Bounds":
        """Return what both allow.

        Raises:
            Contradiction: they do not overlap.
        """
        earliest_s, latest_s = max(self.earliest_s, other.earliest_s), min(self.latest_s, other.latest_s)
        if earliest_s > latest_s:
            raise Contradiction(
                f"{self.witness} and {other.witness} contradict each other by {(earliest_s - latest_s) * 1e3:.3f} ms: "
                "check the trigger line, the console and the router's clock"
            )
        return Bounds(earliest_s, latest_s, f"{self.witness} and {other.witness}")
