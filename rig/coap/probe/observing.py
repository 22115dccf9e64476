"""Observations of a raw session (RFC 7641): what is acknowledged, rejected or left alone is the test's choice."""

from rig.coap.probe.session import NotCoap, ProbeSession, request
from rig.dtls import coap
from rig.dtls.client import Silence
from rig.dtls.coap import Message, OptionNumber, Type, uint
from rig.errors import DeviceError

REGISTER, DEREGISTER = 0, 1
NOTIFICATION_S = 5.0


class NotObserved(DeviceError):
    """The device does not take a registration for a resource that can be observed by its declaration."""


class Observation:
    """One observation in a session. ``first`` is the response to the registration."""

    def __init__(self, session: ProbeSession, path: str) -> None:
        self.path = path
        self.session = session
        registration = request(coap.GET, path, options=_observe(REGISTER))
        self.token = registration.token
        self.first = session.ask(registration)
        if self.first.code_text != "2.05" or self.first.observe is None:
            value = "without Observe" if self.first.observe is None else f"with Observe {self.first.observe}"
            raise NotObserved(f"{path} cannot be observed: the registration is answered {self.first.code_text} {value}")

    def next(self, within_s: float = NOTIFICATION_S, *, acknowledge: bool = True) -> Message:
        """Return the next message with the observation's token that is no copy; raises `Silence`.

        What else comes is acknowledged, and kept for whoever asks for it.
        """
        message = self.session.hear_for(self.is_own, within_s)
        if message.type == Type.CON and acknowledge:
            self.acknowledge(message)
        return message

    def until(self, payload: bytes, within_s: float = NOTIFICATION_S) -> tuple[Message, ...]:
        """Acknowledge notifications until one tells *payload*; return them all. Raises `Silence`."""
        found: list[Message] = []
        while not found or found[-1].payload != payload:
            try:
                found.append(self.next(within_s))
            except Silence as silence:
                told = ", ".join(one.payload.decode(errors="replace") for one in found) or "nothing"
                raise Silence(f"no notification of {self.path} tells {payload!r}; told was {told}") from silence
        return tuple(found)

    def acknowledge(self, notification: Message) -> None:
        """Acknowledge a confirmable notification."""
        self.session.tell(Message(Type.ACK, coap.EMPTY, notification.message_id))

    def reject(self, notification: Message) -> None:
        """Answer a notification with a Reset (RFC 7641 3.6)."""
        self.session.tell(Message(Type.RST, coap.EMPTY, notification.message_id))

    def cancel(self) -> Message:
        """Deregister by a GET with Observe 1 (RFC 7641 3.6); return its response."""
        return self.session.ask(request(coap.GET, self.path, options=_observe(DEREGISTER), token=self.token))

    def is_own(self, message: Message | NotCoap) -> bool:
        """Whether this is a notification or another response under the observation's token."""
        return isinstance(message, Message) and message.code != coap.EMPTY and message.token == self.token


def _observe(value: int) -> coap.Options:
    return ((OptionNumber.OBSERVE, uint(value)),)
