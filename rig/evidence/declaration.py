"""``dut.yaml``: what the maker of a device states that it does, as a checked model.

ETSI TS 103 701 calls such a statement ICS (what is implemented) and IXIT (how a tester gets at it). It decides which
requirements apply; what it claims and the device does not keep is a failed verdict, and so is what the device does
and it does not claim.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rig.dtls.suites import SUITES
from rig.formats.checked_yaml import CheckedModel, load_checked

SUITE_NUMBERS = {suite.name: suite.number for suite in SUITES.values()}

Method = Literal["GET", "POST", "PUT", "DELETE"]
Purpose = Literal["command", "configuration", "alarm", "telemetry", "information"]
"""What a resource is for: it decides which message type it needs (RFC 7252 2.1, 4.2, 4.3)."""
MessageType = Literal["CON", "NON"]
Port = Annotated[int, Field(ge=1, le=65535)]


def _known_suite(name: str) -> str:
    if name not in SUITE_NUMBERS:
        raise ValueError(f"no suite is called {name!r}; known: {', '.join(SUITE_NUMBERS)}")
    return name


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"{path!r} does not begin with /")
    return path


Suite = Annotated[str, AfterValidator(_known_suite)]
UriPath = Annotated[str, AfterValidator(_absolute)]


class Lengths(CheckedModel):
    """A range of lengths in bytes, both ends included."""

    min: int = Field(ge=0)
    max: int = Field(ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Dtls(CheckedModel):
    """What the device does as a DTLS server."""

    versions: tuple[Literal["DTLS 1.2", "DTLS 1.3"], ...] = ("DTLS 1.2",)
    suites: tuple[Suite, ...] = Field(min_length=1)
    credentials: tuple[Literal["psk", "raw-public-key", "certificate"], ...] = ("psk",)
    identity_bytes: Lengths = Field(Lengths(min=1, max=128), description="identities that it can be provisioned with")
    key_bytes: Lengths = Field(Lengths(min=1, max=64), description="keys that it can be provisioned with")
    identity_hint: bool = False
    resumption: tuple[Literal["session-id", "ticket"], ...] = ()
    session_lifetime_s: float | None = Field(None, gt=0, description="how long a session can be resumed")
    connection_id: bool = False
    sessions: int = Field(1, ge=1, description="sessions that it holds at once")
    handshakes: int = Field(1, ge=1, description="handshakes that may be under way at once")
    handshake_timeout_s: float = Field(60.0, gt=0, description="after which a half-open handshake is let go")


class OpenPort(CheckedModel):
    """A port on which the device answers."""

    transport: Literal["udp", "tcp"]
    port: Port
    service: str


class Period(CheckedModel):
    """How often a resource changes by itself, and the PUT by which a tester changes that: ``{ms}`` is the time."""

    path: UriPath
    body: str = "{ms}"
    ms: int = Field(ge=1, description="what it is set to, and will be set back to")
    shortest_ms: int = Field(ge=1)


class Resource(CheckedModel):
    """One CoAP resource: ``path`` with its query, if it needs one, as a client writes it."""

    path: UriPath
    methods: tuple[Method, ...] = Field(min_length=1)
    purpose: Purpose
    observable: bool = False
    notifications: MessageType | None = Field(None, description="message type of its notifications")
    values: tuple[str, ...] = Field((), description="bodies that PUT takes, each of which changes the resource")
    period: Period | None = Field(None, description="for one that changes by itself")
    content_format: int | None = Field(None, ge=0, le=65535, description="of what GET answers")
    max_body_bytes: int | None = Field(None, ge=1, description="the largest body that it takes")
    blockwise: bool = Field(False, description="GET answers more than one datagram holds; PUT or POST takes more")
    etag: bool = False
    if_none_match: bool = False
    multicast: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.observable and ("GET" not in self.methods or self.notifications is None):
            raise ValueError("an observable resource has GET and says the type of its notifications")
        if self.values and "PUT" not in self.methods:
            raise ValueError("values are bodies for PUT, which is not among the methods")
        return self


class Figures(CheckedModel):
    """A resource that answers GET with a JSON object of the device's own figures, and the keys of those it has."""

    path: UriPath
    boot_count: str | None = None
    free_heap_bytes: str | None = None
    handshakes: str | None = None
    half_open: str | None = Field(None, description="handshakes that are under way")
    duplicates: str | None = Field(None, description="repeated requests that were recognised")


