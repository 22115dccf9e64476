"""What a datagram says, in words: one line a handshake message, alert or CoAP message, for people who read a verdict.

Nothing here raises, whatever the bytes are: what does not decode is described as far as it goes.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rig.dtls import coap, handshake
from rig.dtls.alerts import FATAL, WARNING, decode_alert
from rig.dtls.cid import TLS12_CID, unwrapped
from rig.dtls.contents import decode_new_session_ticket
from rig.dtls.extensions import SessionTicket, connection_id
from rig.dtls.handshake import Extensions, Fragment, HandshakeType, parse_fragments
from rig.dtls.record_layer import RecordLayer
from rig.dtls.records import DTLS_1_2, HEADER_LENGTH, ContentType
from rig.dtls.session import SeenRecord
from rig.dtls.suites import suite_name
from rig.dtls.wire import DecodeError

_HEAD = struct.Struct(">BHH6s")
_LENGTH = struct.Struct(">H")
_LEVELS = {WARNING: "warning", FATAL: "fatal"}
_TYPES = {20: "ChangeCipherSpec", 21: "alert", 22: "handshake", 23: "application data", 25: "tls12_cid"}
_METHODS = {1: "GET", 2: "POST", 3: "PUT", 4: "DELETE", 5: "FETCH", 6: "PATCH", 7: "iPATCH"}


@dataclass(frozen=True)
class _Record:
    content_type: int
    version: int
    epoch: int
    sequence: int
    body: bytes
    announced: int
    """What the length field says; more than the body has where the datagram ends early."""
    length: int
    """Bytes of the datagram that the record takes."""
    connection_id: bytes = b""

    @property
    def place(self) -> str:
        version = "" if self.version == DTLS_1_2 else f", version {self.version:04x}"
        connection_id = f", connection ID {self.connection_id.hex()}" if self.connection_id else ""
        return f"(epoch {self.epoch}, record {self.sequence}{version}{connection_id})"


def describe_datagram(datagram: bytes, from_client: bool, sessions: Sequence[RecordLayer] = ()) -> tuple[str, ...]:
    """Return one line for each thing that *datagram* says; *sessions* are those whose keys may open it."""
    if not datagram:
        return ("an empty datagram",)
    if datagram[0] >> 6 == 1:  # CoAP's version, and no content type of DTLS
        return (f"in clear: {describe_coap(datagram)}",)
    return tuple(line for line in _lines(datagram, from_client, sessions))


def describe_record(seen: SeenRecord) -> tuple[str, ...]:
    """Return the lines of one record as the dissector saw it."""
    record = _Record(seen.content_type, DTLS_1_2, seen.epoch, seen.sequence, b"", 0, 0, seen.connection_id)
    if seen.plaintext is None:
        return (f"{_TYPES.get(seen.content_type, f'type {seen.content_type}')}, unreadable {record.place}",)
    return tuple(f"{line} {record.place}" for line in _content(record, seen.content_type, seen.plaintext))


def describe_coap(data: bytes) -> str:
    """Return a CoAP message as one line: type, code, Message ID, token, path, options of a transfer, payload's size."""
    try:
        message = coap.decode(data)
    except DecodeError as error:
        return f"{len(data)} bytes that are no CoAP: {error}"
    code = _METHODS.get(message.code, message.code_text) if message.code else "empty"
    parts = [f"CoAP {message.type.name} {code}"]
    if message.values(coap.OptionNumber.URI_PATH):
        parts.append(message.path)
    parts.append(f"MID {message.message_id}")
    if message.token:
        parts.append(f"token {message.token.hex()}")
    if message.observe is not None:
        parts.append(f"Observe {message.observe}")
    parts += [
        f"{name} {_block(value)}"
        for name, number in (("Block1", coap.OptionNumber.BLOCK1), ("Block2", coap.OptionNumber.BLOCK2))
        for value in message.values(number)
    ]
    if message.payload:
        parts.append(f"payload {len(message.payload)} B")
    return " ".join(parts)


def _block(value: bytes) -> str:
    """RFC 7959 2.2: number, whether more follow, size."""
    number = int.from_bytes(value, "big")
    return f"{number >> 4}/{int(bool(number & 8))}/{16 << (number & 7)}"


def _lines(datagram: bytes, from_client: bool, sessions: Sequence[RecordLayer]) -> Iterator[str]:
    position = 0
    while position < len(datagram):
        lengths = _cid_lengths(datagram[position], from_client, sessions)
        readings = [one for length in lengths if (one := _record(datagram, position, length)) is not None]
        if not readings:
            yield f"{len(datagram) - position} bytes that are no record"
            return
        opens = (one for one in readings if one.epoch and _opened(one, from_client, sessions) is not None)
        record = next(opens, readings[0])
        yield from _describe(record, from_client, sessions)
        position += record.length


def _cid_lengths(first: int, from_client: bool, sessions: Sequence[RecordLayer]) -> list[int]:
    """Return how long a record's connection ID may be: no record tells."""
    if first != TLS12_CID:
        return [0]
    return list(dict.fromkeys(len(one.write_cid if from_client else one.read_cid) for one in sessions)) or [0]


