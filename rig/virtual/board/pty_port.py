"""The board's serial port as a pseudo-terminal: what a local program opens as a tty. It has no modem lines."""

import asyncio
import os
import select
import termios
import tty
from collections.abc import Callable
from pathlib import Path

_MAX_UNREAD_BYTES = 4 << 20
_READ_BYTES = 1 << 16
_LOOK_S = 0.02
_BAUD = {getattr(termios, name): int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()}
_OUTPUT_SPEED = 5  # the place in what tcgetattr returns


class PtyPort:
    """The port: *link* points to the tty; bytes from whoever has opened it go to *on_data*.

    Nothing tells a pty's master that the tty was opened: while nobody has it open, the kernel reports a hang-up, and
    the port looks again after 20 ms. What the board says meanwhile is lost, as on any UART.
    """

    def __init__(self, on_data: Callable[[bytes], None], link: Path) -> None:
        self._on_data = on_data
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._master: int | None = None
        self._open = False
        self._looking: asyncio.TimerHandle | None = None
        self._waiting = bytearray()

    def appear(self) -> str:
        """Make the tty and return the path of the link to it."""
        if self._master is None:
            self._master, device = os.openpty()
            tty.setraw(device)
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(os.ttyname(device))
            os.close(device)
            os.set_blocking(self._master, False)
            self._look()
        return str(self._link)

    def vanish(self) -> None:
        """Take the tty away; whoever has it open finds it hung up."""
        if self._master is None:
            return
        self._hang_up()
        if self._looking is not None:
            self._looking.cancel()
        self._link.unlink(missing_ok=True)
        os.close(self._master)
        self._master = None

    def send(self, data: bytes) -> None:
        """Send *data*; what nobody reads in time is lost."""
        if self._master is None or not self._is_held(self._master) or len(self._waiting) > _MAX_UNREAD_BYTES:
            return
        self._waiting += data
        self._flush()

    def host_baud(self) -> int | None:
        """Return the rate that the tty is set to, None for one that the C library has no name for."""
        if self._master is None:
            return None
        return _BAUD.get(termios.tcgetattr(self._master)[_OUTPUT_SPEED])

    def _is_held(self, master: int) -> bool:
        poll = select.poll()
        poll.register(master, 0)
        held = not poll.poll(0)
        if held and not self._open:
            self._open = True
            self._loop.add_reader(master, self._read)
        return held

    def _look(self) -> None:
        assert self._master is not None
        self._looking = None
        if not self._is_held(self._master):
            self._looking = self._loop.call_later(_LOOK_S, self._look)

    def _hang_up(self) -> None:
        assert self._master is not None
        self._waiting.clear()
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
        self._open = False

    def _read(self) -> None:
        assert self._master is not None
        try:
            data = os.read(self._master, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last one has closed it
            self._hang_up()
            if self._looking is None:
                self._look()
            return
        self._on_data(data)

    def _flush(self) -> None:
        assert self._master is not None
        try:
            while self._waiting:
                del self._waiting[: os.write(self._master, self._waiting)]
        except BlockingIOError:
            self._loop.add_writer(self._master, self._flush)
        except OSError:
            self._hang_up()
            if self._looking is None:
                self._look()
        else:
            self._loop.remove_writer(self._master)
