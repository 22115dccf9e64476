"""The key log of a run: with it Wireshark opens the run's captures. It holds master secrets, never a PSK."""

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

KEY_LOG = "keys.log"


class KeyLog:
    """Appends the lines of sessions to ``keys.log``, each once. Several processes may write one file. Thread-safe."""

    def __init__(self, directory: Path, on_first: Callable[[], None]) -> None:
        """*on_first* is called before the first line is written."""
        self._path = directory / KEY_LOG
        self._on_first = on_first
        self._lock = threading.Lock()
        self._known: set[str] = set()

    def add(self, lines: Iterable[str]) -> None:
        """Write the lines that are new; empty ones are left out."""
        with self._lock:
            new = [line for line in dict.fromkeys(lines) if line and line not in self._known]
            if not new:
                return
            if not self._known:
                self._on_first()
            self._known.update(new)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "a", encoding="ascii") as file:
                file.write("".join(new))
