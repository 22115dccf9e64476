"""The dissector on sessions that are taken up again, and on clients with connection IDs, moving ones too."""

import functools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.dtls.cid import TLS12_CID
from rig.dtls.client import Client, Silence, Timers
from rig.dtls.coap import GET, Message, Type
from rig.dtls.connection import EXTENSIONS, ResumableSession
from rig.dtls.dissector import Dissector
from rig.dtls.extensions import ConnectionId, SessionTicket, pairs
from rig.dtls.handshake import HandshakeType
from rig.dtls.keyring import Keyring
from rig.dtls.misbehaviour import Misbehaviour
from rig.dtls.narrative import describe_datagram
from rig.dtls.outgoing import spoiled
from rig.dtls.records import ContentType
from rig.dtls.server import Server
from rig.dtls.server_session import Settings
from rig.dtls.session import Endpoint, Move, Session
from rig.virtual.relay.inspection import Inspection
from tests.dtls.server.conftest import IDENTITY, PSK, SERVER, Path

HOME, ELSEWHERE, STRANGER = ("127.0.0.1", 40000), ("127.0.0.9", 50000), ("127.0.0.66", 6)
PSKS = {IDENTITY: PSK}
WITH_TICKET, WITH_CID = EXTENSIONS + pairs(SessionTicket()), EXTENSIONS + pairs(ConnectionId(b"mine"))
BY_ID_AND_BY_TICKET = pytest.mark.parametrize("offer", [EXTENSIONS, WITH_TICKET], ids=["id", "ticket"])


def new_path(**settings: Any) -> Path:
    wrong = settings.pop("wrong", Misbehaviour())
    return Path(Server(Settings(psks=PSKS, session_ids=True, tickets=True, **settings), wrong))


def asked(path: Path, data: bytes, **client: Any) -> Client:
    """Return a client that has shaken hands and been answered."""
    one = Client(IDENTITY, PSK, **client)
    one.timers = Timers(give_up_s=200.0)
    path.run(one.handshake())
    assert path.run(one.ask(data)) == data
    return one


def left(path: Path, **client: Any) -> ResumableSession:
    one = asked(path, b"first", **client)
    path.run(one.close())
    return one.session


def dissected(
    path: Path, psks: Mapping[bytes, bytes] = PSKS, master_secrets: Mapping[bytes, bytes] | None = None
) -> Dissector:
    dissector = Dissector(psks, master_secrets or {})
    for moment in path.passed:
        dissector.feed(*moment)
    return dissector


def data_of(session: Session) -> list[bytes | None]:
    return [record.plaintext for record in session.application_data]


# --- resumption


@BY_ID_AND_BY_TICKET
def test_a_resumed_session_is_opened_with_the_earlier_ones_secret(offer: Any) -> None:
    path = new_path()
    again = asked(path, b"second", resume=left(path, hello_extensions=offer))
    first, second = dissected(path).sessions()
    assert (first.resumed, second.resumed, second.established) == (False, True, True)
    assert (second.identity, second.master_secret) == (IDENTITY, first.master_secret)
    assert data_of(second) == [b"second", b"second"]
    assert second.undecryptable() == {}
    assert second.server_finished_s is not None
    assert [flight.messages for flight in second.flights][-2:] == [
        ("ServerHello", "ChangeCipherSpec", "Finished"),
        ("ChangeCipherSpec", "Finished"),
    ]
    assert second.key_log() == again.key_log() != first.key_log()


def test_a_third_session_is_opened_by_way_of_the_second() -> None:
    path = new_path()
    second = asked(path, b"second", resume=left(path))
    path.run(second.close())
    asked(path, b"third", resume=second.session)
    assert [session.resumed for session in dissected(path).sessions()] == [False, True, True]
    assert data_of(dissected(path).sessions()[2]) == [b"third", b"third"]


@BY_ID_AND_BY_TICKET
def test_what_the_server_does_not_take_up_is_a_full_handshake(offer: Any) -> None:
    path = new_path(wrong=Misbehaviour(never_resumes=True))
    asked(path, b"second", resume=left(path, hello_extensions=offer))
    first, second = dissected(path).sessions()
    assert (second.resumed, second.established, data_of(second)) == (False, True, [b"second", b"second"])
    assert second.master_secret != first.master_secret


