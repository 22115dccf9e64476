"""What a server answers to one ClientHello, as a value. Whatever it offers, the client then leaves it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rig.coap.probe.prober import Prober
from rig.coap.probe.wire import Wire
from rig.dtls.alerts import FATAL, Alert
from rig.dtls.client import MAX_COOKIES, Client, Silence
from rig.dtls.conversation import Script
from rig.dtls.handshake import HandshakeType, HelloVerifyRequest, ServerHello
from rig.dtls.outgoing import Payload
from rig.dtls.records import HEADER_LENGTH, ContentType
from rig.dtls.suites import suite_name

TOGETHER = 3
"""How many hellos are answered at once: fewer than the handshakes that any device under test holds."""
_USER_CANCELED = 90

Answer = HelloVerifyRequest | ServerHello | Alert
Hello = Callable[[Client], Payload]
"""Builds a hello with the client's cookie, if it has one."""


@dataclass(frozen=True)
class HelloAnswer:
    """The first thing that came; None is silence. ``sequence`` is its record's, ``waited_s`` how long it took."""

    content: Answer | None
    sequence: int
    waited_s: float

    @property
    def server_hello(self) -> ServerHello | None:
        """The ServerHello, where one came."""
        return self.content if isinstance(self.content, ServerHello) else None

    def __str__(self) -> str:
        match self.content:
            case None:
                return f"silence for {self.waited_s:.1f} s"
            case HelloVerifyRequest():
                return f"HelloVerifyRequest with a cookie of {len(self.content.cookie)} bytes"
            case Alert():
                return f"alert {self.content.name} ({self.content.level}, {self.content.description})"
            case ServerHello():
                return f"ServerHello of {self.content.version:#06x} with {suite_name(self.content.suite)}"


def first_answer(client: Client, hello: Hello = Client.client_hello) -> Script[HelloAnswer]:
    """Send a hello, again by the client's timers, and return the first answer of any kind."""
    before = len(client.seen)
    kinds: tuple[type[Answer], ...] = (HelloVerifyRequest, ServerHello, Alert)
    try:
        content = yield from client.flight(hello(client), until=kinds)
    except Silence:
        return HelloAnswer(None, 0, client.timers.give_up_s)
    came = next(each for each in client.seen[before:] if each.content is content)
    sent_s = max(each.t_s for each in client.sent if each.t_s <= came.t_s)
    return HelloAnswer(content, came.sequence, came.t_s - sent_s)


def last_answer(client: Client, hello: Hello = Client.client_hello) -> Script[HelloAnswer]:
    """Send a hello, bring the cookies back that are asked for, and return what comes then; leave a handshake begun."""
    for _ in range(MAX_COOKIES):
        answer = yield from first_answer(client, hello)
        if not isinstance(answer.content, HelloVerifyRequest):
            break
    if answer.server_hello is not None:
        yield from leave(client)
    return answer


def leave(client: Client) -> Script[None]:
    """End a handshake that is under way by an alert in clear, so that the device need not hold it."""
    yield from client.send(client.alert(FATAL, _USER_CANCELED))


def answers(probe: Prober, offers: Sequence[tuple[Client, Hello]]) -> list[HelloAnswer]:
    """Return the last answer to each hello; a few are under way at once."""
    found: list[HelloAnswer] = []
    for at in range(0, len(offers), TOGETHER):
        batch = offers[at : at + TOGETHER]
        found += probe.together([(client, last_answer(client, hello)) for client, hello in batch])
    return found


def server_hello_came(wire: Wire) -> bool:
    """Return whether a datagram begins with a ServerHello in clear, whatever version its record says."""
    return any(
        not one.from_client
        and len(one.datagram) > HEADER_LENGTH
        and one.datagram[0] == ContentType.HANDSHAKE
        and one.datagram[HEADER_LENGTH] == HandshakeType.SERVER_HELLO
        for one in wire.transcript.passed
    )
