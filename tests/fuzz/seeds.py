"""Valid input of every kind, made by the rig's own writers and by real conversations. Each is made once."""

import contextlib
import functools
import io
import tempfile
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from rig.dtls import coap
from rig.dtls.alerts import Alert
from rig.dtls.cid import CidRecord, wrapped
from rig.dtls.client import Client
from rig.dtls.connection import EXTENSIONS
from rig.dtls.contents import NewSessionTicket
from rig.dtls.extensions import (
    ConnectionId,
    EncryptThenMac,
    MaxFragmentLength,
    OfferedVersions,
    PointFormats,
    Raw,
    RecordSizeLimit,
    RenegotiationInfo,
    SessionTicket,
    SignatureAlgorithms,
    SupportedGroups,
    pairs,
)
from rig.dtls.handshake import (
    Certificate,
    EcdheClientKeyExchange,
    EcdheServerKeyExchange,
    Extensions,
    Fragment,
    HandshakeType,
    Message,
    parse_fragments,
)
from rig.dtls.records import DTLS_1_2, ContentType, Record, parse_datagram
from rig.dtls.server import Server
from rig.dtls.server_session import Settings
from rig.dtls.session import Endpoint
from rig.formats import image, otadata, partitions
from rig.formats.pcapng import enhanced_packet, interface_description, interface_statistics, section_header
from rig.formats.udp_packet import UdpPath
from tests.dtls.server.conftest import IDENTITY, PSK, SERVER, Path
from tests.formats.test_nvs import ROWS, generate

HOME, ELSEWHERE = ("127.0.0.1", 40000), ("127.0.0.9", 50000)
ALL_EXTENSIONS: Extensions = EXTENSIONS + pairs(
    EncryptThenMac(),
    MaxFragmentLength(2),
    RecordSizeLimit(512),
    OfferedVersions((0xFEFC, 0xFEFD)),
    RenegotiationInfo(),
    ConnectionId(b"mine"),
    PointFormats(b"\0"),
    SessionTicket(),
    SupportedGroups((23, 29)),
    SignatureAlgorithms((0x0403,)),
    Raw(0xABCD, b"unknown"),
)
GET_LIGHT: coap.Options = ((coap.OptionNumber.URI_PATH, b"light"),)
PARTITIONS = """\
nvs, data, nvs, 0x9000, 24K
otadata, data, ota, 0xf000, 8K
factory, app, factory, , 1M
ota_0, app, ota_0, , 1M, encrypted
creds, data, nvs, , 12K, readonly
"""

Passed = tuple[float, Endpoint, Endpoint, bytes]


def settings(**changes: Any) -> Settings:
    """Return those of a server that can do everything."""
    everything = {"session_ids": True, "tickets": True, "connection_id_bytes": 4, "identity_hint": b"hint"}
    return Settings(psks={IDENTITY: PSK}, **{**everything, **changes})


@functools.cache
def conversation() -> tuple[Passed, ...]:
    """Return full and abbreviated handshakes, data, a client that moves, alerts: as a bystander sees them."""
    path = Path(Server(settings()))
    plain = _talk(path, Client(IDENTITY, PSK))
    _talk(path, Client(IDENTITY, PSK, resume=plain.session))
    ticket = _talk(path, Client(IDENTITY, PSK, hello_extensions=ALL_EXTENSIONS))
    path.address = HOME
    with_cid = EXTENSIONS + pairs(ConnectionId(b"mine"))
    _talk(path, Client(IDENTITY, PSK, resume=ticket.session, hello_extensions=with_cid), moves=True)
    return tuple(path.passed)


def _talk(path: Path, client: Client, *, moves: bool = False) -> Client:
    path.run(client.handshake())
    ask = coap.Message(coap.Type.CON, coap.GET, 7, b"tk", GET_LIGHT).encode()
    path.run(client.ask(ask))
    if moves:
        path.address = ELSEWHERE
        path.run(client.ask(ask))
    path.run(client.close())
    return client


@functools.cache
def datagrams() -> list[bytes]:
    """Return the datagrams of the conversation that are plain records."""
    return [datagram for _, _, _, datagram in conversation() if b"\x19\xfe\xfd" not in datagram]


@functools.cache
def floods() -> list[bytes]:
    """Return datagrams of thousands of tiny things: early records, messages without a body, fragments of one byte."""
    requests = Message(HandshakeType.HELLO_REQUEST, 0, b"").encode() * 3000
    crumbs = b"".join(Fragment(HandshakeType.SERVER_HELLO, 60000, 1, at, b"x").encode() for at in range(3000, 0, -1))
    numbered = b"".join(Message(HandshakeType.CERTIFICATE, number, b"").encode() for number in range(3000))
    partial = b"".join(Fragment(HandshakeType.CLIENT_HELLO, 60000, at, 1, b"").encode() for at in range(3000))
    clear = [
        Record(ContentType.HANDSHAKE, DTLS_1_2, 0, 0, one).encode() for one in (requests, crumbs, numbered, partial)
    ]
    return [Record(ContentType.APPLICATION_DATA, DTLS_1_2, 1, 0, b"").encode() * 3000, *clear]


