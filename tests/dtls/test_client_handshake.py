"""Scripts of handshakes against real servers, whose answers are those that were seen of them before.

What a server does wrong is asserted too: a client that saw nothing wrong there would be blind.
"""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from rig.dtls import coap
from rig.dtls.alerts import Alert
from rig.dtls.client import Client, Refused, Silence
from rig.dtls.contents import ApplicationData, Finished, ServerHelloDone
from rig.dtls.conversation import Script
from rig.dtls.handshake import HelloVerifyRequest, ServerHello
from rig.dtls.outgoing import spoiled

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"
LIBCOAP, LIBCOAP_GNUTLS, TINYDTLS = "coap-server-openssl", "coap-server-gnutls", "tinydtls"
BLINK_S = 0.5  # what a server on loopback never needs, and shorter than any retransmission

Step = Callable[..., Script[Any]]
Talk = Callable[..., Any]


def get(message_id: int) -> bytes:
    path = ((coap.OptionNumber.URI_PATH, b".well-known"), (coap.OptionNumber.URI_PATH, b"core"))
    return coap.Message(coap.Type.CON, coap.GET, message_id, bytes((message_id,)), path).encode()


@pytest.fixture
def talk(server: Any, dial: Any) -> Talk:
    """Run a script of a client with the right key against a new server of a kind."""

    def run(kind: str, script: Step, **settings: Any) -> Any:
        return dial(server(kind)).run(script(Client(IDENTITY, PSK, **settings)))

    return run


def figure_1(client: Client) -> Script[None]:
    """RFC 6347 figure 1, up to the server's flight."""
    yield from client.send(client.client_hello())  # ClientHello             -->
    yield from client.expect(HelloVerifyRequest)  #                          <--  HelloVerifyRequest
    yield from client.send(client.client_hello())  # ClientHello (cookie)    -->
    yield from client.expect(ServerHello)  #                                 <--  ServerHello
    yield from client.expect(ServerHelloDone)  #                             <--  ServerHelloDone


@pytest.mark.parametrize("kind", [LIBCOAP, LIBCOAP_GNUTLS, TINYDTLS])
def test_an_orderly_client_asks_and_leaves(kind: str, talk: Talk) -> None:
    def script(client: Client) -> Script[tuple[coap.Message, bool]]:
        yield from client.handshake()
        answer = coap.decode((yield from client.ask(get(7))))
        return answer, (yield from client.close())

    answer, said_goodbye = talk(kind, script)
    assert (answer.code_text, answer.message_id, said_goodbye) == ("2.05", 7, True)


@pytest.mark.parametrize("suite", [0xC0A8, 0x00A8])
@pytest.mark.parametrize("extensions", [None, ((23, b""),)], ids=["master secret", "extended"])
def test_openssl_hears_and_is_heard(suite: int, extensions: Any, server: Any, dial: Any) -> None:
    endpoint = server("openssl")
    client, wire = Client(IDENTITY, PSK, offered_suites=(suite, 0xFF), hello_extensions=extensions), dial(endpoint)
    wire.run(client.handshake())
    assert client.server_hello.extended_master_secret == (extensions is not None)
    wire.run(client.send(client.application_data(b"from the client\n")))
    process: subprocess.Popen[bytes] = server.process(endpoint)
    assert process.stdout.readline() == b"from the client\n"
    process.stdin.write(b"from the server\n")
    process.stdin.flush()
    assert wire.run(client.answer()) == b"from the server\n"
    assert wire.run(client.close())


def duplicated(client: Client) -> Script[coap.Message]:
    """HS-04: the client's flight comes twice, as a retransmission with new record numbers."""
    yield from figure_1(client)
    flight = client.last_flight()
    yield from client.send(*flight)
    yield from client.send(*flight)
    yield from client.expect(Finished)
    return coap.decode((yield from client.ask(get(1))))


def replayed(client: Client) -> Script[coap.Message]:
    """HS-04: the same datagram twice, as a network makes it."""
    yield from figure_1(client)
    yield from client.send(*client.last_flight())
    yield from client.send(client.sent[-1].datagram)
    yield from client.expect(Finished)
    return coap.decode((yield from client.ask(get(1))))


@pytest.mark.parametrize("script", [duplicated, replayed])
def test_hs_04_a_flight_that_comes_twice_makes_one_session(script: Step, talk: Talk) -> None:
    assert talk(LIBCOAP, script).code_text == "2.05"


def finished_first(client: Client, within_s: float = 5.0) -> Script[Finished]:
    """HS-05."""
    yield from figure_1(client)
    key_exchange, change, finished = client.last_flight()
    yield from client.send_each(finished, key_exchange, change)
    return (yield from client.expect(Finished, within_s=within_s))


