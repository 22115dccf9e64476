"""Sums over a recorded current: the engine beside others on the same samples, in one run (a minute and a half).

    python -m benchmarks.energy [--json]

50 million float32 samples: sleep at 5 uA, bursts up to 0.3 A, 20 phases that cover all of them. Figures are million
samples a second, the best of several rounds in which each has its turn, in one process and without threads; "over" is
how many times as many samples the first does in the same time. A busy machine makes all of them less.

"engine": charge, integral of i^2, minimum, maximum and lost samples of every phase, with the running sums that answer
any further window, from memory. "from a file": the same from a memory-mapped recording in the page cache, and after
the system was asked to forget the file; what the disk gives a program that only reads is beside the latter.
"numpy passes": the same statistics of the same phases as one writes them, a pass for each. "joulescope": the JS110
buffer of its driver, which takes raw 14-bit pairs of current and voltage, calibrates them and keeps statistics; it
does more (voltage and power as well) and does it in double precision too. The JS220's own code needs the instrument.
"pyjls": the samples written to a JLS file, and one exact statistic of each phase read from it. "ppk2-api" and "our
PPK2 decode": bytes as they come from the instrument, in chunks of 0.1 s, to currents; ours checks the sample counter
and names changes of range and logic, theirs does not check and filters spikes. ppk2-api is given fewer samples.

"report": `rig energy` on a capture of 10 minutes at 100 kHz (60 million samples) with 20 phases, once it is on disk and
in the page cache: table and plot within the process, and the table as a command, with Python's own start.

    pip install 'coaps-rig[benchmarks]'   what the rivals need; one that is missing is named
"""

import contextlib
import importlib.util
import io
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.output import run as run_benchmark
from rig.cli.energy import show_energy
from rig.cli.main import build_parser
from rig.energy import Header, RangeSpans, RecordingWriter, Waveform
from rig.meter.ppk2.words import Calibration, Framer, changes, currents_a

ROUNDS = 5
SAMPLES = 50_000_000
#: The trace repeats itself after so many samples.
PERIOD = 5_000_000
PHASES = 20
INTERVAL_S = 1e-5
REPORTED = 60_000_000
JS110_HZ = 2_000_000
JS110_CHUNK = 100_000
JS110_STEP_A = 2e-5
JLS_CHUNK = 1_000_000
PPK2_CHUNK = 40_000
PPK2_WORDS = 10_000_000
PPK2_API_WORDS = 400_000

#: What is measured of others, and the module that it needs.
RIVALS = {"joulescope_msa_s": "joulescope", "pyjls_msa_s": "pyjls", "ppk2_api_msa_s": "ppk2_api"}

Floats = NDArray[np.float32]
Figures = dict[str, Any]

TITLES = {
    "engine_msa_s": "engine, all statistics of 20 phases",
    "engine_with_voltage_msa_s": "engine, with measured voltage and energy",
    "engine_with_ranges_msa_s": "engine, with a range change every 10 ms",
    "engine_with_gaps_msa_s": "engine, with a lost sample every 10 s",
    "engine_file_msa_s": "engine, from a file in the page cache",
    "engine_cold_file_msa_s": "engine, from a file that is not",
    "cold_read_msa_s": "  the disk, for a program that only reads",
    "numpy_passes_msa_s": "numpy passes, the same statistics",
    "numpy_sum_msa_s": "numpy, float64 sum alone",
    "joulescope_msa_s": "joulescope's JS110 buffer",
    "pyjls_msa_s": "pyjls, write and statistics",
    "ppk2_decode_msa_s": "our PPK2 decode",
    "ppk2_api_msa_s": "ppk2-api's decode",
}


@dataclass(frozen=True)
class Contender:
    """What is timed, how many samples it gets, and what is done before without being timed."""

    action: Callable[[], object]
    samples: int = SAMPLES
    before: Callable[[], None] = lambda: None


