"""Names of DTLS messages as people read them, from the bytes of a datagram."""

from rig.dtls.alerts import decode_alert
from rig.dtls.handshake import HandshakeType, parse_fragments
from rig.dtls.records import ContentType, Record, parse_datagram
from rig.dtls.wire import DecodeError

KINDS = ("handshake", "application data", "alert", "other")

_KIND_OF = {
    ContentType.HANDSHAKE: "handshake",
    ContentType.CHANGE_CIPHER_SPEC: "handshake",
    ContentType.APPLICATION_DATA: "application data",
    ContentType.ALERT: "alert",
}


def name_datagram(payload: bytes) -> tuple[str, str]:
    """Return the names of a datagram's messages in the RFC's spelling, and the kind (of `KINDS`) of its first record.

    What epoch 1 and later carry is known by its content type alone; a datagram that is no DTLS is called that.
    """
    try:
        records = parse_datagram(payload)
    except DecodeError:
        return "not DTLS", "other"
    return ", ".join(name for record in records for name in _names(record)), _KIND_OF[records[0].content_type]


def _names(record: Record) -> list[str]:
    match record.content_type:
        case ContentType.HANDSHAKE:
            return _handshake(record)
        case ContentType.ALERT:
            return [_alert(record)]
        case ContentType.CHANGE_CIPHER_SPEC:
            return ["ChangeCipherSpec"]
        case ContentType.APPLICATION_DATA:
            return ["application_data"]


def _handshake(record: Record) -> list[str]:
    if record.epoch:
        return ["handshake (encrypted)"]
    try:
        fragments = parse_fragments(record.fragment)
    except DecodeError:
        return ["handshake (unreadable)"]
    return [_camel(one.kind) + (" (fragment)" if len(one.data) < one.length else "") for one in fragments]


def _camel(kind: HandshakeType) -> str:
    return "".join(word.capitalize() for word in kind.name.split("_"))


def _alert(record: Record) -> str:
    if record.epoch:
        return "alert (encrypted)"
    try:
        return f"alert: {decode_alert(record.fragment).name}"
    except DecodeError:
        return "alert (unreadable)"
