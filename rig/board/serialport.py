"""The serial port of a board: a local one, or one behind RFC 2217 (Telnet Com Port Control Option).

Opening releases DTR and RTS without a reset. In the usual auto-reset circuit EN is low while RTS is asserted and DTR is
not, and Linux asserts both when it opens a port: so RTS must go first.
"""

import contextlib
import errno
import socket
import struct
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import serial
from serial import rfc2217

from rig.errors import BenchError

CONSOLE_BAUDRATE = 115_200
RESET_HOLD_S = 0.1  # how long esptool holds EN low
_POLL_S = 0.1
_HANG_UP_S = 0.3
_RFC2217 = "rfc2217://"


class Rfc2217Serial(rfc2217.Serial):
    """pyserial's RFC 2217 client without its idle waits, of which esptool pays two with each command.

    pyserial negotiates all line settings anew whenever a time-out is set; here the server is asked only for what
    differs from what it has agreed to. pyserial looks every 50 ms whether an answer has come; here whoever waits is
    woken by the thread that reads it, or by that thread's end. Each request still waits for its answer before the next
    one is sent, so that the times between two changes of the modem lines are those the caller chose.
    """

    _opening = False

    def open(self) -> None:
        """Open the port, its lines set as they were chosen before: RTS first, then DTR."""
        self._agreed: dict[str, bytes] = {}
        self._unanswered: list[bytes] = []  # values for control lines whose answer came too late to be waited for
        self._answered = threading.Condition()
        self._reading = True
        self._opening = True
        try:
            with warnings.catch_warnings():
                # pyserial 3.5 names its thread with methods that Python has deprecated.
                warnings.simplefilter("ignore", DeprecationWarning)
                super().open()
        finally:
            self._opening = False

    def close(self) -> None:
        """Close the port. The server has noticed when this returns, or had 0.3 s for it: it may be opened again.

        pyserial waits those 0.3 s in any case, and leaves its socket open where the server has dropped the connection.
        """
        connection = self._untyped._socket
        if self._untyped._thread is not None:
            self._hang_up()
        super().close()
        if connection is not None:
            connection.close()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):  # the connection may be gone already
            self._untyped._socket.shutdown(socket.SHUT_WR)
        with self._answered:
            self._answered.wait_for(lambda: not self._reading, _HANG_UP_S)
        with contextlib.suppress(OSError):
            self._untyped._socket.shutdown(socket.SHUT_RDWR)
        self._untyped._thread.join()
        self._untyped._thread = None

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
        self._untyped._rfc2217_options[option].set(value)
        self._wait_answer(option)

    def _wait_answer(self, option: str) -> None:
        """Wait for the server's answer. Raises ValueError when it refuses, SerialException when it says nothing."""
        item = self._untyped._rfc2217_options[option]
        with self._answered:
            self._answered.wait_for(lambda: item.is_ready() or not self._reading, self._untyped._network_timeout)
            if item.is_ready():
                return
            if option == "control":
                self._unanswered.append(item.value)
        if not self._reading:
            raise serial.SerialException("the RFC 2217 server has closed the connection")
        hint = _NO_ANSWER_HINT if option == "control" else ""
        raise serial.SerialException(f"the RFC 2217 server does not answer option {option!r}{hint}")

    # What pyserial's reading thread calls.

    def _telnet_read_loop(self) -> None:
        try:
            self._base._telnet_read_loop()
        finally:
            with self._answered:
                self._reading = False
                self._answered.notify_all()

    def _telnet_process_subnegotiation(self, suboption: bytes) -> None:
        with self._answered:
            if not self._out_of_turn(suboption):
                self._base._telnet_process_subnegotiation(suboption)
            self._answered.notify_all()

    def _out_of_turn(self, suboption: bytes) -> bool:
        """Say whether this tells of a control line that nobody waits for, which pyserial would take for a refusal."""
        if suboption[:2] != rfc2217.COM_PORT_OPTION + rfc2217.SERVER_SET_CONTROL:
            return False
        told = suboption[2:3]
        wanted = self._untyped._rfc2217_options["control"].value
        if told == wanted:
            return False
        if told in self._unanswered:
            self._unanswered.remove(told)
            return True
        return _control_line(told) != _control_line(wanted)

    # pyserial's open sets DTR before RTS. Each of the two stands in for the other meanwhile.

    def _update_dtr_state(self) -> None:
        update = self._base._update_rts_state if self._opening else self._base._update_dtr_state
        update()

    def _update_rts_state(self) -> None:
        update = self._base._update_dtr_state if self._opening else self._base._update_rts_state
        update()

    def _reconfigure_port(self) -> None:
        if self.write_timeout is not None:  # esptool relies on hearing so
            raise NotImplementedError("RFC 2217 knows no write time-out")
        settings = {
            "baudrate": struct.pack("!I", self.baudrate),
            "datasize": struct.pack("!B", self.bytesize),
            "parity": struct.pack("!B", rfc2217.RFC2217_PARITY_MAP[self.parity]),
            "stopsize": struct.pack("!B", rfc2217.RFC2217_STOPBIT_MAP[self.stopbits]),
        }
        changed = {option: value for option, value in settings.items() if self._agreed.get(option) != value}
        for option, value in changed.items():
            self._untyped._rfc2217_options[option].set(value)
        for option, value in changed.items():
            self._agreed.pop(option, None)
            self._wait_answer(option)
            self._agreed[option] = value
        flow_control = _FLOW_CONTROL[self.rtscts, self.xonxoff]
        if self._agreed.get("flow control") != flow_control:
            self.rfc2217_set_control(flow_control)
            self._agreed["flow control"] = flow_control

    @property
    def _base(self) -> Any:
        """pyserial's own methods; its type stubs leave most of them out."""
        return super()

    @property
    def _untyped(self) -> Any:
        return self