@functools.cache
def cid_datagrams() -> list[bytes]:
    """Return datagrams with connection IDs of four bytes, alone and behind a plain record."""
    one = CidRecord(0xFEFD, 1, 7, b"mine", b"sealed data").encode()
    return [one, one + one, datagrams()[0] + one]


@functools.cache
def messages() -> tuple[Message, ...]:
    """Return the handshake messages that passed in clear."""
    found: list[Message] = []
    for datagram in datagrams():
        for record in parse_datagram(datagram):
            if record.epoch == 0 and record.content_type == ContentType.HANDSHAKE:
                fragments = parse_fragments(record.fragment)
                found += [Message(each.kind, each.message_seq, each.data) for each in fragments]
    return (*found, Message(HandshakeType.NEW_SESSION_TICKET, 3, NewSessionTicket(600, b"ticket").encode()))


@functools.cache
def bodies(kind: HandshakeType) -> list[bytes]:
    """Return the bodies of the messages of one kind."""
    return [message.body for message in messages() if message.kind == kind]


def certificates() -> list[bytes]:
    """Return the bodies of Certificate messages."""
    return [Certificate(chain).encode() for chain in ((), (b"0" * 300,), (b"own", b"issuer's"))]


def server_points() -> list[bytes]:
    """Return the bodies of ServerKeyExchange messages of ECDHE."""
    return [EcdheServerKeyExchange(23, bytes(65), 0x0403, b"0" * 71).encode()]


def client_points() -> list[bytes]:
    """Return the bodies of ClientKeyExchange messages of ECDHE."""
    return [EcdheClientKeyExchange(bytes(65)).encode()]


@functools.cache
def pieces() -> list[bytes]:
    """Return the plaintexts of handshake records: whole messages, several in one, and fragments of them."""
    whole = [message.encode() for message in messages()]
    cut = [
        Fragment(one.kind, len(one.body), one.message_seq, at, one.body[at : at + 20]).encode()
        for one in messages()
        for at in range(0, len(one.body), 20)
    ]
    return [*whole, *cut, b"".join(whole[:3])]


@functools.cache
def wrapped_pieces() -> list[bytes]:
    """Return what is sealed in records with connection IDs."""
    return [wrapped(ContentType.HANDSHAKE, piece, 2) for piece in pieces()]


@functools.cache
def alerts() -> list[bytes]:
    """Return alerts."""
    return [Alert(1, 0).encode(), Alert(2, 40).encode()]


@functools.cache
def plaintexts() -> list[bytes]:
    """Return what records hold."""
    return [*pieces(), *alerts(), *coap_messages(), b"\1"]


@functools.cache
def coap_messages() -> list[bytes]:
    """Return requests, answers and empty messages, with short and long options and blocks."""
    con, non, ack, number = coap.Type.CON, coap.Type.NON, coap.Type.ACK, coap.OptionNumber
    sensor, blob = ((number.URI_PATH, b"sensor"),), ((number.URI_PATH, b"blob"),)
    long = ((number.URI_PATH, b"x" * 12), (number.URI_QUERY, b"n=" + b"y" * 300), (number.SIZE1, b"\x10\x00"))
    well_known = ((number.URI_PATH, b".well-known"), (number.URI_PATH, b"core"))
    block = ((number.BLOCK1, b"\x0c"), (number.CONTENT_FORMAT, b""))
    some = (
        coap.Message(con, coap.EMPTY, 1),
        coap.Message(coap.Type.RST, coap.EMPTY, 2),
        coap.Message(con, coap.GET, 3, b"tk", GET_LIGHT),
        coap.Message(con, coap.PUT, 4, b"12345678", GET_LIGHT, b"on"),
        coap.Message(non, coap.GET, 5, b"o", ((number.OBSERVE, b""), *sensor)),
        coap.Message(con, coap.GET, 6, b"o", ((number.OBSERVE, b"\1"), *sensor, (number.ACCEPT, b"\x3c"))),
        coap.Message(con, coap.GET, 7, b"", (*blob, (number.URI_QUERY, b"n=1000"), (number.BLOCK2, b"\x12"))),
        coap.Message(con, coap.PUT, 8, b"b", (*blob, *block), b"z" * 256),
        coap.Message(ack, 0x45, 9, b"tk", ((number.ETAG, b"12345678"), (number.MAX_AGE, b"\x3c")), b"{}"),
        coap.Message(con, coap.POST, 10, b"", long, b"payload"),
        coap.Message(con, coap.GET, 11, b"", well_known),
        coap.Message(con, coap.DELETE, 12, b"t", (*GET_LIGHT, (number.IF_MATCH, b"1"), (65000, b"critical"))),
    )
    return [message.encode() for message in some]