def change_first(client: Client, within_s: float = 5.0) -> Script[Finished]:
    """HS-05."""
    yield from figure_1(client)
    key_exchange, change, finished = client.last_flight()
    yield from client.send_each(change, key_exchange, finished)
    return (yield from client.expect(Finished, within_s=within_s))


def hello_in_pieces(client: Client, within_s: float = 5.0) -> Script[ServerHelloDone]:
    """HS-06: both hellos in pieces of 60 bytes."""
    yield from client.send_each(*client.client_hello().pieces(60))
    yield from client.expect(HelloVerifyRequest, within_s=within_s)
    yield from client.send_each(*client.client_hello().pieces(60))
    return (yield from client.expect(ServerHelloDone, within_s=within_s))


def key_exchange_in_pieces(client: Client, within_s: float = 5.0) -> Script[Finished]:
    """HS-07: pieces of three bytes that overlap by two, the last one first."""
    yield from figure_1(client)
    key_exchange, change, finished = client.last_flight()
    yield from client.send_each(*reversed(key_exchange.pieces(3, overlap_bytes=2)), change, finished)
    return (yield from client.expect(Finished, within_s=within_s))


@pytest.mark.parametrize(
    ("kind", "script"),
    [
        (LIBCOAP, finished_first),
        (LIBCOAP_GNUTLS, change_first),
        (LIBCOAP_GNUTLS, hello_in_pieces),
        (LIBCOAP, key_exchange_in_pieces),
    ],
)
def test_hs_05_to_07_what_a_server_copes_with(kind: str, script: Step, talk: Talk) -> None:
    talk(kind, script)


@pytest.mark.parametrize(
    ("kind", "script"),
    [
        (LIBCOAP, change_first),
        (LIBCOAP_GNUTLS, finished_first),
        (TINYDTLS, finished_first),
        (LIBCOAP, hello_in_pieces),
        (LIBCOAP_GNUTLS, key_exchange_in_pieces),
    ],
)
def test_hs_05_to_07_what_a_server_does_not_answer(kind: str, script: Step, talk: Talk) -> None:
    with pytest.raises(Silence):
        talk(kind, partial(script, within_s=BLINK_S))


def test_hs_07_tinydtls_refuses_pieces(talk: Talk) -> None:
    with pytest.raises(Refused, match="handshake_failure") as refused:
        talk(TINYDTLS, key_exchange_in_pieces)
    assert refused.value.alert.description == 40


@pytest.mark.parametrize("kind", [LIBCOAP, TINYDTLS])
def test_hs_11_nothing_is_served_before_finished(kind: str, talk: Talk) -> None:
    def script(client: Client) -> Script[list[Any]]:
        yield from figure_1(client)
        key_exchange, change, _ = client.last_flight()
        yield from client.send(key_exchange, change, client.application_data(get(1)))
        heard = yield from client.listen(BLINK_S)
        return [received for received in heard if isinstance(received.content, ApplicationData)]

    assert talk(kind, script) == []


@pytest.mark.parametrize(("kind", "alert"), [(LIBCOAP, 51), (TINYDTLS, 51), (LIBCOAP_GNUTLS, 40)])
def test_hs_13_a_wrong_finished_is_refused(kind: str, alert: int, talk: Talk) -> None:
    def script(client: Client) -> Script[Finished]:
        yield from figure_1(client)
        key_exchange, change, finished = client.last_flight()
        yield from client.send(key_exchange, change, replace(finished, body=spoiled(finished.body)))
        return (yield from client.expect(Finished))

    with pytest.raises(Refused) as refused:
        talk(kind, script)
    assert refused.value.alert.description == alert


def test_a_wrong_cookie_counts_as_none(talk: Talk) -> None:
    def script(client: Client) -> Script[None]:
        yield from client.send(client.client_hello(cookie=bytes(32)))
        yield from client.expect(HelloVerifyRequest)
        client.begin()
        yield from figure_1(client)

    talk(LIBCOAP, script)


def test_a_wrong_key_opens_nothing(talk: Talk) -> None:
    def script(client: Client) -> Script[list[str]]:
        client.psk = b"another key of16"
        yield from figure_1(client)
        yield from client.send(*client.last_flight())
        return [received.name for received in (yield from client.listen(BLINK_S))]

    assert talk(LIBCOAP, script) == []


def test_a_handshake_inside_a_session_is_refused_and_the_session_lives(talk: Talk) -> None:
    """HS-16."""

    def script(client: Client) -> Script[tuple[str, str]]:
        yield from client.handshake()
        client.begin()
        hello = client.client_hello()
        assert hello.epoch == 1
        yield from client.send(hello)
        refusal = yield from client.expect(Alert)
        return refusal.name, coap.decode((yield from client.ask(get(1)))).code_text

    assert talk(LIBCOAP, script) == ("no_renegotiation", "2.05")
