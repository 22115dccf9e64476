"""A scriptable DTLS 1.2 client. It sends nothing by itself: its verbs are pieces of a script.

An orderly client is one line, ``yield from client.handshake()``. Anything else reads like RFC 6347 figure 1:

    yield from client.send(client.client_hello())                # ClientHello           -->
    yield from client.expect(HelloVerifyRequest)                 #                       <--   HelloVerifyRequest
    yield from client.send(client.client_hello())                # ClientHello (cookie)  -->
    yield from client.expect(ServerHelloDone)                    #                       <--   ServerHello ... Done
    key_exchange, change, finished = client.last_flight()
    yield from client.send_each(finished, change, key_exchange)  # in the wrong order    -->
    yield from client.expect(Finished)                           #                       <--   CCS, Finished
"""

from dataclasses import dataclass
from typing import TypeVar

from rig.dtls.alerts import FATAL, WARNING, Alert
from rig.dtls.connection import Connection
from rig.dtls.contents import ApplicationData, Finished, Received, ServerHelloDone
from rig.dtls.conversation import Moment, Script, Send, Wait
from rig.dtls.handshake import HelloVerifyRequest
from rig.dtls.outgoing import OutgoingRecord, Payload
from rig.errors import DeviceError

CLOSE_NOTIFY = 0
MAX_COOKIES = 3
LAG_S = 1.0
"""What came in time may be read so much later; beyond it a peer that never pauses does not keep a script waiting."""

Sendable = Payload | OutgoingRecord | bytes
T = TypeVar("T")

_ANSWERS: tuple[type[HelloVerifyRequest | ServerHelloDone | Finished], ...] = (
    HelloVerifyRequest,
    ServerHelloDone,
    Finished,
)


class Silence(DeviceError):
    """What a script waited for did not come."""


class Refused(DeviceError):
    """The server ended the session with an alert."""

    def __init__(self, alert: Alert, awaited: str) -> None:
        super().__init__(f"the server answers with alert {alert.name} ({alert.description}); awaited was {awaited}")
        self.alert = alert


class NotVerified(DeviceError):
    """The server has not proved that it holds its key, or it counted other messages than the client."""


@dataclass(frozen=True)
class Timers:
    """When a flight is sent again (RFC 6347 4.2.4.1), and when the server is given up."""

    first_s: float = 1.0
    longest_s: float = 60.0
    give_up_s: float = 15.0


