"""What is fuzzed: each target takes one input, drawn anew, and lets out nothing but what it may raise."""

import functools
import hashlib
import json
import random
import struct
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from rig.dtls import alerts, cid, coap, contents, extensions, handshake, records, suites
from rig.dtls.client import Client
from rig.dtls.connection import EXTENSIONS
from rig.dtls.conversation import Moment, Send
from rig.dtls.dissector import Dissector
from rig.dtls.handshake import HandshakeType, Message, Reassembler
from rig.dtls.inbox import Inbox, Place
from rig.dtls.keyring import Keyring
from rig.dtls.misbehaviour import Misbehaviour as DtlsMisbehaviour
from rig.dtls.narrative import describe_coap, describe_datagram
from rig.dtls.outgoing import OutgoingRecord
from rig.dtls.record_layer import Keys, RecordLayer
from rig.dtls.records import DTLS_1_2
from rig.dtls.server import Server
from rig.dtls.wire import DecodeError
from rig.errors import ConfigError, DeviceError
from rig.formats import (
    explain,
    image,
    link_format,
    merged_image,
    nvs,
    otadata,
    packet_rule,
    partitions,
    pcapng,
    udp_packet,
)
from rig.meter import MeterError
from rig.meter.ppk2 import words as ppk2_words
from rig.virtual.device.answers import Crash
from rig.virtual.device.application import Application
from rig.virtual.device.device import Credentials, Device
from rig.virtual.device.message_layer import MessageLayer
from rig.virtual.device.misbehaviour import Misbehaviour
from rig.virtual.relay.inspection import Inspection
from tests.dtls.server.conftest import IDENTITY, PSK, SERVER, Path
from tests.fuzz import seeds
from tests.fuzz.mutation import mutated, shuffled

PSKS = {IDENTITY: PSK}
STATUS = {"uptime_ms": 1, "free_heap": 2, "boot_count": 1}


class Found(Exception):
    """A target let out what it may not. ``cause`` is the same for the same error, ``fed`` the input that did it."""

    def __init__(self, fed: Sequence[bytes], error: Exception) -> None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        self.cause = f"{type(error).__name__} in {place.name}, line {place.lineno}"
        super().__init__(f"{error}; fed: {', '.join(each.hex() or '(nothing)' for each in fed)}")


class Target(Protocol):
    """Something that takes input from outside."""

    @property
    def name(self) -> str:
        """What it is."""

    def once(self, draws: random.Random) -> None:
        """Make one input, and give it to the target; raises `Found`."""


@dataclass(frozen=True)
class Decoder:
    """A function of bytes. *take* raises *error* and nothing else, and checks what must hold of the result.

    *repair* makes checksums and lengths right again, so that what is behind them is reached too.
    """

    name: str
    inputs: Callable[[], Sequence[bytes]]
    take: Callable[[bytes], None]
    error: tuple[type[Exception], ...] = (DecodeError,)
    words: Sequence[bytes] = ()
    repair: Callable[[bytes], bytes] | None = None

    def once(self, draws: random.Random) -> None:
        """Give it a seed, changed."""
        all_inputs = self.inputs()
        data = mutated(draws, draws.choice(all_inputs), all_inputs, self.words)
        if self.repair is not None and draws.random() < 0.5:
            data = self.repair(data)
        try:
            self.take(data)
        except self.error:
            return
        except Exception as error:
            raise Found([data], error) from error


@dataclass(frozen=True)
class Stateful:
    """Something that takes a sequence; *run* draws it, and notes in the list that it is given what it feeds."""

    name: str
    run: Callable[[random.Random, list[bytes]], None]

    def once(self, draws: random.Random) -> None:
        """Run one sequence."""
        fed: list[bytes] = []
        try:
            self.run(draws, fed)
        except Exception as error:
            raise Found(fed, error) from error


def same(decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]) -> Callable[[bytes], None]:
    """Return a check that what decodes encodes to the same bytes."""

    def take(data: bytes) -> None:
        again = encode(decode(data))
        assert again == data, f"encodes to {again.hex()}"

    return take


def encoded(message: Any) -> bytes:
    """Return the bytes of one thing."""
    return bytes(message.encode())


def joined(parts: Sequence[Any]) -> bytes:
    """Return the bytes of several things, one after the other."""
    return b"".join(each.encode() for each in parts)