_FLOW_CONTROL = {
    (False, False): rfc2217.SET_CONTROL_USE_NO_FLOW_CONTROL,
    (True, False): rfc2217.SET_CONTROL_USE_HW_FLOW_CONTROL,
    (False, True): rfc2217.SET_CONTROL_USE_SW_FLOW_CONTROL,
}
_NO_ANSWER_HINT = (
    "; esp_rfc2217_server answers none such, and ser2net none that its port has no line for: then add "
    "?ign_set_control to the URL"
)
# The first of SET-CONTROL's values for each thing it sets (RFC 2217, section 3): flow control, break, DTR, RTS,
# inbound flow control.
_FIRST_VALUES = b"\x00\x04\x07\x0a\x0d"


def _control_line(value: bytes | None) -> int:
    """Return a number for what a value of SET-CONTROL sets: DTR on and DTR off have the same one."""
    return sum(first <= value[0] for first in _FIRST_VALUES) if value else 0


class SerialPort:
    """A board's serial port as a context manager.

    ``url`` is a device (``/dev/ttyUSB0``) or any pyserial URL (``rfc2217://host:port``). ``raw`` is pyserial's object,
    which the flasher drives directly. Every failure is a BenchError that names the port and the fix.
    """

    def __init__(self, url: str, baudrate: int = CONSOLE_BAUDRATE) -> None:
        self.url = url
        self.baudrate = baudrate
        self.raw = self._instance()
        self.has_reset_lines = not url.lower().startswith("socket://")
        """Whether DTR and RTS are there to reset the board with, as far as opening could tell."""

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
        """Pull EN low for a tenth of a second and release it; the chip starts from flash.

        Raises BenchError on a port without modem lines.
        """
        if not self.has_reset_lines:
            raise BenchError(
                f"port {self.url}: has no DTR and RTS to reset the board with; press its reset button, or use its "
                "serial port itself or an RFC 2217 server"
            )
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
            self.has_reset_lines = False

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
