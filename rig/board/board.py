"""A board: its lock, port and console as one thing to enter and leave."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.board.console import Console, Line
from rig.board.errors import BoardDead, BootFailure, ConsoleTimeout
from rig.board.flash import MAX_FLASH_BYTES, FlashReport, ImagePart, Mode, flash, overwrite, read_flash
from rig.board.fuses import SecurityFuses, read_fuses
from rig.board.loader import Progress, connect, esptool_output_to, first_line, tell
from rig.board.lock import BoardLock
from rig.board.marks import Mark
from rig.board.power import PowerSwitch
from rig.board.provision import Provisioning, nvs_image
from rig.board.recovery import PORT_WAIT_S, SHORT_PORT_WAIT_S, OnStep, Recovery, open_again
from rig.board.serialport import SerialPort
from rig.clock import now_s
from rig.errors import BenchError, ConfigError
from rig.formats import partitions
from rig.formats.checks import check_image_set
from rig.formats.flasher_args import ImageSet

# What the mask ROM, ESP-IDF's second-stage loader, its panic handler and the application say when a start fails.
_FAILURES = re.compile(
    r"""invalid\ header:\ 0x
      | Invalid\ chip\ id\.
      | Checksum\ failure\.
      | No\ bootable\ app\ partitions
      | flash_parts:.*(?:MD5|invalid)
      | load\ partition\ table\ error
      | esp_image:.*(?:invalid|failed|doesn't\ fit|exceeds)
      | app\ partition\ is\ not\ bootable
      | boot_comm:\ mismatch
      | requires\ chip\ rev
      | no\ credentials\ in\ NVS
      | Guru\ Meditation
      | abort\(\)\ was\ called
      | Brownout\ detector
      | ^virtual\ bench:
    """,
    re.VERBOSE,
)
# What stands in for a chip may fail as well, and says so under its own name: no finding about the device.
_VIRTUAL_BENCH = "virtual bench:"
# What the ROM says when GPIO9 was low at reset: it waits for a flasher.
_IN_LOADER = re.compile(r"waiting for download|wait (?:usb|uart0) download")
_ROM_STARTS = "rst:0x"
_FIRST_TEXT_S = 2.0  # the ROM's first lines come some 20 ms after a reset


@dataclass(frozen=True)
class NetworkAddress:
    """Where the device serves, as it said on its console. ``at_s``: when that was read, on the rig's clock."""

    host: str
    port: int
    at_s: float


class Board:
    """The device under test, held by this process from entering to leaving.

    *mac* is its identity: the lock is on it, and nothing is flashed to a chip with another one. Opening does not reset
    the chip. Console output goes to *log_path*; *on_mark* is called in the console's thread. *power* is the switch of
    its supply, on after entering and after leaving. *on_step* is told each step that is taken because the board did
    not answer, in the thread that takes it.

    Entering raises BoardBusy, or BenchError when the port cannot be opened.
    """

    console: Console

    def __init__(
        self,
        name: str,
        port_url: str,
        mac: str,
        log_path: Path,
        on_mark: Callable[[Mark], None] | None = None,
        *,
        power: PowerSwitch | None = None,
        on_step: OnStep | None = None,
    ) -> None:
        self.name = name
        self.mac = mac.lower()
        self.power = power
        self._on_step = on_step
        self._port = SerialPort(port_url)
        self.console = Console(self._port, log_path, on_mark)
        self._lock = BoardLock(mac)
        self._opened = ExitStack()
        self._started_s = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(self._lock)
            if self.power is not None:
                opened.enter_context(self.power)
            opened.callback(self._port.close)
            open_again(self._port, SHORT_PORT_WAIT_S if self.power is not None else 0.0)
            self._started_s = now_s()
            opened.enter_context(self.console)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, traceback)

    def flash(
        self,
        images: ImageSet,
        provisioning: Provisioning,
        mode: Mode = "auto",
        on_progress: Progress | None = None,
        on_esptool: Progress | None = None,
    ) -> FlashReport:
        """Flash *images* and the board's own NVS partition, then start the board (see rig.board.flash.flash).

        The console stands still while the loader has the port and reads again before the chip starts, so that the
        first line of the boot is stamped when it comes. Mode ``never`` does not restart the board. An image set that
        would not boot is a ConfigError before the port is touched.
        """
        check_image_set(images, flash_bytes=MAX_FLASH_BYTES)
        nvs = _nvs_part(images, provisioning)
        if mode == "never":
            return flash(self._port, images, mac=self.mac, extra=[nvs], mode=mode)
        with self._in_loader(on_progress) as port:
            return flash(
                port,
                images,
                mac=self.mac,
                extra=[nvs],
                mode=mode,
                on_progress=on_progress,
                on_esptool=on_esptool,
                after="no-reset",
                recovery=self._recovery(),
            )

    def overwrite(self, part: ImagePart) -> None:
        """Write one part of flash as it is, unjudged, and start the board; :meth:`flash` puts it right again.

        Raises WrongBoard, BoardDead, BenchError, DeviceError.
        """
        with self._in_loader() as port:
            overwrite(port, part, mac=self.mac, recovery=self._recovery(), after="no-reset")

    def read_flash(self, *places: tuple[int, int]) -> tuple[bytes, ...]:
        """Return what is in flash at each of *places* (offset and size in bytes), and start the board again.

        Raises WrongBoard, BoardDead, BenchError.
        """
        with self._in_loader() as port:
            return read_flash(port, places, mac=self.mac, recovery=self._recovery(), after="no-reset")

    def hard_reset(self) -> None:
        """Reset the chip through EN; waiting for the network counts from here."""
        self._started_s = now_s()
        self._port.hard_reset()

    def power_off(self) -> None:
        """Take the board's supply away; leaving the board gives it back. Raises BenchError without a switch."""
        self._switch().off()

    def power_on(self) -> None:
        """Give the board's supply back; waiting for the network counts from here.

        A port that went away with the power is opened again. Raises BenchError.
        """
        self._started_s = now_s()
        self._switch().on()
        if self.console.stopped:
            with self.console.released() as port:
                open_again(port, PORT_WAIT_S)

    def power_cycle(self) -> None:
        """Switch the supply off, for as long as it needs to run down, and on."""
        try:
            self.power_off()
        finally:
            self.power_on()

    def starts_from_reset(self) -> bool:
        """Reset the chip through EN, and say whether its ROM tells of a start after that."""
        return self._silence_after(self.hard_reset) is None

    def recover(self) -> None:
        """Start a board of unknown state, with more than a reset where a reset does not start it.

        Proof of the start is what the ROM prints. Tried in this order: reset through EN; what reaches its loader (see
        rig.board.loader.connect), which wakes it from sleep, waits for its port and switches its power, and then a
        reset; power alone, which is enough for a board without reset lines.

        Raises BoardDead with each step when nothing helps.
        """
        recovery = self._recovery()
        silence = self._silence_after(self.hard_reset)
        if silence is None:
            return
        recovery.tell("reset through EN", silence)
        try:
            with self.console.released() as port, esptool_output_to(None):
                connect(port, recovery)
        except BoardDead:
            if self.power is None or self._silence_after(self.power_cycle) is not None:
                raise
            recovery.tell("power cycle", "the board starts, and its loader stays out of reach")
        else:
            self._leave_loader(None)

    def fuses(self) -> SecurityFuses:
        """Read the security fuses in the chip's loader, and start the board again. Nothing is burnt.

        Raises WrongBoard, BoardDead, BenchError.
        """
        with self._in_loader() as port:
            return read_fuses(port, mac=self.mac, recovery=self._recovery())

    def wait_network(self, timeout_s: float = 10, since_s: float | None = None) -> NetworkAddress:
        """Return the address from the first ``network_up`` mark after *since_s*.

        None: since the last reset by this object, or since it was entered. Raises BootFailure with the device's own
        reason when it says meanwhile why it cannot start, BenchError when a virtual board says that it cannot go on,
        ConsoleTimeout when nothing of that comes.
        """
        start_s = self._started_s if since_s is None else since_s

        def look() -> NetworkAddress | None:
            for mark in self.console.marks_since(start_s):
                if mark.name == "network_up":
                    return _address(self.name, mark)
            _raise_boot_failure(self.name, self.console.lines_since(start_s), self.console.logfile)
            return None

        return self.console.wait_for(look, timeout_s, f"mark network_up of board {self.name}")

    @contextlib.contextmanager
    def _in_loader(self, on_progress: Progress | None = None) -> Iterator[SerialPort]:
        """Lend the port to somebody who leaves the chip in its loader, and start the board afterwards."""
        try:
            with self.console.released() as port:
                yield port
        except BaseException:
            # Leave the chip running what it has; what went wrong first is what counts.
            with contextlib.suppress(Exception):
                self.hard_reset()
            raise
        self._leave_loader(on_progress)

    def _leave_loader(self, on_progress: Progress | None) -> None:
        """Start the board: by its reset line, else by its power, else it is left to whoever can."""
        if self._port.has_reset_lines:
            self.hard_reset()
        elif self.power is not None:
            self.power_cycle()
        else:
            tell(on_progress, f"{self.name}: its port cannot reset it: it stays in its loader until somebody does")

    def _recovery(self) -> Recovery:
        return Recovery(self.power, self._on_step)

    def _silence_after(self, start: Callable[[], None]) -> str | None:
        """Start the board; None when its ROM says so, else what was said instead.

        Any other text proves nothing: a board whose reset line is cut goes on talking.
        """
        try:
            start()
            self.console.wait_line(_ROM_STARTS, since_s=self._started_s, timeout_s=_FIRST_TEXT_S)
        except (BenchError, ConsoleTimeout) as error:
            return first_line(error)
        return None

    def _switch(self) -> PowerSwitch:
        if self.power is None:
            raise BenchError(f"board {self.name}: nothing switches its power; name the commands (power:) in bench.yaml")
        return self.power


