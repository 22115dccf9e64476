"""The run record: one folder a run, and in it a journal to which events are only ever appended.

One JSON object a line, written and flushed when it happens, so that the record is whole up to its last line however
the run ends. Large things (waveforms, packets, console) are files in the folder that the journal names.

A run on several boards at once is one folder too: the process that leads it keeps the journal, and each worker one of
its own beside it. All stamps are of one monotonic clock, so that together they are one record.
"""

import hashlib
import json
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rig.clock import now_s
from rig.errors import BenchError

SCHEMA = 1
JOURNAL = "journal.jsonl"
MANIFEST = "manifest.json"
_SYNCED = {"check", "measurement", "run_end"}
_PACKAGES = ("aiocoap", "coaps-rig", "DTLSSocket", "esptool", "numpy", "pandas", "pyserial", "pytest", "PyVISA")


class RecordError(BenchError):
    """The record cannot be written: a full disk, a folder that is not writable, a run id in use."""


def journal_name(worker: str) -> str:
    """Return the name of a worker's journal, or of the run's own for no worker."""
    return f"journal-{worker}.jsonl" if worker else JOURNAL


def new_run_id() -> str:
    """Return an id that sorts by time and that two runs never share."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


class RunRecord:
    """The record of one run while it is being written, or one worker's part of it.

    A context manager: leaving it writes ``run_end`` (unless :meth:`end` has) and the manifest of SHA-256 sums. A worker
    writes ``worker_end``, and leaves the manifest to the one that leads the run.
    """

    def __init__(self, directory: Path, worker: str = "") -> None:
        self.directory = directory
        self.run_id = directory.name
        self._worker = worker
        self._leader = os.getppid()
        self._lock = threading.Lock()
        self._secrets: tuple[str, ...] = ()
        self._began_s = now_s()
        self._ended = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._path = directory / journal_name(worker)
            self._journal = self._path.open("x", encoding="utf-8")
        except FileExistsError:
            raise RecordError(f"{directory}: holds a run already; a run is never written twice") from None
        except OSError as error:
            raise RecordError(f"{directory}: the run record cannot be created: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(exit_code=0 if kind is None else 3)
        self._journal.close()
        if not self._worker:
            self._write_manifest()

    def hide(self, texts: Iterable[str]) -> None:
        """Name texts (keys, passphrases) that never reach the journal: each is written as ``[secret]``."""
        self._secrets = tuple({*self._secrets, *(text for text in texts if text)})

    def write(self, event: str, /, **fields: Any) -> None:
        """Append one event; verdicts are also synced to the disk. Thread-safe.

        A worker whose leader has died writes no verdict more: the virtual bench has died with it, and not the device.
        """
        if event in _SYNCED and self._worker and os.getppid() != self._leader:
            raise RecordError(f"{self._path}: the process that led the run is gone; nothing is judged any more")
        line = json.dumps({"t_s": round(now_s(), 6), "event": event, **fields}, ensure_ascii=True, default=_plain)
        for secret in self._secrets:
            line = line.replace(secret, "[secret]")
        with self._lock:
            try:
                self._journal.write(line + "\n")
                self._journal.flush()
                if event in _SYNCED:
                    os.fsync(self._journal.fileno())
            except OSError as error:
                raise RecordError(f"{self._path}: cannot be written: {error.strerror}") from None

    def start(self, *, plan: str, command: list[str], root: Path | None = None, repeat: Sequence[str] = ()) -> None:
        """Write ``run_start``: what runs, where, with which versions.

        *root* is the folder that the tests' names begin at, and *repeat* the command that, followed by a test, runs it
        again.
        """
        self.write(
            "run_start",
            schema=SCHEMA,
            run_id=self.run_id,
            wall_time=datetime.now(UTC).isoformat(timespec="seconds"),
            unix_s=time.time(),
            plan=plan,
            command=command,
            root=root,
            repeat=list(repeat),
            host=_host(),
            versions=_versions(),
        )

    def join(self, *, requirements: Sequence[str], bench: bool) -> None:
        """Write ``worker_start``: which requirements its tests verify, and whether a test asks for the bench."""
        self.write("worker_start", worker=self._worker, pid=os.getpid(), requirements=list(requirements), bench=bench)

    def end(self, *, exit_code: int) -> None:
        """Write ``run_end``, or a worker's ``worker_end``, once."""
        if not self._ended:
            self._ended = True
            event, who = ("worker_end", {"worker": self._worker}) if self._worker else ("run_end", {})
            self.write(event, **who, exit_code=exit_code, duration_s=round(now_s() - self._began_s, 3))

    def path_for(self, label: str, name: str) -> Path:
        """Return a path in the run's ``captures`` folder for a file called *name* that is about *label*.

        A second file of the same name gets a number, so that nothing recorded is overwritten. A worker's files begin
        with its own name.
        """
        folder = self.directory / "captures"
        folder.mkdir(exist_ok=True)
        whose = f"{self._worker}-{label}" if self._worker else label
        path = folder / f"{whose}-{name}"
        number = 1
        while path.exists():
            number += 1
            path = folder / f"{whose}-{number}-{name}"
        return path

    def recordings(self) -> list[Path]:
        """Return the packet captures that the run has written so far; to a worker those of its own board alone."""
        return sorted((self.directory / "captures").glob(f"{self._worker}-*.pcapng" if self._worker else "*.pcapng"))

    def relative(self, path: Path) -> str:
        """Return *path* as the journal names it: relative to the run's folder."""
        return path.relative_to(self.directory).as_posix()

    def _write_manifest(self) -> None:
        files = sorted(path for path in self.directory.rglob("*") if path.is_file() and path.name != MANIFEST)
        rows = [{"path": self.relative(p), "bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in files]
        text = json.dumps({"schema": SCHEMA, "run_id": self.run_id, "files": rows}, indent=1)
        (self.directory / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_worker_start(directory: Path, worker: str) -> dict[str, Any] | None:
    """Return what a worker wrote when it joined the run; None where it has no test that verifies a requirement."""
    try:
        with (directory / journal_name(worker)).open(encoding="utf-8") as journal:
            head: dict[str, Any] = json.loads(journal.readline())
            return head
    except FileNotFoundError:
        return None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"the journal holds plain JSON values, not {type(value).__name__}")


def _host() -> dict[str, str]:
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "python": sys.version.split()[0],
        "node": platform.node(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
