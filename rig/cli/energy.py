"""``rig energy`` and ``rig export``: what a recording holds, and the recording for other programs."""

import argparse
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from rig.cli.commands import print_table, table_of
from rig.energy import (
    InvalidRecording,
    Measurement,
    Statistics,
    Supply,
    Waveform,
    Window,
    charge,
    energy,
    load_recording,
    phases_of,
    segment,
)
from rig.energy.export import FORMATS, Note, export_jls
from rig.energy.recording import load_header
from rig.errors import ConfigError
from rig.reports.text import number, quantity

_PHASE = re.compile(r"(?P<name>[^=]+)=(?P<start>[^=]*?)\.\.(?P<end>[^=]*)")
WHOLE = "capture"
#: Rows of a table for people.
LISTED = 40
JLS = ".jls"


@dataclass(frozen=True)
class Stretch:
    """A named part of a recording, in second after the first sample; how uncertain its ends are, if they were found."""

    name: str
    start_s: float
    end_s: float
    start_uncertainty_s: float = 0.0
    end_uncertainty_s: float = 0.0


@dataclass(frozen=True)
class Row:
    """What one stretch holds. A measurement is None where the recording must not be judged; energy, without voltage."""

    stretch: Stretch
    statistics: Statistics
    energy_j: float | None
    charge: Measurement | None
    energy: Measurement | None


def show_energy(options: argparse.Namespace) -> int:
    """Print charge, energy and statistics of each phase of a recording, and plot them."""
    # Everything here counts from the first sample.
    waveform = replace(open_waveform(options.file), t0_s=0.0)
    supply = _supply(waveform, options.voltage)
    stretches = [_stretch(text, waveform) for text in options.phase] or _found(waveform)
    shown = stretches if options.json else stretches[:LISTED]
    rows = [_row(stretch, waveform.between(stretch.start_s, stretch.end_s), supply) for stretch in shown]
    remarks = _remarks(options.file, waveform, rows)
    if len(shown) < len(stretches):
        remarks.append(f"{len(stretches) - len(shown)} more phases were found: --json lists all, --phase chooses")
    if options.plot:
        from rig.cli.energy_plot import write_plot

        write_plot(waveform, [one for one in shown if one.name != WHOLE], options.plot)
    if options.json:
        print(json.dumps(_for_machines(options.file, waveform, rows, remarks), indent=1))
    else:
        _print(rows, remarks)
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a recording in another format, and print the path."""
    waveform = open_waveform(options.file)
    out = options.out or options.file.with_suffix(f".{options.format}")
    if out.resolve() == options.file.resolve():
        raise ConfigError(f"{out}: would overwrite the recording itself: name another file with --out")
    if options.phase and options.format != "jls":
        raise ConfigError(f"--phase: {options.format} has no place for phases; jls has")
    if options.phase:
        stretches = [_stretch(text, waveform) for text in options.phase]
        notes = [(Note(one.start_s, one.name), Note(one.end_s, f"end of {one.name}")) for one in stretches]
        export_jls(waveform, out, [note for pair in notes for note in pair])
    else:
        FORMATS[options.format](waveform, out)
    print(json.dumps({"file": str(out), "samples": len(waveform)}) if options.json else out)
    return 0


def open_waveform(file: Path) -> Waveform:
    """Return the recording in *file*, which may be a Joulescope's."""
    if file.suffix == JLS:
        # Brings the instruments' drivers with it, which a recording does not need.
        from rig.meter.jls import open_jls

        waveform = open_jls(file)
    else:
        waveform = load_recording(file)
    if not len(waveform):
        raise ConfigError(f"{file}: holds no samples")
    return waveform


def _supply(waveform: Waveform, voltage_v: float | None) -> Supply | None:
    if waveform.voltage is None:
        return None if voltage_v is None else Supply(voltage_v)
    if voltage_v is not None:
        raise ConfigError("--voltage: the recording has a measured voltage of its own, which is used")
    return Supply(0.0)


def _found(waveform: Waveform) -> list[Stretch]:
    """Return the whole capture, and the phases that its changes of level divide it into."""
    whole = Stretch(WHOLE, 0.0, waveform.duration_s)
    phases = phases_of(segment(waveform))
    numbers: Counter[str] = Counter()
    stretches = [whole]
    for one in phases if len(phases) > 1 else ():
        numbers[one.name] += 1
        name, start, end = f"{one.name} {numbers[one.name]}", one.start, one.end
        stretches.append(Stretch(name, start.t_s, end.t_s, start.uncertainty_s, end.uncertainty_s))
    return stretches


