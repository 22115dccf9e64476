"""Joulescope captures: a JLS version 2 file becomes a recording.

pyjls 0.17.0 ends the whole process, by a segmentation fault, that opens certain files of a killed writer. So a process
of its own reads the file (``python -m rig.meter.jls FILE RECORDING``); what becomes of that one is an error like any
other.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.energy import Header, RangeAccuracy, RecordingWriter, Waveform, load_recording
from rig.energy.recording import Change
from rig.errors import BenchError

#: Samples read at a time.
BLOCK = 1 << 20
#: What an instrument's range codes stand for (pyjoulescope, parameters_v1.py: i_range), widest first.
JOULESCOPE_RANGES_A = (10.0, 2.0, 180e-3, 18e-3, 1.8e-3, 180e-6, 18e-6)
JOULESCOPES = ("JS110", "JS220")
LOGIC = tuple(f"gpi[{line}]" for line in range(4))


def open_jls(path: Path) -> Waveform:
    """Return the current in the JLS file at *path*, and the voltage where it has one, mapped from a temporary file.

    Samples that the file lacks, and those that are NaN in it, are gaps. Ranges and logic inputs are those of a
    Joulescope; the exact interval, the ranges and their accuracy are there in a file that the rig wrote itself.

    Raises:
        BenchError: the file is torn, is no JLS file, or has no current.
    """
    with TemporaryDirectory(prefix="jls-") as folder:
        recording = Path(folder) / "capture.f32"
        _import(path, recording)
        # The mapping keeps the samples after the folder is gone.
        return replace(load_recording(recording), path=path)


def _import(path: Path, recording: Path) -> None:
    if not path.is_file():
        raise BenchError(f"{path}: is not there")
    command = [sys.executable, "-m", "rig.meter.jls", str(path), str(recording)]
    read = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if read.returncode < 0:
        raise BenchError(
            f"{path}: is torn: reading it ended the reader with signal {-read.returncode}. Its writer was killed "
            "before it closed the file, and pyjls repairs none of that size"
        )
    if read.returncode:
        last = (read.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise BenchError(f"{path}: cannot be read: {last}")


@dataclass(frozen=True)
class Signal:
    """One signal of the file: pyjls's number of it, samples a second, the time of its first sample, and how many."""

    number: int
    rate_hz: int
    first_s: float
    length: int


def convert(path: Path, recording: Path) -> None:
    """Write the JLS file at *path* as a recording, in this process.

    Raises:
        ValueError: it has no current, or signals that do not fit together.
        RuntimeError: pyjls cannot read it.
    """
    from pyjls import Reader

    with Reader(str(path)) as reader:
        signals = _signals(reader)
        if "current" not in signals:
            raise ValueError("it has no signal named current")
        current, voltage = signals["current"], signals.get("voltage")
        if voltage is not None and voltage.rate_hz != current.rate_hz:
            raise ValueError("its voltage has another sample rate than its current")
        ours = _ours(reader)
        header = _header(reader, current, voltage is not None, ours)
        with RecordingWriter(recording, header) as writer:
            largest_a = _write_samples(reader, writer, current, voltage)
            ranges_a = header.ranges_a or _ranges_a(reader, signals, largest_a)
            _write_changes(reader, writer, signals, len(ranges_a))
            writer.describe(replace(header, ranges_a=ranges_a, complete=True))


def _signals(reader: Any) -> dict[str, Signal]:
    """Return the signals of the first instrument in the file that has a current, by name."""
    sampled = [(number, one) for number, one in reader.signals.items() if one.sample_rate]
    sources = [one.source_id for _, one in sampled if one.name == "current"]
    return {
        one.name: Signal(number, one.sample_rate, one.sample_id_offset / one.sample_rate, one.length)
        for number, one in sampled
        if one.source_id in sources[:1]
    }


def _ours(reader: Any) -> Mapping[str, Any]:
    """Return the facts that the rig's own export put into the file, empty where there are none."""
    found: list[Any] = []

    def take(kind: int, data: Any) -> bool:
        if kind == 0:
            found.append(data)
        return False

    reader.user_data(take)
    for data in found:
        try:
            facts = json.loads(data) if isinstance(data, str) else data
        except ValueError:
            continue
        if isinstance(facts, dict) and {"interval_s", "aperture_s", "ranges_a"} <= set(facts):
            return facts
    return {}


