"""What the report page shows, as plain values for its template: everything is computed here, nothing there."""

import posixpath
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rig.evidence.requirements import STANDARDS
from rig.evidence.verdicts import State
from rig.reports import plots
from rig.reports.battery import battery_table
from rig.reports.chance import BUDGET, statistics_of
from rig.reports.claims import claims_table
from rig.reports.fields import flatten
from rig.reports.gauge import closeness, gauge
from rig.reports.model import Attempts, Exchange, Measurement, RangeSpan, Run, Waveform
from rig.reports.packets import packets_during
from rig.reports.standards import matrices
from rig.reports.text import number
from rig.reports.verdicts import Verdict, describe, describe_bound, read_state, verdicts, worst_first
from rig.reports.waveforms import trace

BINS = 4000
_POINTS = 20 * BINS
"""Bins of all plots together, so that many captures make coarser plots and not a larger file."""
_PACKET_ROWS = 400
_EXCHANGE_ROWS = 4000
"""Packets of all exchanges together."""
_FEWEST_ROWS = 30
_CONSOLE_BYTES = 24_000
_CONSOLE_LINES = 120
_KEY_FIGURES = "ENE-"
_RAREST = 1e-6

GLYPHS = {
    State.PASS: "✓",
    State.FAIL: "✗",
    State.ERROR: "!",
    State.INCONCLUSIVE: "?",
    State.CONDITIONAL: "±",
    State.DEVIATION: "≠",
    State.NOT_RUN: "–",
    State.NOT_SUPPORTED: "○",
}


def page(run: Run) -> dict[str, Any]:
    """Return the values of the template."""
    judged = verdicts(run)
    return {
        "run": run,
        "subject": _subject(run),
        "firmware": [flashed.app for flashed in run.flashed if flashed.app][-1:],
        "counts": _counts(judged),
        "sentence": _sentence(judged),
        "glyphs": GLYPHS,
        "worst_first": worst_first(),
        "figures": _figures(run, judged),
        "verdicts": _verdicts(run, judged),
        "key_log": _links(run, [run.key_log] if run.key_log else []),
        "matrices": matrices(judged),
        "claims": claims_table(run),
        "batteries": battery_table(run),
        "ranges": _ranges(run),
        "statistics": statistics_of(run),
        "budget": BUDGET,
        "measurements": [_measurement(run, measurement) for measurement in run.measurements],
        "regressions": run.regressions,
        "plots": [_plot(run, index, waveform) for index, waveform in enumerate(run.waveforms, 1)],
        "attempts": [_attempts(series) for series in run.attempts],
        "bench": [(bench.file, _parts(bench.model)) for bench in run.benches],
        "limits": [(limits.file, _parts(limits.limits)) for limits in run.limits],
        "host": flatten(dict(run.host)) if run.host else [],
        "versions": [(str(name), str(version)) for name, version in run.versions.items()],
        "marks": run.marks,
        "consoles": _consoles(run),
        "files": _files(run),
    }


def _subject(run: Run) -> str:
    """Say what was tested in the words of a headline."""
    boards = list(dict.fromkeys(flashed.board for flashed in run.flashed if flashed.board))
    boards = boards or list(dict.fromkeys(mark.board for mark in run.marks if mark.board))
    projects = [str(f.app.get("project", "")) for f in run.flashed if f.app.get("project")]
    version = next((str(f.app["version"]) for f in reversed(run.flashed) if f.app.get("version")), "")
    firmware = f"{projects[-1]} {version}".strip() if projects else ""
    return " on ".join(part for part in (firmware, ", ".join(boards)) if part) or "No board was identified"


def _counts(judged: Sequence[Verdict]) -> list[tuple[State, int]]:
    counts = Counter(verdict.state for verdict in judged)
    return [(state, counts[state]) for state in GLYPHS if counts[state]]


def _sentence(judged: Sequence[Verdict]) -> str:
    passed = sum(verdict.state is State.PASS for verdict in judged)
    if not judged:
        return "Nothing was judged."
    if passed == len(judged):
        return f"All {passed} requirements of this run pass."
    return f"{passed} of {len(judged)} requirements pass; the others are listed below with what was observed."


