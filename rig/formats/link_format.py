"""CoRE Link Format (RFC 6690): what ``/.well-known/core`` answers."""

import re
from dataclasses import dataclass

from rig.errors import BenchError

_TARGET = re.compile(r"\s*<([^<>]*)>")
_ATTRIBUTE = re.compile(r'\s*;\s*([!#$&+\-.^_`|~0-9A-Za-z]+\*?)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",;\s]+)))?')


class LinkFormatError(BenchError):
    """The text is not a list of links."""


@dataclass(frozen=True)
class Link:
    """One link: its target, and its attributes in order; an attribute without a value has an empty one."""

    target: str
    attributes: tuple[tuple[str, str], ...] = ()

    def has(self, name: str) -> bool:
        """Whether the link has an attribute of this name."""
        return any(each == name for each, _ in self.attributes)

    def value(self, name: str) -> str:
        """Return the value of the first attribute of this name, or an empty text."""
        return next((value for each, value in self.attributes if each == name), "")


def parse_links(text: str) -> tuple[Link, ...]:
    """Parse a list of links; raises `LinkFormatError` on anything else, with the place."""
    links: list[Link] = []
    at = 0
    while text[at:].strip():
        if links:
            at = _skip_comma(text, at)
        link, at = _parse_link(text, at)
        links.append(link)
    return tuple(links)


def _skip_comma(text: str, at: int) -> int:
    rest = text[at:].lstrip()
    if not rest.startswith(","):
        raise LinkFormatError(f"link format: no comma at character {len(text) - len(rest)}")
    return len(text) - len(rest) + 1


def _parse_link(text: str, at: int) -> tuple[Link, int]:
    target = _TARGET.match(text, at)
    if target is None:
        raise LinkFormatError(f"link format: no <target> at character {at}")
    at = target.end()
    attributes: list[tuple[str, str]] = []
    while found := _ATTRIBUTE.match(text, at):
        quoted = re.sub(r"\\(.)", r"\1", found[2], flags=re.DOTALL) if found[2] is not None else None
        attributes.append((found[1], quoted if quoted is not None else found[3] or ""))
        at = found.end()
    return Link(target[1], tuple(attributes)), at
