"""``rig image``: what a file of flash content is, and what is wrong with it."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rig.errors import ConfigError
from rig.formats import image, partitions
from rig.formats.checks import ImageSetError, check_image_set
from rig.formats.explain import Explanation, Part, explain, explain_part, explain_table
from rig.formats.flasher_args import ImageSet, read_image_set
from rig.formats.merged_image import looks_merged


def show(path: Path, *, as_json: bool) -> int:
    """Print what *path* is: an image, a table, a partition, a merged image, a build directory; exit code 2 if damaged.

    Raises ConfigError for a file that is none of these.
    """
    explanation = _explain(path)
    if as_json:
        print(json.dumps({"file": str(path), "sound": explanation.sound, **asdict(explanation)}, indent=1))
    else:
        _print(str(path), explanation)
    return 0 if explanation.sound else 2


def _explain(path: Path) -> Explanation:
    if path.is_dir() or path.suffix == ".json":
        return _explain_build(read_image_set(path))
    data = _read(path)
    try:
        if path.suffix == ".csv":
            return explain_table(partitions.parse_csv(_text(data)), len(data))
        found = explain(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return replace(found, findings=_merged_findings(path)) if looks_merged(data) else found


def _explain_build(images: ImageSet) -> Explanation:
    parts = tuple(Part(file.name, file.offset, explain_part(file.read())) for file in images.files)
    size_bytes = sum(part.explanation.size_bytes for part in parts)
    return Explanation("build directory", size_bytes, {"chip": images.chip}, _set_findings(images), parts)


def _merged_findings(path: Path) -> tuple[str, ...]:
    try:
        return _set_findings(read_image_set(path))
    except ConfigError as error:
        return (str(error),)


def _set_findings(images: ImageSet) -> tuple[str, ...]:
    """Tell whether the files fit together, and into the flash that they are built for."""
    try:
        check_image_set(images, flash_bytes=_flash_bytes(images))
    except ImageSetError as error:
        return error.findings
    return ()


def _flash_bytes(images: ImageSet) -> int:
    default = 4 << 20
    try:
        return image.read_header(images.files[0].read()).flash_bytes or default
    except image.ImageEndError:
        return default


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 text (byte {error.start})") from None


def _print(title: str, explanation: Explanation) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    for name, one in _with_parts(title, explanation):
        console.print(f"[bold]{escape(name)}[/]: {one.kind}, {one.size_bytes} bytes")
        for block in _blocks(one.facts):
            console.print(block)
        for finding in one.findings:
            console.print(f"[bold red]wrong[/]: {escape(finding)}")
    if explanation.sound:
        console.print("[green]nothing wrong[/]")


def _with_parts(name: str, explanation: Explanation) -> Iterator[tuple[str, Explanation]]:
    yield name, explanation
    for part in explanation.parts:
        yield from _with_parts(f"0x{part.offset:06x} {part.name}", part.explanation)


def _blocks(facts: Mapping[str, Any]) -> Iterator[Table]:
    scalars = Table(box=None, show_header=False)
    for name, value in facts.items():
        if not isinstance(value, list):
            scalars.add_row(_words(name), escape(_value(value)))
    if scalars.row_count:
        yield scalars
    for rows in facts.values():
        if isinstance(rows, list) and rows:
            table = Table(*map(_words, rows[0]), box=None)
            for row in rows:
                table.add_row(*(escape(_value(value)) for value in row.values()))
            yield table


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(value: object) -> str:
    if isinstance(value, dict) and "valid" in value:
        return f"{value['stored']} ({'valid' if value['valid'] else 'wrong, the data give ' + value['calculated']})"
    if isinstance(value, dict):
        return ", ".join(f"{_words(key)} {_value(inner)}" for key, inner in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
