"""A run folder as the rig leaves it: journal, a waveform of handshake and sleep, a capture of both."""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from rig.formats.pcapng import enhanced_packet, interface_description, section_header
from rig.formats.udp_packet import UdpPath

T0_S = 81_234.5
"""The rig's clock at the start of the run."""
SKEW_S = 1_700_000_000.0
"""The relay's clock runs ahead of the rig's by this."""
BOARD, CLIENT = ("127.77.1.2", 5684), ("127.0.0.1", 40001)

PHASES = (("boot", 0.4, 1.3), ("handshake", 1.3, 2.1), ("request", 2.3, 2.42), ("sleep", 2.6, 6.0))

REQUIREMENTS = (
    ("PSK-01", "Handshake with TLS_PSK_WITH_AES_128_CCM_8", "RFC 7252 9.1.3.1", "MUST"),
    ("PSK-02", "A wrong key is refused", "RFC 4279 2", "MUST"),
    ("CK-01", "The server asks for a cookie before it keeps state", "RFC 6347 4.2.1", "SHOULD"),
    ("WIR-01", "Plain CoAP is closed", "policy", "policy"),
    ("OBS-01", "Tokens are matched across two observations", "RFC 7641 3.2", "MUST"),
    ("HS-18", "A handshake completes under 10 % loss", "RFC 6347 4.2.4", "policy"),
    ("RSM-05", "After deep sleep a new handshake works", "RFC 7252 9.1.1", "policy"),
    ("ENE-03", "Handshake energy", "limits.yaml", "policy"),
    ("ENE-04", "Deep-sleep current", "limits.yaml", "policy"),
    ("ENE-05", "Energy of a request", "limits.yaml", "policy"),
    ("ENE-06", "Wake to first answer", "limits.yaml", "policy"),
)


class MakeRun(Protocol):
    """Writes a run into a folder of its own; see :func:`sample_run`."""

    def __call__(self, *, hostile: str = "", samples: int = 120_000, finish: bool = True) -> Path: ...


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make run folders below the test's own directory."""
    numbers = itertools.count(1)

    def make(**options: Any) -> Path:
        return sample_run(tmp_path / f"run-{next(numbers)}", **options)

    return make


@dataclass
class SampleRun:
    """Writes a run folder event by event; ``hostile`` is text that the device or a file name injects."""

    directory: Path
    hostile: str = ""
    lines: list[str] = field(default_factory=list)
    t_s: float = T0_S

    def event(self, name: str, /, **fields: Any) -> None:
        self.t_s += 0.25
        self.lines.append(json.dumps({"t_s": round(self.t_s, 6), "event": name, **fields}))

    def write(self) -> Path:
        (self.directory / "journal.jsonl").write_text("\n".join(self.lines) + "\n")
        return self.directory


def sample_run(directory: Path, *, hostile: str = "", samples: int = 120_000, finish: bool = True) -> Path:
    """Write a whole run into *directory* and return it; without *finish* it ends in a line cut in its middle."""
    directory.mkdir(parents=True, exist_ok=True)
    run = SampleRun(directory, hostile)
    _opening(run)
    _security(run)
    _energy(run, samples)
    _loss(run)
    if finish:
        run.event("run_end", exit_code=1, duration_s=97.25)
    run.write()
    if not finish:
        with (directory / "journal.jsonl").open("a") as journal:
            journal.write('{"t_s": 81290.1, "event": "check", "test": "testplans/test_sec')
    return directory