@functools.cache
def captures() -> list[bytes]:
    """Return capture files."""
    packet = UdpPath(HOME, SERVER).packet
    head = section_header() + interface_description("client side") + interface_description("board side")
    body = b"".join(enhanced_packet(at % 2, at * 10**9, packet(one)) for at, one in enumerate(datagrams()[:6]))
    end = interface_statistics(0, 10**10, 6, 0) + interface_statistics(1, 10**10, 6, 1)
    return [head + body + end, head, head + end + head + body]


@functools.cache
def packets() -> list[bytes]:
    """Return IPv4 packets."""
    return [UdpPath(HOME, SERVER).packet(datagram) for datagram in datagrams()[:4]]


LINKS = [
    b'</light>;rt="light";if="switch",</sensor>;obs;ct="0 60"',
    b'</.well-known/core>;ct=40 , </a>; title="a \\"quoted\\" word"; sz=12',
    b"",
]
LINK_WORDS = [b"<", b">", b";", b",", b'"', b"\\", b"=", b"obs", b" ", b"\t", b"</x>", b'rt="', b"\xc3\xa9", b"*"]
CSV_WORDS = [b",", b"\n", b"#", b"app", b"data", b"nvs", b"ota_15", b"0x", b"K", b"M", b"-1", b" ", b"encrypted", b":"]
RULES: list[Any] = [
    {"direction": "to_client", "action": "drop", "match": {"flight": 4}, "first": 1},
    {"direction": "to_device", "action": "delay", "value": 0.5, "match": {"content_type": "handshake", "epoch": 0}},
    {"direction": "to_client", "action": "flip", "value": -1, "match": {"handshake": ["finished"], "repeated": True}},
    {"direction": "to_device", "action": "duplicate", "value": 3, "every": 2, "match": {"alert": 0}},
    {
        "direction": "to_device",
        "action": "truncate",
        "value": 0,
        "nth": 1,
        "match": {"coap": {"type": "CON", "code": "0.01", "path": "/light"}, "longer_than_bytes": 9},
    },
]


@functools.cache
def images() -> list[bytes]:
    """Return an application image and a bootloader."""
    return [image.build_host_image(b"\x7fELF" + bytes(200), project="light", version="1.0"), image.build_bootloader()]


@functools.cache
def tables() -> list[bytes]:
    """Return partition tables, with what follows them in flash and without."""
    table = partitions.table_from_csv(PARTITIONS)
    return [table, table + bytes(100), b"\xff" * 0xC00]


@functools.cache
def ota_data() -> list[bytes]:
    """Return OTA data partitions."""
    sectors = [otadata.build_entry(number, otadata.VALID).ljust(partitions.SECTOR_BYTES, b"\xff") for number in (1, 2)]
    return [b"".join(sectors), sectors[0] + b"\xff" * partitions.SECTOR_BYTES]


@functools.cache
def nvs_partitions() -> tuple[bytes, ...]:
    """Return NVS partitions of Espressif's generator."""
    short = "".join(row for row in ROWS.splitlines(keepends=True) if not row.startswith("long,"))
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
        where = FilePath(directory)
        return generate(where, ROWS, size=0x6000), generate(where, short, size=0x3000, version=1)


@functools.cache
def flashes() -> list[bytes]:
    """Return whole flash contents."""
    app, bootloader = images()
    content = bytearray(b"\xff" * 0x21000)
    for offset, part in ((0, bootloader), (0x8000, tables()[0]), (0xF000, ota_data()[0]), (0x20000, app)):
        content[offset : offset + len(part)] = part
    return [bytes(content)]


def ppk2_words() -> list[bytes]:
    """What a PPK2 sends: whole, with lost samples, and torn."""
    at = np.arange(2000)
    whole = (at * 7 % 16384 | at // 500 << 14 | at % 64 << 18 | at // 300 % 2 << 24).astype("<u4").tobytes()
    return [whole, whole[:2000] + whole[2040:], whole[:2000] + whole[2002:]]


PPK2_METADATA = "\n".join(
    ["Calibrated: 1", "VDD: 3300", "HW: 9173", "mode: 2"]
    + [f"{name}{index}: {index + 1}.5" for name in ("R", "GS", "GI", "O", "S", "I", "UG") for index in range(5)]
    + ["IA: 56", "END", ""]
).encode()
PPK2_WORDS = [b"\n", b": ", b"-nan", b"END", b"R0: ", b"0", b"1e999", b"UG4: 1.0\n"]