def body(kind: HandshakeType, decode: Callable[[bytes], Any]) -> Decoder:
    """Return the target of one handshake message."""
    name = f"message {kind.name.lower()}"
    return Decoder(name, lambda: seeds.bodies(kind) or [b""], same(decode, encoded))


# --- DTLS and CoAP


def take_extensions(*, from_server: bool) -> Callable[[bytes], None]:
    """Return a check of the typed extensions in either hello; the input is a ClientHello's end."""

    def take(data: bytes) -> None:
        hello = handshake.decode_client_hello(bytes(34) + b"\0\0\0\0\1\0" + data)
        typed = extensions.decode_extensions(hello.extensions, from_server=from_server)
        assert extensions.pairs(*typed) == (hello.extensions or ())
        extensions.connection_id(hello.extensions)

    return take


def extension_blocks(offered: handshake.Extensions) -> list[bytes]:
    """Return extension blocks with their length: of all at once, and of each alone."""
    some = (offered, *((one,) for one in offered))
    return [handshake.ClientHello(bytes(32), (), extensions=each).encode()[40:] for each in some]


def take_contents(data: bytes) -> None:
    """The first byte is the kind of the message."""
    kinds = list(HandshakeType)
    message = Message(kinds[data[0] % len(kinds)] if data else kinds[0], 1, data[1:])
    for key_exchange in ("psk", "ecdhe_ecdsa"):
        content = contents.decode_message(message, key_exchange)
        if hasattr(content, "encode"):
            assert content.encode() == message.body


@functools.cache
def kinds_and_bodies() -> list[bytes]:
    """Return what `take_contents` takes."""
    return [bytes((list(HandshakeType).index(one.kind),)) + one.body for one in seeds.messages()]


def take_protected(draws: random.Random, fed: list[bytes]) -> None:
    """What is sealed and then changed never opens, and says so by its own error."""
    suite = draws.choice(list(suites.SUITES.values()))
    pair = suites.protections(suite, bytes(48), bytes(32), bytes(32), encrypt_then_mac=draws.random() < 0.5)
    sealed = pair[0].seal(
        23, DTLS_1_2, 1, 5, draws.choice(seeds.plaintexts())[:200], b"" if draws.random() < 0.5 else b"me"
    )
    fed.append(mutated(draws, sealed, seeds.datagrams()))
    for connection_id in (b"", b"me"):
        try:
            pair[0].open(23, DTLS_1_2, 1, 5, fed[0], connection_id)
        except suites.BadRecord:
            continue
        assert fed[0] == sealed, "a changed record opens"


def take_inner(data: bytes) -> None:
    """The content type inside a record with a connection ID, with its padding."""
    kind, content = cid.unwrapped(data)
    padding = len(data) - len(content) - 1
    assert cid.wrapped(kind, content, padding) == data


def take_fragments(draws: random.Random, fed: list[bytes]) -> None:
    """Fragments in any order give the message; damaged ones give `DecodeError` or other messages."""
    message = draws.choice(seeds.messages())
    size = draws.randint(1, 40)
    starts = range(0, len(message.body), size) or range(1)
    fragments = [
        handshake.Fragment(message.kind, len(message.body), message.message_seq, at, message.body[at : at + size])
        for at in starts
    ]
    honest = [one.encode() for one in draws.sample(fragments, len(fragments))]
    damaged = shuffled(draws, honest, seeds.pieces())
    for plaintexts in (honest, damaged):
        reassembler, inbox = Reassembler(), Inbox()
        fed[:] = plaintexts
        whole = [one for each in plaintexts for one in _put_together(reassembler, inbox, each)]
        assert plaintexts is damaged or whole == [message]


def _put_together(reassembler: Reassembler, inbox: Inbox, plaintext: bytes) -> list[Message]:
    found = []
    try:
        for fragment in handshake.parse_fragments(plaintext):
            inbox.add(fragment, Place(0.0, 0, 0))
            message = reassembler.add(fragment)
            found += [message] if message else []
    except DecodeError:
        return []
    return found


