"""The rig's client and server against mbedTLS 2.28, the TLS of ESP-IDF: in memory, datagram by datagram.

Time is a number here, except to mbedTLS: its timers are real, and no test needs them.
What mbedTLS does wrong is asserted too: a client that saw nothing wrong there would be blind.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from rig.dtls import extensions
from rig.dtls.client import Client, NotVerified, Refused, Silence
from rig.dtls.connection import CERTIFICATE_EXTENSIONS
from rig.dtls.contents import Finished, ServerHelloDone
from rig.dtls.conversation import Conversation, Script
from rig.dtls.dissector import Dissector
from rig.dtls.handshake import HelloVerifyRequest
from rig.dtls.outgoing import spoiled
from rig.dtls.server import Established, Event, Received, Send, Server
from rig.dtls.server_session import Settings
from rig.dtls.session import Endpoint, Session
from rig.dtls.suites import SUITES

tls = pytest.importorskip("mbedtls.tls", reason="python-mbedtls has wheels for x86_64 and Python below 3.13 alone")
pk, x509 = pytest.importorskip("mbedtls.pk"), pytest.importorskip("mbedtls.x509")
TLSError = pytest.importorskip("mbedtls.exceptions").TLSError

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"
CLIENT, SERVER = ("192.0.2.1", 40000), ("192.0.2.2", 5684)
DATAGRAM_BYTES = 65535
DELAY_S = 0.01
BLINK_S = 0.5

EMS = extensions.ExtendedMasterSecret()
SHARED = [suite for suite in SUITES.values() if suite.key_exchange == "psk" and suite.mode != "null"]
every_suite = pytest.mark.parametrize("suite", SHARED, ids=[suite.name for suite in SHARED])


def configuration(**changes: Any) -> Any:
    settings = {"validate_certificates": False, "ciphers": tls.ciphers_available(), **changes}
    return tls.DTLSConfiguration(**settings)


class Mbedtls:
    """One end that is mbedTLS. A server sends data back as it comes.

    heard: the data that came, one record's each; ended_by: mbedTLS's words for why nothing goes on
    """

    def __init__(self, context: Any) -> None:
        self.heard: list[bytes] = []
        self.ended_by = ""
        self._context = context
        self._is_server = isinstance(context, tls.ServerContext)
        self._begin()

    @property
    def connected(self) -> bool:
        return self._buffer._handshake_state is tls.HandshakeStep.HANDSHAKE_OVER

    def start(self) -> list[bytes]:
        return list(self._steps())

    def receive(self, datagram: bytes) -> list[bytes]:
        """Take a datagram in; return those that go out."""
        if self.ended_by:
            return []
        self._buffer.receive_from_network(datagram)
        sent = [] if self.connected else list(self._steps())
        return sent + list(self._told()) if self.connected else sent

    def send(self, data: bytes) -> bytes:
        self._buffer.write(data)
        return self._taken()

    def close(self) -> bytes:
        self._buffer.shutdown()
        return self._taken()

    def _begin(self) -> None:
        if self._is_server:
            self._buffer = self._context.wrap_buffers()
            self._buffer.setcookieparam(repr(CLIENT).encode())
        else:
            self._buffer = self._context.wrap_buffers(None)

    def _steps(self) -> Iterator[bytes]:
        """Go on with the handshake as far as what came allows. What is sent is taken after each step."""
        waits = False
        while not (waits or self.connected or self.ended_by):
            try:
                self._buffer.do_handshake()
            except tls.WantWriteError:
                pass
            except tls.WantReadError:
                waits = True
            except tls.HelloVerifyRequest:
                self._begin()
                waits = True
            except TLSError as error:
                self.ended_by = str(error)
            if sent := self._taken():
                yield sent

    def _told(self) -> Iterator[bytes]:
        try:
            while data := self._buffer.read(DATAGRAM_BYTES):
                self.heard.append(data)
                if self._is_server:
                    yield self.send(data)
        except tls.WantReadError:
            pass
        except TLSError as error:
            self.ended_by = str(error)
        if sent := self._taken():
            yield sent

    def _taken(self) -> bytes:
        sent: bytes = self._buffer.peek_outgoing(DATAGRAM_BYTES)
        self._buffer.consume_outgoing(len(sent))
        return sent


class Path:
    """A way that datagrams take; a bystander sees those that arrive. *lost* are those that do not, counted from 1."""

    def __init__(self, *lost: int) -> None:
        self.now_s = 0.0
        self._lost = lost
        self._carried = 0
        self._passed: list[tuple[float, Endpoint, Endpoint, bytes]] = []

    def arrives(self, datagram: bytes, *, from_client: bool) -> bool:
        self._carried += 1
        self.now_s += DELAY_S
        if self._carried in self._lost:
            return False
        ends = (CLIENT, SERVER) if from_client else (SERVER, CLIENT)
        self._passed.append((self.now_s, *ends, datagram))
        return True

    def session(self, client: Client | None = None) -> Session:
        """Return the one session that passed, opened with the PSK, or with the master secret of *client*."""
        secrets = {client.client_random: client.session.master_secret} if client else {}
        dissector = Dissector({IDENTITY: PSK}, secrets)
        for passed in self._passed:
            dissector.feed(*passed)
        (session,) = dissector.sessions()
        return session


def run(script: Script[Any], server: Mbedtls, path: Path | None = None) -> Any:
    """Run a script of the rig's client against mbedTLS to its end."""
    path = path or Path()
    conversation = Conversation(script)
    waiting = deque(conversation.start(path.now_s))
    while waiting or not conversation.ended:
        if not waiting:
            path.now_s = max(path.now_s, conversation.next_timeout_s or 0.0)
            waiting.extend(conversation.timeout(path.now_s))
            continue
        datagram = waiting.popleft()
        answers = server.receive(datagram) if path.arrives(datagram, from_client=True) else []
        for answer in (each for each in answers if path.arrives(each, from_client=False)):
            waiting.extend(conversation.receive(path.now_s, answer))
    return conversation.result