def _record(datagram: bytes, position: int, cid_bytes: int) -> _Record | None:
    body = position + HEADER_LENGTH + cid_bytes
    if len(datagram) < body:
        return None
    content_type, version, epoch, sequence = _HEAD.unpack_from(datagram, position)
    (announced,) = _LENGTH.unpack_from(datagram, body - _LENGTH.size)
    number = int.from_bytes(sequence, "big")
    content = datagram[body : body + announced]
    connection_id = datagram[body - _LENGTH.size - cid_bytes : body - _LENGTH.size]
    length = body - position + len(content)
    return _Record(content_type, version, epoch, number, content, announced, length, connection_id)


def _describe(record: _Record, from_client: bool, sessions: Sequence[RecordLayer]) -> Iterator[str]:
    cut = f", cut: {len(record.body)} of {record.announced} bytes" if len(record.body) < record.announced else ""
    opened = (record.content_type, record.body) if record.epoch == 0 else _opened(record, from_client, sessions)
    if opened is None:
        kind = _TYPES.get(record.content_type, f"type {record.content_type}")
        yield f"{kind}, {len(record.body)} B, unreadable{cut} {record.place}"
        return
    for line in _content(record, *opened):
        yield f"{line}{cut} {record.place}"


def _opened(record: _Record, from_client: bool, sessions: Sequence[RecordLayer]) -> tuple[int, bytes] | None:
    for session in sessions:
        keys = session.keys.get(record.epoch)
        if keys is None:
            continue
        protection = keys.write if from_client else keys.read
        head = record.content_type, record.version, record.epoch, record.sequence, record.body
        try:
            if record.content_type == TLS12_CID:
                return unwrapped(protection.open(*head, record.connection_id))
            return record.content_type, protection.open(*head)
        except DecodeError:
            continue
    return None


def _content(record: _Record, content_type: int, plaintext: bytes) -> Iterator[str]:
    try:
        match content_type:
            case ContentType.HANDSHAKE:
                told = [_handshake(fragment) for fragment in parse_fragments(plaintext)]
                yield from told or ["an empty handshake record"]
            case ContentType.ALERT:
                alert = decode_alert(plaintext)
                level = _LEVELS.get(alert.level, f"level {alert.level}")
                yield f"Alert {level} {alert.name} ({alert.description})"
            case ContentType.CHANGE_CIPHER_SPEC:
                yield "ChangeCipherSpec"
            case ContentType.APPLICATION_DATA:
                yield describe_coap(plaintext) if record.epoch else f"in clear: {describe_coap(plaintext)}"
            case _:
                yield f"content type {content_type}, {len(plaintext)} B"
    except DecodeError as error:
        yield f"{_TYPES[content_type]} that does not decode: {error}"


def _handshake(fragment: Fragment) -> str:
    name = "".join(word.capitalize() for word in fragment.kind.name.split("_"))
    told = f"{name} seq {fragment.message_seq}"
    if len(fragment.data) < fragment.length:
        end = fragment.offset + len(fragment.data)
        return f"{told}, bytes {fragment.offset} to {end} of {fragment.length}"
    return told + _details(fragment.kind, fragment.data)


def _details(kind: HandshakeType, body: bytes) -> str:
    """Return what of a whole message a reader looks for first."""
    try:
        match kind:
            case HandshakeType.CLIENT_HELLO:
                hello = handshake.decode_client_hello(body)
                cookie = f", cookie {len(hello.cookie)} B" if hello.cookie else ", no cookie"
                more = _session_id(hello.session_id) + _extensions(hello.extensions)
                return f": version {hello.version:04x}, {len(hello.suites)} suites{cookie}{more}"
            case HandshakeType.HELLO_VERIFY_REQUEST:
                return f": cookie {len(handshake.decode_hello_verify_request(body).cookie)} B"
            case HandshakeType.SERVER_HELLO:
                chosen = handshake.decode_server_hello(body)
                more = _session_id(chosen.session_id) + _extensions(chosen.extensions)
                return f": version {chosen.version:04x}, {suite_name(chosen.suite)}{more}"
            case HandshakeType.NEW_SESSION_TICKET:
                ticket = decode_new_session_ticket(body)
                return f": ticket {len(ticket.ticket)} B for {ticket.lifetime_s} s"
            case HandshakeType.CLIENT_KEY_EXCHANGE:
                return _client_key_exchange(body)
            case HandshakeType.CERTIFICATE:
                return f": chain of {len(handshake.decode_certificate(body).chain)}"
            case _:
                return ""
    except DecodeError as error:
        return f", which does not decode: {error}"


def _client_key_exchange(body: bytes) -> str:
    """Return what is in either form; the length before it, of one byte or two, tells which it is."""
    with suppress(DecodeError):
        return f": point {len(handshake.decode_ecdhe_client_key_exchange(body).point)} B"
    return f": identity {handshake.decode_client_key_exchange(body).identity!r:.60}"


def _session_id(session_id: bytes) -> str:
    """A server that takes a session up again answers with the client's: their beginnings can be compared."""
    if not session_id:
        return ""
    return f", session {session_id[:4].hex()}{'...' if len(session_id) > 4 else ''}"


def _extensions(offered: Extensions | None) -> str:
    """Return what resumption and connection IDs have to say in a hello."""
    ticket, wanted = dict(offered or ()).get(SessionTicket.number, b""), connection_id(offered)
    told = f", ticket {len(ticket)} B" if ticket else ""
    return told if wanted is None else f"{told}, wants connection ID {wanted.hex() or 'of no length'}"
