"""Readiness of many sockets, and waits that are exact to some ten microseconds.

epoll rounds its timeout up to a millisecond; select does not, and an epoll descriptor can itself be selected on.
"""

import select
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class HasFileno(Protocol):
    """A socket, mostly."""

    def fileno(self) -> int:
        """Return the file descriptor."""


class Reactor:
    """Calls a handler for each descriptor that is ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def __enter__(self) -> "Reactor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._epoll.close()

    def watch(self, target: HasFileno, handler: Callable[[], None], events: int = READ) -> None:
        """Call *handler* whenever *target* is ready for *events*; also changes an earlier watch."""
        number = target.fileno()
        if number in self._handlers:
            self._epoll.modify(number, events)
        else:
            self._epoll.register(number, events)
        self._handlers[number] = handler

    def forget(self, target: HasFileno) -> None:
        """Stop watching *target*; call it before closing."""
        del self._handlers[target.fileno()]
        self._epoll.unregister(target.fileno())

    def run_once(self, wait_s: Callable[[], float | None]) -> None:
        """Handle what is ready; if nothing is, wait for it as long as *wait_s* says (None: for ever)."""
        ready = self._epoll.poll(0, 64)
        if not ready:
            timeout_s = wait_s()
            if timeout_s is None or timeout_s > 0:
                select.select([self._epoll], [], [], timeout_s)
            ready = self._epoll.poll(0, 64)
        for number, _ in ready:
            handler = self._handlers.get(number)
            if handler is not None:
                handler()
