"""The console of a board: everything it prints, stamped when it is read, kept in a file, searched by tests."""

import codecs
import itertools
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from rig.board.errors import ConsoleTimeout
from rig.board.marks import Mark, parse_mark
from rig.board.serialport import SerialPort
from rig.clock import now_s
from rig.errors import BenchError

KEPT_CHARACTERS = 1 << 20  # for matching; the log file has all
_KEPT_LINES = 10_000
_KEPT_MARKS = 100_000
_MAX_LINE_CHARACTERS = 4096
_SHOWN_LINES = 10
_SHOWN_CHARACTERS = 200

Found = TypeVar("Found")


@dataclass(frozen=True)
class Line:
    """A complete line of the console, without its end, and the rig's time when that end was read."""

    text: str
    at_s: float


class Console:
    """Reads a board's console in a thread of its own, from entering to leaving it.

    ``logfile`` gets every byte as it arrived; beside it ``<logfile>.stamps`` has one JSON line for each chunk, its
    offset in the log and the rig's time at which it was read. Bytes that are no UTF-8 show as U+FFFD. *on_mark* is
    called in the reading thread, once for each mark.

    Verbs raise ConsoleTimeout when the device does not say in time what was asked for, BenchError when the port fails.
    """

    def __init__(self, port: SerialPort, log_path: Path, on_mark: Callable[[Mark], None] | None = None) -> None:
        self.logfile = log_path
        self._port = port
        self._on_mark = on_mark
        self._changed = threading.Condition()
        self._unread: deque[str] = deque()
        self._unread_size = 0
        self._partial = ""
        self._lines: deque[Line] = deque(maxlen=_KEPT_LINES)
        self._marks: deque[Mark] = deque(maxlen=_KEPT_MARKS)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._failure: Exception | None = None
        self._pausing = False
        self._parked = False
        self._closing = False
        self._offset = 0
        self._thread: threading.Thread | None = None
        self._files = ExitStack()

    def __enter__(self) -> Self:
        self.logfile.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            self._log: BinaryIO = files.enter_context(self.logfile.open("ab", buffering=0))
            self._stamps: BinaryIO = files.enter_context(Path(f"{self.logfile}.stamps").open("ab", buffering=0))
            self._offset = self._log.tell()
            self._files = files.pop_all()
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._files.close()

    @property
    def lines(self) -> list[str]:
        """The latest complete lines (10,000 are kept), oldest first."""
        with self._changed:
            return [line.text for line in self._lines]

    def marks(self) -> list[Mark]:
        """Return all marks seen so far, oldest first."""
        with self._changed:
            return list(self._marks)

    def marks_since(self, since_s: float) -> list[Mark]:
        """Return the marks that were stamped after *since_s* on the rig's clock."""
        with self._changed:
            recent = list(itertools.takewhile(lambda mark: mark.at_s > since_s, reversed(self._marks)))
        return recent[::-1]

    def lines_since(self, since_s: float) -> list[Line]:
        """Return the kept lines whose end was read after *since_s* on the rig's clock."""
        with self._changed:
            recent = list(itertools.takewhile(lambda line: line.at_s > since_s, reversed(self._lines)))
        return recent[::-1]

    def expect(self, pattern: str | re.Pattern[str], timeout_s: float = 10) -> re.Match[str]:
        """Wait until the output not yet consumed matches the regular expression, and consume it up to the match's end.

        Lines end in CRLF, as the device sends them.
        """
        compiled = re.compile(pattern)

        def search() -> re.Match[str] | None:
            text = self._take_unread()
            found = compiled.search(text)
            self._put_unread(text[found.end() :] if found else text)
            return found

        return self._wait(search, timeout_s, f"no match for {compiled.pattern!r}")

    def expect_exact(self, text: str, timeout_s: float = 10) -> re.Match[str]:
        """Wait for *text* as it stands, and consume the output up to its end."""
        return self.expect(re.compile(re.escape(text)), timeout_s)

    def write(self, data: bytes | str) -> None:
        """Send *data* to the device; text is sent as UTF-8."""
        self._raise_failure()
        self._port.write(data.encode() if isinstance(data, str) else data)

    def wait_mark(self, name: str, *, since_s: float | None = None, timeout_s: float = 10, **fields: object) -> Mark:
        """Return the first mark of this name and these fields that was stamped after *since_s* (None: the first)."""
        wanted = {key: str(value) for key, value in fields.items()}

        def matches(mark: Mark) -> bool:
            recent = since_s is None or mark.at_s > since_s
            return recent and mark.name == name and wanted.items() <= mark.fields.items()

        shown = "".join(f" {key}={value}" for key, value in wanted.items())
        return self.wait_for(lambda: next(filter(matches, self._marks), None), timeout_s, f"mark {name}{shown}")

    def wait_line(self, pattern: str | re.Pattern[str], *, since_s: float, timeout_s: float = 10) -> Line:
        """Return the first line stamped after *since_s* in which *pattern* is found, whatever was expected before."""
        wanted = re.compile(pattern)

        def look() -> Line | None:
            return next((line for line in self.lines_since(since_s) if wanted.search(line.text)), None)

        return self.wait_for(look, timeout_s, f"line {wanted.pattern!r}")

    def wait_for(self, look: Callable[[], Found | None], timeout_s: float, what: str) -> Found:
        """Return what *look* finds, called again after each piece of output. *what* is named when time is up."""
        return self._wait(look, timeout_s, f"no {what}")

    @property
    def stopped(self) -> bool:
        """Whether the port failed, so that nothing is read any more."""
        with self._changed:
            return self._failure is not None

    @contextmanager
    def released(self) -> Iterator[SerialPort]:
        """Lend the port to somebody else; the reader stands still meanwhile and goes on afterwards.

        That is also how reading begins again after the port failed: the borrower then gets it closed.
        """
        self.pause()
        try:
            yield self._port
        except BaseException:
            with suppress(BenchError):  # what went wrong first is what counts
                self.resume()
            raise
        self.resume()

    def pause(self) -> None:
        """Stop reading; on return nothing reads the port any more."""
        with self._changed:
            self._pausing = True
            self._changed.wait_for(lambda: self._parked or self._failure is not None)
            self._end_line()
        if isinstance(self._failure, BenchError):
            self._port.close()  # what it was is gone; the borrower opens it again
        else:
            self._raise_failure()

    def resume(self) -> None:
        """Bring the port back to the console's settings and go on reading."""
        try:
            self._port.restore()
        finally:  # a reader that stands still finds out for itself what is wrong with the port
            with self._changed:
                self._pausing = False
                self._changed.notify_all()
        if self._failure is not None:
            self._failure = None
            self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._read, name=f"console {self._port.url}", daemon=True)
        self._thread.start()

    def _wait(self, look: Callable[[], Found | None], timeout_s: float, complaint: str) -> Found:
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = look()
                if found is not None:
                    return found
                self._raise_failure()
                remaining_s = deadline_s - time.monotonic()
                if remaining_s <= 0:
                    raise ConsoleTimeout(f"{complaint} within {timeout_s:g} s on {self._port.url}; {self._tail()}")
                self._changed.wait(remaining_s)

    def _tail(self) -> str:
        latest = [*[line.text for line in self._lines][-_SHOWN_LINES:], self._partial]
        shown = [f"  {text[:_SHOWN_CHARACTERS]}" for text in latest if text]
        if not shown:
            return f"the device has printed nothing (log: {self.logfile})"
        return "the device printed last:\n" + "\n".join(shown) + f"\n(all of it: {self.logfile})"

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise BenchError(f"console: reading stopped: {self._failure} (log: {self.logfile})") from self._failure

    def _read(self) -> None:
        try:
            while self._may_read():
                chunk = self._port.read()
                if chunk:
                    self._store(chunk, now_s())
        except Exception as error:  # told to whoever waits, now or later
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _may_read(self) -> bool:
        """Stand still while paused; say False when the console closes."""
        with self._changed:
            self._parked = self._pausing
            if self._parked:
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closing or not self._pausing)
                self._parked = False
            return not self._closing

    def _store(self, chunk: bytes, at_s: float) -> None:
        self._log.write(chunk)
        self._stamps.write(b'{"offset":%d,"t_s":%.6f}\n' % (self._offset, at_s))
        self._offset += len(chunk)
        text = self._decoder.decode(chunk)
        with self._changed:
            self._put_unread(text)
            marks = self._add_lines(text, at_s)
            self._changed.notify_all()
        if self._on_mark is not None:
            for mark in marks:
                self._on_mark(mark)

    def _end_line(self) -> None:
        """Take what has come of a line as all of it: whatever is read next belongs to no line from before."""
        if self._partial:
            self._lines.append(Line(self._partial, now_s()))
            self._partial = ""

    def _add_lines(self, text: str, at_s: float) -> list[Mark]:
        *complete, self._partial = (self._partial + text).split("\n")
        if len(self._partial) > _MAX_LINE_CHARACTERS:
            complete.append(self._partial)
            self._partial = ""
        lines = [Line(line.rstrip("\r"), at_s) for line in complete]
        marks = [mark for line in lines if (mark := parse_mark(line.text, at_s)) is not None]
        self._lines.extend(lines)
        self._marks.extend(marks)
        return marks

    def _put_unread(self, text: str) -> None:
        if text:
            self._unread.append(text)
            self._unread_size += len(text)
        while self._unread_size > KEPT_CHARACTERS:
            oldest = self._unread.popleft()
            kept = oldest[self._unread_size - KEPT_CHARACTERS :]
            self._unread_size -= len(oldest)
            if kept:
                self._unread.appendleft(kept)
                self._unread_size += len(kept)

    def _take_unread(self) -> str:
        text = "".join(self._unread)
        self._unread.clear()
        self._unread_size = 0
        return text
