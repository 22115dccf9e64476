"""How every benchmark is called and what it prints: a table, or one JSON object with ``--json``."""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def run(description: str | None, measure: Callable[[Path], Result], table: Callable[[Result], str]) -> None:
    """Measure in a folder that is removed afterwards, and print the result."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(Path(scratch))
    print(json.dumps(result) if options.json else table(result))
