"""Alerts: RFC 5246 section 7.2, RFC 4279 section 6 (115), RFC 7507 (86), RFC 7301 (120)."""

from dataclasses import dataclass

from rig.dtls.wire import Reader
from rig.errors import RigError

WARNING, FATAL = 1, 2

DESCRIPTIONS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed_RESERVED",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate_RESERVED",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction_RESERVED",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    110: "unsupported_extension",
    115: "unknown_psk_identity",
    120: "no_application_protocol",
}


def alert_name(description: int) -> str:
    """Return the standards' name of an alert description, or ``unassigned``."""
    return DESCRIPTIONS.get(description, "unassigned")


@dataclass(frozen=True)
class Alert:
    """Level (1 warning, 2 fatal) and description number."""

    level: int
    description: int

    @property
    def name(self) -> str:
        """The description in the RFC's word."""
        return DESCRIPTIONS.get(self.description, f"alert {self.description}")

    def encode(self) -> bytes:
        """Return the alert's two bytes."""
        return bytes((self.level, self.description))


class Abort(RigError):
    """The handshake ends here, with this alert."""

    def __init__(self, description: int) -> None:
        """*description* is the alert's number."""
        self.alert = Alert(FATAL, description)
        super().__init__(self.alert.name)


def decode_alert(data: bytes) -> Alert:
    """Decode the plaintext of an alert record."""
    reader = Reader(data, "alert")
    alert = Alert(reader.uint(1), reader.uint(1))
    reader.finish()
    return alert