def _nvs_part(images: ImageSet, provisioning: Provisioning) -> ImagePart:
    file = images.file("partition-table")
    nvs = partitions.credentials(partitions.parse_table(file.read()))
    if nvs is None:
        raise ConfigError(f"{file.path}: no partition creds of type data, subtype nvs; add it to partitions.csv")
    return ImagePart(name=nvs.label, offset=nvs.offset, data=nvs_image(provisioning, nvs.size))


def _address(board: str, mark: Mark) -> NetworkAddress:
    try:
        return NetworkAddress(host=mark.fields["address"], port=int(mark.fields["port"]), at_s=mark.at_s)
    except (KeyError, ValueError):
        raise BootFailure(f"board {board}: its network_up mark has no address and port: {dict(mark.fields)}") from None


def _raise_boot_failure(board: str, lines: Iterable[Line], logfile: Path) -> None:
    lines = list(lines)
    if any(_IN_LOADER.search(line.text) for line in lines):
        raise BenchError(f"board {board}: starts its loader instead of flash; release BOOT (GPIO9 is low at reset)")
    said = [line.text.strip() for line in lines if _FAILURES.search(line.text)]
    if said and said[0].startswith(_VIRTUAL_BENCH):
        raise BenchError(f"board {board}: {said[0]} (all of it: {logfile})")
    if said:
        reasons = "; ".join(dict.fromkeys(said[:3]))
        raise BootFailure(f"board {board} does not start: {reasons} (all of it: {logfile})")
