"""How long a battery lasts: what was measured of a device, and how it is used.

The mean current is the sum of what sleep, wakes, handshakes, messages and idling take in a day, each a measured figure
times a number of the usage profile; the battery's usable charge over it, self-discharge included, is the life.
Uncertainties are propagated after JCGM 100 5.1 and 5.2: what one meter does wrong is the same in every figure and adds
linearly, what differs from one measurement to the next adds in squares.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from rig.energy.measurement import Contribution, Measurement, measured
from rig.formats.checked_yaml import CheckedModel, load_checked

DAY_S = 86_400.0
YEAR_S = 365.25 * DAY_S
COULOMB_PER_MAH = 3.6
KILOBYTE = 1000
DATAGRAM_BYTES = 1024
"""A message with more than this goes block by block (RFC 7252 4.6)."""

SleepSource = Literal["deep_sleep_current", "idle_current"]
Part = Literal["sleep", "wake", "handshakes", "messages", "idle"]


class Battery(CheckedModel):
    """A battery as its data sheet and the site have it."""

    capacity_mah: PositiveFloat = Field(description="nominal capacity")
    usable_share: float = Field(gt=0, le=1, description="of it, above cutoff_v, at the site's temperature and pulses")
    cutoff_v: PositiveFloat = Field(description="below this the device does not work")
    self_discharge_percent_per_year: float = Field(ge=0, lt=100)


class Handshakes(CheckedModel):
    """Handshakes in a day."""

    full: float = Field(0.0, ge=0)
    resumed: float = Field(0.0, ge=0)


class UsageProfile(CheckedModel):
    """How a device is used: one file of ``testplans/usage``, or a user's own."""

    title: str = Field(min_length=1)
    devices: int = Field(1, ge=1)
    source: str = Field(min_length=1, description="where the numbers come from")
    battery: Battery
    sleep: SleepSource = Field(description="the measured current between wakes")
    wakes_per_day: float = Field(ge=0)
    messages_per_wake: float = Field(ge=0)
    message: Literal["confirmable", "non-confirmable"] = "confirmable"
    bytes_per_message: int = Field(ge=0)
    handshakes_per_day: Handshakes
    idle_s_per_wake: float = Field(0.0, ge=0, description="awake with nothing to do, after each wake")

    @model_validator(mode="after")
    def _fits_into_a_day(self) -> Self:
        if self.wakes_per_day * self.idle_s_per_wake > DAY_S:
            raise ValueError("wakes_per_day times idle_s_per_wake is more than a day")
        return self


@dataclass(frozen=True)
class Share:
    """What one part takes: mean current in ampere, its share of the whole, years of life that one per cent costs."""

    part: str
    current_a: float
    share: float
    years_per_percent: float


@dataclass(frozen=True)
class Life:
    """How long the battery lasts, in years, between ``low`` and ``high`` (coverage 95 %), and what it goes into.

    ``current_a`` is the mean current, self-discharge included, ``expanded_uncertainty_a`` that of the measured part.
    """

    years: float
    low_years: float
    high_years: float
    current_a: float
    expanded_uncertainty_a: float
    k: float
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class Projection:
    """A life, or the names of the measurements that are missing for one."""

    life: Life | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Term:
    """``figure`` times ``factor`` is a mean current in ampere."""

    part: Part
    figure: str
    factor: float


def load_usage(path: Path) -> UsageProfile:
    """Read and check *path*; raises ConfigError with one line per finding, each as ``file:line: key: reason``."""
    return load_checked(path, UsageProfile)


