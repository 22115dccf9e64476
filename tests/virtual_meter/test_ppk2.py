"""The virtual PPK2 without its pseudo-terminal, on a clock that the test moves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rig.virtual.meter.ppk2 import Ppk2
from rig.virtual.meter.specification import Channel, Specimen

MS = 1_000_000
QUIET = Specimen(
    channels=tuple(
        Channel(range_a, gain_error=0.0, offset_a=0.0, noise_rms_a=0.0, series_ohm=0.05 / range_a)
        for range_a in (50e-6, 500e-6, 5e-3, 50e-3, 1.0)
    ),
    clock_error=0.0,
    trigger_latency_ns=0.0,
)
START, STOP, POWER_ON, POWER_OFF = b"\x06", b"\x07", b"\x0c\x01", b"\x0c\x00"
SOURCE_3_V_3, AMPERE = b"\x0d\x0c\xe4\x11\x02", b"\x11\x01"


class Desk:
    """An instrument without errors, and a clock in nanoseconds."""

    def __init__(self, **oddities: Any) -> None:
        self.t_ns = 1_000_000 * MS
        self.instrument = Ppk2(QUIET, np.random.default_rng(1), "TEST", 3.0, oddities, lambda: self.t_ns)
        self.metadata = dict(
            line.split(": ") for line in self.send(b"\x19").decode().splitlines() if line not in ("", "END")
        )

    def send(self, data: bytes, after_ms: float = 0.0) -> bytes:
        """Send *data*, move the clock, and return what the instrument has sent."""
        self.instrument.command(data)
        self.t_ns += round(after_ms * MS)
        self.instrument.advance()
        return self.instrument.take()

    def current(self, after_ms: float, amps: float) -> None:
        self.instrument.timeline.set_current(self.t_ns + round(after_ms * MS), amps)

    def amps(self, words: np.ndarray, supply_v: float) -> np.ndarray:
        """Return what the maker's formula makes of *words*, with the figures that the instrument sent."""
        index = words >> 14 & 7
        r, gs, gi, o, s, i = (
            np.array([float(self.metadata[f"{name}{k}"]) for k in range(5)])[index]
            for name in ("R", "GS", "GI", "O", "S", "I")
        )
        raw = ((words & 0x3FFF) * 4.0 - o) * 1.8 / 163840 / r
        return raw * (gs * raw + gi) + s * supply_v + i


