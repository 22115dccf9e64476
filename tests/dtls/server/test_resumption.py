"""Sessions that the scriptable server takes up again, by session id and by ticket."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.dtls.client import Client, Refused, Timers
from rig.dtls.connection import EXTENSIONS, ResumableSession
from rig.dtls.contents import NewSessionTicket, ServerHelloDone
from rig.dtls.conversation import Script
from rig.dtls.extensions import SessionTicket, pairs
from rig.dtls.server import Established
from tests.dtls.server.conftest import IDENTITY, PSK, Path

NewPeer = Callable[..., Any]

CCM_8, GCM = 0xC0A8, 0x00A8
LIFETIME_S = 600
WITH_TICKET = EXTENSIONS + pairs(SessionTicket())
BY_ID_AND_BY_TICKET = pytest.mark.parametrize("offer", [EXTENSIONS, WITH_TICKET], ids=["id", "ticket"])


@pytest.fixture
def path(new_peer: NewPeer) -> Path:
    settings = {"session_ids": True, "tickets": True, "session_lifetime_s": LIFETIME_S, "suites": (CCM_8, GCM)}
    return Path(new_peer(settings=settings).server)


def shaken(path: Path, **client: Any) -> Client:
    """Return a client that has shaken hands."""
    one = Client(IDENTITY, PSK, **client)
    path.run(one.handshake())
    return one


def left(path: Path, **client: Any) -> ResumableSession:
    """Return what a client keeps of a session that is closed."""
    one = shaken(path, **client)
    assert path.run(one.close())
    return one.session


@BY_ID_AND_BY_TICKET
def test_an_abbreviated_handshake_has_the_old_identity_and_data_both_ways(path: Path, offer: Any) -> None:
    session = left(path, hello_extensions=offer)
    assert (bool(session.ticket), len(session.session_id)) == (offer == WITH_TICKET, 32)
    again = Client(b"nobody", b"no key", resume=session)
    path.run(again.handshake())
    assert (again.resumed, again.server_verified) == (True, True)
    assert Established(path.address, IDENTITY, CCM_8, resumed=True) in path.events
    assert not any(isinstance(each.content, ServerHelloDone) for each in again.seen)
    assert path.run(again.ask(b"ask")) == b"ask"
    assert path.run(again.close())


def test_the_ticket_names_its_life_and_nothing_is_resumed_after_it(path: Path) -> None:
    one = shaken(path, hello_extensions=WITH_TICKET)
    assert [each.content.lifetime_s for each in one.seen if isinstance(each.content, NewSessionTicket)] == [LIFETIME_S]
    session = one.session
    path.now_s = LIFETIME_S - 1
    assert shaken(path, resume=session).resumed
    path.now_s = LIFETIME_S
    assert not shaken(path, resume=session).resumed


@pytest.mark.parametrize("alter", [lambda one: one[:-1] + bytes((one[-1] ^ 1,)), lambda one: b"?" * len(one)])
@BY_ID_AND_BY_TICKET
def test_what_is_not_known_leads_to_a_full_handshake(path: Path, offer: Any, alter: Callable[[bytes], bytes]) -> None:
    session = left(path, hello_extensions=offer)
    name = "ticket" if session.ticket else "session_id"
    again = shaken(path, resume=replace(session, **{name: alter(getattr(session, name))}))
    assert (again.resumed, again.server_verified) == (False, True)


def test_a_session_id_is_not_looked_at_beside_a_ticket(path: Path) -> None:
    session = left(path)
    assert not shaken(path, resume=replace(session, ticket=b"unknown")).resumed


def test_another_suite_or_another_kind_of_master_secret_is_another_session(path: Path) -> None:
    session, old = left(path), left(path, hello_extensions=None)
    other = shaken(path, resume=session, offered_suites=(GCM,))
    assert (other.resumed, other.suite.number) == (False, GCM)
    assert not shaken(path, resume=old).resumed
    assert shaken(path, resume=old, hello_extensions=None).resumed
    with pytest.raises(Refused, match="handshake_failure"):  # RFC 7627 5.3
        shaken(path, resume=session, hello_extensions=None)


@BY_ID_AND_BY_TICKET
def test_a_fatal_alert_ends_the_session_for_good(path: Path, offer: Any) -> None:
    one = shaken(path, hello_extensions=offer)
    path.run(one.send(one.alert(2, 80)))
    assert not shaken(path, resume=one.session).resumed


def test_a_fatal_alert_in_clear_costs_nobody_a_session(path: Path) -> None:
    session = left(path)
    stranger = Client(b"stranger", b"", resume=session)

    def overheard_id() -> Script[None]:
        yield from stranger.hello()
        yield from stranger.send(stranger.alert(2, 80))

    path.run(overheard_id())
    assert shaken(path, resume=session).resumed


def test_only_so_many_are_kept(path: Path) -> None:
    first = left(path)
    last = [left(path) for _ in range(64)][-1]
    assert (shaken(path, resume=first).resumed, shaken(path, resume=last).resumed) == (False, True)


def test_off_by_default(new_peer: NewPeer) -> None:
    path = Path(new_peer().server)
    one = shaken(path, hello_extensions=WITH_TICKET)
    assert (one.session.session_id, one.session.ticket) == (b"", b"")


def test_data_waits_for_the_clients_proof(path: Path) -> None:
    session = left(path)
    again = Client(IDENTITY, PSK, resume=session)
    path.run(again.hello())
    assert path.server.send(path.address, b"too early") == []
    path.run(again.send(again.change_cipher_spec(), again.finished()))
    assert path.server.send(path.address, b"now")


@given(st.sets(st.integers(1, 10), max_size=4))
def test_an_abbreviated_handshake_survives_losses(new_peer: NewPeer, lost: set[int]) -> None:
    path = Path(new_peer(settings={"session_ids": True}).server)
    again = Client(IDENTITY, PSK, resume=left(path))
    again.timers = Timers(give_up_s=120.0)
    path.lose(lost)

    def script() -> Script[None]:
        yield from again.handshake()
        yield from again.listen(200.0)

    path.run(script())
    path.lose(set())
    assert path.run(again.ask(b"ask")) == b"ask"
    assert again.resumed
    assert sum(isinstance(event, Established) and event.resumed for event in path.events) == 1
