"""Faults of the application: variants of the firmware's host build, each a file of ``firmware/host/faults``."""

from rig.virtual.faults.fault import Fault


def _fault(name: str, seed: str, title: str, *turns_red: str) -> Fault:
    return Fault(name, title, seed, turns_red, "firmware", firmware=name)


FIRMWARE_FAULTS = (
    _fault("plain-coap-open", "MS5", "answers CoAP without DTLS on UDP port 5683", "WIR-01", "WIR-05", "WIR-04"),
    _fault("plain-put-open", "MS6", "takes PUT without DTLS on UDP port 5683", "WIR-01", "WIR-05", "WIR-04"),
    _fault(
        "any-psk-identity",
        "MS1",
        "accepts any PSK identity that comes with the right key",
        *("PSK-03", "PSK-06", "PSK-04"),
    ),
    _fault("cookie-secret-kept", "MS13", "has the same secret behind its cookies after every restart", "CK-07"),
    _fault("prints-key", "MS29", "prints its key at every boot", "PLT-01"),
    _fault("prints-passphrase", "MS29", "prints the Wi-Fi passphrase at every boot", "PLT-01"),
    _fault("private-key-in-image", "MS32", "has a private key in its image", "PLT-06"),
    _fault("leaks-per-request", "MR5", "loses 252 bytes of heap with every request", "EXH-05", "EXH-04", "EXH-03"),
    _fault(
        "deaf-after-stale-record",
        "MR8",
        "hears nothing for 70 s when a session from before its restart goes on",
        *("RSM-05", "OBS-05"),
    ),
    _fault("overruns-buffer-of-100-bytes", "MR9", "panics on a PUT of more than 100 bytes", "COAP-19", "EXH-04"),
    _fault(
        "hangs-on-small-fragment",
        "MR10",
        "is ended by its watchdog after a handshake fragment of up to three bytes",
        *("HS-07", "HS-06", "HS-08"),
    ),
    _fault(
        "radio-on-after-failed-handshake",
        "MD2",
        "leaves its radio on after a handshake that failed",
        *("ENE-08", "ENE-01"),
    ),
    _fault(
        "radio-on-after-close",
        "MD4",
        "leaves its radio on when a session has ended",
        *("ENE-07", "ENE-08", "ENE-01"),
    ),
    # A client that keeps silent leaves the pings unanswered too, and is dropped before the last retransmission to it.
    _fault("keepalive", "MD6", "pings an idle client every 5 s and keeps its radio on for it", "ENE-07", "COAP-11"),
    _fault("confirmable-telemetry", "MD7", "notifies telemetry confirmably", "COAP-25"),
    _fault(
        "processor-fast-after-handshake",
        "MD8",
        "leaves its processor at full clock after a handshake",
        *("ENE-07", "ENE-08"),
    ),
    _fault("busy-with-hellos", "MD10", "keeps its radio on for 200 ms after every stranger's ClientHello", "ENE-01"),
    _fault("sleeps-before-answer", "MD11", "sleeps before it has answered and closed", "ENE-09", "ALR-04"),
    _fault("stores-per-message", "MD13", "writes its state to flash with every message", "ENE-11"),
    _fault("wakes-twice", "MD12", "wakes half-way through each deep sleep", "ENE-10", "ENE-06", "ENE-04"),
)
