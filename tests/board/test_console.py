"""The console over a pseudoterminal: a real local port, with the test as the device at its other end."""

import json
import os
import re
import threading
import time
import tty
from pathlib import Path

import pytest

from rig.board import BoardBusy, Console, ConsoleTimeout, SerialPort
from rig.clock import now_s
from rig.errors import BenchError


class Device:
    """The far end of a serial port."""

    def __init__(self):
        self.fd, far = os.openpty()
        self._open = [self.fd, far]
        tty.setraw(self.fd)
        tty.setraw(far)
        self.url = os.ttyname(far)

    def say(self, data):
        os.write(self.fd, data if isinstance(data, bytes) else data.encode())

    def hear(self):
        return os.read(self.fd, 4096)

    def unplug(self):
        while self._open:
            os.close(self._open.pop())


@pytest.fixture
def device():
    device = Device()
    yield device
    device.unplug()


@pytest.fixture
def console(device, tmp_path):
    with SerialPort(device.url) as port, Console(port, tmp_path / "log" / "console.log") as console:
        yield console


def stamps_beside(console):
    return [json.loads(line) for line in Path(f"{console.logfile}.stamps").read_text().splitlines()]


def test_expect_consumes_up_to_the_match(device, console):
    device.say("I (1) a: first\r\nI (2) a: second\r\n")
    assert console.expect(r"a: (\w+)")[1] == "first"
    assert console.expect(re.compile(r"A: (\w+)", re.IGNORECASE))[1] == "second"
    with pytest.raises(ConsoleTimeout):
        console.expect("first", timeout_s=0.01)


def test_a_line_is_found_by_its_time_and_not_by_what_was_expected_before(device, console):
    device.say("rst:0x5 (DSLEEP)\r\n")
    console.expect("DSLEEP")
    since_s = now_s()
    with pytest.raises(ConsoleTimeout):
        console.wait_line("DSLEEP", since_s=since_s, timeout_s=0.01)
    device.say("rst:0x5 (DSLEEP)\r\n")
    assert console.wait_line(r"rst:0x\d \(DSLEEP\)", since_s=since_s).at_s > since_s


def test_expect_sees_what_comes_in_pieces(device, console):
    def speak():
        for piece in (b"net", b"work ", "ü".encode()[:1], "ü".encode()[1:], b"p\n"):
            device.say(piece)
            time.sleep(0.005)

    speaker = threading.Thread(target=speak)
    speaker.start()
    assert console.expect_exact("work üp\n")
    speaker.join()


def test_expect_exact_takes_the_text_as_it_stands(device, console):
    device.say("axb a.b\n")
    assert console.expect_exact("a.b").start() == 4


def test_timeout_tells_pattern_last_output_and_log(device, console):
    device.say("".join(f"line {n}\r\n" for n in range(30)) + "half a li")
    console.expect_exact("half a li")
    with pytest.raises(ConsoleTimeout) as caught:
        console.expect("never", timeout_s=0.02)
    message = str(caught.value)
    assert "'never'" in message
    assert "0.02 s" in message
    assert "line 29" in message
    assert "half a li" in message
    assert "line 3\n" not in message
    assert str(console.logfile) in message


def test_timeout_says_when_nothing_was_printed(console):
    with pytest.raises(ConsoleTimeout, match="printed nothing"):
        console.expect("x", timeout_s=0.01)


def test_write_reaches_the_device(device, console):
    console.write("help\r\n")
    console.write(b"\x00\xff")
    heard = b""
    while len(heard) < 8:
        heard += device.hear()
    assert heard == b"help\r\n\x00\xff"


def test_the_log_has_every_byte_and_each_chunk_its_time(device, console):
    before_s = now_s()
    device.say(b"bad \xff\xfe utf8\r\n")
    console.expect("utf8")
    device.say(b"\xc3")
    device.say(b"more\n")
    console.expect("more\n")
    assert console.logfile.read_bytes() == b"bad \xff\xfe utf8\r\n\xc3more\n"
    assert console.lines[0] == "bad \ufffd\ufffd utf8"
    stamps = stamps_beside(console)
    assert stamps[0]["offset"] == 0
    assert before_s - 1e-5 <= stamps[0]["t_s"] <= stamps[-1]["t_s"] <= now_s()
    assert all(stamp["offset"] < 20 for stamp in stamps)


def test_a_second_console_appends_to_the_log(device, tmp_path):
    for text in ("one\n", "two\n"):
        with SerialPort(device.url) as port, Console(port, tmp_path / "c.log") as console:
            device.say(text)
            console.expect_exact(text)
    assert (tmp_path / "c.log").read_text() == "one\ntwo\n"
    assert [stamp["offset"] for stamp in stamps_beside(console)] == [0, 4]


