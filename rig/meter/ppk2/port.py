"""A PPK2's serial port: commands out, bytes in with the time they came. Every failure is one sentence."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import serial
from serial.tools import list_ports

from rig.clock import now_s
from rig.meter.protocol import MeterError

#: Operation codes (pc-nrfconnect-ppk, src/constants.ts). Only METADATA is answered.
START, STOP, RUNNING, REGULATOR, MODE, METADATA = 0x06, 0x07, 0x0C, 0x0D, 0x11, 0x19
AMPERE, SOURCE = 1, 2

POLL_S = 0.05
#: After a stop the instrument has said everything when nothing has come for so long.
SILENCE_S = 0.06
ANSWER_S = 1.0
#: Bytes kept for whoever takes them: 160 s of samples.
MAX_KEPT = 64 << 20
END = b"END"


class Ppk2Port:
    """The port named *name*. While the instrument measures, a thread reads it; at other times nobody does."""

    def __init__(self, name: str) -> None:
        self.where = f"meter {name}"
        self._name = name
        self._serial: serial.Serial | None = None
        self._reader: threading.Thread | None = None
        self._end = threading.Event()
        self._news = threading.Condition()
        self._kept: list[tuple[bytes, float]] = []
        self._kept_bytes = 0
        self._failure: MeterError | None = None

    def open(self) -> None:
        """Open the port and silence the instrument, whatever somebody before has left it at."""
        try:
            self._serial = serial.Serial(self._name, timeout=POLL_S, write_timeout=ANSWER_S, exclusive=True)
        except (OSError, ValueError) as error:
            raise MeterError(
                f"{self.where}: cannot be opened ({error}): check the cable, the port's name, that nobody else has it "
                "open, and that you may open it (group dialout)"
            ) from error
        self.command(STOP)
        self._read_out()

    def close(self) -> None:
        """Close the port."""
        self._end_reader()
        if self._serial is not None:
            self._serial.close()
            self._serial = None

    def serial_number(self) -> str:
        """Return the serial number of the USB device behind the port, empty where there is none."""
        device = os.path.realpath(self._name)
        return next((port.serial_number or "" for port in list_ports.comports() if port.device == device), "")

    def command(self, *message: int) -> None:
        """Send an operation code and its arguments."""
        with self._talking() as port:
            port.write(bytes(message))

    def metadata(self) -> bytes:
        """Ask for the metadata and return the whole answer; it comes in pieces."""
        self.command(METADATA)
        answer = b""
        deadline_s = now_s() + ANSWER_S
        while END not in answer:
            answer += self._read()
            if now_s() > deadline_s:
                raise MeterError(
                    f"{self.where}: no metadata within {ANSWER_S:g} s ({len(answer)} bytes came): is this a PPK2, and "
                    "is nobody else talking to it?"
                )
        return answer

    def start(self) -> float:
        """Begin to measure; return the rig time just before."""
        self._kept, self._kept_bytes, self._failure = [], 0, None
        self._end.clear()
        self._reader = threading.Thread(target=self._receive, name="ppk2", daemon=True)
        before_s = now_s()
        self.command(START)
        self._reader.start()
        return before_s

    def stop(self) -> None:
        """Stop measuring; what was on its way can still be taken."""
        if self._reader is None:
            return
        try:
            self.command(STOP)
            self._read_until_silent()
        finally:
            self._end_reader()

    def take(self, timeout_s: float) -> list[tuple[bytes, float]]:
        """Return what has come, each piece with its rig time; wait up to *timeout_s* for something.

        Raises:
            MeterError: the port failed, after everything that came before has been taken.
        """
        with self._news:
            self._news.wait_for(lambda: self._kept or self._failure is not None, timeout_s)
            kept, self._kept, self._kept_bytes = self._kept, [], 0
            if not kept and self._failure is not None:
                raise self._failure
            return kept

    def _receive(self) -> None:
        while not self._end.is_set():
            try:
                data = self._read()
            except MeterError as error:
                self._keep(b"", error)
                return
            self._keep(data, None)

    def _keep(self, data: bytes, failure: MeterError | None) -> None:
        arrived_s = now_s()
        with self._news:
            if data:
                self._kept.append((data, arrived_s))
                self._kept_bytes += len(data)
            if self._kept_bytes > MAX_KEPT:
                failure = MeterError(f"{self.where}: samples come faster than they can be written: is the disk full?")
            self._failure = self._failure or failure
            self._news.notify_all()

    def _read_until_silent(self) -> None:
        """Wait until the reading thread has had nothing for :data:`SILENCE_S`."""
        deadline_s = now_s() + ANSWER_S
        before = -1
        while self._failure is None and now_s() < deadline_s:
            with self._news:
                had = self._kept_bytes
            if had == before:
                return
            before = had
            time.sleep(SILENCE_S)

    def _read_out(self) -> None:
        deadline_s = now_s() + ANSWER_S
        while self._read() and now_s() < deadline_s:
            pass

    def _read(self) -> bytes:
        """Return what has come, nothing when nothing comes within :data:`POLL_S`."""
        with self._talking() as port:
            first = port.read(1)
            return bytes(first + port.read(port.in_waiting)) if first else b""

    def _end_reader(self) -> None:
        self._end.set()
        if self._reader is not None:
            self._reader.join()
            self._reader = None

    @contextmanager
    def _talking(self) -> Iterator[serial.Serial]:
        if self._serial is None:
            raise MeterError(f"{self.where}: is not open")
        try:
            yield self._serial
        except (OSError, ValueError, TypeError) as error:  # pyserial compares a closed port's None with numbers
            raise MeterError(f"{self.where}: {error}; check that it is still connected") from error
