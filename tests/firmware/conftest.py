"""A chip for one test: the board's end of the wire to the firmware process, without a board."""

import os
import random
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from rig.virtual.firmware import build_image_set

IDENTITY = "board-under-test"
PSK = b"0123456789abcdef"
PROVISIONED = {
    ("coaps", "identity", "str"): IDENTITY.encode(),
    ("coaps", "psk", "blob"): PSK,
    ("wifi", "ssid", "str"): b"bench",
    ("wifi", "passphrase", "str"): b"correct horse",
}
FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
GIVE_UP_S = 20.0  # a hang, not a limit of speed


class Lines:
    """Lines that a thread collects and a test waits for."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._changed = threading.Condition()
        self._closed = False

    def add(self, line: str) -> None:
        with self._changed:
            self.all.append(line)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, *, nth: int = 1) -> int:
        """Return the index of the *nth* line in which *pattern* is found."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._found(pattern)) >= nth, GIVE_UP_S)
            found = self._found(pattern)
        assert len(found) >= nth, f"{pattern!r} is {len(found)} times in {self.all}"
        return found[nth - 1]

    def _found(self, pattern: str) -> list[int]:
        return [index for index, line in enumerate(self.all) if re.search(pattern, line)]


class Chip:
    """One run of the firmware: console, chip messages, retained memory."""

    def __init__(
        self,
        elf: Path,
        *,
        nvs: dict[tuple[str, str, str], bytes],
        reset_reason: int,
        wake_cause: int | None,
        rtc: bytes,
    ) -> None:
        self.address = f"127.{random.randint(64, 250)}.{random.randint(0, 250)}.{random.randint(1, 250)}"
        self.console = Lines()
        self.messages = Lines()
        self._wire, firmware_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._rtc_fd = memory_file("rtc", rtc)
        nvs_fd = memory_file("nvs", nvs_text(nvs))
        fds = {"RIG_CHIP_FD": firmware_end.fileno(), "RIG_NVS_FD": nvs_fd, "RIG_RTC_FD": self._rtc_fd}
        environment = {name: str(fd) for name, fd in fds.items()}
        environment |= {"RIG_RESET_REASON": str(reset_reason), "RIG_ADDRESS": self.address}
        if wake_cause is not None:
            environment["RIG_WAKE_CAUSE"] = str(wake_cause)
        self.process = subprocess.Popen(
            [elf],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=tuple(fds.values()),
            env=environment,
        )
        firmware_end.close()
        os.close(nvs_fd)
        self._readers = [threading.Thread(target=read) for read in (self._read_console, self._read_messages)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self._wire.close()
        os.close(self._rtc_fd)

    def close_console_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait_until_up(self) -> None:
        self.console.wait_for("mark: network_up")

    def wait_until_ended(self) -> None:
        """Wait for the end of the program and for its last line: a pipe is read later than it is written."""
        assert self.process.wait(GIVE_UP_S) == 0, "\n".join(self.console.all)
        for reader in self._readers:
            reader.join()

    def rtc_memory(self) -> bytes:
        return os.pread(self._rtc_fd, 8192, 0)

    def events(self) -> list[str]:
        """Return the chip messages without their stamps."""
        return [message.split(" ", 1)[1] for message in self.messages.all]

    def transitions(self) -> list[str]:
        """Return the chip messages that tell of pins, radio and sleep: neither datagrams nor the watchdog's food."""
        return [event for event in self.events() if not event.startswith(("tx", "rx", "wdt"))]

    def marks(self) -> list[str]:
        """Return the marks' names and values, without their times."""
        found = (re.search(r"mark: (.*)", line) for line in self.console.all)
        return [re.sub(r" t_us=\d+", "", match[1]) for match in found if match]

    def coap(self, method: str, path: str, *options: str, identity: str = IDENTITY, key: bytes = PSK) -> str:
        """Return what libcoap's client prints for one request; its exit code says nothing."""
        uri = f"coaps://{self.address}{path}"
        command = ["coap-client-openssl", "-v", "6", "-B", "5", "-u", identity, "-k", key, "-m", method, *options, uri]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout

    def _read_console(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.console.add(line.decode().rstrip("\n"))
        self.console.close()

    def _read_messages(self) -> None:
        while message := self._wire.recv(4096):
            self.messages.add(message.decode("ascii"))
        self.messages.close()


def memory_file(name: str, content: bytes) -> int:
    fd = os.memfd_create(name)
    os.write(fd, content)
    return fd


def nvs_text(values: dict[tuple[str, str, str], bytes]) -> bytes:
    lines = ["\t".join([*key, value.hex()]) + "\n" for key, value in values.items()]
    return "".join(lines).encode()


@pytest.fixture(scope="session")
def build_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("firmware")


@pytest.fixture(scope="session")
def elf(build_dir: Path) -> Callable[[str | None], Path]:
    """Return the host program of a variant: the good one for None, else the fault's."""

    def build(fault: str | None = None) -> Path:
        return build_image_set(build_dir / (fault or "good"), fault=fault) / "coaps_server.elf"

    return build


@pytest.fixture
def power_up(elf: Callable[[str | None], Path]) -> Iterator[Callable[..., Chip]]:
    """Start a chip, by the fault's name or the program's path; all chips end with the test."""
    chips: list[Chip] = []

    def start(
        *,
        fault: str | None = None,
        elf_path: Path | None = None,
        nvs: dict[tuple[str, str, str], bytes] = PROVISIONED,
        reset_reason: int = 1,
        wake_cause: int | None = None,
        rtc: bytes = bytes(8192),
    ) -> Chip:
        program = elf_path or elf(fault)
        chips.append(Chip(program, nvs=nvs, reset_reason=reset_reason, wake_cause=wake_cause, rtc=rtc))
        return chips[-1]

    yield start
    for chip in chips:
        with chip:
            pass


@pytest.fixture
def chip(power_up: Callable[..., Chip]) -> Chip:
    """A good, provisioned chip whose server is up."""
    chip = power_up()
    chip.wait_until_up()
    return chip


@pytest.fixture(scope="session")
def host_build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build one target of firmware/host with CMake's options, and return the program."""

    def build(target: str, *options: str) -> Path:
        tree = tmp_path_factory.mktemp("host")
        subprocess.run(["cmake", "-S", FIRMWARE / "host", "-B", tree, *options], check=True, capture_output=True)
        make = ["cmake", "--build", tree, "--parallel", "2", "--target", target]
        done = subprocess.run(make, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return next(path for path in tree.rglob(target) if path.is_file())

    return build