def words(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<u4").astype(np.int64)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_it_sends_its_calibration(desk: Desk) -> None:
    text = desk.send(b"\x19").decode()
    assert text.startswith("Calibrated: 1\nR0: ")
    assert text.endswith("\nEND\n")
    assert desk.metadata["VDD"] == "3000"
    assert "mode: 1\n" in desk.send(AMPERE + b"\x19").decode()


def test_it_feeds_the_board_in_source_mode_and_passes_the_supply_on_in_ampere_mode(desk: Desk) -> None:
    desk.current(0, 0.2)
    assert desk.instrument.board_voltage_v() == 0.0
    desk.send(SOURCE_3_V_3 + POWER_ON)
    assert desk.instrument.board_voltage_v() == pytest.approx(3.3 - 0.2 * 0.05)
    desk.send(AMPERE)
    assert desk.instrument.board_voltage_v() == pytest.approx(3.0 - 0.2 * 0.05)
    desk.send(b"\x20")
    assert desk.instrument.board_voltage_v() == 0.0


def test_a_command_in_pieces_waits_for_the_rest(desk: Desk) -> None:
    desk.send(POWER_ON + b"\x0d\x0c")
    assert desk.instrument.board_voltage_v() == 3.0
    desk.send(b"\xe4")
    assert desk.instrument.board_voltage_v() == 3.3


def test_it_counts_its_samples_and_ranges_by_itself(desk: Desk) -> None:
    desk.send(SOURCE_3_V_3 + POWER_ON)
    for after_ms, amps in ((0, 5e-6), (10, 2e-3), (30, 0.3), (50, 5e-6)):
        desk.current(after_ms, amps)
    sent = words(desk.send(START, after_ms=90))
    assert len(sent) == 7000
    assert set(np.diff(sent >> 18 & 63) % 64) == {1}
    index, amps = sent >> 14 & 7, desk.amps(sent, 3.3)
    assert index[500] == 0
    assert index[1000] == 2
    assert index[3000] == 4
    assert index[5050] == 4  # it stays for a millisecond before it goes down
    assert index[5200] == 0
    assert amps[500] == pytest.approx(5e-6, abs=5e-8)
    assert amps[2000] == pytest.approx(2e-3, abs=5e-6)
    assert amps[4000] == pytest.approx(0.3, abs=1e-3)
    assert amps[3000] == pytest.approx(0.3 * 1.3, abs=1e-3)
    assert amps[3001] == pytest.approx(0.3 * 1.1, abs=1e-3)
    assert amps[3002] == pytest.approx(0.3, abs=1e-3)


def test_beyond_its_limit_the_converter_is_at_its_end(desk: Desk) -> None:
    desk.current(0, 1.5)
    sent = words(desk.send(POWER_ON + START, after_ms=30))
    assert set(sent[5:] & 0x3FFF) == {0x3FFF}


def test_the_trigger_line_is_on_the_first_logic_input(desk: Desk) -> None:
    timeline = desk.instrument.timeline
    timeline.set_level(desk.t_ns - 5 * MS, 1)
    timeline.set_level(desk.t_ns + 2 * MS, 0)
    timeline.set_level(desk.t_ns + 4 * MS, 1)
    sent = words(desk.send(START, after_ms=30))
    assert (sent >> 24)[[0, 198, 201, 398, 401]].tolist() == [1, 1, 0, 0, 1]


def test_an_edge_while_nobody_measures_is_not_forgotten(desk: Desk) -> None:
    desk.instrument.timeline.set_level(desk.t_ns, 1)
    desk.send(b"", after_ms=100)
    assert (words(desk.send(START, after_ms=25)) >> 24).tolist() == [1] * 500


@pytest.mark.parametrize("measuring", [False, True])
def test_an_edge_that_is_told_too_late_comes_late(desk: Desk, measuring: bool) -> None:
    edge_ns = desk.t_ns
    desk.send(START if measuring else b"", after_ms=100)
    desk.instrument.timeline.set_level(edge_ns, 1)
    sent = words(desk.send(START, after_ms=25))
    assert (sent >> 24)[5:].tolist() == [1] * (len(sent) - 5)


def test_what_a_stop_leaves_behind_comes_first_after_the_next_start() -> None:
    desk = Desk(stale_bytes=42)
    sent = desk.send(START, after_ms=30)
    rest = desk.send(STOP)
    assert (len(sent) + len(rest)) % 4 == 0
    again = desk.send(START, after_ms=25)
    assert len(again) == 42 + 2000
    assert set(np.diff(words(again[42:]) >> 18 & 63) % 64) == {1}


def test_lost_torn_and_disconnected_when_asked_for() -> None:
    desk = Desk(lose=[[0.005, 7]], tear=[0.01], disconnect_s=0.05)
    sent = desk.send(START, after_ms=40)
    assert len(sent) == 4 * (2000 - 7) - 2
    assert set(np.diff(words(sent[: 4 * 500]) >> 18 & 63) % 64) == {1}
    gap = np.diff(words(sent[4 * 499 : 4 * 501]) >> 18 & 63) % 64
    assert gap.tolist() == [8]
    assert desk.instrument.connected
    desk.send(b"", after_ms=50)
    assert not desk.instrument.connected


def test_switching_the_boards_power_tears_a_word(desk: Desk) -> None:
    desk.send(POWER_ON + START, after_ms=30)
    before = desk.send(POWER_OFF)
    assert len(before) % 4 == 0 or len(before) == 0
    desk.t_ns += 10 * MS
    sent = desk.send(POWER_ON)
    assert len(sent) == 4 * 1000 - 2


def test_a_host_that_does_not_read_loses_samples(desk: Desk) -> None:
    desk.instrument.command(START)
    for _ in range(100):
        desk.t_ns += 50 * MS
        desk.instrument.advance()
    kept = words(desk.instrument.take())
    assert len(kept) < 200_000
    assert set(np.diff(kept >> 18 & 63) % 64) == {1}


def test_it_is_specified_by_a_document_of_its_own() -> None:
    text = Path("rig/virtual/meter/accuracy-nordic-ppk2-virtual.yaml").read_text()
    assert "document: coaps-rig virtual meter specification" in text
