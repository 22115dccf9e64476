"""What a Nordic PPK2 sends: calibration as text, samples as words of 32 bits. Bytes in, values out; no port here.

The facts are those of the instrument's own application (pc-nrfconnect-ppk, src/device/serialDevice.ts). A word is
little-endian: 14 bits converter, 3 bits range, 6 bits counter (one more each sample, modulo 64), 8 bits logic inputs.

What that application does besides, and this module does not: for the first three samples after a range change it shows
a rolling average (weight 0.18, in the widest range 0.06) instead of the sample, because the change leaves a spike. That
moves charge from one sample to another. Here every sample keeps its own value, and those three are named, so that
whoever judges can see how many there are.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rig.meter.protocol import MeterError

Words = NDArray[np.uint32]

SAMPLE_RATE_HZ = 100_000
INTERVAL_S = 1e-5
RANGES = 5
#: The first sample of a new range and the two after it.
UNCERTAIN_SAMPLES = 3
LOGIC_SHIFT = 24
RANGE_SHIFT = 14
COUNTER_SHIFT = 18
COUNTER_MODULUS = 64
ADC_FULL_SCALE = (1 << RANGE_SHIFT) - 1
#: Converter and range together: the index into the table of currents.
CODE_MASK = np.uint32((1 << COUNTER_SHIFT - 1) - 1)
#: The application multiplies the converter's value by four, and that by this many volt.
ADC_SCALE = 4
ADC_STEP_V = 1.8 / 163840

#: Words checked at a time: they and the work on them stay in the cache.
BLOCK = 1 << 14
#: So many words in a row must count on before a place in the stream is taken for the beginning of one.
PROOF = 8
#: Bytes that are searched for such a place at a time.
HUNTED = 1 << 12

_COUNTER_MASK = np.uint32((COUNTER_MODULUS - 1) << COUNTER_SHIFT)
_STATE_MASK = np.uint32((7 << RANGE_SHIFT) | (0xFF << LOGIC_SHIFT))
_COUNTERS = (np.arange(BLOCK + COUNTER_MODULUS, dtype=np.uint32) << np.uint32(COUNTER_SHIFT)) & _COUNTER_MASK


@dataclass(frozen=True)
class Calibration:
    """The maker's calibration, a value for each of the five ranges: shunt in ohm, gains, offsets, user gain."""

    r: tuple[float, ...]
    gs: tuple[float, ...]
    gi: tuple[float, ...]
    o: tuple[float, ...]
    s: tuple[float, ...]
    i: tuple[float, ...]
    ug: tuple[float, ...]

    def table(self, supply_v: float) -> NDArray[np.float32]:
        """Return the current in ampere of every converter value of every range, shape (8 * 16384,).

        *supply_v* is the voltage that the board is fed with: part of the offset is proportional to it. The three ranges
        that do not exist are NaN.
        """
        table = np.full((8, ADC_FULL_SCALE + 1), np.nan)
        adc = np.arange(ADC_FULL_SCALE + 1, dtype=np.float64) * ADC_SCALE
        for index in range(RANGES):
            raw = (adc - self.o[index]) * (ADC_STEP_V / self.r[index])
            gained = raw * (self.gs[index] * raw + self.gi[index])
            table[index] = self.ug[index] * (gained + self.s[index] * supply_v + self.i[index])
        return table.astype(np.float32).reshape(-1)


@dataclass(frozen=True)
class Metadata:
    """What the instrument says of itself; *mode* is 1 for ampere, 2 for source, and 0 where it does not say."""

    calibration: Calibration
    calibrated: bool
    supply_v: float
    mode: int
    hardware: str


def parse_metadata(answer: bytes) -> Metadata:
    """Parse the answer to the metadata command, from its first line to the line END.

    Raises:
        MeterError: a line is damaged, a figure is missing or no number, or a shunt is not above zero.
    """
    fields = _fields(answer)
    calibration = Calibration(
        r=_figures(fields, "R"),
        gs=_figures(fields, "GS"),
        gi=_figures(fields, "GI"),
        o=_figures(fields, "O"),
        s=_figures(fields, "S"),
        i=_figures(fields, "I"),
        # Not every firmware sends the user's gain, or the mode.
        ug=_figures(fields, "UG") if "UG0" in fields else (1.0,) * RANGES,
    )
    if min(calibration.r) <= 0:
        raise MeterError(f"PPK2 metadata: a shunt of {min(calibration.r):g} ohm: its calibration is lost")
    return Metadata(
        calibration=calibration,
        calibrated=fields.get("Calibrated", "0") != "0",
        supply_v=_number(fields, "VDD") / 1000,
        mode=int(_number(fields, "mode")) if "mode" in fields else 0,
        hardware=fields.get("HW", "unknown"),
    )


def _fields(answer: bytes) -> dict[str, str]:
    try:
        lines = answer.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise MeterError(f"PPK2 metadata: not text: {answer[:40]!r}") from error
    if not lines or lines[-1].strip() != "END":
        raise MeterError("PPK2 metadata: the answer ends before its line END")
    fields: dict[str, str] = {}
    for line in lines[:-1]:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or name.strip() in fields:
            raise MeterError(f"PPK2 metadata: the line {line!r} is damaged or stands twice")
        fields[name.strip()] = value.strip()
    return fields