def test_marks_are_stamped_and_called_back(device, tmp_path):
    seen = []
    with SerialPort(device.url) as port, Console(port, tmp_path / "c.log", on_mark=seen.append) as console:
        start_s = now_s()
        device.say("I (5) mark: boot t_us=10 reset_reason=1 boot_count=1\r\nI (6) x: y\r\n")
        boot = console.wait_mark("boot")
        assert start_s < boot.at_s <= now_s()
        assert (boot.device_us, dict(boot.fields)) == (10, {"reset_reason": "1", "boot_count": "1"})
        device.say("I (7) mark: request_end t_us=20 code=4.04\r\nI (7) mark: request_end t_us=30 code=2.05\r\n")
        assert console.wait_mark("request_end", code=2.05).device_us == 30
        assert console.wait_mark("request_end").device_us == 20
        with pytest.raises(ConsoleTimeout, match="mark boot reset_reason=8"):
            console.wait_mark("boot", reset_reason=8, timeout_s=0.01)
        with pytest.raises(ConsoleTimeout):
            console.wait_mark("boot", since_s=boot.at_s, timeout_s=0.01)
        assert [mark.name for mark in console.marks_since(boot.at_s)] == ["request_end", "request_end"]
        assert [line.text for line in console.lines_since(start_s)][1] == "I (6) x: y"
    assert seen == console.marks()


def test_what_a_callback_raises_is_not_lost(device, tmp_path):
    def complain(mark):
        raise RuntimeError(f"no room for {mark.name}")

    with SerialPort(device.url) as port, Console(port, tmp_path / "c.log", on_mark=complain) as console:
        device.say("I (5) mark: boot t_us=10\r\n")
        with pytest.raises(BenchError, match="no room for boot"):
            console.expect("never")


def test_memory_is_bounded_and_the_log_is_not(device, console):
    block = b"x" * 4095 + b"\n"
    for _ in range(400):
        device.say(block)
    device.say("end\n")
    console.wait_for(lambda: True if "end" in console.lines[-1:] else None, 10, "end")
    match = console.expect("end")
    assert match.end() <= 1 << 20
    assert console.logfile.stat().st_size == 400 * 4096 + 4


def test_a_line_without_end_does_not_grow_for_ever(device, console):
    for _ in range(10):
        device.say(b"y" * 4000)
    device.say("end\n")
    console.expect("end")
    assert all(len(line) <= 12_000 for line in console.lines)


def test_the_port_can_be_lent_and_comes_back(device, console):
    device.say("before\n")
    console.expect("before")
    with console.released() as port:
        port.raw.timeout = 3
        device.say("for somebody else\n")
        assert port.raw.read(18) == b"for somebody else\n"
        port.raw.close()
    device.say("after\n")
    console.expect("after")
    assert console.lines == ["before", "after"]


def test_a_port_that_goes_away_is_the_bench_s_fault(device, console):
    device.unplug()
    with pytest.raises(BenchError, match=re.escape(device.url)) as caught:
        console.expect("x")
    assert "check that the board is still connected" in str(caught.value)
    with pytest.raises(BenchError):
        console.write("x")


def test_a_local_port_is_opened_by_one_only(device, console):
    assert console.logfile.exists()
    with pytest.raises(BenchError, match=re.escape(device.url)), SerialPort(device.url):
        pass


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("/dev/no-such-port", "check the cable"),
        ("rfc2217://127.0.0.1:9", "RFC 2217 server"),
        ("rfc2217://127.0.0.1", "rfc2217://127.0.0.1"),
        ("nonsense://x", "use a device path or rfc2217"),
    ],
)
def test_a_missing_port_is_one_sentence(url, reason):
    with pytest.raises(BenchError) as caught, SerialPort(url):
        pass
    message = str(caught.value)
    assert f"port {url}: " in message
    assert reason in message
    assert "\n" not in message
    assert not isinstance(caught.value, BoardBusy)


def test_a_port_without_reset_lines_says_so(device):
    with SerialPort(device.url) as port, pytest.raises(BenchError, match=re.escape(device.url)):
        port.hard_reset()


def test_a_line_cut_by_lending_the_port_does_not_run_into_what_comes_after(device, console):
    device.say("E (88) esp_image: Checksum fai")
    console.expect_exact("Checksum fai")
    with console.released():
        lent_s = now_s()
    device.say("ESP-ROM:esp32c3-api1-20210207\r\n")
    console.wait_line("ESP-ROM", since_s=lent_s)
    assert console.lines == ["E (88) esp_image: Checksum fai", "ESP-ROM:esp32c3-api1-20210207"]
    assert [line.text for line in console.lines_since(lent_s)] == ["ESP-ROM:esp32c3-api1-20210207"]
