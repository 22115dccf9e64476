"""Faults of DTLS and CoAP behaviour: switches of the scripted device."""

from collections.abc import Mapping
from typing import Any

from rig.virtual.faults.fault import Fault


def _fault(
    name: str,
    seed: str,
    title: str,
    *turns_red: str,
    declares: Mapping[str, Any] | None = None,
    **switches: Any,
) -> Fault:
    return Fault(name, title, seed, turns_red, "device", device=switches, declares=declares or {})


def _hex(key: bytes) -> list[str]:
    return [key.hex()]


_MULTICAST = {
    "multicast_groups": ["224.0.1.187"],
    "ports": [
        {"transport": "udp", "port": 5684, "service": "coaps"},
        {"transport": "udp", "port": 5683, "service": "coap-multicast"},
    ],
}

_COOKIES = (
    _fault("no-cookie", "MS10", "asks no client to prove its address", "CK-01", "CK-02", "CK-09", no_cookie=True),
    _fault(
        "constant-cookie",
        "MS11",
        "has one cookie for everybody",
        "CK-07",
        "CK-04",
        "CK-05",
        constant_cookie=True,
    ),
    _fault(
        "cookie-for-any-address",
        "MS12",
        "takes the cookie that another address was given",
        "CK-04",
        cookie_ignores_address=True,
    ),
)

_KEYS = (
    _fault(
        "empty-key-opens",
        "MS2",
        "opens every identity with an empty key",
        "PSK-07",
        "PSK-02",
        extra_keys=_hex(b""),
    ),
    _fault("finished-not-checked", "MS2", "takes any Finished that opens", "HS-13", any_finished=True),
    _fault(
        "any-key-opens",
        "MS2",
        "takes a Finished that does not open for a good one",
        "PSK-02",
        "PSK-03",
        "PSK-06",
        any_key=True,
    ),
    _fault(
        "default-key-left",
        "MS3",
        "still opens with the key of the component's example",
        "PSK-07",
        extra_keys=_hex(b"secret-key"),
    ),
    _fault(
        "identity-oracle",
        "MS21",
        "names an unknown identity in an alert, and a wrong key not",
        "PSK-04",
        identity_oracle=True,
    ),
    _fault(
        "identity-ends-at-nul",
        "MS22",
        "compares identities up to their first zero byte",
        "PSK-06",
        "PSK-03",
        identity_ends_at_nul=True,
    ),
)

_SUITES = (
    _fault("null-suite", "MS7", "agrees to a suite without encryption", "CS-01", "DCL-02", null_suite=True),
    _fault(
        "prefers-cbc",
        "MS8",
        "prefers a CBC suite, also without encrypt-then-MAC",
        "CS-03",
        "CS-02",
        "DCL-02",
        cbc_first=True,
    ),
    _fault("dtls-1-0", "MS9", "agrees to DTLS 1.0", "CS-05", dtls_1_0=True),
    _fault(
        "last-suite-taken",
        "MP23",
        "takes the last suite that the client offers, whatever the order says",
        "CS-03",
        "CS-02",
        "DCL-02",
        last_suite=True,
    ),
)

_RECORDS = (
    _fault("no-replay-window", "MS14", "takes a record again", "REC-01", "REC-02", no_replay_window=True),
    _fault(
        "forged-record-moves-window",
        "MS15",
        "notes a sequence number before it has checked the record",
        "REC-03",
        "CID-03",
        forged_record_moves_window=True,
    ),
    _fault("replay-window-of-16", "MS16", "remembers 16 records", "REC-02", replay_window_bits=16),
    _fault(
        "bad-record-closes",
        "MS17",
        "closes a session because of a record with a wrong tag",
        "REC-04",
        "REC-03",
        "REC-06",
        bad_record_closes=True,
    ),
    _fault(
        "clear-data-accepted",
        "MS18",
        "serves requests in clear beside an open session",
        "REC-08",
        "REC-07",
        clear_data_accepted=True,
    ),
    _fault(
        "clear-alert-honoured",
        "MS19",
        "closes a session because of an alert in clear",
        "REC-08",
        clear_alerts_accepted=True,
    ),
    _fault(
        "last-nonce-again-after-sleep",
        "MD14",
        "stores the number of a record before it has sent it, and begins with it again after deep sleep",
        "RSM-06",
        "REC-13",
        last_nonce_again_after_sleep=True,
    ),
    _fault(
        "nonces-repeat",
        "MS24",
        "begins again with nonces that the key has seen",
        "REC-13",
        "RSM-06",
        nonces_repeat=True,
    ),
    _fault(
        "second-record-dropped",
        "MP22",
        "reads the first record of a datagram only",
        "REC-11",
        one_record_per_datagram=True,
    ),
    _fault(
        "cleartext-after-close",
        "MS34",
        "notifies in clear once the session is closed",
        "OBS-05",
        "WIR-04",
        observations_outlive_session=True,
        clear_data_without_session=True,
    ),
    _fault(
        "debug-datagrams",
        "MS30",
        "tells what is asked for in clear, as a line of syslog",
        "WIR-02",
        "WIR-04",
        debug_datagrams=True,
    ),
)

