"""Sessions, verbs and failures of the coaps client, against libcoap and against peers that misbehave."""

import contextlib
import dataclasses
import errno
import json
import signal
import socket
import struct
import threading

import aiocoap.error
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.clock import now_s
from rig.coap import (
    AlertReceived,
    BadPayload,
    ClientError,
    ConnectionRefused,
    ConnectTimeout,
    HostUnreachable,
    LocalNetworkError,
    NoAnswer,
    ProtocolError,
    RequestTimeout,
    ResetReceived,
    Response,
    SessionDead,
)
from rig.coap.connection import explain, require_tested_version
from rig.coap.errors import error_from_wire, error_to_wire
from rig.coap.values import response_from_wire, to_line
from rig.dtls.alerts import DESCRIPTIONS
from rig.errors import BenchError, DeviceError

NEVER_SHOWN = b"Secret-Secret-16"


def test_verbs(server, open_session):
    before_s = now_s()
    with open_session(server.address) as session:
        first = session.get("/light")
        changed = session.put("/light", "on", content_format=0)
        after = session.get("/light", accept=None)
        assert (first.code, first.text) == ("2.05", "off")
        assert changed.code == "2.04"
        assert after.payload == b"on"
        assert session.get("/nothing").code == "4.04"
        assert session.post("/light").code == "4.05"
        assert session.delete("/plain").code == "4.05"
        assert session.get("/light", confirmable=False).text == "on"
        assert session.get("/.well-known/core").content_format == 40
        assert before_s < session.t_connect_s < session.t_connect_s + session.handshake_s < first.sent_s
        assert first.sent_s < first.received_s < changed.sent_s
        assert first.rtt_s == first.received_s - first.sent_s


def test_handshake_is_no_request(server, forward, open_session):
    forwarder = forward(server.address)
    with open_session(forwarder.address) as session:
        assert forwarder.handshakes == 1
        assert forwarder.application_data == []
        session.get("/light")
        assert len(forwarder.application_data) == 1


def test_no_copies_of_a_request_pile_up_behind_a_late_handshake(server, forward, open_session):
    # tinydtls says hello at 0, 2 and 6 s; a CON that waited for it since 0 s would be sent two or three times at once.
    forwarder = forward(server.address)
    forwarder.mute = True
    unmute = threading.Timer(3.0, setattr, (forwarder, "mute", False))
    unmute.start()
    with open_session(forwarder.address) as session:
        session.get("/light")
    assert len(forwarder.application_data) == 1
    unmute.join()


def test_local_port_is_the_one_on_the_wire(server, forward, open_session):
    forwarder = forward(server.address)
    with open_session(forwarder.address) as session:
        assert {port for _, port in forwarder.clients} == {session.local_port}


def test_two_sessions_at_once_with_their_own_ports(server, open_session):
    with open_session(server.address) as one, open_session(server.address) as two:
        assert one.local_port != two.local_port
        assert one.get("/light").text == two.get("/light").text


def test_close_sends_close_notify_exactly_once(server, forward, open_session):
    forwarder = forward(server.address)
    session = open_session(forwarder.address)
    with session:
        session.get("/light")
        session.close()
        session.close()
    assert forwarder.protected_alerts == 1


def test_hundred_sessions_in_sequence(server, forward, open_session, log_path):
    forwarder = forward(server.address)
    for _ in range(100):
        with open_session(forwarder.address) as session:
            assert session.get("/light").text == "off"
    assert (forwarder.handshakes, forwarder.protected_alerts) == (100, 100)
    assert_quiet(log_path)


def test_wrong_key_ends_in_the_own_timeout(server, forward, open_session):
    forwarder = forward(server.address)
    with pytest.raises(ConnectTimeout, match=r"within 1 s"):
        open_session(forwarder.address, psk=b"x" * 16, connect_timeout_s=1.0).connect()
    assert forwarder.handshakes > 0
    with open_session(forwarder.address) as session:
        assert session.get("/light").code == "2.05"


def test_wrong_key_does_not_ride_on_a_session_with_the_right_one(server, forward, open_session):
    forwarder = forward(server.address)
    with open_session(forwarder.address) as session:
        assert session.get("/light").code == "2.05"
        with pytest.raises(ConnectTimeout):
            open_session(forwarder.address, psk=b"x" * 16, connect_timeout_s=1.0).connect()
        assert len(forwarder.clients) == 2
        assert session.get("/light").code == "2.05"


