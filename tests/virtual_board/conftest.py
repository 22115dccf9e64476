"""Virtual boards as processes, reached through their serial port and their supply only."""

import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import serial

from rig.board.serialport import Rfc2217Serial
from rig.formats import image, partitions

MAC = "7c:df:a1:0a:ff:c0"
FLASH_BYTES = 4 << 20
APP_OFFSET = 0x10000
TABLE_CSV = (
    "nvs, data, nvs, 0x9000, 24K\nphy_init, data, phy, , 4K\nfactory, app, factory, 0x10000, 2M\n"
    "creds, data, nvs, , 12K\n"
)
_TIMEOUT_S = 30.0  # only a failing test waits so long


class Console:
    """A serial client: what the board says, and the two lines of its reset circuit."""

    def __init__(self, port: serial.SerialBase) -> None:
        self.port = port
        self.text = b""

    def expect(self, pattern: str) -> re.Match[bytes]:
        """Return the first match in what has been said since the last one."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not (match := re.search(pattern.encode(), self.text)):
            assert time.monotonic() < deadline_s, f"{pattern!r} not in {self.text!r}"
            self.text += self.port.read(max(self.port.in_waiting, 1))
        self.text = self.text[match.end() :]
        return match

    def write(self, line: str) -> None:
        self.port.write(line.encode() + b"\n")

    def await_application(self) -> None:
        """Wait until the probe answers, whether it had started already or not."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        while b"said 0\r\n" not in self.text:
            assert time.monotonic() < deadline_s, f"no answer in {self.text!r}"
            self.write("say 0")
            self.text += self.port.read(max(self.port.in_waiting, 1))
        self.write("say 1")
        self.expect("said 1\r\n")

    def reset(self) -> None:
        """Pull EN low for a moment, and forget what was said before."""
        self.port.rts = True
        time.sleep(0.02)
        self.port.read(self.port.in_waiting)
        self.text = b""
        self.port.rts = False


