"""The virtual DMM6500 without its socket, on a clock that the test moves."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.virtual.meter.keithley.buffers import ReadingBuffer
from rig.virtual.meter.keithley.commands import Commands
from rig.virtual.meter.keithley.instrument import Instrument
from rig.virtual.meter.specification import Channel, Specimen
from tests.virtual_meter.conftest import Desk as DeskOfAnInstrument

RANGES_A = (10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0, 3.0, 10.0)
QUIET = Specimen(
    channels=tuple(
        Channel(upper, gain_error=0.0, offset_a=0.0, noise_rms_a=upper * 1e-9, series_ohm=0.1 / upper, wired=upper <= 3)
        for upper in RANGES_A
    ),
    clock_error=0.0,
    trigger_latency_ns=0.0,
)
MS = 1_000_000
DIGITIZING = (
    '*RST;*CLS;:DIG:FUNC "CURR";:DIG:CURR:RANG 1;:DIG:CURR:SRATE 50000;:DIG:CURR:APER AUTO;:FORM REAL;:FORM:BORD SWAP'
)


class Desk(DeskOfAnInstrument):
    """An instrument without errors, its commands, and a clock in nanoseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.instrument = Instrument(QUIET, np.random.default_rng(1), "TEST", 3.3, self.now_ns)
        self.commands = Commands(self.instrument, "DMM6500", "SCPI")

    def values(self, query: str, kind: str = "<f8") -> Any:
        payload = self.send(query).encode("latin-1")
        assert payload[:2] == b"#0"
        return np.frombuffer(payload[2:], kind)

    def buffer(self, name: str = "defbuffer1") -> Any:
        start, end = (int(self.send(f':TRAC:ACT:{which}? "{name}"')) for which in ("STAR", "END"))
        if start <= end:
            return self.values(f':TRAC:DATA? {start},{end},"{name}",READ')
        whole = self.values(f':TRAC:DATA? 1,{self.send(f":TRAC:ACT? {chr(34)}{name}{chr(34)}")},"{name}",READ')
        return np.concatenate((whole[start - 1 :], whole[:end]))

    def errors(self) -> list[int]:
        found = []
        while (code := int(self.send("SYST:EVEN:NEXT?").split(",")[0])) != 0:
            found.append(code)
        return found


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.send(DIGITIZING)
    desk.wait(30)
    assert desk.errors() == []
    return desk


def program(desk: Desk, *blocks: str) -> None:
    """Load the trigger model with *blocks*, numbered from 1, and start it."""
    desk.send(':TRIG:LOAD "EMPTY"')
    for number, block in enumerate(blocks, 1):
        name, _, rest = block.partition(" ")
        desk.send(f":TRIG:BLOC:{name} {number}{',' if rest else ''}{rest}")
    desk.send(":INIT")


def test_it_says_what_it_is_and_which_language_it_speaks(desk: Desk) -> None:
    assert desk.send("*IDN?").startswith("coaps-rig virtual bench,MODEL DMM6500,TEST,")
    assert desk.send("*LANG?") == "SCPI"
    assert desk.send("*OPT?") == ""
    assert desk.errors() == [-113]


def test_one_of_the_two_kinds_of_function_is_active(desk: Desk) -> None:
    assert desk.send("SENS:FUNC?;:DIG:FUNC?") == '"NONE";"CURR"'
    desk.send('SENS:FUNC "CURR:DC"')
    assert desk.send("SENS:FUNC?;:DIG:FUNC?") == '"CURR:DC";"NONE"'


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("BOGUS", -113),
        ("DIG:CURR:RANG 20", -222),
        ("DIG:CURR:SRATE 999", -222),
        ("DIG:CURR:APER 30e-6", -222),  # longer than the interval
        ('SENS:FUNC "CURR:DC:X"', -224),
        ("SENS:FUNC CURR", -104),
        ('TRAC:POIN 5,"defbuffer1"', -222),
        ('TRAC:DATA? 1,2,"nobody"', 1115),
        ('TRAC:DATA? 1,2,"defbuffer1",READ', -222),
        ('TRAC:DATA? 1,2,"defbuffer1",READ,UNIT', 1133),
        ('TRAC:MAKE "defbuffer1",100', 1115),
        ('TRAC:DEL "defbuffer2"', 1115),
        ("INIT", -221),
        ("*TRG", -211),
        ('TRIG:LOAD "NOSUCH"', -224),
        ("TRIG:BLOC:WAIT 2,EXT", -222),
    ],
)
def test_a_wrong_command_goes_to_the_event_log_and_has_no_answer(desk: Desk, message: str, code: int) -> None:
    assert desk.send(message + ";:SYST:ERR:COUN?") == "1"
    assert desk.send("SYST:ERR?").startswith(f"{code},")
    assert desk.send("SYST:ERR?") == '0,"No error;0;0 0"'


