"""Faults of how sessions begin, go on, move and end: switches of the scripted device."""

from rig.virtual.faults.fault import Fault


def _fault(name: str, title: str, seed: str, turns_red: tuple[str, ...], switch: str) -> Fault:
    return Fault(name, title, seed, turns_red, "device", device={switch: True})


SESSION_FAULTS = (
    _fault(
        "resumes-any-session",
        "answers an unknown session id or ticket by resuming the newest session, whoever's it is",
        "MS25",
        ("RSM-02", "ALR-02"),
        "any_session_resumed",
    ),
    _fault(
        "never-resumes",
        "hands session ids and tickets out as it claims, and shakes hands in full each time",
        "MD9",
        ("RSM-01",),
        "never_resumes",
    ),
    _fault(
        "stale-session-refused",
        "answers a session id or ticket that it does not know with illegal_parameter",
        "",
        ("RSM-02",),
        "stale_session_refused",
    ),
    _fault(
        "resumes-with-another-suite",
        "resumes a session with a cipher suite that is not the session's",
        "",
        ("RSM-03",),
        "resumes_with_another_suite",
    ),
    _fault(
        "resumes-without-extended-master-secret",
        "resumes a session of an extended master secret for a client that no longer offers it",
        "",
        ("RSM-03",),
        "resumes_without_ems",
    ),
    _fault(
        "week-long-tickets",
        "hands tickets out with a lifetime hint of a week",
        "",
        ("RSM-04",),
        "week_long_tickets",
    ),
    _fault(
        "resumable-after-fatal-alert",
        "resumes a session that ended in a fatal alert",
        "",
        ("ALR-02",),
        "resumable_after_fatal_alert",
    ),
    _fault(
        "close-notify-ignored",
        "neither answers a close_notify nor closes the session",
        "",
        ("ALR-01", "OBS-05"),
        "close_notify_ignored",
    ),
    _fault(
        "warning-ends-session",
        "ends a session on any warning alert",
        "",
        ("ALR-03",),
        "warning_closes",
    ),
    _fault(
        "cid-moves-unproved",
        "moves a session to where a record with its connection id came from, before it has checked the record",
        "MS23",
        ("CID-03",),
        "cid_moves_unproved",
    ),
    _fault(
        "cid-moves-on-older",
        "moves a session to where an old or repeated record came from",
        "MS23",
        ("CID-03",),
        "cid_moves_on_older",
    ),
    _fault(
        "cid-unknown-accepted",
        "takes records with connection ids that it never gave",
        "",
        ("CID-04",),
        "cid_unknown_accepted",
    ),
    _fault(
        "cid-unasked",
        "sends the connection id extension to clients that did not offer it",
        "",
        ("CID-01",),
        "cid_unasked",
    ),
    _fault(
        "cid-never-moves",
        "goes on answering where the handshake was when the client has another address",
        "",
        ("CID-02",),
        "cid_never_moves",
    ),
    _fault(
        "size-limits-not-kept",
        "agrees to a maximum fragment length or a record size limit and sends longer records",
        "",
        ("CS-12",),
        "size_limits_not_kept",
    ),
    _fault(
        "dtls-1-3-offer-refused",
        "refuses a client that offers DTLS 1.3 beside 1.2",
        "",
        ("T13-01",),
        "dtls_1_3_refused",
    ),
)
