"""The record layer of one client of the scriptable server: numbers, keys, window."""

from dataclasses import dataclass
from functools import partial

from rig.dtls.cid import TLS12_CID, CidRecord, unwrapped, wrapped
from rig.dtls.misbehaviour import Misbehaviour
from rig.dtls.records import DTLS_1_2, ContentType, Record
from rig.dtls.replay import ReplayWindow
from rig.dtls.suites import BadRecord, Protection
from rig.dtls.wire import DecodeError

_STORED_AHEAD = 64


@dataclass(frozen=True)
class Keys:
    """What follows from one pre-shared key."""

    master: bytes
    client: Protection
    server: Protection


@dataclass(frozen=True)
class Part:
    """A record that is to be sent: with number and protection of the time when it is."""

    content_type: ContentType
    epoch: int
    plaintext: bytes


class RecordLayer:
    """Epochs 0 and 1. Of several candidate keys the first that opens a record is the session's from then on.

    write_cid, read_cid: connection ids that were agreed on; empty for records without.
    """

    def __init__(self, misbehaviour: Misbehaviour, first_sequence: int) -> None:
        """*first_sequence* is the number of the first record in epoch 0."""
        self.candidates: tuple[Keys, ...] = ()
        self.keys: Keys | None = None
        self.write_cid = b""
        self.read_cid = b""
        self._wrong = misbehaviour
        self._sequences = {0: first_sequence, 1: 0}
        self._window = ReplayWindow(misbehaviour.replay_window_bits)

    def encode(self, parts: list[Part]) -> bytes:
        """Return a datagram of new records."""
        return b"".join(self._encode(part) for part in parts)

    def restore(self) -> None:
        """Go on with the numbers that storage has: all that were used lie before them."""
        ahead = -1 if self._wrong.last_nonce_again_after_sleep else _STORED_AHEAD
        self._sequences[1] = max(0, self._sequences[1] + ahead)

    def opens(self, record: Record | CidRecord) -> bool:
        """Whether *record* opens with one of the keys."""
        return self._is_expected(record) and any(_opened(keys, record) is not None for keys in self.candidates)

    def moves_peer(self, record: CidRecord) -> bool:
        """Whether the peer is where *record* came from: it is authentic, and newer than all before (RFC 9146 6)."""
        if self._wrong.cid_moves_unproved or self._wrong.cid_never_moves:
            return self._wrong.cid_moves_unproved
        newer = record.sequence > self._window.newest or self._wrong.cid_moves_on_older
        return record.epoch == 1 and newer and self.opens(record)

    def open(self, record: Record | CidRecord) -> tuple[ContentType, bytes]:
        """Return a protected record's content type and plaintext.

        `BadRecord` if it does not open, `DecodeError` if it is to be dropped for another reason.
        """
        if record.version != DTLS_1_2 and not self._wrong.any_version:
            raise DecodeError(f"record of version {record.version:#06x}")
        if record.epoch != 1 and not self._wrong.any_epoch:
            raise DecodeError(f"record of epoch {record.epoch}")
        if not self._is_expected(record):
            raise DecodeError("the record does not have the connection id that was agreed on")
        if not self._window.admits(record.sequence) and not self._wrong.no_replay_window:
            raise DecodeError(f"record {record.sequence} was seen before, or is too old to tell")
        if self._wrong.forged_record_moves_window:
            self._window.note(record.sequence)
        for keys in self.candidates:
            plaintext = _opened(keys, record)
            if plaintext is not None:
                self.keys, self.candidates = keys, (keys,)
                self._window.note(record.sequence)
                return (record.content_type, plaintext) if isinstance(record, Record) else unwrapped(plaintext)
        raise BadRecord("no key opens the record")

    def _is_expected(self, record: Record | CidRecord) -> bool:
        """Whether *record* has a connection id if and only if one was agreed on (RFC 9146 6)."""
        if isinstance(record, Record):
            return not self.read_cid
        return record.connection_id == self.read_cid or self._wrong.cid_unknown_accepted

    def _encode(self, part: Part) -> bytes:
        numbers = DTLS_1_2, part.epoch, self._sequences[part.epoch]
        self._sequences[part.epoch] += 1
        if part.epoch == 0:
            return Record(part.content_type, *numbers, part.plaintext).encode()
        assert self.keys is not None
        nonce_sequence = numbers[2] % 2 if self._wrong.nonces_repeat else None
        seal = partial(self.keys.server.seal, nonce_sequence=nonce_sequence)
        if not self.write_cid:
            return Record(part.content_type, *numbers, seal(part.content_type, *numbers, part.plaintext)).encode()
        fragment = seal(TLS12_CID, *numbers, wrapped(part.content_type, part.plaintext), self.write_cid)
        return CidRecord(*numbers, self.write_cid, fragment).encode()


def _opened(keys: Keys, record: Record | CidRecord) -> bytes | None:
    numbers = record.version, record.epoch, record.sequence
    try:
        if isinstance(record, Record):
            return keys.client.open(record.content_type, *numbers, record.fragment)
        return keys.client.open(TLS12_CID, *numbers, record.fragment, record.connection_id)
    except BadRecord:
        return None
