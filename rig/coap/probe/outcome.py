"""How a handshake ended, as a value: for tests in which an alert or silence is an answer like any other."""

from dataclasses import dataclass
from typing import Literal

from rig.coap.probe.prober import Prober
from rig.coap.probe.session import ProbeSession
from rig.dtls.client import Client, NotVerified, Refused, Silence, Timers
from rig.dtls.connection import NoKeys

_GIVE_UP_S = 8.0


@dataclass(frozen=True)
class Outcome:
    """``session`` is the one that came of it, if any; ``text`` tells the rest, for a verdict's observation."""

    kind: Literal["full", "abbreviated", "refused", "silence", "unverified"]
    text: str
    session: ProbeSession | None = None


def attempt(probe: Prober, client: Client) -> Outcome:
    """Try a handshake in good order, with retransmissions for 8 s, and tell how it ended."""
    client.timers = Timers(give_up_s=_GIVE_UP_S)
    try:
        session = probe.connect(client)
    except Refused as refusal:
        return Outcome("refused", f"alert {refusal.alert.name} ({refusal.alert.level}, {refusal.alert.description})")
    except Silence as silence:
        return Outcome("silence", str(silence))
    except (NotVerified, NoKeys) as error:
        form = "an abbreviated" if client.resumed else "a full"
        return Outcome("unverified", f"{form} handshake that does not add up: {error}")
    if client.resumed:
        return Outcome("abbreviated", "an abbreviated handshake", session)
    return Outcome("full", "a full handshake", session)
