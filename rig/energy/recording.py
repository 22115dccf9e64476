"""A capture of current on disk: written while it arrives, readable whatever happens to who writes it.

``<name>.f32`` holds the current in ampere and ``<name>.volt.f32``, where it was measured, the voltage in volt, both as
little-endian float32. ``<name>.f32.json`` describes them; it is written first, and again when the capture ends.
``<name>.changes`` holds what happened at single samples, as little-endian records of 16 bytes: the sample (u8), what
(u4, a :class:`Change`) and a value (u4).
"""

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rig.energy.waveform import RangeAccuracy, RangeSpans, Waveform
from rig.errors import BenchError

CHANGE = np.dtype([("sample", "<u8"), ("what", "<u4"), ("value", "<u4")])
#: Lost samples are written as NaN, this many at a time.
FILL = 1 << 16


class Change(enum.IntEnum):
    """What happens at a sample, and what the value then is."""

    RANGE = 0
    """The index of the range that holds from here on."""
    LOGIC = 1
    """The levels of the logic inputs from here on, a bit each."""
    GAP = 2
    """How many samples, from this one on, are lost."""
    UNCERTAIN = 3
    """How many samples, from this one on, the instrument calls uncertain (a range was being changed)."""


@dataclass(frozen=True)
class Header:
    """What describes a recording. Names are those of :class:`rig.energy.Waveform`.

    ``trigger`` says what started it, ``instrument`` who recorded it, ``zero_a`` what has been subtracted from the
    samples of each range, ``errors`` what the instrument's error queue said meanwhile.
    """

    interval_s: float
    aperture_s: float
    ranges_a: tuple[float, ...]
    accuracy: tuple[RangeAccuracy, ...] = ()
    trigger: str = "immediate"
    trigger_index: int | None = None
    trigger_lag_s: float = 0.0
    trigger_lag_uncertainty_s: float = 0.0
    t0_s: float | None = None
    t0_uncertainty_s: float = 0.0
    instrument: Mapping[str, Any] = field(default_factory=dict)
    voltage: bool = False
    zero_a: Mapping[float, float] = field(default_factory=dict)
    invalid: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    complete: bool = False


