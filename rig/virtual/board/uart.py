"""The board's serial line: what the chip sends goes to every port, and what comes from any of them to the chip."""

from collections.abc import Callable
from typing import Protocol

from rig.virtual.board.config import BoardConfig
from rig.virtual.board.pty_port import PtyPort
from rig.virtual.board.rfc2217_port import Rfc2217Port
from rig.virtual.board.tcp_port import TcpPort


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
    """The line and its ports: bytes go to *on_data*, DTR and RTS to *on_lines*."""

    def __init__(
        self, config: BoardConfig, on_data: Callable[[bytes], None], on_lines: Callable[[bool, bool], None]
    ) -> None:
        link = config.flash.with_name(f"{config.flash.name}.pty")
        makers: dict[str, Callable[[], Port]] = {
            "rfc2217": lambda: Rfc2217Port(on_data, on_lines),
            "socket": lambda: TcpPort(on_data),
            "pty": lambda: PtyPort(on_data, link),
        }
        self._ports = {name: makers[name]() for name in config.ports}

    def appear(self) -> dict[str, str]:
        """Open every port and return what a client opens, by the port's name."""
        return {name: port.appear() for name, port in self._ports.items()}

    def vanish(self) -> None:
        """Take every port away."""
        for port in self._ports.values():
            port.vanish()

    def send(self, data: bytes) -> None:
        """Send *data* to whoever is on the line."""
        for port in self._ports.values():
            port.send(data)
