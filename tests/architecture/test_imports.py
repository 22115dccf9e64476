"""Arrows go down only: which part of the project may import which."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOUNDATION = {"rig.errors", "rig.clock", "rig.lag", "rig.formats"}
LOW = FOUNDATION | {"rig.dtls", "rig.energy"}
WINGS = {"rig.coap", "rig.meter", "rig.router", "rig.board", "rig.evidence"}
BENCH = LOW | WINGS | {"rig.bench"}
ALLOWED = {
    "formats": FOUNDATION,
    "dtls": FOUNDATION,
    "energy": FOUNDATION,
    "coap": LOW,
    "meter": LOW,
    "router": LOW,
    "board": LOW,
    "evidence": LOW,
    "bench": BENCH,
    "reports": LOW | {"rig.evidence"},
    "virtual": FOUNDATION | {"rig.dtls"},
    "fixtures": BENCH | {"rig.reports", "rig.testplans"},
    # The list of faulty devices is data that the command line prints.
    "cli": BENCH | {"rig.reports", "rig.testplans", "rig.virtual.faults"},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name == "rig" or name.startswith("rig.")}


def allowed(name: str, part: str) -> bool:
    roots = ALLOWED[part] | {f"rig.{part}"}
    return any(name == root or name.startswith(f"{root}.") or root.startswith(f"{name}.") for root in roots)


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_a_part_imports_only_what_lies_below_it(part: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / "rig" / part).rglob("*.py"))
        for name in sorted(imported(path))
        if not allowed(name, part)
    ]
    assert not wrong


def test_the_library_does_not_import_pytest() -> None:
    parts = set(ALLOWED) - {"fixtures", "cli"}
    wrong = [
        str(path.relative_to(ROOT))
        for part in sorted(parts)
        for path in sorted((ROOT / "rig" / part).rglob("*.py"))
        if "import pytest" in path.read_text(encoding="utf-8")
    ]
    assert not wrong
