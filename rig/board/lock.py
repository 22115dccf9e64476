"""One process at a time holds a board. The kernel frees the lock when that process ends, however it ends."""

import contextlib
import fcntl
import getpass
import json
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rig.board.errors import BoardBusy
from rig.errors import BenchError

_SHARED_MODE = 0o1777
_FILE_MODE = 0o666
_DIRECTORY_NAME = "coaps-rig-locks"


def lock_directory() -> Path:
    """Return the directory of the lock files: the same one for every user of this host, and created by the first.

    It is below /run/lock where that is open to all users (Filesystem Hierarchy Standard 3.0, 5.9), else below /tmp.
    """
    run_lock = Path("/run/lock")
    open_to_all = run_lock.is_dir() and run_lock.stat().st_mode & stat.S_IWOTH
    directory = (run_lock if open_to_all else Path("/tmp")) / _DIRECTORY_NAME
    with contextlib.suppress(FileExistsError):
        directory.mkdir()
        directory.chmod(_SHARED_MODE)
    return directory


@dataclass(frozen=True)
class Holder:
    """Who holds a board. ``since`` is wall time in ISO 8601, for people."""

    pid: int
    user: str
    since: str
    command: str


class BoardLock:
    """Exclusive hold on the board with this MAC, as a context manager. BoardBusy names the holder."""

    def __init__(self, mac: str) -> None:
        self.mac = mac.lower()
        self.path = lock_directory() / f"{self.mac.replace(':', '')}.lock"
        self._fd: int | None = None

    def __enter__(self) -> Self:
        fd = self._open()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(fd)
            os.close(fd)
            raise BoardBusy(self._complaint(holder)) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(_myself()).encode(), 0)
        self._fd = fd
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._fd is not None:
            # The file stays: unlinking it would let two processes lock two files of one name.
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            # Without O_CREAT first: with it, fs.protected_regular refuses a file of another user in a sticky directory.
            with contextlib.suppress(FileNotFoundError):
                return os.open(self.path, flags)
            fd = os.open(self.path, flags | os.O_CREAT, _FILE_MODE)
            with contextlib.suppress(PermissionError):  # another user was first, and has set the mode
                os.fchmod(fd, _FILE_MODE)
            return fd
        except OSError as error:
            raise BenchError(f"lock {self.path}: {error.strerror}; remove the file if no rig is running") from error

    def _complaint(self, holder: Holder | None) -> str:
        if holder is None:
            return f"board {self.mac} is held by another process (lock {self.path}); wait for it to end"
        return (
            f"board {self.mac} is held by {holder.user} (process {holder.pid}) since {holder.since}"
            f"{_age(holder.since)} for: {holder.command}; wait for it to end, or end that process"
        )


def _myself() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "user": _user(),
        "since": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        "command": " ".join(sys.orig_argv),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return f"uid {os.getuid()}"


def _read_holder(fd: int) -> Holder | None:
    """Return who holds the file, or None where the holder has not written it yet."""
    try:
        facts: Mapping[str, Any] = json.loads(os.pread(fd, 65536, 0))
        return Holder(int(facts["pid"]), str(facts["user"]), str(facts["since"]), str(facts["command"]))
    except (ValueError, KeyError, TypeError):
        return None


def _age(since: str) -> str:
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
    except (ValueError, TypeError):
        return ""
    return f" ({seconds:.0f} s ago)" if seconds < 120 else f" ({seconds / 60:.0f} min ago)"
