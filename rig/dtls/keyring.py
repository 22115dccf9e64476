"""What a bystander was told of keys, and what it learned from the sessions that it saw."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rig.dtls.extensions import SessionTicket
from rig.dtls.handshake import ClientHello

_EARLIER_MAX = 4096
_NONE: Mapping[bytes, bytes] = {}


@dataclass(frozen=True)
class Earlier:
    """A session that may be taken up again. ``identity`` is None where it was not seen."""

    identity: bytes | None
    master: bytes = field(repr=False)


class Keyring:
    """Pre-shared keys by identity, master secrets by client random, and earlier sessions by session id and ticket."""

    def __init__(self, psks: Mapping[bytes, bytes], master_secrets: Mapping[bytes, bytes] = _NONE) -> None:
        """*master_secrets* is what a key log says."""
        self.psks = psks
        self.master_secrets = master_secrets
        self._earlier: dict[bytes, Earlier] = {}

    def learn(self, handle: bytes, earlier: Earlier) -> None:
        """Remember the session that has this session id or ticket; the oldest makes room."""
        self._earlier[handle] = earlier
        if len(self._earlier) > _EARLIER_MAX:
            del self._earlier[next(iter(self._earlier))]

    def earlier(self, hello: ClientHello) -> Earlier | None:
        """Return the session that *hello* asks for: its ticket's, or that of its session id."""
        return self._earlier.get(ticket_of(hello)) or self._earlier.get(hello.session_id)


def ticket_of(hello: ClientHello) -> bytes:
    """Return the ticket that *hello* offers, or empty bytes."""
    return dict(hello.extensions or ()).get(SessionTicket.number, b"")