class RecordingWriter:
    """Writes one recording; a context manager. Every block is in the hands of the system when ``append`` returns.

    Raises:
        BenchError: what is to be written cannot be; the file is named, and what it holds stays readable.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._header = header
        self._current: BinaryIO | None = None
        self._voltage: BinaryIO | None = None
        self.count = 0
        """Samples so far, the lost ones included."""

    def __enter__(self) -> Self:
        with _writing(self._path):
            self.describe(self._header)
            changes_of(self._path).unlink(missing_ok=True)
            self._current = self._path.open("wb", buffering=0)
            if self._header.voltage:
                self._voltage = voltage_of(self._path).open("wb", buffering=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._current, self._voltage):
            if file is not None:
                file.close()

    def append(self, current_a: ArrayLike, voltage_v: ArrayLike | None = None) -> None:
        """Write a block of samples, and of the voltage where the header says that there is one."""
        current = np.asarray(current_a, "<f4")
        if (voltage_v is not None) != self._header.voltage:
            raise ValueError("a recording has a voltage for every block, or for none")
        with _writing(self._path):
            assert self._current is not None
            _write(self._current, current)
            if self._voltage is not None:
                _write(self._voltage, np.asarray(voltage_v, "<f4"))
        self.count += len(current)

    def lose(self, count: int) -> None:
        """Note that *count* samples are lost here; they are written as NaN."""
        self.note(Change.GAP, self.count, count)
        while count:
            part = np.full(min(count, FILL), np.nan, "<f4")
            self.append(part, part if self._header.voltage else None)
            count -= len(part)

    def note(self, what: Change, sample: int, value: int) -> None:
        """Write one change; those of one kind come in the order of their samples."""
        self.notes(what, np.array([sample]), np.array([value]))

    def notes(self, what: Change, samples: NDArray[np.integer[Any]], values: NDArray[np.integer[Any]]) -> None:
        """Write several changes of one kind, shape (n,) each."""
        records = np.empty(len(samples), CHANGE)
        records["sample"], records["what"], records["value"] = samples, what, values
        with _writing(self._path), changes_of(self._path).open("ab", buffering=0) as file:
            _write(file, records)

    def describe(self, header: Header) -> None:
        """Replace what describes the recording, at once as a whole."""
        self._header = header
        facts = {"format": "little-endian float32, ampere", **asdict(header)}
        sidecar = header_of(self._path)
        unfinished = sidecar.with_name(sidecar.name + ".new")
        with _writing(sidecar):
            unfinished.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            unfinished.replace(sidecar)


def header_of(path: Path) -> Path:
    """Return the path of the JSON file that describes the samples in *path*."""
    return path.with_name(path.name + ".json")


def voltage_of(path: Path) -> Path:
    """Return the path of the voltage beside the current in *path*."""
    return path.with_suffix(".volt.f32")


def changes_of(path: Path) -> Path:
    """Return the path of the changes beside the current in *path*."""
    return path.with_suffix(".changes")


def load_header(path: Path) -> Header:
    """Return what describes the recording at *path*.

    Raises:
        BenchError: it cannot be read.
    """
    try:
        facts = json.loads(header_of(path).read_text(encoding="utf-8"))
        del facts["format"]
        facts["accuracy"] = tuple(RangeAccuracy(**figures) for figures in facts["accuracy"])
        facts["zero_a"] = {float(range_a): value for range_a, value in facts["zero_a"].items()}
        for name in ("ranges_a", "invalid", "errors"):
            facts[name] = tuple(facts[name])
        return Header(**facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}: is not a recorded waveform: {error}") from error


def load_changes(path: Path) -> NDArray[np.void]:
    """Return the changes of the recording at *path*, an array of :data:`CHANGE`; a torn last one is left out."""
    file = changes_of(path)
    try:
        content = file.read_bytes() if file.exists() else b""
    except OSError as error:
        raise BenchError(f"{file}: cannot be read: {error}") from error
    return np.frombuffer(content, CHANGE, len(content) // CHANGE.itemsize)


def load_recording(path: Path) -> Waveform:
    """Return the recording at *path*, memory-mapped; also what a killed process has left of one.

    Raises:
        BenchError: the samples or what describes them cannot be read.
    """
    header = load_header(path)
    try:
        files = [path, voltage_of(path)] if header.voltage else [path]
        count = min(file.stat().st_size // 4 for file in files)
        columns = [np.memmap(file, "<f4", "r", shape=(count,)) if count else np.empty(0, "<f4") for file in files]
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: is not a recorded waveform: {error}") from error
    changes = load_changes(path)
    changes = changes[changes["sample"] < count]
    gaps = changes[changes["what"] == Change.GAP]
    lost = zip(gaps["sample"].tolist(), gaps["value"].tolist(), strict=True)
    return Waveform(
        samples=columns[0],
        interval_s=header.interval_s,
        aperture_s=header.aperture_s,
        ranges_a=header.ranges_a,
        accuracy=header.accuracy,
        t0_s=header.t0_s,
        t0_uncertainty_s=header.t0_uncertainty_s,
        trigger_index=header.trigger_index,
        trigger_lag_s=header.trigger_lag_s,
        trigger_lag_uncertainty_s=header.trigger_lag_uncertainty_s,
        gaps=tuple((first, min(number, count - first)) for first, number in lost),
        spans=_spans(changes[changes["what"] == Change.RANGE]),
        voltage=columns[1] if header.voltage else None,
        invalid=header.invalid,
        path=path,
    )


def _spans(changes: NDArray[np.void]) -> RangeSpans | None:
    if not len(changes):
        return None
    starts, index = changes["sample"].astype(np.int64), changes["value"].astype(np.uint8)
    if starts[0] > 0:
        starts, index = np.insert(starts, 0, 0), np.insert(index, 0, np.uint8(0))
    return RangeSpans(starts, index)


class _writing:
    """Turns what the system says against writing into an error that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise BenchError(f"{self._path}: readings cannot be written: {error.strerror}") from error


def _write(file: BinaryIO, block: NDArray[Any]) -> None:
    """Write all of *block*: an unbuffered file may take less at a time."""
    rest = memoryview(block.tobytes())
    while rest:
        rest = rest[file.write(rest) :]
