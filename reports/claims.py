"""Published figures beside what a run measured. The figures are data: ``claims.yaml``."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from rig.formats.checked_yaml import CheckedModel, load_checked
from rig.reports.battery import battery_lives
from rig.reports.model import Run
from rig.reports.text import DASH, NBSP, number

CLAIMS = Path(__file__).parent / "claims.yaml"


class Claim(CheckedModel):
    """One published figure, or several in a row; a range where ``high`` is not ``low``."""

    name: str
    title: str
    low: tuple[float, ...] = Field(min_length=1)
    high: tuple[float, ...] = ()
    unit: str
    share_of: str = ""
    source: str
    remark: str = ""

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if self.high and len(self.high) != len(self.low):
            raise ValueError("high has another number of figures than low")
        return self

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest of each published figure."""
        return tuple(zip(self.low, self.high or self.low, strict=True))


class _ClaimsFile(CheckedModel):
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class ClaimRow:
    """A claim and what was measured, in words; ``measured`` is empty where the run measured nothing of it."""

    claim: Claim
    suite: str
    published: str
    measured: str
    deviation: str


def claims_table(run: Run) -> list[ClaimRow]:
    """Return one row a claim, and one a cipher suite where the figure was measured with several."""
    measured = _measured(run)
    rows = []
    for claim in load_checked(CLAIMS, _ClaimsFile).claims:
        whole = claim.share_of or claim.name
        suites = sorted(suite for name, suite in measured if name == claim.name and (whole, suite) in measured)
        rows += [_row(claim, suite, measured) for suite in suites or [""]]
    return rows


_Measured = dict[tuple[str, str], list[tuple[float, ...]]]


def _measured(run: Run) -> _Measured:
    """Return what was measured under each name and suite: one tuple of figures each time."""
    found: _Measured = defaultdict(list)
    for one in run.observations:
        if one.values:
            found[one.name, one.suite].append(one.values)
    for row in run.measurements:
        if row.value is not None:
            found[row.name, ""].append((row.value,))
    for name, life in battery_lives(run).items():
        found[f"battery_life_{name}", ""].append((life.years,))
    return found


def _row(claim: Claim, suite: str, measured: _Measured) -> ClaimRow:
    samples = measured.get((claim.name, suite), [])
    if claim.share_of:
        samples = _shares(samples, measured.get((claim.share_of, suite), []))
    places = [[sample[place] for sample in samples if len(sample) > place] for place in range(len(claim.low))]
    medians = [statistics.median(figures) for figures in places if figures]
    published = ", ".join(_range(low, high, claim.unit) for low, high in claim.ranges)
    told = ", ".join(number(median, _shown(claim.unit), 3) for median in medians)
    if len(samples) > 1:
        told += f" (median of {len(samples)})"
    return ClaimRow(claim, suite, published, told, _deviation(claim.ranges, medians))


def _shares(parts: Sequence[tuple[float, ...]], wholes: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Return *parts* in per cent of the median of *wholes*; nothing where that is not known."""
    whole = statistics.median(one[0] for one in wholes) if wholes else 0.0
    return [(100 * part[0] / whole,) for part in parts] if whole else []


def _deviation(ranges: Sequence[tuple[float, float]], medians: Sequence[float]) -> str:
    """Return by how much each figure lies outside what was published."""
    told = [_outside(low, high, median) for (low, high), median in zip(ranges, medians, strict=False)]
    if len(medians) < len(ranges) and medians:
        told.append(f"{len(ranges) - len(medians)} not measured")
    return ", ".join(told) or DASH


def _outside(low: float, high: float, value: float) -> str:
    bound = min(max(value, low), high)
    if value == bound:
        return "as published" if low == high else "within"
    return f"{100 * (value / bound - 1):+.0f}{NBSP}%" if bound else number(value - bound, "")


def _range(low: float, high: float, unit: str) -> str:
    shown = _shown(unit)
    return number(low, shown, 3) if low == high else f"{number(low, shown, 3)} to {number(high, shown, 3)}"


def _shown(unit: str) -> str:
    return "" if unit == "1" else unit
