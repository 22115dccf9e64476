"""``rig requirements``: the catalogue, filtered, and how much of it tests verify."""

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pytest
from rich.markup import escape

from rig.cli.commands import print_table, table_of
from rig.errors import ConfigError
from rig.evidence.requirements import STANDARDS, Requirement, Standard, load_catalogue
from rig.evidence.verdicts import Level
from rig.testplans import CATALOGUE, HERE

Coverage = Literal["tested", "untested", "not_testable"]
_WORDS: dict[Coverage, str] = {
    "tested": "verified by a test",
    "untested": "without a test",
    "not_testable": "not testable here",
}


@dataclass(frozen=True)
class Row:
    """A requirement, and the tests that verify it."""

    requirement: Requirement
    tests: tuple[str, ...]

    @property
    def coverage(self) -> Coverage:
        """Whether tests verify it; a test outweighs the catalogue's reason why there can be none."""
        if self.tests:
            return "tested"
        return "not_testable" if self.requirement.not_testable else "untested"


def show_requirements(options: argparse.Namespace) -> int:
    """List the rows of the catalogue that pass the filters of *options*, with totals."""
    catalogue = load_catalogue(CATALOGUE)
    _check("--area", options.area, sorted({row.area for row in catalogue.values()}))
    _check("--level", options.level, get_args(Level))
    _check("--standard", options.standard, STANDARDS)
    tests = tests_by_requirement(HERE)
    rows = [Row(one, tuple(tests.get(one.id, ()))) for one in catalogue.values()]
    rows = [row for row in rows if _passes(row, options)]
    totals = Counter(row.coverage for row in rows)
    if options.json:
        listed = [{**row.requirement.model_dump(), "tests": row.tests, "coverage": row.coverage} for row in rows]
        print(json.dumps({"requirements": listed, "totals": {one: totals[one] for one in _WORDS}}, indent=1))
    else:
        _print(rows, totals, options.standard)
    return 0


def _check(option: str, value: str | None, known: Iterable[str]) -> None:
    if value is not None and value not in known:
        raise ConfigError(f"{option} {value}: is none of {', '.join(known)}")


def _passes(row: Row, options: argparse.Namespace) -> bool:
    one = row.requirement
    texts = " ".join((one.id, one.title, one.statement, one.clause, one.method)).lower()
    return (
        all(word.lower() in texts for word in options.words)
        and options.area in (None, one.area)
        and options.level in (None, one.level)
        and (options.standard is None or bool(getattr(one.evidence_for, options.standard)))
        and (row.coverage == "tested" if options.tested else row.coverage != "tested" or not options.untested)
    )


def _print(rows: list[Row], totals: Counter[Coverage], standard: Standard | None) -> None:
    table = table_of("id", "level", "title", STANDARDS[standard] if standard else "clause", "verified by")
    if standard:
        table.title = f"Evidence for {STANDARDS[standard]}"
        table.title_justify = "left"
    for row in rows:
        one = row.requirement
        places = ", ".join(getattr(one.evidence_for, standard)) if standard else one.clause
        table.add_row(one.id, one.level, escape(one.title), escape(places), _verified_by(row))
    print_table(table)
    told = ", ".join(f"{totals[one]} {words}" for one, words in _WORDS.items())
    print(f"{len(rows)} requirements: {told}")


def _verified_by(row: Row) -> str:
    match row.coverage:
        case "tested":
            return escape(", ".join(row.tests))
        case "untested":
            return "[red]no test[/]"
        case "not_testable":
            return f"[dim]not testable here: {escape(row.requirement.not_testable)}[/]"


def tests_by_requirement(folder: Path) -> dict[str, list[str]]:
    """Return the names of the tests in *folder*, that of test plans, by the requirement that they verify.

    Raises ConfigError where they cannot be collected, for one because a test names an id that does not exist; pytest
    has then said why.
    """
    found: dict[str, list[str]] = {}

    class Collector:
        def pytest_collection_finish(self, session: pytest.Session) -> None:
            for item in session.items:
                for key, value in item.user_properties:
                    if key == "verifies":
                        found.setdefault(str(value), []).append(item.nodeid.rsplit("::", 1)[-1])

    arguments = [
        str(folder),
        "-c",
        str(folder / "pytest.ini"),
        f"--rootdir={folder}",
        "--collect-only",
        "-p",
        "no:terminal",
    ]
    code = pytest.main(arguments, plugins=[Collector()])
    if code != pytest.ExitCode.OK:
        raise ConfigError(f"{folder}: the tests cannot be collected ({pytest.ExitCode(code).name.lower()})")
    return found
