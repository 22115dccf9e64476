"""What a device offers, found by asking: suites, extensions, resumption, resources and their methods, open ports.

Nothing here changes a device that keeps to RFC 7252 5.10.8.1: the only requests besides GET carry an If-Match that
nothing matches, and must not be carried out. One that does so all the same is spared the DELETE.
"""

import secrets
import selectors
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from rig.coap.probe.prober import Prober
from rig.coap.probe.session import ProbeSession, request
from rig.coap.probe.wire import Wire
from rig.dtls import coap
from rig.dtls.client import Client, NotVerified, Refused, Silence
from rig.dtls.coap import Message, OptionNumber
from rig.dtls.contents import NewSessionTicket
from rig.dtls.conversation import Script
from rig.dtls.extensions import ConnectionId, ExtendedMasterSecret, SessionTicket, pairs
from rig.dtls.suites import SUITES
from rig.errors import DeviceError
from rig.formats.link_format import Link, LinkFormatError, parse_links

PSK_SUITES = {suite.number: suite.name for suite in SUITES.values() if suite.key_exchange == "psk"}
AT_ONCE = 3
CORE = "/.well-known/core"
METHODS = {coap.PUT: "PUT", coap.POST: "POST", coap.DELETE: "DELETE"}
METHOD_NOT_ALLOWED, NOT_FOUND = "4.05", "4.04"
NO_ANSWER, NOT_TRIED = "no answer", "not tried"
TRY_S = 3.0

TCP_PORTS = (*range(1, 1025), 1883, 3232, 4433, 5000, 5060, 5683, 5684, 8000, 8080, 8081, 8083, 8266, 8443, 8883, 9000)
"""The well-known ports, and those on which devices of this kind are known to listen (updates, web, MQTT, CoAP)."""
UDP_PROBES = {
    53: bytes.fromhex("1234010000010000000000000000010001"),  # DNS: the root's address
    69: b"\0\1rig\0octet\0",  # TFTP: read
    123: b"\x23" + bytes(47),  # NTP: client
    161: bytes.fromhex("302602010104067075626c6963a019020101020100020100300e300c06082b060102010101000500"),  # SNMP
    1900: b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n',
    3232: b"0",  # Arduino's update port
    5353: bytes.fromhex("000000000001000000000000095f7365727669636573075f646e732d7364045f756470056c6f63616c00000c0001"),
    5683: bytes.fromhex("40010001bb2e77656c6c2d6b6e6f776e04636f7265"),  # CoAP: GET /.well-known/core
    8266: b"0",
}


@dataclass(frozen=True)
class Tried:
    """How a handshake with one offer ended: ``suite`` when it was completed, else why not."""

    suite: int | None
    why: str = ""


@dataclass(frozen=True)
class Offers:
    """What a ServerHello agrees to when it is asked for everything."""

    connection_id: bool
    extended_master_secret: bool
    ticket_lifetime_s: int | None
    resumed_by: tuple[str, ...]
    identity_hint: bool


def survey_suites(prober: Prober, numbers: Iterable[int] = PSK_SUITES) -> dict[int, Tried]:
    """Offer each suite alone and finish the handshake; a few at a time."""
    tried: dict[int, Tried] = {}
    for some in _batches(sorted(numbers), AT_ONCE):
        clients = [prober.client(offered_suites=(number, 0x00FF)) for number in some]
        outcomes = prober.together([(client, _try(client)) for client in clients])
        tried |= dict(zip(some, outcomes, strict=True))
    return tried


def survey_offers(prober: Prober, suite: int) -> Offers:
    """Shake hands with every extension on offer, then try to take the session up again in each way that there is."""
    extensions = pairs(ExtendedMasterSecret(), SessionTicket(), ConnectionId(b"\1\2"))
    with prober.session(prober.client(offered_suites=(suite, 0x00FF), hello_extensions=extensions)) as first:
        client = first.client
        tickets = [one.content for one in client.seen if isinstance(one.content, NewSessionTicket)]
        hello = client.server_hello
        assert hello is not None
    by_id = prober.client(offered_suites=(suite, 0x00FF))
    with prober.session(by_id):
        pass
    ways = {"session-id": by_id, **({"ticket": client} if tickets else {})}
    return Offers(
        connection_id=any(number == ConnectionId.number for number, _ in hello.extensions or ()),
        extended_master_secret=hello.extended_master_secret,
        ticket_lifetime_s=tickets[0].lifetime_s if tickets else None,
        resumed_by=tuple(way for way, one in ways.items() if _resumes(prober, one)),
        identity_hint=any(type(one.content).__name__ == "ServerKeyExchange" for one in client.seen),
    )


