"""What every process of the virtual bench shares: how it says that it is ready, and how it dies with its parent."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any


def announce(**facts: Any) -> None:
    """Print the one line of JSON by which the parent learns the endpoints of this process."""
    print(json.dumps(facts), flush=True)


def die_with_parent(cleanup: Callable[[], None]) -> None:
    """End this process when its standard input closes, which is what happens however the parent dies.

    *cleanup* runs first, in a thread of its own; what it raises cannot keep the process alive.
    """

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        try:
            cleanup()
        finally:
            os._exit(0)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
