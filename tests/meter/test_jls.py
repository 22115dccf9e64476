"""JLS files, written with pyjls as the Joulescope's own program does, become recordings."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyjls import DataType, SignalType, Writer

from rig.energy import RangeAccuracy, RangeSpans, Waveform, charge
from rig.energy.export import export_jls
from rig.energy.recording import Change, load_changes, load_header, load_recording
from rig.errors import BenchError
from rig.meter.jls import convert, open_jls

RATE_HZ = 1_000_000
#: Where a Joulescope's sample numbers begin is anybody's guess.
FIRST = 123_456


class File:
    """A JLS file of one Joulescope, to be filled signal by signal."""

    def __init__(self, path: Path, model: str = "JS220") -> None:
        self.writer = Writer(str(path))
        self.writer.source_def(
            source_id=1, name="meter", vendor="Jetperch", model=model, version="1.2", serial_number="001234"
        )

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *_: Any) -> None:
        self.writer.close()

    def signal(self, number: int, name: str, kind: int, rate_hz: int = RATE_HZ) -> None:
        self.writer.signal_def(
            signal_id=number,
            source_id=1,
            signal_type=SignalType.FSR,
            data_type=kind,
            sample_rate=rate_hz,
            name=name,
            units="A",
        )

    def current(self, samples: np.ndarray, first: int = FIRST) -> None:
        self.signal(1, "current", DataType.F32)
        self.writer.fsr(1, first, samples.astype(np.float32))


def test_current_voltage_ranges_and_logic_come_through(tmp_path: Path) -> None:
    count = 1_200_000
    rng = np.random.default_rng(1)
    current = rng.normal(0.01, 1e-3, count).astype(np.float32)
    voltage = rng.normal(3.3, 1e-3, count).astype(np.float32)
    codes = np.repeat(np.array([2, 0, 6], np.uint8), count // 3)
    lines = (np.arange(count) // 1001 % 2).astype(np.uint8)
    with File(tmp_path / "x.jls", "JS110") as file:
        file.current(current)
        file.signal(2, "voltage", DataType.F32)
        file.writer.fsr(2, FIRST, voltage)
        file.signal(3, "current_range", DataType.U4)
        file.writer.fsr(3, FIRST, codes[0::2] | codes[1::2] << 4)
        file.signal(4, "gpi[1]", DataType.U1)
        file.writer.fsr(4, FIRST, np.packbits(lines, bitorder="little"))
    waveform = open_jls(tmp_path / "x.jls")
    assert waveform.path == tmp_path / "x.jls"
    assert waveform.interval_s == 1e-6
    assert np.array_equal(waveform.samples, current)
    assert waveform.voltage is not None
    assert np.array_equal(waveform.voltage, voltage)
    assert waveform.gaps == ()
    assert waveform.accuracy == ()
    assert waveform.spans is not None
    assert waveform.spans.starts.tolist() == [0, 400_000, 800_000]
    assert [waveform.ranges_a[index] for index in waveform.spans.index] == [180e-3, 10.0, 18e-6]
    assert charge("all", waveform.whole()).value == pytest.approx(float(current.mean(dtype=np.float64)) * 1.2)
    convert(tmp_path / "x.jls", tmp_path / "y.f32")
    changes = load_changes(tmp_path / "y.f32")
    logic = changes[changes["what"] == Change.LOGIC]
    assert np.array_equal(logic["sample"], np.arange(0, count, 1001))
    assert np.array_equal(logic["value"], np.arange(len(logic)) % 2 * 2)
    header = load_header(tmp_path / "y.f32")
    assert (header.instrument["model"], header.instrument["serial"]) == ("JS110", "001234")
    assert header.complete


def test_gaps_and_lost_samples_are_gaps(tmp_path: Path) -> None:
    samples = np.full(1_100_000, 0.5, np.float32)
    samples[1_048_570:1_048_580] = np.nan  # lost by the instrument, across the border of what is read at a time
    with File(tmp_path / "x.jls") as file:
        file.current(samples)
        file.writer.fsr(1, FIRST + 1_150_000, samples[:100])
    convert(tmp_path / "x.jls", tmp_path / "y.f32")
    waveform = load_recording(tmp_path / "y.f32")
    assert len(waveform) == 1_150_100
    lost = np.zeros(len(waveform), bool)
    for first, count in waveform.gaps:
        assert not lost[first : first + count].any()
        lost[first : first + count] = True
    assert np.array_equal(lost, np.isnan(waveform.samples))
    assert lost.sum() == 10 + 50_000
    assert waveform.between(0.0, 1.0).statistics.mean_a == pytest.approx(0.5)


def test_signals_that_begin_elsewhere_or_go_faster_are_put_beside_the_current(tmp_path: Path) -> None:
    with File(tmp_path / "x.jls") as file:
        file.current(np.full(1000, 0.1), FIRST)
        file.signal(2, "voltage", DataType.F32)
        file.writer.fsr(2, FIRST + 100, np.arange(500, dtype=np.float32))
        file.signal(4, "gpi[0]", DataType.U1, 2 * RATE_HZ)
        file.writer.fsr(4, 2 * FIRST, np.packbits(np.arange(2000) >= 700, bitorder="little"))
    convert(tmp_path / "x.jls", tmp_path / "y.f32")
    waveform = load_recording(tmp_path / "y.f32")
    assert waveform.voltage is not None
    assert np.isnan(waveform.voltage[[0, 99, 600, 999]]).all()
    assert waveform.voltage[[100, 599]].tolist() == [0.0, 499.0]
    changes = load_changes(tmp_path / "y.f32")
    assert changes[changes["what"] == Change.LOGIC]["sample"].tolist() == [0, 350]
    assert waveform.ranges_a == (10.0,)


def test_what_the_rig_exports_comes_back_with_its_exact_interval(tmp_path: Path) -> None:
    accuracy = tuple(RangeAccuracy(f"range {a}", a, 1e-3, 1e-9, 1e-9, 10.0, 0.1, 0.01) for a in (0.1, 3.0))
    samples = np.linspace(0, 1, 1000).astype(np.float32)
    samples[40:50] = np.nan
    waveform = Waveform(
        samples=samples,
        interval_s=5.12e-6,
        aperture_s=5e-6,
        ranges_a=(0.1, 3.0),
        accuracy=accuracy,
        t0_s=12.5,
        t0_uncertainty_s=1e-3,
        trigger_index=100,
        gaps=((40, 10),),
        spans=RangeSpans(np.array([0, 100, 200]), np.array([0, 1, 0], np.uint8)),
        voltage=np.full(1000, 3.3, np.float32),
        invalid=("10 samples lost",),
    )
    export_jls(waveform, tmp_path / "x.jls")
    again = open_jls(tmp_path / "x.jls")
    for name in ("interval_s", "aperture_s", "ranges_a", "accuracy", "t0_s", "trigger_index", "gaps", "invalid"):
        assert getattr(again, name) == getattr(waveform, name), name
    assert again.spans is not None
    assert again.spans.starts.tolist() == [0, 100, 200]
    assert again.spans.index.tolist() == [0, 1, 0]
    assert np.array_equal(again.samples, samples, equal_nan=True)


@pytest.mark.parametrize("user_data", ["not JSON", json.dumps([1, 2]), json.dumps({"interval_s": 1}), b"\x00\xff"])
def test_somebody_elses_user_data_are_left_alone(tmp_path: Path, user_data: Any) -> None:
    with File(tmp_path / "x.jls", "of some make") as file:
        file.writer.user_data(0, user_data)
        file.current(np.full(1000, 0.25))
    convert(tmp_path / "x.jls", tmp_path / "y.f32")
    waveform = load_recording(tmp_path / "y.f32")
    assert waveform.interval_s == 1e-6
    assert waveform.ranges_a == (0.25,)


def killed_writer(path: Path, samples: int) -> None:
    """Write a file that its writer does not live to close."""
    program = f"""