class Client(Connection):
    """A `Connection` with the verbs of scripts."""

    timers = Timers()
    final_flight: tuple[Payload, ...] = ()
    """What is sent again whenever the server repeats its Finished (RFC 6347 4.2.4): the end of a resumed handshake."""

    def send(self, *parts: Sendable) -> Script[None]:
        """Send the parts in one datagram, each in a record of its own; bytes go as they are."""
        yield from self._send((self._encoded(*parts),))

    def send_each(self, *parts: Sendable) -> Script[None]:
        """Send each part in a datagram of its own."""
        yield from self._send(tuple(self._encoded(part) for part in parts))

    def expect(self, *kinds: type[T], within_s: float = 5.0) -> Script[T]:
        """Wait for content of one of these types, past everything else, and return it.

        Repeated handshake messages do not count. `Refused` on an alert that ends the session and is not awaited,
        `Silence` after *within_s* seconds.
        """
        awaited = " or ".join(kind.__name__ for kind in kinds)
        end_s = (yield Send()).t_s + within_s
        found = yield from self._until(kinds, awaited, end_s)
        if found is None:
            came = ", ".join(received.name for received in self.seen) or "nothing"
            raise Silence(f"no {awaited} within {within_s:g} s; came: {came}")
        return found

    def listen(self, for_s: float) -> Script[tuple[Received, ...]]:
        """Return all that comes within *for_s* seconds, and what no `expect` had looked at."""
        end_s = (yield Send()).t_s + for_s
        while (yield from self._wait(end_s)):
            pass
        heard = tuple(self.unread)
        self.unread.clear()
        return heard

    def flight(self, *parts: Payload, until: tuple[type[T], ...]) -> Script[T]:
        """Send a flight in one datagram, and again by the timers, until an answer of one of these types comes.

        Each copy has the same messages in records with new sequence numbers.
        """
        awaited = " or ".join(kind.__name__ for kind in until)
        start_s, wait_s = (yield Send()).t_s, self.timers.first_s
        give_up_s = start_s + self.timers.give_up_s
        now_s = start_s
        while now_s < give_up_s:
            yield from self.send(*parts)
            found = yield from self._until(until, awaited, min(now_s + wait_s, give_up_s))
            if found is not None:
                return found
            now_s, wait_s = now_s + wait_s, min(2 * wait_s, self.timers.longest_s)
        raise Silence(f"no {awaited} within {self.timers.give_up_s:g} s, in spite of retransmissions")

    def hello(self) -> Script[ServerHelloDone | Finished]:
        """Say hello until the server's flight is there: it ends with Finished if the session was resumed."""
        for _ in range(MAX_COOKIES):
            answer = yield from self.flight(self.client_hello(), until=_ANSWERS)
            if not isinstance(answer, HelloVerifyRequest):
                return answer
        raise Silence(f"the server asked for a cookie {MAX_COOKIES} times")

    def handshake(self) -> Script[None]:
        """Do what RFC 6347 figures 1 and 2 show, in good order."""
        answer = yield from self.hello()
        if isinstance(answer, ServerHelloDone):
            yield from self.flight(*self.last_flight(), until=(Finished,))
        else:
            self.final_flight = self.change_cipher_spec(), self.finished()
            yield from self.send(*self.final_flight)
        if self.server_signed is False:
            raise NotVerified("the server's ServerKeyExchange is not signed with the key of its certificate")
        if not self.server_verified:
            raise NotVerified("the server's Finished does not fit the handshake")

    def ask(self, data: bytes, within_s: float = 5.0) -> Script[bytes]:
        """Send application data and return the next that comes protected; nothing is sent again."""
        yield from self.send(self.application_data(data))
        return (yield from self.answer(within_s))

    def answer(self, within_s: float = 5.0) -> Script[bytes]:
        """Return the next application data that comes protected."""
        return (yield from self.expect(ApplicationData, within_s=within_s)).data

    def close(self, within_s: float = 1.0) -> Script[bool]:
        """Say close_notify; return whether the server says it too."""
        yield from self.send(self.alert(WARNING, CLOSE_NOTIFY))
        try:
            return (yield from self.expect(Alert, within_s=within_s)).description == CLOSE_NOTIFY
        except Silence:
            return False

    def _encoded(self, *parts: Sendable) -> bytes:
        return b"".join(part if isinstance(part, bytes) else self.datagram(part) for part in parts)

    def _send(self, datagrams: tuple[bytes, ...]) -> Script[None]:
        moment = yield Send(datagrams)
        self.sent += [Moment(moment.t_s, datagram) for datagram in datagrams]

    def _until(self, kinds: tuple[type[T], ...], awaited: str, end_s: float) -> Script[T | None]:
        """Return the first new content of one of these types, or None at *end_s*."""
        while True:
            while self.unread:
                received = self.unread.popleft()
                if isinstance(received.content, kinds) and not received.repeated:
                    return received.content
                if isinstance(received.content, Alert) and _ends_session(received.content):
                    raise Refused(received.content, awaited)
            if not (yield from self._wait(end_s)):
                return None

    def _wait(self, end_s: float) -> Script[bool]:
        """Wait for one datagram; False at *end_s*."""
        now_s = (yield Send()).t_s
        if now_s > end_s + LAG_S:
            return False
        moment: Moment = yield Wait(max(0.0, end_s - now_s))
        if moment.datagram is None:
            return False
        came = self.receive(moment.t_s, moment.datagram)
        if self.final_flight and any(each.repeated and isinstance(each.content, Finished) for each in came):
            yield from self.send(*self.final_flight)
        return True


def _ends_session(alert: Alert) -> bool:
    return alert.level == FATAL or alert.description == CLOSE_NOTIFY