def _stretch(text: str, waveform: Waveform) -> Stretch:
    """Read NAME=START..END; either time may be left out for the beginning or the end of the recording."""
    found = _PHASE.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        start_s = float(found["start"] or 0.0)
        end_s = float(found["end"] or waveform.duration_s)
    except ValueError:
        raise ConfigError(f"--phase {text!r}: is not NAME=START..END in seconds after the first sample") from None
    return Stretch(found["name"], start_s, end_s)


def _row(stretch: Stretch, window: Window, supply: Supply | None) -> Row:
    try:
        measured_charge = charge(stretch.name, window)
        measured_energy = None if supply is None else energy(stretch.name, window, supply)
    except InvalidRecording:
        plain_j = None if supply is None else window.statistics.energy_j(supply, 0.0)
        return Row(stretch, window.statistics, plain_j, None, None)
    energy_j = None if measured_energy is None else measured_energy.value
    return Row(stretch, window.statistics, energy_j, measured_charge, measured_energy)


def _remarks(file: Path, waveform: Waveform, rows: Sequence[Row]) -> list[str]:
    """Return what a reader has to know before he uses the figures."""
    remarks = [f"invalid, says the instrument: {reason}" for reason in waveform.invalid]
    if file.suffix != JLS and not load_header(file).complete:
        remarks.append("the capture was not ended: this is what its writer left")
    lost = waveform.statistics(0, len(waveform)).gap_share
    if lost:
        remarks.append(f"{lost:.3%} of the samples are lost")
    for row in rows:
        if row.charge is not None:
            remarks += row.charge.reservations
    return list(dict.fromkeys(remarks))


def _for_machines(file: Path, waveform: Waveform, rows: Sequence[Row], remarks: Sequence[str]) -> dict[str, Any]:
    return {
        "file": str(file),
        "samples": len(waveform),
        "interval_s": waveform.interval_s,
        "duration_s": waveform.duration_s,
        "ranges_a": waveform.ranges_a,
        "remarks": remarks,
        "phases": [_phase_for_machines(row) for row in rows],
    }


def _phase_for_machines(row: Row) -> dict[str, Any]:
    statistics = row.statistics
    figures = {
        "mean_a": statistics.mean_a,
        "rms_a": statistics.rms_a,
        "min_a": statistics.min_a,
        "max_a": statistics.max_a,
    }
    return {
        **asdict(row.stretch),
        "duration_s": statistics.duration_s,
        "charge_c": statistics.charge_c if row.charge is None else row.charge.value,
        "charge_expanded_uncertainty_c": row.charge and row.charge.expanded_uncertainty,
        "energy_j": row.energy_j,
        "energy_expanded_uncertainty_j": row.energy and row.energy.expanded_uncertainty,
        **{name: _known(value) for name, value in figures.items()},
        "gap_share": statistics.gap_share,
    }


def _print(rows: Sequence[Row], remarks: Sequence[str]) -> None:
    table = table_of("phase", "from", "duration", "charge", "energy", "mean", "rms", "min", "max", "lost")
    for row in rows:
        statistics = row.statistics
        amperes = (statistics.mean_a, statistics.rms_a, statistics.min_a, statistics.max_a)
        table.add_row(
            escape(row.stretch.name),
            quantity(row.stretch.start_s, row.stretch.start_uncertainty_s, "s"),
            number(statistics.duration_s, "s"),
            _value(row.charge, statistics.charge_c, "C"),
            _value(row.energy, row.energy_j, "J"),
            *(number(_known(value), "A") for value in amperes),
            f"{statistics.gap_share:.3%}" if statistics.gap_share else "",
        )
    print_table(table)
    for remark in remarks:
        print(f"! {remark}")


def _value(measurement: Measurement | None, plain: float | None, unit: str) -> str:
    if measurement is None:
        return number(plain, unit)
    return quantity(measurement.value, measurement.expanded_uncertainty, unit)


def _known(value: float) -> float | None:
    """Return None for NaN, which JSON does not know: where every sample is lost nothing is known."""
    return None if math.isnan(value) else value
