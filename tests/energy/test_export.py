import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pyarrow import parquet
from pyjls import Reader

from rig.energy import Header, RecordingWriter, Waveform, export, load_recording
from rig.energy.export import ExportError, Note, export_csv, export_jls, export_parquet, facts, to_frame
from rig.energy.recording import Change

INTERVAL_S = 5.12e-6
COUNT = 3000


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several stretches in a short file."""
    monkeypatch.setattr(export, "STRETCH", 700)


@pytest.fixture
def recorded(tmp_path: Path) -> Waveform:
    rng = np.random.default_rng(3)
    header = Header(INTERVAL_S, INTERVAL_S, (1.0, 1e-3), voltage=True, t0_s=7.5)
    with RecordingWriter(tmp_path / "x.f32", header) as file:
        changes = np.arange(0, COUNT, 350)
        file.notes(Change.RANGE, changes, changes // 350 % 2)
        file.append(rng.random(1000, np.float32), rng.random(1000, np.float32))
        file.lose(500)
        file.append(rng.random(1500, np.float32), rng.random(1500, np.float32))
    return load_recording(tmp_path / "x.f32")


@pytest.fixture
def plain() -> Waveform:
    return Waveform(np.linspace(0, 1, COUNT, dtype=np.float32), 1e-3, 1e-3, (1.0,))


def range_a_of(sample: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.array((1.0, 1e-3))[sample // 350 % 2]


def check(frame: pd.DataFrame, recorded: Waveform, time_s: NDArray[np.float64]) -> None:
    assert recorded.voltage is not None
    assert time_s == pytest.approx(np.arange(COUNT) * INTERVAL_S, rel=1e-12)
    assert np.array_equal(frame["current_a"].to_numpy(np.float32), recorded.samples, equal_nan=True)
    assert np.array_equal(frame["voltage_v"].to_numpy(np.float32), recorded.voltage, equal_nan=True)
    assert (frame["range_a"] == range_a_of(np.arange(COUNT))).all()


def test_a_frame_has_a_row_for_each_sample_and_the_facts(recorded: Waveform, plain: Waveform) -> None:
    frame = to_frame(recorded)
    check(frame, recorded, frame.index.to_numpy())
    assert frame.index.name == "time_s"
    assert frame.attrs["gaps"] == [[1000, 500]]
    assert frame.attrs["interval_s"] == INTERVAL_S
    assert list(to_frame(plain).columns) == ["current_a"]
    assert to_frame(plain)["current_a"].dtype == np.float32


def test_parquet_opens_in_pandas_with_the_facts_beside(recorded: Waveform, tmp_path: Path) -> None:
    export_parquet(recorded, tmp_path / "x.parquet")
    frame = pd.read_parquet(tmp_path / "x.parquet")
    check(frame, recorded, frame["time_s"].to_numpy())
    read = parquet.ParquetFile(tmp_path / "x.parquet")
    assert json.loads(read.schema_arrow.metadata[b"coaps-rig"]) == facts(recorded)
    assert read.num_row_groups == 5
    assert read.read()["current_a"].null_count == 500


def test_csv_has_the_same_values_and_nothing_where_a_sample_is_lost(recorded: Waveform, tmp_path: Path) -> None:
    export_csv(recorded, tmp_path / "x.csv")
    frame = pd.read_csv(tmp_path / "x.csv")
    check(frame, recorded, frame["time_s"].to_numpy())
    with (tmp_path / "x.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (rows[1200]["current_a"], rows[1200]["voltage_v"]) == ("", "")


def test_jls_opens_with_pyjls_and_has_every_value(recorded: Waveform, tmp_path: Path) -> None:
    path = tmp_path / "x.jls"
    export_jls(recorded, path, [Note(0.01, "later"), Note(0.001, "boot")])
    said: list[tuple[int, str]] = []
    kept: list[str] = []
    with Reader(str(path)) as jls:
        signals = {signal.name: number for number, signal in jls.signals.items() if number}
        assert jls.signals[signals["current"]].sample_rate == 195312
        assert np.array_equal(jls.fsr(signals["current"], 0, COUNT), recorded.samples, equal_nan=True)
        assert np.array_equal(jls.fsr(signals["voltage"], 0, COUNT), recorded.voltage, equal_nan=True)
        assert (jls.fsr(signals["range"], 0, COUNT) == np.arange(COUNT) // 350 % 2).all()
        jls.annotations(signals["current"], 0, lambda at, _y, _kind, _group, text: said.append((at, text)) or False)
        jls.user_data(lambda _meta, text: kept.append(text) or False)
    assert said == [(195, "boot"), (1953, "later")]
    assert json.loads(kept[0]) == facts(recorded)
    assert json.loads(kept[0])["interval_s"] == INTERVAL_S


def test_a_plain_waveform_has_one_signal(plain: Waveform, tmp_path: Path) -> None:
    export_jls(plain, tmp_path / "x.jls")
    with Reader(str(tmp_path / "x.jls")) as jls:
        assert [signal.name for number, signal in jls.signals.items() if number] == ["current"]
        assert (jls.fsr(1, 0, COUNT) == plain.samples).all()


def test_what_jls_cannot_hold_is_said(tmp_path: Path) -> None:
    slow = Waveform(np.ones(3, np.float32), 2.5, 2.5, (1.0,))
    with pytest.raises(ExportError, match=r"a sample every 2\.5 s: use parquet or csv"):
        export_jls(slow, tmp_path / "x.jls")
    with pytest.raises(ExportError, match="no samples"):
        export_jls(Waveform(np.empty(0, np.float32), 1e-3, 1e-3, (1.0,)), tmp_path / "x.jls")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(plain: Waveform, tmp_path: Path) -> None:
    for write in export.FORMATS.values():
        with pytest.raises(ExportError, match=r"absent/x: cannot be written"):
            write(plain, tmp_path / "absent" / "x")


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from rig.energy import Waveform
from rig.energy.export import FORMATS, ExportError

# The limit on a file's size ends a process, unless it ignores the signal: then it is an error like a full disk.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
samples = np.random.default_rng(0).random(500_000, np.float32)
for name, write in FORMATS.items():
    try:
        write(Waveform(samples, 1e-5, 1e-5, (1.0,)), Path(sys.argv[1]) / f"x.{name}")
    except ExportError as error:
        print(name, error)
"""


def test_on_a_full_disk_no_half_file_is_left_under_the_name(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split()[0] for line in said] == list(export.FORMATS)
    assert not list(tmp_path.iterdir())


def test_an_export_needs_little_memory_whatever_the_length(tmp_path: Path) -> None:
    code = (
        "import re, sys; from pathlib import Path; import numpy as np; from rig.energy import Waveform\n"
        "from rig.energy.export import export_parquet\n"
        "def most_kib(): return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "out = Path(sys.argv[1]) / 'x.parquet'\n"
        "export_parquet(Waveform(np.zeros(3_000_000, np.float32), 1e-5, 1e-5, (1.0,)), out)\n"
        "before = most_kib()\n"
        "samples = np.memmap(sys.argv[1] + '/long.f32', '<f4', 'r')\n"
        "export_parquet(Waveform(samples, 1e-5, 1e-5, (1.0,)), out)\n"
        "print(most_kib() - before)\n"
    )
    with (tmp_path / "long.f32").open("wb") as file:
        file.truncate(100 << 20)
    command = [sys.executable, "-c", code, str(tmp_path)]
    grown_kib = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown_kib < 50 << 10
