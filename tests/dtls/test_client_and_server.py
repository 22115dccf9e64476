"""The rig's client and the rig's server on a simulated network: time is a number, loss is chosen."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.dtls.client import Client, NotVerified, Silence, Timers
from rig.dtls.conversation import Conversation, Script
from rig.dtls.dissector import Dissector
from rig.dtls.server import Established, Send, Server
from rig.dtls.server_session import Settings

IDENTITY, PSK = b"sensor-1", b"0123456789abcdef"
CLIENT, SERVER = ("192.0.2.1", 40000), ("192.0.2.2", 5684)
DELAY_S = 0.01


class Network:
    """Carries datagrams between one conversation and one server; *lost* are those that do not arrive, counted."""

    def __init__(self, server: Server, lost: set[int]) -> None:
        self.now_s = 0.0
        self.established = 0
        self._server = server
        self._lost = lost
        self._carried = 0

    def run(self, script: Script[Any]) -> Any:
        conversation = Conversation(script)
        self._to_server(conversation, conversation.start(self.now_s))
        while not conversation.ended:
            assert conversation.next_timeout_s is not None
            deadlines = [conversation.next_timeout_s, self._server.deadline_s]
            self.now_s = max(self.now_s, min(each for each in deadlines if each is not None))
            self._to_client(conversation, self._server.expire(self.now_s))
            if conversation.next_timeout_s is not None and conversation.next_timeout_s <= self.now_s:
                self._to_server(conversation, conversation.timeout(self.now_s))
        return conversation.result

    def _to_server(self, conversation: Conversation[Any], datagrams: tuple[bytes, ...]) -> None:
        for datagram in datagrams:
            if self._arrives():
                self.now_s += DELAY_S
                self._to_client(conversation, self._server.receive(self.now_s, CLIENT, datagram))

    def _to_client(self, conversation: Conversation[Any], events: list[Any]) -> None:
        for event in events:
            self.established += isinstance(event, Established)
            if isinstance(event, Send) and self._arrives():
                self.now_s += DELAY_S
                self._to_server(conversation, conversation.receive(self.now_s, event.datagram))

    def _arrives(self) -> bool:
        self._carried += 1
        return self._carried not in self._lost


def server() -> Server:
    return Server(Settings(psks={IDENTITY: PSK}))


@given(st.sets(st.integers(1, 12), max_size=5))
def test_a_handshake_survives_any_five_losses(lost: set[int]) -> None:
    client = Client(IDENTITY, PSK)
    client.timers = Timers(give_up_s=120.0)
    network = Network(server(), lost)
    network.run(client.handshake())
    assert client.server_verified
    assert network.established == 1


def test_without_loss_it_takes_six_datagrams_and_no_timer() -> None:
    client, network = Client(IDENTITY, PSK), Network(server(), set())
    network.run(client.handshake())
    assert (len(client.sent), len(client.received)) == (3, 3)
    assert network.now_s == pytest.approx(6 * DELAY_S)


def test_a_wrong_key_ends_in_silence_or_an_alert_and_never_in_a_session() -> None:
    client, network = Client(IDENTITY, b"another key of16"), Network(server(), set())
    with pytest.raises((Silence, NotVerified)):
        network.run(client.handshake())
    assert network.established == 0


def test_the_key_log_opens_what_the_client_recorded() -> None:
    client, network = Client(IDENTITY, PSK), Network(server(), set())

    def script() -> Script[bool]:
        yield from client.handshake()
        yield from client.send(client.application_data(b"canary"))
        return (yield from client.close())

    assert network.run(script())
    label, client_random, master_secret = client.key_log().split()
    assert label == "CLIENT_RANDOM"
    dissector = Dissector({}, {bytes.fromhex(client_random): bytes.fromhex(master_secret)})
    both = [(each, True) for each in client.sent] + [(each, False) for each in client.received]
    for moment, ours in sorted(both, key=lambda entry: entry[0].t_s):
        ends = (CLIENT, SERVER) if ours else (SERVER, CLIENT)
        dissector.feed(moment.t_s, *ends, moment.datagram or b"")
    (session,) = dissector.sessions()
    assert session.established
    assert [record.plaintext for record in session.application_data] == [b"canary"]
    assert [(seen.from_client, seen.alert.name) for seen in session.alerts] == [
        (True, "close_notify"),
        (False, "close_notify"),
    ]
