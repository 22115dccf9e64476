"""Observations of the coaps client."""

import random
import signal

import pytest

from rig.clock import now_s
from rig.coap import (
    AlertReceived,
    ClientError,
    NotificationTimeout,
    NotObservable,
    ObservationEnded,
    RequestTimeout,
    SessionDead,
)


def test_first_response_and_notifications(server, open_session):
    with open_session(server.address) as session, session.observe("/light") as observation:
        assert (observation.first.code, observation.first.text) == ("2.05", "off")
        before_s = now_s()
        session.put("/light", "on")
        notification = observation.next()
        assert (notification.code, notification.text) == ("2.05", "on")
        assert before_s < notification.received_s < now_s()
        assert notification.observe > observation.first_observe


def test_two_at_once_are_never_mixed(server, open_session):
    with (
        open_session(server.address) as session,
        open_session(server.address) as other,
        session.observe("/light") as light,
        session.observe("/mirror") as mirror,
    ):
        seen = []
        for number in range(30):
            other.put("/light", f"value {number}")
            pair = random.sample([light, mirror], 2)
            seen.append({observation.path: observation.next() for observation in pair})
        assert [pair["/light"].text for pair in seen] == [f"value {number}" for number in range(30)]
        assert [pair["/mirror"].text for pair in seen] == [f"value {number}" for number in range(30)]
        observes = [pair["/light"].observe for pair in seen]
        assert observes == sorted(set(observes))


def test_cancel_deregisters_at_the_device(server, forward, open_session):
    forwarder = forward(server.address)
    with open_session(forwarder.address) as session, open_session(server.address) as other:
        observation = session.observe("/light")
        observation.cancel()
        observation.cancel()
        sent = len(forwarder.application_data)
        other.put("/light", "on")
        with pytest.raises(NotificationTimeout):
            observation.next(0.3)
        assert len(forwarder.application_data) == sent
        assert session.get("/light").text == "on"


def test_cancel_of_one_keeps_the_other(server, open_session):
    with open_session(server.address) as session, session.observe("/mirror") as mirror:
        with session.observe("/light"):
            pass
        session.put("/light", "on")
        assert mirror.next().text == "on"


def test_silence_leaves_the_session_alive(server, open_session):
    with open_session(server.address) as session, session.observe("/light") as observation:
        with pytest.raises(NotificationTimeout, match=r"/light within 0.1 s"):
            observation.next(0.1)
        session.put("/light", "on")
        assert observation.next().text == "on"


def test_not_observable(server, open_session):
    with open_session(server.address) as session:
        with pytest.raises(NotObservable, match=r"/plain with 2\.05"):
            session.observe("/plain")
        assert session.get("/plain").code == "2.05"


def test_device_deletes_the_resource(example_server, open_session):
    with open_session(example_server) as session:
        session.put("/created", "here", content_format=0)
        with session.observe("/created") as observation:
            session.delete("/created")
            with pytest.raises(ObservationEnded, match=r"4\.04"):
                observation.next()
        assert session.get("/created").code == "4.04"


def test_representation_of_several_blocks_is_refused_and_deregistered(example_server, open_session):
    with open_session(example_server) as session:
        session.put("/created", b"x" * 3000)
        with pytest.raises(ClientError, match="several blocks"):
            session.observe("/created")
        session.put("/created", "short")
        with session.observe("/created") as observation:
            session.put("/created", b"y" * 3000)
            with pytest.raises(ClientError, match="several blocks"):
                observation.next()
        assert session.get("/created").payload == b"y" * 3000


def test_device_closes_the_session(server, open_session):
    with open_session(server.address) as session, session.observe("/light") as observation:
        server.stop(signal.SIGTERM)
        with pytest.raises((AlertReceived, ObservationEnded)):
            observation.next()
        with pytest.raises((AlertReceived, ObservationEnded)):
            observation.next()


def test_timeout_of_a_request_ends_observations(server, open_session):
    with open_session(server.address) as session, session.observe("/light") as observation:
        with pytest.raises(RequestTimeout):
            session.get("/mute", timeout_s=0.2)
        with pytest.raises(RequestTimeout):
            observation.next()


def test_close_ends_observations(server, open_session):
    with open_session(server.address) as session:
        observation = session.observe("/light")
    with pytest.raises(SessionDead, match="was closed"):
        observation.next()
    observation.cancel()
