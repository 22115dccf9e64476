"""What a relay does to packets for what they are: data that the rig, its tests and the virtual bench's relay share.

Where an `Impairment` draws lots, a rule names its packets: "the server's last flight, the first time".
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rig.errors import BenchError

Direction = Literal["to_client", "to_device"]
Action = Literal["drop", "delay", "duplicate", "flip", "truncate", "hang"]
ContentTypeName = Literal["change_cipher_spec", "alert", "handshake", "application_data"]
HandshakeName = Literal[
    "hello_request",
    "client_hello",
    "server_hello",
    "hello_verify_request",
    "new_session_ticket",
    "certificate",
    "server_key_exchange",
    "certificate_request",
    "server_hello_done",
    "certificate_verify",
    "client_key_exchange",
    "finished",
]
CoapTypeName = Literal["CON", "NON", "ACK", "RST"]

# RFC 6347 4.2.4, figure 1: who sends which flight.
FLIGHTS: Mapping[str, tuple[int, ...]] = {"to_device": (1, 3, 5), "to_client": (2, 4, 6)}

_LONGEST_DATAGRAM = 65535
_LONGEST_S = 3600
_MOST_COPIES = 100


class PacketRuleError(BenchError):
    """A rule that says nothing sensible. The message names the field and what it takes."""


@dataclass(frozen=True)
class CoapMatch:
    """A CoAP message, in clear or in a record that the relay can open.

    code: as RFC 7252 writes it, ``2.05``
    path: of the request, ``/light``; a response has that of the request with its token
    """

    type: CoapTypeName | None = None
    code: str | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        _check_word("coap type", self.type, get_args(CoapTypeName))
        if self.code is not None and not _is_code(self.code):
            raise PacketRuleError(f"coap code {self.code!r} is not written like 2.05")
        if self.path is not None and not (isinstance(self.path, str) and self.path.startswith("/")):
            raise PacketRuleError(f"coap path {self.path!r} does not begin with a slash")


@dataclass(frozen=True)
class Match:
    """What a datagram must be. What is not given fits everything.

    content_type, epoch, handshake, alert, coap: one record (one handshake message) of the datagram is all of these.
        ``handshake`` names one or several types, of which one must fit; a protected handshake message whose key the
        relay does not know counts as ``finished``. ``alert`` is the description's number.
    flight: holds something of this flight of RFC 6347 4.2.4, figure 1, from 1 (ClientHello without a cookie) to 6
        (the server's ChangeCipherSpec and Finished; also those of an abbreviated handshake)
    repeated: all its handshake messages (its CoAP message, where that can be read) passed before in this session
    longer_than_bytes: its UDP payload is longer
    """

    content_type: ContentTypeName | None = None
    epoch: int | None = None
    handshake: tuple[HandshakeName, ...] = ()
    alert: int | None = None
    coap: CoapMatch | None = None
    flight: int | None = None
    repeated: bool | None = None
    longer_than_bytes: int | None = None

    def __post_init__(self) -> None:
        _check_word("content_type", self.content_type, get_args(ContentTypeName))
        for kind in self.handshake:
            _check_word("handshake", kind, get_args(HandshakeName))
        for name, highest in (("epoch", 65535), ("alert", 255), ("longer_than_bytes", _LONGEST_DATAGRAM)):
            if getattr(self, name) is not None:
                _check_integer(name, getattr(self, name), 0, highest)
        if self.flight is not None:
            _check_integer("flight", self.flight, 1, 6)
        if self.repeated is not None and not isinstance(self.repeated, bool):
            raise PacketRuleError(f"repeated {self.repeated!r} is neither true nor false")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Match":
        """Build from plain values; ``handshake`` is a list of names, ``coap`` an object."""
        _check_keys(cls, values)
        built = dict(values)
        if "handshake" in built:
            built["handshake"] = _tuple("handshake", built["handshake"])
        if "coap" in built:
            built["coap"] = _nested("coap", CoapMatch, built["coap"])
        return cls(**built)


@dataclass(frozen=True)
class PacketRule:
    """One rule for one direction.

    value: of ``delay`` seconds; of ``duplicate`` the copies beside the original; of ``flip`` the place of the byte
        whose lowest bit is inverted, from the end where negative; of ``truncate`` the bytes that are left; of ``hang``
        the seconds in which nothing passes, from the datagram that matched on, for no client and in no direction
    nth, first, every: of the datagrams of one client that match, only the nth, the first so many, or every so-manieth
        is acted on; at most one of the three, none of them means all
    """

    direction: Direction
    action: Action
    match: Match = field(default_factory=Match)
    value: float | int | None = None
    nth: int | None = None
    first: int | None = None
    every: int | None = None

    def __post_init__(self) -> None:
        if self.direction not in get_args(Direction):
            raise PacketRuleError(f"direction {self.direction!r} is none of {', '.join(get_args(Direction))}")
        if self.action not in get_args(Action):
            raise PacketRuleError(f"action {self.action!r} is none of {', '.join(get_args(Action))}")
        self._check_value()
        self._check_occurrence()
        flight = self.match.flight
        if flight is not None and flight not in FLIGHTS[self.direction]:
            raise PacketRuleError(
                f"flight {flight} is never sent {self.direction}: there are {FLIGHTS[self.direction]}"
            )

    def _check_value(self) -> None:
        if self.action == "drop":
            if self.value is not None:
                raise PacketRuleError("drop takes no value")
        elif self.action in ("delay", "hang"):
            _check_seconds(self.action, self.value)
        else:
            lowest, highest = {
                "duplicate": (1, _MOST_COPIES),
                "flip": (-_LONGEST_DATAGRAM, _LONGEST_DATAGRAM - 1),
                "truncate": (0, _LONGEST_DATAGRAM),
            }[self.action]
            _check_integer(f"value of {self.action}", self.value, lowest, highest)

    def _check_occurrence(self) -> None:
        given = [name for name in ("nth", "first", "every") if getattr(self, name) is not None]
        if len(given) > 1:
            raise PacketRuleError(f"{' and '.join(given)} exclude each other")
        for name in given:
            _check_integer(name, getattr(self, name), 1, 2**31)

    def acts_on(self, occurrence: int) -> bool:
        """Whether the rule acts on the datagram that is number *occurrence* (from 1) of those that match."""
        if self.nth is not None:
            return occurrence == self.nth
        if self.first is not None:
            return occurrence <= self.first
        return self.every is None or occurrence % self.every == 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PacketRule":
        """Build from what `to_dict` gave, or a person wrote. Anything else raises `PacketRuleError`."""
        _check_keys(cls, values)
        if missing := {"direction", "action"} - set(values):
            raise PacketRuleError(f"a rule needs {' and '.join(sorted(missing))}")
        match = values.get("match", {})
        if not isinstance(match, Mapping):
            raise PacketRuleError(f"match {match!r} is not an object")
        return cls(**{**values, "match": Match.from_dict(match)})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without what is not given."""
        given = _given(dataclasses.asdict(self))
        return given if given["match"] else {name: value for name, value in given.items() if name != "match"}

    def __str__(self) -> str:
        """Return the rule in one line, for records and messages."""
        words = [f"{name} {value}" for name, value in self.to_dict().items() if name not in ("direction", "action")]
        return ", ".join([f"{self.action} {self.direction}", *words])


def read_rules(values: object) -> tuple[PacketRule, ...]:
    """Build the rules of a list of plain values; an error names the rule by its place, from 1."""
    if not isinstance(values, list):
        raise PacketRuleError(f"rules {values!r} are not a list")
    return tuple(_read_rule(number, each) for number, each in enumerate(values, 1))


def read_psks(values: object) -> dict[bytes, bytes]:
    """Build pre-shared keys by identity from an object of hexadecimal digits, identity to key."""
    if not isinstance(values, Mapping):
        raise PacketRuleError("psks are not an object of identity and key, in hexadecimal digits")
    try:
        return {bytes.fromhex(identity): bytes.fromhex(psk) for identity, psk in values.items()}
    except (ValueError, TypeError):
        raise PacketRuleError("psks: identities and keys are hexadecimal digits") from None


def psks_to_dict(psks: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return what `read_psks` reads."""
    return {identity.hex(): psk.hex() for identity, psk in psks.items()}


def _read_rule(number: int, values: object) -> PacketRule:
    if not isinstance(values, Mapping):
        raise PacketRuleError(f"rule {number}: {values!r} is not an object")
    try:
        return PacketRule.from_dict(values)
    except PacketRuleError as error:
        raise PacketRuleError(f"rule {number}: {error}") from None


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: _given(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items() if _says(value)}


def _says(value: object) -> bool:
    return value is not None and value != ()


def _nested(name: str, kind: type[CoapMatch], values: object) -> CoapMatch:
    if not isinstance(values, Mapping):
        raise PacketRuleError(f"{name} {values!r} is not an object")
    _check_keys(kind, values)
    return kind(**values)


def _tuple(name: str, values: object) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise PacketRuleError(f"{name} {values!r} is not a list")
    return tuple(values)


def _is_code(text: object) -> bool:
    parts = text.split(".") if isinstance(text, str) else []
    if [len(part) for part in parts] != [1, 2] or not all(part.isdigit() and part.isascii() for part in parts):
        return False
    return int(parts[0]) < 8 and int(parts[1]) < 32


def _check_keys(kind: type, values: Mapping[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            raise PacketRuleError(f"unknown key {key!r} in {kind.__name__}: it has {', '.join(known)}")


def _check_word(name: str, value: object, known: tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise PacketRuleError(f"{name} {value!r} is none of {', '.join(known)}")


def _check_integer(name: str, value: object, lowest: int, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise PacketRuleError(f"{name} {value!r} is not an integer from {lowest} to {highest}")


def _check_seconds(action: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_S:
        raise PacketRuleError(f"value of {action} {value!r} is not a number of seconds up to {_LONGEST_S}")