def watch(draws: random.Random, fed: list[bytes]) -> None:
    """The dissector and the relay's inspection see a conversation on a bad network."""
    conversation = seeds.conversation()
    start = draws.randrange(len(conversation))
    some = conversation[start : start + draws.choice((5, 20, len(conversation)))]
    keys = draws.choice([PSKS, PSKS, {}, {IDENTITY: b"wrong"}])
    dissector, inspection = Dissector(keys), Inspection(Keyring(keys))
    ends = [(source, destination) for _, source, destination, _ in some]
    fed += shuffled(draws, [datagram for _, _, _, datagram in some], [datagram for _, _, _, datagram in conversation])
    if draws.random() < 0.005:
        fed.insert(draws.randint(0, len(fed)), draws.choice(seeds.floods()))
    for number, datagram in enumerate(fed):
        source, destination = ends[min(number, len(ends) - 1)] if draws.random() < 0.9 else draws.choice(ends)
        dissector.feed(float(number), source, destination, datagram)
        inspection.look(destination == SERVER, datagram)
    for session in dissector.sessions():
        session.key_log()
        assert len(session.application_data) <= len(session.records)
        assert keys == PSKS or not session.established


def narrate(draws: random.Random, fed: list[bytes]) -> None:
    """Anything can be told in words."""
    all_inputs = [*seeds.datagrams(), *seeds.cid_datagrams(), *seeds.coap_messages()]
    layer, from_client = RecordLayer(), draws.random() < 0.5
    layer.write_cid, layer.read_cid = b"mine", b"yours"
    layer.keys[1] = Keys(*suites.protections(suites.SUITES[0xC0A8], bytes(48), bytes(32), bytes(32)))
    fed.append(sealed(draws, layer, by_client=from_client))
    if draws.random() < 0.5:
        fed[0] = mutated(draws, draws.choice(all_inputs), all_inputs)
    assert describe_datagram(fed[0], from_client, [layer])
    assert describe_coap(fed[0])


class Peers:
    """The rig's client and server with a session between them, renewed after so many inputs or when it is over."""

    def __init__(self) -> None:
        self._left = 0

    def fresh(self, draws: random.Random) -> tuple[Client, Server, Path]:
        """Return both and the path between them."""
        if self._left <= 0 or not self._server.serves(self._path.address):
            self._left = 50
            wrong = DtlsMisbehaviour()
            if draws.random() < 0.5:
                switches = [each.name for each in fields(DtlsMisbehaviour) if each.type == "bool" or each.type is bool]
                chosen = draws.sample(switches, 3)
                wrong = DtlsMisbehaviour(**{name: name not in _HINDER for name in chosen})
            self._server = Server(seeds.settings(connection_id_bytes=draws.choice((None, 4))), wrong)
            self._path = Path(self._server)
            offer = draws.choice((EXTENSIONS, seeds.ALL_EXTENSIONS))
            self._client = Client(IDENTITY, PSK, hello_extensions=offer)
            self._path.run(self._client.handshake())
        self._left -= 1
        return self._client, self._server, self._path


# With these no session comes about that the orderly client would take.
_HINDER = {
    "unknown_extensions_refused",
    "version_intolerant",
    "dtls_1_0",
    "dtls_1_3_refused",
    "fragments_dropped",
    "new_hello_ignored",
    "identity_oracle",
    "stale_session_refused",
    "cid_unasked",
    "null_suite",
    "no_last_flight_again",
    "size_limits_not_kept",
}


def sealed(draws: random.Random, client: RecordLayer, *, by_client: bool) -> bytes:
    """Return a datagram of one side whose plaintext is changed, and which opens."""
    keys = client.keys[1]
    protection, connection_id = (keys.write, client.write_cid) if by_client else (keys.read, client.read_cid)
    plaintext = mutated(draws, draws.choice(seeds.plaintexts()), seeds.plaintexts())[:16000]
    kind = draws.choice((20, 21, 22, 22, 23, 23, draws.randrange(256)))
    sequence = draws.choice((draws.randrange(1 << 48), draws.randrange(1000), 0))
    record = OutgoingRecord(kind, DTLS_1_2, 1, sequence, plaintext, protection, connection_id, draws.choice((0, 0, 3)))
    return record.encode()


def to_client(peers: Peers) -> Callable[[random.Random, list[bytes]], None]:
    """Return what gives the client damaged records and good records of damaged content."""

    def run(draws: random.Random, fed: list[bytes]) -> None:
        client, _, _ = peers.fresh(draws)
        all_inputs = [*seeds.datagrams(), *[moment.datagram for moment in client.received[-20:] if moment.datagram]]
        if draws.random() < 0.01:
            fed.append(draws.choice(seeds.floods()))
        elif draws.random() < 0.5:
            fed.append(mutated(draws, draws.choice(all_inputs), all_inputs))
        else:
            fed.append(sealed(draws, client, by_client=False))
        client.receive(0.0, fed[0])
        client.key_log()
        _ = client.resumed

    return run


