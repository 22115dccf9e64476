"""What a run's record holds, as frozen values; :mod:`rig.reports.record` reads them from the journal.

Times with the suffix ``_s`` are seconds of the rig's monotonic clock unless they are durations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Requirement:
    """One row of the requirement catalogue, as it was in force for the run."""

    id: str
    title: str
    statement: str = ""
    clause: str = ""
    level: str = ""
    method: str = ""
    evidence_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By standard, what of it a verdict on the row is evidence for."""


@dataclass(frozen=True)
class Bench:
    """The bench file, redacted, as nested plain values."""

    file: str
    model: Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """The limits file: name to ``{max, min, unit, source, rule, guard_band, max_increase}``."""

    file: str
    limits: Mapping[str, Any]


@dataclass(frozen=True)
class FlashedPart:
    """One image in flash; offset and size in bytes."""

    name: str
    offset: int | None
    size: int | None
    sha256: str
    action: str


@dataclass(frozen=True)
class Flashed:
    """What one board carried, and whether it had to be written."""

    board: str
    mac: str
    chip: str
    parts: tuple[FlashedPart, ...]
    app: Mapping[str, Any]
    duration_s: float | None


@dataclass(frozen=True)
class Mark:
    """An instant with a name; ``device_us`` is the device's own clock, microseconds since its boot."""

    board: str
    name: str
    at_s: float
    device_us: int | None
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """One test; ``outcome`` is empty when the run ended inside it."""

    name: str
    requirements: tuple[str, ...]
    start_s: float
    outcome: str = ""
    duration_s: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Check:
    """A verdict from something observed."""

    test: str
    requirement: str
    statement: str
    state: str
    observed: str
    evidence: tuple[str, ...]
    notes: tuple[str, ...]
    false_alarm: float | None = None
    """The probability that a device which meets the requirement is judged not to; None where chance has no part."""


@dataclass(frozen=True)
class Bound:
    """The limit that a measurement was judged against; either side may be open."""

    min: float | None
    max: float | None
    unit: str


@dataclass(frozen=True)
class BudgetLine:
    """One contribution to an uncertainty, as a standard uncertainty in ``unit``."""

    source: str
    standard_uncertainty: float | None
    unit: str
    kind: str
    systematic: bool = False
    degrees_of_freedom: float | None = None
    """None for infinitely many."""


@dataclass(frozen=True)
class Measurement:
    """A value with its expanded uncertainty, both in ``unit``, and what the decision rule said of it.

    ``guard_band`` and the acceptance limits ``acceptance`` are in the limit's unit; ``false_accept`` and
    ``false_reject`` are the probabilities that the verdict is wrong. ``instrument`` says who measured.
    """

    test: str
    requirement: str
    name: str
    value: float | None
    unit: str
    expanded_uncertainty: float | None
    k: float | None
    limit: Bound | None
    rule: str
    state: str
    side: str
    evidence: tuple[str, ...]
    budget: tuple[BudgetLine, ...]
    notes: tuple[str, ...]
    t_s: float
    false_alarm: float | None = None
    degrees_of_freedom: float | None = None
    guard_band: float | None = None
    acceptance: Bound | None = None
    false_accept: float | None = None
    false_reject: float | None = None
    instrument: Mapping[str, Any] = field(default_factory=dict)
    ranges_a: tuple[float, ...] = ()
    gap_share: float | None = None
    repeats: int | None = None


