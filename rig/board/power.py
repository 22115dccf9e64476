"""The switch in a board's supply: a relay, a USB hub's port, an outlet, whatever two commands can turn."""

import shlex
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rig.errors import BenchError

COMMAND_TIMEOUT_S = 30.0
_SHOWN_CHARACTERS = 300


class PowerSwitch(AbstractContextManager["PowerSwitch"], Protocol):
    """What switches a board's supply. Entering it turns power on, leaving it leaves power on.

    Both methods return when the board has lost its supply, or has it again; they raise BenchError.
    """

    def off(self) -> None:
        """Take the supply away, and wait until it has run down."""

    def on(self) -> None:
        """Give the supply back; with power on already, nothing changes."""


class CommandPower:
    """Two commands that switch the supply. They run without a shell, in *directory*, for at most half a minute.

    *settle_s*: how long the supply takes to run down after *off* (its capacitors feed the board meanwhile).
    """

    def __init__(self, off: Sequence[str], on: Sequence[str], *, settle_s: float, directory: Path) -> None:
        self._off_command = tuple(off)
        self._on_command = tuple(on)
        self._settle_s = settle_s
        self._directory = directory
        self._is_off = False

    def __enter__(self) -> Self:
        # A rig that was killed in the middle of a power cycle has left the board without power.
        self.on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_off:
            self.on()

    def off(self) -> None:
        """Run the command for off and wait until the supply has run down."""
        self._is_off = True
        self._run(self._off_command)
        time.sleep(self._settle_s)

    def on(self) -> None:
        """Run the command for on."""
        self._run(self._on_command)
        self._is_off = False

    def _run(self, command: Sequence[str]) -> None:
        shown = f"power command `{shlex.join(command)}`"
        try:
            # A session of its own: Ctrl-C must not end the command that gives the board its power back.
            ended = subprocess.run(
                command,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_TIMEOUT_S,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            said = _shown(late.output or b"")
            raise BenchError(f"{shown} did not end within {COMMAND_TIMEOUT_S:g} s{said}; run it by hand") from None
        except OSError as error:
            raise BenchError(f"{shown} cannot be run: {error.strerror}; correct power: in the bench file") from None
        if ended.returncode != 0:
            said = _shown(ended.stdout)
            raise BenchError(f"{shown} ended with exit code {ended.returncode}{said}; run it by hand")


def cycle(switch: PowerSwitch) -> None:
    """Switch off and on, the latter whatever happens."""
    try:
        switch.off()
    finally:
        switch.on()


def _shown(output: bytes) -> str:
    text = " ".join(output.decode(errors="replace").split())
    return f" and said: {text[-_SHOWN_CHARACTERS:]}" if text else " and said nothing"