def to_server(peers: Peers) -> Callable[[random.Random, list[bytes]], None]:
    """Return what gives the server damaged records and good records of damaged content, and lets time pass."""

    def run(draws: random.Random, fed: list[bytes]) -> None:
        client, server, path = peers.fresh(draws)
        all_inputs = [*seeds.datagrams(), *[moment.datagram for moment in client.sent if moment.datagram]]
        if draws.random() < 0.01:
            fed.append(draws.choice(seeds.floods()))
        elif draws.random() < 0.5:
            fed.append(mutated(draws, draws.choice(all_inputs), all_inputs))
        else:
            fed.append(sealed(draws, client, by_client=True))
        peer = path.address if draws.random() < 0.8 else seeds.ELSEWHERE
        server.receive(path.now_s, peer, fed[0])
        if draws.random() < 0.1:
            path.now_s += draws.choice((0.1, 1.0, 60.0))
            server.expire(path.now_s)

    return run


def shake_hands(draws: random.Random, fed: list[bytes]) -> None:
    """Client and server shake hands on a network that damages what it carries; neither breaks."""
    server, client = Server(seeds.settings()), Client(IDENTITY, PSK, hello_extensions=seeds.ALL_EXTENSIONS)
    script = client.handshake()
    step: Any = next(script)
    waiting: list[bytes] = []
    try:
        for _ in range(200):
            for datagram in getattr(step, "datagrams", ()):
                for each in shuffled(draws, [datagram], seeds.datagrams()):
                    fed.append(each)
                    events = server.receive(0.0, seeds.HOME, each)
                    answers = [event.datagram for event in events if hasattr(event, "datagram")]
                    waiting += shuffled(draws, answers, seeds.datagrams())
            moment = _moment(step, waiting, fed)
            step = script.send(moment)
    except (StopIteration, DeviceError):
        return
    finally:
        script.close()


def _moment(step: Any, waiting: list[bytes], fed: list[bytes]) -> Moment:
    if isinstance(step, Send):
        return Moment(0.0)
    if not waiting:
        return Moment(1e9)
    fed.append(waiting.pop(0))
    return Moment(0.0, fed[-1])


# --- the scripted device


def _misbehaviour(draws: random.Random) -> Misbehaviour:
    """Return an orderly device, or one with some switches on."""
    if draws.random() < 0.5:
        return Misbehaviour()
    switches = [each.name for each in fields(Misbehaviour) if each.type == "bool" or each.type is bool]
    return Misbehaviour(**dict.fromkeys(draws.sample(switches, 3), True))


def to_message_layer(draws: random.Random, fed: list[bytes]) -> None:
    """Messages, duplicates and time; whatever is answered is CoAP."""
    layer = MessageLayer(_misbehaviour(draws), draws, lambda: None)
    now_s = 0.0
    for each in _asked(draws):
        fed.append(each)
        layer.receive(now_s, each)
        now_s += draws.choice((0.0, 0.0, 2.0, 300.0))
        layer.expire(now_s)
    for each in layer.outbox:
        coap.decode(each)


def to_application(draws: random.Random, fed: list[bytes]) -> None:
    """Requests of two sessions to all resources, and time; whatever is answered is CoAP."""
    wrong = _misbehaviour(draws)
    application = Application(wrong, draws, lambda: STATUS)
    now_s = 1000.0
    for client in (1, 2):
        application.connect(client)
    for each in _asked(draws):
        fed.append(each)
        try:
            sent = application.receive(now_s, draws.choice((1, 1, 2, 3)), each)
            now_s += draws.choice((0.0, 0.0, 1.0, 100.0))
            sent += application.expire(now_s)
        except Crash:
            return
        for one in sent:
            if not one.clear:
                coap.decode(one.data)


def _asked(draws: random.Random) -> list[bytes]:
    messages = draws.sample(seeds.coap_messages(), 6)
    damaged = [mutated(draws, each, seeds.coap_messages()) if draws.random() < 0.6 else each for each in messages]
    return shuffled(draws, damaged, seeds.coap_messages())