def test_a_full_event_log_says_so_in_its_last_entry(desk: Desk) -> None:
    desk.send("BOGUS;" * 30)
    assert desk.errors() == [-113] * 19 + [-350]


def test_sample_rate_is_on_the_digitizers_grid_and_the_aperture_follows(desk: Desk) -> None:
    desk.send("DIG:CURR:SRATE 30000")
    assert float(desk.send("DIG:CURR:SRATE?")) == pytest.approx(1e6 / 33)
    assert float(desk.send("DIG:CURR:APER?")) == pytest.approx(33e-6)
    desk.send("DIG:CURR:APER 12.7e-6")
    assert float(desk.send("DIG:CURR:APER?")) == pytest.approx(12e-6)
    desk.send("DIG:CURR:SRATE 200000")
    assert float(desk.send("DIG:CURR:APER?")) == pytest.approx(5e-6)


def test_a_counted_block_digitizes_and_reads_do_not_empty_the_buffer(desk: Desk) -> None:
    desk.current(0, 0.1)
    program(desk, "BUFF:CLE", 'MDIG "defbuffer1",500')
    assert desk.send("TRIG:STAT?").startswith("RUNNING;RUNNING;")
    desk.wait(100)
    assert desk.send("TRIG:STAT?") == "IDLE;IDLE;2"
    for _ in range(2):
        assert desk.values('TRAC:DATA? 1,500,"defbuffer1",READ') == pytest.approx([0.1] * 500, abs=1e-7)
    assert desk.values('TRAC:DATA? 499,500,"defbuffer1",REL') == pytest.approx([498 * 20e-6, 499 * 20e-6])


def test_each_reading_is_the_mean_over_its_aperture(desk: Desk) -> None:
    program(desk, "BUFF:CLE", "WAIT EXT,ENT", 'MDIG "defbuffer1",5')
    desk.wait(1)
    desk.line(1, 1)  # it falls at 2 ms, and the first reading begins 0.8 ms later
    desk.line(2, 0)
    for after_ms, amps in ((2, 0.1), (2.85, 0.3)):
        desk.current(after_ms, amps)
    desk.wait(50)
    assert desk.buffer() == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.3], abs=1e-7)


@pytest.mark.parametrize(
    ("form", "border", "kind"), [("SRE", "SWAP", "<f4"), ("REAL", "SWAP", "<f8"), ("REAL", "NORM", ">f8")]
)
def test_binary_formats_are_indefinite_blocks(desk: Desk, form: str, border: str, kind: str) -> None:
    desk.send(f"FORM {form};:FORM:BORD {border}")
    desk.current(0, 0.5)
    program(desk, "BUFF:CLE", 'MDIG "defbuffer1",20')
    desk.wait(50)
    assert desk.values("TRAC:DATA? 1,20", kind) == pytest.approx([0.5] * 20, abs=1e-6)
    assert desk.send("FORM?;FORM:BORD?") == f"{form};{border}"


def test_ascii_is_separated_by_commas(desk: Desk) -> None:
    desk.send("FORM ASC")
    program(desk, "BUFF:CLE", 'MDIG "defbuffer1",3')
    desk.wait(50)
    assert len([float(value) for value in desk.send('TRAC:DATA? 1,3,"defbuffer1",READ,REL').split(",")]) == 6


