"""Responses and notifications as values, and their form on the pipe between worker and parent."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rig.coap.errors import BadPayload

CONTENT_FORMAT = 12
"""Option number of Content-Format (RFC 7252 clause 5.10)."""

Options = tuple[tuple[int, bytes], ...]


class Secret:
    """Bytes that no repr, traceback or log shows."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "<secret>"

    def reveal(self) -> bytes:
        """Return the bytes; only for handing them to the library."""
        return self._value


def encode_bytes(value: bytes) -> str:
    """Return bytes as the base64 text that travels in JSON."""
    return base64.b64encode(value).decode("ascii")


def decode_bytes(text: str) -> bytes:
    """Undo :func:`encode_bytes`."""
    return base64.b64decode(text, validate=True)


def to_line(message: Mapping[str, Any]) -> bytes:
    """Return one message as a line of JSON; bytes and secrets in it become base64 text."""

    def plain(value: object) -> str:
        if isinstance(value, Secret):
            return encode_bytes(value.reveal())
        if isinstance(value, bytes):
            return encode_bytes(value)
        raise TypeError(f"{type(value).__name__} cannot travel to the coaps worker")

    return json.dumps(message, default=plain).encode("ascii") + b"\n"


@dataclass(frozen=True)
class Response:
    """What the device answered.

    ``code`` is dotted ("2.05"); ``options`` are (number, raw value) in the order of the message; ``sent_s`` is when the
    request was handed to the message layer (its first datagram leaves at once unless another CON is outstanding,
    NSTART = 1) and ``received_s`` when the last datagram of the answer was read, both on the rig's clock.
    """

    code: str
    payload: bytes
    options: Options
    sent_s: float
    received_s: float

    @property
    def rtt_s(self) -> float:
        """Time from sending to the complete answer, in seconds, retransmissions included."""
        return self.received_s - self.sent_s

    @property
    def content_format(self) -> int | None:
        """The Content-Format number, or None if the option is absent."""
        return _content_format(self.options)

    @property
    def text(self) -> str:
        """The payload as UTF-8 text; BadPayload if it is not."""
        return _text(self.code, self.payload)

    def json(self) -> Any:
        """The payload as parsed JSON; BadPayload if it is not."""
        return _json(self.code, self.payload)


@dataclass(frozen=True)
class Notification:
    """One notification of an observation; ``observe`` is the 24-bit sequence number (RFC 7641 clause 4.4)."""

    code: str
    payload: bytes
    options: Options
    observe: int
    received_s: float

    @property
    def content_format(self) -> int | None:
        """The Content-Format number, or None if the option is absent."""
        return _content_format(self.options)

    @property
    def text(self) -> str:
        """The payload as UTF-8 text; BadPayload if it is not."""
        return _text(self.code, self.payload)

    def json(self) -> Any:
        """The payload as parsed JSON; BadPayload if it is not."""
        return _json(self.code, self.payload)


def response_from_wire(wire: Mapping[str, Any]) -> Response:
    """Rebuild a response from the worker's message."""
    return Response(wire["code"], decode_bytes(wire["payload"]), _options(wire), wire["sent_s"], wire["received_s"])


def notification_from_wire(wire: Mapping[str, Any]) -> Notification:
    """Rebuild a notification from the worker's message."""
    return Notification(
        wire["code"], decode_bytes(wire["payload"]), _options(wire), wire["observe"], wire["received_s"]
    )


def _options(wire: Mapping[str, Any]) -> Options:
    return tuple((number, decode_bytes(value)) for number, value in wire["options"])


def _content_format(options: Options) -> int | None:
    values = [value for number, value in options if number == CONTENT_FORMAT]
    return int.from_bytes(values[0], "big") if values else None


def _text(code: str, payload: bytes) -> str:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadPayload(f"the {code} payload is not UTF-8 text ({error.reason}): {payload[:40]!r}") from None


def _json(code: str, payload: bytes) -> Any:
    try:
        return json.loads(_text(code, payload))
    except json.JSONDecodeError as error:
        raise BadPayload(f"the {code} payload is not JSON ({error}): {payload[:40]!r}") from None