def to_device(draws: random.Random, fed: list[bytes]) -> None:
    """Damaged datagrams to the whole device, from two addresses, and to its group."""
    device = Device(Credentials(IDENTITY, PSK), _misbehaviour(draws), DtlsMisbehaviour(), 0.0)
    now_s = 0.0
    some = draws.sample(seeds.datagrams(), 5)
    for each in shuffled(draws, some, seeds.datagrams()):
        fed.append(each)
        device.receive(now_s, draws.choice((seeds.HOME, seeds.ELSEWHERE)), each)
        now_s += draws.choice((0.0, 1.0, 60.0))
        device.expire(now_s)
    fed.append(mutated(draws, draws.choice(seeds.coap_messages()), seeds.coap_messages()))
    device.receive_from_group(now_s, seeds.HOME, fed[-1])
    device.expire(now_s + 100.0)


# --- formats


def take_capture(data: bytes) -> None:
    """What is read can be written again and reads the same, but for the time stamps' unit."""
    recording = pcapng.read_pcapng(data)
    for packet in recording.packets:
        assert packet.interface in recording.interfaces


def take_packet(data: bytes) -> None:
    """What is read is written to a packet that reads the same."""
    one = udp_packet.parse_udp_packet(data)
    header = (data[0] & 0x0F) * 4
    assert len(one.payload) + 8 == int.from_bytes(data[header + 4 : header + 6], "big")
    path = udp_packet.UdpPath(one.source, one.destination)
    assert udp_packet.parse_udp_packet(path.packet(one.payload)) == one


def take_links(data: bytes) -> None:
    """The text as it comes out of a response."""
    for link in link_format.parse_links(data.decode(errors="replace")):
        for name, _ in link.attributes:
            assert link.has(name)
            link.value(name)


def take_rules(draws: random.Random, fed: list[bytes]) -> None:
    """JSON values in the shape of rules, and in none; what is read is written to a rule that reads the same."""
    value = _changed_value(draws, json.loads(json.dumps(seeds.RULES)))
    fed.append(json.dumps(value).encode())
    try:
        rules = packet_rule.read_rules(value)
    except packet_rule.PacketRuleError:
        rules = ()
    for rule in rules:
        assert packet_rule.PacketRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
        assert str(rule)
        rule.acts_on(draws.randrange(1, 10))
    try:
        psks = packet_rule.read_psks(value[0] if isinstance(value, list) and value else value)
    except packet_rule.PacketRuleError:
        return
    assert packet_rule.read_psks(packet_rule.psks_to_dict(psks)) == psks


_ODD_NUMBERS = (0, 1, -1, 3, 255, 2**31, 2**70, 0.5, -0.0, 1e308, float("nan"), float("inf"))
_ODD_WORDS = ("", "CON", "0.01", "\u00b2.05", "drop", "handshake", "finished", "to_client", "ab")
_ODD_SHAPES = (None, True, False, [], [[]], [None], ["finished", {}], {}, {"x": 1}, {"ab": "cd"})
_ODD_VALUES: tuple[Any, ...] = (*_ODD_NUMBERS, *_ODD_WORDS, *_ODD_SHAPES)
_ODD_KEYS = ("direction", "action", "match", "value", "nth", "first", "every", "coap", "code", "flight", "x", "")


def _changed_value(draws: random.Random, value: Any) -> Any:
    """Return a JSON value with something in it replaced, added or removed."""
    if draws.random() < 0.1 or not isinstance(value, list | dict) or not value:
        return draws.choice(_ODD_VALUES)
    if isinstance(value, list):
        at = draws.randrange(len(value))
        return [*value[:at], _changed_value(draws, value[at]), *value[at + draws.choice((0, 1)) :]]
    key = draws.choice(list(value))
    if draws.random() < 0.2:
        return {**value, draws.choice(_ODD_KEYS): draws.choice(_ODD_VALUES)}
    if draws.random() < 0.2:
        return {name: each for name, each in value.items() if name != key}
    return {**value, key: _changed_value(draws, value[key])}


