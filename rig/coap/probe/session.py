"""CoAP messages through a raw DTLS session: any bytes in, and exactly what came back."""

import itertools
import json
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from rig.clock import now_s
from rig.coap.probe.wire import Wire
from rig.dtls import coap
from rig.dtls.alerts import FATAL, Alert
from rig.dtls.client import CLOSE_NOTIFY, Client, Refused, Silence
from rig.dtls.coap import Message, OptionNumber, Options, Type
from rig.dtls.contents import ApplicationData
from rig.dtls.conversation import Script, Send
from rig.dtls.wire import DecodeError
from rig.errors import DeviceError

RETRANSMIT_S = 2.0
ANSWER_S = 0.5
"""How long an answer in the same session is waited for before the message is sent once more."""
_AT_ONCE = 4
"""So many datagrams are sent without a pause: a small device queues six."""
_message_ids = itertools.count(secrets.randbelow(0x8000))


@dataclass(frozen=True)
class NotCoap:
    """Application data that is no CoAP message, and why."""

    data: bytes
    reason: str


@dataclass(frozen=True)
class Said:
    """One message of a session, and when it was sent or read. Bytes where it was not meant to be a message."""

    t_s: float
    from_client: bool
    message: Message | NotCoap | bytes


def next_message_id() -> int:
    """Return a Message ID that was not used before by this process, until all of them were."""
    return next(_message_ids) & 0xFFFF


def request(
    code: int,
    path: str = "",
    *,
    type: Type = Type.CON,
    payload: bytes = b"",
    options: Options = (),
    token: bytes | None = None,
    message_id: int | None = None,
) -> Message:
    """Build a request; *path* is a path with its query as in a URI. Token and Message ID are new unless given."""
    place, _, query = path.partition("?")
    uri = [(int(OptionNumber.URI_PATH), unquote(each).encode()) for each in place.strip("/").split("/") if each]
    uri += [(int(OptionNumber.URI_QUERY), unquote(each).encode()) for each in query.split("&") if each]
    number = next_message_id() if message_id is None else message_id
    return Message(type, code, number, secrets.token_bytes(4) if token is None else token, (*uri, *options), payload)


def read_message(data: bytes) -> Message | NotCoap:
    """Decode a message, or say why it is none."""
    try:
        return coap.decode(data)
    except DecodeError as error:
        return NotCoap(data, str(error))


