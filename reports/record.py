"""The record of a run, read back from its journal into frozen values.

``journal.jsonl`` holds one JSON object a line, and so does the ``journal-<worker>.jsonl`` of each worker; all of them
are one run, in the order of its clock. A run that was killed leaves a last line cut in its middle and no ``run_end``:
both are facts of the record here, not errors.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.errors import BenchError
from rig.reports.fields import Fields
from rig.reports.model import (
    Attempt,
    Attempts,
    Bench,
    Bound,
    BudgetLine,
    Capture,
    Case,
    Check,
    Exchange,
    ExchangePacket,
    Flashed,
    FlashedPart,
    Incident,
    Limits,
    Mark,
    Measurement,
    Observation,
    Phase,
    RangeSpan,
    Regression,
    Requirement,
    Run,
    Usage,
    Waveform,
)

JOURNAL = "journal.jsonl"


class RecordError(BenchError):
    """The folder holds no record of a run."""


def load(run_dir: Path) -> Run:
    """Read the record of *run_dir*, each journal to its last whole line.

    Raises :class:`RecordError` when the folder has no journal.
    """
    journals = [_read(path) for path in [run_dir / JOURNAL, *sorted(run_dir.glob("journal-*.jsonl"))]]
    stamped = [pair for journal in journals for pair in _stamped(journal.events)]
    events = [event for _, event in sorted(stamped, key=lambda pair: pair[0])]
    cut = any(journal.cut for journal in journals)
    return _run(run_dir, events, cut=cut, damaged_lines=sum(journal.damaged_lines for journal in journals))


@dataclass(frozen=True)
class _Journal:
    events: list[Fields]
    cut: bool
    damaged_lines: int


def _read(path: Path) -> _Journal:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); give the folder of a run") from error
    parsed = [_parse(line) for line in lines[:-1] if line.strip()]
    tail = _parse(lines[-1]) if lines[-1].strip() else None
    events = [event for event in [*parsed, tail] if event is not None]
    return _Journal(events, bool(lines[-1].strip()) and tail is None, parsed.count(None))


def _stamped(events: list[Fields]) -> Iterator[tuple[float, Fields]]:
    """Yield each event with its stamp, or with that of the one before it where it has none."""
    t_s = 0.0
    for event in events:
        t_s = max(t_s, _stamp(event))
        yield t_s, event


def _parse(line: bytes) -> Fields | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return Fields(value) if isinstance(value, dict) else None


def _run(directory: Path, events: list[Fields], *, cut: bool, damaged_lines: int) -> Run:
    of: defaultdict[str, list[Fields]] = defaultdict(list)
    for event in events:
        of[event.text("event")].append(event)
    start = of["run_start"][0] if of["run_start"] else Fields({})
    end = of["run_end"][-1] if of["run_end"] else None
    stamps = [stamp for event in events if (stamp := event.number("t_s")) is not None] or [0.0]
    start_s = stamps[0]
    duration_s = end.number("duration_s") if end else None
    return Run(
        directory=directory,
        run_id=start.text("run_id") or directory.name,
        schema=start.whole("schema"),
        wall_time=start.text("wall_time"),
        plan=start.text("plan"),
        command=start.texts("command"),
        root=start.text("root"),
        repeat=start.texts("repeat"),
        host=start.table("host"),
        versions=start.table("versions"),
        start_s=start_s,
        end_s=max(stamps),
        duration_s=max(stamps) - start_s if duration_s is None else duration_s,
        finished=end is not None,
        exit_code=end.whole("exit_code") if end else None,
        benches=_benches(of["bench"]),
        limits=tuple(Limits(e.text("file"), e.table("limits")) for e in of["limits"]),
        requirements=_requirements(of["requirement"]),
        flashed=tuple(_flashed(e) for e in of["flashed"]),
        marks=tuple(_mark(e) for e in of["mark"]),
        cases=_cases(of["test_start"], of["test_end"]),
        checks=tuple(_check(e) for e in of["check"]),
        measurements=tuple(_measurement(e) for e in of["measurement"]),
        regressions=tuple(_regression(e) for e in of["regression"]),
        waveforms=tuple(_waveform(e) for e in of["waveform"]),
        phases={e.text("file"): tuple(_phase(p) for p in e.objects("phases")) for e in of["phases"]},
        ranges=tuple(_range(e.text("test"), row) for e in of["ranges"] for row in e.objects("rows")),
        usages=tuple(Usage(e.text("file"), e.text("name"), e.table("profile")) for e in of["usage_profile"]),
        captures=tuple(_capture(e) for e in of["packets"]),
        attempts=tuple(_attempts(e) for e in of["attempts"]),
        exchanges=tuple(_exchange(e) for e in of["exchange"]),
        observations=tuple(_observation(e) for e in of["observation"]),
        key_log=next((e.text("file") for e in of["key_log"]), ""),
        incidents=tuple(_incident(e) for e in events if e.text("event") in _INCIDENTS),
        cut=cut,
        damaged_lines=damaged_lines,
        unknown_events=Counter(name or "(unnamed)" for e in events if (name := e.text("event")) not in _KNOWN),
    )


_INCIDENTS = {"bench_error": "bench error", "retry": "retried", "instrument_errors": "instrument errors"}
_KNOWN = {
    *("run_start", "run_end", "worker_start", "worker_end", "requirement", "limits", "bench", "flashed", "mark"),
    *("test_start", "test_end", "check", "measurement", "regression", "waveform", "alignment", "phases", "packets"),
    *("attempts", "exchange", "observation", "key_log", "ranges", "usage_profile", *_INCIDENTS),
}


def _benches(events: list[Fields]) -> tuple[Bench, ...]:
    """Return one bench a file: each worker tells of the parts that it used."""
    parts: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for event in events:
        bench = parts[event.text("file")]
        for kind, told in event.table("bench").items():
            known = bench.setdefault(kind, told)
            if isinstance(known, list) and isinstance(told, list):
                bench[kind] = known + [part for part in told if part not in known]
    return tuple(Bench(file, model) for file, model in parts.items())


def _requirements(events: list[Fields]) -> tuple[Requirement, ...]:
    rows = {e.text("id"): _requirement(e) for e in events if e.text("id")}
    return tuple(rows.values())


def _requirement(e: Fields) -> Requirement:
    return Requirement(
        id=e.text("id"),
        title=e.text("title"),
        statement=e.text("statement"),
        clause=e.text("clause"),
        level=e.text("level"),
        method=e.text("method"),
        evidence_for=_evidence_for(e),
    )


def _evidence_for(e: Fields) -> dict[str, tuple[str, ...]]:
    told = e.object("evidence_for") or Fields({})
    return {standard: told.texts(standard) for standard in told.values}


def _flashed(e: Fields) -> Flashed:
    parts = tuple(
        FlashedPart(p.text("name"), p.whole("offset"), p.whole("size"), p.text("sha256"), p.text("action"))
        for p in e.objects("parts")
    )
    return Flashed(e.text("board"), e.text("mac"), e.text("chip"), parts, e.table("app"), e.number("duration_s"))


def _mark(e: Fields) -> Mark:
    at_s = e.number("at_s")
    at_s = _stamp(e) if at_s is None else at_s
    return Mark(e.text("board"), e.text("name"), at_s, e.whole("device_us"), e.table("fields"))


def _cases(starts: list[Fields], ends: list[Fields]) -> tuple[Case, ...]:
    """Pair each start with the first later end of the same name: a test that ran twice is two tests."""
    open_ends: defaultdict[str, list[Fields]] = defaultdict(list)
    for end in ends:
        open_ends[end.text("test")].append(end)
    return tuple(_case(start, open_ends[start.text("test")]) for start in starts)


def _case(start: Fields, ends: list[Fields]) -> Case:
    name, requirements, start_s = start.text("test"), start.texts("requirements"), _stamp(start)
    if not ends:
        return Case(name, requirements, start_s)
    end = ends.pop(0)
    return Case(name, requirements, start_s, end.text("outcome"), end.number("duration_s"), end.text("message"))


def _check(e: Fields) -> Check:
    return Check(
        test=e.text("test"),
        requirement=e.text("requirement"),
        statement=e.text("statement"),
        state=e.text("state"),
        observed=e.text("observed"),
        evidence=e.texts("evidence"),
        notes=e.texts("notes"),
        false_alarm=e.number("false_alarm"),
    )


def _measurement(e: Fields) -> Measurement:
    return Measurement(
        test=e.text("test"),
        requirement=e.text("requirement"),
        name=e.text("name"),
        value=e.number("value"),
        unit=e.text("unit"),
        expanded_uncertainty=e.number("expanded_uncertainty"),
        k=e.number("k"),
        limit=_bound(e, "limit"),
        rule=e.text("rule"),
        state=e.text("state"),
        side=e.text("side"),
        evidence=e.texts("evidence"),
        budget=_budget(e),
        notes=e.texts("notes"),
        t_s=_stamp(e),
        false_alarm=e.number("false_alarm"),
        degrees_of_freedom=e.number("degrees_of_freedom"),
        guard_band=e.number("guard_band"),
        acceptance=_bound(e, "acceptance"),
        false_accept=e.number("false_accept"),
        false_reject=e.number("false_reject"),
        instrument=e.table("instrument"),
        ranges_a=e.numbers("ranges_a"),
        gap_share=e.number("gap_share"),
        repeats=e.whole("repeats"),
    )


def _bound(e: Fields, key: str) -> Bound | None:
    """Return bounds in the unit that they name, or in that of the measurement."""
    bound = e.object(key)
    if bound is None:
        return None
    return Bound(bound.number("min"), bound.number("max"), bound.text("unit") or e.text("unit"))


def _budget(e: Fields) -> tuple[BudgetLine, ...]:
    return tuple(
        BudgetLine(
            source=line.text("source"),
            standard_uncertainty=line.number("standard_uncertainty"),
            unit=line.text("unit"),
            kind=line.text("kind"),
            systematic=line.flag("systematic") is True,
            degrees_of_freedom=line.number("degrees_of_freedom"),
        )
        for line in e.objects("budget")
    )


def _regression(e: Fields) -> Regression:
    return Regression(
        test=e.text("test"),
        requirement=e.text("requirement"),
        name=e.text("name"),
        unit=e.text("unit"),
        value=e.number("value"),
        baseline=e.number("baseline"),
        baseline_run=e.text("baseline_run"),
        difference=e.number("difference"),
        expanded_uncertainty=e.number("expanded_uncertainty"),
        k=e.number("k"),
        relative=e.number("relative"),
        same_meter=e.flag("same_meter") is True,
        state=e.text("state"),
        max_increase=e.number("max_increase"),
        budget=_budget(e),
        notes=e.texts("notes"),
    )


def _waveform(e: Fields) -> Waveform:
    return Waveform(
        test=e.text("test"),
        board=e.text("board"),
        meter=e.text("meter"),
        file=e.text("file"),
        t0_s=e.number("t0_s") or 0.0,
        interval_s=e.number("interval_s") or 0.0,
        samples=e.whole("samples") or 0,
        range_a=e.number("range_a"),
        alignment_uncertainty_s=e.number("alignment_uncertainty_s"),
    )


def _phase(e: Fields) -> Phase:
    start_s = e.number("start_s") or 0.0
    end_s = e.number("end_s")
    numbers = (e.number(key) for key in ("charge_c", "energy_j", "mean_a", "max_a"))
    return Phase(e.text("name"), start_s, start_s if end_s is None else end_s, *numbers)


def _range(test: str, e: Fields) -> RangeSpan:
    start_s = e.number("start_s") or 0.0
    end_s = e.number("end_s")
    return RangeSpan(
        test=test,
        what=e.text("what"),
        range_a=e.number("range_a"),
        start_s=start_s,
        end_s=start_s if end_s is None else end_s,
        mean_a=e.number("mean_a"),
        note=e.text("note"),
    )


def _capture(e: Fields) -> Capture:
    return Capture(
        test=e.text("test"),
        file=e.text("file"),
        clock_offset_s=e.number("clock_offset_s") or 0.0,
        clock_uncertainty_s=e.number("clock_uncertainty_s"),
        complete=e.flag("complete") is not False,
        board_port=e.whole("board_port") or 5684,
    )


def _attempts(e: Fields) -> Attempts:
    rows = (Attempt(a.text("seed"), a.flag("ok") is True, a.number("duration_s")) for a in e.objects("attempts"))
    return Attempts(e.text("test"), tuple(rows))


def _exchange(e: Fields) -> Exchange:
    packets = tuple(
        ExchangePacket(
            t_s=p.number("t_s") or 0.0,
            from_client=p.flag("from_client") is True,
            size=p.whole("bytes") or 0,
            port=p.whole("port"),
            lines=p.texts("lines"),
        )
        for p in e.objects("packets")
    )
    head = e.whole("head")
    return Exchange(
        test=e.text("test"),
        requirement=e.text("requirement"),
        file=e.text("file"),
        packets=packets,
        head=len(packets) if head is None else head,
        omitted=e.whole("omitted") or 0,
    )


def _observation(e: Fields) -> Observation:
    return Observation(e.text("test"), e.text("name"), e.numbers("value"), e.text("unit"), e.text("suite"))


def _incident(e: Fields) -> Incident:
    """Bring the three kinds of incident to one shape."""
    kind = e.text("event")
    if kind == "instrument_errors":
        return Incident(_stamp(e), _INCIDENTS[kind], e.text("meter"), "; ".join(e.texts("errors")))
    message = e.text("message") if kind == "bench_error" else f"{e.text('why')} (attempt {e.text('attempt')})"
    return Incident(_stamp(e), _INCIDENTS[kind], e.text("what"), message)


def _stamp(e: Fields) -> float:
    return e.number("t_s") or 0.0
