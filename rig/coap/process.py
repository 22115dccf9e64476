"""The parent's end of the worker process: calls by id, events by observation, and what a crash looks like."""

import contextlib
import itertools
import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rig.coap.errors import ClientCrashed, SessionDead, error_from_wire
from rig.coap.values import to_line
from rig.errors import BenchError

CLOSE_S = 5.0
GRACE_S = 10.0
"""How much longer than the operation's own timeout the worker may take before it counts as hung."""

Events = queue.SimpleQueue[Mapping[str, Any] | BenchError]


@dataclass(frozen=True)
class _Pending:
    doing: str
    reply: Future[Mapping[str, Any]]


class WorkerProcess:
    """One run of ``python -m rig.coap.worker``. Once dead it stays dead: start another."""

    def __init__(self, log_path: Path | None) -> None:
        self._files = contextlib.ExitStack()
        self._log_path = log_path
        stderr = self._files.enter_context(log_path.open("ab")) if log_path else subprocess.DEVNULL
        # A process group of its own: Ctrl-C ends the tests first, which then close their sessions through the worker.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rig.coap.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            process_group=0,
        )
        self._files.enter_context(self._stdout)
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._events: dict[int, Events] = {}
        self._last = "nothing"
        self._crash: BenchError | None = None
        self._closing = False
        self._reader = threading.Thread(target=self._read, name="coaps worker reader", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def call(self, op: str, doing: str, timeout_s: float, **arguments: Any) -> Mapping[str, Any]:
        """Perform one operation in the worker and return its result, or raise what it raised.

        *doing* names the operation in messages. ClientCrashed if the process dies or does not answer.
        """
        pending = _Pending(doing, Future())
        with self._lock:
            if self._crash is not None:
                raise self._crash
            number = next(self._ids)
            self._pending[number] = pending
            self._last = doing
        self._write({"id": number, "op": op, "timeout_s": timeout_s, **arguments})
        try:
            reply = pending.reply.result(timeout_s + GRACE_S)
        except TimeoutError:
            self._process.kill()
            self._process.wait()
            raise ClientCrashed(f"the coaps worker hung during {doing} and was killed{self._where()}") from None
        if "error" in reply:
            raise error_from_wire(reply["error"])
        result: Mapping[str, Any] = reply["result"]
        return result

    def subscribe(self, observation: int) -> Events:
        """Return the queue on which this observation's events will arrive."""
        with self._lock:
            events = self._events[observation] = Events()
            return events

    def unsubscribe(self, observation: int) -> None:
        """Drop what still arrives for this observation."""
        with self._lock:
            self._events.pop(observation, None)

    def close(self) -> None:
        """End the process by closing its input; it closes its sessions first. Kill it if it does not end.

        ClientCrashed if it lived until now and did not end in order: devices may then hold sessions still.
        """
        was_alive = self.alive
        self._closing = True
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._files.close()
        if was_alive and self._process.returncode != 0:
            end = _describe_end(self._process.returncode)
            raise ClientCrashed(f"the coaps worker {end} while it closed its sessions{self._where()}")

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _write(self, message: Mapping[str, Any]) -> None:
        # A broken pipe means a dead worker, which the reader reports with its signal.
        with self._write_lock, contextlib.suppress(BrokenPipeError):
            self._stdin.write(to_line(message))
            self._stdin.flush()

    def _read(self) -> None:
        for line in self._stdout:
            # A process that dies in mid-write leaves half a line.
            if line.endswith(b"\n"):
                self._dispatch(json.loads(line))
        self._process.wait()
        self._fail(self._explain_end())

    def _dispatch(self, message: Mapping[str, Any]) -> None:
        with self._lock:
            if "id" in message:
                self._pending.pop(message["id"]).reply.set_result(message)
            elif events := self._events.get(message["observation"]):
                events.put(message)

    def _fail(self, crash: BenchError) -> None:
        with self._lock:
            self._crash = crash
            for pending in self._pending.values():
                pending.reply.set_exception(crash)
            self._pending.clear()
            for events in self._events.values():
                events.put(crash)

    def _explain_end(self) -> BenchError:
        if self._closing:
            return SessionDead("session is dead: the coaps client was closed")
        with self._lock:
            doing = ", ".join(pending.doing for pending in self._pending.values())
        during = f"during {doing}" if doing else f"while idle after {self._last}"
        return ClientCrashed(
            f"the coaps worker {_describe_end(self._process.returncode)} {during}{self._where()}; "
            "its sessions are lost, open new ones"
        )

    def _where(self) -> str:
        return f"; log: {self._log_path}" if self._log_path else "; no log was kept: give CoapClient a log_path"


def _describe_end(returncode: int) -> str:
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"exited with status {returncode}"
