"""The instrument without its sockets, on a clock that the test moves."""

from pathlib import Path

import numpy as np
import pytest

from rig.virtual.meter.specification import Channel, Specimen
from rig.virtual.meter.truevolt.commands import Commands
from rig.virtual.meter.truevolt.instrument import Instrument
from tests.virtual_meter.conftest import Desk as DeskOfAnInstrument

SPECIFICATION = Path("rig/virtual/meter/accuracy-34465a-virtual.yaml")
QUIET = Specimen(
    channels=tuple(
        Channel(
            range_a,
            gain_error=0.0,
            offset_a=0.0,
            noise_rms_a=range_a * 1e-9,
            series_ohm=0.1 / range_a,
            wired=range_a <= 3,
        )
        for range_a in (100e-6, 1e-3, 10e-3, 100e-3, 1.0, 3.0, 10.0)
    ),
    clock_error=0.0,
    trigger_latency_ns=0.0,
)
SAMPLING = "CONF:CURR:DC 1;:CURR:DC:ZERO:AUTO OFF;:CURR:DC:APER 20e-6;:SAMP:SOUR TIM;TIM 20e-6;:FORM:DATA REAL,64"
MS = 1_000_000


class Desk(DeskOfAnInstrument):
    """An instrument without errors, its commands, and a clock in nanoseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.instrument = Instrument(QUIET, np.random.default_rng(1), "TEST", 3.3, self.now_ns)
        self.commands = Commands(self.instrument)

    def readings(self, count: int = 2_000_000) -> np.ndarray:
        text = self.send(f"R? {count}").encode("latin-1")
        return np.frombuffer(text[2 + int(text[1:2]) :], ">f8")

    def trigger_line(self, after_ms: float, level: int) -> None:
        self.instrument.timeline.set_level(self.t_ns + round(after_ms * MS), level)


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.send(SAMPLING)
    assert desk.send("SYST:ERR?") == '+0,"No error"'
    desk.wait(10)
    return desk


def test_it_says_honestly_what_it_is(desk: Desk) -> None:
    assert desk.send("*IDN?").startswith("coaps-rig virtual bench,34465A,TEST,A.03.02")
    assert desk.send("*OPT?") == "DIG,MEM"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("BOGUS:CMD 1", -113),
        ("CURR:DC:RANG", -109),
        ("CURR:DC:RANG 1,2", -108),
        ("CURR:DC:RANG 50", -222),
        ("CURR:DC:APER 1e-6", -222),
        ("CURR:DC:RANG one", -224),
        ("TRIG:SOUR MAYBE", -224),
        ("FORM:DATA REAL,16", -224),
        ("SAMP:TIM 1e-6", -222),
        ("SAMP:COUN 10;COUN:PRET 10", -221),
        ("SAMP:COUN 1x", -131),
        ("TRIG:DEL 1 parsec", -131),
        ("SAMP:COUN +-1", -104),
        ("*TRG", -211),
        ("FETC?", -230),
        ("DATA:REM? 5", -222),
        ("*RST 1", -108),
    ],
)
def test_a_wrong_command_goes_to_the_queue_and_has_no_answer(desk: Desk, message: str, code: int) -> None:
    assert desk.send(message + ";:SYST:ERR?").startswith(f"{code},")
    assert desk.send("SYST:ERR?;:SYST:ERR?") == '+0,"No error";+0,"No error"'


def test_errors_do_not_stop_what_follows_and_show_in_the_registers(desk: Desk) -> None:
    desk.send("*ESR?")
    desk.send("BOGUS;:SAMP:COUN 7;:CURR:DC:RANG 50")
    assert float(desk.send("SAMP:COUN?")) == 7
    assert desk.send("*STB?") == "4"
    assert desk.send("*ESR?;*ESR?") == "48;0"


def test_a_full_error_queue_says_so_in_its_last_entry(desk: Desk) -> None:
    desk.send("BOGUS;" * 30)
    entries = [desk.send("SYST:ERR?") for _ in range(21)]
    assert [entry.split(",")[0] for entry in entries] == ["-113"] * 19 + ["-350", "+0"]


def test_the_sample_timer_is_on_a_grid_and_never_below_the_aperture(desk: Desk) -> None:
    desk.send("SAMP:TIM 33e-6")
    assert float(desk.send("SAMP:TIM?")) == pytest.approx(32e-6, abs=1e-9) or float(desk.send("SAMP:TIM?")) == 34e-6
    desk.send("CURR:DC:APER 100e-6")
    assert desk.send("SYST:ERR?").startswith("-221")
    assert float(desk.send("SAMP:TIM?")) == float(desk.send("SAMP:TIM? MIN")) == 100e-6
    desk.send("SAMP:TIM 20e-6")
    assert desk.send("SYST:ERR?").startswith("-221")


def test_each_reading_is_the_mean_over_its_aperture(desk: Desk) -> None:
    desk.send("SAMP:COUN 5;:INIT")
    desk.current(0.0, 0.1)
    desk.current(0.05, 0.3)
    desk.wait(30)
    assert desk.readings() == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.3], abs=1e-7)


def test_readings_are_late_by_the_lag_but_not_lost(desk: Desk) -> None:
    desk.send("SAMP:COUN 100000;:INIT")
    desk.wait(30)
    assert int(desk.send("DATA:POIN?")) == 500
    assert len(desk.readings(120)) == 120
    assert len(desk.readings()) == 380
    assert desk.send("R?") == "#10"
    desk.wait(10)
    assert len(desk.readings()) == 500


def test_fetch_waits_and_keeps_remove_needs_enough(desk: Desk) -> None:
    desk.send("FORM:DATA ASC;:SAMP:COUN 10;:INIT")
    assert desk.send("FETC?").count(",") == 9
    assert int(desk.send("DATA:POIN?")) == 10
    desk.send("DATA:REM? 11")
    assert desk.send("SYST:ERR?").startswith("-222")
    assert desk.send("DATA:REM? 4").startswith("#2")
    assert desk.send("READ?").count(",") == 9
    assert desk.send("DATA:LAST?").endswith(" ADC")


def test_external_trigger_starts_at_the_edge_of_its_slope(desk: Desk) -> None:
    desk.send("TRIG:SOUR EXT;SLOP NEG;:SAMP:COUN 3;:INIT")
    desk.trigger_line(1, 1)
    desk.trigger_line(2, 0)
    desk.current(2, 0.4)
    assert int(desk.send("STAT:OPER:COND?")) == 16 + 32
    desk.wait(40)
    assert desk.readings() == pytest.approx([0.4] * 3, abs=1e-7)
    assert int(desk.send("STAT:OPER:COND?")) == 0


def test_pretrigger_keeps_the_newest_readings_before_the_edge(desk: Desk) -> None:
    desk.send("TRIG:SOUR EXT;SLOP POS;:SAMP:COUN 100;COUN:PRET 40;:INIT")
    desk.wait(50)
    assert int(desk.send("DATA:POIN?")) == 40
    desk.current(0, 0.25)
    desk.trigger_line(0, 1)
    desk.wait(50)
    readings = desk.readings()
    assert len(readings) == 100
    assert readings[:39] == pytest.approx([0.0] * 39, abs=1e-7)
    assert readings[40:] == pytest.approx([0.25] * 60, abs=1e-7)


def test_a_trigger_before_the_pretrigger_is_full_leaves_fewer_readings(desk: Desk) -> None:
    desk.send("TRIG:SOUR EXT;SLOP POS;:SAMP:COUN 100;COUN:PRET 40;:INIT")
    desk.trigger_line(0.2, 1)
    desk.wait(50)
    assert len(desk.readings()) == 70


def test_level_trigger_fires_where_the_reading_crosses(desk: Desk) -> None:
    desk.send("TRIG:SOUR INT;LEV 0.2;SLOP POS;:SAMP:COUN 10;COUN:PRET 5;:INIT")
    desk.current(10, 0.3)
    desk.wait(60)
    readings = desk.readings()
    assert readings == pytest.approx([0.0] * 4 + [0.3] * 6, abs=1e-7)


def test_bus_trigger_and_trigger_count(desk: Desk) -> None:
    desk.send("TRIG:SOUR BUS;COUN 2;:SAMP:COUN 5;:INIT")
    for expected in (5, 10):
        desk.send("*TRG")
        desk.wait(50)
        assert int(desk.send("DATA:POIN?")) == expected
    assert desk.send("*OPC?") == "1"
    desk.send("*TRG")
    assert desk.send("SYST:ERR?").startswith("-211")


def test_overload_is_an_event_of_its_own_and_reads_as_such(desk: Desk) -> None:
    desk.send("SAMP:COUN 4;:INIT")
    desk.current(0.03, 1.3)
    desk.wait(30)
    readings = desk.readings()
    assert readings[0] < 1
    assert readings[2] == 9.9e37
    assert int(desk.send("STAT:QUES:COND?")) == 0
    assert int(desk.send("STAT:QUES:EVEN?")) == 2
    assert int(desk.send("STAT:QUES:EVEN?")) == 0
    assert desk.send("SYST:ERR?").startswith("+0")


def test_memory_overflow_drops_the_oldest_and_only_sets_a_bit(desk: Desk) -> None:
    desk.send("SAMP:COUN 2000100;:INIT")
    desk.current(1.0, 0.2)
    desk.wait(41_000)
    assert int(desk.send("DATA:POIN?")) == 2_000_000
    assert int(desk.send("STAT:QUES:COND?")) == 1 << 14
    assert desk.send("SYST:ERR?").startswith("+0")
    assert desk.readings()[0] == pytest.approx(0.2, abs=1e-6)
    desk.send("SAMP:COUN 1;:INIT")
    assert int(desk.send("STAT:QUES:COND?")) == 0


def test_a_timer_shorter_than_reading_and_zero_reading_is_a_timing_violation(desk: Desk) -> None:
    desk.send("CURR:DC:ZERO:AUTO ON;:SAMP:COUN 10;:INIT")
    assert int(desk.send("STAT:QUES:COND?")) == 1 << 2


def test_initiate_twice_is_ignored_and_abort_keeps_the_readings(desk: Desk) -> None:
    desk.send("SAMP:COUN 100000;:INIT;:INIT")
    assert desk.send("SYST:ERR?").startswith("-213")
    desk.wait(25)
    desk.send("*OPC;:ABOR")
    assert int(desk.send("*ESR?")) & 1
    count = int(desk.send("DATA:POIN?"))
    desk.wait(50)
    assert int(desk.send("DATA:POIN?")) == count == 250


def test_changing_a_setting_ends_the_acquisition_and_clears_the_memory(desk: Desk) -> None:
    desk.send("SAMP:COUN 100000;:INIT")
    desk.wait(50)
    desk.send("CURR:DC:APER 40e-6")
    assert int(desk.send("DATA:POIN?")) == 0
    assert int(desk.send("STAT:OPER:COND?")) == 0


def test_range_and_leads_take_voltage_from_the_board(desk: Desk) -> None:
    desk.current(0, 0.3)
    assert desk.instrument.board_voltage_v() == pytest.approx(3.27)
    desk.send("CURR:DC:RANG 0.1")
    assert desk.instrument.board_voltage_v() == pytest.approx(3.0)
    desk.send("CURR:DC:RANG 100e-6")
    assert desk.instrument.board_voltage_v() == 0.0
    desk.send("*RST")
    assert desk.instrument.board_voltage_v() > 3.28
    desk.send("CONF:CURR:DC 10")
    assert desk.instrument.board_voltage_v() == 0.0  # nothing is wired to the jacks of that range


def test_binary_formats_and_byte_orders(desk: Desk) -> None:
    for form, order, kind in (("REAL,64", "NORM", ">f8"), ("REAL,32", "SWAP", "<f4")):
        desk.send(f"FORM:DATA {form};BORD {order};:SAMP:COUN 3;:INIT")
        desk.current(0, 0.5)
        desk.wait(30)
        answer = desk.send("R?").encode("latin-1")
        assert np.frombuffer(answer[2 + int(answer[1:2]) :], kind) == pytest.approx([0.5] * 3, abs=1e-6)
        assert desk.send("FORM:DATA?;BORD?") == f"{form};{order}"