def take_image(data: bytes) -> None:
    """`parse` and `examine` agree, and a change of the secure version leads to an image that is as good."""
    found = image.examine(data)
    image.host_elf(found)
    image.read_bootloader_descriptor(data)
    parsed = image.parse(data)
    assert not found.errors
    assert (parsed.segments, parsed.length) == (found.segments, found.length)
    if parsed.app is not None:
        changed = image.parse(image.with_secure_version(data, 7)).app
        assert changed is not None
        assert changed.secure_version == 7


def with_image_sums(data: bytes) -> bytes:
    """Make checksum and SHA-256 right again, where the structure is."""
    try:
        image.parse(data)
    except image.ImageChecksumError as error:
        data = data[:-33] + bytes((error.calculated,)) + data[-32:]
    except image.ImageError:
        return data
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


def take_table(data: bytes) -> None:
    """`parse_table` and `examine_table` agree; what is read can be written, if it has text in its labels."""
    entries, error = partitions.examine_table(data)
    assert (error is None) == (partitions.parse_table(data) == entries)
    for entry in entries:
        partitions.type_name(entry), partitions.subtype_name(entry), partitions.flag_names(entry)
    if all(len(entry.label.encode()) <= 16 and "\ufffd" not in entry.label for entry in entries):
        assert partitions.parse_table(partitions.build_table(entries)) == entries


def with_table_md5(data: bytes) -> bytes:
    """Make the MD5 entry right again."""
    for at in range(0, len(data) - 31, 32):
        if data[at : at + 2] == b"\xeb\xeb":
            return data[: at + 16] + hashlib.md5(data[:at], usedforsecurity=False).digest() + data[at + 32 :]
    return data


def take_csv(data: bytes) -> None:
    """What is read from text is what the table says that is made of it."""
    text = data.decode(errors="replace")
    assert partitions.parse_table(partitions.table_from_csv(text)) == partitions.parse_csv(text)


def take_nvs(data: bytes) -> None:
    """Both readers agree, and each value can be had."""
    content = nvs.examine_nvs(data)
    assert nvs.read_nvs(data) == content.values
    for value in content.values.values():
        _ = value.value


def with_nvs_sums(data: bytes) -> bytes:
    """Make the CRCs of pages and entries right again."""
    repaired = bytearray(data)
    for page in range(0, len(data) - 4095, 4096):
        repaired[page + 28 : page + 32] = struct.pack("<I", nvs._crc32(bytes(repaired[page + 4 : page + 28])))
        for at in range(page + 64, page + 4096, 32):
            entry = bytes(repaired[at : at + 32])
            repaired[at + 4 : at + 8] = struct.pack("<I", nvs._crc32(entry[:4] + entry[8:]))
    return bytes(repaired)


def take_otadata(data: bytes) -> None:
    """The active entry is one that the loader may take."""
    found = otadata.read_otadata(data)
    assert found.active is None or (found.active.crc_ok and not found.active.blank)
    assert all(entry.state_name for entry in found.entries)
    assert otadata.boot_partition(partitions.parse_table(seeds.tables()[0]), found) is not None


def with_ota_sums(data: bytes) -> bytes:
    """Make the CRC of the first entry right again."""
    return data[:28] + struct.pack("<I", otadata._crc(int.from_bytes(data[:4], "little"))) + data[32:]


def take_flash(data: bytes) -> None:
    """A flash's content, in regions that lie in it."""
    if merged_image.looks_merged(data):
        for region in merged_image.regions(data):
            assert region.size == 0 or region.offset + region.size <= len(data)


def take_any_file(data: bytes) -> None:
    """What `rig explain` is given."""
    json.dumps(explain.explain(data).facts)


def take_ppk2_words(data: bytes) -> None:
    """Words that come out count on, no byte is used twice, and good words end any trouble."""
    framer = ppk2_words.Framer()
    pieces = [piece for first in range(0, len(data), 333) for piece in framer.feed(data[first : first + 333])]
    blocks = [piece for piece in pieces if not isinstance(piece, int)]
    assert 4 * sum(map(len, blocks)) + framer.discarded <= len(data)
    for block in blocks:
        assert (np.diff(block >> 18 & 63) % 64 == 1).all()
        assert len(ppk2_words.changes(block, int(block[0])).samples) < len(block)
    good = seeds.ppk2_words()[0]
    last = framer.feed(good)[-1]
    assert not isinstance(last, int)
    assert last.tobytes()[-7000:] == good[-7000:]