def run_tool(module: str, *arguments: object) -> str:
    """Run a command line as its users do (``python -m MODULE ...``) and return what it says; it must end well."""
    command = [sys.executable, "-m", module, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@dataclass(frozen=True)
class RunningBoard:
    """A board process, what it announced, and its files."""

    process: subprocess.Popen[str]
    url: str
    address: str
    flash: Path
    truth: Path
    facts: dict[str, Any]

    def power(self, word: str) -> None:
        """Turn the switch in the supply, as a lab's power command would."""
        subprocess.run([sys.executable, "-m", "rig.virtual.power", self.facts["power"], word], check=True)

    @contextmanager
    def plain_port(self, name: str) -> Iterator["Console"]:
        """The console at the port called *name* (pty or socket), which has no modem lines."""
        with serial.serial_for_url(self.facts[name], 115200, timeout=0.1) as port:
            yield Console(port)

    @contextmanager
    def open_port(self) -> Iterator[Rfc2217Serial]:
        port = Rfc2217Serial()
        port.port = self.facts["rfc2217"]
        port.baudrate = 115200
        port.timeout = 0.1
        port.dtr = port.rts = False
        port.open()
        try:
            yield port
        finally:
            port.close()

    @contextmanager
    def console(self) -> Iterator[Console]:
        with self.open_port() as port:
            yield Console(port)


class Meter:
    """The other end of the supply wire."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        self._listener.listen()
        self._listener.settimeout(_TIMEOUT_S)
        self._wire: socket.socket | None = None
        self.current: list[tuple[int, float]] = []
        self.trigger: list[tuple[int, int]] = []

    def read_until(self, condition: Callable[[], bool]) -> None:
        """Take messages until *condition* holds."""
        if self._wire is None:
            self._wire, _ = self._listener.accept()
            self._wire.settimeout(_TIMEOUT_S)
        while not condition():
            t_ns, kind, value = self._wire.recv(256).split()
            if kind == b"i":
                self.current.append((int(t_ns), float(value)))
            else:
                self.trigger.append((int(t_ns), int(value)))

    def read_until_current(self, current_a: float) -> int:
        """Take messages until one demands *current_a*, and return its time."""
        seen = len(self.current)
        self.read_until(lambda: any(value == current_a for _, value in self.current[seen:]))
        return self.current[-1][0]

    def set_voltage(self, voltage_v: float) -> None:
        assert self._wire is not None
        self._wire.send(f"{time.monotonic_ns()} v {voltage_v}".encode())

    def cut(self) -> None:
        """Drop the connection, as a meter that is switched off does."""
        assert self._wire is not None
        self._wire.close()
        self._wire = None

    def close(self) -> None:
        self._listener.close()
        if self._wire is not None:
            self._wire.close()


@pytest.fixture(scope="session")
def probe_elf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The probe application, compiled."""
    program = tmp_path_factory.mktemp("probe") / "probe"
    source = Path(__file__).parent / "probe.c"
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-o", str(program), str(source)], check=True)
    return program.read_bytes()


@pytest.fixture(scope="session")
def probe_image(probe_elf: bytes) -> bytes:
    return image.build_host_image(probe_elf, project="probe", version="1")


@pytest.fixture(scope="session")
def probe_flash(probe_image: bytes) -> bytes:
    """The content of a whole flash that boots the probe."""
    content = bytearray(b"\xff" * FLASH_BYTES)
    bootloader = image.build_bootloader()
    table = partitions.table_from_csv(TABLE_CSV)
    for offset, data in ((0, bootloader), (partitions.TABLE_OFFSET, table), (APP_OFFSET, probe_image)):
        content[offset : offset + len(data)] = data
    return bytes(content)


@pytest.fixture(scope="session")
def tool() -> Callable[..., str]:
    """``tool("esptool", "--port", url, ...)`` runs it and returns what it says."""
    return run_tool


@pytest.fixture(scope="session")
def start_board() -> Callable[..., AbstractContextManager[RunningBoard]]:
    """The context manager behind ``run_board``, for tests that share a board."""
    return _board


@pytest.fixture(scope="session")
def flashing(
    tmp_path_factory: pytest.TempPathFactory, probe_flash: bytes
) -> Iterator[tuple[RunningBoard, subprocess.Popen[str]]]:
    """A board, and esptool's own command at work on it: its serial client sleeps 20 s, so other tests run beside it."""
    directory = tmp_path_factory.mktemp("command-line")
    whole = directory / "whole.bin"
    whole.write_bytes(probe_flash.rstrip(b"\xff"))
    with _board(directory, flash=None) as board:
        command = [sys.executable, "-m", "esptool", "--chip", "esp32c3", "--port", board.url]
        command += ["write-flash", "0x0", str(whole)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, text=True, **pipes) as esptool_process:
            yield board, esptool_process
            esptool_process.kill()


@pytest.fixture
def run_board(tmp_path: Path) -> Iterator[Callable[..., RunningBoard]]:
    """Start boards: ``run_board(flash=content, **changes of the configuration)``."""
    with ExitStack() as running:
        yield lambda **options: running.enter_context(_board(tmp_path, **options))


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Meter]:
    fake = Meter(tmp_path / "supply")
    yield fake
    fake.close()


_numbers = itertools.count(1)


@contextmanager
def _board(directory: Path, *, flash: bytes | None = None, **changes: object) -> Iterator[RunningBoard]:
    number = next(_numbers)
    address = f"127.{os.getpid() >> 8 & 127 | 128}.{os.getpid() & 255}.{number % 250 + 1}"
    flash_path = directory / f"flash{number}.bin"
    if flash is not None:
        flash_path.write_bytes(flash)
    truth = directory / f"truth{number}.csv"
    config = {"name": "dut", "mac": MAC, "address": address, "flash": str(flash_path), "truth": str(truth)}
    config_path = directory / f"board{number}.json"
    config_path.write_text(json.dumps(config | {"supply": None} | changes))
    command = [sys.executable, "-m", "rig.virtual.board", "--config", str(config_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        assert (facts["address"], facts["coaps_port"]) == (address, 5684)
        try:
            yield RunningBoard(process, facts["console"], address, flash_path, truth, facts)
        finally:
            process.stdin.close()
            process.wait(_TIMEOUT_S)
