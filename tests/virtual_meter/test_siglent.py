"""The SDM3065X without its sockets, on a clock that the test moves."""

import numpy as np
import pytest

from rig.virtual.meter.siglent import FUNCTION_CHANGE_NS, MEMORY_READINGS, Commands, Instrument
from rig.virtual.meter.specification import Channel, Specimen
from tests.virtual_meter.conftest import Desk as DeskOfAnInstrument

QUIET = Specimen(
    channels=tuple(
        Channel(range_a, gain_error=0.0, offset_a=0.0, noise_rms_a=range_a * 1e-9, series_ohm=0.01 / range_a)
        for range_a in (200e-6, 2e-3, 20e-3, 200e-3, 2.0, 10.0)
    ),
    clock_error=0.0,
    trigger_latency_ns=0.0,
)
MS = 1_000_000
NO_ERROR = '+0,"No error"'


class Desk(DeskOfAnInstrument):
    """An instrument without errors, its commands, and a clock in nanoseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.instrument = Instrument(QUIET, np.random.default_rng(1), "TEST", 3.3, self.now_ns)
        self.commands = Commands(self.instrument)


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.send("CONF:CURR:DC 2")
    return desk


def test_a_change_of_function_keeps_every_answer_waiting_for_more_than_three_seconds() -> None:
    desk = Desk()
    before_ns = desk.t_ns
    assert desk.send("CONF:CURR:DC 2e-3;*IDN?").startswith("coaps-rig virtual bench,SDM3065X,TEST,")
    assert desk.t_ns - before_ns >= FUNCTION_CHANGE_NS > 3e9
    before_ns = desk.t_ns
    assert desk.send("CONF:CURR:DC 2;:FUNC?") == '"CURR"'
    assert desk.t_ns - before_ns < 100 * MS
    assert desk.send("SYST:ERR?") == NO_ERROR


def test_configure_turns_auto_zero_off_and_takes_everything_else_to_its_default(desk: Desk) -> None:
    desk.send("CURR:DC:AZ ON;:CURR:DC:NPLC 100;:SAMP:COUN 7;:TRIG:SOUR EXT")
    desk.send("CONF:CURR:DC 200e-6")
    answers = desk.send("CURR:DC:AZ?;:CURR:DC:NPLC?;:SAMP:COUN?;:TRIG:SOUR?;:CURR:DC:RANG?;:CURR:DC:RANG:AUTO?")
    assert answers == "0;+1.00000000E+01;+1.00000000E+00;IMM;+2.00000000E-04;0"


def test_readings_are_text_and_fetch_keeps_them(desk: Desk) -> None:
    desk.current(0, 1.5e-4)
    desk.wait(30)
    desk.send("CONF:CURR:DC 200e-6;:CURR:DC:NPLC 1;:CURR:DC:AZ ON;:SAMP:COUN 3;:INIT")
    answer = desk.send("FETC?")
    assert [float(text) for text in answer.split(",")] == pytest.approx([1.5e-4] * 3, rel=1e-5)
    assert desk.send("FETC?") == answer
    assert desk.send("DATA:POIN?") == "+3"
    assert desk.send("R? 2") == f"#231{','.join(answer.split(',')[:2])}"
    assert desk.send("DATA:POIN?") == "+1"
    assert desk.send("DATA:LAST?").endswith(" ADC")


def test_auto_zero_doubles_the_time_of_a_reading(desk: Desk) -> None:
    took_ns = {}
    for state in ("OFF", "ON"):
        desk.send(f"CURR:DC:NPLC 10;:CURR:DC:AZ {state};:SAMP:COUN 10")
        before_ns = desk.t_ns
        desk.send("READ?")
        took_ns[state] = desk.t_ns - before_ns
    assert took_ns["OFF"] == pytest.approx(2e9, rel=0.05)
    assert took_ns["ON"] == pytest.approx(4e9, rel=0.05)


def test_beyond_the_range_it_reads_overload_and_goes_to_the_next_range_by_itself(desk: Desk) -> None:
    desk.send("CONF:CURR:DC 200e-6;:CURR:DC:NPLC 1;:SAMP:COUN 3")
    desk.current(0, 5e-4)
    desk.wait(100)
    readings = [float(text) for text in desk.send("READ?").split(",")]
    assert readings == pytest.approx([9.9e37, 5e-4, 5e-4], rel=1e-5)
    assert desk.send("CURR:DC:RANG?;:SYST:ERR?") == f"+2.00000000E-03;{NO_ERROR}"


def test_the_memory_overwrites_its_oldest_readings_and_says_nothing(desk: Desk) -> None:
    desk.send(f"CURR:DC:NPLC 0.005;:CURR:DC:AZ OFF;:SAMP:COUN {MEMORY_READINGS + 5};:INIT")
    desk.wait((MEMORY_READINGS + 10) * 2.2)
    assert desk.send("*OPC?") == "1"
    assert desk.send("DATA:POIN?") == f"+{MEMORY_READINGS}"
    assert desk.send("SYST:ERR?") == NO_ERROR


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("CURR:DC:RANG 10", -222),
        ("CONF:CURR:DC 11", -222),
        ("CURR:DC:APER 0.02", -113),
        ("SAMP:TIM 1e-3", -113),
        ("FORM:DATA REAL,32", -113),
        ("TRIG:SOUR INT", -224),
        ("FETC?", -230),
        ("SAMP:COUN 100;:INIT;:CURR:DC:NPLC 1", -221),
        ("SAMP:COUN 100;:INIT;:INIT", -213),
        ("CONF:VOLT:DC;:INIT", -221),
    ],
)
def test_what_it_has_not_and_what_it_refuses(desk: Desk, message: str, code: int) -> None:
    desk.send(message)
    assert desk.send("SYST:ERR?").startswith(f"{code:+d},")


def test_external_trigger_and_abort(desk: Desk) -> None:
    desk.send("CURR:DC:NPLC 1;:TRIG:SOUR EXT;:TRIG:SLOP POS;:SAMP:COUN 2;:INIT")
    desk.wait(500)
    assert desk.send("DATA:POIN?") == "+0"
    desk.instrument.timeline.set_level(desk.t_ns, 1)
    desk.wait(500)
    assert desk.send("DATA:POIN?") == "+2"
    desk.send("INIT;:ABOR;:TRIG:SOUR IMM")
    assert desk.send("SYST:ERR?") == NO_ERROR


def test_the_shunt_takes_its_part_of_the_boards_supply(desk: Desk) -> None:
    desk.current(0, 0.1)
    assert desk.instrument.board_voltage_v() == pytest.approx(3.3 - 0.1 * 0.005)
    desk.send("CONF:CURR:DC 0.2")
    assert desk.instrument.board_voltage_v() == pytest.approx(3.3 - 0.1 * 0.05)
    desk.send("CONF:VOLT:DC")
    assert desk.instrument.board_voltage_v() > 3.2
