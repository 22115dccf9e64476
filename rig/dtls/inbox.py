"""The server's handshake messages, put together and in order (RFC 6347 4.2.2, 4.2.3)."""

from dataclasses import dataclass

from rig.dtls.handshake import Fragment, HandshakeType, Message, Reassembler

_WITHOUT_ORDER = (HandshakeType.HELLO_VERIFY_REQUEST, HandshakeType.HELLO_REQUEST)


@dataclass(frozen=True)
class Place:
    """The record that brought the last byte of a message."""

    t_s: float
    epoch: int
    sequence: int


@dataclass(frozen=True)
class Delivery:
    """A message whose turn it is; ``repeated`` if that had been so before."""

    place: Place
    message: Message
    repeated: bool


class Inbox:
    """Collects the messages of one handshake.

    The numbers of a server that keeps no state begin where it likes: HelloVerifyRequest and the first ServerHello are
    taken with the number that they have, and the order is kept from there on.
    """

    def __init__(self) -> None:
        self._reassembler = Reassembler()
        self._next = 0
        self._started = False
        self._last_request: bytes | None = None
        self._held: dict[int, Delivery] = {}

    def add(self, fragment: Fragment, place: Place) -> tuple[Delivery, ...]:
        """Take one fragment in; return the messages whose turn has come, most often one or none."""
        message = self._reassembler.add(fragment)
        if message is None:
            return ()
        if message.kind in _WITHOUT_ORDER:
            return (self._out_of_order(message, place),)
        if message.kind == HandshakeType.SERVER_HELLO and not self._started:
            self._started, self._next = True, message.message_seq
        if message.message_seq < self._next:
            return (Delivery(place, message, repeated=True),)
        self._held.setdefault(message.message_seq, Delivery(place, message, repeated=False))
        return tuple(self._due())

    def _out_of_order(self, message: Message, place: Place) -> Delivery:
        if message.kind == HandshakeType.HELLO_REQUEST:
            return Delivery(place, message, repeated=False)
        repeated = message.body == self._last_request
        self._last_request = message.body
        if not self._started:
            self._next = message.message_seq + 1
        return Delivery(place, message, repeated)

    def _due(self) -> list[Delivery]:
        due = []
        while self._next in self._held:
            due.append(self._held.pop(self._next))
            self._next += 1
        return due
