"""What passed, in words: of a whole conversation, of damaged datagrams, of any bytes at all."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rig.dtls import coap
from rig.dtls.client import Client
from rig.dtls.coap import Message, Type
from rig.dtls.conversation import Conversation
from rig.dtls.narrative import describe_coap, describe_datagram, describe_record
from rig.dtls.outgoing import Content
from rig.dtls.server import Send, Server
from rig.dtls.server_session import Settings
from rig.dtls.session import SeenRecord

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"


def told(client: Client) -> list[tuple[bool, tuple[str, ...]]]:
    """Shake hands with a server and return what passed, each datagram as (from the client, its lines)."""
    server, conversation = Server(Settings(psks={IDENTITY: PSK})), Conversation(client.handshake())
    passed, outgoing = [], list(conversation.start(0.0))
    while outgoing:
        datagram = outgoing.pop(0)
        passed.append((True, datagram))
        for event in server.receive(0.0, ("192.0.2.1", 40000), datagram):
            if isinstance(event, Send):
                passed.append((False, event.datagram))
                outgoing += conversation.receive(0.0, event.datagram)
    return [(ours, describe_datagram(datagram, ours, [client])) for ours, datagram in passed]


def test_a_handshake_reads_like_the_figure_of_the_rfc() -> None:
    lines = told(Client(IDENTITY, PSK))
    assert [ours for ours, _ in lines] == [True, False, True, False, True, False]
    words = [[line.split(":")[0].split(" (")[0] for line in each] for _, each in lines]
    assert words == [
        ["ClientHello seq 0"],
        ["HelloVerifyRequest seq 0"],
        ["ClientHello seq 1"],
        ["ServerHello seq 1", "ServerHelloDone seq 2"],
        ["ClientKeyExchange seq 2", "ChangeCipherSpec", "Finished seq 3"],
        ["ChangeCipherSpec", "Finished seq 3"],
    ]
    assert "TLS_PSK_WITH_AES_128_CCM_8" in lines[3][1][0]
    assert lines[4][1][2] == "Finished seq 3 (epoch 1, record 0)"


def test_what_has_no_key_is_unreadable() -> None:
    client = Client(IDENTITY, PSK)
    told(client)
    datagram = client.datagram(client.alert(2, 80))
    assert describe_datagram(datagram, True, [client]) == ("Alert fatal internal_error (80) (epoch 1, record 1)",)
    (line,) = describe_datagram(datagram, True)
    assert line == "alert, 18 B, unreadable (epoch 1, record 1)"


def test_fragments_alerts_and_clear_data() -> None:
    client = Client(IDENTITY, PSK)
    first, second = client.client_hello().pieces(30)[:2]
    assert describe_datagram(client.datagram(first, second), True)[1].startswith("ClientHello seq 0, bytes 30 to ")
    assert describe_datagram(client.datagram(client.alert(2, 40)), True) == (
        "Alert fatal handshake_failure (40) (epoch 0, record 2)",
    )
    ping = Message(Type.CON, coap.EMPTY, 7).encode()
    assert describe_datagram(client.datagram(client.application_data(ping)), True) == (
        "in clear: CoAP CON empty MID 7 (epoch 0, record 3)",
    )
    assert describe_datagram(ping, True) == ("in clear: CoAP CON empty MID 7",)
    assert describe_datagram(client.datagram(Content(22, 0, b"\xff")), True)[0].startswith(
        "handshake that does not decode: "
    )


def test_coap_messages() -> None:
    options = ((6, b"\x05"), (11, b"light"), (11, b"<b>"), (23, b"\x1e"))
    message = Message(Type.NON, coap.PUT, 4660, b"\xab\xcd", options, b"on")
    assert (
        describe_coap(message.encode())
        == "CoAP NON PUT /light/<b> MID 4660 token abcd Observe 5 Block2 1/1/1024 payload 2 B"
    )
    assert describe_coap(b"\xc0\x00\x00\x00") == "4 bytes that are no CoAP: CoAP version 3"


def test_records_that_somebody_else_opened() -> None:
    alert = SeenRecord(0.0, True, 21, 1, 4, 15, None, b"\x01\x00")
    assert describe_record(alert) == ("Alert warning close_notify (0) (epoch 1, record 4)",)
    closed = replace(alert, content_type=23, plaintext=None)
    assert describe_record(closed) == ("application data, unreadable (epoch 1, record 4)",)
    hidden = replace(closed, content_type=25, connection_id=b"mine")
    assert describe_record(hidden) == ("tls12_cid, unreadable (epoch 1, record 4, connection ID 6d696e65)",)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_told_of(datagram: bytes, from_client: bool) -> None:
    client = Client(IDENTITY, PSK)
    client.write_cid, client.read_cid = b"1234", b"56"
    assert describe_datagram(datagram, from_client, [client])


@given(st.data())
def test_a_damaged_record_is_told_of(data: st.DataObject) -> None:
    client = Client(IDENTITY, PSK)
    datagram = bytearray(client.datagram(client.client_hello(), client.alert(2, 40)))
    datagram[data.draw(st.integers(0, len(datagram) - 1))] ^= data.draw(st.integers(1, 255))
    assert describe_datagram(bytes(datagram[: data.draw(st.integers(1, len(datagram)))]), True, [client])
