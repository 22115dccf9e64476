"""A client's record layer: sequence numbers, keys by epoch and connection IDs, all of them a script's to set."""

from collections import defaultdict
from dataclasses import dataclass

from rig.dtls.cid import TLS12_CID, CidRecord, split_datagram, unwrapped
from rig.dtls.outgoing import OutgoingRecord, Payload
from rig.dtls.records import DTLS_1_2, ContentType, Record
from rig.dtls.suites import BadRecord, Protection


@dataclass(frozen=True)
class Keys:
    """Both directions of one epoch."""

    write: Protection
    read: Protection


class RecordLayer:
    """Makes records and opens them.

    version: of the records that are made
    sequences: next record sequence number of each epoch
    keys: by epoch
    write_cid, read_cid: connection IDs that were agreed on; empty for records without
    """

    def __init__(self) -> None:
        self.version = DTLS_1_2
        self.sequences: defaultdict[int, int] = defaultdict(int)
        self.keys: dict[int, Keys] = {}
        self.write_cid = b""
        self.read_cid = b""

    def record(
        self,
        payload: Payload,
        *,
        epoch: int | None = None,
        sequence: int | None = None,
        version: int | None = None,
        connection_id: bytes | None = None,
    ) -> OutgoingRecord:
        """Put *payload* into a record. A *sequence* that is given does not change the next one's.

        The keys are the epoch's; for an epoch without keys the newest there are. Epoch 0 is in clear.
        """
        epoch = payload.epoch if epoch is None else epoch
        if sequence is None:
            sequence = self.sequences[epoch]
            self.sequences[epoch] += 1
        version = self.version if version is None else version
        keys = self._write_keys(epoch)
        if connection_id is None:
            connection_id = self.write_cid if keys else b""
        head = payload.content_type, version, epoch, sequence
        return OutgoingRecord(*head, payload.encode(), keys, connection_id)

    def datagram(self, *payloads: Payload | OutgoingRecord) -> bytes:
        """Return one datagram; each payload gets a record of its own, and a new sequence number."""
        records = (each if isinstance(each, OutgoingRecord) else self.record(each) for each in payloads)
        return b"".join(record.encode() for record in records)

    def split(self, datagram: bytes) -> tuple[Record | CidRecord, ...]:
        """Return the records of a datagram that came; `DecodeError` if it is no whole number of them."""
        return split_datagram(datagram, len(self.read_cid))

    def open(self, record: Record | CidRecord) -> tuple[ContentType, bytes]:
        """Return content type and plaintext of a record that came; `BadRecord` if it does not open."""
        if record.epoch == 0 and isinstance(record, Record):
            return record.content_type, record.fragment
        if record.epoch not in self.keys:
            raise BadRecord(f"no keys of epoch {record.epoch}")
        read, numbers = self.keys[record.epoch].read, (record.version, record.epoch, record.sequence)
        if isinstance(record, Record):
            return record.content_type, read.open(record.content_type, *numbers, record.fragment)
        if record.connection_id != self.read_cid:
            raise BadRecord(f"connection ID {record.connection_id.hex()} is not {self.read_cid.hex()}")
        return unwrapped(read.open(TLS12_CID, *numbers, record.fragment, record.connection_id))

    def _write_keys(self, epoch: int) -> Protection | None:
        if epoch == 0 or not self.keys:
            return None
        return self.keys.get(epoch, self.keys[max(self.keys)]).write
