"""``python -m rig.virtual --boards N --dir DIR``: a virtual bench that runs until its standard input closes."""

import argparse
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from rig.errors import RigError
from rig.virtual.bench import CARRIERS, VirtualBench
from rig.virtual.process import announce


def build_directory() -> Path:
    """Return where firmware is built: in the checkout when this is one, else in the user's cache."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout / "build" / "firmware"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "coaps-rig" / "firmware"


def main() -> int:
    """Run the virtual bench; exit code 2 and one sentence when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m rig.virtual")
    parser.add_argument("--boards", type=int, default=1)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--fault")
    parser.add_argument("--carrier", choices=CARRIERS, help="default: firmware, or what the fault needs")
    parser.add_argument("--profile", choices=("lab", "release"), default="lab", help="release: programmed and burnt")
    parser.add_argument("--meter", default="keysight-34465a", help="driver of the meters")
    parser.add_argument("--temporary", action="store_true", help="remove DIR at the end")
    options = parser.parse_args()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: sys.exit(0))
    try:
        bench = VirtualBench(
            options.dir,
            boards=options.boards,
            fault=options.fault,
            carrier=options.carrier,
            profile=options.profile,
            meter=options.meter,
            cache=build_directory(),
        )
        with bench:
            announce(bench=str(bench.bench_file))
            _until_stdin_closes()
    except RigError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if options.temporary:
            shutil.rmtree(options.dir, ignore_errors=True)
    return 0


def _until_stdin_closes() -> None:
    closed = threading.Event()

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        closed.set()

    threading.Thread(target=wait, daemon=True).start()
    closed.wait()


if __name__ == "__main__":
    sys.exit(main())