def test_the_default_buffers_wrap_silently(desk: Desk) -> None:
    assert desk.send('TRAC:POIN? "defbuffer1";:TRAC:FILL:MODE? "defbuffer2"') == "100000;CONT"
    desk.current(1000, 0.2)
    program(desk, "BUFF:CLE", 'MDIG "defbuffer1",100150')
    desk.wait(3000)
    assert desk.send("TRAC:ACT?;:TRAC:ACT:STAR?;:TRAC:ACT:END?") == "100000;151;150"
    assert desk.errors() == []
    assert desk.buffer()[-1] == pytest.approx(0.2, abs=1e-6)


def test_a_buffer_that_fills_once_discards_and_says_so(desk: Desk) -> None:
    desk.send('TRAC:MAKE "mine",100')
    assert desk.send('TRAC:FILL:MODE? "mine"') == "ONCE"
    program(desk, 'BUFF:CLE "mine"', 'MDIG "mine",150')
    desk.wait(100)
    assert desk.send('TRAC:ACT? "mine"') == "100"
    assert desk.send("SYST:ERR:COUN?;:SYST:EVEN:COUN? ALL") == "0;1"
    assert desk.errors() == [4915]


def test_memory_is_shared_by_all_buffers(desk: Desk) -> None:
    desk.send('TRAC:MAKE "big",6800000;:TRAC:MAKE "more",100')
    assert desk.errors() == [-222]
    desk.send('TRAC:DEL "big";:TRAC:MAKE "more",100')
    assert desk.errors() == []


def test_readings_in_the_background_go_on_in_step_after_the_event(desk: Desk) -> None:
    desk.send('TRAC:FILL:MODE CONT,"defbuffer1";:TRAC:POIN 100,"defbuffer1";:TRIG:EXT:IN:EDGE RIS')
    program(desk, "BUFF:CLE", 'MDIG "defbuffer1",INF', "WAIT EXT,ENT", 'MDIG "defbuffer1",60')
    desk.wait(50)
    desk.line(0, 1)
    desk.current(0, 0.25)
    desk.wait(50)
    assert desk.send("TRIG:STAT?") == "IDLE;IDLE;4"
    readings = desk.buffer()
    assert readings[:39] == pytest.approx([0.0] * 39, abs=1e-6)
    assert readings[40:] == pytest.approx([0.25] * 60, abs=1e-6)


def test_the_analog_trigger_sees_only_what_is_digitized(desk: Desk) -> None:
    desk.send("DIG:CURR:ATR:MODE EDGE;:DIG:CURR:ATR:EDGE:LEV 0.2;:DIG:CURR:ATR:EDGE:SLOP RIS")
    desk.send(':TRAC:POIN 40,"defbuffer1";:TRIG:LOAD "LoopUntilEvent",ATR,25,ENT,0,"defbuffer1";:INIT')
    desk.current(30, 0.3)
    desk.wait(100)
    assert desk.send("TRIG:STAT?").startswith("IDLE")
    readings = desk.buffer()
    assert np.flatnonzero(readings > 0.2)[0] == 9
    program(desk, "BUFF:CLE", "WAIT ATR,ENT", 'MDIG "defbuffer1",10')
    desk.current(1, 0.0)
    desk.current(10, 0.3)
    desk.wait(300)
    assert desk.send("TRIG:STAT?") == "WAITING;WAITING;2"


def test_waiting_is_shown_only_after_a_tenth_of_a_second(desk: Desk) -> None:
    program(desk, "BUFF:CLE", "WAIT COMM,ENT", 'MDIG "defbuffer1",10')
    desk.wait(60)
    assert desk.send("TRIG:STAT?") == "RUNNING;RUNNING;2"
    desk.wait(100)
    assert desk.send("TRIG:STAT?") == "WAITING;WAITING;2"
    desk.send("*TRG")
    desk.wait(50)
    assert desk.send("TRIG:STAT?;:TRAC:ACT?") == "IDLE;IDLE;3;10"


def test_a_duration_loop_ends_by_itself(desk: Desk) -> None:
    desk.send(':TRIG:LOAD "DurationLoop",0.1,0,"defbuffer1";:INIT')
    desk.wait(200)
    assert desk.send("TRIG:STAT?").startswith("IDLE")
    assert int(desk.send("TRAC:ACT?")) == pytest.approx(5000, abs=50)


