"""Connection ids of the scriptable server (RFC 9146), with the rig's own client.

No other client at hand knows them: what both read from the standard is checked in test_client_cid.py.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.dtls.cid import TLS12_CID
from rig.dtls.client import Client
from rig.dtls.connection import EXTENSIONS
from rig.dtls.extensions import ConnectionId, pairs
from rig.dtls.outgoing import spoiled
from rig.dtls.records import ContentType
from rig.dtls.server import Established, Moved, Received
from tests.dtls.server.conftest import IDENTITY, PSK, Path

NewPeer = Callable[..., Any]

HOME, ELSEWHERE = ("127.0.0.1", 40000), ("127.0.0.9", 50000)


def connect(new_peer: NewPeer, wanted: bytes = b"mine", length: int | None = 4) -> tuple[Client, Path]:
    path = Path(new_peer(settings={"connection_id_bytes": length}).server)
    client = Client(IDENTITY, PSK, hello_extensions=EXTENSIONS + pairs(ConnectionId(wanted)))
    path.run(client.handshake())
    return client, path


def received(path: Path) -> list[bytes]:
    return [event.data for event in path.events if isinstance(event, Received)]


@pytest.mark.parametrize(("wanted", "length"), [(b"mine", 4), (b"", 4), (b"mine", 0), (b"", 0), (b"x" * 20, 20)])
def test_each_side_is_sent_what_it_asked_for(new_peer: NewPeer, wanted: bytes, length: int) -> None:
    client, path = connect(new_peer, wanted, length)
    assert (client.read_cid, len(client.write_cid)) == (wanted, length)
    assert path.run(client.ask(b"ask")) == b"ask"
    data = ContentType.APPLICATION_DATA
    sent, came = client.sent[-1].datagram, client.received[-1].datagram
    assert sent is not None
    assert came is not None
    assert (sent[0], came[0]) == (TLS12_CID if length else data, TLS12_CID if wanted else data)
    assert path.run(client.close())


def test_a_server_that_does_not_know_them_leaves_the_extension_out(new_peer: NewPeer) -> None:
    client, path = connect(new_peer, length=None)
    assert (client.read_cid, client.write_cid) == (b"", b"")
    assert path.run(client.ask(b"ask")) == b"ask"


def test_clients_with_and_without_are_served_side_by_side(new_peer: NewPeer) -> None:
    one, path = connect(new_peer)
    path.address = ELSEWHERE
    other = Client(IDENTITY, PSK)
    path.run(other.handshake())
    assert path.run(other.ask(b"other")) == b"other"
    path.address = HOME
    assert path.run(one.ask(b"one")) == b"one"


def test_the_client_is_where_its_newest_record_came_from(new_peer: NewPeer) -> None:
    client, path = connect(new_peer)
    late = client.datagram(client.application_data(b"late"))
    path.address = ELSEWHERE
    assert path.run(client.ask(b"moved")) == b"moved"
    assert path.events.count(Moved(ELSEWHERE, HOME)) == 1
    path.address = HOME
    path.run(client.send(late))
    assert received(path) == [b"moved", b"late"]
    assert path.heard_at[-2:] == [ELSEWHERE, ELSEWHERE]


def test_what_is_forged_repeated_or_of_another_id_moves_nobody(new_peer: NewPeer) -> None:
    client, path = connect(new_peer)
    path.run(client.ask(b"x"))
    repeated, newer = client.sent[-1].datagram, client.datagram(client.application_data(b"y"))
    unknown = client.record(client.application_data(b"z"), connection_id=b"none")
    path.address = ELSEWHERE
    assert repeated is not None
    path.run(client.send(repeated, spoiled(newer)))
    path.run(client.send(unknown))
    assert received(path) == [b"x"]
    assert not any(isinstance(event, Moved) for event in path.events)
    path.run(client.send(newer))
    assert path.heard_at[-1] == ELSEWHERE


@pytest.mark.parametrize("connection_id", [b"", b"abc", b"abcde"])
def test_a_missing_or_too_short_or_too_long_id_is_dropped(new_peer: NewPeer, connection_id: bytes) -> None:
    client, path = connect(new_peer)
    path.run(client.send(client.record(client.application_data(b"x"), connection_id=connection_id)))
    assert received(path) == []
    assert path.run(client.ask(b"ask")) == b"ask"


def test_nobody_moves_to_where_another_client_is(new_peer: NewPeer) -> None:
    one, path = connect(new_peer)
    path.address = ELSEWHERE
    other = Client(IDENTITY, PSK)
    path.run(other.handshake())
    path.run(one.send(one.application_data(b"x")))
    assert path.heard_at[-1] == HOME
    assert path.run(other.ask(b"other")) == b"other"


def test_a_malformed_extension_ends_the_handshake(new_peer: NewPeer) -> None:
    peer = new_peer(settings={"connection_id_bytes": 4}, extensions=((54, b"\x09short"),))
    peer.give(peer.hello_datagram(peer.cookie()))
    assert peer.alerts() == [(2, 50)]


@given(st.binary(min_size=1, max_size=60), st.integers(0, 2), st.integers(0, 2**48 - 1))
def test_nothing_from_elsewhere_raises_or_is_believed(
    new_peer: NewPeer, fragment: bytes, epoch: int, sequence: int
) -> None:
    client, path = connect(new_peer)
    path.address = ELSEWHERE
    head = bytes((TLS12_CID,)) + b"\xfe\xfd" + epoch.to_bytes(2, "big") + sequence.to_bytes(6, "big")
    record = head + client.write_cid + len(fragment).to_bytes(2, "big") + fragment
    path.run(client.send(record))
    path.run(client.send(record[:-1]))
    assert not any(isinstance(event, Moved | Received) for event in path.events)
    path.address = HOME
    assert path.run(client.ask(b"ask")) == b"ask"
    assert sum(isinstance(event, Established) for event in path.events) == 1
