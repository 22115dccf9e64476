"""Fuzz every decoder for so many seconds each: ``python -m tests.fuzz 20``, or only some: ``... 20 NVS dissector``."""

import argparse
import secrets
import sys

from tests.fuzz.runner import HEAD, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Print a table, and the findings after it; return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("seconds", type=float, help="for each target")
    parser.add_argument("names", nargs="*", help="targets that have one of these in their names; default: all")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_intermixed_args()
    chosen = [one for one in TARGETS if not arguments.names or any(name in one.name for name in arguments.names)]
    print(f"seed {arguments.seed}\n{HEAD}")
    results = []
    for target in chosen:
        results.append(fuzz(target, arguments.seed, seconds=arguments.seconds))
        print(results[-1].row, flush=True)
    findings = [(result.name, *finding) for result in results for finding in result.findings.items()]
    print(
        f"{len(results)} targets, {sum(result.executions for result in results)} executions, {len(findings)} findings"
    )
    for name, cause, told in findings:
        print(f"{name}: {cause}: {told:.4000}")
    return bool(findings)


sys.exit(main())
