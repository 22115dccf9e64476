"""What a virtual board suffers as real ones do: crashes, watchdogs, floods, slow flash, the wrong baud rate."""

import hashlib
import re
import struct
import time

import pytest

from rig.virtual.board.line import received

BOOTED = r"wake=(\d+)\r\nprobe pid=(\d+) reason=(\d+) address=\S+ rtc=(\d+) ram=1\r\n"
LIGHT_SLEEP_A = 130e-6
DUMP = (
    r"\r\n\r\nCore  0 register dump:\r\n((?:(?:[A-Z0-9/]+ *: 0x[0-9a-f]{8}  )+\r\n){10})\r\n"
    r"Stack memory:\r\n((?:[0-9a-f]{8}:(?: 0x[0-9a-f]{8}){8}\r\n){32})\r\n\r\n\r\n"
    r"ELF file SHA256: ([0-9a-f]{9})\r\n\r\nRebooting\.\.\.\r\n"
)


def test_a_crash_is_a_panic_in_esp_idf_s_format(run_board, probe_flash: bytes, probe_elf: bytes):
    with run_board(flash=probe_flash).console() as console:
        console.reset()
        dumps = []
        for _ in range(2):
            console.expect(BOOTED)
            console.write("crash")
            first = r"\r\nGuru Meditation Error: Core  0 panic'ed \(Load access fault\)\. Exception was unhandled\.\r\n"
            dumps.append(console.expect(first + "virtual bench: the application ended with SIGSEGV" + DUMP))
            console.expect(r"rst:0xc \(RTC_SW_CPU_RST\)")
        assert console.expect(BOOTED).group(3) == b"4"
        console.write("abort")
        first = r"\r\n\r\nabort\(\) was called at PC 0x42[0-9a-f]{6} on core 0\r\n"
        console.expect(first + "virtual bench: the application ended with SIGABRT" + DUMP)
        assert console.expect(BOOTED).group(3) == b"4"
    assert dumps[0].group() == dumps[1].group()
    assert dumps[0].group(3).decode() == hashlib.sha256(probe_elf).hexdigest()[:9]
    registers = dict(re.findall(rb"([A-Z0-9/]+) *: (0x[0-9a-f]{8})", dumps[0].group(1)))
    assert len(registers) == 37
    assert registers[b"MCAUSE"] == b"0x00000005"
    assert dumps[0].group(2).startswith(registers[b"SP"][2:])


def test_a_starved_task_watchdog_resets_the_application(run_board, probe_flash: bytes):
    with run_board(flash=probe_flash).console() as console:
        console.reset()
        console.expect(BOOTED)
        console.write("wdt 60000")
        console.write("wdt 100")
        console.expect(
            r"E \((\d+)\) task_wdt: Task watchdog got triggered\. "
            r"The following tasks/users did not reset the watchdog in time:\r\n"
            r"E \(\1\) task_wdt:  - main \(CPU 0\)\r\nE \(\1\) task_wdt: Tasks currently running:\r\n"
            r"E \(\1\) task_wdt: CPU 0: main\r\nE \(\1\) task_wdt: Aborting\.\r\n\r\n"
        )
        console.expect(DUMP)
        console.expect(r"rst:0xc \(RTC_SW_CPU_RST\)")
        assert console.expect(BOOTED).group(3) == b"6"


def test_a_fed_task_watchdog_is_quiet(run_board, probe_flash: bytes):
    with run_board(flash=probe_flash).console() as console:
        console.reset()
        console.expect(BOOTED)
        for number in range(10):
            console.write("wdt 2000")
            console.write(f"say {number}")
            assert b"task_wdt" not in console.expect(rf"(?s).*said {number}\r\n").group()


def test_wake_cause_and_light_sleep(run_board, meter, probe_flash: bytes):
    with run_board(flash=probe_flash, supply=meter.path).console() as console:
        meter.read_until_current(28e-3)
        console.reset()
        assert console.expect(BOOTED).group(1) == b"0"
        console.write("light sleep")
        meter.read_until_current(LIGHT_SLEEP_A)
        console.write("sleep 20")
        assert console.expect(BOOTED).group(1) == b"4"


@pytest.mark.parametrize(
    ("cause", "words", "reason", "rtc"),
    [
        ("TG1WDT_SYS_RST", r"rst:0x8 \(TG1WDT_SYS_RST\),boot:0xc \(SPI_FAST_FLASH_BOOT\)\r\nSaved PC:0x", b"5", b"2"),
        ("RTCWDT_RTC_RST", r"rst:0x10 \(RTCWDT_RTC_RST\),boot:0xc \(SPI_FAST_FLASH_BOOT\)\r\nSaved PC:0x", b"7", b"1"),
    ],
)
def test_a_hardware_watchdog_resets_the_application(cause, words, reason, rtc, run_board, probe_flash: bytes):
    board = run_board(flash=probe_flash, hardware_reset={"cause": cause, "after_s": 0.5})
    with board.console() as console:
        console.reset()
        console.expect(BOOTED)
        console.expect(words)
        assert console.expect(BOOTED).groups()[2:] == (reason, rtc)


