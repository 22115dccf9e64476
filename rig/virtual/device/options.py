"""Which options of a request can be used (RFC 7252 5.4, 5.10; RFC 7641; RFC 7959)."""

from dataclasses import dataclass, replace

from rig.dtls.coap import Message, OptionNumber
from rig.virtual.device.answers import Refused
from rig.virtual.device.misbehaviour import Misbehaviour


@dataclass(frozen=True)
class _Format:
    """How long an option's value may be, and whether it may stand more than once."""

    shortest: int
    longest: int
    repeatable: bool = False


_KNOWN = {
    OptionNumber.IF_MATCH: _Format(0, 8, repeatable=True),
    OptionNumber.URI_HOST: _Format(1, 255),
    OptionNumber.ETAG: _Format(1, 8, repeatable=True),
    OptionNumber.IF_NONE_MATCH: _Format(0, 0),
    OptionNumber.OBSERVE: _Format(0, 3),
    OptionNumber.URI_PORT: _Format(0, 2),
    OptionNumber.URI_PATH: _Format(0, 255, repeatable=True),
    OptionNumber.CONTENT_FORMAT: _Format(0, 2),
    OptionNumber.MAX_AGE: _Format(0, 4),
    OptionNumber.URI_QUERY: _Format(0, 255, repeatable=True),
    OptionNumber.ACCEPT: _Format(0, 2),
    OptionNumber.BLOCK2: _Format(0, 3),
    OptionNumber.BLOCK1: _Format(0, 3),
    OptionNumber.SIZE2: _Format(0, 4),
    OptionNumber.PROXY_URI: _Format(1, 1034),
    OptionNumber.PROXY_SCHEME: _Format(1, 255),
    OptionNumber.SIZE1: _Format(0, 4),
}


def usable(request: Message, wrong: Misbehaviour) -> Message:
    """Return *request* with the options that count.

    An elective option that is unknown, too often there or of a wrong length is left out; a critical one raises
    `Refused` with 4.02.
    """
    kept: list[tuple[int, bytes]] = []
    for number, value in request.options:
        if _counts(number, value, kept):
            kept.append((number, value))
        elif _hinders(number, wrong):
            raise Refused("4.02", f"option {number}")
    return replace(request, options=tuple(kept))


def _counts(number: int, value: bytes, before: list[tuple[int, bytes]]) -> bool:
    known = _KNOWN.get(OptionNumber(number)) if number in _KNOWN else None
    if known is None or not known.shortest <= len(value) <= known.longest:
        return False
    return known.repeatable or all(each != number for each, _ in before)


def _hinders(number: int, wrong: Misbehaviour) -> bool:
    """Whether an option that does not count keeps the request from being served."""
    if number % 2:
        return not wrong.critical_ignored
    return wrong.elective_refused and number not in _KNOWN