def _opening(run: SampleRun) -> None:
    run.event(
        "run_start",
        schema=1,
        run_id=run.directory.name,
        wall_time="2026-11-20T08:26:31+00:00",
        unix_s=1795163191.0,
        plan="demo",
        command=["rig", "demo", "--rig-flash=auto"],
        root="plans",
        repeat=[".venv/bin/python", "-m", "pytest", f"--rig-limits=l{run.hostile}.yaml"],
        host={"system": "Linux-6.1", "machine": "x86_64", "python": "3.11.2", "node": f"lab{run.hostile}"},
        versions={"aiocoap": "0.4.17", "esptool": "5.6.0"},
    )
    bench = {
        "boards": [{"name": "bulb-1", "mac": "7c:df:a1:00:00:01", "console": "rfc2217://127.0.0.1:4000", "psk": "***"}],
        "meters": {"dmm": {"model": "34465A", "serial": "MY1", "range_a": 1.0, "accuracy": "34465A.yaml"}},
        "routers": [{"name": "relay", "kind": "relay"}],
        "note": run.hostile or "virtual bench",
    }
    run.event("bench", file="bench.yaml", bench=bench)
    limits = {"sleep_current": {"max": 10e-6, "unit": "A", "source": "product sheet"}}
    run.event("limits", file="limits.yaml", limits=limits)
    for name, title, clause, level in REQUIREMENTS:
        row = {"statement": f"{title}, as a statement.", "clause": clause, "level": level, "method": "see the test"}
        evidence_for = {"etsi": ["5.5-10", "5.5-2" + run.hostile], "en18031": [], "nist": [], "hipaa": ["(e)(1)"]}
        run.event("requirement", id=name, title=title, **row, evidence_for=evidence_for)
    parts = [("bootloader", 0x0, 21_248), ("partition-table", 0x8000, 3_072), ("app", 0x10000, 1_048_576)]
    app = {"project": "coaps-light", "version": "1.4.0" + run.hostile, "idf_version": "v5.3.1", "elf_sha256": "ab" * 32}
    run.event(
        "flashed",
        board="bulb-1" + run.hostile,
        mac="7c:df:a1:00:00:01",
        chip="ESP32-C3",
        parts=[
            {"name": name, "offset": offset, "size": size, "sha256": f"{size:064x}", "action": "written"}
            for name, offset, size in parts
        ],
        app=app,
        duration_s=6.1,
    )
    console = f"I (31) boot: v5.3.1\r\n\x1b[31mE (90) wifi: {run.hostile}\x1b[0m\r\nI (99) mark: boot t_us=9\r\n"
    (run.directory / "console-bulb-1.log").write_bytes(console.encode("utf-8", "surrogatepass"))


def _security(run: SampleRun) -> None:
    _case(run, "PSK-01", "pass", "suite 0xc0a8 chosen in the ServerHello")
    _case(run, "PSK-02", "pass", "alert decrypt_error; the right key worked before and after")
    _case(run, "CK-01", "deviation", "no HelloVerifyRequest in 3 handshakes", notes=["a SHOULD" + run.hostile])
    _case(run, "WIR-01", "fail", f"5683 answered 2.05 {run.hostile}")
    exchange(run, "WIR-01", 3)
    run.event("key_log", file="keys.log")
    (run.directory / "keys.log").write_text("CLIENT_RANDOM 01 02\n")
    run.event("observation", test="t", name="handshake_bytes", value=544, unit="B", suite="TLS_X" + run.hostile)
    run.event("observation", test="t", name="resumption_bytes_saved", value=136, unit="B", suite="TLS_X" + run.hostile)
    run.event("observation", test="t", name="retransmission_interval_s", value=[2.5, 4.9, 13.0], unit="s", suite="")
    run.event("bench_error", what="router relay", message=f"capture stopped early {run.hostile}")
    run.event("retry", what="connect", why="timeout", attempt=2)
    run.event("test_start", test="testplans/test_observe.py::test_tokens", requirements=["OBS-01"])
    run.event(
        "test_end",
        test="testplans/test_observe.py::test_tokens",
        outcome="error",
        duration_s=1.0,
        message="router relay: capture stopped early",
    )


def exchange(run: SampleRun, requirement: str, packets: int) -> None:
    """Write an exchange of as many packets behind a verdict; three hundred of them at most are told in words."""
    told = min(packets, 300)
    rows = [
        {
            "t_s": run.t_s + 0.001 * n,
            "from_client": n % 2 == 0,
            "bytes": 75,
            "port": 4000 + n,
            "lines": ["ClientHello seq 0" + run.hostile, "x"],
        }
        for n in range(told)
    ]
    where = {"test": "testplans/test_security.py::test_x", "requirement": requirement, "file": "handshake.pcapng"}
    run.event("exchange", **where, packets=rows, head=min(packets, 100), omitted=packets - told)