def _figures(fields: dict[str, str], name: str) -> tuple[float, ...]:
    return tuple(_number(fields, f"{name}{index}") for index in range(RANGES))


def _number(fields: dict[str, str], name: str) -> float:
    text = fields.get(name, "missing")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise MeterError(f"PPK2 metadata: {name} is {text!r} and no number: read it again, or have it calibrated")
    return value


class Framer:
    """Cuts bytes, however they come, into words, and holds every word against the counter.

    ``discarded`` counts the bytes that belonged to no word.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._expected: int | None = None
        self._hunting = True
        self.discarded = 0

    def feed(self, data: bytes) -> list["Words | int"]:
        """Return what *data* completes, in order: words that count on, and between them how many are missing.

        What is missing is known modulo 64 only: 0 stands for a torn place where the counter goes on as if nothing were
        lost. A place in the stream where words count wrongly is searched, byte by byte, for where they count on.
        """
        self._rest = self._rest + data if self._rest else data
        pieces: list[Words | int] = []
        while True:
            if self._hunting and not self._find(pieces):
                return pieces
            self._take(pieces)
            if not self._hunting:
                return pieces

    def _take(self, pieces: list["Words | int"]) -> None:
        """Take the words that count on; where one does not, hunt from there."""
        words = np.frombuffer(self._rest, "<u4", len(self._rest) // 4)
        assert self._expected is not None
        good = _counting_on(words, self._expected)
        if good:
            pieces.append(words[:good])
            self._expected = (self._expected + good) % COUNTER_MODULUS
        self._hunting = good < len(words)
        self._rest = self._rest[4 * good :]

    def _find(self, pieces: list["Words | int"]) -> bool:
        """Find where words count on; False where there are too few bytes left to tell."""
        while (place := _first_words(self._rest[:HUNTED])) is None:
            unproven = min(len(self._rest), HUNTED) - 4 * PROOF
            if unproven <= 0:
                return False
            self._drop(unproven)
        self._drop(place)
        counter = int.from_bytes(self._rest[:4], "little") >> COUNTER_SHIFT
        if self._expected is not None:
            pieces.append((counter - self._expected) % COUNTER_MODULUS)
        self._expected = counter % COUNTER_MODULUS
        self._hunting = False
        return True

    def _drop(self, count: int) -> None:
        self.discarded += count
        self._rest = self._rest[count:]


def _counting_on(words: Words, expected: int) -> int:
    """Return how many of *words* from the first on have the counters that follow from *expected*."""
    for first in range(0, len(words), BLOCK):
        block = words[first : first + BLOCK]
        phase = (expected + first) % COUNTER_MODULUS
        wrong = (block ^ _COUNTERS[phase : phase + len(block)]) & _COUNTER_MASK
        if wrong.any():
            return first + int(np.flatnonzero(wrong)[0])
    return len(words)


def _first_words(data: bytes) -> int | None:
    """Return the first place from which :data:`PROOF` words count on, all in ranges that exist."""
    places = []
    for shift in range(min(4, len(data))):
        words = np.frombuffer(data, "<u4", (len(data) - shift) // 4, offset=shift)
        if len(words) < PROOF:
            continue
        steps = np.diff((words >> np.uint32(COUNTER_SHIFT)).astype(np.uint8) & np.uint8(COUNTER_MODULUS - 1))
        on = (steps & np.uint8(COUNTER_MODULUS - 1)) == 1
        exist = ((words >> np.uint32(RANGE_SHIFT)) & np.uint32(7)) < RANGES
        good = np.cumsum(np.concatenate(([0], on & exist[1:] & exist[:-1])))
        proven = np.flatnonzero(good[PROOF - 1 :] - good[: 1 - PROOF] == PROOF - 1)
        if len(proven):
            places.append(shift + 4 * int(proven[0]))
    return min(places, default=None)


@dataclass(frozen=True)
class Changes:
    """Where range or logic inputs change within a block: the samples, shape (n,), and what holds from each on."""

    samples: NDArray[np.int64]
    ranges: NDArray[np.uint8]
    logic: NDArray[np.uint8]


def currents_a(words: Words, table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the current of each of *words* in ampere; *table* is that of the calibration."""
    out = np.empty(len(words), np.float32)
    for first in range(0, len(words), BLOCK):
        block = words[first : first + BLOCK]
        table.take(block & CODE_MASK, out=out[first : first + BLOCK], mode="clip")
    return out


def changes(words: Words, before: int) -> Changes:
    """Return where the range or a logic input differs from the word before; *before* is the word before the first."""
    found: list[NDArray[Any]] = []
    if len(words) and (int(words[0]) ^ before) & int(_STATE_MASK):
        found.append(np.array([0]))
    for first in range(1, len(words), BLOCK):
        block = words[first : first + BLOCK]
        different = (block ^ words[first - 1 : first - 1 + len(block)]) & _STATE_MASK
        if different.any():
            found.append(np.flatnonzero(different) + first)
    samples = np.concatenate(found).astype(np.int64) if found else np.empty(0, np.int64)
    here = words[samples]
    return Changes(
        samples=samples,
        ranges=((here >> np.uint32(RANGE_SHIFT)) & np.uint32(7)).astype(np.uint8),
        logic=(here >> np.uint32(LOGIC_SHIFT)).astype(np.uint8),
    )