def mbedtls_server(**changes: Any) -> Mbedtls:
    settings = {"pre_shared_key_store": {IDENTITY.decode(): PSK}, **changes}
    return Mbedtls(tls.ServerContext(configuration(**settings)))


def figure_1(client: Client) -> Script[None]:
    """RFC 6347 figure 1, up to the server's flight."""
    yield from client.send(client.client_hello())
    yield from client.expect(HelloVerifyRequest)
    yield from client.send(client.client_hello())
    yield from client.expect(ServerHelloDone)


def visit(client: Client) -> Script[bytes]:
    yield from client.handshake()
    return (yield from client.ask(b"canary"))


# --- the rig's client, mbedTLS as server ----------------------------------------------------------------------------


@every_suite
@pytest.mark.parametrize("offered", [(), (EMS,), (EMS, extensions.EncryptThenMac())], ids=["-", "ems", "ems-etm"])
def test_client_and_mbedtls_understand_each_other(suite: Any, offered: tuple[Any, ...]) -> None:
    client = Client(IDENTITY, PSK, offered_suites=(suite.number, 0xFF), hello_extensions=extensions.pairs(*offered))
    path = Path()
    assert run(visit(client), mbedtls_server(), path) == b"canary"
    assert (client.server_verified, client.suite) == (True, suite)
    assert client.server_hello is not None
    assert client.server_hello.extended_master_secret == (EMS in offered)
    assert client.server_hello.encrypt_then_mac == (len(offered) == 2 and suite.mode == "cbc")
    session = path.session()
    assert (session.established, session.suite, session.cookie_exchanged) == (True, suite.number, True)
    assert session.extended_master_secret == (EMS in offered)
    assert [record.plaintext for record in session.application_data] == [b"canary", b"canary"]
    assert session.key_log() == client.key_log()


def test_a_cookie_is_asked_for_and_a_wrong_one_is_not_taken() -> None:
    def script(client: Client) -> Script[tuple[bytes, bytes]]:
        yield from client.send(client.client_hello())
        right = (yield from client.expect(HelloVerifyRequest)).cookie
        yield from client.send(client.client_hello(cookie=spoiled(right)))
        yield from client.listen(BLINK_S)
        asked_again = client.seen[-1].content
        assert isinstance(asked_again, HelloVerifyRequest)
        yield from client.send(client.client_hello())
        yield from client.expect(ServerHelloDone)
        return right, asked_again.cookie

    right, again = run(script(Client(IDENTITY, PSK)), mbedtls_server())
    assert right
    assert again


@pytest.mark.parametrize("size", [1, 7])
def test_a_key_exchange_in_fragments(size: int) -> None:
    def script(client: Client) -> Script[bytes]:
        yield from figure_1(client)
        pieces = client.client_key_exchange().pieces(size, overlap_bytes=1)
        yield from client.send_each(*reversed(pieces), client.change_cipher_spec(), client.finished())
        yield from client.expect(Finished)
        return (yield from client.ask(b"canary"))

    assert run(script(Client(IDENTITY, PSK)), mbedtls_server()) == b"canary"


