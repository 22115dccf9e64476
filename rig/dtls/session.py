"""What the passive dissector found out about one DTLS session. Times are the caller's, in seconds."""

from collections import Counter
from dataclasses import dataclass, field

from rig.dtls.alerts import Alert
from rig.dtls.records import ContentType
from rig.dtls.suites import suite_name

Endpoint = tuple[str, int]


@dataclass(frozen=True)
class SeenRecord:
    """One record as it passed. ``length`` is its size on the wire with the header.

    ``plaintext`` is None for a record that did not open. ``explicit_nonce`` is what the record carries of its nonce or
    initialisation vector: None in epoch 0, and where the suite is unknown or has none. ``content_type`` of a record
    with a connection ID is the real one, which is inside; 25 (tls12_cid) if the record did not open.
    """

    t_s: float
    from_client: bool
    content_type: int
    epoch: int
    sequence: int
    length: int
    explicit_nonce: bytes | None
    plaintext: bytes | None
    connection_id: bytes = b""


@dataclass(frozen=True)
class SeenAlert:
    """One readable alert. In epoch 0 it was sent in clear, and anybody may have sent it."""

    t_s: float
    from_client: bool
    epoch: int
    alert: Alert


@dataclass(frozen=True)
class Flight:
    """Handshake datagrams that one side sent in a row. ``messages`` are in the RFC's words, in order.

    ``retransmission`` when all of it had been sent before.
    """

    start_s: float
    end_s: float
    from_client: bool
    messages: tuple[str, ...]
    datagrams: int
    length: int
    retransmission: bool


@dataclass(frozen=True)
class Move:
    """From ``t_s`` on the client is at ``client``: an authentic and newer record came from there (RFC 9146 6)."""

    t_s: float
    client: Endpoint


@dataclass(frozen=True)
class Session:
    """One handshake and what followed it.

    client: where it was at first; see `moves`
    start_s: the first ClientHello
    cookie_exchanged: the server asked with HelloVerifyRequest before its first ServerHello, and got its cookie back
    suite, identity_hint: None until the message that carries them was seen
    identity: None until it was seen; of a resumed session that of the earlier one, None where that was not seen
    resumed: the server took an earlier session up, in an abbreviated handshake
    client_cid, server_cid: the connection IDs that records to the client and to the server have; None where none were
        agreed on, empty for records without
    client_finished_s, server_finished_s: when a Finished with the right verify_data passed, else None
    master_secret: None where the keys could not be worked out
    """

    client: Endpoint
    server: Endpoint
    start_s: float
    client_random: bytes
    offered_suites: tuple[int, ...]
    cookie_exchanged: bool
    server_hello_s: float | None
    suite: int | None
    extended_master_secret: bool
    identity: bytes | None
    identity_hint: bytes | None
    client_finished_s: float | None
    server_finished_s: float | None
    flights: tuple[Flight, ...]
    alerts: tuple[SeenAlert, ...]
    records: tuple[SeenRecord, ...]
    master_secret: bytes | None = field(repr=False)
    resumed: bool = False
    client_cid: bytes | None = None
    server_cid: bytes | None = None
    moves: tuple[Move, ...] = ()

    def key_log(self) -> str:
        """Return the line with which Wireshark opens this session, empty without its keys; it does not hold the PSK."""
        if self.master_secret is None:
            return ""
        return f"CLIENT_RANDOM {self.client_random.hex()} {self.master_secret.hex()}\n"

    @property
    def established(self) -> bool:
        """Whether both sides proved that they hold the key."""
        return self.client_finished_s is not None and self.server_finished_s is not None

    @property
    def suite_name(self) -> str | None:
        """The selected suite's registered name."""
        return None if self.suite is None else suite_name(self.suite)

    @property
    def application_data(self) -> tuple[SeenRecord, ...]:
        """The application data records that opened, so with ``plaintext``. Epoch 0 is not among them: see `records`."""
        data = (record for record in self.records if record.content_type == ContentType.APPLICATION_DATA)
        return tuple(record for record in data if record.epoch > 0 and record.plaintext is not None)

    def client_at(self, t_s: float) -> Endpoint:
        """Return where the client was at *t_s*."""
        return next((move.client for move in reversed(self.moves) if move.t_s <= t_s), self.client)

    def undecryptable(self, from_client: bool | None = None) -> dict[int, int]:
        """Return the number of records that did not open, by epoch; of one side, or None for both."""
        sides = (True, False) if from_client is None else (from_client,)
        closed = (each for each in self.records if each.plaintext is None and each.from_client in sides)
        return dict(Counter(record.epoch for record in closed))