class ProbeSession:
    """An established session of a raw client on a wire. Messages of the device that nobody asked for are kept.

    ``client`` is free for scripts: ``session.run(script)``.
    """

    def __init__(self, wire: Wire, client: Client, on_repeat: Callable[[str], None]) -> None:
        self.wire = wire
        self.client = client
        self.said: list[Said] = []
        """Every message of the session, in order."""
        self._on_repeat = on_repeat
        self._unasked: deque[Message | NotCoap] = deque()
        self._handed_out: set[int] = set()
        self._closed = False

    @property
    def ended(self) -> bool:
        """Whether the session is over: closed from here, or ended by an alert of the device that was protected."""
        alerts = [one.content for one in self.client.seen if one.epoch and isinstance(one.content, Alert)]
        return self._closed or any(alert.level == FATAL or alert.description == CLOSE_NOTIFY for alert in alerts)

    def run(self, script: Script[object]) -> object:
        """Run a script of the session's client."""
        return self.wire.run(script)

    def tell(self, *messages: Message | bytes) -> None:
        """Send messages, each in a record and a datagram of its own; nothing is waited for."""
        self.wire.run(self._tell(messages))

    def hear(self, for_s: float) -> tuple[Message | NotCoap, ...]:
        """Return all messages that come within *for_s* seconds, and those that came before and nobody asked for."""
        self.wire.run(self._collect(for_s))
        return self._taken()

    def hear_one(self, within_s: float = 5.0) -> Message | NotCoap:
        """Return the next message; raises :class:`rig.dtls.client.Silence`."""
        if not self._unasked:
            self._unasked.append(self._read(self.wire.run(self.client.answer(within_s))))
        return self._unasked.popleft()

    def hear_for(self, wanted: Callable[[Message | NotCoap], bool], within_s: float) -> Message:
        """Return the next message that is *wanted*, past others, which are acknowledged and kept; raises `Silence`.

        A copy of a confirmable message, with a Message ID that came before, is acknowledged and not returned.
        """
        message: Message = self.wire.run(self._hear_for(wanted, within_s))
        return message

    def volley(self, *messages: Message | bytes, within_s: float = ANSWER_S) -> tuple[tuple[Message, ...], ...]:
        """Send messages, a few at a time, and return what came for each.

        That is each ACK and RST with its Message ID, and each other message with its token, if it has one. A
        confirmable message for which nothing comes within *within_s* seconds is sent once more, and the record is
        told so. Whatever else comes is kept.
        """
        came: tuple[tuple[Message, ...], ...] = ()
        for first in range(0, len(messages), _AT_ONCE):
            came += self.wire.run(self._volley([_bytes(one) for one in messages[first : first + _AT_ONCE]], within_s))
        return came

    def ask(self, message: Message, within_s: float = 5.0) -> Message:
        """Send a request and return its response, piggybacked or separate, or the RST.

        A confirmable request is sent again every 2 s, and the record is told so; a separate confirmable response is
        acknowledged. Raises :class:`rig.dtls.client.Silence`.
        """
        answer: Message = self.wire.run(self._exchange(message, within_s))
        return answer

    def get(self, path: str, options: Options = ()) -> Message:
        """GET *path*."""
        return self.ask(request(coap.GET, path, options=options))

    def put(self, path: str, payload: bytes, options: Options = ()) -> Message:
        """PUT *payload* to *path*, which must fit into one message."""
        return self.ask(request(coap.PUT, path, payload=payload, options=options))

    def figure(self, path: str, key: str) -> int:
        """Return a number of the JSON object at *path*; raises DeviceError where there is none."""
        response = self.get(path)
        try:
            return int(json.loads(response.payload)[key])
        except (ValueError, TypeError, KeyError):
            raise DeviceError(
                f"GET {path}: {response.code_text}, and no number {key!r} in {response.payload!r}"
            ) from None

    def close(self, within_s: float = 0.5) -> bool:
        """Say close_notify; return whether the device says it too."""
        self._closed = True
        try:
            closed: bool = self.wire.run(self.client.close(within_s))
        except Refused:
            return False
        return closed

    def _taken(self) -> tuple[Message | NotCoap, ...]:
        taken = tuple(self._unasked)
        self._unasked.clear()
        return taken

    def _tell(self, messages: Sequence[Message | bytes]) -> Script[None]:
        self.said += [Said(now_s(), True, one) for one in messages]
        yield from self.client.send_each(*(self.client.application_data(_bytes(one)) for one in messages))

    def _read(self, data: bytes) -> Message | NotCoap:
        self.said.append(Said(now_s(), False, read_message(data)))
        return read_message(data)

    def _collect(self, for_s: float) -> Script[None]:
        for received in (yield from self.client.listen(for_s)):
            if isinstance(received.content, ApplicationData):
                self._unasked.append(self._read(received.content.data))

    def _hear_for(self, wanted: Callable[[Message | NotCoap], bool], within_s: float) -> Script[Message]:
        end_s = (yield Send()).t_s + within_s
        looked_at = 0
        while True:
            while looked_at < len(self._unasked):
                one = self._unasked[looked_at]
                if not isinstance(one, Message) or not wanted(one):
                    looked_at += 1
                    yield from self._let_go_on(one)
                    continue
                del self._unasked[looked_at]
                if not (yield from self._is_copy(one)):
                    return one
            left_s = end_s - (yield Send()).t_s
            self._unasked.append(self._read((yield from self.client.answer(max(0.0, left_s)))))

    def _let_go_on(self, other: Message | NotCoap) -> Script[None]:
        """Acknowledge a confirmable notification that is not the one: NSTART is 1, and the next one waits for it."""
        if isinstance(other, Message) and other.type == Type.CON and other.code != coap.EMPTY:
            yield from self._tell([Message(Type.ACK, coap.EMPTY, other.message_id)])

    def _is_copy(self, message: Message) -> Script[bool]:
        """Whether a message was handed out before; a confirmable one is then acknowledged."""
        if message.message_id not in self._handed_out:
            self._handed_out.add(message.message_id)
            return False
        if message.type == Type.CON:
            yield from self._tell([Message(Type.ACK, coap.EMPTY, message.message_id)])
        return True

    def _volley(self, messages: Sequence[bytes], within_s: float) -> Script[tuple[tuple[Message, ...], ...]]:
        kept, self._unasked = self._unasked, deque()
        yield from self._tell(messages)
        yield from self._answers(messages, within_s)
        silent = [one for one in messages if _type(one) == Type.CON and not self._came_for(one)]
        if silent:
            self._on_repeat(f"{len(silent)} confirmable messages were sent again: no answer")
            yield from self._tell(silent)
            yield from self._answers(silent, within_s)
        found = tuple(self._came_for(one) for one in messages)
        kept.extend(one for one in self._unasked if not any(one in each for each in found))
        self._unasked = kept
        return found

    def _answers(self, messages: Sequence[bytes], within_s: float) -> Script[None]:
        """Listen until each of *messages* has an answer, or for the whole time where one cannot be waited for."""
        end_s = (yield Send()).t_s + within_s
        while not all(_type(one) == Type.CON and self._came_for(one) for one in messages):
            left_s = end_s - (yield Send()).t_s
            try:
                self._unasked.append(self._read((yield from self.client.answer(max(0.0, left_s)))))
            except Silence:
                return

    def _came_for(self, message: bytes) -> tuple[Message, ...]:
        came = [one for one in self._unasked if isinstance(one, Message)]
        return tuple(one for one in came if _belongs(one, message))

    def _exchange(self, message: Message, within_s: float) -> Script[Message]:
        moment_s = (yield Send()).t_s
        end_s = moment_s + within_s
        while moment_s < end_s:
            yield from self._tell([message])
            answer = yield from self._answer_until(message, min(end_s, moment_s + RETRANSMIT_S))
            if answer is not None:
                return answer
            moment_s = (yield Send()).t_s
            if moment_s >= end_s or message.type != Type.CON:
                break
            self._on_repeat(f"request {message.code_text} {message.path} was sent again: no answer")
        raise Silence(f"no answer to {message.code_text} {message.path} within {within_s:g} s")

    def _answer_until(self, message: Message, end_s: float) -> Script[Message | None]:
        """Wait for the answer to *message*; None at *end_s*."""
        while (left_s := end_s - (yield Send()).t_s) > 0:
            try:
                came = self._read((yield from self.client.answer(left_s)))
            except Silence:
                return None
            if isinstance(came, Message) and _answers(came, message):
                if came.type == Type.CON:
                    yield from self._tell([Message(Type.ACK, coap.EMPTY, came.message_id)])
                return came
            if not (isinstance(came, Message) and _is_empty_ack(came, message)):
                self._unasked.append(came)
        return None


def _bytes(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.encode()


def _type(message: bytes) -> Type:
    return Type(message[0] >> 4 & 3)


def _belongs(came: Message, sent: bytes) -> bool:
    """Whether a message came for what was sent, which may be malformed: its head is read as far as it goes."""
    if came.type in (Type.ACK, Type.RST):
        return came.message_id == int.from_bytes(sent[2:4], "big")
    length = sent[0] & 0x0F
    return bool(came.token) and 0 < length <= coap.MAX_TOKEN_LENGTH and came.token == sent[4 : 4 + length]


def _answers(came: Message, asked: Message) -> bool:
    """RFC 7252 4.2 and 5.3.2: RST and piggybacked response match the Message ID, a response the token too."""
    if came.type == Type.RST:
        return came.message_id == asked.message_id
    if came.code == coap.EMPTY or came.token != asked.token:
        return False
    return came.type != Type.ACK or came.message_id == asked.message_id


def _is_empty_ack(came: Message, asked: Message) -> bool:
    return came.type == Type.ACK and came.code == coap.EMPTY and came.message_id == asked.message_id