def _figures(run: Run, judged: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return each energy requirement with its measurements, and those that were to be measured and were not."""
    found: dict[str, list[Measurement]] = {}
    for measurement in run.measurements:
        found.setdefault(measurement.requirement, []).append(measurement)
    seen = (State.PASS, State.FAIL, State.DEVIATION)  # judged from what was seen: there is no figure to show
    energy = [verdict for verdict in judged if verdict.requirement.id.startswith(_KEY_FIGURES)]
    rows = [verdict for verdict in energy if verdict.requirement.id in found or verdict.state not in seen]
    return [_figure(verdict, found.get(verdict.requirement.id, [])) for verdict in rows]


def _figure(verdict: Verdict, measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Return the figures of a requirement, each name once and the one nearest to its limit first."""
    nearest: dict[str, Measurement] = {}
    for measurement in sorted(measurements, key=closeness, reverse=True):
        nearest.setdefault(measurement.name, measurement)
    rows = [
        {
            "measurement": measurement,
            "name": measurement.name.replace("_", " "),
            "gauge": gauge(measurement),
            "state": read_state(measurement.state),
        }
        for measurement in nearest.values()
    ]
    return {"verdict": verdict, "rows": rows}


def _verdicts(run: Run, judged: Sequence[Verdict]) -> list[dict[str, Any]]:
    shown = {verdict.requirement.id for verdict in judged if verdict.state is not State.PASS}
    exchanges = [one for one in run.exchanges if one.requirement in shown]
    rows = max(_FEWEST_ROWS, _EXCHANGE_ROWS // max(1, len(exchanges)))
    return [
        _verdict(
            run, verdict, [_exchange(run, one, rows) for one in exchanges if one.requirement == verdict.requirement.id]
        )
        for verdict in judged
    ]


def _verdict(run: Run, verdict: Verdict, exchanges: Sequence[dict[str, Any]]) -> dict[str, Any]:
    told = verdict.requirement.evidence_for
    return {
        "requirement": verdict.requirement,
        "state": verdict.state,
        "judgements": verdict.judgements,
        "evidence": _links(run, verdict.evidence),
        "repeat": _repeat(run, verdict.deciding.test),
        "proof": verdict.state not in (State.PASS, State.NOT_SUPPORTED) and bool(exchanges or verdict.deciding.test),
        "exchanges": exchanges,
        "evidence_for": [(title, ", ".join(told[key])) for key, title in STANDARDS.items() if told.get(key)],
    }


def _exchange(run: Run, exchange: Exchange, rows: int) -> dict[str, Any]:
    """Return an exchange with no more than *rows* packets: a third of them its beginning, the rest its end."""
    packets = list(enumerate(exchange.packets))
    left_out = max(0, len(packets) - rows)
    if left_out:
        packets = packets[: rows // 3] + packets[rows // 3 + left_out :]
    start_s = exchange.packets[0].t_s if exchange.packets else 0.0
    return {
        "packets": [(index, packet, packet.t_s - start_s) for index, packet in packets],
        "gap_before": _first_after_gap([index for index, _ in packets], exchange, left_out),
        "more": exchange.omitted + left_out,
        "ports": len({packet.port for packet in exchange.packets}),
        "file": _links(run, [exchange.file])[0],
        "test": exchange.test,
    }


def _first_after_gap(indices: Sequence[int], exchange: Exchange, left_out: int) -> int | None:
    """Return the index of the packet before which others are not shown."""
    if left_out:
        return next((later for earlier, later in pairwise(indices) if later != earlier + 1), None)
    return exchange.head if exchange.omitted else None


def _repeat(run: Run, test: str) -> str:
    """Return the command that runs one test again, empty for none."""
    if not test or not run.repeat:
        return ""
    path, *names = test.split("::")
    return shlex.join([*run.repeat, "::".join([posixpath.normpath(posixpath.join(run.root, path)), *names])])


def _links(run: Run, files: Iterable[str]) -> list[tuple[str, str]]:
    """Return (text, address) for each file; the address is empty where the run folder has no such file."""
    return [(file, _address(run, run.path(file))) for file in files]


def _address(run: Run, path: Path | None) -> str:
    return "" if path is None else quote(bytes(path.relative_to(run.directory.resolve())))


def _measurement(run: Run, measurement: Measurement) -> dict[str, Any]:
    return {
        "row": measurement,
        "state": read_state(measurement.state),
        "text": describe(measurement),
        "grounds": _grounds(measurement),
        "evidence": _links(run, measurement.evidence),
    }


def _grounds(measurement: Measurement) -> list[str]:
    """Return in lines what the verdict rests on beside the value: acceptance limit, risk, instrument, ranges."""
    lines = [measurement.rule] if measurement.rule else []
    if measurement.acceptance and measurement.guard_band is not None:
        lines.append(f"acceptance limit {describe_bound(measurement.acceptance)}")
    for risk, what in ((measurement.false_accept, "accept"), (measurement.false_reject, "reject")):
        if risk is not None:
            lines.append(f"probability of false {what} {_risk(risk)}")
    told = measurement.instrument
    if told:
        due = f", calibration due on {told['due_on']} ({told.get('calibration')})" if told.get("due_on") else ""
        lines.append(f"{told.get('manufacturer', '')} {told.get('model', '')}, serial {told.get('serial', '')}{due}")
    if measurement.ranges_a:
        lines.append(f"measured on {', '.join(number(range_a, 'A') for range_a in measurement.ranges_a)}")
    if measurement.repeats and measurement.repeats > 1:
        lines.append(f"mean of {measurement.repeats} repeats")
    if measurement.gap_share:
        lines.append(f"{measurement.gap_share:.2%} of the samples lost")
    return lines


def _risk(probability: float) -> str:
    """Write a probability; a normal distribution's tail says nothing about what is as rare as this."""
    return f"below {_RAREST:g}" if probability < _RAREST else f"{probability:.2g}"


def _plot(run: Run, index: int, waveform: Waveform) -> dict[str, Any]:
    drawn = trace(run, waveform, min(BINS, _POINTS // len(run.waveforms)))
    end_s = waveform.t0_s + drawn.duration_s
    log = packets_during(run, waveform, drawn.duration_s)
    every_phase = [phase.name for phases in run.phases.values() for phase in phases]
    plot = plots.Plot(
        id=f"plot-{index}",
        waveform=waveform,
        trace=drawn,
        phases=run.phases.get(waveform.file, ()),
        packets=log.packets,
        marks=[mark for mark in run.marks if waveform.t0_s <= mark.at_s <= end_s],
        colours=plots.palette(every_phase),
    )
    return {
        "plot": plot,
        "item": plots.item(plot),
        "file": _links(run, [waveform.file])[0],
        "packets": log.packets[:_PACKET_ROWS],
        "more_packets": max(0, len(log.packets) - _PACKET_ROWS),
        "packet_notes": log.notes,
        "below_zero": int((drawn.current_a <= 0).sum()) if plot.logarithmic else 0,
    }


def _ranges(run: Run) -> list[tuple[str, list[RangeSpan]]]:
    """Return the ranges that the meter was held on, by test."""
    tests = dict.fromkeys(span.test for span in run.ranges)
    return [(test, [span for span in run.ranges if span.test == test]) for test in tests]


def _attempts(series: Attempts) -> dict[str, Any]:
    slowest_s = max((attempt.duration_s or 0.0 for attempt in series.attempts), default=0.0)
    return {
        "test": series.test,
        "rows": series.attempts,
        "succeeded": sum(attempt.ok for attempt in series.attempts),
        "slowest_s": slowest_s or 1.0,
    }


def _parts(model: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return a nested file as (part, rows), a part being an entry of one of its lists, or one of its keys."""
    parts: list[tuple[str, list[tuple[str, str]]]] = []
    for key, value in model.items():
        if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
            parts += [(f"{key}: {entry.get('name', index)}", flatten(entry)) for index, entry in enumerate(value, 1)]
        elif isinstance(value, dict) and value and all(isinstance(entry, dict) for entry in value.values()):
            parts += [(f"{key}: {name}", flatten(entry)) for name, entry in value.items()]
        else:
            parts.append((str(key), [(path or str(key), shown) for path, shown in flatten(value)]))
    return parts


def _consoles(run: Run) -> list[dict[str, Any]]:
    """Return the end of each console log in the run folder."""
    paths = sorted(path for path in run.directory.rglob("*console*") if path.is_file())
    return [{"file": (path.name, _address(run, path.resolve())), "tail": _tail(path)} for path in paths]


def _tail(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _CONSOLE_BYTES))
        content = stream.read().decode("utf-8", "replace")
    return "\n".join(content.replace("\r\n", "\n").split("\n")[-_CONSOLE_LINES:])


def _files(run: Run) -> list[tuple[str, str]]:
    journals = sorted(path.name for path in run.directory.glob("journal-*.jsonl"))
    names = ("summary.json", "measurements.csv", "junit.xml", "journal.jsonl", *journals)
    return [(name, name) for name in names if run.path(name)]
