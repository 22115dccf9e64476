"""The scripted device: DTLS server, CoAP application and group member as one, without I/O."""

import random
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rig.dtls.handshake import HandshakeType, parse_fragments
from rig.dtls.misbehaviour import Misbehaviour as DtlsMisbehaviour
from rig.dtls.records import ContentType, parse_datagram
from rig.dtls.server import Closed, Established, Event, Moved, Received, Send, Server
from rig.dtls.server_session import Settings
from rig.dtls.session import Endpoint
from rig.dtls.wire import DecodeError
from rig.virtual.device.answers import Crash
from rig.virtual.device.application import Application, Outgoing
from rig.virtual.device.group import Group
from rig.virtual.device.misbehaviour import Misbehaviour

SESSIONS_MAX = 12
HALF_OPEN_MAX = 16
HANDSHAKE_LIMIT_S = 30.0
CONNECTION_ID_BYTES = 8
SILENT_AFTER_CRASH_S = 2.0

_HEAP_BYTES = 8 << 20
_SESSION_BYTES = 10_000
_HALF_OPEN_BYTES = 9_000
_HEAP_KEPT_BYTES = 32 << 10


@dataclass(frozen=True)
class Credentials:
    """The one identity that the device knows, and its key."""

    identity: bytes
    psk: bytes


@dataclass(frozen=True)
class Datagram:
    """*data* goes to *peer*, from the group's port or from the port of coaps."""

    peer: Endpoint
    data: bytes
    from_group: bool = False


