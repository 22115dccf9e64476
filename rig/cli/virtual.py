"""``rig virtual``: a virtual bench for other programs, until Ctrl-C."""

import argparse
import json
import signal
import tempfile
from pathlib import Path

from rig.bench.virtual import virtual_bench
from rig.cli.flashing import flash_boards
from rig.errors import ConfigError


def keep_running(options: argparse.Namespace) -> int:
    """Run a virtual bench of ``--boards`` boards in ``--dir``; print one line when it is ready; stop on Ctrl-C."""
    if options.boards < 1:
        raise ConfigError(f"--boards {options.boards}: a bench has at least one board")
    directory = options.dir.absolute()
    chosen = {"fault": options.fault, "carrier": options.carrier, "meter": options.meter}
    with virtual_bench(directory, boards=options.boards, **chosen) as bench_file:
        if not options.blank:
            with tempfile.TemporaryDirectory(prefix="rig-flash-") as logs:
                flash_boards(bench_file, Path(logs))
        endpoints = bench_file.parent / "endpoints.json"
        if options.json:
            print(json.dumps({"ready": True, "bench": str(bench_file), "endpoints": str(endpoints)}), flush=True)
        else:
            print(f"ready: boards: {options.boards}; bench file {bench_file}; stop with Ctrl-C", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            return 0
    return 0
