"""A VISA session that tells the truth: PyVISA with pyvisa-py, and what its raw sockets need around them.

- Opening a closed port raises nothing: the session asks ``*IDN?`` at once.
- A timeout leaves the late answer to the next question: the session is closed and opened again after every failure
  (``clear`` would miss an answer still to come, and never returns on a connection that the peer has closed).
- A peer that hangs up while a read waits costs the whole timeout at full processor load: timeouts are short here,
  and who waits for an instrument polls it.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import pyvisa
from pyvisa.resources import MessageBasedResource

from rig.meter.protocol import MeterError

TIMEOUT_S = 2.0
CHUNK = 1 << 20
#: More than any error queue holds: a queue that never empties is a broken instrument.
MAX_ERRORS = 100

#: pyvisa-py raises plain OSError for a broken connection and even a bare Exception for an unknown host.
OPENING_ERRORS = (Exception,)
TALKING_ERRORS = (pyvisa.errors.Error, OSError, UnicodeDecodeError, ValueError)


class VisaSession:
    """One instrument at *resource*, usable from several threads (one exchange at a time).

    ``errors`` collects what the instrument's error queue says, each entry with the group of commands that it was
    read after; *on_errors* is called with the new ones. An answer that takes longer than *timeout_s* is none.
    *error_query* takes the oldest entry out of the queue.
    """

    def __init__(
        self,
        resource: str,
        on_errors: Callable[[list[str]], None] | None = None,
        timeout_s: float = TIMEOUT_S,
        error_query: str = "SYST:ERR?",
    ) -> None:
        self.resource = resource
        self._error_query = error_query
        self.timeout_s = timeout_s
        self.errors: list[str] = []
        self._on_errors = on_errors
        self._lock = threading.RLock()
        self._manager: pyvisa.ResourceManager | None = None
        self._instrument: MessageBasedResource | None = None

    def __enter__(self) -> Self:
        self._manager = pyvisa.ResourceManager("@py")
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; not the resource manager, which all sessions of the process share."""
        with self._lock:
            self._close_instrument()
            self._manager = None

    def command(self, group: str, *commands: str) -> list[str]:
        """Send *commands* as one message, then empty the error queue; return, and keep, what was in it.

        Errors do not stop later commands, so each group is followed by this; *group* names it in ``errors``. One
        message, because a second one without an answer between them would wait 40 ms for a delayed acknowledgement.
        """
        return self._drain(group, self.query(compound(*commands, self._error_query)))

    def drain_errors(self, group: str) -> list[str]:
        """Read the error queue until it is empty; return, and keep, what was in it."""
        return self._drain(group, self.query(self._error_query))

    def query(self, message: str) -> str:
        """Send *message* and return its answer without the line end."""
        with self._exchange(message) as instrument:
            return str(instrument.query(message)).strip()

    def query_integers(self, *queries: str) -> list[int]:
        """Send *queries* as one message and return their answers, an integer each.

        Raises:
            MeterError: not as many integers.
        """
        message = compound(*queries)
        with self._exchange(message) as instrument:
            answers = [int(answer) for answer in instrument.query(message).split(";")]
            if len(answers) != len(queries):
                raise ValueError(f"{len(answers)} answers")
            return answers

    def query_float(self, message: str) -> float:
        """Send *message* and return its answer, a number."""
        with self._exchange(message) as instrument:
            return float(instrument.query(message))

    def query_block(self, message: str) -> bytes:
        """Send *message* and return the payload of the definite-length block it is answered with."""
        with self._exchange(message) as instrument:
            instrument.write(message)
            return _read_block(instrument)

    def query_indefinite(self, message: str, size: int) -> bytes:
        """Send *message* and return the *size* bytes of the indefinite-length block it is answered with.

        Such a block ends with the message, which a socket does not show: who asks must know how long it is.
        """
        with self._exchange(message) as instrument:
            instrument.write(message)
            return _read_indefinite(instrument, size)

    def _drain(self, group: str, entry: str) -> list[str]:
        found: list[str] = []
        while not entry.lstrip("+").startswith("0") and len(found) < MAX_ERRORS:
            found.append(entry)
            entry = self.query(self._error_query)
        if found:
            named = [f"{group}: {entry}" for entry in found]
            self.errors += named
            if self._on_errors is not None:
                self._on_errors(named)
        return found

    def _open(self) -> None:
        assert self._manager is not None
        self._refuse_unknown_host()
        try:
            instrument: Any = self._manager.open_resource(
                self.resource, read_termination="\n", write_termination="\n", timeout=self.timeout_s * 1000
            )
        except OPENING_ERRORS as error:
            raise MeterError(
                f"meter {self.resource}: cannot be opened ({error}): check its resource name in bench.yaml"
            ) from error
        instrument.chunk_size = CHUNK
        self._instrument = instrument
        try:
            instrument.query("*IDN?")
        except TALKING_ERRORS as error:
            self._close_instrument()
            raise MeterError(
                f"meter {self.resource}: does not answer *IDN? ({self._reason(error)}): is it switched on, and is this "
                "the port of its raw socket interface?"
            ) from error

    def _refuse_unknown_host(self) -> None:
        """Look the host up first: pyvisa-py loses its socket when it cannot."""
        parts = self.resource.split("::")
        if not parts[0].upper().startswith("TCPIP") or len(parts) < 2:
            return
        try:
            socket.gethostbyname(parts[1])
        except OSError as error:
            raise MeterError(f"meter {self.resource}: host {parts[1]} is not known ({error})") from error

    def _close_instrument(self) -> None:
        instrument, self._instrument = self._instrument, None
        if instrument is not None:
            instrument.close()

    @contextmanager
    def _exchange(self, message: str) -> Iterator[MessageBasedResource]:
        """Hold the connection for one exchange; after a failure it is replaced, so that no late answer stays in it."""
        with self._lock:
            if self._manager is None:
                raise MeterError(f"meter {self.resource}: is not open")
            if self._instrument is None:
                self._open()
            assert self._instrument is not None
            try:
                yield self._instrument
            except TALKING_ERRORS as error:
                self._close_instrument()
                raise MeterError(
                    f"meter {self.resource}: no proper answer to {message!r} ({self._reason(error)})"
                ) from error

    def _reason(self, error: Exception) -> str:
        if isinstance(error, pyvisa.errors.VisaIOError):
            timeout = error.error_code == pyvisa.constants.StatusCode.error_timeout
            return f"nothing within {self.timeout_s:g} s" if timeout else str(error.abbreviation)
        return str(error) or type(error).__name__