def test_the_boot_watchdog_resets_a_chip_that_finds_nothing_to_boot(run_board):
    with run_board(boot_watchdog=True).console() as console:
        console.reset()
        console.expect("invalid header: 0xffffffff\r\n")
        console.expect(
            r"rst:0x7 \(TG0WDT_SYS_RST\),boot:0xc \(SPI_FAST_FLASH_BOOT\)\r\nSaved PC:0x[0-9a-f]{8}\r\ninvalid header"
        )


def test_a_flooded_console_still_carries_the_application(run_board, probe_flash: bytes):
    with run_board(flash=probe_flash, flood_bytes_per_s=200_000).console() as console:
        console.reset()
        console.expect(BOOTED)
        began_s = time.monotonic()
        flood = b""
        for number in range(20):
            console.write(f"say {number}")
            flood += console.expect(rf"(?s).*?said {number}\r\n").group()
        while len(flood) < 200_000:
            flood += console.expect(r"(?s).*\n").group()
        assert len(flood) / (time.monotonic() - began_s) < 400_000
    lines = [line for line in flood.split(b"\r\n") if b"flood" in line]
    assert len(lines) > 1000


def test_slow_flash_makes_the_loader_wait(run_board, tool):
    """Erasing 16 sectors takes 16 x 45 ms, or one block erase of 150 ms; the wear file counts both."""
    board = run_board(ports=["pty"], boot_strap="download", write_latency=True)
    for offset, least_s in (("0x1000", 16 * 0.045), ("0x10000", 0.150)):
        said = tool("esptool", "--port", board.facts["pty"], "--after", "no-reset", "erase-region", offset, "0x10000")
        taken = re.search(r"erased successfully in ([\d.]+) seconds", said)
        assert taken is not None, said
        assert float(taken.group(1)) >= least_s - 0.05  # esptool rounds to 0.1 s
    counts = struct.unpack("<1024I", board.flash.with_name(board.flash.name + ".wear").read_bytes())
    assert counts[:33] == (0, *[1] * 15, 2, *[1] * 15, 0)


def test_the_wrong_baud_rate_reads_garbage_and_the_right_one_does_not(run_board, probe_flash: bytes):
    board = run_board(flash=probe_flash, ports=["pty", "socket"], pace_baud=True)
    with board.plain_port("socket") as right, board.plain_port("pty") as wrong:
        right.await_application()
        wrong.port.baudrate = 921600
        wrong.port.reset_input_buffer()
        right.write("say 777")
        right.expect("said 777\r\n")
        right.write("say 778")
        right.expect("said 778\r\n")
        heard = wrong.port.read(max(wrong.port.in_waiting, 1))
        assert heard
        assert b"said" not in heard
        wrong.write("say 5")  # and the chip cannot read it either
        right.write("\nsay 6")
        assert b"said 5" not in right.expect(r"(?s).*said 6\r\n").group()


def test_bytes_take_their_time_at_the_baud_rate(run_board, probe_flash: bytes):
    """The boot text alone, some 1500 bytes, needs 0.13 s at 115200 baud."""
    with run_board(flash=probe_flash, pace_baud=True).console() as console:
        console.reset()
        began_s = time.monotonic()
        said = console.expect(r"(?s)ESP-ROM.*" + BOOTED).group()
        assert time.monotonic() - began_s >= len(said) * 10 / 115200 - 0.02


def test_a_receiver_at_the_wrong_rate() -> None:
    assert received(b"any text", 115200, 115200) == b"any text"
    assert received(b"any text", 115200, 117000) == b"any text"
    assert received(b"\xff", 9600, 19200) == b"\xfe"  # the start bit fills one of the receiver's data bits too
    assert b"any" not in received(b"any text", 115200, 460800)
    assert len(received(b"any text", 460800, 115200)) < 8


def test_the_task_watchdog_stands_still_in_light_sleep(run_board, probe_flash: bytes):
    with run_board(flash=probe_flash).console() as console:
        console.reset()
        console.expect(BOOTED)
        console.write("wdt 200")
        console.write("light sleep")
        time.sleep(0.4)
        console.write("say 1")
        assert b"task_wdt" not in console.expect(r"(?s).*said 1\r\n").group()
        console.write("network")  # the state changes: the watchdog counts again
        console.expect("task_wdt: Aborting")
