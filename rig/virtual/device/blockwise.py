"""Bodies in blocks (RFC 7959): what of a large body is sent, and putting together what comes in parts. Without I/O."""

from dataclasses import dataclass, field

from rig.dtls.coap import RESERVED_SZX, Block, Message, OptionNumber, uint
from rig.virtual.device.answers import Refused
from rig.virtual.device.misbehaviour import Misbehaviour

BODY_MAX = 8192
SZX_DEFAULT = 4
"""256 bytes: with the overhead of CoAP and DTLS that fits a path of 576 bytes."""

_UPLOADS_MAX = 4
_UPLOAD_TIMEOUT_S = 93.0  # MAX_TRANSMIT_WAIT


def block_of(message: Message, number: int, wrong: Misbehaviour) -> Block | None:
    """Return the Block option *number* of *message*. Raises `Refused` for the reserved size."""
    block = message.block(number)
    if block is not None and block.szx == RESERVED_SZX and not wrong.szx_7_accepted:
        raise Refused("4.00", "block size 7 is reserved")
    return block


def part_of(body: bytes, asked: Block | None, first_szx: int, wrong: Misbehaviour) -> tuple[Block | None, bytes]:
    """Return the block of *body* that is to be sent and its content; None for a body that is sent whole.

    *first_szx* is the block size with which this body was begun. Raises `Refused` for a block past the end.
    """
    if wrong.no_blocks:
        return None, body
    size = asked or Block(0, False, SZX_DEFAULT)
    if asked is None and len(body) <= size.size:
        return None, body
    if size.number and size.offset >= len(body):
        raise Refused("4.00", f"the body has {len(body)} bytes")
    shift = size.size if wrong.block2_shifted and size.number and size.szx != first_szx else 0
    start = size.offset + shift
    content = body[start : start + size.size]
    return Block(size.number, start + size.size < len(body), size.szx), content


Key = tuple[int, str]
"""Number of the client's session, and path."""


@dataclass
class _Upload:
    used_s: float
    content: bytearray = field(default_factory=bytearray)


class Uploads:
    """Bodies that are arriving, one of each client and path; of too many the one that waits longest is given up."""

    def __init__(self, wrong: Misbehaviour) -> None:
        self._wrong = wrong
        self._uploads: dict[Key, _Upload] = {}

    @property
    def held_bytes(self) -> int:
        """What the unfinished bodies occupy."""
        return sum(len(upload.content) for upload in self._uploads.values())

    def take(self, now_s: float, key: Key, block: Block | None, request: Message, body_max: int) -> bytes | None:
        """Return the whole body once it is there, and None for a block that others follow.

        Raises `Refused` for one that does not fit.
        """
        self._expire(now_s)
        announced = request.values(OptionNumber.SIZE1)
        size = max(len(request.payload), int.from_bytes(announced[0], "big") if announced else 0)
        if size > body_max:
            raise _too_large(body_max)
        if block is None:
            return request.payload
        if len(request.payload) > block.size or (block.more and len(request.payload) != block.size):
            raise Refused("4.00", f"a block of {block.size} bytes was expected")
        return self._add(now_s, key, block, request.payload, body_max)

    def forget(self, client: int) -> None:
        """Give up what *client* has begun."""
        self._uploads = {key: one for key, one in self._uploads.items() if key[0] != client}

    def _add(self, now_s: float, key: Key, block: Block, payload: bytes, body_max: int) -> bytes | None:
        if block.number == 0:
            self._begin(now_s, key)
        upload = self._uploads.get(key)
        if upload is None or (len(upload.content) != block.offset and not self._wrong.block1_gap_accepted):
            raise Refused("4.08", "a block before this one is missing")
        if len(upload.content) + len(payload) > body_max:
            del self._uploads[key]
            raise _too_large(body_max)
        upload.content += payload
        upload.used_s = now_s
        if block.more:
            return None
        del self._uploads[key]
        return bytes(upload.content)

    def _begin(self, now_s: float, key: Key) -> None:
        self._uploads.pop(key, None)
        self._uploads[key] = _Upload(now_s)
        if len(self._uploads) > _UPLOADS_MAX:
            del self._uploads[min(self._uploads, key=lambda each: self._uploads[each].used_s)]

    def _expire(self, now_s: float) -> None:
        self._uploads = {key: one for key, one in self._uploads.items() if now_s - one.used_s < _UPLOAD_TIMEOUT_S}


def _too_large(body_max: int) -> Refused:
    return Refused("4.13", f"at most {body_max} bytes are taken", ((OptionNumber.SIZE1, uint(body_max)),))
