"""The application: the program found in flash, as a child process, with the chip wire between it and the chip."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rig.errors import BenchError
from rig.formats.nvs import NvsValue

RTC_MEMORY_BYTES = 8192
_OUTPUT_BYTES = 1 << 16
_MESSAGE_BYTES = 4096


@dataclass(frozen=True)
class Message:
    """One message of the chip wire: what happened when (CLOCK_MONOTONIC)."""

    t_ns: int
    verb: str
    arguments: tuple[int | str, ...]


@dataclass(frozen=True)
class Environment:
    """What the chip hands to the application when it starts."""

    nvs: Mapping[tuple[str, str], NvsValue]
    rtc_fd: int
    reset_reason: int
    wake_cause: int
    address: str


class RtcMemory:
    """The 8 KiB that outlive deep sleep, in an anonymous file that application after application maps."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("rtc-memory", os.MFD_CLOEXEC)
        self.clear()

    def clear(self) -> None:
        """Fill the memory with zeros, as losing power does here."""
        os.pwrite(self.fd, bytes(RTC_MEMORY_BYTES), 0)

    def close(self) -> None:
        """Free the memory."""
        os.close(self.fd)


class Application:
    """A running application.

    *on_output* gets what it prints, *on_message* what it says on the chip wire, *on_exit* its exit status (the number
    of the signal, negated) after all of both.
    """

    def __init__(
        self,
        elf: bytes,
        environment: Environment,
        on_output: Callable[[bytes], None],
        on_message: Callable[[Message], None],
        on_exit: Callable[[int], None],
    ) -> None:
        self._on_output = on_output
        self._on_message = on_message
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._wire, chip = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = _memory_file("application", elf)
        nvs = _memory_file("nvs", nvs_text(environment.nvs))
        try:
            self._process = _start(program, chip.fileno(), nvs, environment)
        finally:
            chip.close()
            os.close(program)
            os.close(nvs)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin.fileno()
        self._stdout = self._process.stdout.fileno()
        self.exit_fd = os.pidfd_open(self._process.pid)
        self._wire.setblocking(False)
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        self._loop.add_reader(self._wire, self._read_message)
        self._loop.add_reader(self._stdout, self._read_output)
        self._loop.add_reader(self.exit_fd, self._exited)

    def write(self, data: bytes) -> None:
        """Give the application bytes on its UART; what it does not read in time is lost, as in a real FIFO."""
        try:
            os.write(self._stdin, data)
        except (BlockingIOError, BrokenPipeError):
            return

    def kill(self) -> None:
        """Stop the application at once, as a reset does; what it has printed so far is still passed on."""
        self._process.kill()
        self._process.wait()
        while self._read_output():
            pass
        self._release()

    def read_messages(self) -> None:
        """Pass on what has been said on the chip wire and not been read yet."""
        while self._read_message():
            pass

    def _exited(self) -> None:
        status = self._process.wait()
        self.read_messages()
        while self._read_output():
            pass
        self._release()
        self._on_exit(status)

    def _read_output(self) -> bool:
        try:
            data = os.read(self._stdout, _OUTPUT_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._on_output(data)
        else:
            self._loop.remove_reader(self._stdout)
        return bool(data)

    def _read_message(self) -> bool:
        try:
            packet = self._wire.recv(_MESSAGE_BYTES)
        except (BlockingIOError, ConnectionResetError):
            return False
        if packet:
            self._on_message(parse_message(packet))
        else:
            self._loop.remove_reader(self._wire)
        return bool(packet)

    def _release(self) -> None:
        for descriptor in (self._wire.fileno(), self._stdout, self.exit_fd):
            self._loop.remove_reader(descriptor)
        self._wire.close()
        os.close(self.exit_fd)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()


def parse_message(packet: bytes) -> Message:
    """Read one packet of the chip wire. Raises BenchError when it is none."""
    fields = packet.decode("ascii", "replace").split()
    if len(fields) < 2 or not fields[0].isascii() or not fields[0].isdigit():
        raise BenchError(
            f"chip wire: {packet!r} is not '<t_ns> <verb> <arguments>'; the host build does not fit the board"
        )
    arguments = tuple(int(text) if text.isascii() and text.isdigit() else text for text in fields[2:])
    return Message(int(fields[0]), fields[1], arguments)


def nvs_text(values: Mapping[tuple[str, str], NvsValue]) -> bytes:
    """Return NVS as the application reads it: lines of namespace, key, type and the value's bytes in hexadecimal."""
    rows = [f"{space}\t{key}\t{value.type}\t{value.data.hex()}\n" for (space, key), value in values.items()]
    return "".join(rows).encode()


def died_of(status: int) -> str:
    """Return how a process ended, for people."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _memory_file(name: str, content: bytes) -> int:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _start(program: int, chip: int, nvs: int, environment: Environment) -> subprocess.Popen[bytes]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise BenchError("setpriv is not installed; install util-linux")
    # setpriv becomes the program: whatever ends this process, SIGKILL included, ends the application too.
    return subprocess.Popen(
        [setpriv, "--pdeathsig", "KILL", f"/proc/self/fd/{program}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(program, chip, nvs, environment.rtc_fd),
        env={
            "RIG_CHIP_FD": str(chip),
            "RIG_NVS_FD": str(nvs),
            "RIG_RTC_FD": str(environment.rtc_fd),
            "RIG_RESET_REASON": str(environment.reset_reason),
            "RIG_WAKE_CAUSE": str(environment.wake_cause),
            "RIG_ADDRESS": environment.address,
        },
        bufsize=0,
    )