class Device:
    """Datagrams and times in, datagrams out. Nothing that arrives raises."""

    def __init__(
        self, credentials: Credentials, wrong: Misbehaviour, dtls_wrong: DtlsMisbehaviour, started_s: float
    ) -> None:
        """*started_s* is the caller's time of the first start."""
        self._credentials = credentials
        self._wrong = wrong
        self._dtls_wrong = dtls_wrong
        self._boot_count = 0
        self._draws = random.Random(secrets.randbits(64))
        self._boot(started_s, "power on")

    @property
    def deadline_s(self) -> float:
        """When `expire` has something to do."""
        server_s = self._server.deadline_s
        due_s = min(self._application.deadline_s, self._group.deadline_s, *([] if server_s is None else [server_s]))
        return max(due_s, self._silent_until_s)

    def receive(self, now_s: float, peer: Endpoint, datagram: bytes) -> list[Datagram]:
        """Take a datagram to the port of coaps in."""
        self._now_s = now_s
        if now_s < self._silent_until_s:
            return []
        try:
            if self._wrong.tiny_fragment_resets and _has_tiny_hello(datagram):
                raise Crash("a fragment of one byte")
            sent = self._carry_out(self._server.receive(now_s, peer, datagram))
            self._check_memory()
        except Crash:
            self._crash()
            return []
        self._sleep_if_asked()
        return sent

    def receive_from_group(self, now_s: float, peer: Endpoint, datagram: bytes) -> None:
        """Take a datagram to the group in."""
        self._now_s = now_s
        if now_s >= self._silent_until_s:
            self._group.receive(now_s, peer, datagram)

    def expire(self, now_s: float) -> list[Datagram]:
        """Do what is due by *now_s*."""
        self._now_s = now_s
        if now_s < self._silent_until_s:
            return []
        sent = self._carry_out(self._server.expire(now_s))
        sent += self._send(self._application.expire(now_s))
        return sent + [Datagram(peer, data, from_group=True) for peer, data in self._group.expire(now_s)]

    def _carry_out(self, events: Iterable[Event]) -> list[Datagram]:
        sent: list[Datagram] = []
        for event in events:
            match event:
                case Send():
                    sent.append(Datagram(event.peer, event.datagram))
                case Established():
                    self._begin_session(event.peer)
                case Moved():
                    self._move_session(event.before, event.peer)
                case Closed():
                    self._end_session(event.peer)
                case Received():
                    sent += self._take_message(event.peer, event.data)
        return sent

    def _send(self, messages: Iterable[Outgoing]) -> list[Datagram]:
        sent: list[Datagram] = []
        for each in messages:
            peer = self._addresses[each.client]
            if each.clear:
                sent.append(Datagram(peer, each.data))
            else:
                sent += self._carry_out(self._server.send(peer, each.data))
        return sent

    # --- sessions

    def _begin_session(self, peer: Endpoint) -> None:
        """Nothing of an older session at the same address counts any more."""
        for number in [number for number, address in self._addresses.items() if address == peer]:
            self._application.forget(number)
            del self._addresses[number]
        self._handshakes += 1
        self._addresses[self._handshakes] = peer
        self._sessions[peer] = self._handshakes
        self._application.connect(self._handshakes)

    def _move_session(self, before: Endpoint, peer: Endpoint) -> None:
        number = self._sessions.pop(before)
        self._sessions[peer] = number
        self._addresses[number] = peer

    def _end_session(self, peer: Endpoint) -> None:
        """A session or a handshake is over; a live session may stand beside a handshake that is given up."""
        if peer in self._sessions and not self._server.serves(peer):
            self._application.disconnect(self._sessions.pop(peer))

    def _take_message(self, peer: Endpoint, data: bytes) -> list[Datagram]:
        if peer not in self._sessions:  # the server takes data before Finished: it is told to
            self._begin_session(peer)
        return self._send(self._application.receive(self._now_s, self._sessions[peer], data))

    # --- memory and restarts

    def _boot(self, now_s: float, reset_reason: str) -> None:
        self._boot_count += 1
        self._booted_s = self._now_s = now_s
        self._silent_until_s = now_s
        self._reset_reason = reset_reason
        self._handshakes = 0
        self._sessions: dict[Endpoint, int] = {}  # numbers of those that are open
        self._addresses: dict[int, Endpoint] = {}  # of every session, open or not
        settings = Settings(
            psks={self._credentials.identity: self._credentials.psk},
            handshake_limit_s=HANDSHAKE_LIMIT_S,
            sessions_max=SESSIONS_MAX,
            half_open_max=self._wrong.half_open_exhausts or HALF_OPEN_MAX,
            session_ids=True,
            tickets=True,
            connection_id_bytes=CONNECTION_ID_BYTES,
        )
        self._server = Server(settings, self._dtls_wrong)
        self._application = Application(self._wrong, self._draws, self._status)
        self._group = Group(self._wrong, self._draws, self._application.service)

    def _sleep_if_asked(self) -> None:
        """Sleep deeply: nobody is heard, and afterwards the sessions go on from what was stored of them."""
        asked_s, self._application.service.power.asked_s = self._application.service.power.asked_s, None
        if asked_s is not None:
            self._silent_until_s = self._now_s + asked_s
            self._boot_count += 1
            self._reset_reason = "deep sleep"
            self._server.restore()

    def _crash(self) -> None:
        """Start again: nothing of before is known, and until the network is up nobody is heard."""
        self._boot(self._now_s, "panic")
        self._silent_until_s = self._now_s + SILENT_AFTER_CRASH_S

    def _check_memory(self) -> None:
        limit = self._wrong.half_open_exhausts
        if (limit and self._server.unanswered >= limit) or self._free_heap() < _HEAP_KEPT_BYTES:
            raise Crash("out of memory")

    def _free_heap(self) -> int:
        """What would be free on a chip with 8 MiB of memory: so that a leak can be watched for long."""
        used = self._server.established * _SESSION_BYTES + self._server.half_open * _HALF_OPEN_BYTES
        return _HEAP_BYTES - used - self._application.service.held_bytes - self._application.leaked_bytes

    def _status(self) -> Mapping[str, int | str]:
        return {
            "boot_count": self._boot_count,
            "reset_reason": self._reset_reason,
            "free_heap": self._free_heap(),
            "handshakes": self._handshakes,
            "sessions": self._server.established,
            "half_open": self._server.half_open,
            "duplicates": self._application.duplicates,
            "executed": self._application.service.executed,
            "uptime_ms": int((self._now_s - self._booted_s) * 1000),
        }


def _has_tiny_hello(datagram: bytes) -> bool:
    """Whether a fragment of a ClientHello in clear has one byte only."""
    try:
        clear = [each for each in parse_datagram(datagram) if each.epoch == 0]
        hellos = [each.fragment for each in clear if each.content_type == ContentType.HANDSHAKE]
        fragments = [fragment for each in hellos for fragment in parse_fragments(each)]
    except DecodeError:
        return False
    return any(each.kind == HandshakeType.CLIENT_HELLO and len(each.data) == 1 for each in fragments)