def test_a_loop_of_delays_is_a_long_stop(desk: Desk) -> None:
    program(desk, "BUFF:CLE", 'MDIG "defbuffer1",INF', "DEL:CONS 0.02", "BRAN:COUN 3,3", 'MDIG "defbuffer1",0')
    desk.wait(200)
    assert desk.send("TRIG:STAT?").startswith("IDLE")
    assert int(desk.send("TRAC:ACT?")) == pytest.approx(3000, abs=50)


def test_settings_wait_until_the_trigger_model_is_idle(desk: Desk) -> None:
    program(desk, "BUFF:CLE", "WAIT EXT,ENT", 'MDIG "defbuffer1",10')
    desk.send("DIG:CURR:RANG 3;:INIT")
    assert desk.errors() == [-221, -213]
    desk.send("*OPC;:ABOR")
    assert int(desk.send("*ESR?")) & 1
    desk.send("DIG:CURR:RANG 3")
    assert desk.errors() == []


def test_overrange_reads_as_such_and_is_no_error(desk: Desk) -> None:
    desk.current(0, 1.3)
    program(desk, "BUFF:CLE", 'MDIG "defbuffer1",10')
    desk.wait(50)
    assert (desk.buffer() == 9.9e37).all()
    assert desk.errors() == []


def test_measuring_takes_the_range_from_the_current_or_keeps_it(desk: Desk) -> None:
    desk.send('FORM ASC;:SENS:FUNC "CURR:DC"')
    desk.current(0, 5e-3)
    desk.wait(1)
    assert float(desk.send("READ?")) == pytest.approx(5e-3, rel=1e-6)
    assert float(desk.send("CURR:RANG?")) == 10e-3
    desk.send("CURR:RANG 0.5")
    assert desk.send("CURR:RANG:AUTO?") == "0"
    desk.send("SENS:COUN 3;:READ?")
    assert float(desk.send("CURR:RANG?")) == 1.0
    assert desk.send("TRAC:ACT?") == "4"
    desk.send('SENS:FUNC "VOLT:DC"')
    assert float(desk.send("READ?")) == pytest.approx(0.0, abs=0.1)


def test_a_new_range_is_in_force_after_its_delay(desk: Desk) -> None:
    desk.current(0, 0.02)
    desk.send("DIG:CURR:RANG 0.1;:DIG:COUN 1")
    program(desk, "BUFF:CLE", 'MDIG "defbuffer1",AUTO')
    desk.wait(22)
    assert desk.send("TRAC:ACT?") == "0"
    desk.wait(10)
    assert desk.send("TRAC:ACT?") == "1"


def test_range_and_leads_take_voltage_from_the_board(desk: Desk) -> None:
    desk.current(0, 0.3)
    assert desk.instrument.board_voltage_v() == pytest.approx(3.27)
    desk.send("DIG:CURR:RANG 0.1")
    assert desk.instrument.board_voltage_v() == pytest.approx(3.0)
    desk.send("*RST")
    assert desk.instrument.board_voltage_v() == pytest.approx(3.0)  # voltage is measured elsewhere: the path stays
    desk.send('SENS:FUNC "CURR:DC";:CURR:RANG 10')
    assert desk.instrument.board_voltage_v() == 0.0  # the rear jacks, to which nothing is wired


@settings(deadline=None)
@given(st.integers(1, 40), st.booleans(), st.lists(st.integers(0, 60), max_size=8))
def test_a_ring_holds_the_newest_in_order(capacity: int, continuous: bool, batches: list[int]) -> None:
    ring, expected = ReadingBuffer(capacity, continuous), list(range(sum(batches)))
    ends = np.cumsum(batches, dtype=int)
    stored = [
        ring.append(batch, batch)
        for batch in (np.arange(end - size, end, dtype=float) for size, end in zip(batches, ends, strict=True))
    ]
    kept = expected[-capacity:] if continuous else expected[:capacity]
    assert all(stored) == (continuous or len(expected) <= capacity)
    assert ring.count == len(kept)
    if kept:
        whole = list(ring.read(1, ring.count)[0])
        assert [whole[(ring.start - 1 + k) % ring.count] for k in range(ring.count)] == kept
        assert whole[ring.end - 1] == kept[-1]
