"""From a PPK2's bytes and the times they came at to samples with every lost one counted. No port here."""

from dataclasses import dataclass

from rig.meter.ppk2_words import COUNTER_MODULUS, INTERVAL_S, Framer, Words

#: Samples at the start that are never used: bytes from before may come first, and nothing tells them from new ones.
SETTLING = 10_000
#: After a loss so much time is looked at to tell how many times 64 samples it was.
DECISION_S = 0.25
#: Over so long the earliest arrival is sought, which is the one that no queue on its way delayed.
WINDOW_S = 2.0
#: The shortest window that still says something, where the stream ends before a whole one.
LEAST_WINDOW_S = 0.25
#: How far the delay may seem to grow within two windows while nothing was lost: queues, and the crystal's drift.
STEADY_S = 1e-3
#: How far from a multiple of 64 samples a delay may be and still count as that multiple.
CLEAR_S = 2e-4

WRAP_S = COUNTER_MODULUS * INTERVAL_S


@dataclass(frozen=True)
class Lost:
    """So many samples are missing.

    The counter wraps every 64 samples: how often it did is told from the time. Not ``certain``: the time left it open.
    ``silent``: the counter showed nothing, and the place is known to ``WINDOW_S`` only.
    """

    count: int
    certain: bool
    silent: bool = False


class Stream:
    """One stretch of measuring, from start to stop.

    The delay of a chunk is the time it came at less the time that its samples took. Samples that are lost make all
    delays grow, by 10 us each; queues make single ones grow. So the least delay of a stretch tells how many were lost:
    fewer than 100 in exact multiples of 64 stay hidden behind ``STEADY_S``.
    """

    def __init__(self) -> None:
        self._framer = Framer()
        self._counted = 0
        self._settled = False
        self._held: list[Words | int] = []
        self._least_s: float | None = None
        self._before_s: float | None = None
        self._since_s: float | None = None
        self.latest_start_s: float | None = None
        """The rig time by which the first sample that was given out had begun, None before there is one."""
        self._settling_bytes = 0

    @property
    def discarded(self) -> int:
        """Return how many bytes belonged to no word, those of the settling not counted."""
        return self._framer.discarded - self._settling_bytes

    def feed(self, data: bytes, arrived_s: float) -> list[Words | Lost]:
        """Return what *data*, which came at rig time *arrived_s*, adds; after a loss only once its size is known."""
        pieces: list[Words | Lost] = []
        for piece in self._framer.feed(data):
            pieces += self._count(piece, arrived_s)
        self._observe(arrived_s)
        return pieces + self._close(arrived_s, DECISION_S if self._held else WINDOW_S)

    def finish(self, now_s: float) -> list[Words | Lost]:
        """Return what was kept back, when no more bytes come."""
        return self._close(now_s, 0.0 if self._held else LEAST_WINDOW_S)

    def _count(self, piece: Words | int, arrived_s: float) -> list[Words | Lost]:
        if not self._settled:
            return self._settle(piece)
        if isinstance(piece, int):
            if not self._held:
                self._restart(arrived_s)
            self._counted += piece
            self._held.append(piece)
            return []
        self._counted += len(piece)
        if self._held:
            self._held.append(piece)
            return []
        return [piece]

    def _settle(self, piece: Words | int) -> list[Words | Lost]:
        """Leave the first samples out. Where words do not count on, what came before was from before the start."""
        self._settling_bytes = self._framer.discarded
        if isinstance(piece, int):
            self._counted, self._least_s, self._since_s = 0, None, None
            return []
        kept = piece[max(SETTLING - self._counted, 0) :]
        self._counted += len(piece)
        self._settled = self._counted >= SETTLING
        return [kept] if len(kept) else []

    def _observe(self, arrived_s: float) -> None:
        delay_s = arrived_s - self._counted * INTERVAL_S
        self._least_s = delay_s if self._least_s is None else min(self._least_s, delay_s)
        if self._since_s is None:
            self._since_s = arrived_s
        if self._settled and self._before_s is None:
            self.latest_start_s = self._least_s + SETTLING * INTERVAL_S

    def _restart(self, arrived_s: float) -> None:
        """Begin a new stretch; the least delay of the last two is what the new one is held against."""
        known = [delay_s for delay_s in (self._before_s, self._least_s) if delay_s is not None]
        self._before_s, self._least_s, self._since_s = min(known, default=None), None, arrived_s

    def _close(self, now_s: float, length_s: float) -> list[Words | Lost]:
        """End the stretch if it is *length_s* long, and say what was lost in it."""
        if self._since_s is None or self._least_s is None or now_s - self._since_s < length_s:
            return []
        growth_s = 0.0 if self._before_s is None else self._least_s - self._before_s
        wraps = max(round(growth_s / WRAP_S), 0) if self._held or growth_s > STEADY_S else 0
        self._counted += wraps * COUNTER_MODULUS
        self._least_s -= wraps * WRAP_S
        pieces = self._decided(wraps, abs(growth_s - wraps * WRAP_S) <= CLEAR_S)
        self._before_s, self._least_s, self._since_s = self._least_s, None, now_s
        return pieces

    def _decided(self, wraps: int, clear: bool) -> list[Words | Lost]:
        held, self._held = self._held, []
        extra = wraps * COUNTER_MODULUS
        if not held:
            return [Lost(extra, certain=False, silent=True)] if extra else []
        # Of several losses together nothing tells which one was the longer.
        certain = clear and (not wraps or sum(isinstance(piece, int) for piece in held) == 1)
        pieces: list[Words | Lost] = []
        for piece in held:
            if isinstance(piece, int):
                pieces.append(Lost(piece + extra, certain))
                extra = 0
            else:
                pieces.append(piece)
        return pieces