@dataclass(frozen=True)
class Regression:
    """How a measurement differs from that of an earlier run, ``baseline_run``; all but ``relative`` in ``unit``."""

    test: str
    requirement: str
    name: str
    unit: str
    value: float | None
    baseline: float | None
    baseline_run: str
    difference: float | None
    expanded_uncertainty: float | None
    k: float | None
    relative: float | None
    same_meter: bool
    state: str
    max_increase: float | None
    budget: tuple[BudgetLine, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Waveform:
    """A recording of current: little-endian float32 amperes in ``file``, sample i at ``t0_s + i * interval_s``."""

    test: str
    board: str
    meter: str
    file: str
    t0_s: float
    interval_s: float
    samples: int
    range_a: float | None
    alignment_uncertainty_s: float | None


@dataclass(frozen=True)
class Phase:
    """A stretch between marks, on the rig's clock, with its charge, energy and currents."""

    name: str
    start_s: float
    end_s: float
    charge_c: float | None
    energy_j: float | None
    mean_a: float | None
    max_a: float | None


@dataclass(frozen=True)
class RangeSpan:
    """A stretch in which the meter was held on one range; ``mean_a`` is what it read there, if it was read."""

    test: str
    what: str
    range_a: float | None
    start_s: float
    end_s: float
    mean_a: float | None
    note: str


@dataclass(frozen=True)
class Usage:
    """A usage profile that the run was given: its file's name and content."""

    file: str
    name: str
    profile: Mapping[str, Any]


@dataclass(frozen=True)
class Capture:
    """A recording of packets; ``clock_offset_s`` added to a packet's stamp gives the rig's clock."""

    test: str
    file: str
    clock_offset_s: float
    clock_uncertainty_s: float | None
    complete: bool
    board_port: int


@dataclass(frozen=True)
class Attempt:
    """One handshake under impairment."""

    seed: str
    ok: bool
    duration_s: float | None


@dataclass(frozen=True)
class Attempts:
    """A series of handshakes of one test."""

    test: str
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class ExchangePacket:
    """One datagram in words, a line each for what it says; ``port`` is the client's, ``size`` in bytes."""

    t_s: float
    from_client: bool
    size: int
    port: int | None
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Exchange:
    """The packets behind a verdict; ``omitted`` more than are told here, after the first ``head``, are in ``file``."""

    test: str
    requirement: str
    file: str
    packets: tuple[ExchangePacket, ...]
    head: int
    omitted: int


@dataclass(frozen=True)
class Observation:
    """Figures that a test measured by the way; ``suite`` where they depend on the cipher suite."""

    test: str
    name: str
    values: tuple[float, ...]
    unit: str
    suite: str


@dataclass(frozen=True)
class Incident:
    """Something that the bench did or suffered and that a reader must know: an error, a retry, instrument errors."""

    t_s: float
    kind: str
    what: str
    message: str


@dataclass(frozen=True)
class Run:
    """One execution, as far as its journal tells.

    ``root`` is the folder that the tests' names begin at, ``repeat`` the command that, followed by a test, runs it
    alone. ``start_s`` and ``end_s`` are the first and last stamp; ``exit_code`` is None when the run did not finish.
    ``damaged_lines`` counts lines that are no JSON object, the cut last one not among them; ``unknown_events`` counts
    events that this version does not know.
    """

    directory: Path
    run_id: str
    schema: int | None
    wall_time: str
    plan: str
    command: tuple[str, ...]
    root: str
    repeat: tuple[str, ...]
    host: Mapping[str, Any]
    versions: Mapping[str, Any]
    start_s: float
    end_s: float
    duration_s: float
    finished: bool
    exit_code: int | None
    benches: tuple[Bench, ...]
    limits: tuple[Limits, ...]
    requirements: tuple[Requirement, ...]
    flashed: tuple[Flashed, ...]
    marks: tuple[Mark, ...]
    cases: tuple[Case, ...]
    checks: tuple[Check, ...]
    measurements: tuple[Measurement, ...]
    regressions: tuple[Regression, ...]
    waveforms: tuple[Waveform, ...]
    phases: Mapping[str, tuple[Phase, ...]]
    ranges: tuple[RangeSpan, ...]
    usages: tuple[Usage, ...]
    captures: tuple[Capture, ...]
    attempts: tuple[Attempts, ...]
    exchanges: tuple[Exchange, ...]
    observations: tuple[Observation, ...]
    key_log: str
    incidents: tuple[Incident, ...]
    cut: bool
    damaged_lines: int
    unknown_events: Mapping[str, int]

    def path(self, relative: str) -> Path | None:
        """Return the file of this run that *relative* names, or None: absent, no file, or outside the folder."""
        try:
            path = (self.directory / relative).resolve()
            inside = path.is_relative_to(self.directory.resolve())
            return path if inside and path.is_file() else None
        except (OSError, ValueError):
            return None
