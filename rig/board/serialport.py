"""The serial port of a board: a local one, or one behind RFC 2217 (Telnet Com Port Control Option).

Opening releases DTR and RTS without a reset. In the usual auto-reset circuit EN is low while RTS is asserted and DTR is
not, and Linux asserts both when it opens a port: so RTS must go first.
"""

import errno
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import serial
import serial.rfc2217

from rig.errors import BenchError

CONSOLE_BAUDRATE = 115_200
RESET_HOLD_S = 0.1  # how long esptool holds EN low
_POLL_S = 0.1
_RFC2217 = "rfc2217://"


class Rfc2217Serial(serial.rfc2217.Serial):
    """pyserial's RFC 2217 client without its idle waits, of which esptool pays two with each command.

    pyserial negotiates all line settings anew whenever a time-out is set; here the server is asked only when a setting
    of the line differs from what it has agreed to. pyserial looks for an answer every 50 ms, this every millisecond.
    """

    _agreed: tuple[object, ...] | None = None
    _opening = False

    def open(self) -> None:
        """Open the port, its lines set as they were chosen before: RTS first, then DTR."""
        self._agreed = None
        self._opening = True
        try:
            with warnings.catch_warnings():
                # pyserial 3.5 names its thread with methods that Python has deprecated.
                warnings.simplefilter("ignore", DeprecationWarning)
                super().open()
        finally:
            self._opening = False

    def close(self) -> None:
        """Close the port, also where the server has dropped the connection: pyserial then leaves its socket open."""
        connection = self._untyped._socket
        super().close()
        if connection is not None:
            connection.close()

    def rfc2217_set_control(self, value: bytes) -> None:
        """Change a control line and wait until the server has done it."""
        if self._untyped._ignore_set_control_answer:
            super().rfc2217_set_control(value)
        else:
            self._request("control", value)

    def rfc2217_send_purge(self, value: bytes) -> None:
        """Empty the server's buffers and wait until it has done so."""
        self._request("purge", value)

    def _request(self, option: str, value: bytes) -> None:
        item = self._untyped._rfc2217_options[option]
        deadline_s = time.monotonic() + self._untyped._network_timeout
        item.set(value)
        while not item.is_ready():
            if time.monotonic() > deadline_s:
                raise serial.SerialException(f"no answer to RFC 2217 option {option!r}")
            time.sleep(0.001)

    # pyserial's open sets DTR before RTS. Each of the two stands in for the other meanwhile.
    def _update_dtr_state(self) -> None:
        update = self._base._update_rts_state if self._opening else self._base._update_dtr_state
        update()

    def _update_rts_state(self) -> None:
        update = self._base._update_dtr_state if self._opening else self._base._update_rts_state
        update()

    def _reconfigure_port(self) -> None:
        wanted = (self.baudrate, self.bytesize, self.parity, self.stopbits, self.xonxoff, self.rtscts)
        # A write time-out is refused by pyserial, and esptool relies on hearing so.
        if wanted == self._agreed and self.write_timeout is None:
            return
        self._base._reconfigure_port()
        self._agreed = wanted

    @property
    def _base(self) -> Any:
        """pyserial's own methods; its type stubs leave most of them out."""
        return super()

    @property
    def _untyped(self) -> Any:
        return self


class SerialPort:
    """A board's serial port as a context manager.

    ``url`` is a device (``/dev/ttyUSB0``) or any pyserial URL (``rfc2217://host:port``). ``raw`` is pyserial's object,
    which the flasher drives directly. Every failure is a BenchError that names the port and the fix.
    """

    def __init__(self, url: str, baudrate: int = CONSOLE_BAUDRATE) -> None:
        self.url = url
        self.baudrate = baudrate
        self.raw = self._instance()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Open the port with DTR and RTS released."""
        remote = isinstance(self.raw, Rfc2217Serial)
        # A remote port is already open at its server, and some servers take DTR for a request to reset. On a local one
        # pyserial would release DTR first, so it opens as Linux does and RTS is released after.
        self.raw.dtr = self.raw.rts = not remote
        try:
            self.raw.open()
            if not remote:
                self._release_lines()
        except (OSError, ValueError) as error:
            self.raw.close()
            reason = str(error).removeprefix(f"Could not open port {self.url}: ")
            raise BenchError(f"port {self.url}: cannot be opened: {reason}; {self._open_hint()}") from error

    def close(self) -> None:
        """Close the port; closing a closed one does nothing."""
        self.raw.close()

    def restore(self) -> None:
        """Bring the port back to the console's settings after a flasher had it, and open it if that closed it."""
        if not self.raw.is_open:
            self.open()
        with self._named():
            self.raw.baudrate = self.baudrate
            self.raw.timeout = _POLL_S

    def read(self) -> bytes:
        """Return what has arrived, at least one byte, or nothing when none comes within a tenth of a second."""
        with self._named():
            first = self.raw.read(1)
            return first + self.raw.read(self.raw.in_waiting) if first else b""

    def write(self, data: bytes) -> None:
        """Send all of *data*."""
        with self._named():
            self.raw.write(data)

    def hard_reset(self) -> None:
        """Pull EN low for a tenth of a second and release it; the chip starts from flash."""
        with self._named():
            self.raw.dtr = False
            self.raw.rts = True
            time.sleep(RESET_HOLD_S)
            self.raw.rts = False

    def _release_lines(self) -> None:
        try:
            self.raw.rts = False
            self.raw.dtr = False
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL):  # a pseudoterminal has no such lines
                raise

    def _instance(self) -> serial.Serial | Rfc2217Serial:
        if self.url.lower().startswith(_RFC2217):
            remote = Rfc2217Serial(None, baudrate=self.baudrate, timeout=_POLL_S)
            remote.port = self.url
            return remote
        try:
            return serial.serial_for_url(
                self.url, baudrate=self.baudrate, timeout=_POLL_S, exclusive=True, do_not_open=True
            )
        except ValueError as error:
            raise BenchError(f"port {self.url}: {error}; use a device path or rfc2217://host:port") from error

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise BenchError(f"port {self.url}: {error}; check that the board is still connected") from error

    def _open_hint(self) -> str:
        if self.url.lower().startswith(_RFC2217):
            return "check that its RFC 2217 server runs and that nobody else is connected to it"
        return "check the cable, the port's name, and that you may open it (group dialout)"