def _header(reader: Any, current: Signal, voltage: bool, ours: Mapping[str, Any]) -> Header:
    source = reader.sources[reader.signals[current.number].source_id]
    interval_s = 1 / current.rate_hz
    return Header(
        interval_s=float(ours.get("interval_s", interval_s)),
        aperture_s=float(ours.get("aperture_s", interval_s)),
        ranges_a=tuple(float(range_a) for range_a in ours.get("ranges_a", ())),
        accuracy=tuple(RangeAccuracy(**figures) for figures in ours.get("accuracy", ())),
        trigger="import",
        trigger_index=ours.get("trigger_index"),
        t0_s=ours.get("t0_s"),
        t0_uncertainty_s=float(ours.get("t0_uncertainty_s", 0.0)),
        instrument={
            "manufacturer": source.vendor,
            "model": source.model,
            "serial": source.serial_number,
            "firmware": source.version,
            "options": [],
        },
        voltage=voltage,
        invalid=tuple(ours.get("invalid", ())),
    )


def _write_samples(reader: Any, writer: RecordingWriter, current: Signal, voltage: Signal | None) -> float:
    """Write current and voltage; what is NaN is noted as a gap. Return the largest current."""
    largest_a = 0.0
    for first, count in _blocks(current):
        samples = reader.fsr(current.number, first, count)
        lost = np.isnan(samples)
        edges = np.flatnonzero(np.diff(lost, prepend=False, append=False))
        writer.append(samples, None if voltage is None else _beside(reader, voltage, current, first, count))
        if len(edges):
            writer.notes(Change.GAP, first + edges[::2], edges[1::2] - edges[::2])
        if not lost.all():
            largest_a = max(largest_a, float(np.nanmax(np.abs(samples))))
    return largest_a


def _ranges_a(reader: Any, signals: Mapping[str, Signal], largest_a: float) -> tuple[float, ...]:
    """Return the ranges of the instrument; where nothing tells, one that holds the largest current."""
    source = reader.sources[reader.signals[signals["current"].number].source_id]
    if source.model not in JOULESCOPES:
        return (largest_a or 1.0,)
    return JOULESCOPE_RANGES_A if "current_range" in signals else JOULESCOPE_RANGES_A[:1]


def _write_changes(reader: Any, writer: RecordingWriter, signals: Mapping[str, Signal], ranges: int) -> None:
    """Write where the range, one of so many, and the logic inputs change."""
    current = signals["current"]
    selected = signals.get("current_range", signals.get("range"))
    lines = [(line, signals[name]) for line, name in enumerate(LOGIC) if name in signals]
    range_before = logic_before = -1
    for first, count in _blocks(current):
        if selected is not None and ranges > 1:
            codes = _beside(reader, selected, current, first, count)
            # What is off, or not in the file, carries no current: any range says so.
            codes[~(codes < ranges)] = 0
            range_before = _note_changes(writer, Change.RANGE, first, codes, range_before)
        if lines:
            levels = sum(np.nan_to_num(_beside(reader, one, current, first, count)) * 2**line for line, one in lines)
            logic_before = _note_changes(writer, Change.LOGIC, first, np.asarray(levels), logic_before)


def _note_changes(
    writer: RecordingWriter, what: Change, first: int, values: NDArray[np.floating[Any]], before: int
) -> int:
    changed = np.flatnonzero(np.diff(values, prepend=before))
    if len(changed):
        writer.notes(what, first + changed, values[changed].astype(np.int64))
    return int(values[-1])


def _blocks(signal: Signal) -> Iterator[tuple[int, int]]:
    for first in range(0, signal.length, BLOCK):
        yield first, min(BLOCK, signal.length - first)


def _beside(reader: Any, signal: Signal, current: Signal, first: int, count: int) -> NDArray[np.float32]:
    """Return the values of *signal* at samples of the current, shape (count,); NaN where there are none."""
    times = np.arange(first, first + count) / current.rate_hz + (current.first_s - signal.first_s)
    places = np.floor(times * signal.rate_hz + 1e-3).astype(np.int64)
    there = (places >= 0) & (places < signal.length)
    column = np.full(count, np.nan, np.float32)
    if there.any():
        begin, end = int(places[there][0]), int(places[there][-1]) + 1
        column[there] = _read(reader, signal, begin, end)[places[there] - begin]
    return column


def _read(reader: Any, signal: Signal, begin: int, end: int) -> NDArray[Any]:
    """Return samples of a signal; those of one and of four bits come packed, eight and two to the byte."""
    from pyjls import DataType

    kind = reader.signals[signal.number].data_type & 0xFFFF
    if kind not in (DataType.U1 & 0xFFFF, DataType.U4 & 0xFFFF):
        return np.asarray(reader.fsr(signal.number, begin, end - begin))
    aligned = begin // 8 * 8
    packed = reader.fsr(signal.number, aligned, end - aligned)
    if kind == DataType.U1 & 0xFFFF:
        values = np.unpackbits(packed, bitorder="little")
    else:
        values = np.stack((packed & 0x0F, packed >> 4), axis=1).reshape(-1)
    return values[begin - aligned : end - aligned]


def main() -> None:
    """Convert the file that the first argument names to the recording that the second one names."""
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except (ValueError, TypeError, RuntimeError, OSError, BenchError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
