"""What a datagram is, as far as a bystander can tell, who may have been told pre-shared keys."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from rig.dtls.alerts import decode_alert
from rig.dtls.cid import CidRecord
from rig.dtls.coap import Message, decode
from rig.dtls.handshake import Fragment, HandshakeType, parse_fragments
from rig.dtls.keyring import Keyring
from rig.dtls.records import ContentType, Record, parse_datagram
from rig.dtls.tracker import Tracker
from rig.dtls.wire import DecodeError
from rig.formats.packet_rule import Match

_RANDOM = slice(2, 34)
_COOKIE_REQUEST = {HandshakeType.HELLO_VERIFY_REQUEST}
_SERVER_HELLO = {
    HandshakeType.SERVER_HELLO,
    HandshakeType.CERTIFICATE,
    HandshakeType.SERVER_KEY_EXCHANGE,
    HandshakeType.CERTIFICATE_REQUEST,
    HandshakeType.SERVER_HELLO_DONE,
}


@dataclass(frozen=True)
class Part:
    """One record, one handshake message of a record, or one CoAP message in clear.

    flight: that of RFC 6347 4.2.4, figure 1. coap: the message, where it could be read; path: that of its request.
    piece: the same for what is sent again; None for what is neither part of a handshake nor readable CoAP.
    """

    content_type: str | None = None
    epoch: int | None = None
    handshake: str | None = None
    alert: int | None = None
    coap: Message | None = None
    path: str | None = None
    flight: int | None = None
    piece: tuple[object, ...] | None = None

    def fits(self, match: Match) -> bool:
        """Whether this is what *match* asks of a single record or message."""
        for asked, found in ((match.content_type, self.content_type), (match.epoch, self.epoch)):
            if asked is not None and found != asked:
                return False
        if match.handshake and self.handshake not in match.handshake:
            return False
        if match.alert is not None and self.alert != match.alert:
            return False
        return match.coap is None or self._is_coap(match)

    def _is_coap(self, match: Match) -> bool:
        wanted, message = match.coap, self.coap
        if wanted is None or message is None:
            return False
        facts = ((wanted.type, message.type.name), (wanted.code, message.code_text), (wanted.path, self.path))
        return all(asked is None or asked == found for asked, found in facts)


@dataclass(frozen=True)
class Content:
    """A datagram taken apart; no parts where it is neither DTLS nor CoAP."""

    length: int
    parts: tuple[Part, ...]
    repeated: bool

    def fits(self, match: Match) -> bool:
        """Whether the datagram is what *match* asks for."""
        if match.longer_than_bytes is not None and self.length <= match.longer_than_bytes:
            return False
        if match.repeated is not None and self.repeated != match.repeated:
            return False
        if match.flight is not None and match.flight not in {part.flight for part in self.parts}:
            return False
        return not _asks_for_a_part(match) or any(part.fits(match) for part in self.parts)


class Inspection:
    """Follows one client's conversation with a board."""

    def __init__(self, keyring: Keyring) -> None:
        """*keyring*: without the right key in it nothing protected is looked into."""
        self._keyring = keyring
        self._random: bytes | None = None
        self._seen: set[tuple[object, ...]] = set()
        self._paths: dict[bytes, str] = {}
        # A ClientHello inside a live session may come from anybody: its keys are kept until the new session has some.
        self._newest: Tracker | None = None
        self._live: Tracker | None = None

    def look(self, from_client: bool, datagram: bytes) -> Content:
        """Take a datagram apart; those of one client in the order in which they came."""
        parts = tuple(self._parts(from_client, datagram))
        pieces = {(from_client, *part.piece) for part in parts if part.piece is not None}
        repeated = bool(pieces) and pieces <= self._seen
        self._seen |= pieces
        return Content(len(datagram), parts, repeated)

    def _parts(self, from_client: bool, datagram: bytes) -> Iterator[Part]:
        try:
            records = self._split(from_client, datagram)
        except DecodeError:
            yield from self._coap(Part(), datagram)
            return
        for record in records:
            yield from self._record_parts(from_client, record)

    def _split(self, from_client: bool, datagram: bytes) -> tuple[Record | CidRecord, ...]:
        """Only a session's hellos tell how long the connection IDs in its records are."""
        for tracker in (self._live, self._newest):
            if tracker is not None and tracker.connection_id(from_client):
                with suppress(DecodeError):
                    return tracker.split(from_client, datagram)
        return parse_datagram(datagram)

    def _record_parts(self, from_client: bool, record: Record | CidRecord) -> Iterator[Part]:
        content_type, plaintext = self._read(from_client, record)
        if content_type is None:
            yield Part(epoch=record.epoch)
            return
        part = Part(content_type.name.lower(), record.epoch)
        if content_type == ContentType.HANDSHAKE:
            yield from self._handshake(from_client, part, record, plaintext)
        elif content_type == ContentType.CHANGE_CIPHER_SPEC:
            if self._newest is not None and record.epoch == 0:
                self._newest.add(0.0, from_client, (record,))
            yield replace(part, flight=5 if from_client else 6, piece=(record.epoch, part.content_type))
        elif content_type == ContentType.ALERT:
            yield replace(part, alert=_alert(plaintext))
        else:
            yield part if plaintext is None else next(self._coap(part, plaintext), part)

    def _handshake(
        self, from_client: bool, part: Part, record: Record | CidRecord, plaintext: bytes | None
    ) -> Iterator[Part]:
        if plaintext is None:
            # Without the keys: what is protected and belongs to a handshake is most often its end.
            name = HandshakeType.FINISHED.name.lower()
            yield replace(part, handshake=name, flight=5 if from_client else 6, piece=(record.epoch, name))
            return
        try:
            fragments = parse_fragments(plaintext)
        except DecodeError:
            yield part
            return
        if record.epoch == 0:
            self._follow(from_client, record, fragments)
        for fragment in fragments:
            place = fragment.kind, fragment.message_seq, fragment.offset, fragment.data
            name, flight = fragment.kind.name.lower(), _flight(from_client, fragment)
            yield replace(part, handshake=name, flight=flight, piece=(record.epoch, *place))

    def _follow(self, from_client: bool, record: Record | CidRecord, fragments: tuple[Fragment, ...]) -> None:
        """Notice a new session by its ClientHello's random, and learn its keys where that is possible."""
        for fragment in fragments:
            whole_random = fragment.offset == 0 and len(fragment.data) >= _RANDOM.stop
            if from_client and fragment.kind == HandshakeType.CLIENT_HELLO and whole_random:
                self._begin(fragment.data[_RANDOM])
        if self._newest is not None:
            self._newest.add(0.0, from_client, (record,))

    def _begin(self, random: bytes) -> None:
        if random == self._random:
            return
        self._random = random
        self._seen.clear()
        if self._keyring.psks:
            self._newest = Tracker(("client", 0), ("board", 0), 0.0, self._keyring, random)

    def _read(self, from_client: bool, record: Record | CidRecord) -> tuple[ContentType | None, bytes | None]:
        """Return content type and content: None what does not open, and its type if a connection ID hides it."""
        if record.epoch == 0 and isinstance(record, Record):
            return record.content_type, record.fragment
        for tracker in (self._newest, self._live):
            opened = tracker.open(from_client, record) if tracker is not None else None
            if opened is not None:
                self._live = tracker
                return opened
        return (record.content_type if isinstance(record, Record) else None), None

    def _coap(self, part: Part, data: bytes) -> Iterator[Part]:
        try:
            message = decode(data)
        except DecodeError:
            return
        if 0 < message.code < 32:
            self._paths[message.token] = message.path
        path = self._paths.get(message.token) if message.code else None
        yield replace(part, coap=message, path=path, piece=("coap", data))


def _asks_for_a_part(match: Match) -> bool:
    asked = (match.content_type, match.epoch, match.alert, match.coap)
    return bool(match.handshake) or any(field is not None for field in asked)


def _flight(from_client: bool, fragment: Fragment) -> int:
    if not from_client:
        return 2 if fragment.kind in _COOKIE_REQUEST else 4 if fragment.kind in _SERVER_HELLO else 6
    if fragment.kind != HandshakeType.CLIENT_HELLO:
        return 5
    return 3 if fragment.message_seq else 1


def _alert(plaintext: bytes | None) -> int | None:
    try:
        return None if plaintext is None else decode_alert(plaintext).description
    except DecodeError:
        return None