def survey_resources(session: ProbeSession) -> tuple[Link, ...]:
    """Return the links of /.well-known/core to the device's own resources, whatever number of blocks they come in.

    Raises DeviceError when what comes is no list of links.
    """
    body = b""
    number = 0
    while True:
        options = ((int(OptionNumber.BLOCK2), _uint(number << 4 | 6)),)
        answer = session.ask(request(coap.GET, CORE, options=options if number else ()))
        if answer.code_text != "2.05":
            return ()
        body += answer.payload
        blocks = [int.from_bytes(value, "big") for value in answer.values(OptionNumber.BLOCK2)]
        if not blocks or not blocks[0] & 8:
            break
        number = len(body) >> 10 if blocks[0] & 7 == 6 else number + 1
    try:
        return tuple(one for one in parse_links(body.decode()) if one.target.startswith("/"))
    except (LinkFormatError, UnicodeDecodeError) as error:
        raise DeviceError(f"GET {CORE} is answered with what is no list of links (RFC 6690): {error}") from None


def survey_methods(session: ProbeSession, path: str) -> dict[str, str]:
    """Return the code that each method on *path* is answered with. 4.05 says that it is not there.

    PUT, POST and DELETE carry an If-Match of random bytes, so they must not act. Where PUT or POST does, DELETE is
    `NOT_TRIED`. `NO_ANSWER` says that nothing came within 3 s, or an acknowledgement alone.
    """
    unmatched = ((int(OptionNumber.IF_MATCH), secrets.token_bytes(8)),)
    found = {"GET": _code(session, request(coap.GET, path))}
    for code, name in METHODS.items():
        acted = any(found[one].startswith("2.") for one in found if one != "GET")
        spared = acted and name == "DELETE"
        found[name] = NOT_TRIED if spared else _code(session, request(code, path, options=unmatched))
    return found


def open_tcp_ports(host: str, ports: Sequence[int] = TCP_PORTS, *, within_s: float = 1.0) -> tuple[int, ...]:
    """Return the ports of *host* that take a TCP connection."""
    return tuple(port for some in _batches(ports, 256) for port in _connected(host, some, within_s))


def answering_udp_ports(host: str, *, within_s: float = 1.0) -> tuple[int, ...]:
    """Send each probe of `UDP_PROBES` to its port of *host*; return the ports that something answers from."""
    with ExitStack() as stack:
        wires = {port: stack.enter_context(Wire((host, port))) for port in UDP_PROBES}
        for port, wire in wires.items():
            wire.send(UDP_PROBES[port])
        time.sleep(within_s)
        return tuple(port for port, wire in wires.items() if wire.read() is not None)


def _try(client: Client) -> Script[Tried]:
    try:
        yield from client.handshake()
    except (Silence, Refused, NotVerified) as error:
        return Tried(None, str(error))
    assert client.server_hello is not None
    yield from client.close(0.2)
    return Tried(client.server_hello.suite)


def _resumes(prober: Prober, client: Client) -> bool:
    again = prober.client(offered_suites=client.offered_suites, resume=client.session)
    with prober.session(again):
        return again.resumed


def _code(session: ProbeSession, message: Message) -> str:
    try:
        answer = session.ask(message, TRY_S)
    except Silence:
        return NO_ANSWER
    return "RST" if answer.type == coap.Type.RST else answer.code_text


def _uint(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _batches(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _connected(host: str, ports: Sequence[int], within_s: float) -> list[int]:
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for port in ports:
            one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            one.setblocking(False)
            one.connect_ex((host, port))
            selector.register(one, selectors.EVENT_WRITE, port)
        found: list[int] = []
        while selector.get_map() and (ready := selector.select(within_s)):
            for key, _ in ready:
                selector.unregister(key.fileobj)
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    found.append(int(key.data))
        return sorted(found)
