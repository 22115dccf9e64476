"""A capture of current on disk: written while it arrives, readable whatever happens to who writes it.

``<name>.f32`` holds the current in ampere and ``<name>.volt.f32``, where it was measured, the voltage in volt, both as
little-endian float32. ``<name>.f32.json`` describes them; it is written first, and again when the capture ends.
``<name>.changes`` holds what happened at single samples, as little-endian records of 16 bytes: the sample (u8), what
(u4, a :class:`Change`) and a value (u4).
"""

import enum
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
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
_SAMPLE_BYTES = 4


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

    Whoever is killed while writing leaves a recording that opens, up to the last block. Changes are noted before the
    samples that they are about, so that no sample is left that lacks its change.

    Raises:
        BenchError: what is to be written cannot be; the file is named, and the blocks before this one stay readable.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._header = header
        self._open = ExitStack()
        self._columns: list[BinaryIO] = []
        self._changes: BinaryIO | None = None
        self.count = 0
        """Samples so far, the lost ones included."""

    def __enter__(self) -> Self:
        with self._writing():
            for file in (voltage_of(self._path), changes_of(self._path)):
                file.unlink(missing_ok=True)
            for file in (self._path, voltage_of(self._path))[: 1 + self._header.voltage]:
                self._columns.append(self._open.enter_context(file.open("wb", buffering=0)))
        self.describe(self._header)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def append(self, current_a: ArrayLike, voltage_v: ArrayLike | None = None) -> None:
        """Write a block of samples, and of the voltage where the header says that there is one; shape (n,) both."""
        given = (current_a,) if voltage_v is None else (current_a, voltage_v)
        blocks = [np.ascontiguousarray(block, "<f4") for block in given]
        if len(blocks) != len(self._columns) or len({block.shape for block in blocks}) > 1:
            raise ValueError("a recording has as many voltages as currents in every block, or none in any")
        try:
            with self._writing():
                for file, block in zip(self._columns, blocks, strict=True):
                    _write(file, block)
        except BenchError:
            self._take_back()
            raise
        self.count += len(blocks[0])

    def lose(self, count: int) -> None:
        """Note that *count* samples are lost here; they are written as NaN."""
        self.note(Change.GAP, self.count, count)
        while count:
            part = np.full(min(count, FILL), np.nan, "<f4")
            self.append(*[part for _ in self._columns])
            count -= len(part)

    def note(self, what: Change, sample: int, value: int) -> None:
        """Write one change; see :meth:`notes`."""
        self.notes(what, np.array([sample]), np.array([value]))

    def notes(self, what: Change, samples: NDArray[np.integer[Any]], values: NDArray[np.integer[Any]]) -> None:
        """Write several changes of one kind, shape (n,) each, before the samples that they are about."""
        records = np.empty(len(samples), CHANGE)
        records["sample"], records["what"], records["value"] = samples, what, values
        with self._writing():
            if self._changes is None:
                self._changes = self._open.enter_context(changes_of(self._path).open("wb", buffering=0))
            _write(self._changes, records)

    def describe(self, header: Header) -> None:
        """Replace what describes the recording, at once as a whole."""
        self._header = header
        facts = {"format": "little-endian float32, ampere", **asdict(header)}
        sidecar = header_of(self._path)
        unfinished = sidecar.with_name(sidecar.name + ".new")
        with self._writing():
            unfinished.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            unfinished.replace(sidecar)

    def _take_back(self) -> None:
        """Remove what was written of a block that did not fit as a whole."""
        with suppress(OSError):
            for file in self._columns:
                file.seek(self.count * _SAMPLE_BYTES)
                file.truncate()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = f"; the {self.count} readings before stay readable" if self.count else ""
            raise BenchError(f"{self._path}: readings cannot be written: {error.strerror or error}{kept}") from error


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
    except OSError as error:
        beside = header_of(path).name
        raise BenchError(f"{path}: is not a recorded waveform: {beside} beside it: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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
        count = min(file.stat().st_size // _SAMPLE_BYTES for file in files)
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
        spans=_spans(path, changes[changes["what"] == Change.RANGE], len(header.ranges_a)),
        voltage=columns[1] if header.voltage else None,
        invalid=header.invalid,
        path=path,
    )


def _spans(path: Path, changes: NDArray[np.void], ranges: int) -> RangeSpans | None:
    if not len(changes):
        return None
    if changes["value"].max() >= ranges:
        raise BenchError(f"{changes_of(path)}: names range {changes['value'].max()} of {ranges}: the file is damaged")
    samples, values = changes["sample"].astype(np.int64), changes["value"].astype(np.uint8)
    order = np.argsort(samples, kind="stable")
    # The first range holds from the beginning unless another is noted there; of several at one sample the last counts.
    samples, values = np.insert(samples[order], 0, 0), np.insert(values[order], 0, np.uint8(0))
    last_there = np.diff(samples, append=-1) != 0
    samples, values = samples[last_there], values[last_there]
    differs = np.insert(np.diff(values.astype(np.int16)) != 0, 0, True)
    return RangeSpans(samples[differs], values[differs])


def _write(file: BinaryIO, block: NDArray[Any]) -> None:
    """Write all of *block*: an unbuffered file may take less at a time."""
    rest = block.view(np.uint8).data
    while rest:
        rest = rest[file.write(rest) :]
