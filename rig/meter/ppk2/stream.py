"""From a PPK2's bytes and the times they came at to samples with every lost one counted. No port here."""

import math
from collections import deque
from dataclasses import dataclass

from rig.meter.ppk2.words import COUNTER_MODULUS, INTERVAL_S, Framer, Words

#: Samples at the start that are never used: bytes from before may come first, and nothing tells them from new ones.
SETTLING = 10_000
#: As many of those that are counted may be from before: what the instrument keeps back when it is stopped.
STALE = 64
#: After a loss so much time is looked at to tell how many times 64 samples it was.
DECISION_S = 0.25
#: How much longer than at best samples may take to come while nothing was lost: a crystal's drift over 2 s, and luck.
STEADY_S = 1e-3
#: Where no chunk has come as early as that, the earliest of each such stretch are looked at together,
STRETCH_S = 0.25
#: when there are so many: if they agree among themselves, samples were lost that the counter does not show;
STRETCHES = 8
#: the same where the stream ends before.
LEAST_STRETCHES = 3
#: They agree when they differ by less than this share of how much too late they all are. On a busy host they do not.
AGREEMENT = 0.5
#: How far from a multiple of 64 samples a delay may be and still count as that multiple,
CLEAR_S = 2e-4
#: where so many chunks came that early: a single one on a busy host can be anywhere.
CLEAR_CHUNKS = 3

WRAP_S = COUNTER_MODULUS * INTERVAL_S


@dataclass(frozen=True)
class Lost:
    """So many samples are missing.

    The counter wraps every 64 samples: how often it did is told from the time. Not ``certain``: the time left it open.
    ``silent``: the counter showed nothing; the samples went missing within 2 s before this place.
    """

    count: int
    certain: bool
    silent: bool = False


class Delay:
    """The least delay of late, in seconds: what came between 2 and 4 s ago is forgotten, as crystals drift."""

    def __init__(self) -> None:
        self._least_s = self._earlier_s = math.inf
        self._since_s = -math.inf
        self._recent_s: deque[float] = deque(maxlen=200)

    @property
    def least_s(self) -> float:
        return min(self._least_s, self._earlier_s)

    def add(self, delay_s: float, arrived_s: float) -> None:
        if arrived_s - self._since_s > STRETCHES * STRETCH_S:
            self._earlier_s, self._least_s, self._since_s = self._least_s, math.inf, arrived_s
        self._least_s = min(self._least_s, delay_s)
        self._recent_s.append(delay_s)

    def clear(self) -> bool:
        """Say whether the least delay is that of several chunks, and not the luck of one."""
        return sum(delay_s <= self.least_s + CLEAR_S for delay_s in self._recent_s) >= CLEAR_CHUNKS