def project(profile: UsageProfile, figures: Mapping[str, Measurement], supply_voltage_v: float) -> Projection:
    """Return how long the battery of *profile* lasts with *figures*, measurements by name.

    Energies become charges at *supply_voltage_v*, the voltage that they were measured at: as behind a linear regulator,
    or none, the battery gives the current that the device takes.
    """
    terms = [term for term in _terms(profile, supply_voltage_v) if term.factor]
    unknown = (term.figure for term in terms if not _is_known(figures.get(term.figure)))
    if missing := tuple(dict.fromkeys(unknown)):
        return Projection(None, missing)
    currents = [(term, term.factor * figures[term.figure].value) for term in terms]
    used_a = measured("mean_current", sum(amps for _, amps in currents), "A", tuple(_budget(terms, figures)))
    expanded_a, k = used_a.expanded_uncertainty or 0.0, used_a.k or 0.0
    battery = profile.battery
    usable_c = battery.capacity_mah * COULOMB_PER_MAH * battery.usable_share
    lost_a = battery.capacity_mah * COULOMB_PER_MAH * battery.self_discharge_percent_per_year / 100 / YEAR_S
    total_a = lost_a + used_a.value
    if total_a <= 0:
        return Projection(None, tuple(dict.fromkeys(term.figure for term in terms)))
    years = usable_c / total_a / YEAR_S
    parts: dict[str, float] = defaultdict(float)
    for term, current_a in currents:
        parts[term.part] += current_a
    parts["self-discharge"] += lost_a
    shares = (Share(part, amps, amps / total_a, years * amps / total_a / 100) for part, amps in parts.items())
    least_a = total_a - expanded_a
    return Projection(
        Life(
            years,
            usable_c / (total_a + expanded_a) / YEAR_S,
            usable_c / least_a / YEAR_S if least_a > 0 else math.inf,
            total_a,
            expanded_a,
            k,
            tuple(shares),
        )
    )


def _terms(profile: UsageProfile, supply_voltage_v: float) -> Iterator[_Term]:
    """Yield what a day is made of."""
    per_day = 1 / (supply_voltage_v * DAY_S)
    idle_share = profile.wakes_per_day * profile.idle_s_per_wake / DAY_S
    messages = profile.wakes_per_day * profile.messages_per_wake
    yield _Term("sleep", profile.sleep, 1 - idle_share)
    if profile.sleep == "deep_sleep_current":
        yield _Term("wake", "wake_energy", profile.wakes_per_day * per_day)
    yield _Term("handshakes", "handshake_energy", profile.handshakes_per_day.full * per_day)
    yield _Term("handshakes", "resumed_handshake_energy", profile.handshakes_per_day.resumed * per_day)
    if profile.bytes_per_message > DATAGRAM_BYTES:
        kilobytes = profile.bytes_per_message / KILOBYTE
        yield _Term("messages", "blockwise_energy_per_kilobyte", messages * kilobytes * per_day)
    else:
        confirmable = profile.message == "confirmable"
        figure = "request_energy" if confirmable else "non_confirmable_request_energy"
        yield _Term("messages", figure, messages * per_day)
    yield _Term("idle", "idle_current", idle_share)


def _is_known(figure: Measurement | None) -> bool:
    return figure is not None and figure.expanded_uncertainty is not None


def _shared_source(source: str) -> str:
    """Return a source without its range: all ranges of a meter may have one reference (see rig.energy.uncertainty)."""
    return source.partition(",")[0]


def _budget(terms: Sequence[_Term], figures: Mapping[str, Measurement]) -> Iterator[Contribution]:
    """Yield the contributions to the mean current, in ampere.

    What is the same in every repeat of a measurement is the same in all that one meter has measured: it adds linearly
    between figures, a source at a time. So it is for gain and supply voltage; for the rest it is the safe bound.
    """
    shared: dict[str, float] = defaultdict(float)
    for figure in dict.fromkeys(term.figure for term in terms):
        factor = sum(term.factor for term in terms if term.figure == figure)
        for row in figures[figure].budget:
            share_a = factor * row.standard_uncertainty
            if row.systematic:
                shared[_shared_source(row.source)] += share_a
            else:
                yield replace(row, source=f"{figure}: {row.source}", standard_uncertainty=share_a, unit="A")
    yield from (Contribution(source, share_a, "A", "B") for source, share_a in shared.items())