def _case(run: SampleRun, requirement: str, state: str, observed: str, notes: list[str] | None = None) -> None:
    test = f"testplans/test_security.py::test_{requirement.lower().replace('-', '_')}"
    run.event("test_start", test=test, requirements=[requirement])
    row = {"statement": "as observed", "state": state, "observed": observed}
    run.event("check", test=test, requirement=requirement, **row, evidence=["handshake.pcapng"], notes=notes or [])
    run.event("test_end", test=test, outcome="failed" if state == "fail" else "passed", duration_s=2.0, message="")


def _energy(run: SampleRun, samples: int) -> None:
    test = "testplans/test_energy.py::test_handshake_and_sleep"
    run.event("test_start", test=test, requirements=["ENE-03", "ENE-04", "ENE-05"])
    t0_s = run.t_s
    file = f"current{run.hostile.replace('/', '')}.f32".encode(errors="ignore").decode()
    interval_s = 6.0 / samples
    current_a = waveform(samples)
    (run.directory / file).write_bytes(current_a.astype("<f4").tobytes())
    (run.directory / "handshake.pcapng").write_bytes(capture(t0_s))
    run.event(
        "waveform",
        test=test,
        board="bulb-1",
        meter="dmm",
        file=file,
        t0_s=t0_s,
        interval_s=interval_s,
        samples=samples,
        unit="A",
        range_a=1.0,
        alignment_uncertainty_s=0.0004,
    )
    for name, start, _ in PHASES:
        mark = {"board": "bulb-1", "name": name + run.hostile, "at_s": t0_s + start, "device_us": int(start * 1e6)}
        run.event("mark", **mark, fields={"reset_reason": 1, "free": run.hostile})
    phases = [_phase(name + run.hostile, a, b, current_a, t0_s, interval_s) for name, a, b in PHASES]
    run.event("phases", file=file, phases=phases)
    run.event(
        "packets",
        test=test,
        file="handshake.pcapng",
        clock_offset_s=-SKEW_S,
        clock_uncertainty_s=0.0002,
        complete=True,
        board_port=5684,
    )
    _measure(run, test, "ENE-03", "handshake_energy", 0.3142, 0.0061, "J", 0.4, "pass", evidence=[file])
    _measure(run, test, "ENE-04", "sleep_current", 9.7e-6, 0.6e-6, "A", 10e-6, "conditional", side="pass")
    _measure(run, test, "ENE-05", "request_energy", 0.0521, 0.0012, "J", 0.04, "fail")
    run.event("instrument_errors", meter="dmm", errors=["-113,Undefined header" + run.hostile])
    run.event("test_end", test=test, outcome="failed", duration_s=9.0, message="ENE-05: fail")


def _measure(
    run: SampleRun,
    test: str,
    requirement: str,
    name: str,
    value: float,
    uncertainty: float,
    unit: str,
    limit: float,
    state: str,
    side: str | None = None,
    evidence: list[str] | None = None,
) -> None:
    budget = [
        {"source": "gain of the 1 A range", "standard_uncertainty": uncertainty / 2.4, "unit": unit, "kind": "B"},
        {"source": "repeatability", "standard_uncertainty": uncertainty / 3.6, "unit": unit, "kind": "A"},
    ]
    run.event(
        "measurement",
        test=test,
        requirement=requirement,
        name=name,
        value=value,
        unit=unit,
        expanded_uncertainty=uncertainty,
        k=2.0,
        limit={"max": limit, "min": None, "unit": unit, "source": "product sheet"},
        rule="ILAC-G8:09/2019 4.2.3, guard band w = U",
        state=state,
        side=side,
        degrees_of_freedom=None,
        guard_band=uncertainty,
        acceptance={"max": round(limit - uncertainty, 9), "min": None},
        false_accept=1e-9,
        false_reject=None,
        instrument={"manufacturer": "Maker", "model": "34465A", "serial": run.hostile or "MY1", "due_on": "2027-01-01"},
        ranges_a=[1.0],
        gap_share=0.0,
        repeats=5,
        evidence=evidence or [],
        budget=budget,
        notes=[run.hostile] if run.hostile else [],
    )


