"""Damage with a structure: what a parser is likely to trip over, drawn from a seeded generator."""

import random
from collections.abc import Sequence

_LONGEST_BYTES = 1 << 16
_BYTES = (0, 1, 2, 12, 13, 14, 15, 0x10, 0x7F, 0x80, 0xFE, 0xFF)
_WIDTHS = (1, 2, 3, 4, 6, 8)


def mutated(draws: random.Random, data: bytes, others: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:
    """Return *data* with one to four changes. *others* are spliced in; *words* are what the format's grammar knows."""
    changed = bytearray(data)
    for _ in range(draws.choice((1, 1, 1, 2, 2, 3, 4))):
        change = draws.choice(_CHANGES)
        change(draws, changed, draws.choice(others) if others else b"", draws.choice(words) if words else b"")
    return bytes(changed[:_LONGEST_BYTES])


def shuffled(draws: random.Random, parts: Sequence[bytes], others: Sequence[bytes]) -> list[bytes]:
    """Return a sequence of datagrams as a bad network delivers it: damaged, lost, repeated, out of order."""
    result: list[bytes] = []
    for part in parts:
        fate = draws.random()
        if fate < 0.2:
            result.append(mutated(draws, part, others))
        elif fate < 0.25:
            result += [mutated(draws, part, others), part]
        elif fate < 0.3:
            result += [part] * draws.choice((2, 2, 20))
        elif fate < 0.35:
            result.insert(draws.randint(0, len(result)), part)
        elif fate > 0.4:
            result.append(part)
    return result


def _flip(draws: random.Random, data: bytearray, _other: bytes, _word: bytes) -> None:
    if data:
        data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)


def _set_byte(draws: random.Random, data: bytearray, _other: bytes, _word: bytes) -> None:
    if data:
        data[draws.randrange(len(data))] = draws.choice(_BYTES)


def _set_number(draws: random.Random, data: bytearray, _other: bytes, _word: bytes) -> None:
    """Put a number where a length or an offset may be."""
    width = draws.choice(_WIDTHS)
    if len(data) < width:
        return
    at = draws.randrange(len(data) - width + 1)
    old = int.from_bytes(data[at : at + width], "big")
    top = (1 << 8 * width) - 1
    value = draws.choice((0, 1, top, top >> 1, old + 1, old - 1, len(data), len(data) - at - width, old * 2, old >> 1))
    data[at : at + width] = (value & top).to_bytes(width, draws.choice(("big", "little")))


def _cut(draws: random.Random, data: bytearray, _other: bytes, _word: bytes) -> None:
    del data[draws.randint(0, len(data)) :]


def _remove(draws: random.Random, data: bytearray, _other: bytes, _word: bytes) -> None:
    start = draws.randint(0, len(data))
    del data[start : start + draws.choice((1, 2, 4, 8, 16, 32))]


def _insert(draws: random.Random, data: bytearray, _other: bytes, _word: bytes) -> None:
    at = draws.randint(0, len(data))
    data[at:at] = draws.randbytes(draws.choice((1, 2, 4, 8, 32)))


def _insert_word(draws: random.Random, data: bytearray, _other: bytes, word: bytes) -> None:
    at = draws.randint(0, len(data))
    data[at:at] = word


def _copy(draws: random.Random, data: bytearray, _other: bytes, _word: bytes) -> None:
    """Put a piece of the data somewhere else as well."""
    start, at = draws.randint(0, len(data)), draws.randint(0, len(data))
    data[at:at] = data[start : start + draws.choice((1, 4, 12, 13, 32, 200))]


def _repeat(draws: random.Random, data: bytearray, _other: bytes, _word: bytes) -> None:
    """Make it long: what takes time in the square of its input shows here."""
    if draws.random() < 0.9:
        return
    start = draws.randint(0, len(data))
    piece = bytes(data[start : start + draws.choice((1, 1, 2, 13, 32))]) or b"\0"
    data[start:start] = piece * draws.randint(1, _LONGEST_BYTES // len(piece))


def _splice(draws: random.Random, data: bytearray, other: bytes, _word: bytes) -> None:
    start, from_ = draws.randint(0, len(data)), draws.randint(0, len(other))
    data[start:] = other[from_:]


_CHANGES = (
    _flip,
    _flip,
    _set_byte,
    _set_byte,
    _set_number,
    _set_number,
    _set_number,
    _cut,
    _remove,
    _insert,
    _insert_word,
    _copy,
    _repeat,
    _splice,
)
