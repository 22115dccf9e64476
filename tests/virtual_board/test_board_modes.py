"""The running application: resets, deep sleep, panic, supply, and the end of the process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BOOTED = r"probe pid=(\d+) reason=(\d+) address=\S+ rtc=(\d+) ram=(\d+)\r\n"
CPU_A = 28e-3
SLEEP_A = 5e-6
RESET_A = 1e-6


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, and between opening and reading
        return False


def wait_until_gone(pid: int) -> None:
    while is_running(pid):
        time.sleep(0.01)


def test_resets_and_what_they_leave_of_the_memory(run_board, probe_flash: bytes):
    with run_board(flash=probe_flash).console() as console:
        console.reset()
        first = console.expect(BOOTED)
        assert first.groups()[1:] == (b"1", b"1", b"1")

        console.write("sleep 100")
        console.expect(r"rst:0x5 \(DSLEEP\),boot:0xc \(SPI_FAST_FLASH_BOOT\)\r\n")
        console.expect("2nd stage bootloader")
        woken = console.expect(BOOTED)
        assert woken.groups()[1:] == (b"8", b"2", b"1")
        assert not is_running(int(first.group(1)))

        console.write("restart")
        console.expect(r"rst:0xc \(RTC_SW_CPU_RST\)")
        assert console.expect(BOOTED).group(2) == b"3"

        console.write("crash")
        console.expect(r"Guru Meditation Error: Core  0 panic'ed \(Load access fault\)\. Exception was unhandled\.\r\n")
        console.expect(r"the application ended with SIGSEGV\r\n(?s:.*)Rebooting\.\.\.\r\n")
        console.expect(r"rst:0xc \(RTC_SW_CPU_RST\)")
        assert console.expect(BOOTED).group(2) == b"4"

        console.write("abort")
        console.expect(r"abort\(\) was called")
        assert console.expect(BOOTED).group(2) == b"4"

        console.reset()
        assert console.expect(BOOTED).groups()[1:] == (b"1", b"1", b"1")


def test_en_low_stops_the_application_and_wakes_a_sleeping_chip_as_from_power_on(run_board, probe_flash: bytes):
    with run_board(flash=probe_flash).console() as console:
        console.reset()
        pid = int(console.expect(BOOTED).group(1))
        console.port.rts = True
        wait_until_gone(pid)
        console.port.rts = False
        woken_pid = int(console.expect(BOOTED).group(1))
        console.write("sleep 600000")
        wait_until_gone(woken_pid)
        console.reset()
        console.expect(r"rst:0x1 \(POWERON\)")
        assert console.expect(BOOTED).groups()[1:] == (b"1", b"1", b"1")


def test_console_passes_every_byte_and_makes_newlines_crlf(run_board, probe_flash: bytes):
    with run_board(flash=probe_flash).console() as console:
        console.reset()
        console.expect(BOOTED)
        console.write("bytes")
        assert console.expect(r"(?s)(.{4}) end\r\n").group(1) == b"\xff\xc0\xff\xff"


def test_nvs_of_the_flash_reaches_the_application(run_board, probe_flash: bytes, tmp_path: Path):
    rows = ("key,type,encoding,value", "coaps,namespace,,", "identity,data,string,board-1", "psk,data,hex2bin,0a0b")
    (tmp_path / "nvs.csv").write_text("\n".join([*rows, "n,data,i16,-2", ""]))
    generate = [sys.executable, "-m", "esp_idf_nvs_partition_gen", "generate", "nvs.csv", "nvs.bin", "0x3000"]
    subprocess.run(generate, cwd=tmp_path, check=True, capture_output=True)
    content = bytearray(probe_flash)
    content[0x210000:0x213000] = (tmp_path / "nvs.bin").read_bytes()
    with run_board(flash=bytes(content)).console() as console:
        console.reset()
        console.expect("nvs coaps\tidentity\tstr\t626f6172642d31\r\n")
        console.expect("nvs coaps\tpsk\tblob\t0a0b\r\n")
        console.expect("nvs coaps\tn\ti16\tfeff\r\n")


def test_supply_wire_carries_the_currents_of_the_states_and_the_trigger(run_board, meter, probe_flash: bytes):
    board = run_board(flash=probe_flash, supply=meter.path, sleep_current_a=800e-6)
    with board.console() as console:
        meter.read_until_current(CPU_A)
        console.reset()
        console.expect(BOOTED)
        meter.read_until_current(RESET_A)
        meter.read_until_current(CPU_A)
        console.write("network")
        connect_ns = meter.read_until_current(84e-3)
        meter.read_until(lambda: len(meter.trigger) == 2)
        assert [level for _, level in meter.trigger] == [1, 0]
        assert meter.trigger[0][0] > connect_ns
        meter.read_until(lambda: meter.current[-1][1] == 21e-3 and meter.current[-2][1] == 84e-3)
        (transmit_ns, transmit_a), (tail_ns, tail_a), (idle_ns, _) = meter.current[-3:]
        assert (transmit_a, tail_a) == (276e-3, 84e-3)
        assert tail_ns - transmit_ns == 40_000 + 100_000 + 100 * 8 * 1_000_000_000 // 65_000_000
        assert idle_ns - tail_ns == 10_000_000
        console.write("sleep 50")
        sleep_ns = meter.read_until_current(800e-6)
        wake_ns = meter.read_until_current(CPU_A)
        assert wake_ns - sleep_ns >= 50_000_000
    told = [f"{t},{amps:.9g}" for t, amps in meter.current]
    assert board.truth.read_text().splitlines()[: len(told)] == told
    assert [t for t, _ in meter.current] == sorted(t for t, _ in meter.current)


def test_brownout_when_the_supply_sags_while_awake(run_board, meter, probe_flash: bytes):
    with run_board(flash=probe_flash, supply=meter.path).console() as console:
        meter.read_until_current(CPU_A)
        console.reset()
        console.expect(BOOTED)
        meter.set_voltage(2.7)
        console.expect("Brownout detector was triggered\r\n")
        meter.read_until_current(RESET_A)
        meter.set_voltage(3.3)
        console.expect(r"rst:0xf \(BROWNOUT_RST\)")
        assert console.expect(BOOTED).groups()[1:] == (b"9", b"1", b"1")


def test_deep_sleep_survives_a_sag_that_a_running_chip_does_not(run_board, meter, probe_flash: bytes):
    with run_board(flash=probe_flash, supply=meter.path).console() as console:
        meter.read_until_current(CPU_A)
        console.reset()
        pid = int(console.expect(BOOTED).group(1))
        console.write("sleep 300")
        meter.read_until_current(SLEEP_A)
        wait_until_gone(pid)
        meter.set_voltage(2.5)
        meter.set_voltage(3.3)
        woken = console.expect(BOOTED)
        assert woken.groups()[1:] == (b"8", b"2", b"1")
        console.write("sleep 600000")
        meter.read_until_current(SLEEP_A)
        wait_until_gone(int(woken.group(1)))
        meter.set_voltage(1.9)
        meter.set_voltage(3.3)
        assert console.expect(BOOTED).groups()[1:] == (b"1", b"1", b"1")


def test_a_meter_that_vanishes_cuts_the_supply_until_it_is_back(run_board, meter, probe_flash: bytes):
    with run_board(flash=probe_flash, supply=meter.path).console() as console:
        meter.read_until_current(CPU_A)
        console.reset()
        pid = int(console.expect(BOOTED).group(1))
        meter.cut()
        wait_until_gone(pid)
        meter.read_until_current(CPU_A)
        assert console.expect(BOOTED).groups()[1:] == (b"1", b"1", b"1")


@pytest.mark.parametrize("end", ["stdin closed", "killed"])
def test_the_end_of_the_board_is_the_end_of_its_application(end: str, run_board, probe_flash: bytes):
    board = run_board(flash=probe_flash)
    with board.console() as console:
        console.reset()
        pid = int(console.expect(BOOTED).group(1))
    if end == "killed":
        os.kill(board.process.pid, signal.SIGKILL)
    else:
        board.process.stdin.close()
    board.process.wait()
    wait_until_gone(pid)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"mac": "7c"}, "key 'mac'"), ({"address": "10.0.0.1"}, "key 'address'"), ({"colour": 1}, "colour")],
)
def test_a_wrong_configuration_is_one_sentence(change, words: str, tmp_path: Path):
    good = {"name": "n", "mac": "02:00:00:00:00:01", "address": "127.1.1.1", "flash": "f", "truth": "t", "supply": None}
    (tmp_path / "config.json").write_text(json.dumps(good | change))
    command = [sys.executable, "-m", "rig.virtual.board", "--config", str(tmp_path / "config.json")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
