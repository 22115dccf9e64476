"""A client that stops where a test wants it to, for the scriptable server without sockets."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self, TypeVar

import pytest

from rig.dtls import handshake, suites
from rig.dtls.conversation import Conversation, Script
from rig.dtls.handshake import ClientHello, ClientKeyExchange, HandshakeType, Message, ServerHello, parse_fragments
from rig.dtls.misbehaviour import Misbehaviour
from rig.dtls.records import DTLS_1_2, ContentType, Record, parse_datagram
from rig.dtls.server import Event, Received, Send, Server
from rig.dtls.server_session import Settings
from rig.dtls.session import Endpoint
from rig.dtls.suites import CLIENT_FINISHED, SUITES, BadRecord, Protection

T = TypeVar("T")

IDENTITY, PSK = b"me", b"0123456789abcdef"
SERVER: Endpoint = ("127.0.0.2", 5684)
CCM_8 = 0xC0A8
EMS = (23, b"")


class Peer:
    """A client that stops where a test wants it to.

    Verbs return the events of the server; what it sent is in ``heard``, opened where there are keys.
    """

    def __init__(
        self,
        server: Server,
        address: Endpoint = ("127.0.0.1", 40000),
        *,
        identity: bytes = IDENTITY,
        psk: bytes = PSK,
        **hello: Any,
    ) -> None:
        self.server = server
        self.address = address
        self.identity = identity
        self.psk = psk
        self.now_s = 0.0
        fields = {"random": os.urandom(32), "suites": (CCM_8,), "extensions": (EMS,), **hello}
        self.hello = ClientHello(**fields)
        self.sequences = {0: 0, 1: 0}
        self.next_message = 0
        self.transcript = b""
        self.server_hello: ServerHello | None = None
        self.master = b""
        self.keys: tuple[Protection, Protection] | None = None
        self.heard: list[Record] = []

    def give(self, *datagrams: bytes) -> list[Event]:
        return [event for datagram in datagrams for event in self._give(datagram)]

    def wait_until(self, t_s: float) -> list[Event]:
        self.now_s = t_s
        return self.take(self.server.expire(t_s))

    def message(self, kind: HandshakeType, body: bytes) -> bytes:
        encoded = Message(kind, self.next_message, body).encode()
        self.next_message += 1
        self.transcript += encoded
        return encoded

    def clear(self, kind: ContentType, data: bytes) -> bytes:
        return self.record(kind, 0, data)

    def sealed(self, data: bytes, kind: ContentType = ContentType.APPLICATION_DATA, **header: int) -> bytes:
        return self.record(kind, 1, data, **header)

    def record(
        self,
        kind: ContentType,
        epoch: int,
        data: bytes,
        *,
        sequence: int | None = None,
        as_epoch: int | None = None,
        version: int = DTLS_1_2,
    ) -> bytes:
        if sequence is None:
            sequence, self.sequences[epoch] = self.sequences[epoch], self.sequences[epoch] + 1
        header = kind, version, epoch if as_epoch is None else as_epoch, sequence
        if epoch:
            assert self.keys is not None
            data = self.keys[0].seal(*header, data)
        return Record(*header, data).encode()

    def hello_datagram(self, cookie: bytes = b"", message_seq: int | None = None) -> bytes:
        if message_seq is not None:
            self.next_message = message_seq
        body = replace(self.hello, cookie=cookie).encode()
        self.transcript = b""
        return self.clear(ContentType.HANDSHAKE, self.message(HandshakeType.CLIENT_HELLO, body))

    def cookie(self) -> bytes:
        """Say hello, and return the cookie, or nothing if none was asked for."""
        self.give(self.hello_datagram(message_seq=0))
        asked = [each for each in self.messages() if each.kind == HandshakeType.HELLO_VERIFY_REQUEST]
        return handshake.decode_hello_verify_request(asked[-1].body).cookie if asked else b""

    def say_hello(self) -> list[Event]:
        cookie = self.cookie()
        events = [] if not cookie else self.give(self.hello_datagram(cookie))
        flight = [each for each in self.messages() if each.kind != HandshakeType.HELLO_VERIFY_REQUEST]
        if flight:
            self.server_hello = handshake.decode_server_hello(flight[0].body)
            self.transcript += b"".join(message.encode() for message in flight[:3])
        return events

    def last_flight(self) -> tuple[bytes, bytes, bytes]:
        """Return ClientKeyExchange, ChangeCipherSpec and Finished."""
        assert self.server_hello is not None
        suite = SUITES[self.server_hello.suite]
        exchange = self.clear(
            ContentType.HANDSHAKE,
            self.message(HandshakeType.CLIENT_KEY_EXCHANGE, ClientKeyExchange(self.identity).encode()),
        )
        premaster, randoms = suites.psk_premaster(self.psk), (self.hello.random, self.server_hello.random)
        if self.server_hello.extended_master_secret:
            self.master = suites.extended_master_secret(premaster, self.hash(), suite.hash_name)
        else:
            self.master = suites.master_secret(premaster, *randoms, suite.hash_name)
        etm = self.server_hello.encrypt_then_mac
        self.keys = suites.protections(suite, self.master, *randoms, encrypt_then_mac=etm)
        change = self.clear(ContentType.CHANGE_CIPHER_SPEC, b"\1")
        proof = suites.finished(self.master, CLIENT_FINISHED, self.hash(), suite.hash_name)
        return exchange, change, self.sealed(self.message(HandshakeType.FINISHED, proof), ContentType.HANDSHAKE)

    def hash(self) -> bytes:
        assert self.server_hello is not None
        return hashlib.new(SUITES[self.server_hello.suite].hash_name, self.transcript).digest()

    def connect(self) -> list[Event]:
        self.say_hello()
        return self.give(*self.last_flight())

    def connected(self) -> Self:
        self.connect()
        return self

    def another(self, **changes: Any) -> "Peer":
        """Return a new client of the same server."""
        return Peer(self.server, **changes)

    def says(self, data: bytes) -> list[bytes]:
        """Send data, and return what the server takes in."""
        return taken_in(self.give(self.sealed(data)))

    def pieces(self, datagram: bytes, size: int) -> list[bytes]:
        """Return a datagram with one whole handshake message again, as fragments of *size* bytes."""
        (whole,) = parse_fragments(parse_datagram(datagram)[0].fragment)
        starts = range(0, whole.length, size)
        fragments = [replace(whole, offset=at, data=whole.data[at : at + size]) for at in starts]
        return [self.clear(ContentType.HANDSHAKE, each.encode()) for each in fragments]

    def answers(self, datagram: bytes) -> list[str]:
        """Send *datagram*, and return the names of the handshake messages that come."""
        before = len(self.messages())
        self.give(datagram)
        return [message.kind.name for message in self.messages()[before:]]

    def messages(self) -> list[Message]:
        """Return the server's handshake messages so far."""
        handshakes = [each for each in self.heard if each.content_type == ContentType.HANDSHAKE]
        return [
            Message(fragment.kind, fragment.message_seq, fragment.data)
            for each in handshakes
            for fragment in parse_fragments(each.fragment)
        ]

    def alerts(self) -> list[tuple[int, int]]:
        """Return level and description of the alerts so far."""
        return [(each.fragment[0], each.fragment[1]) for each in self.heard if each.content_type == ContentType.ALERT]

    def _give(self, datagram: bytes) -> list[Event]:
        return self.take(self.server.receive(self.now_s, self.address, datagram))

    def take(self, events: list[Event]) -> list[Event]:
        for event in events:
            if isinstance(event, Send) and event.peer == self.address:
                self.heard += [self._opened(each) for each in parse_datagram(event.datagram)]
        return events

    def _opened(self, found: Record) -> Record:
        if found.epoch == 0 or self.keys is None:
            return found
        header = found.content_type, found.version, found.epoch, found.sequence
        try:
            return replace(found, fragment=self.keys[1].open(*header, found.fragment))
        except BadRecord:
            return replace(found, fragment=b"")


