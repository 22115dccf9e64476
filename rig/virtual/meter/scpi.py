"""SCPI program messages: text in, units out; no socket, no instrument.

Rules from SCPI-99 volume 1 (6.2 headers, compound messages) and IEEE 488.2-1992 (7 and 8).
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

ERROR_TEXTS = {
    0: "No error",
    -101: "Invalid character",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -131: "Invalid suffix",
    -211: "Trigger ignored",
    -213: "Init ignored",
    -221: "Settings conflict",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -230: "Data stale",
    -350: "Error queue overflow",
    -363: "Input buffer overrun",
}

_HEADER = re.compile(r"(?:\*[A-Za-z]+|:?[A-Za-z]\w*(?::[A-Za-z]\w*)*)\??")
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([A-Za-z]*)")

SECONDS = {"": 1.0, "S": 1.0, "MS": 1e-3, "US": 1e-6, "NS": 1e-9}
AMPERES = {"": 1.0, "A": 1.0, "MA": 1e-3, "UA": 1e-6}
PLAIN = {"": 1.0}


class ScpiError(Exception):
    """An entry for the error queue: *code* with its text, and what exactly was wrong after a semicolon.

    The codes of the standard have their text here; what an instrument adds of its own comes with *text*.
    """

    def __init__(self, code: int, detail: str = "", *, text: str = "") -> None:
        self.code = code
        self.text = (text or ERROR_TEXTS[code]) + (f"; {detail}" if detail else "")
        super().__init__(f"{code},{self.text}")


@dataclass(frozen=True)
class Unit:
    """One command or query of a message, its header written from the root of the command tree, in capitals."""

    header: tuple[str, ...]
    query: bool
    arguments: tuple[str, ...]


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """Split *text* at *separator*, but not inside single or double quotes or a channel list in parentheses."""
    parts = [""]
    quote = ""
    depth = 0
    for character in text:
        if character == separator and not quote and not depth:
            parts.append("")
            continue
        if character in "\"'" and quote in ("", character):
            quote = "" if quote else character
        elif not quote:
            depth = max(depth + (character == "(") - (character == ")"), 0)
        parts[-1] += character
    return parts


def parse_message(message: str) -> Iterator[Unit | ScpiError]:
    """Yield the units of one program message; a unit that cannot be parsed becomes an error, and the rest goes on.

    A header without a leading colon continues from where the header before it left the tree (SCPI-99 6.2.4).
    """
    path: tuple[str, ...] = ()
    for text in split_outside_quotes(message, ";"):
        text = text.strip()
        if not text:
            continue
        header, _, rest = text.partition(" ") if " " in text else text.partition("\t")
        if not _HEADER.fullmatch(header):
            yield ScpiError(-102, header[:32] if header.isprintable() else "")
            continue
        query = header.endswith("?")
        name = header.rstrip("?").upper()
        arguments = tuple(part.strip() for part in split_outside_quotes(rest, ",")) if rest.strip() else ()
        if name.startswith("*"):
            yield Unit((name,), query, arguments)
            continue
        nodes = tuple(name.removeprefix(":").split(":"))
        full = nodes if name.startswith(":") else path + nodes
        path = full[:-1]
        yield Unit(full, query, arguments)


def parse_number(text: str, suffixes: Mapping[str, float] = PLAIN) -> float:
    """Return the value of a decimal number with one of the *suffixes* (capitals; MA is milliampere)."""
    match = _NUMBER.fullmatch(text)
    if not match:
        raise ScpiError(-104, text[:32])
    suffix = match[2].upper()
    if suffix not in suffixes:
        raise ScpiError(-131, text[:32])
    return float(match[1]) * suffixes[suffix]


def parse_choice(text: str, *choices: str) -> str:
    """Return the short form of the one of *choices* (written as in a manual: IMMediate) that *text* names."""
    for choice in choices:
        if text.upper() in (short_form(choice), choice.upper()):
            return short_form(choice)
    raise ScpiError(-224, text[:32])


def parse_boolean(text: str) -> bool:
    """Return the value of ON, OFF, 1 or 0."""
    return parse_choice("ON" if text == "1" else "OFF" if text == "0" else text, "ON", "OFF") == "ON"


def parse_string(text: str) -> str:
    """Return what stands between the quotes of string data."""
    if len(text) < 2 or text[0] not in "\"'" or text[-1] != text[0]:
        raise ScpiError(-104, text[:32])
    return text[1:-1]


def channel_list(text: str) -> tuple[int, ...]:
    """Return the channels of a list such as ``(@1,3:4)``."""
    match = re.fullmatch(r"\(@\s*(\d{1,4}(?:\s*[,:]\s*\d{1,4})*)\s*\)", text)
    if not match:
        raise ScpiError(-224, text[:32])
    channels: list[int] = []
    for part in match[1].split(","):
        first, _, last = part.partition(":")
        channels += range(int(first), int(last or first) + 1)
    return tuple(channels)


def short_form(mnemonic: str) -> str:
    """Return the short form of a mnemonic written as in a manual: SAMPle gives SAMP."""
    return "".join(character for character in mnemonic if not character.islower())


def number_text(value: float) -> str:
    """Return *value* as the instrument prints it (NR3)."""
    return f"{value:+.8E}"


def block(payload: bytes) -> bytes:
    """Return *payload* as a definite-length block (IEEE 488.2 8.7.9)."""
    length = str(len(payload))
    return f"#{len(length)}{length}".encode() + payload


def indefinite_block(payload: bytes) -> bytes:
    """Return *payload* as an indefinite-length block: only the end of the message shows where it ends."""
    return b"#0" + payload


Handler = TypeVar("Handler")


class CommandTable(Generic[Handler]):
    """Handlers by header, found by short or long form, with optional nodes in brackets as manuals write them."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[tuple[str, ...], bool], Handler] = {}
        self._short: dict[str, str] = {}

    def add(self, pattern: str, handler: Handler) -> None:
        """Register *handler* for a pattern such as ``[SENSe:]CURRent[:DC]:RANGe`` or, for a query, with ``?``."""
        for spelled in _without_brackets(pattern.rstrip("?")):
            nodes = spelled.split(":")
            for node in nodes:
                self._short[node.upper()] = self._short[short_form(node)] = short_form(node)
            self._handlers[tuple(short_form(node) for node in nodes), pattern.endswith("?")] = handler

    def find(self, unit: Unit) -> Handler:
        """Return the handler of *unit*.

        Raises:
            ScpiError: -113, no such command.
        """
        header = tuple(self._short.get(node, "") for node in unit.header)
        handler = self._handlers.get((header, unit.query))
        if handler is None:
            raise ScpiError(-113, ":".join(unit.header)[:64])
        return handler


def _without_brackets(pattern: str) -> Iterator[str]:
    parts = re.split(r"\[([^\]]*)\]", pattern)
    optional = parts[1::2]
    for kept in itertools.product((False, True), repeat=len(optional)):
        taken = [text if keep else "" for text, keep in zip(optional, kept, strict=True)]
        yield "".join(itertools.chain.from_iterable(zip(parts[::2], [*taken, ""], strict=True))).strip(":")