def measure(scratch: Path) -> Figures:
    period = trace()
    contenders = {**engines(np.tile(period, SAMPLES // PERIOD), scratch), **ppk2_decoders(), **others(period, scratch)}
    missing = [name for name, module in RIVALS.items() if importlib.util.find_spec(module) is None]
    speeds = fastest({name: one for name, one in contenders.items() if name not in missing})
    reports = report_seconds(period, scratch)
    return {
        **{name: round(speeds[name], 2) for name in TITLES if name in speeds},
        **{name: round(ratio, 2) for name, ratio in ratios(speeds).items()},
        **{name: round(value, 3) for name, value in reports.items()},
        "missing": [RIVALS[name] for name in missing],
        "aims": aims(speeds, reports),
    }


def fastest(contenders: Mapping[str, Contender]) -> dict[str, float]:
    """Return million samples a second of each, the best of several rounds in which each has its turn."""
    shortest_s = dict.fromkeys(contenders, float("inf"))
    for _ in range(ROUNDS):
        for name, one in contenders.items():
            one.before()
            shortest_s[name] = min(shortest_s[name], seconds(one.action))
    return {name: one.samples / shortest_s[name] / 1e6 for name, one in contenders.items()}


def ratios(speeds: dict[str, float]) -> dict[str, float]:
    engine_s, ours = speeds["engine_msa_s"], speeds["ppk2_decode_msa_s"]
    found = {
        f"engine_over_{name}": engine_s / speeds[f"{name}_msa_s"]
        for name in ("numpy_passes", "joulescope", "pyjls")
        if f"{name}_msa_s" in speeds
    }
    if "ppk2_api_msa_s" in speeds:
        found["ppk2_decode_over_ppk2_api"] = ours / speeds["ppk2_api_msa_s"]
    return found


def aims(speeds: dict[str, float], reports: dict[str, float]) -> Figures:
    """Return each aim with its limit and what was reached."""
    return {
        "engine, MSa/s, at least": aim(600, speeds["engine_msa_s"]),
        "PPK2 decode, MSa/s, at least": aim(15, speeds["ppk2_decode_msa_s"]),
        "engine from a cold file, share of the disk's pace, at least": aim(
            0.9, speeds["engine_cold_file_msa_s"] / speeds["cold_read_msa_s"]
        ),
        "report of 60 M samples, s, at most": aim(1.0, reports["report_s"]),
    }


def aim(limit: float, reached: float) -> dict[str, float]:
    return {"limit": limit, "reached": round(reached, 3)}


def table(result: Figures) -> str:
    lines = [f"{'million samples a second':<48}{'':>10}"]
    lines += [f"{title:<48}{result[name]:>10.1f}" for name, title in TITLES.items() if name in result]
    lines += [f"{TITLES[name]:<48}{'missing':>10}" for name, module in RIVALS.items() if module in result["missing"]]
    lines += ["", *(f"{name:<48}{value:>10.1f}" for name, value in result.items() if "_over_" in name)]
    lines += ["", f"{'report of 60 million samples, table and plot':<48}{result['report_s']:>8.2f} s"]
    lines += [f"{'the table as a command, with its start':<48}{result['report_command_s']:>8.2f} s"]
    lines += ["", f"{'':<60}{'aim':>8}{'reached':>10}"]
    return "\n".join(
        [*lines, *(f"{name:<60}{of['limit']:>8}{of['reached']:>10}" for name, of in result["aims"].items())]
    )


def trace() -> Floats:
    """Return a board's current: asleep, and awake for a tenth of the time, with a radio that sends."""
    rng = np.random.default_rng(1)
    current = np.abs(rng.normal(5e-6, 1e-6, PERIOD)).astype(np.float32)
    for start in range(0, PERIOD, 100_000):
        current[start : start + 10_000] = rng.normal(0.08, 0.01, 10_000)
        current[start + 4_000 : start + 4_500] = rng.normal(0.3, 0.02, 500)
    return current


def phases(count: int) -> Iterator[tuple[int, int]]:
    for phase in range(PHASES):
        yield phase * count // PHASES, (phase + 1) * count // PHASES


def engines(samples: Floats, scratch: Path) -> dict[str, Contender]:
    ranges_a = (1.0, 0.1, 1e-2, 1e-3, 1e-4)
    starts = np.arange(0, len(samples), 1000)
    spans = RangeSpans(starts, (np.arange(len(starts)) % len(ranges_a)).astype(np.uint8))
    voltage = np.full(len(samples), 3.3, np.float32)
    torn = samples.copy()
    torn[::1_000_000] = np.nan
    warm, cold = scratch / "warm.f32", scratch / "cold.f32"
    for path in (warm, cold):
        samples.tofile(path)
    return {
        "engine_msa_s": Contender(lambda: engine_statistics(samples)),
        "engine_with_voltage_msa_s": Contender(lambda: engine_statistics(samples, voltage=voltage)),
        "engine_with_ranges_msa_s": Contender(lambda: engine_statistics(samples, ranges_a=ranges_a, spans=spans)),
        "engine_with_gaps_msa_s": Contender(lambda: engine_statistics(torn)),
        "engine_file_msa_s": Contender(lambda: engine_statistics(np.memmap(warm, "<f4", "r"))),
        "engine_cold_file_msa_s": Contender(
            lambda: engine_statistics(np.memmap(cold, "<f4", "r")), before=lambda: forget(cold)
        ),
        "cold_read_msa_s": Contender(lambda: read(cold), before=lambda: forget(cold)),
        "numpy_passes_msa_s": Contender(lambda: numpy_passes(samples)),
        "numpy_sum_msa_s": Contender(lambda: samples.sum(dtype=np.float64)),
    }


def others(period: Floats, scratch: Path) -> dict[str, Contender]:
    raw = joulescope_raw(period)
    return {
        "joulescope_msa_s": Contender(lambda: joulescope_statistics(raw)),
        "pyjls_msa_s": Contender(lambda: pyjls_statistics(period, scratch / "x.jls")),
    }


def ppk2_decoders() -> dict[str, Contender]:
    data = ppk2_bytes(PPK2_WORDS)
    return {
        "ppk2_decode_msa_s": Contender(lambda: our_ppk2_decode(data), PPK2_WORDS),
        "ppk2_api_msa_s": Contender(lambda: ppk2_api_decode(data[: 4 * PPK2_API_WORDS]), PPK2_API_WORDS),
    }


def engine_statistics(samples: Floats, *, ranges_a: tuple[float, ...] = (1.0,), **more: Any) -> None:
    waveform = Waveform(samples, INTERVAL_S, INTERVAL_S, ranges_a, **more)
    for first, last in phases(len(samples)):
        waveform.statistics(first, last)


def numpy_passes(samples: Floats) -> None:
    for first, last in phases(len(samples)):
        part = samples[first:last]
        part.sum(dtype=np.float64)
        np.square(part, dtype=np.float64).sum()
        part.min()
        part.max()
        np.isnan(part).sum()


def joulescope_raw(period: Floats) -> NDArray[np.uint16]:
    """Return the samples as the JS110 sends them, in steps of 20 uA: pairs of current and voltage of 14 bits each."""
    raw = np.empty((len(period), 2), np.uint16)
    # Below the 14 bits are those of the range, here 0, and in the voltage one that changes with every sample.
    raw[:, 0] = np.clip(period / JS110_STEP_A, 0, (1 << 14) - 1).astype(np.uint16) << 2
    raw[:, 1] = (8000 << 2) + 2 * (np.arange(len(period)) % 2)
    return raw.ravel()


def joulescope_statistics(raw: NDArray[np.uint16]) -> None:
    from joulescope.v0.stream_buffer import StreamBuffer

    buffer = StreamBuffer(2 * SAMPLES // PHASES / JS110_HZ, [200, 100, 50], JS110_HZ)
    buffer.suppress_mode = "off"
    buffer.calibration_set([0.0] * 7, [JS110_STEP_A] * 7, [0.0] * 2, [1e-4] * 2)
    for begin, end in phases(SAMPLES):
        for first in range(begin, end, JS110_CHUNK):
            at = first % PERIOD
            buffer.insert_raw(raw[2 * at : 2 * (at + JS110_CHUNK)])
            buffer.process()
        buffer.statistics_get(begin, end)


def pyjls_statistics(period: Floats, path: Path) -> None:
    from pyjls import DataType, Reader, SignalType, Writer

    with Writer(str(path)) as jls:
        jls.source_def(source_id=1, name="benchmark", vendor="", model="", version="", serial_number="")
        kind = {"signal_type": SignalType.FSR, "data_type": DataType.F32, "sample_rate": round(1 / INTERVAL_S)}
        jls.signal_def(signal_id=1, source_id=1, name="current", units="A", **kind)
        for first in range(0, SAMPLES, JLS_CHUNK):
            jls.fsr(1, first, period[first % PERIOD : first % PERIOD + JLS_CHUNK])
    with Reader(str(path)) as jls:
        for begin, end in phases(SAMPLES):
            jls.fsr_statistics(1, begin, end - begin, 1)
    path.unlink()


def ppk2_bytes(count: int) -> bytes:
    """Return words as a PPK2 sends them: 14 bits converter, 3 bits range, 6 bits counter, 8 bits logic."""
    number = np.arange(count, dtype=np.uint32)
    converter = np.random.default_rng(2).integers(0, 1 << 14, count, dtype=np.uint32)
    words = converter | (number // 1000 % 5) << 14 | (number % 64) << 18 | (number // 5000 % 2) << 24
    return words.astype("<u4").tobytes()


def our_ppk2_decode(data: bytes) -> None:
    zeros, ones = (0.0,) * 5, (1.0,) * 5
    shunts_ohm = (1031.64, 101.65, 10.15, 0.94, 0.043)
    calibration = Calibration(r=shunts_ohm, gs=ones, gi=ones, o=zeros, s=zeros, i=zeros, ug=ones)
    framer, current_table, before, decoded = Framer(), calibration.table(3.3), 0, 0
    for first in range(0, len(data), PPK2_CHUNK):
        for words in framer.feed(data[first : first + PPK2_CHUNK]):
            assert not isinstance(words, int), "lost samples"
            decoded += len(currents_a(words, current_table))
            changes(words, before)
            before = int(words[-1])
    assert decoded == len(data) // 4


def ppk2_api_decode(data: bytes) -> None:
    from ppk2_api.ppk2_api import PPK2_API

    controller, line = pty.openpty()
    instrument = PPK2_API(os.ttyname(line))
    instrument.current_vdd = 3300
    for first in range(0, len(data), PPK2_CHUNK):
        instrument.get_samples(data[first : first + PPK2_CHUNK])
    os.close(controller)
    os.close(line)


def report_seconds(period: Floats, scratch: Path) -> dict[str, float]:
    """Return how long `rig energy` takes, in seconds, within a process and as one."""
    path = scratch / "reported.f32"
    with RecordingWriter(path, Header(INTERVAL_S, INTERVAL_S, (1.0,), complete=True)) as file:
        for _ in range(REPORTED // PERIOD):
            file.append(period)
    names = [f"p{first}={first * INTERVAL_S}..{last * INTERVAL_S}" for first, last in phases(REPORTED)]
    options = [word for name in names for word in ("--phase", name)]
    arguments = ["energy", str(path), *options, "--voltage", "3.3"]
    with_plot = [*arguments, "--plot", str(scratch / "plot.html")]
    command = [sys.executable, "-m", "rig.cli.main", *arguments]

    def in_process() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            show_energy(build_parser().parse_args(with_plot))

    def as_command() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return {
        "report_s": min(seconds(in_process) for _ in range(ROUNDS)),
        "report_command_s": min(seconds(as_command) for _ in range(ROUNDS)),
    }


def forget(path: Path) -> None:
    """Ask the system to drop *path* from its page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path) -> None:
    buffer = bytearray(1 << 22)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def seconds(action: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    action()
    return time.perf_counter() - start_s


if __name__ == "__main__":
    run_benchmark(__doc__, measure, table)