def _loss(run: SampleRun) -> None:
    test = "testplans/test_loss.py::test_hs_18"
    run.event("test_start", test=test, requirements=["HS-18"])
    attempts = [{"seed": seed, "ok": seed != 7, "duration_s": 0.4 + (seed % 5) * 1.03} for seed in range(20)]
    run.event("attempts", test=test, attempts=attempts)
    row = {"statement": "at least 90 % succeed", "state": "inconclusive", "observed": "19 of 20", "false_alarm": 3e-5}
    run.event("check", test=test, requirement="HS-18", **row, evidence=["handshake.pcapng", "../../etc/passwd"])
    run.event("test_end", test=test, outcome="failed", duration_s=44.0, message="")
    run.event("test_start", test="testplans/test_sleep.py::test_rsm_05", requirements=["RSM-05", "ENE-06"])


def _phase(name: str, start: float, end: float, current_a: Any, t0_s: float, interval_s: float) -> dict[str, Any]:
    part = current_a[int(start / interval_s) : int(end / interval_s)]
    charge_c = float(part.sum() * interval_s)
    row = {"name": name, "start_s": t0_s + start, "end_s": t0_s + end, "charge_c": charge_c}
    return row | {"energy_j": charge_c * 3.3, "mean_a": float(part.mean()), "max_a": float(part.max())}


def waveform(samples: int) -> np.ndarray:
    """Return six seconds of current in amperes: off, boot, handshake with bursts, request, deep sleep."""
    time_s = np.linspace(0, 6, samples, endpoint=False)
    steps = [(0.4, 1e-6), (0.7, 28e-3), (1.3, 84e-3), (2.6, 21e-3), (6.0, 5e-6)]
    current_a = np.select([time_s < end for end, _ in steps], [value for _, value in steps])
    for packet_s, _, payload in conversation():
        burst = (time_s >= packet_s) & (time_s < packet_s + 0.0004 + len(payload) * 8e-6)
        current_a[burst] = 0.276
    noise = np.random.default_rng(7).normal(0, 1, samples)
    return (current_a * (1 + 0.01 * noise) + 3e-7 * noise).astype(np.float32)


def conversation() -> list[tuple[float, bool, bytes]]:
    """Return (seconds, from the board, payload) of a PSK handshake, a request and the goodbye."""
    client_hello, hello_verify = _handshake(1, 0, 60), _handshake(3, 0, 19)
    flight_4 = _handshake(2, 1, 48) + _handshake(14, 2, 0)
    flight_5 = _handshake(16, 2, 20) + _record(20, 0, 5, b"\x01") + _record(22, 1, 0, bytes(40))
    flight_6 = _record(20, 0, 6, b"\x01") + _record(22, 1, 0, bytes(40))
    return [
        (1.31, False, client_hello),
        (1.33, True, hello_verify),
        (1.36, False, _handshake(1, 1, 80)),
        (1.52, True, flight_4),
        (1.61, False, flight_5),
        (2.05, True, flight_6),
        (2.31, False, _record(23, 1, 1, bytes(34))),
        (2.38, True, _record(23, 1, 1, bytes(31))),
        (2.50, True, _record(21, 1, 2, bytes(18))),
    ]


def capture(t0_s: float) -> bytes:
    """Return a pcapng of :func:`conversation`, stamped by the relay's own clock."""
    blocks = [section_header(), interface_description("board side")]
    for at_s, from_board, payload in conversation():
        path = UdpPath(BOARD, CLIENT) if from_board else UdpPath(CLIENT, BOARD)
        blocks.append(enhanced_packet(0, int((t0_s + at_s + SKEW_S) * 1e9), path.packet(payload)))
    return b"".join(blocks)


def _record(kind: int, epoch: int, sequence: int, body: bytes) -> bytes:
    return bytes([kind, 0xFE, 0xFD]) + epoch.to_bytes(2) + sequence.to_bytes(6) + len(body).to_bytes(2) + body


def _handshake(kind: int, sequence: int, length: int) -> bytes:
    body = bytes(length)
    head = bytes([kind]) + length.to_bytes(3) + sequence.to_bytes(2) + bytes(3) + length.to_bytes(3)
    return _record(22, 0, sequence, head + body)
