"""What a PPK2 sends, without a port: calibration text, words however they are cut, lost samples, time."""

import contextlib
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.meter import MeterError
from rig.meter.ppk2.acquisition import Finder
from rig.meter.ppk2.stream import SETTLING, Lost, Stream
from rig.meter.ppk2.words import (
    ADC_FULL_SCALE,
    Calibration,
    Framer,
    changes,
    currents_a,
    parse_metadata,
)
from rig.meter.protocol import Trigger

METADATA = "\n".join(
    ["Calibrated: 1"]
    + [f"{name}{index}: {value}" for name in ("R", "GS", "GI", "O") for index, value in enumerate("98765")]
    + ["VDD: 3300", "HW: 9173", "mode: 2"]
    + [f"{name}{index}: {value}" for name in ("S", "I", "UG") for index, value in enumerate((1, 2, -3, 0.5, 1e-9))]
    + ["IA: 56", "END", ""]
)
IDEAL = Calibration(
    r=(1000.0, 100.0, 10.0, 1.0, 0.05),
    gs=(0.0,) * 5,
    gi=(1.0,) * 5,
    o=(0.0,) * 5,
    s=(0.0,) * 5,
    i=(0.0,) * 5,
    ug=(1.0,) * 5,
)
STEP_V = 4 * 1.8 / 163840


def words_of(count: int, *, first: int = 0, adc: Any = 100, index: Any = 0, logic: Any = 0) -> np.ndarray:
    """Return *count* words that count from *first* on."""
    counter = (np.arange(count) + first) % 64
    word = np.asarray(adc) | np.asarray(index) << 14 | counter << 18 | np.asarray(logic) << 24
    return np.broadcast_to(word, count).astype("<u4")


def joined(pieces: list[Any]) -> tuple[np.ndarray, list[int]]:
    """Return all words of *pieces*, and the losses between them."""
    words = [piece for piece in pieces if not isinstance(piece, int)]
    return np.concatenate(words) if words else np.empty(0, "<u4"), [piece for piece in pieces if isinstance(piece, int)]


def test_metadata_is_read_as_it_is_sent() -> None:
    found = parse_metadata(METADATA.encode())
    assert found.calibration.r == (9, 8, 7, 6, 5)
    assert found.calibration.i == (1, 2, -3, 0.5, 1e-9)
    assert (found.supply_v, found.mode, found.calibrated, found.hardware) == (3.3, 2, True, "9173")


def test_the_users_gain_and_the_mode_may_be_missing() -> None:
    lines = [line for line in METADATA.splitlines() if not line.startswith(("UG", "mode"))]
    found = parse_metadata("\n".join(lines).encode())
    assert found.calibration.ug == (1.0,) * 5
    assert found.mode == 0


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("O3: 6\n", "", "O3 is 'missing'"),
        ("GS1: 8", "GS1: -nan", "GS1 is '-nan'"),
        ("S0: 1", "S0: 1e999", "S0 is '1e999'"),
        ("R4: 5", "R4: 0", "a shunt of 0 ohm"),
        ("VDD: 3300", "VDD 3300", "the line 'VDD 3300' is damaged"),
        ("R1: 8", "R0: 8", "'R0: 8' is damaged or stands twice"),
        ("END", "EN", "before its line END"),
        ("HW: 9173", "HW: \xff", "not text"),
    ],
)
def test_bad_metadata_is_one_sentence(old: str, new: str, reason: str) -> None:
    with pytest.raises(MeterError, match=reason):
        parse_metadata(METADATA.replace(old, new, 1).encode("latin-1"))


@given(st.binary(max_size=400) | st.text(alphabet="RGSIOU0123456789.:- \nnaEND", max_size=200).map(str.encode))
def test_any_metadata_is_read_or_refused(answer: bytes) -> None:
    with contextlib.suppress(MeterError):
        parse_metadata(answer + b"\nEND\n")


