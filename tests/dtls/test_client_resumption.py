"""Sessions that are taken up again, by session id and by ticket (RFC 5246 7.3, RFC 5077), against OpenSSL."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rig.dtls.client import Client
from rig.dtls.connection import ResumableSession
from rig.dtls.contents import ServerHelloDone
from rig.dtls.conversation import Script, Send
from rig.dtls.dissector import Dissector
from rig.dtls.extensions import ExtendedMasterSecret, SessionTicket, pairs
from rig.dtls.records import ContentType

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"
OFFER = pairs(ExtendedMasterSecret(), SessionTicket())


def closed_client(dial: Any, endpoint: Any, offer: Any) -> Client:
    client = Client(IDENTITY, PSK, hello_extensions=offer)
    wire = dial(endpoint)
    wire.run(client.handshake())
    assert wire.run(client.close())
    return client


def session_of(dial: Any, endpoint: Any, offer: Any) -> ResumableSession:
    return closed_client(dial, endpoint, offer).session


BY_ID_AND_BY_TICKET = pytest.mark.parametrize(
    ("kind", "offer"), [("openssl-no-ticket", pairs(ExtendedMasterSecret())), ("openssl", OFFER)], ids=["id", "ticket"]
)


@BY_ID_AND_BY_TICKET
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


@BY_ID_AND_BY_TICKET
def test_a_bystander_follows_it(kind: str, offer: Any, server: Any, dial: Any) -> None:
    endpoint = server(kind)
    first = closed_client(dial, endpoint, offer)
    again, wire = Client(IDENTITY, b"not needed", resume=first.session), dial(endpoint)
    wire.run(again.handshake())
    wire.run(again.send(again.application_data(b"canary\n")))
    assert wire.run(again.close())
    dissector = Dissector({IDENTITY: PSK})
    for port, client in enumerate((first, again)):
        ours, theirs = [(each, True) for each in client.sent], [(each, False) for each in client.received]
        for moment, from_client in sorted(ours + theirs, key=lambda entry: entry[0].t_s):
            ends = (("127.0.0.1", port), endpoint) if from_client else (endpoint, ("127.0.0.1", port))
            dissector.feed(moment.t_s, *ends, moment.datagram or b"")
    _, session = dissector.sessions()
    assert (session.resumed, session.established, session.identity) == (True, True, IDENTITY)
    assert (session.key_log(), session.undecryptable()) == (again.key_log(), {})
    assert [record.plaintext for record in session.application_data] == [b"canary\n"]


def losing_first(lost: Callable[[bytes], bool], script: Script[Any]) -> Script[Any]:
    """Run *script* on a network that loses the first datagram of a kind."""
    step, missing = next(script), True
    while True:
        if missing and isinstance(step, Send) and any(lost(datagram) for datagram in step.datagrams):
            step, missing = Send(), False
        try:
            step = script.send((yield step))
        except StopIteration as end:
            return end.value


def test_a_lost_last_flight_is_sent_again_when_the_server_repeats_its_own(server: Any, dial: Any) -> None:
    endpoint = server("openssl-no-ticket")
    session = session_of(dial, endpoint, pairs(ExtendedMasterSecret()))
    again, wire = Client(IDENTITY, PSK, resume=session), dial(endpoint)
    wire.run(losing_first(lambda datagram: datagram[0] == ContentType.CHANGE_CIPHER_SPEC, again.handshake()))
    heard = wire.run(again.listen(1.5))  # OpenSSL's timer is 1 s
    assert ("Finished", True) in [(received.name, received.repeated) for received in heard]
    wire.run(again.send(again.application_data(b"at last\n")))
    assert server.process(endpoint).stdout.readline() == b"at last\n"


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