def compound(*commands: str) -> str:
    """Return *commands* as one message, each header from the root of the command tree (SCPI-99 6.2.4)."""
    return ";".join(command if command.startswith("*") else f":{command}" for command in commands)


def _read_block(instrument: MessageBasedResource) -> bytes:
    """Read ``#<digits><length><payload>LF`` (IEEE 488.2 8.7.9); the payload may hold line feeds."""
    instrument.read_termination = None
    try:
        mark = instrument.read_bytes(2)
        digits = block_digits(mark)
        length = int(instrument.read_bytes(digits))
        body = instrument.read_bytes(length + 1, chunk_size=CHUNK)
    finally:
        instrument.read_termination = "\n"
    if body[-1:] != b"\n":
        raise ValueError("the block does not end with a line feed")
    return body[:-1]


def _read_indefinite(instrument: MessageBasedResource, size: int) -> bytes:
    """Read ``#0<payload>LF`` with a payload of *size* bytes (IEEE 488.2 8.7.9), which may hold line feeds."""
    instrument.read_termination = None
    try:
        answer = instrument.read_bytes(size + 3, chunk_size=CHUNK)
    finally:
        instrument.read_termination = "\n"
    if answer[:2] != b"#0" or answer[-1:] != b"\n":
        raise ValueError(f"not an indefinite-length block of {size} bytes: it begins with {answer[:8]!r}")
    return answer[2:-1]


def block_digits(mark: bytes) -> int:
    """Return how many digits the length has, from the first two bytes of a definite-length block.

    Raises:
        ValueError: not a definite-length block (``#0`` begins an indefinite one, whose end a socket does not show).
    """
    if len(mark) != 2 or mark[:1] != b"#" or mark[1:] not in [b"%d" % digit for digit in range(1, 10)]:
        raise ValueError(f"not a definite-length block: it begins with {mark!r}")
    return int(mark[1:])
