"""Scripts that replay, damage and misplace records, against real servers."""

from typing import Any

import pytest

from rig.dtls import coap
from rig.dtls.client import Client
from rig.dtls.contents import Received
from rig.dtls.conversation import Script
from rig.dtls.outgoing import spoiled

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"
LIBCOAP, LIBCOAP_GNUTLS, TINYDTLS = "coap-server-openssl", "coap-server-gnutls", "tinydtls"
ALL = [LIBCOAP, LIBCOAP_GNUTLS, TINYDTLS]
BLINK_S = 0.3


def get(message_id: int) -> bytes:
    path = ((coap.OptionNumber.URI_PATH, b".well-known"), (coap.OptionNumber.URI_PATH, b"core"))
    return coap.Message(coap.Type.CON, coap.GET, message_id, bytes((message_id,)), path).encode()


def served(client: Client, message_id: int) -> Script[None]:
    """The session is alive: a request gets its own answer."""
    answer = coap.decode((yield from client.ask(get(message_id))))
    assert (answer.code_text, answer.message_id) == ("2.05", message_id)


@pytest.mark.parametrize("kind", ALL)
def test_rec_01_a_replayed_record_is_not_served_again(kind: str, server: Any, dial: Any) -> None:
    def script(client: Client) -> Script[tuple[Received, ...]]:
        yield from client.handshake()
        yield from served(client, 1)
        yield from client.send(client.sent[-1].datagram)
        heard = yield from client.listen(BLINK_S)
        yield from served(client, 2)
        return heard

    assert dial(server(kind)).run(script(Client(IDENTITY, PSK))) == ()


@pytest.mark.parametrize("kind", ALL)
def test_rec_04_a_wrong_mac_is_not_answered(kind: str, server: Any, dial: Any) -> None:
    def script(client: Client) -> Script[tuple[Received, ...]]:
        yield from client.handshake()
        for _ in range(10):
            yield from client.send(spoiled(client.datagram(client.application_data(get(1)))))
        heard = yield from client.listen(BLINK_S)
        yield from served(client, 2)
        return heard

    assert dial(server(kind)).run(script(Client(IDENTITY, PSK))) == ()


def test_rec_02_the_replay_window(server: Any, dial: Any) -> None:
    """Records with chosen sequence numbers: what is new within the window of 64 is served, nothing else is."""
    sent = ((10, True), (5, True), (5, False), (80, True), (16, False), (17, True), (15, False))

    def script(client: Client) -> Script[None]:
        yield from client.handshake()
        for message_id, (sequence, fresh) in enumerate(sent):
            yield from client.send(client.record(client.application_data(get(message_id)), sequence=sequence))
            if fresh:
                assert coap.decode((yield from client.answer())).message_id == message_id
            else:
                assert (yield from client.listen(0.1)) == ()
        client.sequences[1] = 81
        yield from served(client, 99)

    dial(server(LIBCOAP)).run(script(Client(IDENTITY, PSK)))


@pytest.mark.parametrize("epoch", [0, 2, 65535])
def test_rec_07_a_wrong_epoch_is_not_served(epoch: int, server: Any, dial: Any) -> None:
    def script(client: Client) -> Script[tuple[Received, ...]]:
        yield from client.handshake()
        yield from client.send(client.record(client.application_data(get(1)), epoch=epoch))
        heard = yield from client.listen(BLINK_S)
        yield from served(client, 2)
        return heard

    assert dial(server(LIBCOAP)).run(script(Client(IDENTITY, PSK))) == ()


@pytest.mark.parametrize(("kind", "at_once", "after_the_next"), [(LIBCOAP, [1], [2]), (TINYDTLS, [1, 2], [3])])
def test_rec_11_two_records_of_one_datagram(
    kind: str, at_once: list[int], after_the_next: list[int], server: Any, dial: Any
) -> None:
    """libcoap serves the second one when the next datagram comes, and stays behind: the known fault is visible."""

    def answers(client: Client, count: int) -> Script[list[int]]:
        numbers = []
        for _ in range(count):
            numbers.append(coap.decode((yield from client.answer())).message_id)
        assert (yield from client.listen(BLINK_S)) == ()
        return numbers

    def script(client: Client) -> Script[tuple[list[int], list[int]]]:
        yield from client.handshake()
        yield from client.send(client.application_data(get(1)), client.application_data(get(2)))
        first = yield from answers(client, len(at_once))
        yield from client.send(client.application_data(get(3)))
        return first, (yield from answers(client, len(after_the_next)))

    assert dial(server(kind)).run(script(Client(IDENTITY, PSK))) == (at_once, after_the_next)


def test_a_record_may_say_anything_of_itself(server: Any, dial: Any) -> None:
    """REC-06, REC-09, REC-12: wrong versions, lengths and an empty record leave OpenSSL's session alive."""

    def script(client: Client) -> Script[list[str]]:
        yield from client.handshake()
        data = client.application_data(get(1))
        yield from client.send(client.record(data, version=0x0303))
        yield from client.send(client.datagram(data)[:-4])
        yield from client.send(client.application_data(b""))
        heard = yield from client.listen(BLINK_S)
        yield from served(client, 2)
        return [received.name for received in heard]

    assert dial(server(LIBCOAP)).run(script(Client(IDENTITY, PSK))) == []