class Path:
    """The way between the rig's own client and a server, without delay. What the client says comes back.

    address: where the client's datagrams come from; heard_at: where the server's went, in order; passed: what a
    bystander beside the server sees, each as time, source, destination and datagram.
    """

    def __init__(self, server: Server, address: Endpoint = ("127.0.0.1", 40000)) -> None:
        self.address = address
        self.heard_at: list[Endpoint] = []
        self.passed: list[tuple[float, Endpoint, Endpoint, bytes]] = []
        self.events: list[Event] = []
        self.now_s = 0.0
        self.server = server
        self._lost: set[int] = set()
        self._carried = 0

    def lose(self, lost: set[int]) -> None:
        """Lose these of the datagrams that are sent from now on, counted from 1 in both directions together."""
        self._lost, self._carried = lost, 0

    def run(self, script: Script[T]) -> T:
        """Run a script to its end; time passes when nothing else happens."""
        conversation = Conversation(script)
        self._carry(conversation, conversation.start(self.now_s))
        while not conversation.ended:
            deadlines = [conversation.next_timeout_s, self.server.deadline_s]
            self.now_s = max(self.now_s, min(each for each in deadlines if each is not None))
            self._do(conversation, self.server.expire(self.now_s))
            if conversation.next_timeout_s is not None and conversation.next_timeout_s <= self.now_s:
                self._carry(conversation, conversation.timeout(self.now_s))
        return conversation.result

    def _carry(self, conversation: Conversation[T], datagrams: tuple[bytes, ...]) -> None:
        for datagram in (each for each in datagrams if self._arrives()):
            self.passed.append((self.now_s, self.address, SERVER, datagram))
            self._do(conversation, self.server.receive(self.now_s, self.address, datagram))

    def _do(self, conversation: Conversation[T], events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Received):
                self._do(conversation, self.server.send(event.peer, event.data))
            elif isinstance(event, Send):
                self.passed.append((self.now_s, SERVER, event.peer, event.datagram))
                if not self._arrives():
                    continue
                self.heard_at.append(event.peer)
                self._carry(conversation, conversation.receive(self.now_s, event.datagram))

    def _arrives(self) -> bool:
        self._carried += 1
        return self._carried not in self._lost


def taken_in(events: list[Event]) -> list[bytes]:
    return [event.data for event in events if isinstance(event, Received)]


@pytest.fixture(scope="session")
def new_peer() -> Callable[..., Peer]:
    """A maker of clients, each of a server of its own."""

    def make(misbehaviour: Misbehaviour | None = None, settings: dict[str, Any] | None = None, **peer: Any) -> Peer:
        orderly = Settings(psks={IDENTITY: PSK}, **settings or {})
        return Peer(Server(orderly, misbehaviour or Misbehaviour()), **peer)

    return make
