"""The NGU201 and NGM202 without their sockets, on a clock that the test moves."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rig.virtual.meter.ngu.commands import Commands
from rig.virtual.meter.ngu.instrument import NGM202, NGU201, Instrument, Model
from rig.virtual.meter.specification import Channel, Specimen, VoltageChannel
from tests.virtual_meter.conftest import Desk as DeskOfAnInstrument

RANGES_A = (10e-6, 100e-6, 1e-3, 10e-3, 0.1, 10.0)
#: Without errors, but with an offset that tells the ranges apart: a thousandth of each.
QUIET = Specimen(
    channels=tuple(Channel(range_a, 0.0, range_a * 1e-3, range_a * 1e-9, 0.05) for range_a in RANGES_A),
    clock_error=0.0,
    trigger_latency_ns=0.0,
    voltage=VoltageChannel(20.0, 0.0, 0.0, 1e-9),
)
MS = 1_000_000
AVAILABLE = (
    "STAT:OPER:PTR 8192;:STAT:OPER:ENAB 8192;:STAT:OPER:INST:PTR 7;:STAT:OPER:INST:ENAB 7;"
    ":STAT:OPER:INST:ISUM1:PTR 4096;:STAT:OPER:INST:ISUM1:ENAB 4096"
)


class Desk(DeskOfAnInstrument):
    """An instrument that is on, its commands, and a clock in nanoseconds."""

    def __init__(self, model: Model = NGU201, lost_slots: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.instrument = Instrument(model, QUIET, np.random.default_rng(1), "TEST", lost_slots, self.now_ns)
        self.commands = Commands(self.instrument)

    def on(self) -> "Desk":
        self.send("INST OUT1;:VOLT 3.3;:CURR 1;:OUTP:SEL 1;:OUTP:GEN 1;:FLOG:TARG SCPI")
        assert self.send("SYST:ERR?") == '+0,"No error"'
        return self

    def fetch(self) -> NDArray[np.float32]:
        """Return the slot that is there: voltage and current, shape (n, 2)."""
        text = self.send("FLOG:DATA?").encode("latin-1")
        return np.frombuffer(text[2 + int(text[1:2]) :], "<f4").reshape(-1, 2)


def test_the_output_needs_both_its_switches() -> None:
    desk = Desk()
    desk.send("VOLT 3.3;:OUTP:GEN 1")
    assert desk.instrument.board_voltage_v() == 0.0
    desk.send("OUTP:SEL 1")
    assert desk.instrument.board_voltage_v() == 3.3
    assert desk.send("OUTP?;:OUTP:SEL?;:OUTP:GEN?") == "1;1;1"
    desk.send("OUTP:GEN 0")
    assert desk.instrument.board_voltage_v() == 0.0


def test_the_second_output_of_an_ngm_is_not_the_boards() -> None:
    desk = Desk(NGM202).on()
    desk.send("INST OUT2;:VOLT 12;:OUTP:SEL 0;:INST OUT1")
    assert desk.instrument.board_voltage_v() == 3.3
    desk.send("SENS:CURR:RANG:AUTO:DOWN:MIN 1e-5")
    assert desk.send("SYST:ERR?").startswith("-113")


def test_slots_come_every_quarter_of_a_second_and_say_so_up_to_the_status_byte() -> None:
    desk = Desk().on()
    desk.send(f"FLOG:SRAT S500k;:{AVAILABLE};:SENS:CURR:RANG 0.1")
    assert desk.send("FLOG:SRAT?") == "S500K"
    desk.current(0, 0.05)
    desk.send("FLOG 1")
    desk.pass_ms(200)
    assert len(desk.fetch()) == 0
    assert not int(desk.send("*STB?")) & 128
    desk.pass_ms(80)
    assert int(desk.send("*STB?")) & 128
    assert int(desk.send("STAT:OPER?")) & 8192
    assert int(desk.send("STAT:OPER:INST?")) & 2
    assert int(desk.send("STAT:OPER:INST:ISUM1?")) & 4096
    slot = desk.fetch()
    assert len(slot) == 125_000
    assert slot[:, 0] == pytest.approx(3.3, abs=1e-6)
    assert slot[:, 1] == pytest.approx(0.0501, abs=1e-6)
    assert len(desk.fetch()) == 0
    desk.pass_ms(250)
    assert int(desk.send("STAT:OPER:INST:ISUM1?")) & 4096


def test_a_slot_that_nobody_fetched_is_overwritten_and_nothing_says_so() -> None:
    desk = Desk().on()
    desk.send("FLOG:SRAT S001K;:SENS:CURR:RANG 0.1;:FLOG 1")
    desk.current(250, 0.05)
    desk.pass_ms(600)
    slot = desk.fetch()
    assert len(slot) == 250
    assert slot[:, 1].min() > 0.05  # the second slot: the first one is gone
    assert desk.send("STAT:QUES:INST:ISUM1?;:SYST:ERR?").endswith('+0,"No error"')


def test_a_lost_slot_can_be_provoked() -> None:
    desk = Desk(lost_slots=frozenset((2,))).on()
    desk.send("FLOG:SRAT S001K;:FLOG 1")
    lengths = []
    for _ in range(3):
        desk.pass_ms(280 if not lengths else 250)
        lengths.append(len(desk.fetch()))
    assert lengths == [250, 0, 250]


def test_slow_rates_are_means() -> None:
    desk = Desk().on()
    desk.send("FLOG:SRAT S100;:SENS:CURR:RANG 0.1;:FLOG 1")
    desk.current(0, 0.08)
    desk.current(2.5, 0.0)
    desk.pass_ms(280)
    slot = desk.fetch()
    assert len(slot) == 25
    assert slot[0, 1] == pytest.approx(0.02 + 0.1e-3, rel=1e-3)


def ranges_after_a_wake(desk: Desk) -> list[float]:
    """Return the range, told by its offset, before, right after and well after 5 ms at 5 mA, at 5 uA otherwise."""
    desk.send("SENS:CURR:RANG:AUTO ON;:FLOG:SRAT S500K;:FLOG 1")
    desk.current(0, 5e-6)
    desk.current(50, 5e-3)
    desk.current(55, 5e-6)
    desk.pass_ms(280)
    current = desk.fetch()[:, 1].astype(float)
    wanted = ((40, 5e-6), (50.5, 5e-3), (53, 5e-3), (56, 5e-6), (70, 5e-6))
    return [float(f"{(current[round(ms * 500)] - amps) * 1e3:.3g}") for ms, amps in wanted]


def test_ranging_stops_at_one_milliampere_unless_told_otherwise() -> None:
    assert ranges_after_a_wake(Desk().on()) == [1e-3, 10.0, 10e-3, 10e-3, 1e-3]


def test_ranging_down_to_microamperes_and_step_by_step() -> None:
    desk = Desk().on()
    desk.send("SENS:CURR:RANG:AUTO:DOWN:MIN 10e-6;:SENS:CURR:RANG:AUTO:UP:APPR STEP")
    assert ranges_after_a_wake(desk) == [10e-6, 10e-3, 10e-3, 10e-3, 10e-6]


def test_beyond_a_fixed_range_there_is_no_number() -> None:
    desk = Desk().on()
    desk.send("SENS:CURR:RANG 1e-3;:FLOG:SRAT S001K;:FLOG 1")
    desk.current(0, 0.05)
    desk.pass_ms(280)
    assert np.isnan(desk.fetch()[:, 1]).all()
    assert desk.instrument.board_voltage_v() > 3.29


def test_current_limit_and_fuse_show_in_the_status() -> None:
    desk = Desk().on()
    desk.send("CURR 0.2")
    desk.pass_ms(100)
    desk.send("STAT:QUES:INST:ISUM1?")
    desk.current(1, 0.4)
    desk.current(3, 0.05)
    desk.pass_ms(100)
    assert desk.send("STAT:QUES:INST:ISUM1?;:STAT:QUES:INST:ISUM1:COND?") == "+3;+2"
    desk.send("FUSE ON")
    desk.current(1, 0.4)
    desk.pass_ms(50)
    assert desk.instrument.board_voltage_v() == 0.0
    assert desk.send("STAT:QUES:INST:ISUM1:COND?") == "+1024"
