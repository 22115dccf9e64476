"""The switch in a virtual board's supply, from the command line: ``python -m rig.virtual.power PATH off|on``.

It says one word on the board's Unix stream socket and waits until the board has answered ``ok``.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

_TIMEOUT_S = 10.0


def switch(path: Path, word: str) -> None:
    """Say *word* to the switch at *path*. Raises OSError when no board answers ``ok`` within 10 s."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
            wire.settimeout(_TIMEOUT_S)
            # A socket's path holds 107 bytes, and the board's folder may be deeper than that.
            wire.connect(f"/proc/self/fd/{folder}/{path.name}")
            wire.sendall(f"{word}\n".encode())
            answer = wire.makefile().readline().strip()
    finally:
        os.close(folder)
    if answer != "ok":
        raise OSError(f"the board answered {answer!r}")


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="rig.virtual.power")
    parser.add_argument("path", type=Path, help="what the board announced as 'power'")
    parser.add_argument("word", choices=("off", "on"))
    arguments = parser.parse_args()
    try:
        switch(arguments.path, arguments.word)
    except OSError as error:
        print(f"virtual power switch {arguments.path}: {error}; is the board running?", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
