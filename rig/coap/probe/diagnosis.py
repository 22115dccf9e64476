"""What a failure probably comes from, where what the probe saw fits a cause that is known."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from rig.coap.probe.session import Said
from rig.coap.probe.wire import Transcript
from rig.dtls import coap
from rig.dtls.alerts import FATAL, Alert
from rig.dtls.client import Client
from rig.dtls.coap import Message, Type
from rig.dtls.connection import EXTENSIONS, SUITES

_LARGE_BYTES = 256
"""What is lost from here on, while less is answered, is lost because it is large."""
_COPIES = 3
_DOUBLED = 1.5
"""Intervals of which each is less than so many times the one before do not back off."""
_ALERTS = {
    20: "key: the device does not verify our Finished (alert bad_record_mac); it may hold another key",
    40: "version or suite: the device finds nothing to agree on (alert handshake_failure); compare suites and "
    "credentials with the declaration",
    51: "key: the device does not verify our Finished (alert decrypt_error); it may hold another key",
    70: "version: the device does not speak DTLS 1.2 (alert protocol_version)",
    71: "suite: the device takes no suite that was offered (alert insufficient_security)",
    115: "identity: the device does not know the identity of the bench file (alert unknown_psk_identity)",
}


def diagnose(
    transcripts: Sequence[Transcript], conversations: Sequence[Sequence[Said]], credentials: tuple[bytes, bytes]
) -> str:
    """Return the probable cause of a failure in a few words, or nothing.

    *transcripts* are all that the probe's wires saw, *conversations* what was said in each of its sessions.
    *credentials* are the identity and the key that the device should know; a client with others is meant to be refused.
    """
    clients = [one for each in transcripts for one in each.clients if isinstance(one, Client)]
    ordinary = [one for one in clients if _is_ordinary(one, credentials)]
    looks: tuple[Callable[[], str], ...] = (
        lambda: _unreachable(transcripts),
        lambda: _refused(ordinary),
        lambda: _unverified(ordinary),
        lambda: _wrong_uri(conversations),
        lambda: _first(_token_mismatch(each) for each in conversations),
        lambda: _too_large(conversations),
        lambda: _first(_no_backoff(times) for each in conversations for times in _copies(each)),
    )
    return _first(look() for look in looks)


def _first(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")


def _is_ordinary(client: Client, credentials: tuple[bytes, bytes]) -> bool:
    usual = client.offered_suites == SUITES and client.hello_extensions == EXTENSIONS
    return usual and (client.identity, client.psk) == credentials


def _unreachable(transcripts: Sequence[Transcript]) -> str:
    asked = [one for one in transcripts if one.passed]
    if not asked or any(not passed.from_client for one in asked for passed in one.passed):
        return ""
    host, port = asked[0].remote
    if any(one.refused for one in asked):
        return f"port: {host} answers, but nothing listens on {port} (ICMP port unreachable)"
    return f"no route: not one datagram came from {host}:{port}; is it on, in the network, and is that its address?"


def _refused(clients: Sequence[Client]) -> str:
    """A handshake with the right credentials that ended with an alert, where no other got through."""
    if any(one.server_verified for one in clients):
        return ""
    alerts = [one.content for each in clients for one in each.seen if isinstance(one.content, Alert)]
    return _first(_ALERTS.get(one.description, "") for one in alerts if one.level == FATAL)


def _unverified(clients: Sequence[Client]) -> str:
    """Our Finished was not answered, or not with the right one, where no other handshake got through."""
    if any(one.server_verified for one in clients):
        return ""
    if any(one.server_verified is False for one in clients):
        return "key: the device's Finished does not fit; it may hold another key"
    if any(one.server_hello and one.epoch for one in clients):
        return "key: the device is silent to our Finished, and had answered before; it may hold another key"
    return ""


def _wrong_uri(conversations: Sequence[Sequence[Said]]) -> str:
    codes = [one.code_text for each in conversations for one in _heard(each) if one.code != coap.EMPTY]
    if codes and set(codes) == {"4.04"}:
        paths = dict.fromkeys(one.path for each in conversations for one in _asked(each))
        return f"wrong URI: {', '.join(paths)} answered 4.04; compare the declaration with /.well-known/core"
    return ""


def _token_mismatch(said: Sequence[Said]) -> str:
    asked = {one.message_id: one.token for one in _asked(said)}
    for one in _heard(said):
        wanted = asked.get(one.message_id)
        if one.type == Type.ACK and one.code != coap.EMPTY and wanted is not None and one.token != wanted:
            return f"token mismatch: {wanted.hex() or 'empty'} was sent, {one.token.hex() or 'empty'} came back"
    return ""


def _too_large(conversations: Sequence[Sequence[Said]]) -> str:
    lost: list[int] = []
    answered: list[int] = []
    for each in conversations:
        ids = {one.message_id for one in _heard(each)}
        for one in _asked(each):
            (answered if one.message_id in ids else lost).append(len(one.encode()))
    if lost and answered and min(lost) > max(*answered, _LARGE_BYTES):
        return (
            f"MTU: messages up to {max(answered)} bytes are answered, from {min(lost)} bytes on they are not; "
            "compare with the path's MTU and the device's buffers"
        )
    return ""


def _no_backoff(times_s: Sequence[float]) -> str:
    intervals_s = [later - earlier for earlier, later in pairwise(times_s)]
    if len(times_s) < _COPIES or any(later >= _DOUBLED * earlier for earlier, later in pairwise(intervals_s)):
        return ""
    told = ", ".join(f"{one:.1f}" for one in intervals_s)
    return f"backoff: the device repeats a message after {told} s, where each interval should be twice the one before"


def _copies(said: Sequence[Said]) -> list[list[float]]:
    """Return when the copies of each confirmable message of the device came."""
    times: dict[int, list[float]] = {}
    for one in said:
        if not one.from_client and isinstance(one.message, Message) and one.message.type == Type.CON:
            times.setdefault(one.message.message_id, []).append(one.t_s)
    return list(times.values())


def _asked(said: Sequence[Said]) -> list[Message]:
    """Return the confirmable requests that were well-formed."""
    sent = [one.message for one in said if one.from_client]
    return [one for one in sent if isinstance(one, Message) and one.type == Type.CON and one.code != coap.EMPTY]


def _heard(said: Sequence[Said]) -> list[Message]:
    return [one.message for one in said if not one.from_client and isinstance(one.message, Message)]
