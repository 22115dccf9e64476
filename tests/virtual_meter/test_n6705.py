"""The N6705C without its sockets, on a clock that the test moves."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rig.virtual.meter.n6705.commands import Commands
from rig.virtual.meter.n6705.instrument import Instrument
from rig.virtual.meter.specification import Channel, Specimen, VoltageChannel, draw_specimen
from tests.virtual_meter.conftest import Desk as DeskOfAnInstrument

#: Without errors, but with an offset that tells the ranges apart: a thousandth of each.
QUIET = Specimen(
    channels=tuple(Channel(range_a, 0.0, range_a * 1e-3, range_a * 1e-9, 0.05) for range_a in (10e-6, 1e-3, 0.1, 3.0)),
    clock_error=0.0,
    trigger_latency_ns=0.0,
    voltage=VoltageChannel(20.0, 0.0, 0.0, 1e-9),
)
MS = 1_000_000
POWER = "VOLT 3.3,(@1);:CURR:LIM 1,(@1);:OUTP ON,(@1)"
BOTH = ":SENS:FUNC:CURR ON,(@1);:SENS:FUNC:VOLT ON,(@1);:FORM REAL"


class Desk(DeskOfAnInstrument):
    """An instrument, its commands, and a clock in nanoseconds."""

    def __init__(self, specimen: Specimen = QUIET) -> None:
        super().__init__()
        self.instrument = Instrument(specimen, np.random.default_rng(1), "TEST", now_ns=self.now_ns)
        self.commands = Commands(self.instrument)

    def floats(self, query: str, kind: str = ">f4") -> NDArray[np.float32]:
        """Return what a definite-length block in the answer holds."""
        text = self.send(query).encode("latin-1")
        digits = int(text[1:2])
        assert int(text[2 : 2 + digits]) == len(text) - 2 - digits
        return np.frombuffer(text[2 + digits :], kind)


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.send(f"{POWER};{BOTH}")
    assert desk.send("SYST:ERR?") == '+0,"No error"'
    return desk


def test_the_output_feeds_the_board_only_when_it_is_on() -> None:
    desk = Desk()
    desk.current(0, 0.1)
    assert desk.instrument.board_voltage_v() == 0.0
    desk.send("VOLT 3.3,(@1)")
    assert desk.instrument.board_voltage_v() == 0.0
    desk.send("OUTP ON,(@1);:CURR:LIM 1,(@1)")
    assert desk.instrument.board_voltage_v() == pytest.approx(3.3 - 0.1 * 0.05)
    assert desk.send("VOLT? (@1);:CURR:LIM? (@1);:OUTP? (@1)") == "+3.30000000E+00;+1.00000000E+00;1"
    desk.send("*RST")
    assert desk.instrument.board_voltage_v() == 0.0


def test_the_level_of_current_priority_is_no_limit(desk: Desk) -> None:
    desk.send("CURR 0.5,(@1)")
    assert float(desk.send("CURR:LIM? (@1)")) == 1.0


@pytest.mark.parametrize("message", ["VOLT 3.3", "VOLT 3.3,(@2)", "INIT:ACQ (@1,2)", "VOLT 25,(@1)"])
def test_commands_that_name_no_channel_or_another_are_errors(desk: Desk, message: str) -> None:
    desk.send(message)
    assert desk.send("SYST:ERR?")[:4] in ("-109", "-222")


@pytest.mark.parametrize(
    ("functions", "asked_us", "becomes_us"),
    [
        (("CURR",), 5.0, 5.12),
        (("CURR",), 7.0, 5.12),
        (("CURR",), 8.0, 10.24),
        (("CURR", "VOLT"), 5.12, 10.24),
        (("CURR", "VOLT"), 14.0, 10.24),
        (("CURR", "VOLT"), 18.0, 20.48),
        (("CURR", "VOLT"), 33.0, 40.96),
        (("CURR", "VOLT"), 1000.0, 1003.52),
    ],
)
def test_intervals_are_rounded_to_the_grid_of_the_number_of_parameters(
    desk: Desk, functions: tuple[str, ...], asked_us: float, becomes_us: float
) -> None:
    for name in ("CURR", "VOLT"):
        desk.send(f"SENS:FUNC:{name} {int(name in functions)},(@1)")
    desk.send(f"SENS:SWE:TINT {asked_us}e-6,(@1)")
    assert float(desk.send("SENS:SWE:TINT? (@1)")) == pytest.approx(becomes_us * 1e-6)


def test_coarse_resolution(desk: Desk) -> None:
    desk.send("SENS:SWE:TINT:RES RES40;:SENS:SWE:TINT 70e-6,(@1)")
    assert float(desk.send("SENS:SWE:TINT? (@1)")) == pytest.approx(81.92e-6)


def test_periods_of_the_log_have_a_minimum_by_parameters(desk: Desk) -> None:
    desk.send("SENS:ELOG:FUNC:VOLT ON,(@1);:SENS:ELOG:PER 1e-5,(@1)")
    assert float(desk.send("SENS:ELOG:PER? (@1)")) == pytest.approx(204.8e-6)
    desk.send("SENS:ELOG:FUNC:VOLT OFF,(@1)")
    assert float(desk.send("SENS:ELOG:PER? (@1)")) == pytest.approx(102.4e-6)
    desk.send("SENS:ELOG:PER 1e-3,(@1)")
    assert float(desk.send("SENS:ELOG:PER? (@1)")) == pytest.approx(1.00352e-3)


def test_acquisition_gives_current_and_voltage_in_either_byte_order(desk: Desk) -> None:
    desk.send("SENS:CURR:RANG 3,(@1);:SENS:SWE:TINT 10.24e-6,(@1);:SENS:SWE:POIN 1000,(@1)")
    desk.current(0, 0.1)
    desk.send("INIT:ACQ (@1);:TRIG:ACQ (@1)")
    assert desk.send("*OPC?") == "1"
    current = desk.floats("FETC:ARR:CURR? (@1)")
    assert len(current) == 1000
    assert current == pytest.approx(0.103, abs=1e-6)
    assert desk.floats("FETC:ARR:VOLT? (@1)") == pytest.approx(3.3, abs=1e-6)
    desk.send("FORM:BORD SWAP")
    assert desk.floats("FETC:ARR:CURR? (@1)", "<f4") == pytest.approx(0.103, abs=1e-6)
    desk.send("FORM ASC")
    assert desk.send("FETC:ARR:CURR? (@1)").count(",") == 999


def test_a_trigger_before_the_pretrigger_is_full_is_ignored(desk: Desk) -> None:
    desk.send("DIG:PIN1:FUNC TINP;:DIG:PIN1:POL POS;:TRIG:ACQ:SOUR PIN1,(@1)")
    desk.send("SENS:SWE:TINT 10.24e-6,(@1);:SENS:SWE:POIN 20000,(@1);:SENS:SWE:OFFS:POIN -10000,(@1);:INIT:ACQ (@1)")
    desk.line(50, 1)  # the pretrigger takes 102.4 ms
    desk.pass_ms(1000)
    assert int(desk.send("STAT:OPER:COND? (@1)")) & 32
    desk.line(1, 0)
    desk.line(2, 1)
    desk.current(2, 0.1)
    desk.pass_ms(200)
    assert not int(desk.send("STAT:OPER:COND? (@1)")) & 32
    current = desk.floats("FETC:ARR:CURR? (@1)")
    # The edge falls into the sample before the first one after it.
    assert current[:9_999].max() < 0.01 < current[10_000:].min()


def test_level_trigger_with_pretrigger(desk: Desk) -> None:
    desk.send("TRIG:ACQ:SOUR CURR1,(@1);:TRIG:ACQ:CURR 0.05,(@1);:TRIG:ACQ:CURR:SLOP POS,(@1);:SENS:CURR:RANG 0.1,(@1)")
    desk.send("SENS:SWE:TINT 10.24e-6,(@1);:SENS:SWE:POIN 2000,(@1);:SENS:SWE:OFFS:POIN -1000,(@1);:INIT:ACQ (@1)")
    desk.current(300, 0.08)
    desk.pass_ms(500)
    current = desk.floats("FETC:ARR:CURR? (@1)")
    assert len(current) == 2000
    # The reading that crosses the level is the last before the trigger.
    assert current[:999].max() < 0.05 < current[1000:].min()


def test_seamless_ranging_goes_down_when_the_current_has_been_small_for_a_while(desk: Desk) -> None:
    desk.send("SENS:CURR:RANG:AUTO ON,(@1);:SENS:SWE:TINT 10.24e-6,(@1);:SENS:SWE:POIN 2000,(@1)")
    desk.current(5, 0.05)
    desk.current(10, 5e-6)
    desk.send("INIT:ACQ (@1);:TRIG:ACQ (@1)")
    current = desk.floats("FETC:ARR:CURR? (@1)")
    at = [round(ms * 1e-3 / 10.24e-6) for ms in (2, 7, 10.5, 12)]
    expected = (1e-6, 0.05 + 0.1e-3, 5e-6 + 0.1e-3, 5e-6 + 1e-6)  # 10 uA is none of the ranges it goes to by itself
    for index, value in zip(at, expected, strict=True):
        assert current[index] == pytest.approx(value, rel=1e-3)


def test_beyond_a_fixed_range_readings_are_infinite_and_the_board_keeps_its_supply(desk: Desk) -> None:
    desk.send("SENS:CURR:RANG 1e-3,(@1);:SENS:SWE:POIN 10,(@1)")
    desk.current(0, 0.05)
    desk.send("INIT:ACQ (@1);:TRIG:ACQ (@1)")
    assert (desk.floats("FETC:ARR:CURR? (@1)") > 9e37).all()
    assert desk.instrument.board_voltage_v() > 3.29


def test_the_log_averages_and_keeps_twenty_seconds(desk: Desk) -> None:
    desk.send("SENS:ELOG:FUNC:VOLT ON,(@1);:SENS:ELOG:CURR:RANG 3,(@1);:SENS:ELOG:PER 20e-3,(@1)")
    desk.send("TRIG:ELOG:SOUR IMM,(@1);:INIT:ELOG (@1)")
    period_s = float(desk.send("SENS:ELOG:PER? (@1)"))
    desk.current(0, 0.1)
    desk.current(period_s / 4 * 1e3, 0.0)
    desk.pass_ms(1000)
    desk.send("FORM:BORD SWAP")  # which is for FETC:ARR only
    rows = desk.floats("FETC:ELOG? 10,(@1)").reshape(-1, 2)
    assert len(rows) == 10
    assert rows[0] == pytest.approx((0.025 + 3e-3, 3.3), rel=1e-3)
    assert rows[1:, 0] == pytest.approx(3e-3, abs=1e-6)
    desk.current(0, 0.2)
    desk.pass_ms(25_000)
    kept = np.concatenate([desk.floats("FETC:ELOG? 500,(@1)") for _ in range(4)])
    assert len(kept) / 2 == int(20 / period_s)
    assert desk.send("SYST:ERR?") == '+0,"No error"'
    desk.send("ABOR:ELOG (@1);:FETC:ELOG? 10,(@1)")
    assert desk.send("SYST:ERR?").startswith("-230")


def test_the_log_has_minimum_and_maximum_when_asked(desk: Desk) -> None:
    desk.send("SENS:ELOG:FUNC:CURR:MINM ON,(@1);:SENS:ELOG:CURR:RANG 3,(@1);:SENS:ELOG:PER 20e-3,(@1)")
    desk.send("INIT:ELOG (@1);:TRIG:ELOG (@1)")
    desk.current(5, 0.1)
    desk.pass_ms(100)
    assert desk.floats("FETC:ELOG? 1,(@1)") == pytest.approx((0.078, 0.003, 0.103), abs=1e-3)


def test_current_limit_and_over_current_protection_show_in_the_status(desk: Desk) -> None:
    desk.send("CURR:LIM 0.2,(@1);:STAT:OPER:PTR 127,(@1)")
    desk.pass_ms(100)
    assert desk.send("STAT:OPER:COND? (@1);:STAT:QUES:COND? (@1)") == "+1;+0"
    desk.send("STAT:OPER? (@1);:STAT:QUES? (@1)")
    desk.current(1, 0.4)
    desk.current(3, 0.05)
    desk.pass_ms(100)
    assert desk.send("STAT:OPER? (@1);:STAT:QUES? (@1);:STAT:OPER:COND? (@1)") == "+3;+128;+1"
    desk.current(0, 0.4)
    assert desk.instrument.board_voltage_v() == pytest.approx(1.65 - 0.2 * 0.05)
    desk.send("CURR:PROT:STAT ON,(@1)")
    desk.pass_ms(50)
    assert desk.instrument.board_voltage_v() == 0.0
    desk.send("OUTP ON,(@1)")
    assert desk.send("STAT:QUES:COND? (@1);:STAT:OPER:COND? (@1)") == "+2;+4"
    assert desk.instrument.board_voltage_v() == 0.0
    desk.current(0, 0.1)
    desk.send("OUTP:PROT:CLE (@1);:OUTP ON,(@1)")
    assert desk.instrument.board_voltage_v() > 3.2


def test_the_specimen_meets_its_specification() -> None:
    path = Path("rig/virtual/meter/accuracy-keysight-n6705c-virtual.yaml")
    specimen = draw_specimen(path, np.random.default_rng(5))
    assert [channel.range_a for channel in specimen.channels] == [10e-6, 1e-3, 0.1, 3.0]
    assert specimen.voltage is not None
