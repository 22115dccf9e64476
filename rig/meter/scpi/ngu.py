"""What is odd about Rohde & Schwarz's NGU and NGM: FastLog.

Every 250 ms a slot of voltage and current pairs is published and takes the place of the one before, fetched or not
(Rohde-Schwarz/Examples, RSInstrument_NGM200_FastLog.py). So slots are fetched by a thread that does nothing else.
Nothing in the data says that one was missed: whether one can have been is told by the times at which the rig looked.
When sampling began is not told either: some time after the command, and not later than the first slot's arrival allows.

Sample rates have names (S500K); what came between two rates is taken at the faster one. Values at the slower rates are
taken to be means over the sample interval.

Ranging by itself, the instrument does not say which range a sample was taken on. The range named is the widest that its
amplitude, and those shortly before it, allow (:mod:`rig.meter.scpi.ranging`). Means over longer intervals would hide
what was needed in them, so that such a capture is taken at 50 kSa/s at least. Where nobody knows how long the
instrument stays on a wider range (NGM) it is judged by the widest throughout. On a fixed range there is no such doubt.
"""

import math
import re
import threading
import time
from collections import deque

import numpy as np

from rig.clock import now_s
from rig.meter.acquisition import Block, CapturePlan, Conclusion, Drained
from rig.meter.protocol import MeterError, Settings, Trigger
from rig.meter.scpi.meter import ScpiMeter
from rig.meter.scpi.ranging import WidestPossible
from rig.meter.visa import compound

RATES = {100: "S100", 1_000: "S001K", 10_000: "S010K", 50_000: "S050K", 250_000: "S250K", 500_000: "S500K"}
SLOT_S = 0.25
#: FastLog data is available: bit of STATus:OPERation:INSTrument:ISUMmary<channel>.
AVAILABLE = 1 << 12
#: How often the rig looks for a slot.
LOOK_S = 0.02
#: Slots that may wait to be written, 40 MB at the full rate: a disk may take ten seconds.
MOST_WAITING = 40
#: The first slot is there after its time and at most this.
START_UP_S = 3.0
#: Up to this interval the amplitude of a mean tells the range.
TELLING_INTERVAL_S = 20e-6
#: What a reading beyond the range, which is not a number here, is called from here on (SCPI-99 7.2.1.5).
INFINITY = 9.9e37


class Ngu(ScpiMeter):
    """An NGU or NGM: it feeds the board and measures what it gives."""

    def acquisition(self, plan: CapturePlan) -> "FastLogAcquisition":
        return FastLogAcquisition(self, plan)

    def ranges_of(self, ranges_a: tuple[float, ...], interval_s: float) -> tuple[float, ...]:
        return super().ranges_of(ranges_a, interval_s) if self.declaration.ranging_settles_s is None else ranges_a

    def _sampling(
        self,
        range_a: float | None,
        interval_s: float,
        count: int | None,  # noqa: ARG002
        pretrigger: int,  # noqa: ARG002
        trigger: Trigger,  # noqa: ARG002
    ) -> Settings:
        if range_a is None and self.declaration.ranging_settles_s is not None:
            interval_s = min(interval_s, TELLING_INTERVAL_S)
        rate = next((hz for hz in RATES if interval_s * hz >= 1 - 1e-9), max(RATES))
        self.group("sampling", *self.declaration.commands.sampling, f"FLOG:SRAT {RATES[rate]}")
        taken_s = 1 / rate_hz(self.session.query("FLOG:SRAT?"))
        return Settings(range_a, taken_s, taken_s)


def rate_hz(name: str) -> int:
    """Return the samples per second of a rate's name, such as S500K or S001k.

    Raises:
        MeterError: it is none.
    """
    match = re.fullmatch(r"S(\d+)([kK]?)", name.strip())
    if not match or not int(match[1]):
        raise MeterError(f"FastLog sample rate {name!r} is not a rate that is known")
    return int(match[1]) * (1000 if match[2] else 1)


