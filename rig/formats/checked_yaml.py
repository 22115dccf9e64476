"""YAML files that people write, read into pydantic models; every error names file, line and key.

Booleans are those of YAML 1.2 (``true``, ``false``): ``on``, ``off``, ``yes`` and ``no`` are text, also as keys.
"""

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from rig.errors import ConfigError


class CheckedModel(BaseModel):
    """Base of every model read from a file: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Model = TypeVar("Model", bound=BaseModel)

_BOOLEAN = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's booleans (YAML 1.2.2, 10.3.2) in place of those of YAML 1.1."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own name and form)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_BOOLEAN, re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


def load_checked(path: Path, model: type[Model]) -> Model:
    """Read the YAML file *path* into *model*.

    Raises :class:`rig.errors.ConfigError` with one line per finding, each as ``file:line: key: reason``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        data = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}:{_yaml_line(error)}: is not valid YAML: {_yaml_problem(error)}") from None
    _refuse_duplicate_keys(path, node)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = [_describe(path, node, model, detail) for detail in error.errors(include_url=False)]
        raise ConfigError("\n".join(found)) from None


def place_of(path: Path, location: tuple[int | str, ...]) -> str:
    """Return ``file:line`` of the part of *path*, a file that has been read, to which *location* leads."""
    return f"{path}:{_line_of(yaml.compose(path.read_text(encoding='utf-8'), Loader=_Loader), location)}"


def _yaml_line(error: Exception) -> int:
    mark = getattr(error, "problem_mark", None)
    return int(mark.line) + 1 if mark is not None else 1


def _yaml_problem(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error)


def _refuse_duplicate_keys(path: Path, node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise ConfigError(f"{path}:{line}: {key.value}: stands twice (first in line {seen[key.value]})")
            seen[key.value] = line
            _refuse_duplicate_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicate_keys(path, item)


def _describe(path: Path, node: yaml.Node | None, model: type[BaseModel], detail: ErrorDetails) -> str:
    location = _in_file(node, detail["loc"])
    line = _line_of(node, location)
    key = ".".join(str(part) for part in location) or "(the whole file)"
    if detail["type"] == "extra_forbidden":
        return f"{path}:{line}: {key}: unknown key{_candidates(model, location)}"
    if detail["type"] == "missing":
        return f"{path}:{line}: {key}: is missing"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f"{path}:{line}: {key}: {message[0].lower()}{message[1:]}"


def _in_file(node: yaml.Node | None, location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return *location* without the names that pydantic gives the alternatives of a union: no key of the file."""
    found: list[int | str] = []
    for index, part in enumerate(location):
        child = _child(node, part)
        if child is not None:
            node = child[0]
        elif index + 1 < len(location) and isinstance(node, yaml.MappingNode):
            continue
        found.append(part)
    return tuple(found)


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Return the line (from 1) of the deepest part of *location* that is in the file."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in location:
        child = _child(node, part)
        if child is None:
            break
        node, line = child
    return line


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item, item.start_mark.line + 1
    return None


def _candidates(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    names = _fields_at(model, location[:-1])
    close = difflib.get_close_matches(str(location[-1]), names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(names)}" if names else ""


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are known at *location*; of all alternatives where a union stands."""
    models = [model]
    for part in location:
        if isinstance(part, str):
            fields = [one.model_fields[part] for one in models if part in one.model_fields]
            models = [found for field in fields for found in _models_in(field.annotation)]
    return list(dict.fromkeys(name for one in models for name in one.model_fields))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the pydantic models inside *annotation* (``tuple[Board, ...]``, ``Wifi | None``, ...)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]
