"""Sessions that are taken up again, by session id and by ticket (RFC 5246 7.3, RFC 5077), against OpenSSL."""

from dataclasses import replace
from typing import Any

import pytest

from rig.dtls.client import Client
from rig.dtls.connection import ResumableSession
from rig.dtls.contents import ServerHelloDone
from rig.dtls.extensions import ExtendedMasterSecret, SessionTicket, pairs

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"
OFFER = pairs(ExtendedMasterSecret(), SessionTicket())


def session_of(dial: Any, endpoint: Any, offer: Any) -> ResumableSession:
    client = Client(IDENTITY, PSK, hello_extensions=offer)
    wire = dial(endpoint)
    wire.run(client.handshake())
    assert wire.run(client.close())
    return client.session


@pytest.mark.parametrize(
    ("kind", "offer"), [("openssl-no-ticket", pairs(ExtendedMasterSecret())), ("openssl", OFFER)], ids=["id", "ticket"]
)
def test_a_session_is_taken_up_again(kind: str, offer: Any, server: Any, dial: Any) -> None:
    endpoint = server(kind)
    session = session_of(dial, endpoint, offer)
    assert bool(session.ticket) == (kind == "openssl")
    again, wire = Client(IDENTITY, b"not needed", resume=session), dial(endpoint)
    wire.run(again.handshake())
    assert (again.resumed, again.server_verified) == (True, True)
    assert again.master_secret == session.master_secret
    assert not any(isinstance(received.content, ServerHelloDone) for received in again.seen)
    wire.run(again.send(again.application_data(b"on the old keys' successor\n")))
    assert server.process(endpoint).stdout.readline() == b"on the old keys' successor\n"
    assert wire.run(again.close())


@pytest.mark.parametrize("kind", ["openssl-no-ticket", "openssl"])
def test_rsm_02_an_altered_session_falls_back_to_a_full_handshake(kind: str, server: Any, dial: Any) -> None:
    endpoint = server(kind)
    session = session_of(dial, endpoint, OFFER)
    ticket = session.ticket[:-1] + bytes((session.ticket[-1] ^ 1,)) if session.ticket else b""
    altered = replace(session, session_id=bytes(32), ticket=ticket)
    again, wire = Client(IDENTITY, PSK, resume=altered), dial(endpoint)
    wire.run(again.handshake())
    assert not again.resumed
    assert again.master_secret != session.master_secret
    assert wire.run(again.close())