def take_ppk2_metadata(data: bytes) -> None:
    """The calibration that is read makes a number of every word."""
    assert np.isfinite(ppk2_words.parse_metadata(data).calibration.r).all()


H = HandshakeType
OF_CLIENT = extension_blocks(seeds.ALL_EXTENSIONS)
OF_SERVER = extension_blocks(
    tuple(one for one in seeds.ALL_EXTENSIONS if one[0] != extensions.OfferedVersions.number)
    + extensions.pairs(extensions.SelectedVersion(DTLS_1_2))
)
TARGETS: tuple[Target, ...] = (
    Decoder("records", seeds.datagrams, same(records.parse_datagram, joined)),
    Decoder("records with a CID", seeds.cid_datagrams, same(lambda data: cid.split_datagram(data, 4), joined)),
    Decoder("inner plaintext of a CID", seeds.wrapped_pieces, take_inner),
    Stateful("record protection", take_protected),
    Decoder("handshake fragments", seeds.pieces, same(handshake.parse_fragments, joined)),
    body(H.CLIENT_HELLO, handshake.decode_client_hello),
    body(H.SERVER_HELLO, handshake.decode_server_hello),
    body(H.HELLO_VERIFY_REQUEST, handshake.decode_hello_verify_request),
    body(H.SERVER_KEY_EXCHANGE, handshake.decode_server_key_exchange),
    body(H.CLIENT_KEY_EXCHANGE, handshake.decode_client_key_exchange),
    Decoder("certificates", seeds.certificates, same(handshake.decode_certificate, encoded)),
    Decoder("server's ECDHE", seeds.server_points, same(handshake.decode_ecdhe_server_key_exchange, encoded)),
    Decoder("client's ECDHE", seeds.client_points, same(handshake.decode_ecdhe_client_key_exchange, encoded)),
    body(H.NEW_SESSION_TICKET, contents.decode_new_session_ticket),
    Decoder("extensions of a ClientHello", lambda: OF_CLIENT, take_extensions(from_server=False)),
    Decoder("extensions of a ServerHello", lambda: OF_SERVER, take_extensions(from_server=True)),
    Decoder("contents", kinds_and_bodies, take_contents),
    Decoder("alerts", seeds.alerts, same(alerts.decode_alert, encoded)),
    Decoder("CoAP messages", seeds.coap_messages, same(coap.decode, encoded)),
    Stateful("reassembler and inbox", take_fragments),
    Stateful("dissector and inspection", watch),
    Stateful("narrative", narrate),
    Stateful("client", to_client(Peers())),
    Stateful("scripted server", to_server(Peers())),
    Stateful("client and server, handshake", shake_hands),
    Stateful("device, message layer", to_message_layer),
    Stateful("device, application", to_application),
    Stateful("device", to_device),
    Decoder("pcapng", seeds.captures, take_capture, (pcapng.PcapngError,)),
    Decoder("UDP packets", seeds.packets, take_packet, (udp_packet.PacketError,)),
    Decoder("link format", lambda: seeds.LINKS, take_links, (link_format.LinkFormatError,), seeds.LINK_WORDS),
    Stateful("packet rules", take_rules),
    Decoder("application images", seeds.images, take_image, (image.ImageError,), (), with_image_sums),
    Decoder("partition tables", seeds.tables, take_table, (partitions.PartitionTableError,), (), with_table_md5),
    Decoder("partitions.csv", lambda: [seeds.PARTITIONS.encode()], take_csv, (ConfigError,), seeds.CSV_WORDS),
    Decoder("NVS", seeds.nvs_partitions, take_nvs, (nvs.NvsError,), (), with_nvs_sums),
    Decoder("OTA data", seeds.ota_data, take_otadata, (otadata.OtaDataError,), (), with_ota_sums),
    Decoder("words of a PPK2", seeds.ppk2_words, take_ppk2_words, ()),
    Decoder("metadata of a PPK2", lambda: [seeds.PPK2_METADATA], take_ppk2_metadata, (MeterError,), seeds.PPK2_WORDS),
    Decoder(
        "flash contents", seeds.flashes, take_flash, (merged_image.MergedImageError, partitions.PartitionTableError)
    ),
    Decoder(
        "files to explain",
        lambda: [*seeds.images(), *seeds.tables(), *seeds.ota_data(), *seeds.nvs_partitions(), *seeds.flashes()],
        take_any_file,
        (ConfigError,),
    ),
)
