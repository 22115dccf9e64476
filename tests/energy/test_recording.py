import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rig.energy import Header, RangeAccuracy, RecordingWriter, Waveform, load_recording
from rig.energy.recording import CHANGE, Change, changes_of, header_of, load_changes, load_header, voltage_of
from rig.errors import BenchError

FIGURES = RangeAccuracy("document", 0.1, 1e-4, 1e-6, 1e-6, 50, 0.1, 0.01)


def header(**more: object) -> Header:
    return Header(5.12e-6, 5.12e-6, (1.0, 0.1, 1e-3), **more)  # type: ignore[arg-type]


def ramp(first: int, count: int) -> NDArray[np.float32]:
    return (np.arange(first, first + count) % 9973).astype(np.float32)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.f32"
    beside = header(voltage=True, accuracy=(FIGURES,) * 3, zero_a={1e-3: 2e-9}, instrument={"model": "m"}, t0_s=5.0)
    with RecordingWriter(path, beside) as file:
        file.append(ramp(0, 10), ramp(100, 10))
        file.notes(Change.RANGE, np.array([10, 12]), np.array([2, 1]))
        file.note(Change.LOGIC, 11, 3)
        file.append(ramp(10, 5).astype(np.float64), ramp(110, 5).tolist())
        file.lose(3)
        file.append(ramp(18, 2), ramp(118, 2))
        assert file.count == 20
        assert not load_header(path).complete
        file.describe(header(voltage=True, complete=True, invalid=("overload",), errors=("-222",), trigger_index=4))
    read = load_recording(path)
    there = ~np.isnan(read.samples)
    assert there.sum() == 17
    assert read.voltage is not None
    assert (read.samples[there] == ramp(0, 20)[there]).all()
    assert (read.voltage[there] == ramp(100, 20)[there]).all()
    assert read.spans is not None
    assert (read.spans.starts.tolist(), read.spans.index.tolist()) == ([0, 10, 12], [0, 2, 1])
    assert (read.gaps, read.invalid, read.trigger_index) == (((15, 3),), ("overload",), 4)
    assert read.interval_s == 5.12e-6
    assert load_changes(path)[2].tolist() == (11, Change.LOGIC, 3)


def test_the_header_comes_back_as_it_was_given(tmp_path: Path) -> None:
    given_header = header(accuracy=(FIGURES,) * 3, zero_a={1e-3: 2e-9}, instrument={"model": "m"}, errors=("a", "b"))
    with RecordingWriter(tmp_path / "x.f32", given_header):
        assert load_header(tmp_path / "x.f32") == given_header
    assert len(load_recording(tmp_path / "x.f32")) == 0


def test_a_new_recording_leaves_nothing_of_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.f32"
    with RecordingWriter(path, header(voltage=True)) as file:
        file.note(Change.RANGE, 0, 1)
        file.append(ramp(0, 100), ramp(0, 100))
    with RecordingWriter(path, header()) as file:
        file.append(ramp(50, 3))
    read = load_recording(path)
    assert (read.samples.tolist(), read.voltage, read.spans) == ([50.0, 51.0, 52.0], None, None)
    assert {file.name for file in tmp_path.iterdir()} == {"x.f32", "x.f32.json"}


def test_blocks_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "x.f32", header(voltage=True)) as file:
        for block in (([1.0],), ([1.0], [1.0, 2.0])):
            with pytest.raises(ValueError, match="as many voltages"):
                file.append(*block)
    assert (tmp_path / "x.f32").stat().st_size == 0


def cut(path: Path, content: bytes, length: int) -> None:
    path.write_bytes(content[:length])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "x.f32"
    with RecordingWriter(path, header(voltage=True)) as file:
        for first in range(0, 40, 10):
            file.note(Change.RANGE, first, first // 10 % 3)
            file.append(ramp(first, 7), ramp(first, 7))
            file.lose(3)
    return path


@settings(deadline=None)
@given(st.integers(0, 160), st.integers(0, 160), st.integers(0, 8 * CHANGE.itemsize))
def test_torn_ends_are_left_out(whole: Path, current: int, voltage: int, changes: int) -> None:
    """Whatever of each file was there when the writer was killed."""
    torn = whole.parent / "torn.f32"
    shutil.copy(header_of(whole), header_of(torn))
    for of, length in ((lambda path: path, current), (voltage_of, voltage), (changes_of, changes)):
        cut(of(torn), of(whole).read_bytes(), length)
    read = load_recording(torn)
    assert len(read) == min(current, voltage) // 4
    assert read.voltage is not None
    whole_samples = load_recording(whole).samples
    assert np.array_equal(read.samples, whole_samples[: len(read)], equal_nan=True)
    noted = [first for record, first in enumerate(range(0, 40, 10)) if (2 * record + 1) * CHANGE.itemsize <= changes]
    starts = [] if read.spans is None else read.spans.starts.tolist()
    assert starts == [first for first in noted if first < len(read)]
    assert all(first + count <= len(read) for first, count in read.gaps)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 2)), max_size=12))
