"""What a server answers to a ClientHello.

RFC 5246 7.4.1, RFC 6347 4.2.1, RFC 5746, RFC 7366, RFC 7627; RFC 5077 (tickets), RFC 9146 (connection ids).
"""

import secrets
from dataclasses import dataclass

from rig.dtls.alerts import Abort
from rig.dtls.extensions import ConnectionId, MaxFragmentLength, OfferedVersions, RecordSizeLimit, SessionTicket
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
from rig.dtls.resumption import KeptSession
from rig.dtls.suites import SUITES
from rig.dtls.wire import DecodeError

RENEGOTIATION_SCSV = 0x00FF
NULL_SUITE, CBC_SUITE = 0x00B0, 0x00AE
_NO_RENEGOTIATION = b"\0"
_KNOWN_EXTENSIONS = {ENCRYPT_THEN_MAC, EXTENDED_MASTER_SECRET, RENEGOTIATION_INFO}
_SESSION_ID_BYTES = 32


@dataclass(frozen=True)
class Offer:
    """What a server has for its clients.

    suites: best first. session_ids, tickets: whether it hands them out. connection_id: what it wants to be sent in
    this session if the client knows RFC 9146; None for a server that does not.
    """

    suites: tuple[int, ...]
    session_ids: bool = False
    tickets: bool = False
    connection_id: bytes | None = None


def negotiate(
    hello: ClientHello, offer: Offer, misbehaviour: Misbehaviour, resumed: KeptSession | None = None
) -> ServerHello:
    """Return the answer to *hello* of a server that has *offer*; `Abort` if there is none.

    With the session that is to be *resumed* it is the answer that begins an abbreviated handshake.
    """
    _check(hello, misbehaviour)
    suite = resumed.suite if resumed else _choose(hello, offer.suites, misbehaviour)
    version = DTLS_1_0 if hello.version == DTLS_1_0 else DTLS_1_2
    extensions = _answers(hello, suite, misbehaviour)
    if not resumed and _promises_ticket(hello, offer):
        extensions += ((SessionTicket.number, b""),)
    extensions += _connection_id(hello, offer, misbehaviour)
    session_id = hello.session_id if resumed else _session_id(hello, offer)
    return ServerHello(secrets.token_bytes(32), suite, session_id, version, extensions=extensions or None)


def _promises_ticket(hello: ClientHello, offer: Offer) -> bool:
    """Whether a full handshake that begins with *hello* hands a ticket out."""
    return offer.tickets and SessionTicket.number in dict(hello.extensions or ())


def wanted_connection_id(hello: ClientHello | ServerHello) -> bytes | None:
    """Return what the sender of *hello* wants to be sent as connection id; None if it does not know of any."""
    data = dict(hello.extensions or ()).get(ConnectionId.number)
    if data is None:
        return None
    try:
        return ConnectionId.decode(data).data
    except DecodeError as error:
        raise Abort(50) from error


def _check(hello: ClientHello, misbehaviour: Misbehaviour) -> None:
    """Raise `Abort` for a *hello* that leads to no session, whatever is on offer."""
    if not _version_is_good(hello.version, misbehaviour):
        raise Abort(70)
    if 0 not in hello.compression and not misbehaviour.any_compression:
        raise Abort(47)
    numbers = [number for number, _ in hello.extensions or ()]
    if len(set(numbers)) < len(numbers) and not misbehaviour.repeated_extensions:
        raise Abort(47)
    if misbehaviour.unknown_extensions_refused and not _KNOWN_EXTENSIONS.issuperset(numbers):
        raise Abort(110)
    if misbehaviour.dtls_1_3_refused and OfferedVersions.number in numbers:
        raise Abort(70)
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
    if misbehaviour.last_suite:
        first = tuple(suite for suite in reversed(hello.suites) if suite in (*suites, CBC_SUITE))
    for suite in (*first, *suites, *last):
        if suite in hello.suites:
            return suite
    raise Abort(40)


def _session_id(hello: ClientHello, offer: Offer) -> bytes:
    """Return a new session's id: none where a ticket is to come (RFC 5077 3.4)."""
    if not offer.session_ids or _promises_ticket(hello, offer):
        return b""
    return secrets.token_bytes(_SESSION_ID_BYTES)


def _answers(hello: ClientHello, suite: int, misbehaviour: Misbehaviour) -> Extensions:
    offered = dict(hello.extensions or ())
    answers = []
    if EXTENDED_MASTER_SECRET in offered and not misbehaviour.no_extended_master_secret:
        answers.append((EXTENDED_MASTER_SECRET, b""))
    signalled = RENEGOTIATION_INFO in offered or RENEGOTIATION_SCSV in hello.suites
    if signalled and not misbehaviour.no_renegotiation_info:
        answers.append((RENEGOTIATION_INFO, _NO_RENEGOTIATION))
    if ENCRYPT_THEN_MAC in offered and SUITES[suite].mode == "cbc":
        answers.append((ENCRYPT_THEN_MAC, b""))
    if misbehaviour.size_limits_not_kept:
        answers += _size_limit(offered)
    return tuple(answers)


def _size_limit(offered: dict[int, bytes]) -> Extensions:
    """Return the one limit that counts: a record size limit supersedes a fragment length (RFC 8449 5)."""
    found = [number for number in (RecordSizeLimit.number, MaxFragmentLength.number) if number in offered]
    return tuple((number, offered[number]) for number in found[:1])


def _connection_id(hello: ClientHello, offer: Offer, misbehaviour: Misbehaviour) -> Extensions:
    asked = wanted_connection_id(hello) is not None
    if asked and offer.connection_id is not None:
        return ((ConnectionId.number, ConnectionId(offer.connection_id).encode()),)
    if not asked and misbehaviour.cid_unasked:
        return ((ConnectionId.number, ConnectionId(secrets.token_bytes(8)).encode()),)
    return ()