def test_hs_06_a_hello_in_fragments_is_not_answered() -> None:
    """mbedTLS puts a ClientHello together from 3.6.6 on."""

    def script(client: Client) -> Script[None]:
        yield from client.send_each(*client.client_hello().pieces(20))
        yield from client.expect(HelloVerifyRequest)

    server = mbedtls_server()
    with pytest.raises(Silence):
        run(script(Client(IDENTITY, PSK)), server)
    assert "Processing of the ClientHello handshake message failed" in server.ended_by


@pytest.mark.parametrize("order", [(0, 0, 1, 2), (0, 2, 1), (0, 1, 2, 0, 1, 2)])
def test_a_flight_that_comes_twice_or_out_of_order(order: tuple[int, ...]) -> None:
    def script(client: Client) -> Script[bytes]:
        yield from figure_1(client)
        flight = client.last_flight()
        yield from client.send_each(*(flight[at] for at in order))
        yield from client.expect(Finished)
        return (yield from client.ask(b"canary"))

    server = mbedtls_server()
    assert run(script(Client(IDENTITY, PSK)), server) == b"canary"
    assert server.heard == [b"canary"]


@pytest.mark.parametrize("lost", range(1, 7))
def test_any_one_datagram_of_a_handshake_may_be_lost(lost: int) -> None:
    """The client's timers bring it back: mbedTLS repeats its flight when it hears the one before again."""
    path = Path(lost)
    assert run(visit(Client(IDENTITY, PSK)), mbedtls_server(), path) == b"canary"
    assert path.session().established


def test_a_replayed_and_a_damaged_record_are_not_heard() -> None:
    def script(client: Client) -> Script[bytes]:
        yield from visit(client)
        yield from client.send(client.sent[-1].datagram)
        yield from client.send(spoiled(client.datagram(client.application_data(b"damaged"))))
        yield from client.send(client.record(client.application_data(b"another epoch"), epoch=2))
        assert (yield from client.listen(BLINK_S)) == ()
        return (yield from client.ask(b"still there"))

    server = mbedtls_server()
    assert run(script(Client(IDENTITY, PSK)), server) == b"still there"
    assert server.heard == [b"canary", b"still there"]


def test_without_its_replay_window_mbedtls_hears_twice() -> None:
    def script(client: Client) -> Script[None]:
        yield from visit(client)
        yield from client.send(client.sent[-1].datagram)

    server = mbedtls_server(anti_replay=False)
    run(script(Client(IDENTITY, PSK)), server)
    assert server.heard == [b"canary", b"canary"]


@pytest.mark.parametrize(
    ("identity", "psk", "description"), [(IDENTITY, b"another key of16", 20), (b"nobody", PSK, 115)]
)
def test_psk_04_a_wrong_key_and_an_unknown_identity_are_told_apart(
    identity: bytes, psk: bytes, description: int
) -> None:
    path = Path()
    with pytest.raises(Refused) as refused:
        run(visit(Client(identity, psk)), mbedtls_server(), path)
    assert (refused.value.alert.level, refused.value.alert.description) == (2, description)
    assert not path.session().established
    assert [seen.alert.description for seen in path.session().alerts] == [description]


def with_certificate(certificate: bytes, key: bytes, **changes: Any) -> Mbedtls:
    chain = ((x509.CRT.from_DER(certificate),), pk.ECC.from_DER(key))
    return Mbedtls(tls.ServerContext(configuration(certificate_chain=chain, **changes)))


@pytest.mark.parametrize("suite", [0xC0AE, 0xC0AC, 0xC02B])
@pytest.mark.parametrize("extended", [True, False], ids=["ems", "-"])
def test_ecdhe_ecdsa(suite: int, extended: bool, self_signed: Any) -> None:
    offered = CERTIFICATE_EXTENSIONS if extended else CERTIFICATE_EXTENSIONS[1:]
    client, path, board = Client(offered_suites=(suite,), hello_extensions=offered), Path(), self_signed()
    assert run(visit(client), with_certificate(board.certificate_der, board.key_der), path) == b"canary"
    assert (client.server_signed, client.server_verified) == (True, True)
    assert client.server_certificate == board.certificate_der
    assert client.server_hello is not None
    assert client.server_hello.extended_master_secret == extended
    assert path.session(client).established
    assert [record.plaintext for record in path.session(client).application_data] == [b"canary", b"canary"]


