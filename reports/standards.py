"""The verdicts of a run by what of each standard they are evidence for. They are never more than evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

from rig.evidence.requirements import STANDARDS
from rig.reports.verdicts import Verdict


@dataclass(frozen=True)
class Matrix:
    """One standard: its parts, in order, and the verdicts that are evidence for each."""

    standard: str
    parts: tuple[tuple[str, tuple[Verdict, ...]], ...]


def matrices(judged: Sequence[Verdict]) -> list[Matrix]:
    """Return a matrix for each standard that a requirement of the run names."""
    found = []
    for key, title in STANDARDS.items():
        parts: dict[str, list[Verdict]] = {}
        for verdict in judged:
            for part in verdict.requirement.evidence_for.get(key, ()):
                parts.setdefault(part, []).append(verdict)
        if parts:
            rows = sorted(parts.items(), key=lambda row: _order(row[0]))
            found.append(Matrix(title, tuple((part, tuple(verdicts)) for part, verdicts in rows)))
    return found


def _order(part: str) -> tuple[tuple[int, str], ...]:
    """Sort ``5.5-10`` after ``5.5-2``."""
    pieces = part.replace("-", ".").split(".")
    return tuple((int(piece) if piece.isdecimal() else 0, piece) for piece in pieces)
