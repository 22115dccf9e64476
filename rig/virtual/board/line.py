"""What a serial line does to bytes: it takes time for them, and at the wrong rate it makes others of them."""

import asyncio
from collections import deque
from collections.abc import Callable

_BITS_A_BYTE = 10  # 8N1
_STEP_S = 0.005
_TOLERANCE = 0.03


class Pacer:
    """Passes bytes on to *deliver* as fast as the line carries them, with the rate they were sent at."""

    def __init__(self, deliver: Callable[[bytes, int], None]) -> None:
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[bytes, int]] = deque()
        self._free_s = 0.0
        self._on_the_line: asyncio.TimerHandle | None = None
        self.backlog_bytes = 0

    def put(self, data: bytes, baud: int) -> None:
        """Send *data* when what was put before has gone."""
        self._queue.append((data, baud))
        self.backlog_bytes += len(data)
        if self._on_the_line is None:
            self._free_s = max(self._free_s, self._loop.time())
            self._step()

    def clear(self) -> None:
        """Forget what has not gone yet."""
        self._queue.clear()
        self.backlog_bytes = 0
        if self._on_the_line is not None:
            self._on_the_line.cancel()
            self._on_the_line = None

    def _step(self) -> None:
        """Take a step's worth from the queue, and deliver it when its last bit is through."""
        data, baud = self._queue.popleft()
        count = max(int(baud / _BITS_A_BYTE * _STEP_S), 1)
        if len(data) > count:
            self._queue.appendleft((data[count:], baud))
        piece = data[:count]
        self._free_s += len(piece) * _BITS_A_BYTE / baud
        self._on_the_line = self._loop.call_at(self._free_s, self._through, piece, baud)

    def _through(self, piece: bytes, baud: int) -> None:
        self._on_the_line = None
        self.backlog_bytes -= len(piece)
        if self._queue:
            self._step()
        self._deliver(piece, baud)


def received(data: bytes, sent_baud: int, read_baud: int) -> bytes:
    """Return what a receiver at *read_baud* makes of *data* sent at *sent_baud*, 8N1, back to back."""
    if abs(sent_baud - read_baud) <= _TOLERANCE * sent_baud:
        return data
    levels = [level for byte in data for level in (0, *(byte >> bit & 1 for bit in range(8)), 1)]
    bit = sent_baud / read_baud  # the length of the receiver's bit, in the sender's bits
    out = bytearray()
    at = 0
    while at < len(levels):
        if levels[at]:
            at += 1
            continue
        samples = (int(at + bit * (1.5 + number)) for number in range(8))
        out.append(sum((levels[s] if s < len(levels) else 1) << number for number, s in enumerate(samples)))
        at = max(int(at + bit * 9.5), at + 1)
    return bytes(out)