def test_unknown_identity_is_refused_by_alert(server, open_session):
    with pytest.raises(AlertReceived, match="unknown_psk_identity") as caught:
        open_session(server.address, identity="mallory").connect()
    assert (caught.value.number, caught.value.name) == (115, "unknown_psk_identity")


def test_closed_port(open_session):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
    with pytest.raises(ConnectionRefused, match="nothing listens"):
        open_session(address).connect()


def test_peer_that_swallows(answer_with, open_session):
    with pytest.raises(ConnectTimeout):
        open_session(answer_with(lambda _: None), connect_timeout_s=0.5).connect()


def test_peer_that_echoes(answer_with, open_session):
    with pytest.raises((ConnectTimeout, AlertReceived)):
        open_session(answer_with(lambda data: data), connect_timeout_s=1.0).connect()


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("number", [0, 40, 80])
def test_peer_that_answers_with_alerts(answer_with, open_session, level, number):
    record = struct.pack("!BHHIHHBB", 21, 0xFEFD, 0, 0, 1, 2, level, number)
    expected = ConnectTimeout if (level == 1 and number != 0) else AlertReceived
    with pytest.raises(expected) as caught:
        open_session(answer_with(lambda _: record), connect_timeout_s=0.5).connect()
    if expected is AlertReceived:
        assert caught.value.number == number


def test_request_without_answer_kills_the_session(server, open_session):
    with open_session(server.address) as session:
        with pytest.raises(RequestTimeout, match=r"GET /mute within 0.3 s"):
            session.get("/mute", timeout_s=0.3)
        with pytest.raises(SessionDead, match="open a new one"):
            session.get("/light")
    with open_session(server.address) as session:
        assert session.get("/light").code == "2.05"


def test_retransmissions_run_out(server, forward, open_session):
    forwarder = forward(server.address)
    with open_session(forwarder.address, ack_timeout_s=0.05, max_retransmit=2) as session:
        forwarder.mute = True
        with pytest.raises(RequestTimeout, match="acknowledged none"):
            session.get("/light")
        assert len(forwarder.application_data) == 3
        with pytest.raises(SessionDead):
            session.get("/light")


def test_server_killed_and_restarted(start_server, forward, open_session):
    first = start_server()
    forwarder = forward(first.address)
    with open_session(forwarder.address) as session:
        assert session.get("/light").code == "2.05"
        first.stop(signal.SIGKILL)
        forwarder.target = start_server().address
        with pytest.raises(NoAnswer):
            session.get("/light", timeout_s=0.5)
    with open_session(forwarder.address) as session:
        assert session.get("/light").code == "2.05"


def test_close_notify_of_the_device_ends_the_session(server, forward, open_session):
    forwarder = forward(server.address)
    with open_session(forwarder.address) as session:
        session.get("/light")
        server.stop(signal.SIGTERM)
        with pytest.raises(AlertReceived) as caught:
            session.get("/light")
        assert caught.value.name == "close_notify"
        with pytest.raises(SessionDead, match="close_notify"):
            session.get("/light")
    assert forwarder.handshakes == 1


def test_device_gone_refuses_on_a_live_session(server, open_session):
    with open_session(server.address) as session:
        server.stop(signal.SIGKILL)
        with pytest.raises(ConnectionRefused):
            session.get("/light")
        with pytest.raises(SessionDead):
            session.get("/light")


def test_name_that_does_not_resolve(open_session):
    with pytest.raises(LocalNetworkError, match=r"cannot resolve board\.invalid"):
        open_session(("board.invalid", 5684)).connect()


def test_use_before_and_after(server, open_session):
    session = open_session(server.address)
    with pytest.raises(ClientError, match="not connected"):
        session.get("/light")
    with pytest.raises(ClientError, match="not connected"):
        assert session.local_port
    session.connect()
    with pytest.raises(ClientError, match="open a new one"):
        session.connect()
    with pytest.raises(ClientError, match="begin with '/'"):
        session.get("light")
    session.close()
    with pytest.raises(SessionDead, match="was closed"):
        session.get("/light")


