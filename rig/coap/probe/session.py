"""CoAP messages through a raw DTLS session: any bytes in, and exactly what came back."""

import itertools
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from rig.coap.probe.wire import Wire
from rig.dtls import coap
from rig.dtls.alerts import FATAL, Alert
from rig.dtls.client import CLOSE_NOTIFY, Client, Refused, Silence
from rig.dtls.coap import Message, OptionNumber, Options, Type
from rig.dtls.contents import ApplicationData
from rig.dtls.conversation import Script, Send
from rig.dtls.wire import DecodeError

RETRANSMIT_S = 2.0
_message_ids = itertools.count(secrets.randbelow(0x8000))


@dataclass(frozen=True)
class NotCoap:
    """Application data that is no CoAP message, and why."""

    data: bytes
    reason: str


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
    number = next(_message_ids) & 0xFFFF if message_id is None else message_id
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
        self._on_repeat = on_repeat
        self._unasked: deque[Message | NotCoap] = deque()
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
        self.wire.run(self.client.send_each(*(self.client.application_data(_bytes(one)) for one in messages)))

    def hear(self, for_s: float) -> tuple[Message | NotCoap, ...]:
        """Return all messages that come within *for_s* seconds, and those that came before and nobody asked for."""
        self.wire.run(self._collect(for_s))
        return self._taken()

    def hear_one(self, within_s: float = 5.0) -> Message | NotCoap:
        """Return the next message; raises :class:`rig.dtls.client.Silence`."""
        if not self._unasked:
            self._unasked.append(read_message(self.wire.run(self.client.answer(within_s))))
        return self._unasked.popleft()

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

    def _collect(self, for_s: float) -> Script[None]:
        for received in (yield from self.client.listen(for_s)):
            if isinstance(received.content, ApplicationData):
                self._unasked.append(read_message(received.content.data))

    def _exchange(self, message: Message, within_s: float) -> Script[Message]:
        now_s = (yield Send()).t_s
        end_s, sent = now_s + within_s, self.client.application_data(message.encode())
        while now_s < end_s:
            yield from self.client.send(sent)
            answer = yield from self._answer_until(message, min(end_s, now_s + RETRANSMIT_S))
            if answer is not None:
                return answer
            now_s = (yield Send()).t_s
            if now_s >= end_s or message.type != Type.CON:
                break
            self._on_repeat(f"request {message.code_text} {message.path} was sent again: no answer")
        raise Silence(f"no answer to {message.code_text} {message.path} within {within_s:g} s")

    def _answer_until(self, message: Message, end_s: float) -> Script[Message | None]:
        """Wait for the answer to *message*; None at *end_s*."""
        while (left_s := end_s - (yield Send()).t_s) > 0:
            try:
                came = read_message((yield from self.client.answer(left_s)))
            except Silence:
                return None
            if isinstance(came, Message) and _answers(came, message):
                if came.type == Type.CON:
                    ack = Message(Type.ACK, coap.EMPTY, came.message_id).encode()
                    yield from self.client.send(self.client.application_data(ack))
                return came
            if not (isinstance(came, Message) and _is_empty_ack(came, message)):
                self._unasked.append(came)
        return None


def _bytes(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.encode()


def _answers(came: Message, asked: Message) -> bool:
    """RFC 7252 4.2 and 5.3.2: RST and piggybacked response match the Message ID, a response the token too."""
    if came.type == Type.RST:
        return came.message_id == asked.message_id
    if came.code == coap.EMPTY or came.token != asked.token:
        return False
    return came.type != Type.ACK or came.message_id == asked.message_id


def _is_empty_ack(came: Message, asked: Message) -> bool:
    return came.type == Type.ACK and came.code == coap.EMPTY and came.message_id == asked.message_id
