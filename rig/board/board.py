"""A board: its lock, port and console as one thing to enter and leave."""

import contextlib
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.board.console import Console, Line
from rig.board.errors import BootFailure
from rig.board.flash import FlashReport, ImagePart, Mode, flash
from rig.board.loader import Progress, tell
from rig.board.lock import BoardLock
from rig.board.marks import Mark
from rig.board.provision import Provisioning, nvs_image
from rig.board.serialport import SerialPort
from rig.clock import now_s
from rig.errors import BenchError, ConfigError
from rig.formats import partitions
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


@dataclass(frozen=True)
class NetworkAddress:
    """Where the device serves, as it said on its console. ``at_s``: when that was read, on the rig's clock."""

    host: str
    port: int
    at_s: float


class Board:
    """The device under test, held by this process from entering to leaving.

    *mac* is its identity: the lock is on it, and nothing is flashed to a chip with another one. Opening does not reset
    the chip. Console output goes to *log_path*; *on_mark* is called in the console's thread.

    Entering raises BoardBusy, or BenchError when the port cannot be opened.
    """

    console: Console

    def __init__(
        self, name: str, port_url: str, mac: str, log_path: Path, on_mark: Callable[[Mark], None] | None = None
    ) -> None:
        self.name = name
        self.mac = mac.lower()
        self._port = SerialPort(port_url)
        self.console = Console(self._port, log_path, on_mark)
        self._lock = BoardLock(mac)
        self._opened = ExitStack()
        self._started_s = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(self._lock)
            opened.enter_context(self._port)
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
        first line of the boot is stamped when it comes. Mode ``never`` does not restart the board.
        """
        nvs = _nvs_part(images, provisioning)
        if mode == "never":
            return flash(self._port, images, mac=self.mac, extra=[nvs], mode=mode)
        try:
            with self.console.released() as port:
                report = flash(
                    port,
                    images,
                    mac=self.mac,
                    extra=[nvs],
                    mode=mode,
                    on_progress=on_progress,
                    on_esptool=on_esptool,
                    after="no-reset",
                )
        except BaseException:
            # Leave the chip running what it has; what went wrong first is what counts.
            with contextlib.suppress(Exception):
                self.hard_reset()
            raise
        if self._port.has_reset_lines:
            self.hard_reset()
        else:
            tell(on_progress, f"{self.name}: its port cannot reset it: it stays in the loader until somebody does")
        return report

    def hard_reset(self) -> None:
        """Reset the chip through EN; waiting for the network counts from here."""
        self._started_s = now_s()
        self._port.hard_reset()

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


def _nvs_part(images: ImageSet, provisioning: Provisioning) -> ImagePart:
    table_path = images.file("partition-table").path
    table = partitions.parse_table(table_path.read_bytes())
    nvs = partitions.credentials(table)
    if nvs is None:
        raise ConfigError(f"{table_path}: no partition creds of type data, subtype nvs; add it to partitions.csv")
    return ImagePart(name=nvs.label, offset=nvs.offset, data=nvs_image(provisioning, nvs.size))


def _address(board: str, mark: Mark) -> NetworkAddress:
    try:
        return NetworkAddress(host=mark.fields["address"], port=int(mark.fields["port"]), at_s=mark.at_s)
    except (KeyError, ValueError):
        raise BootFailure(f"board {board}: its network_up mark has no address and port: {dict(mark.fields)}") from None


def _raise_boot_failure(board: str, lines: Iterable[Line], logfile: Path) -> None:
    said = [line.text.strip() for line in lines if _FAILURES.search(line.text)]
    if said and said[0].startswith(_VIRTUAL_BENCH):
        raise BenchError(f"board {board}: {said[0]} (all of it: {logfile})")
    if said:
        reasons = "; ".join(dict.fromkeys(said[:3]))
        raise BootFailure(f"board {board} does not start: {reasons} (all of it: {logfile})")
