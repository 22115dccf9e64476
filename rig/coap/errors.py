"""What the coaps client raises, and how it crosses from the worker process to the parent.

The family says who failed: a device that is silent, refuses, or breaks the protocol is a DeviceError; a missing
route, a crashed worker or a misused session is a BenchError.
"""

from collections.abc import Mapping
from typing import Any

from rig.dtls.alerts import alert_name
from rig.errors import BenchError, DeviceError, RigError


class ClientError(BenchError):
    """The coaps client itself failed, or was asked for what its library cannot do."""


class ClientCrashed(ClientError):
    """The worker process died or hung; names the signal and what had been sent."""


class LocalNetworkError(BenchError):
    """This host could not send: no route, interface down, name not resolved."""


class SessionDead(BenchError):
    """A session was used after it ended; the message says what ended it."""


class NoAnswer(DeviceError):
    """The device did not answer: the family of all kinds of silence."""


class ConnectTimeout(NoAnswer):
    """The DTLS handshake was not complete in time."""


class RequestTimeout(NoAnswer):
    """A request on an established session was not answered in time."""


class NotificationTimeout(NoAnswer):
    """No notification came in time. Nothing is outstanding: the session stays usable."""


class ConnectionRefused(NoAnswer):
    """The device's host answered with ICMP port unreachable: nothing listens there."""


class HostUnreachable(NoAnswer):
    """The last hop cannot find the device (ICMP or ARP): it is off, asleep, or has another address."""


class AlertReceived(DeviceError):
    """The device ended the handshake or the session with an alert (RFC 5246 clause 7.2; 0 is close_notify)."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number

    @property
    def name(self) -> str:
        """The alert's name in the standards, for example ``unknown_psk_identity``."""
        return alert_name(self.number)


class ResetReceived(DeviceError):
    """The device answered a message with RST (RFC 7252 clause 4.2)."""


class ProtocolError(DeviceError):
    """The device's messages contradict CoAP, for example in a block-wise transfer."""


class NotObservable(DeviceError):
    """The device answered an observe request without the Observe option (RFC 7641 clause 4.1)."""


class ObservationEnded(DeviceError):
    """The device ended an observation: its last notification carried no Observe option (RFC 7641 clause 4.2)."""


class BadPayload(DeviceError):
    """A payload is not the text or JSON that it was taken for."""


_KINDS: dict[str, type[RigError]] = {
    kind.__name__: kind
    for kind in (
        ClientError,
        LocalNetworkError,
        SessionDead,
        ConnectTimeout,
        RequestTimeout,
        ConnectionRefused,
        HostUnreachable,
        ResetReceived,
        ProtocolError,
        NotObservable,
        ObservationEnded,
    )
}


def error_to_wire(error: RigError) -> dict[str, Any]:
    """Return what the worker sends of an error."""
    wire: dict[str, Any] = {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, AlertReceived):
        wire["number"] = error.number
    return wire


def error_from_wire(wire: Mapping[str, Any]) -> RigError:
    """Rebuild in the parent the error that the worker raised."""
    if wire["kind"] == AlertReceived.__name__:
        return AlertReceived(wire["message"], wire["number"])
    return _KINDS[wire["kind"]](wire["message"])
