"""Waveforms for other programs: JLS for the Joulescope UI, Parquet, CSV and pandas.

Files are written a stretch at a time, in bounded memory, and get their name when they are complete. Times are seconds
after the first sample. Lost samples are NaN in JLS and in pandas, null in Parquet, and empty in CSV.
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rig.energy.mapped import Pages
from rig.energy.waveform import Waveform
from rig.errors import BenchError

if TYPE_CHECKING:
    import pandas as pd

#: Samples written at a time, and rows of a Parquet row group.
STRETCH = 1 << 20


class ExportError(BenchError):
    """The waveform cannot be written in that format, or not at that place."""


@dataclass(frozen=True)
class Note:
    """A text at an instant: seconds after the first sample."""

    at_s: float
    text: str


def to_frame(waveform: Waveform) -> "pd.DataFrame":
    """Return the whole waveform in memory, a row for each sample.

    The index ``time_s`` is in seconds after the first sample; ``current_a`` is float32, as are ``voltage_v`` and
    ``range_a`` where there was a voltage or more than one range. ``attrs`` has the facts that are no column.
    """
    import pandas as pd

    columns = _columns(waveform, 0, len(waveform))
    frame = pd.DataFrame(columns).set_index("time_s")
    frame.attrs.update(facts(waveform))
    return frame


def export_parquet(waveform: Waveform, out: Path) -> None:
    """Write the columns of :func:`to_frame` as Parquet; the facts are in the schema's metadata, key ``coaps-rig``."""
    from pyarrow import parquet

    schema = _schema(waveform)
    # Neighbouring samples share their high bytes: split by byte they shrink, as float dictionaries they would not.
    floats = [name for name in schema.names if name != "range_a"]
    encoding = {"use_dictionary": ["range_a"], "use_byte_stream_split": floats, "compression": "zstd"}
    with _complete_or_not_at_all(out) as unfinished, parquet.ParquetWriter(unfinished, schema, **encoding) as writer:
        for batch in _record_batches(waveform, schema):
            writer.write_batch(batch, row_group_size=STRETCH)


def export_csv(waveform: Waveform, out: Path) -> None:
    """Write the columns of :func:`to_frame` as comma-separated values with a line of names."""
    from pyarrow import csv

    schema = _schema(waveform)
    with _complete_or_not_at_all(out) as unfinished, csv.CSVWriter(unfinished, schema) as writer:
        for batch in _record_batches(waveform, schema):
            writer.write_batch(batch)


def export_jls(waveform: Waveform, out: Path, notes: Sequence[Note] = ()) -> None:
    """Write JLS version 2: signals ``current``, ``voltage`` and ``range`` (its index), *notes* as annotations.

    A JLS file knows whole hertz alone: the exact interval is in the file's user data, with the other facts as JSON.

    Raises:
        ExportError: fewer than one sample a second, no sample at all, or the file cannot be written.
    """
    rate_hz = round(1 / waveform.interval_s)
    if rate_hz < 1:
        raise ExportError(f"{out}: JLS cannot hold a sample every {waveform.interval_s:g} s: use parquet or csv")
    if not len(waveform):
        raise ExportError(f"{out}: the recording has no samples, which JLS cannot hold")
    with _complete_or_not_at_all(out) as unfinished:
        _write_jls(waveform, unfinished, rate_hz, sorted(notes, key=lambda note: note.at_s))
        _verify_jls(unfinished, len(waveform))


FORMATS: Mapping[str, Callable[[Waveform, Path], None]] = {
    "jls": export_jls,
    "parquet": export_parquet,
    "csv": export_csv,
}


def facts(waveform: Waveform) -> dict[str, Any]:
    """Return what belongs to the samples and is no column, as plain values for JSON."""
    return {
        "interval_s": waveform.interval_s,
        "aperture_s": waveform.aperture_s,
        "t0_s": waveform.t0_s,
        "t0_uncertainty_s": waveform.t0_uncertainty_s,
        "trigger_index": waveform.trigger_index,
        "ranges_a": list(waveform.ranges_a),
        "accuracy": [asdict(figures) for figures in waveform.accuracy],
        "gaps": [list(gap) for gap in waveform.gaps],
        "invalid": list(waveform.invalid),
    }


