"""How long batteries last by what a run measured: one row a usage profile of its record."""

from dataclasses import dataclass

from pydantic import ValidationError

from rig.energy import Measurement
from rig.energy.battery import DAY_S, YEAR_S, Life, Projection, Share, UsageProfile, project
from rig.reports.figures import figure_of
from rig.reports.model import Run, Usage
from rig.reports.text import NBSP, number

_COLOURS = {
    "sleep": "#4c6ef5",
    "wake": "#f59f00",
    "handshakes": "#e64980",
    "messages": "#12b886",
    "idle": "#868e96",
    "self-discharge": "#7950f2",
}
_SHORT_YEARS = 0.5
"""A shorter life is told in days."""
_TOLD = 0.01
"""Of a smaller share it is not told what more of it costs."""
THIN_SPACE = "\N{THIN SPACE}"


@dataclass(frozen=True)
class Segment:
    """A share in the bar, in per cent of its width, and what one per cent more of it costs."""

    part: str
    colour: str
    x: float
    width: float
    current: str
    sensitivity: str


@dataclass(frozen=True)
class Row:
    """A profile and how long its battery lasts, or what is ``missing`` for that."""

    name: str
    file: str
    title: str
    profile: UsageProfile | None
    life: str = ""
    interval: str = ""
    current: str = ""
    fleet: str = ""
    segments: tuple[Segment, ...] = ()
    missing: str = ""


def battery_table(run: Run) -> list[Row]:
    """Return one row a usage profile of the run, none where the run has no figures at all."""
    if not measured_figures(run):
        return []
    return [_row(usage, *_projected(usage, run)) for usage in run.usages]


def battery_lives(run: Run) -> dict[str, Life]:
    """Return the lives by the names of their profiles, where nothing is missing for one."""
    found = {usage.name: _projected(usage, run)[1].life for usage in run.usages}
    return {name: life for name, life in found.items() if life is not None}


def _projected(usage: Usage, run: Run) -> tuple[UsageProfile | None, Projection]:
    try:
        profile = UsageProfile.model_validate(dict(usage.profile))
    except ValidationError as error:
        return None, Projection(None, (f"a usage profile ({error.errors()[0]['msg']})",))
    voltage_v = supply_voltage_v(run)
    if voltage_v is None:
        return profile, Projection(None, ("the board's supply voltage",))
    return profile, project(profile, measured_figures(run), voltage_v)


def measured_figures(run: Run) -> dict[str, Measurement]:
    """Return the first measurement of each name that has an uncertainty."""
    figures: dict[str, Measurement] = {}
    for row in run.measurements:
        if row.value is not None and row.expanded_uncertainty is not None:
            figures.setdefault(row.name, figure_of(row, row.value))
    return figures


def _row(usage: Usage, profile: UsageProfile | None, projection: Projection) -> Row:
    if profile is None or projection.life is None:
        title = usage.name if profile is None else profile.title
        return Row(usage.name, usage.file, title, profile, missing=", ".join(projection.missing))
    life = projection.life
    return Row(
        usage.name,
        usage.file,
        profile.title,
        profile,
        life=_time(life.years),
        interval=f"{_time(life.low_years)} to {_time(life.high_years)}",
        current=number(life.current_a, "A", 3),
        fleet=_fleet(profile, life),
        segments=_segments(life),
    )


def supply_voltage_v(run: Run) -> float | None:
    """Return the voltage that the board was supplied with, as the bench file has it."""
    boards = [board for bench in run.benches for board in bench.model.get("boards", []) if isinstance(board, dict)]
    told = (board.get("supply_voltage_v") for board in boards)
    return next((float(voltage) for voltage in told if isinstance(voltage, int | float) and voltage > 0), None)


def _time(years: float) -> str:
    """Write a life in the unit that people would choose."""
    if years == float("inf"):
        return "no end"
    if years >= _SHORT_YEARS:
        return f"{years:.3g}{NBSP}years"
    days = years * YEAR_S / DAY_S
    return f"{days:.3g}{NBSP}days" if days >= 1 else f"{days * 24:.3g}{NBSP}hours"


def _fleet(profile: UsageProfile, life: Life) -> str:
    if profile.devices == 1:
        return ""
    a_year = f"{profile.devices / life.years:,.0f}".replace(",", THIN_SPACE)
    return f"{a_year} batteries or charges a year for {profile.devices}"


def _sensitivity(share: Share) -> str:
    if share.share < _TOLD:
        return ""
    return f"10{NBSP}% more costs {_time(share.years_per_percent * 10)}"


def _segments(life: Life) -> tuple[Segment, ...]:
    segments = []
    x = 0.0
    for share in life.shares:
        width = 100 * max(share.share, 0.0)
        segments.append(
            Segment(
                part=share.part,
                colour=_COLOURS[share.part],
                x=round(x, 3),
                width=round(width, 3),
                current=number(share.current_a, "A", 3),
                sensitivity=_sensitivity(share),
            )
        )
        x += width
    return tuple(segments)