class FastLogAcquisition:
    """FastLog over SCPI; see ``rig.meter.acquisition.Acquisition``."""

    poll_s = 0.05

    def __init__(self, meter: Ngu, plan: CapturePlan) -> None:
        self._meter = meter
        self._session = meter.session
        self._plan = plan
        settles_s = meter.declaration.ranging_settles_s or 0.0
        self._ranger = WidestPossible(plan.ranges_a, math.ceil(settles_s / plan.interval_s), top_first=True)
        self._slots = SlotCount(SLOT_S)
        self._reader = threading.Thread(target=self._read, name="fastlog", daemon=True)
        self._stop = threading.Event()
        self._waiting: deque[Block] = deque()
        self._failure: MeterError | None = None
        self._received = 0

    def start(self) -> tuple[float, float]:
        """Start FastLog and wait for its first slot; see ``rig.meter.acquisition.Acquisition.start``."""
        commands = self._meter.declaration.commands.start
        self._status()  # what it says of the time before is not about this capture
        before_s = now_s()
        self._session.query(compound(*commands, "STAT:OPER:INST:ISUM1:EVEN?"))
        self._slots.empty(before_s)
        refused = self._session.drain_errors("starting")
        if refused:
            raise MeterError(f"{self._meter.where}: refused the capture: {'; '.join(refused)}")
        while (first := self._look()) is None:
            if now_s() > before_s + SLOT_S + START_UP_S:
                raise MeterError(f"{self._meter.where}: FastLog runs and gives nothing: is its option installed?")
            time.sleep(LOOK_S)
        latest_s = now_s() - len(first.current_a) * self._plan.interval_s
        self._waiting.append(first)
        self._reader.start()
        return before_s, latest_s

    def drain(self) -> Drained:
        ended = self._stop.is_set()
        blocks = []
        while self._waiting and not self._complete:
            blocks.append(self._cut(self._waiting.popleft()))
        if self._failure is not None and not blocks:
            raise self._failure
        if self._complete and not ended:
            self.abort()
        return Drained(blocks, finished=ended or self._complete)

    def conclude(self, received: int) -> Conclusion:
        reasons = self._status()
        self._session.drain_errors("capture")
        if self._plan.count is not None and received < self._plan.count:
            reasons.append(f"{received} samples instead of {self._plan.count}")
        return Conclusion(tuple(reasons), None)

    def abort(self) -> None:
        """Stop FastLog; the slot that is being filled is not recorded."""
        self._stop.set()
        if self._reader.is_alive():
            self._reader.join()
        self._session.command("aborting", *self._meter.declaration.commands.abort)

    def _read(self) -> None:
        """Fetch every slot in time, whatever the writing of those before is waiting for."""
        try:
            while not self._stop.wait(LOOK_S):
                if len(self._waiting) < MOST_WAITING and (block := self._look()) is not None:
                    self._waiting.append(block)
        except MeterError as error:
            self._failure = error

    @property
    def _complete(self) -> bool:
        return self._plan.count is not None and self._received >= self._plan.count

    def _status(self) -> list[str]:
        status = self._meter.declaration.status
        assert status is not None
        condition, event = self._session.query_integers(*status.queries)
        return status.reasons(condition | event)

    def _look(self) -> Block | None:
        """Return the slot that is there, None when there is none."""
        before_s = now_s()
        payload = b""
        if self._session.query_integers("STAT:OPER:INST:ISUM1:EVEN?")[0] & AVAILABLE:
            before_s = now_s()
            payload = self._session.query_block("FLOG:DATA?")
        if not payload:
            self._slots.empty(before_s)
            return None
        lost = self._slots.taken(before_s, now_s()) * round(SLOT_S / self._plan.interval_s)
        pairs = np.frombuffer(payload, "<f4").reshape(-1, 2)
        current = np.where(np.isnan(pairs[:, 1]), np.float32(INFINITY), pairs[:, 1])
        return Block(current, pairs[:, 0], lost=lost)

    def _cut(self, block: Block) -> Block:
        """Return *block* without what comes after the last sample wanted, its ranges named."""
        end = len(block.current_a)
        if self._plan.count is not None:
            end = max(min(end, self._plan.count - self._received - block.lost), 0)
        self._received += block.lost + end
        current = block.current_a[:end]
        assert block.voltage_v is not None
        return Block(current, block.voltage_v[:end], block.lost, self._ranger.changes(current))


class SlotCount:
    """Tells by the times at which the rig looked how many slots may have been overwritten before it fetched one.

    Where that is not certain, the larger number is right for a capture that is to be trusted.
    """

    #: A slot is not shorter than its nominal time by more than this share.
    DRIFT = 1e-3
    #: The part of a slot by which its publication may be late.
    JITTER = 0.3

    def __init__(self, slot_s: float) -> None:
        self._slot_s = slot_s
        self._empty_s = self._taken_s = -math.inf
        self._published_s: float | None = None

    def empty(self, before_s: float) -> None:
        """Take note that at *before_s* or later there was no slot to fetch."""
        self._empty_s = before_s

    def taken(self, before_s: float, after_s: float) -> int:
        """Return how many slots may be missing before the one fetched between the two instants.

        Since there was none, at most so many can have been published; and since the one before was, which is bounded
        on the early side, not more either. Where there was none for longer than a slot, one never came.
        """
        earliest_s, missing = self._empty_s, 0
        if self._published_s is not None:
            since_empty = math.floor((after_s - self._empty_s) / self._slot_s)
            since_last = math.floor((after_s - self._published_s) / self._slot_s) - 1
            never_came = math.ceil((self._empty_s - self._taken_s) / self._slot_s - self.JITTER) - 1
            missing = max(min(since_empty, since_last), never_came, 0)
            earliest_s = max(earliest_s, self._published_s + self._slot_s * (1 - self.DRIFT))
        self._published_s, self._empty_s, self._taken_s = earliest_s, before_s, after_s
        return missing