def _write_jls(waveform: Waveform, out: Path, rate_hz: int, notes: Sequence[Note]) -> None:
    from pyjls import AnnotationType, DataType, SignalType, Writer

    signals = {"current_a": (1, "current", "A", DataType.F32)}
    if waveform.voltage is not None:
        signals["voltage_v"] = (2, "voltage", "V", DataType.F32)
    if waveform.spans is not None:
        signals["range"] = (3, "range", "", DataType.U8)
    with Writer(str(out)) as jls:
        jls.user_data(0, json.dumps(facts(waveform)))
        jls.source_def(source_id=1, name="coaps-rig", vendor="", model="", version="", serial_number="")
        for number, name, units, data_type in signals.values():
            kind = {"signal_type": SignalType.FSR, "data_type": data_type, "sample_rate": rate_hz}
            jls.signal_def(signal_id=number, source_id=1, name=name, units=units, **kind)
        for note in notes:
            sample = round(note.at_s / waveform.interval_s)
            jls.annotation(1, sample, math.nan, AnnotationType.TEXT, 0, note.text)
        for first, last in _stretches(waveform):
            columns = {**_columns(waveform, first, last), "range": _range_indices(waveform, first, last)}
            for column, (number, *_) in signals.items():
                # pyjls takes no memory that may not be written to, which a mapped file is.
                jls.fsr(number, first, columns[column].copy())


_READ_JLS = """
import sys
from pyjls import Reader
with Reader(sys.argv[1]) as jls:
    print(*{signal.length for number, signal in jls.signals.items() if number})
"""


def _verify_jls(path: Path, samples: int) -> None:
    """Open the file in a process of its own.

    pyjls tells of a full disk on stderr alone, and ends a process that reads certain incomplete files (0.17.0).
    """
    read = subprocess.run([sys.executable, "-c", _READ_JLS, str(path)], capture_output=True, text=True)
    if read.returncode or read.stdout.split() != [str(samples)]:
        raise ExportError(f"{path}: is not complete after writing: is the disk full?")


def _schema(waveform: Waveform) -> Any:
    import pyarrow as pa

    columns = _columns(waveform, 0, 0)
    metadata = {"coaps-rig": json.dumps(facts(waveform))}
    return pa.schema([(name, pa.from_numpy_dtype(column.dtype)) for name, column in columns.items()], metadata)


def _record_batches(waveform: Waveform, schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    for first, last in _stretches(waveform):
        # from_pandas: what is NaN becomes null.
        arrays = [pa.array(column, from_pandas=True) for column in _columns(waveform, first, last).values()]
        yield pa.record_batch(arrays, schema=schema)


def _stretches(waveform: Waveform) -> Iterator[tuple[int, int]]:
    mapped = [Pages(column) for column in (waveform.samples, waveform.voltage) if column is not None]
    for first in range(0, len(waveform), STRETCH):
        last = min(first + STRETCH, len(waveform))
        yield first, last
        for pages in mapped:
            pages.read_until(last)


def _columns(waveform: Waveform, first: int, last: int) -> dict[str, NDArray[Any]]:
    """Return the columns of samples [first, last)."""
    columns: dict[str, NDArray[Any]] = {
        "time_s": np.arange(first, last) * waveform.interval_s,
        "current_a": np.asarray(waveform.samples[first:last]),
    }
    if waveform.voltage is not None:
        columns["voltage_v"] = np.asarray(waveform.voltage[first:last])
    if waveform.spans is not None:
        columns["range_a"] = np.array(waveform.ranges_a)[_range_indices(waveform, first, last)]
    return columns


def _range_indices(waveform: Waveform, first: int, last: int) -> NDArray[np.uint8]:
    if waveform.spans is None:
        return np.zeros(last - first, np.uint8)
    starts, index = waveform.spans.starts, waveform.spans.index
    begin, end = np.searchsorted(starts, (first, last), side="right")
    borders = np.clip(np.append(starts[begin - 1 : end], last), first, last)
    return np.repeat(index[begin - 1 : end], np.diff(borders))


@contextmanager
def _complete_or_not_at_all(out: Path) -> Iterator[Path]:
    """Give a path beside *out* to write to; the file gets its name when the block is left without an error."""
    unfinished = out.with_name(out.name + ".part")
    try:
        yield unfinished
        unfinished.replace(out)
    except (OSError, RuntimeError) as error:
        raise ExportError(f"{out}: cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