def test_a_ticket_without_a_session_id_shows_by_the_servers_change_cipher_spec() -> None:
    path = new_path()
    session = left(path, hello_extensions=WITH_TICKET)
    path.passed = [moment for moment in path.passed if moment[3][0] != ContentType.APPLICATION_DATA]
    again = Client(IDENTITY, PSK, resume=session)

    def script() -> Any:
        yield from again.flight(again.client_hello(session_id=b""), until=(object,))
        yield from again.send(again.client_hello(session_id=b""))
        yield from again.listen(0.1)

    path.run(script())
    _, second = dissected(path).sessions()
    assert (second.resumed, second.identity) == (True, IDENTITY)
    assert (second.server_finished_s is not None, second.client_finished_s) == (True, None)


def test_without_the_earlier_session_the_key_log_opens_it_and_nothing_else() -> None:
    path = new_path()
    session = left(path)
    path.passed.clear()
    again = asked(path, b"second", resume=session)
    (closed,) = dissected(path).sessions()
    assert (closed.resumed, closed.identity, closed.established, data_of(closed)) == (True, None, False, [])
    logged = {again.client_random: again.master_secret or b""}
    (opened,) = dissected(path, {}, logged).sessions()
    assert (opened.resumed, opened.established, data_of(opened)) == (True, True, [b"second", b"second"])


@settings(deadline=None)
@given(st.sets(st.integers(1, 14), max_size=5), st.booleans(), st.sampled_from([EXTENSIONS, WITH_CID]))
def test_losses_hide_nothing_of_what_the_server_sees(lost: set[int], by_ticket: bool, offer: Any) -> None:
    path = new_path(connection_id_bytes=4)
    session = left(path, hello_extensions=WITH_TICKET if by_ticket else EXTENSIONS)
    path.lose(lost)
    again = Client(IDENTITY, PSK, resume=session, hello_extensions=offer)
    again.timers = Timers(give_up_s=200.0)

    def script() -> Any:
        yield from again.handshake()
        yield from again.listen(200.0)

    path.run(script())
    path.lose(set())
    path.run(again.ask(b"second"))
    _, second = dissected(path).sessions()
    assert (second.resumed, second.established, second.undecryptable()) == (True, True, {})
    assert data_of(second)[-2:] == [b"second", b"second"]


def test_hellos_inside_a_session_change_nothing_of_it() -> None:
    path = new_path()
    client = asked(path, b"data")
    line, random = client.key_log(), client.client_random
    path.run(client.send(client.client_hello(random=bytes(32), suites=(1, 2))))
    stray = client.message(HandshakeType.CLIENT_HELLO, client.client_hello(random=random, suites=(3,)).body)
    path.run(client.send(client.record(stray, epoch=0)))
    (session,) = dissected(path).sessions()
    assert (session.established, session.key_log(), session.client_random) == (True, line, random)
    assert session.offered_suites == client.offered_suites


# --- connection IDs


@pytest.mark.parametrize(("wanted", "length"), [(b"mine", 4), (b"", 4), (b"mine", 0), (b"", 0), (b"x" * 20, 20)])
def test_records_with_connection_ids_are_opened(wanted: bytes, length: int) -> None:
    path = new_path(connection_id_bytes=length)
    client = asked(path, b"data", hello_extensions=EXTENSIONS + pairs(ConnectionId(wanted)))
    path.run(client.close())
    dissector = dissected(path)
    (session,) = dissector.sessions()
    assert (dissector.malformed, dissector.unclaimed, session.undecryptable()) == (0, 0, {})
    assert (session.client_cid, session.server_cid) == (client.read_cid, client.write_cid)
    assert (session.established, data_of(session)) == (True, [b"data", b"data"])
    assert [each.alert.name for each in session.alerts] == ["close_notify"] * 2
    sent, came = session.application_data
    assert (sent.connection_id, came.connection_id) == (client.write_cid, wanted)
    assert sent.length == len(client.sent[-2].datagram or b"")
    assert [flight.messages[-1] for flight in session.flights][-2:] == ["Finished", "Finished"]


