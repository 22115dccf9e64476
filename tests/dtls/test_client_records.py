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
    """Records with chosen sequence numbers: those of the window of 64 that are new are served."""

    def script(client: Client) -> Script[dict[int, bool]]:
        yield from client.handshake()
        answered = {}
        for message_id, sequence in enumerate((10, 5, 5, 80, 16, 17, 15)):
            yield from client.send(client.record(client.application_data(get(message_id)), sequence=sequence))
            answered[message_id] = bool((yield from client.listen(0.1)))
        client.sequences[1] = 81
        yield from served(client, 99)
        return answered

    answered = dial(server(LIBCOAP)).run(script(Client(IDENTITY, PSK)))
    assert list(answered.values()) == [True, True, False, True, False, True, False]


@pytest.mark.parametrize("epoch", [0, 2, 65535])
def test_rec_07_a_wrong_epoch_is_not_served(epoch: int, server: Any, dial: Any) -> None:
    def script(client: Client) -> Script[tuple[Received, ...]]:
        yield from client.handshake()
        yield from client.send(client.record(client.application_data(get(1)), epoch=epoch))
        heard = yield from client.listen(BLINK_S)
        yield from served(client, 2)
        return heard

    assert dial(server(LIBCOAP)).run(script(Client(IDENTITY, PSK))) == ()


def test_rec_11_several_records_of_one_datagram(server: Any, dial: Any) -> None:
    """libcoap serves the second one when the next datagram comes, and stays behind: the known fault is visible."""

    def script(client: Client) -> Script[tuple[list[int], list[int]]]:
        yield from client.handshake()
        yield from client.send(client.application_data(get(1)), client.application_data(get(2)))
        at_once = yield from client.listen(BLINK_S)
        yield from client.send(client.application_data(get(3)))
        later = yield from client.listen(BLINK_S)
        numbers = [[coap.decode(each.content.data).message_id for each in heard] for heard in (at_once, later)]
        return numbers[0], numbers[1]

    assert dial(server(LIBCOAP)).run(script(Client(IDENTITY, PSK))) == ([1], [2])
    assert dial(server(TINYDTLS)).run(script(Client(IDENTITY, PSK))) == ([1, 2], [3])


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