@pytest.mark.parametrize("length", [0, 17, 32, 64])
def test_key_that_the_library_cannot_hold(open_session, client, length):
    with pytest.raises(BenchError, match="holds 1 to 16"):
        open_session(("127.0.0.1", 1), psk=b"k" * length)
    assert client.worker_pid is None


@pytest.mark.parametrize("identity", ["", "i" * 33, "ü" * 17, "a\0b"])
def test_identity_that_the_library_cannot_hold(open_session, client, identity):
    with pytest.raises(BenchError, match="holds 1 to 32"):
        open_session(("127.0.0.1", 1), identity=identity)
    assert client.worker_pid is None


def test_longest_identity_and_key_work_with_any_bytes(answer_with, open_session):
    with pytest.raises(ConnectTimeout):
        open_session(
            answer_with(lambda _: None), identity="i" * 32, psk=bytes(range(16)), connect_timeout_s=0.1
        ).connect()


def test_key_is_shown_nowhere(server, client, log_path):
    session = client.session(*server.address, identity="alice", psk=NEVER_SHOWN, connect_timeout_s=0.3)
    with pytest.raises(ConnectTimeout) as caught:
        session.connect()
    with pytest.raises(ClientError) as refused:
        client.session(*server.address, identity="alice", psk=NEVER_SHOWN * 2)
    reports = [str(info.getrepr(style="long", showlocals=True)) for info in (caught, refused)]
    shown = "\n".join([repr(session), str(vars(session)), *reports, log_path.read_text()])
    for form in (NEVER_SHOWN.decode(), NEVER_SHOWN.hex(), "U2VjcmV0LVNlY3JldC0xNg"):
        assert form not in shown


def test_families_of_errors():
    assert issubclass(NoAnswer, DeviceError)
    assert issubclass(AlertReceived, DeviceError)
    assert issubclass(SessionDead, BenchError)
    assert issubclass(LocalNetworkError, BenchError)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ECONNREFUSED, ConnectionRefused),
        (errno.EHOSTUNREACH, HostUnreachable),
        (errno.ENETUNREACH, LocalNetworkError),
        (errno.EPERM, LocalNetworkError),
    ],
)
def test_socket_errors_say_who_failed(number, kind):
    assert type(explain(OSError(number, "words"), "127.0.0.1:1", "GET /light")) is kind


def test_reset_and_other_library_errors():
    assert type(explain(aiocoap.error.MessageError(), "127.0.0.1:1", "GET /light")) is ResetReceived
    assert type(explain(aiocoap.error.UnexpectedBlock2("x"), "127.0.0.1:1", "GET /light")) is ProtocolError
    assert type(explain(RuntimeError(), "127.0.0.1:1", "GET /light")) is ClientError


def test_other_version_of_the_library_is_refused(monkeypatch):
    require_tested_version()
    monkeypatch.setattr("rig.coap.connection.TESTED_VERSION", "0.0.1")
    with pytest.raises(ClientError, match=r"pip install aiocoap==0\.0\.1"):
        require_tested_version()


@given(number=st.sampled_from(sorted(DESCRIPTIONS)) | st.integers(0, 255), message=st.text())
def test_errors_cross_the_pipe(number, message):
    for error in (AlertReceived(message, number), ConnectTimeout(message), SessionDead(message)):
        again = error_from_wire(error_to_wire(error))
        assert type(again) is type(error)
        assert vars(again) == vars(error)
        assert str(again) == message


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    payload=st.binary(),
    options=st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=40))).map(tuple),
    sent_s=FINITE,
    received_s=FINITE,
)
def test_responses_cross_the_pipe(payload, options, sent_s, received_s):
    response = Response("2.05", payload, options, sent_s, received_s)
    line = to_line(dataclasses.asdict(response))
    assert line.count(b"\n") == 1
    assert response_from_wire(json.loads(line)) == response


@given(payload=st.binary())
def test_text_and_json_say_what_is_wrong(payload):
    response = Response("2.05", payload, ((12, b""),), 0.0, 1.0)
    assert response.content_format == 0
    with contextlib.suppress(BadPayload):
        assert response.text.encode() == payload
    with contextlib.suppress(BadPayload):
        response.json()


def assert_quiet(log_path):
    log = log_path.read_text()
    for noise in ("Traceback", "Event loop is closed", "never retrieved", "in vain", "WARNING", "ERROR", "Exception"):
        assert noise not in log