_HANDSHAKE = (
    _fault(
        "data-before-finished",
        "MS20",
        "serves a request before the client has proved its key",
        "HS-11",
        data_before_finished=True,
    ),
    _fault(
        "renegotiates", "MS27", "answers a ClientHello inside a session with a ServerHello", "HS-16", renegotiates=True
    ),
    _fault(
        "any-message-seq",
        "MP20",
        "takes handshake messages whatever number they have",
        "HS-09",
        "HS-12",
        any_message_seq=True,
    ),
    _fault(
        "fragments-dropped",
        "MP21",
        "takes whole handshake messages only",
        "HS-06",
        "HS-07",
        fragments_dropped=True,
    ),
    _fault(
        "half-open-exhausts",
        "MR4",
        "runs out of memory and restarts with 40 unanswered handshakes",
        "EXH-01",
        half_open_exhausts=40,
    ),
    _fault("half-open-kept", "MR6", "never gives a handshake up", "HS-17", half_open_kept=True),
    _fault(
        "restarted-client-ignored",
        "MR7",
        "does not answer a client that starts anew on the same port",
        "HS-15",
        new_hello_ignored=True,
    ),
    _fault(
        "tiny-fragment-resets",
        "MR10",
        "restarts on a ClientHello in fragments of one byte",
        "HS-06",
        tiny_fragment_resets=True,
    ),
    _fault(
        "last-flight-not-repeated",
        "MR11",
        "leaves a client alone that missed the last flight",
        "HS-03",
        "HS-18",
        no_last_flight_again=True,
    ),
    _fault(
        "flight-every-second",
        "MR12",
        "sends its flight again every second, without a longer pause",
        "HS-01",
        fixed_retransmission=True,
    ),
)

_MESSAGES = (
    _fault(
        "duplicates-executed",
        "MP1",
        "serves a repeated request as a new one",
        "COAP-09",
        "COAP-10",
        duplicates_executed=True,
    ),
    _fault("token-cut", "MP2", "gives back four bytes of a longer token", "COAP-08", tokens_cut=True),
    _fault("ping-unanswered", "MP6", "leaves an empty confirmable message alone", "COAP-01", ping_unanswered=True),
    _fault("any-coap-version", "MP7", "answers messages of CoAP version 2", "COAP-02", any_coap_version=True),
    _fault(
        "empty-payload-accepted",
        "MP8",
        "takes a payload marker with nothing behind it",
        "COAP-04",
        empty_payload_accepted=True,
    ),
    _fault(
        "wrong-message-id-acknowledged",
        "MP9",
        "acknowledges a repeated request with another message id",
        "COAP-09",
        "COAP-22",
        duplicates_acknowledged_wrongly=True,
    ),
    _fault(
        "critical-option-ignored",
        "MP4",
        "serves requests with critical options that it does not know",
        "COAP-14",
        "COAP-15",
        critical_ignored=True,
    ),
    _fault(
        "elective-option-refused",
        "MP5",
        "answers an unknown elective option with 4.02",
        "COAP-13",
        elective_refused=True,
    ),
    _fault("not-found-is-5-00", "MP17", "says 5.00 where nothing is found", "COAP-16", not_found_is_5_00=True),
    _fault("accept-ignored", "MP18", "answers in its own format whatever is accepted", "COAP-17", accept_ignored=True),
    _fault(
        "restarts-on-101-bytes",
        "MR9",
        "restarts on a PUT of more than 100 bytes in one message",
        "COAP-19",
        panics_above_bytes=100,
    ),
    _fault(
        "leaks-252-bytes", "MR5", "loses 252 bytes with each request", "EXH-05", "EXH-04", "COAP-23", leak_bytes=252
    ),
)

_BLOCKS = (
    _fault(
        "block2-shifted",
        "MP12",
        "is one block off after a change of block size",
        "COAP-21",
        block2_shifted=True,
    ),
    _fault(
        "reserved-block-size-taken",
        "MP13",
        "takes the reserved block size for 1024 bytes",
        "COAP-21",
        szx_7_accepted=True,
    ),
    _fault(
        "block1-gap-accepted",
        "MP14",
        "puts a body together of which a block is missing",
        "COAP-22",
        block1_gap_accepted=True,
    ),
    _fault(
        "whole-bodies",
        "MP19",
        "sends a body of any size in one datagram",
        "COAP-21",
        "WIR-07",
        no_blocks=True,
    ),
)

_OBSERVATION = (
    _fault(
        "tokens-mixed",
        "MP3",
        "notifies a client's observations under the token of its newest",
        "OBS-01",
        "OBS-02",
        tokens_mixed=True,
    ),
    _fault(
        "observe-value-stands",
        "MP10",
        "gives each notification the same Observe value",
        "OBS-01",
        observe_value_stands=True,
    ),
    _fault(
        "notifies-after-reset",
        "MP11",
        "goes on with an observation that the client has rejected",
        "OBS-02",
        "COAP-12",
        reset_ignored=True,
    ),
    _fault(
        "acknowledgement-not-awaited",
        "MP24",
        "sends a confirmable message once and thinks no more of it",
        "COAP-11",
        "OBS-03",
        "OBS-04",
        confirmable_untracked=True,
    ),
    _fault("retransmits-every-2-s", "MR1", "retransmits every 2 s", "COAP-11", fixed_interval=True),
    _fault("no-jitter", "MR2", "begins each retransmission after exactly 2 s", "COAP-11", no_jitter=True),
    _fault(
        "retransmits-for-ever",
        "MR3",
        "never gives a confirmable message up",
        "COAP-11",
        "OBS-03",
        retransmits_for_ever=True,
    ),
)

_GROUP = (
    _fault(
        "multicast-errors",
        "MP15",
        "answers a group's request with an error",
        "MC-01",
        "MC-02",
        declares=_MULTICAST,
        multicast=True,
        multicast_errors=True,
    ),
    _fault(
        "multicast-at-once",
        "MP16",
        "answers a group's request without leisure",
        "MC-01",
        declares=_MULTICAST,
        multicast=True,
        multicast_at_once=True,
    ),
)

DEVICE_FAULTS = (
    *_COOKIES,
    *_KEYS,
    *_SUITES,
    *_RECORDS,
    *_HANDSHAKE,
    *_MESSAGES,
    *_BLOCKS,
    *_OBSERVATION,
    *_GROUP,
)