class DeepSleep(CheckedModel):
    """How the device is sent to sleep: a PUT of a body in which ``{ms}`` stands for the duration in milliseconds."""

    path: UriPath
    body: str = "{ms}"
    sessions_survive: bool = False


class Update(CheckedModel):
    """What the device refuses to be changed to."""

    anti_rollback: bool = False


class Fuses(CheckedModel):
    """What the maker burns before a device is released."""

    secure_boot: bool = False
    flash_encryption: bool = False
    debug_closed: bool = False


class Declaration(CheckedModel):
    """What the maker states about one product."""

    product: str = Field(min_length=1)
    maker: str = Field(min_length=1)
    role: Literal["server", "client", "both"] = "server"
    dtls: Dtls
    ports: tuple[OpenPort, ...] = Field(min_length=1)
    multicast_groups: tuple[str, ...] = ()
    resources: tuple[Resource, ...] = Field(min_length=1)
    figures: Figures | None = None
    deep_sleep: DeepSleep | None = None
    update: Update = Update()
    fuses: Fuses = Fuses()
    sbom: Path | None = Field(None, description="SPDX or CycloneDX list of components, relative to this file")

    def resource(self, *methods: Method, observable: bool = False, blockwise: bool = False) -> Resource | None:
        """Return the first resource that has all of this, or None."""
        fitting = (
            one
            for one in self.resources
            if set(methods) <= set(one.methods)
            and (one.observable or not observable)
            and (one.blockwise or not blockwise)
        )
        return next(fitting, None)

    def switchable(self, *, observable: bool = False) -> Resource | None:
        """Return the first resource with GET and PUT that takes at least two different values, or None."""
        fitting = (one for one in self.resources if len(one.values) >= 2 and "GET" in one.methods)
        return next((one for one in fitting if one.observable or not observable), None)

    def claims(self) -> frozenset[str]:
        """Return which of :data:`rig.evidence.requirements.CLAIMS` the maker makes."""
        dtls, resources = self.dtls, self.resources
        found = {
            "psk.offered": "psk" in dtls.credentials,
            "certificates.offered": bool({"raw-public-key", "certificate"} & set(dtls.credentials)),
            "dtls13.offered": "DTLS 1.3" in dtls.versions,
            "resumption.offered": bool(dtls.resumption),
            "cid.offered": dtls.connection_id,
            "session.survives_sleep": self.deep_sleep is not None and self.deep_sleep.sessions_survive,
            "sleep.deep": self.deep_sleep is not None,
            "client.role": self.role != "server",
            "coap.plain": any(one.service == "coap" for one in self.ports),
            "coap.multicast": bool(self.multicast_groups),
            "resources.writable": any({"PUT", "POST"} & set(one.methods) for one in resources),
            "resources.observable": any(one.observable for one in resources),
            "resources.blockwise": any(one.blockwise for one in resources),
            "resources.conditional": any(one.etag or one.if_none_match for one in resources),
        }
        return frozenset(name for name, made in found.items() if made)


def load_declaration(path: Path) -> Declaration:
    """Read and check *path*; raises ConfigError with one line per finding, each as ``file:line: key: reason``."""
    return load_checked(path, Declaration)


def missing_claims(applicable: Collection[str], claims: Collection[str]) -> tuple[str, ...]:
    """Return those of a row's claims that are not made; the row applies to the device where there are none."""
    return tuple(one for one in applicable if one not in claims)