import os, signal
import numpy as np
from tests.meter.test_jls import File
from pathlib import Path
file = File(Path({str(path)!r}))
file.current(np.full(1000, 0.1))
block = np.full(100_000, 0.1, np.float32)
for first in range(1000, {samples}, len(block)):
    file.writer.fsr(1, 123_456 + first, block)
file.writer.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9


def test_of_a_torn_file_the_beginning_is_read_or_it_is_an_error_and_the_rig_lives(tmp_path: Path) -> None:
    killed_writer(tmp_path / "x.jls", 3_000_000)
    found = read(tmp_path / "x.jls")
    if isinstance(found, str):
        # pyjls 0.17 ends its process on such a file; 0.19 reads what is there.
        assert re.search(r"x\.jls: (is torn: reading it ended the reader with signal|cannot be read)", found)
    else:
        assert 2_000_000 < len(found) <= 3_101_000
        assert np.array_equal(found.samples, np.full(len(found), 0.1, np.float32))


def read(path: Path) -> Waveform | str:
    """Return the recording, or what the rig says of the file."""
    try:
        return open_jls(path)
    except BenchError as error:
        return str(error)


def test_of_a_small_torn_file_what_can_be_read_is_read(tmp_path: Path) -> None:
    killed_writer(tmp_path / "x.jls", 600_000)
    waveform = open_jls(tmp_path / "x.jls")
    assert 400_000 < len(waveform) <= 701_000
    assert waveform.samples[100] == pytest.approx(0.1)


def test_what_is_no_jls_file_with_a_current_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="is not there"):
        open_jls(tmp_path / "none.jls")
    (tmp_path / "x.jls").write_bytes(b"not a JLS file at all" * 100)
    with pytest.raises(BenchError, match=r"x\.jls: cannot be read: "):
        open_jls(tmp_path / "x.jls")
    with File(tmp_path / "y.jls") as file:
        file.signal(1, "power", DataType.F32)
        file.writer.fsr(1, 0, np.zeros(10, np.float32))
    with pytest.raises(BenchError, match="no signal named current"):
        open_jls(tmp_path / "y.jls")
    with File(tmp_path / "z.jls") as file:
        file.current(np.zeros(10))
        file.signal(2, "voltage", DataType.F32, RATE_HZ // 2)
        file.writer.fsr(2, 0, np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="another sample rate"):
        convert(tmp_path / "z.jls", tmp_path / "z.f32")