def test_a_server_without_the_key_of_its_certificate_is_found_out(self_signed: Any) -> None:
    client = Client(offered_suites=(0xC0AE,), hello_extensions=CERTIFICATE_EXTENSIONS)
    server = with_certificate(self_signed().certificate_der, self_signed().key_der)
    with pytest.raises(NotVerified, match="not signed with the key of its certificate"):
        run(visit(client), server)
    assert (client.server_signed, client.server_verified) == (False, True)


def test_a_client_without_a_certificate_is_refused_in_silence(self_signed: Any) -> None:
    client, board = Client(offered_suites=(0xC0AE,), hello_extensions=CERTIFICATE_EXTENSIONS), self_signed()
    trusted = tls.TrustStore([x509.CRT.from_DER(board.certificate_der)])
    required = {"validate_certificates": True, "trust_store": trusted}
    server = with_certificate(board.certificate_der, board.key_der, **required)
    with pytest.raises(Silence):
        run(visit(client), server)
    assert "No client certification received" in server.ended_by


# --- mbedTLS as client, the rig's server ----------------------------------------------------------------------------


class Service:
    """The rig's server, and mbedTLS on the way to it. Data comes back as it is."""

    def __init__(self, path: Path, psk: bytes = PSK, *, suite: str | None = None, **settings: Any) -> None:
        self.events: list[Event] = []
        self.path = path
        self.server = Server(Settings(psks={IDENTITY: PSK}, **settings))
        ciphers = (suite,) if suite else tls.ciphers_available()
        shared = configuration(ciphers=ciphers, pre_shared_key=(IDENTITY.decode(), psk))
        self.client = Mbedtls(tls.ClientContext(shared))

    def connect(self) -> None:
        """Shake hands; what is lost is sent again by the server, until it gives up."""
        self.carry(*self.client.start())
        while not self.client.connected and (deadline_s := self.server.deadline_s) is not None:
            self.path.now_s = max(self.path.now_s, deadline_s)
            self._do(self.server.expire(self.path.now_s))

    def carry(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            if self.path.arrives(datagram, from_client=True):
                self._do(self.server.receive(self.path.now_s, CLIENT, datagram))

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def _do(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Received):
                self._do(self.server.send(event.peer, event.data))
            elif isinstance(event, Send) and self.path.arrives(event.datagram, from_client=False):
                self.carry(*self.client.receive(event.datagram))


@every_suite
@pytest.mark.parametrize("hint", [None, b"hint"])
def test_mbedtls_and_the_server_understand_each_other(suite: Any, hint: bytes | None) -> None:
    service = Service(Path(), suite=suite.name.replace("_", "-"), suites=tuple(SUITES), identity_hint=hint)
    service.connect()
    service.carry(service.client.send(b"canary"))
    assert service.client.heard == [b"canary"]
    (established,) = service.of(Established)
    assert (established.identity, established.suite) == (IDENTITY, suite.number)
    session = service.path.session()
    assert (session.established, session.suite, session.cookie_exchanged) == (True, suite.number, True)
    assert (session.identity, session.identity_hint, session.extended_master_secret) == (IDENTITY, hint, True)
    assert [record.plaintext for record in session.application_data] == [b"canary", b"canary"]


@pytest.mark.parametrize("lost", [4, 5])
def test_the_server_repeats_its_flight_until_it_is_answered(lost: int) -> None:
    service = Service(Path(lost))
    service.connect()
    service.carry(service.client.send(b"canary"))
    assert service.client.heard == [b"canary"]
    assert len(service.of(Established)) == 1


def test_what_mbedtls_said_is_not_heard_twice_nor_damaged() -> None:
    service = Service(Path())
    service.connect()
    said = service.client.send(b"canary")
    service.carry(said, said, spoiled(service.client.send(b"damaged")))
    assert [event.data for event in service.of(Received)] == [b"canary"]
    service.carry(service.client.close())
    assert "connection is going to be closed" in service.client.ended_by
    assert not service.server.serves(CLIENT)


def test_mbedtls_with_a_wrong_key_gets_no_session() -> None:
    service = Service(Path(), b"another key of16")
    service.connect()
    assert service.of(Established) == []
    assert not service.client.connected
    assert not service.path.session().established