def test_a_server_that_knows_none_agrees_on_none() -> None:
    path = new_path()
    asked(path, b"data", hello_extensions=WITH_CID)
    (session,) = dissected(path).sessions()
    assert (session.client_cid, session.server_cid, session.moves) == (None, None, ())


def test_without_keys_the_hellos_tell_what_is_whose() -> None:
    path = new_path(connection_id_bytes=4)
    client = asked(path, b"data", hello_extensions=WITH_CID)
    (session,) = dissected(path, {}).sessions()
    hidden = [record for record in session.records if record.content_type == TLS12_CID]
    assert {(record.from_client, record.connection_id) for record in hidden} == {
        (True, client.write_cid),
        (False, b"mine"),
    }
    assert session.undecryptable() == {1: len(hidden)}


def moved(path: Path, client: Client, address: Endpoint, data: bytes) -> None:
    path.address = address
    path.now_s += 1.0
    assert path.run(client.ask(data)) == data


@pytest.mark.parametrize("wanted", [b"mine", b""])
def test_a_client_is_followed_to_where_it_moves_and_back(wanted: bytes) -> None:
    path = new_path(connection_id_bytes=4)
    client = asked(path, b"home", hello_extensions=EXTENSIONS + pairs(ConnectionId(wanted)))
    moved(path, client, ELSEWHERE, b"away")
    moved(path, client, HOME, b"back")
    dissector = dissected(path)
    (session,) = dissector.sessions()
    assert (dissector.unclaimed, session.undecryptable()) == (0, {})
    assert data_of(session) == [b"home"] * 2 + [b"away"] * 2 + [b"back"] * 2
    assert session.moves == (Move(1.0, ELSEWHERE), Move(2.0, HOME))
    assert [session.client_at(t_s) for t_s in (0.0, 1.0, 2.5)] == [HOME, ELSEWHERE, HOME]
    assert session.client == HOME


def test_two_clients_exchange_their_addresses() -> None:
    path = new_path(connection_id_bytes=4)
    one = asked(path, b"one", hello_extensions=WITH_CID)
    path.address = ELSEWHERE
    two = asked(path, b"two", hello_extensions=EXTENSIONS + pairs(ConnectionId(b"longer than the other")))
    moved(path, one, STRANGER, b"one away")
    moved(path, two, HOME, b"two home")
    moved(path, one, ELSEWHERE, b"one elsewhere")
    first, second = dissected(path).sessions()
    assert data_of(first)[::2] == [b"one", b"one away", b"one elsewhere"]
    assert data_of(second)[::2] == [b"two", b"two home"]


def test_what_is_forged_repeated_or_late_moves_nobody_and_is_the_sessions_all_the_same() -> None:
    path = new_path(connection_id_bytes=4)
    client = asked(path, b"data", hello_extensions=WITH_CID)
    repeated, late = client.sent[-1].datagram or b"", client.datagram(client.application_data(b"late"))
    path.run(client.ask(b"more"))
    path.address = STRANGER
    path.run(client.send(spoiled(client.datagram(client.application_data(b"forged")))))
    path.run(client.send_each(repeated, late))
    unknown = client.record(client.application_data(b"?"), connection_id=b"none")
    path.run(client.send(unknown))
    dissector = dissected(path)
    (session,) = dissector.sessions()
    assert (session.moves, dissector.unclaimed, session.undecryptable(from_client=True)) == ((), 1, {1: 1})
    assert data_of(session)[-3:] == [b"data", b"late", b"late"]  # what is late is answered, at home


def test_the_fates_of_unknown_connection_ids() -> None:
    path = new_path(connection_id_bytes=4)
    client = asked(path, b"data", hello_extensions=WITH_CID)
    path.run(client.send(client.record(client.application_data(b"?"), connection_id=b"none")))
    path.run(client.send(client.record(client.application_data(b"?"), connection_id=b"of another length")))
    dissector = dissected(path)
    (session,) = dissector.sessions()
    assert (dissector.malformed, dissector.unclaimed) == (1, 0)
    assert session.records[-1].connection_id == b"none"
    assert session.records[-1].plaintext == b"?"  # it is authentic; that it is dropped is its receiver's affair


