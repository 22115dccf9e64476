"""The board's serial line: what the chip sends goes to every port, and what comes from any of them to the chip."""

from collections.abc import Callable
from typing import Protocol

from rig.virtual.board.config import BoardConfig
from rig.virtual.board.line import Pacer, received
from rig.virtual.board.pty_port import PtyPort
from rig.virtual.board.rfc2217_port import Rfc2217Port
from rig.virtual.board.tcp_port import TcpPort

RESET_BAUD = 115200
_MAX_BACKLOG_BYTES = 4 << 20


class Port(Protocol):
    """A way to the serial line. With nobody there, or nobody reading, bytes are lost as on any UART."""

    def appear(self) -> str:
        """Be there, and return the URL or path that a serial client opens."""

    def vanish(self) -> None:
        """Go, and drop whoever holds the port."""

    def send(self, data: bytes) -> None:
        """Send bytes of the chip."""

    def host_baud(self) -> int | None:
        """Return the rate that the client has set, None where it is not known."""


class Uart:
    """The line and its ports: bytes go to *on_data*, DTR and RTS to *on_lines*.

    With ``pace_baud`` bytes take their time, and whoever listens at another rate than is sent at gets garbage. USB has
    no rate.
    """

    def __init__(
        self, config: BoardConfig, on_data: Callable[[bytes], None], on_lines: Callable[[bool, bool], None]
    ) -> None:
        self._on_data = on_data
        link = config.flash.with_name(f"{config.flash.name}.pty")
        makers: dict[str, Callable[[], Port]] = {
            "rfc2217": lambda: Rfc2217Port(lambda data: self._take("rfc2217", data), on_lines),
            "socket": lambda: TcpPort(lambda data: self._take("socket", data)),
            "pty": lambda: PtyPort(lambda data: self._take("pty", data), link),
        }
        self._ports = {name: makers[name]() for name in config.ports}
        self._paced = config.pace_baud and not config.usb_jtag
        self._baud = RESET_BAUD
        self._detects_baud = False
        self._from_chip = Pacer(self._transmit)
        self._to_chip = Pacer(lambda data, baud: on_data(received(data, baud, self._baud)))

    def appear(self) -> dict[str, str]:
        """Open every port and return what a client opens, by the port's name."""
        return {name: port.appear() for name, port in self._ports.items()}

    def vanish(self) -> None:
        """Take every port away."""
        for port in self._ports.values():
            port.vanish()

    def reset(self, *, detect_baud: bool = False) -> None:
        """Begin anew, at 115200 baud; the loader finds out what rate the host speaks at."""
        self._baud = RESET_BAUD
        self._detects_baud = detect_baud
        self._to_chip.clear()

    def set_baud(self, baud: int) -> None:
        """Send and receive at *baud* from the next byte on."""
        self._baud = baud
        self._detects_baud = False

    def send(self, data: bytes) -> None:
        """Send *data* to whoever is on the line."""
        if self._paced and self.backlog_bytes < _MAX_BACKLOG_BYTES:
            self._from_chip.put(data, self._baud)
        elif not self._paced:
            self._transmit(data, self._baud)

    @property
    def backlog_bytes(self) -> int:
        """What the chip has sent and the line has not carried yet."""
        return self._from_chip.backlog_bytes

    def _transmit(self, data: bytes, baud: int) -> None:
        for port in self._ports.values():
            port.send(received(data, baud, (port.host_baud() or baud) if self._paced else baud))

    def _take(self, name: str, data: bytes) -> None:
        if not self._paced:
            self._on_data(data)
            return
        baud = self._ports[name].host_baud() or self._baud
        if self._detects_baud:
            self._baud = baud
        self._to_chip.put(data, baud)
