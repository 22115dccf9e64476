"""The record layer of one client of the scriptable server: numbers, keys, window."""

from dataclasses import dataclass

from rig.dtls.misbehaviour import Misbehaviour
from rig.dtls.records import DTLS_1_2, ContentType, Record
from rig.dtls.replay import ReplayWindow
from rig.dtls.suites import BadRecord, Protection
from rig.dtls.wire import DecodeError


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
    """Epochs 0 and 1. Of several candidate keys the first that opens a record is the session's from then on."""

    def __init__(self, misbehaviour: Misbehaviour, first_sequence: int) -> None:
        """*first_sequence* is the number of the first record in epoch 0."""
        self.candidates: tuple[Keys, ...] = ()
        self.keys: Keys | None = None
        self._wrong = misbehaviour
        self._sequences = {0: first_sequence, 1: 0}
        self._window = ReplayWindow(misbehaviour.replay_window_bits)

    def encode(self, parts: list[Part]) -> bytes:
        """Return a datagram of new records."""
        return b"".join(self._encode(part) for part in parts)

    def opens(self, record: Record) -> bool:
        """Whether *record* opens with one of the keys."""
        return any(_opened(keys, record) is not None for keys in self.candidates)

    def open(self, record: Record) -> bytes:
        """Return a protected record's plaintext.

        `BadRecord` if it does not open, `DecodeError` if it is to be dropped for another reason.
        """
        if record.version != DTLS_1_2 and not self._wrong.any_version:
            raise DecodeError(f"record of version {record.version:#06x}")
        if record.epoch != 1 and not self._wrong.any_epoch:
            raise DecodeError(f"record of epoch {record.epoch}")
        if not self._window.admits(record.sequence) and not self._wrong.no_replay_window:
            raise DecodeError(f"record {record.sequence} was seen before, or is too old to tell")
        if self._wrong.forged_record_moves_window:
            self._window.note(record.sequence)
        for keys in self.candidates:
            plaintext = _opened(keys, record)
            if plaintext is not None:
                self.keys, self.candidates = keys, (keys,)
                self._window.note(record.sequence)
                return plaintext
        raise BadRecord("no key opens the record")

    def _encode(self, part: Part) -> bytes:
        header = part.content_type, DTLS_1_2, part.epoch, self._sequences[part.epoch]
        self._sequences[part.epoch] += 1
        if part.epoch == 0:
            return Record(*header, part.plaintext).encode()
        assert self.keys is not None
        nonce_sequence = header[3] % 2 if self._wrong.nonces_repeat else None
        fragment = self.keys.server.seal(*header, part.plaintext, nonce_sequence=nonce_sequence)
        return Record(*header, fragment).encode()


def _opened(keys: Keys, record: Record) -> bytes | None:
    header = record.content_type, record.version, record.epoch, record.sequence
    try:
        return keys.client.open(*header, record.fragment)
    except BadRecord:
        return None
