"""What a server answers to a ClientHello (RFC 5246 7.4.1, RFC 6347 4.2.1, RFC 5746, RFC 7366, RFC 7627)."""

import secrets

from rig.dtls.alerts import FATAL, Alert
from rig.dtls.handshake import (
    ENCRYPT_THEN_MAC,
    EXTENDED_MASTER_SECRET,
    RENEGOTIATION_INFO,
    ClientHello,
    Extensions,
    ServerHello,
)
from rig.dtls.misbehaviour import Misbehaviour
from rig.dtls.records import DTLS_1_0, DTLS_1_2
from rig.dtls.suites import SUITES
from rig.errors import RigError

RENEGOTIATION_SCSV = 0x00FF
NULL_SUITE, CBC_SUITE = 0x00B0, 0x00AE
_NO_RENEGOTIATION = b"\0"
_KNOWN_EXTENSIONS = {ENCRYPT_THEN_MAC, EXTENDED_MASTER_SECRET, RENEGOTIATION_INFO}


class Abort(RigError):
    """The handshake ends here, with this alert."""

    def __init__(self, description: int) -> None:
        """*description* is the alert's number."""
        self.alert = Alert(FATAL, description)
        super().__init__(self.alert.name)


def negotiate(hello: ClientHello, suites: tuple[int, ...], misbehaviour: Misbehaviour) -> ServerHello:
    """Return the answer to *hello* of a server with these suites, best first; `Abort` if there is none."""
    _check(hello, misbehaviour)
    suite = _choose(hello, suites, misbehaviour)
    version = DTLS_1_0 if hello.version == DTLS_1_0 else DTLS_1_2
    extensions = _answers(hello, suite, misbehaviour) or None
    return ServerHello(secrets.token_bytes(32), suite, version=version, extensions=extensions)


def _check(hello: ClientHello, misbehaviour: Misbehaviour) -> None:
    if not _version_is_good(hello.version, misbehaviour):
        raise Abort(70)
    if 0 not in hello.compression and not misbehaviour.any_compression:
        raise Abort(47)
    numbers = [number for number, _ in hello.extensions or ()]
    if len(set(numbers)) < len(numbers) and not misbehaviour.repeated_extensions:
        raise Abort(47)
    if misbehaviour.unknown_extensions_refused and not _KNOWN_EXTENSIONS.issuperset(numbers):
        raise Abort(110)
    if dict[int, bytes](hello.extensions or ()).get(RENEGOTIATION_INFO, _NO_RENEGOTIATION) != _NO_RENEGOTIATION:
        raise Abort(40)


def _version_is_good(version: int, misbehaviour: Misbehaviour) -> bool:
    """DTLS counts downwards: what is below 0xfefd is a client that can do more."""
    if version == DTLS_1_0:
        return misbehaviour.dtls_1_0
    if misbehaviour.version_intolerant:
        return version == DTLS_1_2
    return version >> 8 == DTLS_1_2 >> 8 and version <= DTLS_1_2


def _choose(hello: ClientHello, suites: tuple[int, ...], misbehaviour: Misbehaviour) -> int:
    first: tuple[int, ...] = (CBC_SUITE,) if misbehaviour.cbc_first else ()
    last: tuple[int, ...] = (NULL_SUITE,) if misbehaviour.null_suite else ()
    for suite in (*first, *suites, *last):
        if suite in hello.suites:
            return suite
    raise Abort(40)


def _answers(hello: ClientHello, suite: int, misbehaviour: Misbehaviour) -> Extensions:
    offered = dict(hello.extensions or ())
    answers = []
    if EXTENDED_MASTER_SECRET in offered and not misbehaviour.no_extended_master_secret:
        answers.append((EXTENDED_MASTER_SECRET, b""))
    if RENEGOTIATION_INFO in offered or RENEGOTIATION_SCSV in hello.suites:
        answers.append((RENEGOTIATION_INFO, _NO_RENEGOTIATION))
    if ENCRYPT_THEN_MAC in offered and SUITES[suite].mode == "cbc":
        answers.append((ENCRYPT_THEN_MAC, b""))
    return tuple(answers)
