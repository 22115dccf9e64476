"""RFC 7252 section 4 for one client: Message IDs, duplicates, acknowledgements, retransmission. Without I/O."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from rig.dtls.coap import EMPTY, PAYLOAD_MARKER, Message, Type, decode
from rig.dtls.wire import DecodeError
from rig.virtual.device.answers import Response
from rig.virtual.device.misbehaviour import Misbehaviour

ACK_TIMEOUT_S = 2.0
ACK_RANDOM_FACTOR = 1.5
MAX_RETRANSMIT = 4
EXCHANGE_LIFETIME_S = 247.0
NON_LIFETIME_S = 145.0

_LONGEST_INTERVAL_FOR_EVER_S = 8.0
_REMEMBERED_REQUESTS = 512
_REMEMBERED_NOTIFICATIONS = 64
_HEADER_BYTES = 4
_WRONG_TOKEN_BYTES = 4


@dataclass
class _Served:
    """A request that was served until its Message ID may come again. ``reply`` is b"" while there is none."""

    until_s: float
    reply: bytes = b""


@dataclass
class _InFlight:
    """A confirmable message that waits for its acknowledgement."""

    datagram: bytes
    message_id: int
    token: bytes
    interval_s: float
    deadline_s: float
    copies: int = 1


class MessageLayer:
    """One client's messages. What is to be sent gathers in ``outbox``.

    ``unwanted`` gathers the tokens of notifications that were rejected, or not acknowledged in time.
    """

    def __init__(self, wrong: Misbehaviour, draws: random.Random, on_duplicate: Callable[[], None]) -> None:
        self.outbox: list[bytes] = []
        self.unwanted: list[bytes] = []
        self._wrong = wrong
        self._draws = draws
        self._on_duplicate = on_duplicate
        self._next_id = draws.randrange(0x10000)
        self._served: dict[int, _Served] = {}
        self._in_flight: _InFlight | None = None
        self._notified: dict[int, bytes] = {}

    @property
    def busy(self) -> bool:
        """Whether a confirmable message is unacknowledged: NSTART is 1 (RFC 7252 4.7)."""
        return self._in_flight is not None

    @property
    def deadline_s(self) -> float | None:
        """When `expire` has something to do."""
        return self._in_flight.deadline_s if self._in_flight else None

    def receive(self, now_s: float, data: bytes) -> Message | None:
        """Take a message in; return it if it is a request that is to be served."""
        message = self._decode(data)
        if message is None:
            return None
        if message.type in (Type.ACK, Type.RST):
            self._conclude(message)
            return None
        if not _is_request(message):
            if message.code != EMPTY or not self._wrong.ping_unanswered:
                self._reject(message)
            return None
        return message if self._is_new(now_s, message) else None

    def respond(self, request: Message, response: Response) -> None:
        """Answer *request*: in the acknowledgement, or non-confirmably as it was asked."""
        head = (Type.ACK, request.message_id) if request.type == Type.CON else (Type.NON, self._new_id())
        reply = self._encode(*head, request.token, response)
        self._served[request.message_id].reply = reply
        self.outbox.append(reply)

    def reject(self, request: Message) -> None:
        """Send a Reset for *request* (RFC 7252 4.2, 4.3)."""
        self._served[request.message_id].reply = _reset(request.message_id)
        self.outbox.append(_reset(request.message_id))

    def notify(self, now_s: float, token: bytes, response: Response, *, confirmable: bool) -> None:
        """Send a response of the device's own accord."""
        message_id = self._new_id()
        kind = Type.CON if confirmable else Type.NON
        self._notified[message_id] = token
        if len(self._notified) > _REMEMBERED_NOTIFICATIONS:
            del self._notified[next(iter(self._notified))]
        datagram = self._encode(kind, message_id, token, response)
        self.outbox.append(datagram)
        if confirmable and not self._wrong.confirmable_untracked:
            interval_s = self._first_interval_s()
            self._in_flight = _InFlight(datagram, message_id, token, interval_s, now_s + interval_s)

    def expire(self, now_s: float) -> None:
        """Send again what was not acknowledged by *now_s*, or give it up."""
        flight = self._in_flight
        if flight is None or now_s < flight.deadline_s:
            return
        if flight.copies > MAX_RETRANSMIT and not self._wrong.retransmits_for_ever:
            self.unwanted.append(flight.token)
            self._in_flight = None
            return
        self.outbox.append(flight.datagram)
        flight.copies += 1
        if not self._wrong.fixed_interval:
            flight.interval_s *= 2
        if self._wrong.retransmits_for_ever:
            flight.interval_s = min(flight.interval_s, _LONGEST_INTERVAL_FOR_EVER_S)
        # From when it was due, not from now: a late tick does not stretch the intervals.
        flight.deadline_s += flight.interval_s

    def _decode(self, data: bytes) -> Message | None:
        """Return the message; RFC 7252 3 and 4.2 say what becomes of one that is none."""
        if len(data) < _HEADER_BYTES:
            return None
        if data[0] >> 6 != 1:
            if not self._wrong.any_coap_version:
                return None
            data = bytes((1 << 6 | data[0] & 0x3F,)) + data[1:]
        try:
            return self._parse(data)
        except DecodeError:
            if data[0] >> 4 & 3 == Type.CON:
                self.outbox.append(_reset(int.from_bytes(data[2:4], "big")))
            return None

    def _parse(self, data: bytes) -> Message:
        try:
            return decode(data)
        except DecodeError:
            if self._wrong.empty_payload_accepted and data[-1] == PAYLOAD_MARKER:
                return decode(data[:-1])
            raise

    def _reject(self, message: Message) -> None:
        """An empty message, a response or a reserved class: only a confirmable one gets a Reset."""
        if message.type == Type.CON:
            self.outbox.append(_reset(message.message_id))

    def _conclude(self, message: Message) -> None:
        """An acknowledgement or a Reset: of the message in flight, of an older notification, or of nothing."""
        if self._in_flight and self._in_flight.message_id == message.message_id:
            self._in_flight = None
        token = self._notified.pop(message.message_id, None)
        if token is not None and message.type == Type.RST and not self._wrong.reset_ignored:
            self.unwanted.append(token)

    def _is_new(self, now_s: float, message: Message) -> bool:
        known = self._served.get(message.message_id)
        if known is not None and now_s < known.until_s and not self._wrong.duplicates_executed:
            self._on_duplicate()
            self._repeat(message, known.reply)
            return False
        lifetime_s = EXCHANGE_LIFETIME_S if message.type == Type.CON else NON_LIFETIME_S
        self._served.pop(message.message_id, None)
        self._served[message.message_id] = _Served(now_s + lifetime_s)
        if len(self._served) > _REMEMBERED_REQUESTS:
            del self._served[next(iter(self._served))]
        return True

    def _repeat(self, message: Message, reply: bytes) -> None:
        if message.type != Type.CON or not reply:
            return
        if self._wrong.duplicates_acknowledged_wrongly:
            wrong_id = (message.message_id + 1) % 0x10000
            reply = replace(decode(reply), message_id=wrong_id).encode()
        self.outbox.append(reply)

    def _encode(self, kind: Type, message_id: int, token: bytes, response: Response) -> bytes:
        if self._wrong.tokens_cut:
            token = token[:_WRONG_TOKEN_BYTES]
        return Message(kind, response.code, message_id, token, response.options, response.payload).encode()

    def _new_id(self) -> int:
        self._next_id = (self._next_id + 1) % 0x10000
        return self._next_id

    def _first_interval_s(self) -> float:
        if self._wrong.fixed_interval or self._wrong.no_jitter:
            return ACK_TIMEOUT_S
        return ACK_TIMEOUT_S * self._draws.uniform(1.0, ACK_RANDOM_FACTOR)


def _is_request(message: Message) -> bool:
    return message.code != EMPTY and message.code >> 5 == 0


def _reset(message_id: int) -> bytes:
    return Message(Type.RST, EMPTY, message_id).encode()
