"""What one peer can send in a few datagrams to keep the rig busy: it stays proportional to what was sent.

Each of these took minutes, or gigabytes, when the work grew with the square.
"""

from rig.dtls.client import Client
from rig.dtls.connection import EXTENSIONS
from rig.dtls.dissector import Dissector
from rig.dtls.handshake import Fragment, HandshakeType, Message, Reassembler
from rig.dtls.records import DTLS_1_2, ContentType, Record
from rig.dtls.server import Server
from rig.dtls.server_session import Settings
from tests.dtls.server.conftest import IDENTITY, PSK, SERVER, Path

LENGTH = 60_000
HELLO_REQUEST = Message(HandshakeType.HELLO_REQUEST, 0, b"").encode()


def piece(at: int, data: bytes = b"x", message_seq: int = 1) -> Fragment:
    return Fragment(HandshakeType.SERVER_HELLO, LENGTH, message_seq, at, data)


def clear(plaintext: bytes) -> bytes:
    return Record(ContentType.HANDSHAKE, DTLS_1_2, 0, 0, plaintext).encode()


def test_a_message_in_fragments_of_one_byte_from_the_end() -> None:
    reassembler = Reassembler()
    assert {reassembler.add(piece(at)) for at in range(LENGTH - 1, 0, -1)} == {None}
    message = reassembler.add(piece(0))
    assert message is not None
    assert message.body == b"x" * LENGTH


def test_fragments_may_overlap_and_what_was_there_stays() -> None:
    reassembler = Reassembler()
    assert reassembler.add(piece(0, b"a" * 20_000)) is None
    assert reassembler.add(piece(10, b"b" * 5)) is None
    assert reassembler.add(piece(30_000, b"c" * 30_000)) is None
    message = reassembler.add(piece(15_000, b"d" * 20_000))
    assert message is not None
    assert message.body == b"a" * 15_000 + b"d" * 20_000 + b"c" * 25_000


def test_only_the_newest_unfinished_messages_are_kept() -> None:
    reassembler = Reassembler()
    for number in range(2000):
        assert reassembler.add(piece(1, b"x" * (LENGTH - 1), number)) is None
    assert reassembler.add(piece(0, b"x", 1999)) is not None
    assert reassembler.add(piece(0, b"x", 0)) is None


def test_records_before_their_keys_are_looked_at_again_when_the_keys_are_there_and_not_before() -> None:
    client = Client(IDENTITY, PSK)
    early = Record(ContentType.APPLICATION_DATA, DTLS_1_2, 1, 0, b"").encode() * 1000
    assert len(client.receive(0.0, early)) == 1000
    assert len(client.receive(0.0, clear(HELLO_REQUEST * 1000))) == 1000


def test_a_flood_of_handshake_messages_beside_a_session_is_not_followed() -> None:
    path = Path(Server(Settings(psks={IDENTITY: PSK})))
    client = Client(IDENTITY, PSK, hello_extensions=EXTENSIONS)
    path.run(client.handshake())
    kind = HandshakeType.CERTIFICATE
    flood = clear(b"".join(Message(kind, number, b"").encode() for number in range(10, 5000)))
    dissector = Dissector({IDENTITY: PSK})
    for t_s, source, destination, datagram in path.passed:
        dissector.feed(t_s, source, destination, datagram)
    for source, destination in ((path.address, SERVER), (SERVER, path.address)):
        dissector.feed(path.now_s, source, destination, flood)
    (session,) = dissector.sessions()
    assert session.established