sources = st.sampled_from([HOME, ELSEWHERE, STRANGER])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), sources, st.integers(0, 200), st.integers(1, 255)), max_size=8))
def test_damage_moves_nobody_and_hides_nothing(damage: list[tuple[int, Endpoint, int, int]]) -> None:
    """Damaged copies from anywhere, between the datagrams of an honest conversation."""
    path = _conversation()
    dissector = Dissector(PSKS)
    for number, (t_s, source, destination, datagram) in enumerate(path.passed):
        for after, elsewhere, at, bits in damage:
            if after == number and datagram[3:5] != b"\0\0":
                copy = bytearray(datagram)
                copy[at % len(copy)] ^= bits
                ends = (elsewhere, destination) if destination == SERVER else (source, elsewhere)
                dissector.feed(t_s, *ends, bytes(copy))
        dissector.feed(t_s, source, destination, datagram)
    first, second = dissector.sessions()
    assert (first.established, second.established, second.resumed) == (True, True, True)
    assert data_of(second)[-4:] == [b"second", b"second", b"moved", b"moved"]
    assert [move.client for move in second.moves] == [ELSEWHERE]


@functools.cache
def _conversation() -> Path:
    path = new_path(connection_id_bytes=4)
    client = asked(path, b"second", hello_extensions=WITH_CID, resume=left(path, hello_extensions=WITH_CID))
    moved(path, client, ELSEWHERE, b"moved")
    return path


# --- those who use it


def test_a_conversation_with_both_reads_well() -> None:
    path = new_path(connection_id_bytes=2)
    session = left(path, hello_extensions=WITH_TICKET)
    begun = len(path.passed)
    client = asked(path, Message(Type.CON, GET, 7).encode(), hello_extensions=WITH_CID, resume=session)
    told = [describe_datagram(each, to == SERVER, [client]) for _, _, to, each in path.passed]
    lines = [line for each in told[begun:] for line in each]
    short, cid = session.session_id[:4].hex(), client.write_cid.hex()
    assert lines[0].startswith(
        f"ClientHello seq 0: version fefd, 2 suites, no cookie, session {short}..., ticket 96 B, wants connection ID "
        "6d696e65 (epoch 0"
    )
    (answer,) = [line for line in lines if line.startswith("ServerHello")]
    assert f", session {short}..., wants connection ID {cid} (" in answer
    assert f"Finished seq 2 (epoch 1, record 0, connection ID {cid})" in lines
    assert lines[-2] == f"CoAP CON GET MID 7 (epoch 1, record 1, connection ID {cid})"
    (ticket,) = [line for each in told for line in each if line.startswith("NewSessionTicket")]
    assert ticket.startswith("NewSessionTicket seq 3: ticket 96 B for 86400 s (epoch 0")


def test_a_relay_looks_into_resumed_sessions_with_connection_ids() -> None:
    path = new_path(connection_id_bytes=4)
    session = left(path)
    ask = Message(Type.CON, GET, 7, options=((11, b"light"),)).encode()
    asked(path, ask, hello_extensions=WITH_CID, resume=session)
    inspection = Inspection(Keyring(PSKS))
    seen = [inspection.look(destination == SERVER, datagram) for _, _, destination, datagram in path.passed]
    assert [part.path for part in seen[-1].parts] == ["/light"]
    assert [part.content_type for part in seen[-1].parts] == ["application_data"]
    assert [part.handshake for part in seen[-3].parts] == [None, "finished"]


def test_silence_of_the_relay_without_keys() -> None:
    path = new_path(connection_id_bytes=4)
    asked(path, b"data", hello_extensions=WITH_CID)
    inspection = Inspection(Keyring({}))
    seen = [inspection.look(destination == SERVER, datagram) for _, _, destination, datagram in path.passed]
    assert seen[-1].parts == ()


def test_a_client_without_the_key_is_nobodys_session() -> None:
    path = new_path(connection_id_bytes=4)
    stranger = Client(IDENTITY, b"another key", hello_extensions=WITH_CID)
    with pytest.raises(Silence):
        path.run(stranger.handshake())
    (session,) = dissected(path).sessions()
    assert (session.established, session.client_finished_s, session.resumed) == (False, None, False)
