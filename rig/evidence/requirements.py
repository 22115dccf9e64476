"""The requirement catalogue and the limits: data files, checked when they are read."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from rig.errors import ConfigError
from rig.evidence.verdicts import Level, Limit, Rule
from rig.formats.checked_yaml import CheckedModel, load_checked, place_of

RELEASE = "profile.release"
CLAIMS = {
    "psk.offered": "it authenticates with pre-shared keys",
    "certificates.offered": "it authenticates with certificates or raw public keys",
    "dtls13.offered": "it speaks DTLS 1.3",
    "resumption.offered": "it resumes sessions by session id or ticket",
    "cid.offered": "it uses connection ids",
    "session.survives_sleep": "it keeps session state in storage",
    "sleep.deep": "it sleeps deeply",
    "client.role": "it begins handshakes itself",
    "coap.plain": "it serves CoAP without DTLS",
    "coap.multicast": "it answers in multicast groups",
    "resources.writable": "a resource takes PUT or POST",
    "resources.observable": "a resource can be observed",
    "resources.blockwise": "a resource is larger than a datagram",
    "resources.conditional": "a resource has ETags or takes conditional requests",
    RELEASE: "it is judged as a device for release, not as one of the lab",
}
"""What a device may be declared to do, and what that means; a row applies where all that it names is declared."""

_DOCUMENTS = {
    "RFC [0-9]{4}": r"[0-9A-F][0-9]*(\.[0-9]+)*",
    "ETSI EN 303 645": r"[56](\.[0-9]+)?-[0-9]+",
    "EN 18031-1": r"[A-Z]{3}-[0-9](-[0-9])?",
    "NISTIR 8259A": r"[a-z ]+",
    r"45 CFR 164\.312": r"\([a-e]\)(\([0-9]\))?",
    "ESP32-C3 datasheet": r"[0-9.]+",
}
_PLACE = re.compile(
    "|".join([*(f"{name} {one}(, {one})*" for name, one in _DOCUMENTS.items()), "product limit", "product declaration"])
)


def _documents_and_sections(clause: str) -> str:
    for one in clause.split("; "):
        if not _PLACE.fullmatch(one):
            raise ValueError(f"{one!r} names no section of a known document, as 'RFC 6347 4.2.1, 4.2.4' does")
    return clause


_PROVISIONS = {f"5.{n}": count for n, count in enumerate((5, 3, 16, 4, 8, 9, 2, 3, 3, 1, 4, 3, 1), start=1)} | {"6": 5}
_MECHANISM = (
    "^(ACM-[12]|AUM-(1-[12]|[2346]|5-[12])|SUM-[1-3]|SSM-[1-3]|SCM-[1-4]|RLM-1|NMM-1|TCM-1|CCK-[1-3]|GEC-[1-6]|CRY-1)$"
)


def _known_provision(name: str) -> str:
    section, _, number = name.partition("-")
    if not number.isdecimal() or not 1 <= int(number) <= _PROVISIONS.get(section, 0):
        raise ValueError(f"there is no provision {name!r} in EN 303 645 V2.1.1")
    return name


def _known_claim(name: str) -> str:
    if name not in CLAIMS:
        raise ValueError(f"no claim is called {name!r}; known: {', '.join(CLAIMS)}")
    return name


Provision = Annotated[str, AfterValidator(_known_provision)]
Mechanism = Annotated[str, Field(pattern=_MECHANISM)]
Safeguard = Annotated[str, Field(pattern=r"^\([a-e]\)(\([1-9]\)(\([iv]+\))?)?$")]
Capability = Literal[
    "device identification",
    "device configuration",
    "data protection",
    "logical access to interfaces",
    "software update",
    "cybersecurity state awareness",
]
Standard = Literal["etsi", "en18031", "nist", "hipaa"]
STANDARDS: dict[Standard, str] = {
    "etsi": "ETSI EN 303 645 (test groups of ETSI TS 103 701)",
    "en18031": "EN 18031-1",
    "nist": "NISTIR 8259A",
    "hipaa": "45 CFR 164.312",
}


class EvidenceFor(CheckedModel):
    """What of a standard the verdict on a row is evidence for; it is never more than evidence.

    ``etsi``: provisions of EN 303 645 V2.1.1, by whose numbers TS 103 701 groups its test cases; ``en18031``:
    mechanisms of EN 18031-1; ``nist``: capabilities of NISTIR 8259A; ``hipaa``: paragraphs of 45 CFR 164.312.
    """

    etsi: tuple[Provision, ...] = ()
    en18031: tuple[Mechanism, ...] = ()
    nist: tuple[Capability, ...] = ()
    hipaa: tuple[Safeguard, ...] = ()


class Requirement(CheckedModel):
    """One statement about the device that a clause backs."""

    id: str = Field(pattern=r"^[A-Z0-9]+-[0-9]{2}$")
    title: str
    statement: str
    clause: Annotated[str, AfterValidator(_documents_and_sections)]
    """Documents and their sections, ``RFC 6347 4.2.1, 4.2.4; RFC 7252 11.3``."""
    level: Level
    method: str
    applicable: tuple[Annotated[str, AfterValidator(_known_claim)], ...] = ()
    """The claims (of :data:`CLAIMS`) without any of which the row does not apply to a device."""
    not_testable: str = ""
    """Why no test of the rig can verify this; empty where one can."""
    evidence_for: EvidenceFor = EvidenceFor()

    @property
    def area(self) -> str:
        """The part of the id before its number."""
        return self.id.rsplit("-", 1)[0]


class _CatalogueFile(CheckedModel):
    requirements: tuple[Requirement, ...]


class _LimitRow(CheckedModel):
    unit: str
    max: float | None = None
    min: float | None = None
    source: str
    rule: Rule = "non-binary"
    guard_band: PositiveFloat | None = None
    max_increase: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("has neither max nor min")
        if self.rule == "simple" and self.guard_band is not None:
            raise ValueError("guard_band: simple acceptance has none; the rules guarded and non-binary do")
        return self

    def limit(self, name: str) -> Limit:
        return Limit(
            name=name,
            unit=self.unit,
            max=self.max,
            min=self.min,
            source=self.source,
            rule=self.rule,
            guard_band=1.0 if self.guard_band is None else self.guard_band,
            max_increase=self.max_increase,
        )


class _LimitsFile(CheckedModel):
    limits: dict[str, _LimitRow]


class Limits:
    """The limits of one file, by the name of the measurement that each is for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._limits = {name: row.limit(name) for name, row in load_checked(path, _LimitsFile).limits.items()}

    def for_measurement(self, name: str, unit: str) -> Limit:
        """Return the limit for *name*; raises ConfigError where there is none or it has another unit."""
        limit = self._limits.get(name)
        if limit is None:
            raise ConfigError(f"{self.path}: limits: no limit named {name!r}; add one with its unit and source")
        if limit.unit != unit:
            raise ConfigError(f"{self.path}: limits.{name}.unit: is {limit.unit!r}, the measurement is in {unit!r}")
        return limit

    def all(self) -> tuple[Limit, ...]:
        """Return every limit of the file."""
        return tuple(self._limits.values())


def load_catalogue(folder: Path) -> dict[str, Requirement]:
    """Read the catalogue, every YAML file of *folder* in the order of their names; returns its rows by id.

    Raises ConfigError naming file, line and key, also for an id that stands twice.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise ConfigError(f"{folder}: is not a catalogue: it holds no YAML file")
    rows: dict[str, Requirement] = {}
    places: dict[str, tuple[Path, int]] = {}
    for path in files:
        for index, row in enumerate(load_checked(path, _CatalogueFile).requirements):
            if row.id in rows:
                here, first = (place_of(file, ("requirements", at)) for file, at in ((path, index), places[row.id]))
                raise ConfigError(f"{here}: id: {row.id} stands twice (first in {first})")
            rows[row.id] = row
            places[row.id] = (path, index)
    return rows
