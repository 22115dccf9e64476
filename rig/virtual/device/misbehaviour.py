"""What the scripted device's CoAP side may do wrong on request, each thing a switch of its own.

The switches of its DTLS side are `rig.dtls.misbehaviour.Misbehaviour`'s; no name stands in both.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Misbehaviour:
    """All off is a device that keeps to RFC 7252, 7641 and 7959. Each field says what it does when it is on."""

    # Messages
    duplicates_executed: bool = False  # serves a repeated request as if it were new
    duplicates_acknowledged_wrongly: bool = False  # acknowledges a repeated request with the next Message ID
    tokens_cut: bool = False  # gives back the first four bytes of a longer token
    ping_unanswered: bool = False  # leaves an empty confirmable message alone
    any_coap_version: bool = False  # answers whatever the version field says
    empty_payload_accepted: bool = False  # takes a payload marker with nothing behind it

    # Options and response codes
    critical_ignored: bool = False  # serves requests with critical options that it does not know
    elective_refused: bool = False  # answers an unknown elective option with 4.02
    not_found_is_5_00: bool = False  # says 5.00 where nothing is found
    accept_ignored: bool = False  # answers in its own format whatever is accepted

    # Blocks
    block2_shifted: bool = False  # counts one block too far once the client has changed the block size
    szx_7_accepted: bool = False  # takes the reserved block size for 1024 bytes
    block1_gap_accepted: bool = False  # puts a body together of which a block is missing
    no_blocks: bool = False  # sends a body whole, however large and whatever was asked for

    # Observation and retransmission
    tokens_mixed: bool = False  # notifies all observations of a client under the token of its newest
    observe_value_stands: bool = False  # gives every notification the same Observe value
    reset_ignored: bool = False  # goes on with an observation that the client has rejected
    confirmable_untracked: bool = False  # sends a confirmable message once and thinks no more of it
    fixed_interval: bool = False  # retransmits every 2 s
    no_jitter: bool = False  # begins each retransmission after exactly 2 s
    retransmits_for_ever: bool = False  # goes on retransmitting after MAX_RETRANSMIT
    observations_outlive_session: bool = False  # notifies a client whose session is closed

    # Multicast
    multicast: bool = False  # joins "All CoAP Nodes" on port 5683 (no fault in itself)
    multicast_errors: bool = False  # answers group requests with errors too
    multicast_at_once: bool = False  # answers group requests without leisure

    # Confidentiality, memory, crashes
    debug_datagrams: bool = False  # tells a request's query in clear to the client, as a line of syslog
    leak_bytes: int = 0  # so much memory is lost with every request
    half_open_exhausts: int = 0  # restarts when so many handshakes wait for the client's second flight
    panics_above_bytes: int = 0  # restarts on a PUT of more bytes in one message
    tiny_fragment_resets: bool = False  # restarts on a ClientHello fragment of one byte
