"""Things to be done later, by name."""

import asyncio
from collections.abc import Callable


class Alarms:
    """Timers of which there is at most one of each name."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._handles

    def set(self, name: str, delay_s: float, action: Callable[[], None]) -> None:
        """Do *action* so much later, in place of what was set under that name."""
        self.forget(name)

        def act() -> None:
            del self._handles[name]
            action()

        self._handles[name] = self._loop.call_later(max(delay_s, 0), act)

    def forget(self, name: str) -> None:
        """Do not do it, if it was still to be done."""
        handle = self._handles.pop(name, None)
        if handle is not None:
            handle.cancel()

    def clear(self) -> None:
        """Forget all of them."""
        for name in list(self._handles):
            self.forget(name)
