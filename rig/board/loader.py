"""A session with the chip's serial loader through esptool's Python API: connection, identity, and what it says."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rig.board.errors import WrongBoard
from rig.board.serialport import CONSOLE_BAUDRATE, SerialPort
from rig.errors import BenchError

Progress = Callable[[str], None]

CHIP = "esp32c3"
# esptool's errors are RuntimeErrors, pyserial's OSErrors, and ValueError where an RFC 2217 server refuses a request.
FAILURES = (RuntimeError, OSError, ValueError)
# Each of esptool's four reset sequences for a local port once; the two for RFC 2217 twice.
_CONNECT_ATTEMPTS = 4


def connect(port: SerialPort) -> Any:
    """Reset the chip into its loader and return esptool's object for it. Raises BenchError when none answers."""
    from esptool.targets import ESP32C3ROM

    try:
        rom = ESP32C3ROM(port.raw, CONSOLE_BAUDRATE)
        rom.USES_RFC2217 = port.url.lower().startswith("rfc2217:")
        rom.connect("default-reset", _CONNECT_ATTEMPTS)
    except FAILURES as error:
        raise BenchError(
            f"port {port.url}: no connection to the chip's loader: {first_line(error)}; check the cable, that the "
            "board has power, and that DTR and RTS reach EN and GPIO9 (or hold BOOT while resetting)"
        ) from error
    return rom


def read_mac(port: SerialPort, loader: Any) -> str:
    """Return the chip's MAC, in lower case with colons. Raises BenchError."""
    try:
        return ":".join(f"{byte:02x}" for byte in loader.read_mac("BASE_MAC"))
    except FAILURES as error:
        raise BenchError(
            f"port {port.url}: the chip does not tell its MAC: {first_line(error)}; check the cable"
        ) from error


def check_mac(port: SerialPort, *, expected: str, found: str) -> None:
    """Raise WrongBoard unless both are the same MAC."""
    if found != expected.lower():
        raise WrongBoard(
            f"port {port.url}: the board there is {found}, the bench names {expected.lower()}; nothing was written. "
            "Correct the port or the MAC in the bench file"
        )


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return str(error).strip().split("\n", 1)[0].rstrip(".")


def tell(on_progress: Progress | None, text: str) -> None:
    """Tell *text* to whoever listens."""
    if on_progress is not None:
        on_progress(text)


_listener: ContextVar[Progress | None] = ContextVar("esptool_listener", default=None)


@contextmanager
def esptool_output_to(listener: Progress | None) -> Iterator[None]:
    """Send what esptool would print to *listener*, for this thread.

    esptool has one logger for the whole process, so it is replaced once, for good, by one that asks who listens: two
    boards can then be flashed at a time.
    """
    from esptool.logger import EsptoolLogger, TemplateLogger

    TemplateLogger.register(_RoutedLogger)
    EsptoolLogger().set_logger(_RoutedLogger())
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class _RoutedLogger:
    """esptool's logger interface (esptool, "Scripting", "Redirecting Output with a Custom Logger")."""

    def print(self, *args: object, **_: object) -> None:
        text = " ".join(str(arg) for arg in args).strip(" .\n")
        if text:
            tell(_listener.get(), text)

    def note(self, message: str) -> None:
        self.print(f"note: {message}")

    def warning(self, message: str) -> None:
        self.print(f"warning: {message}")

    def error(self, message: str) -> None:
        self.print(f"error: {message}")

    def warn(self, message: str, **_: object) -> None:
        self.warning(message)

    def err(self, message: str, **_: object) -> None:
        self.error(message)

    def debug(self, *args: object) -> None:
        """Drop what esptool itself shows only when asked to be verbose."""

    def stage(self, finish: bool = False) -> None:
        """Nothing to fold: there is no terminal behind this."""

    def progress_bar(self, cur_iter: int, total_iters: int, prefix: str = "", **_: object) -> None:
        self.print(f"{prefix} {100 * cur_iter // max(total_iters, 1)} %")

    def set_verbosity(self, verbosity: str) -> None:
        """Keep telling all: whoever listens chooses what to show."""