class Stream:
    """One stretch of measuring, from start to stop.

    The delay of a chunk is the time it came at less the time that its samples took. Samples that are lost make all
    delays after them grow, by 10 us each; queues and a busy host make single ones grow. So one chunk that comes as
    early as any before proves that nothing was lost until it, but for 100 samples (``STEADY_S``) in exact multiples
    of 64.
    """

    def __init__(self) -> None:
        self._framer = Framer()
        self._settling_bytes = 0
        self._settled = False
        self._delay = Delay()
        self._held: list[Words | int] = []
        self._held_s = 0.0
        self._after = Delay()
        self._least_s = math.inf
        self._stretches_s: list[float] = []
        self._stretch_s = self._heard_s = 0.0
        self.counted = 0
        """Samples so far, lost ones included."""
        self.proven = 0
        """So many of them are all that there were, as far as time can tell."""
        self.latest_start_s: float | None = None
        """The rig time by which the first sample that was given out had begun, None before there is one."""

    @property
    def discarded(self) -> int:
        """Return how many bytes belonged to no word, those of the settling not counted."""
        return self._framer.discarded - self._settling_bytes

    def feed(self, data: bytes, arrived_s: float) -> list[Words | Lost]:
        """Return what *data*, which came at rig time *arrived_s*, adds; after a loss only once its size is known."""
        pieces: list[Words | Lost] = []
        for piece in self._framer.feed(data):
            pieces += self._count(piece, arrived_s)
        self._heard_s = arrived_s
        if self.counted < SETTLING // 2:  # bytes from before have come at once, which no new sample does
            return pieces
        delay_s = arrived_s - self.counted * INTERVAL_S
        self._least_s = min(self._least_s, delay_s)
        if self._held:
            self._after.add(delay_s, arrived_s)
            return pieces + (self._decide() if arrived_s - self._held_s >= DECISION_S else [])
        if self.latest_start_s is None or delay_s <= self._delay.least_s + STEADY_S:
            self._prove(delay_s)
        elif arrived_s - self._stretch_s >= STRETCH_S:
            self._stretches_s.append(self._least_s)
            self._stretch_s, self._least_s = arrived_s, math.inf
            if len(self._stretches_s) == STRETCHES:
                pieces += self._doubt()
        return pieces

    def finish(self) -> list[Words | Lost]:
        """Return what was kept back, when no more bytes come."""
        if self._held:
            return self._decide()
        return self._doubt() if len(self._stretches_s) >= LEAST_STRETCHES else []

    def _count(self, piece: Words | int, arrived_s: float) -> list[Words | Lost]:
        if not self._settled:
            return self._settle(piece)
        if isinstance(piece, int):
            if not self._held:
                self._held_s, self._least_s, self._after = arrived_s, math.inf, Delay()
            self.counted += piece
            self._held.append(piece)
            return []
        self.counted += len(piece)
        if self._held:
            self._held.append(piece)
            return []
        return [piece]

    def _settle(self, piece: Words | int) -> list[Words | Lost]:
        """Leave the first samples out. Where words do not count on, what came before was from before the start."""
        self._settling_bytes = self._framer.discarded
        if isinstance(piece, int):
            self.counted, self._delay = 0, Delay()
            return []
        kept = piece[max(SETTLING - self.counted, 0) :]
        self.counted += len(piece)
        self._settled = self.counted >= SETTLING
        return [kept] if len(kept) else []

    def _prove(self, delay_s: float) -> None:
        self._delay.add(delay_s, self._heard_s)
        if self._settled and self.latest_start_s is None:
            self.latest_start_s = self._delay.least_s + SETTLING * INTERVAL_S
        self.proven, self._least_s = self.counted, math.inf
        self._stretches_s, self._stretch_s = [], self._heard_s

    def _decide(self) -> list[Words | Lost]:
        """Say how many samples each of the losses held back was, and give out what was held with them."""
        growth_s = self._least_s - self._delay.least_s
        wraps = max(round(growth_s / WRAP_S), 0) if math.isfinite(growth_s) else 0
        # Of several losses together nothing tells which one was the longer.
        alone = not wraps or sum(isinstance(piece, int) for piece in self._held) == 1
        clear = self._delay.clear() and self._after.clear() and abs(growth_s - wraps * WRAP_S) <= CLEAR_S
        held, self._held = self._held, []
        extra = self._add(wraps)
        pieces: list[Words | Lost] = []
        for piece in held:
            if isinstance(piece, int):
                pieces.append(Lost(piece + extra, certain=alone and clear))
                extra = 0
            else:
                pieces.append(piece)
        return pieces

    def _doubt(self) -> list[Words | Lost]:
        """Return the samples by which all has come too late since the last proof, unless it was just the host."""
        self._least_s = min(self._stretches_s)
        growth_s = self._least_s - self._delay.least_s
        agree = max(self._stretches_s) - self._least_s < AGREEMENT * growth_s
        wraps = round(growth_s / WRAP_S) if agree else 0
        lost = self._add(wraps)
        return [Lost(lost, certain=False, silent=True)] if lost else []

    def _add(self, wraps: int) -> int:
        self.counted += wraps * COUNTER_MODULUS
        self._prove(self._least_s - wraps * WRAP_S)
        return wraps * COUNTER_MODULUS
