"""Connection IDs (RFC 9146): the client's record layer against its mirror image."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.dtls import suites
from rig.dtls.cid import TLS12_CID, CidRecord, split_datagram, unwrapped, wrapped
from rig.dtls.connection import EXTENSIONS, Connection
from rig.dtls.contents import ApplicationData, Unreadable
from rig.dtls.extensions import ConnectionId, pairs
from rig.dtls.handshake import HandshakeType, Message, ServerHello
from rig.dtls.outgoing import Content
from rig.dtls.record_layer import Keys, RecordLayer
from rig.dtls.records import DTLS_1_2, ContentType, Record
from rig.dtls.wire import DecodeError

OURS, THEIRS = b"client's", b"srv"


def agreed(*, server: bytes | None = THEIRS, client: bytes | None = OURS) -> tuple[Connection, RecordLayer]:
    """Return a client after the key exchange and the record layer of its server; None is a hello without."""

    def offer(connection_id: bytes | None) -> Any:
        return pairs(ConnectionId(connection_id)) if connection_id is not None else ()

    connection = Connection(b"sensor-1", b"0123456789abcdef", hello_extensions=EXTENSIONS + offer(client))
    connection.client_hello()
    hello = ServerHello(bytes(32), 0xC0A8, extensions=offer(server))
    message = Message(HandshakeType.SERVER_HELLO, 0, hello.encode()).encode()
    connection.receive(0.0, Record(ContentType.HANDSHAKE, DTLS_1_2, 0, 0, message).encode())
    connection.last_flight()
    mirror = RecordLayer()
    write, read = suites.protections(
        suites.SUITES[0xC0A8], connection.master_secret or b"", connection.client_random, bytes(32)
    )
    mirror.keys[1] = Keys(write=read, read=write)
    mirror.write_cid, mirror.read_cid = connection.read_cid, connection.write_cid
    return connection, mirror


def test_each_side_is_sent_what_it_asked_for() -> None:
    client, server = agreed()
    assert (client.write_cid, client.read_cid) == (THEIRS, OURS)
    datagram = client.datagram(client.application_data(b"up"), client.alert(1, 0))
    assert (datagram[0], datagram[11:14]) == (TLS12_CID, THEIRS)
    opened = [server.open(record) for record in server.split(datagram)]
    assert opened == [(ContentType.APPLICATION_DATA, b"up"), (ContentType.ALERT, b"\1\0")]
    (received,) = client.receive(1.0, server.datagram(Content(ContentType.APPLICATION_DATA, 1, b"down")))
    assert (received.content, received.epoch) == (ApplicationData(b"down"), 1)


@pytest.mark.parametrize(("server", "client"), [(None, OURS), (THEIRS, None), (b"", b"")])
def test_without_agreement_or_with_empty_ones_records_are_plain(server: bytes | None, client: bytes | None) -> None:
    connection, _ = agreed(server=server, client=client)
    assert connection.datagram(connection.application_data(b"up"))[0] == ContentType.APPLICATION_DATA


def test_one_direction_alone() -> None:
    client, server = agreed(server=b"")
    assert client.datagram(client.application_data(b"up"))[0] == ContentType.APPLICATION_DATA
    (received,) = client.receive(1.0, server.datagram(Content(ContentType.APPLICATION_DATA, 1, b"down")))
    assert received.content == ApplicationData(b"down")


def test_a_wrong_connection_id_does_not_open_and_can_be_sent() -> None:
    client, server = agreed()
    (received,) = client.receive(
        1.0, server.record(Content(ContentType.APPLICATION_DATA, 1, b"x"), connection_id=b"stranger").encode()
    )
    assert isinstance(received.content, Unreadable)
    wrong = client.record(client.application_data(b"up"), connection_id=b"xyz").encode()
    with pytest.raises(DecodeError, match="not 737276"):
        server.open(server.split(wrong)[0])


@given(st.binary(max_size=40), st.integers(0, 30))
def test_padding_hides_the_length_and_nothing_else(data: bytes, padding: int) -> None:
    assert unwrapped(wrapped(ContentType.APPLICATION_DATA, data, padding)) == (ContentType.APPLICATION_DATA, data)
    client, server = agreed()
    record = replace(client.record(client.application_data(data)), padding_bytes=padding)
    assert len(record.encode()) == 13 + len(THEIRS) + 8 + len(data) + 1 + padding + 8
    assert server.open(server.split(record.encode())[0])[1] == data


@pytest.mark.parametrize("inner", [b"", bytes(5), b"abc\x63"])
def test_an_inner_plaintext_needs_a_type(inner: bytes) -> None:
    with pytest.raises(DecodeError, match="content type"):
        unwrapped(inner)


cid_records = st.builds(
    CidRecord,
    st.just(DTLS_1_2),
    st.integers(0, 65535),
    st.integers(0, 2**48 - 1),
    st.binary(min_size=3, max_size=3),
    st.binary(max_size=30),
)
plain_records = st.builds(
    Record, st.sampled_from(ContentType), st.just(DTLS_1_2), st.integers(0, 65535), st.just(1), st.binary(max_size=30)
)


@given(st.lists(cid_records | plain_records, min_size=1, max_size=4))
def test_records_of_both_kinds_round_trip(records: list[Any]) -> None:
    assert split_datagram(b"".join(record.encode() for record in records), 3) == tuple(records)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda rest: b"\x19\xfe\xfd" + rest), st.integers(0, 40))
def test_any_bytes_split_or_raise_the_typed_error(datagram: bytes, length: int) -> None:
    with contextlib.suppress(DecodeError):
        split_datagram(datagram, length)
