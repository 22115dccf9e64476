"""A session with the chip's serial loader through esptool's Python API: connection, identity, and what it says."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rig.board.errors import BoardDead, WrongBoard
from rig.board.recovery import PORT_WAIT_S, SHORT_PORT_WAIT_S, Recovery, open_again
from rig.board.serialport import CONSOLE_BAUDRATE, SerialPort
from rig.errors import BenchError

Progress = Callable[[str], None]

CHIP = "esp32c3"
# esptool's errors are RuntimeErrors, pyserial's OSErrors, and ValueError where an RFC 2217 server refuses a request.
FAILURES = (RuntimeError, OSError, ValueError)
# esptool's "--before" words with the number of its reset sequences to try, one after the other: tight and classic on a
# local port, classic alone over RFC 2217, each with a short and a long wait. A port does not always tell that it is the
# chip's own USB-Serial-JTAG, which has a sequence of its own; one behind RFC 2217 never does.
_LOCAL_WAYS = (("default-reset", 4), ("usb-reset", 1))
_REMOTE_WAYS = (("default-reset", 2), ("usb-reset", 1), ("default-reset", 2))
_WAYS_WITHOUT_LINES = (("no-reset", 2),)
_SEQUENCES = {"ClassicReset": "classic reset", "UnixTightReset": "tight reset", "USBJTAGSerialReset": "USB-JTAG reset"}


def connect(port: SerialPort, recovery: Recovery | None = None) -> Any:
    """Reset the chip into its loader and return esptool's object for it.

    Tried in this order: the reset sequences; a power cycle where *recovery* has a switch; the sequences again. A port
    that is gone is waited for. Every step that fails is told to *recovery*, and the one that succeeds after it.

    Raises BoardDead when nothing answers, BenchError when the chip that answers is another one.
    """
    recovery = recovery or Recovery()
    loader = _try_sequences(port, recovery, PORT_WAIT_S if recovery.power is None else SHORT_PORT_WAIT_S)
    if loader is None and recovery.power_cycle():
        loader = _try_sequences(port, recovery, PORT_WAIT_S)
    if loader is None:
        raise BoardDead(
            f"port {port.url}: no connection to the chip's loader; tried: {recovery.story()}; check the cable, that "
            "the board has power, and that DTR and RTS reach EN and GPIO9 (or hold BOOT while resetting)"
        )
    return loader


def _try_sequences(port: SerialPort, recovery: Recovery, port_wait_s: float) -> Any | None:
    """Return the loader that one of the reset sequences reached, or None."""
    for mode, attempts in _ways(port):
        if not _is_open(port, recovery, port_wait_s):
            return None
        rom = _rom(port, recovery)
        try:
            rom.connect(mode, attempts)
            return rom
        except FAILURES as error:
            if rom.answered:
                raise BenchError(f"port {port.url}: the chip answers, but: {first_line(error)}") from error
            port.close()  # esptool does so as well, but not where the port itself failed
    return None


def _ways(port: SerialPort) -> tuple[tuple[str, int], ...]:
    if not port.has_reset_lines:
        return _WAYS_WITHOUT_LINES
    return _REMOTE_WAYS if port.url.lower().startswith("rfc2217:") else _LOCAL_WAYS


def _is_open(port: SerialPort, recovery: Recovery, wait_s: float) -> bool:
    """Open a port that has been closed, if that is possible."""
    try:
        if not port.raw.is_open:
            open_again(port, wait_s)
    except BenchError as error:
        recovery.tell("open the port", str(error))
        return False
    return True


def _rom(port: SerialPort, recovery: Recovery) -> Any:
    """Return esptool's object for the chip's ROM, which tells each of its attempts to *recovery*."""
    from esptool.targets import ESP32C3ROM

    class Rom(ESP32C3ROM):  # type: ignore[misc]
        answered = False

        def _connect_attempt(self, reset_strategy: Any, mode: str = "default-reset") -> Any:
            action = "sync without a reset" if mode == "no-reset" else _sequence(reset_strategy)
            try:
                error = super()._connect_attempt(reset_strategy, mode)
            except FAILURES as failure:
                recovery.tell(action, first_line(failure))
                raise
            self.answered = error is None
            if error is not None:
                recovery.tell(action, first_line(error))
            elif recovery.steps:
                recovery.tell(action, "the loader answers")
            return error

    rom = Rom(port.raw, CONSOLE_BAUDRATE)
    rom.USES_RFC2217 = port.url.lower().startswith("rfc2217:")
    return rom


def _sequence(strategy: Any) -> str:
    name = type(strategy).__name__
    wait = f" ({strategy.reset_delay:g} s)" if name in ("ClassicReset", "UnixTightReset") else ""
    return _SEQUENCES.get(name, name) + wait


def read_mac(port: SerialPort, loader: Any) -> str:
    """Return the chip's MAC, in lower case with colons. Raises BenchError."""
    if loader.secure_download_mode:
        raise BenchError(
            f"port {port.url}: the chip is in secure download mode (ENABLE_SECURITY_DOWNLOAD is burnt), in which it "
            "tells neither its MAC nor its fuses; keep boards for the bench without that fuse"
        )
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
