"""Sessions that a server keeps to take them up again, by session id (RFC 5246 7.3) or by ticket (RFC 5077)."""

from dataclasses import dataclass, replace

from rig.dtls.alerts import Abort
from rig.dtls.handshake import EXTENDED_MASTER_SECRET, ClientHello
from rig.dtls.keyring import ticket_of
from rig.dtls.misbehaviour import Misbehaviour
from rig.dtls.suites import SUITES

_SESSIONS_MAX = 64


@dataclass(frozen=True)
class KeptSession:
    """What a server needs of a session to resume it. ``until_s`` is on the caller's clock."""

    identity: bytes
    suite: int
    master: bytes
    extended_master_secret: bool
    until_s: float


class KeptSessions:
    """The sessions of one server, by the session id or the ticket that the client was given."""

    def __init__(self, misbehaviour: Misbehaviour) -> None:
        self._wrong = misbehaviour
        self._kept: dict[bytes, KeptSession] = {}

    def keep(self, handle: bytes, session: KeptSession) -> None:
        """Keep *session*; the oldest makes room."""
        self._kept[handle] = session
        if len(self._kept) > _SESSIONS_MAX:
            del self._kept[next(iter(self._kept))]

    def forget(self, handle: bytes) -> None:
        """Forget a session that ended in a fatal alert (RFC 5246 7.2.2)."""
        if not self._wrong.resumable_after_fatal_alert:
            self._kept.pop(handle, None)

    def find(self, now_s: float, hello: ClientHello) -> KeptSession | None:
        """Return the session to resume, or None for a full handshake; `Abort` where *hello* contradicts the session."""
        handle = handle_of(hello)
        if not handle or self._wrong.never_resumes:
            return None
        session = self._kept.get(handle)
        if session is None and self._wrong.any_session_resumed and self._kept:
            session = self._kept[next(reversed(self._kept))]
        if session is None and self._wrong.stale_session_refused:
            raise Abort(47)
        if session is None or now_s >= session.until_s:
            return None
        return self._on_its_terms(session, hello)

    def _on_its_terms(self, session: KeptSession, hello: ClientHello) -> KeptSession | None:
        """Return *session* if *hello* offers its suite and its kind of master secret (RFC 7627 5.3)."""
        offered = EXTENDED_MASTER_SECRET in dict(hello.extensions or ())
        extended = offered and not self._wrong.no_extended_master_secret
        if session.extended_master_secret and not extended:
            if not self._wrong.resumes_without_ems:
                raise Abort(40)
        elif session.extended_master_secret != extended:
            return None
        if session.suite in hello.suites:
            return session
        known = [number for number in hello.suites if number in SUITES]
        return replace(session, suite=known[0]) if known and self._wrong.resumes_with_another_suite else None


def handle_of(hello: ClientHello) -> bytes:
    """Return the ticket that *hello* offers, or else its session id: with a ticket that is the client's own choice."""
    return ticket_of(hello) or hello.session_id