def test_spans_ascend_strictly_and_differ_whatever_was_noted(whole: Path, notes: list[tuple[int, int]]) -> None:
    path = whole.parent / "notes.f32"
    with RecordingWriter(path, header()) as file:
        for sample, index in notes:
            file.note(Change.RANGE, sample, index)
        file.append(ramp(0, 60))
    spans = load_recording(path).spans
    expected, held = [], 0
    for sample in range(60):
        held = next((index for at, index in reversed(notes) if at == sample), held)
        expected.append(held)
    if spans is None:
        assert not notes
        return
    assert spans.starts[0] == 0
    assert (np.diff(spans.starts) > 0).all()
    found = spans.index[np.searchsorted(spans.starts, np.arange(60), side="right") - 1]
    assert found.tolist() == expected


def test_files_that_are_no_recording_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"none\.f32: is not a recorded waveform"):
        load_recording(tmp_path / "none.f32")
    path = tmp_path / "x.f32"
    path.write_bytes(b"")
    for text in ("", "{", "[]", "{}", '{"format": 1, "interval_s": 1}'):
        header_of(path).write_text(text)
        with pytest.raises(BenchError, match=r"x\.f32: is not a recorded waveform"):
            load_recording(path)
    with RecordingWriter(path, header()) as file:
        file.note(Change.RANGE, 0, 9)
        file.append([1.0])
    with pytest.raises(BenchError, match=r"x\.changes: names range 9 of 3"):
        load_recording(path)


KILLED = """
import mmap, os, random, signal, struct, sys, time
from pathlib import Path
import numpy as np
from rig.energy import Header, RecordingWriter
from rig.energy.recording import Change

BLOCK = 2500
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
delays = random.Random(seed)

def write_without_end(path, told):
    with RecordingWriter(path, Header(1e-6, 1e-6, (1.0, 0.1, 1e-3), voltage=True)) as file:
        for block in range(10**9):
            if block % 5 == 4:
                file.lose(BLOCK)
            else:
                current = (np.arange(file.count, file.count + BLOCK) % 9973).astype(np.float32)
                changes = file.count + np.array([0, 1000])
                file.notes(Change.RANGE, changes, changes % 3)
                file.append(current, current + 1)
            struct.pack_into("<Q", told, 0, file.count)

for number in range(20):
    told = mmap.mmap(-1, 8)
    path = folder / f"{number}.f32"
    writer = os.fork()
    if not writer:
        write_without_end(path, told)
    while not struct.unpack_from("<Q", told)[0]:
        time.sleep(0.0005)
    time.sleep(delays.uniform(0, 0.05))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    print(struct.unpack_from("<Q", told)[0])
"""
KILLED_BLOCK = 2500


def test_of_a_killed_writer_everything_but_the_last_block_is_left(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(seed)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert len(told) == 20
    for number, appended in enumerate(map(int, told)):
        read = load_recording(tmp_path / f"{number}.f32")
        assert appended <= len(read) <= appended + KILLED_BLOCK
        expect_killed(read)


def expect_killed(read: Waveform) -> None:
    sample = np.arange(len(read))
    lost = sample // KILLED_BLOCK % 5 == 4
    assert read.voltage is not None
    assert (np.isnan(read.samples) == lost).all()
    assert (read.samples[~lost] == ramp(0, len(read))[~lost]).all()
    assert (read.voltage[~lost] == ramp(0, len(read))[~lost] + 1).all()
    assert read.spans is not None
    range_of = read.spans.index[np.searchsorted(read.spans.starts, sample, side="right") - 1]
    change = sample // KILLED_BLOCK * KILLED_BLOCK + np.where(sample % KILLED_BLOCK >= 1000, 1000, 0)
    assert (range_of[~lost] == (change % 3)[~lost]).all()
    assert sum(count for _, count in read.gaps) == lost.sum()
    assert read.whole().statistics.gap_share == pytest.approx(lost.mean())


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from rig.energy import Header, RecordingWriter
from rig.errors import BenchError

resource.setrlimit(resource.RLIMIT_FSIZE, (100_002, 100_002))
block = np.arange(1000, dtype=np.float32)
with RecordingWriter(Path(sys.argv[1]), Header(1e-6, 1e-6, (1.0,), voltage=True)) as file:
    try:
        for _ in range(100):
            file.append(block, block)
    except BenchError as error:
        print(error)
"""


def test_a_full_disk_is_said_and_what_was_written_before_stays_readable(tmp_path: Path) -> None:
    """The system's limit on a file's size stands for a disk that is full in the middle of a sample."""
    command = [sys.executable, "-c", FULL, str(tmp_path / "x.f32")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said.startswith(f"{tmp_path / 'x.f32'}: readings cannot be written: ")
    assert said.endswith("; the 25000 readings before stay readable\n")
    read = load_recording(tmp_path / "x.f32")
    assert (read.samples == np.tile(np.arange(1000), 25)).all()
    assert (tmp_path / "x.f32").stat().st_size == voltage_of(tmp_path / "x.f32").stat().st_size == 100_000