@given(st.data())
def test_metadata_with_one_byte_changed_is_read_or_refused(data: st.DataObject) -> None:
    answer = bytearray(METADATA.encode())
    answer[data.draw(st.integers(0, len(answer) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse_metadata(bytes(answer))
    except MeterError:
        return
    assert min(found.calibration.r) > 0
    assert np.isfinite(found.calibration.table(3.3)[: 5 << 14]).all()


def test_the_makers_formula_gives_the_current() -> None:
    calibration = Calibration(
        r=(1003.4, 101.6, 10.3, 0.96, 0.056),
        gs=(0.0, 112.8, 18.0, 2.4, 0.07),
        gi=(1.0, 0.97, 0.96, 0.95, 0.958),
        o=(112.9, 75.5, 64.6, 50.5, 87.2),
        s=(4.8e-8, 5.96e-7, 5.28e-6, 6.26e-5, 2.94e-3),
        i=(-1.04e-7, -1.44e-6, 3.64e-5, -3.74e-4, -9.39e-3),
        ug=(1.0, 1.0, 1.1, 1.0, 1.0),
    )
    table = calibration.table(3.741)
    for index, adc in ((0, 27), (2, 5000), (4, 300)):
        raw = (4 * adc - calibration.o[index]) * 1.8 / 163840 / calibration.r[index]
        offset = calibration.s[index] * 3.741 + calibration.i[index]
        expected = calibration.ug[index] * (calibration.gs[index] * raw**2 + calibration.gi[index] * raw + offset)
        word = words_of(1, adc=adc, index=index, logic=0xA5, first=63)
        assert currents_a(word, table)[0] == pytest.approx(expected, rel=1e-6)
    assert np.isnan(currents_a(words_of(1, index=5), table)[0])


def test_changes_are_found_where_they_are_also_at_block_borders() -> None:
    count = 40_000
    index, logic = np.zeros(count, int), np.zeros(count, int)
    index[16_383:16_385] = 4
    logic[32_769:] = 0x81
    found = changes(words_of(count, index=index, logic=logic), int(words_of(1, logic=1)[0]))
    assert found.samples.tolist() == [0, 16_383, 16_385, 32_769]
    assert found.ranges.tolist() == [0, 4, 0, 0]
    assert found.logic.tolist() == [0, 0, 0, 0x81]


@given(st.integers(0, 63), st.lists(st.integers(0, 97), max_size=60))
def test_words_survive_any_cutting(first: int, sizes: list[int]) -> None:
    sent = words_of(200, first=first, adc=np.arange(200) * 81 % 16384, logic=np.arange(200) % 256)
    data, framer, pieces = sent.tobytes(), Framer(), []
    for size in sizes:
        pieces += framer.feed(data[:size])
        data = data[size:]
    pieces += framer.feed(data)
    words, lost = joined(pieces)
    assert words.tolist() == sent.tolist()
    assert lost == []
    assert framer.discarded == 0


@given(st.integers(1, 63), st.integers(0, 63), st.data())
def test_lost_words_are_counted_whatever_the_cutting(gap: int, first: int, data: st.DataObject) -> None:
    sent = words_of(120 + gap, first=first)
    stream = sent[:50].tobytes() + sent[50 + gap :].tobytes()
    cut = data.draw(st.integers(0, len(stream)))
    framer = Framer()
    words, lost = joined(framer.feed(stream[:cut]) + framer.feed(stream[cut:]))
    assert lost == [gap]
    assert words.tolist() == np.concatenate((sent[:50], sent[50 + gap :])).tolist()


@given(st.integers(0, 60 * 4), st.integers(1, 40), st.binary(max_size=30))
def test_a_torn_place_is_found_and_framing_comes_back(place: int, torn: int, rubbish: bytes) -> None:
    """Bytes are missing in the middle and others are put in: what comes long after is right again."""
    sent = words_of(200, adc=np.arange(200) * 17 % 16384)
    data = sent.tobytes()
    framer = Framer()
    words, lost = joined(framer.feed(data[:place] + rubbish + data[place + torn :]))
    assert words[-100:].tolist() == sent[-100:].tolist()
    whole = place // 4
    if whole >= 8:
        assert words[:whole].tolist() == sent[:whole].tolist()
        assert (len(words) + sum(lost) - 200) % 64 == 0


@given(st.binary(max_size=2000))
def test_rubbish_never_breaks_the_framer(data: bytes) -> None:
    framer = Framer()
    framer.feed(data)
    words, _ = joined(framer.feed(words_of(300).tobytes()))
    assert words[-100:].tolist() == words_of(300)[-100:].tolist()


class Port:
    """Plays the instrument to a stream: samples every 10 us, each chunk late by what *late_s* says."""

    def __init__(self, late_s: Any = lambda: 0.0, chunk: int = 1000) -> None:
        self.stream = Stream()
        self.pieces: list[Any] = []
        self._late_s = late_s
        self._chunk = chunk
        self._at = 5

    def send(self, samples: int) -> None:
        while samples > 0:
            size = min(self._chunk, samples)
            words = words_of(size, first=self._at % 64)
            self._at += size
            samples -= size
            self.pieces += self.stream.feed(words.tobytes(), 100 + self._at * 1e-5 + self._late_s())

    def lose(self, samples: int) -> None:
        self._at += samples

    @property
    def lost(self) -> list[Lost]:
        return [piece for piece in self.pieces if isinstance(piece, Lost)]

    @property
    def given(self) -> int:
        return sum(len(piece) for piece in self.pieces if not isinstance(piece, Lost))


def test_the_first_samples_are_left_out_and_the_rest_is_there() -> None:
    port = Port()
    port.send(50_000)
    assert port.given == 50_000 - SETTLING
    assert port.lost == []
    assert port.stream.latest_start_s == pytest.approx(100 + (5 + SETTLING) * 1e-5, abs=1e-9)
    assert port.stream.proven == 50_000


@pytest.mark.parametrize("count", [1, 7, 63, 65, 200, 5000])
def test_how_many_samples_were_lost_is_told_from_counter_and_time(count: int) -> None:
    draws = random.Random(count)
    port = Port(lambda: draws.random() ** 2 * 5e-3)
    port.send(150_000)
    port.lose(count)
    port.send(150_000)
    assert [(lost.count, lost.certain, lost.silent) for lost in port.lost] == [(count, True, False)]
    assert port.stream.counted == 300_000 + count
    assert port.given == 300_000 - SETTLING


def test_where_the_time_is_too_uncertain_that_is_said() -> None:
    draws = random.Random(3)
    port = Port(lambda: draws.uniform(0.0, 20e-3))
    port.send(150_000)
    port.lose(70)
    port.send(150_000)
    (lost,) = port.lost
    assert lost.count % 64 == 6
    assert not lost.certain


def test_a_loss_that_the_counter_cannot_show_is_told_from_the_time() -> None:
    port = Port(lambda: 1e-4)
    port.send(300_000)
    port.lose(640)
    port.send(300_000)
    assert [(lost.count, lost.silent) for lost in port.lost] == [(640, True)]
    assert port.stream.counted == 600_640


def test_the_same_near_the_end_of_the_stream() -> None:
    port = Port()
    port.send(300_000)
    port.lose(1280)
    port.send(100_000)
    port.pieces += port.stream.finish()
    assert [(lost.count, lost.silent) for lost in port.lost] == [(1280, True)]


def test_a_host_that_is_late_loses_nothing() -> None:
    draws = random.Random(7)
    late = [0.0]
    port = Port(lambda: late[0] + draws.uniform(0, 60e-3) if late[0] else 1e-4)
    port.send(200_000)
    late[0] = 5e-3
    port.send(500_000)
    port.pieces += port.stream.finish()
    assert port.lost == []


def test_a_crystal_that_is_off_is_no_loss() -> None:
    stream, pieces, counter = Stream(), [], 0
    for chunk in range(2000):
        pieces += stream.feed(words_of(3000, first=counter).tobytes(), 100 + chunk * 3000 * 1e-5 * (1 + 100e-6))
        counter += 3000
    assert not any(isinstance(piece, Lost) for piece in pieces)


def test_what_was_left_from_before_does_not_enter() -> None:
    port = Port()
    port.stream.feed(words_of(40, first=50, adc=9).tobytes()[2:], 100.0)
    port.send(30_000)
    words = np.concatenate([piece for piece in port.pieces if not isinstance(piece, Lost)])
    assert len(words) == 30_000 - SETTLING
    assert set((words & ADC_FULL_SCALE).tolist()) == {100}
    assert port.lost == []
    assert port.stream.discarded == 0


def test_a_level_is_crossed_by_a_current_and_not_by_a_range_changes_spike() -> None:
    table = IDEAL.table(3.3)
    level_a = 50 * STEP_V / 1000
    quiet = words_of(100, adc=10)
    spike = words_of(100, adc=np.where(np.arange(100) == 40, 300, 1), index=np.where(np.arange(100) >= 40, 1, 0))
    step = words_of(100, adc=np.where(np.arange(100) >= 30, 80, 10))
    finder = Finder(Trigger.level_rising(level_a), table)
    assert finder.find(quiet) is None
    assert finder.find(spike) is None
    finder.forget()
    assert finder.find(step) == 30
    assert Finder(Trigger.level_falling(level_a), table).find(step[::-1]) == 70


def test_an_edge_on_the_line_is_found_across_blocks_but_not_across_lost_samples() -> None:
    table = IDEAL.table(3.3)
    low, high = words_of(50), words_of(50, logic=1)
    finder = Finder(Trigger.external_rising(), table)
    assert finder.find(low) is None
    assert finder.find(high) == 0
    finder.forget()
    assert finder.find(low) is None
    finder.forget()
    assert finder.find(high) is None
    assert Finder(Trigger.external_falling(), table).find(np.concatenate((high, low))) == 50
