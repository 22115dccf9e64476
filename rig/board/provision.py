"""What makes a board this board: identity, key and Wi-Fi credentials, as an NVS partition."""

import io
from dataclasses import dataclass, field

from rig.errors import ConfigError

MAX_PSK_BYTES = 64
MAX_IDENTITY_BYTES = 128
MAX_SSID_BYTES = 32
MIN_PASSPHRASE_BYTES = 8
MAX_PASSPHRASE_BYTES = 63
_PAGE_BYTES = 4096
_MIN_PAGES = 3


@dataclass(frozen=True)
class Provisioning:
    """The secrets of one board; its ``repr`` shows none of them.

    ``identity``: PSK identity, 1 to 128 bytes of UTF-8. ``psk``: 1 to 64 bytes (RFC 4279 5.3), none of them NUL (a
    library on the way takes keys as C strings). ``wifi_ssid``: at most 32 bytes (IEEE 802.11-2020, 9.4.2.2).
    ``wifi_passphrase``: 8 to 63 bytes (IEEE 802.11-2020, J.4.1), or empty for an open network. Anything else is a
    ConfigError.
    """

    identity: str
    psk: bytes = field(repr=False)
    wifi_ssid: str
    wifi_passphrase: str = field(repr=False)

    def __post_init__(self) -> None:
        _check_text("identity", self.identity, 1, MAX_IDENTITY_BYTES)
        _check_text("wifi_ssid", self.wifi_ssid, 0, MAX_SSID_BYTES)
        if self.wifi_passphrase:
            _check_text("wifi_passphrase", self.wifi_passphrase, MIN_PASSPHRASE_BYTES, MAX_PASSPHRASE_BYTES)
        if not 1 <= len(self.psk) <= MAX_PSK_BYTES:
            raise ConfigError(f"psk: has {len(self.psk)} bytes, must have 1 to {MAX_PSK_BYTES}; draw 16 random ones")
        if 0 in self.psk:
            raise ConfigError(f"psk: byte {self.psk.index(0)} is NUL, which libraries read as its end; draw another")


def nvs_image(entries: Provisioning, size: int) -> bytes:
    """Return an NVS partition of *size* bytes (ESP-IDF, API Reference, "Non-Volatile Storage Library").

    Namespace ``coaps``: ``identity`` (string), ``psk`` (blob); namespace ``wifi``: ``ssid``, ``passphrase`` (strings).
    Equal input gives equal bytes. Nothing is written to disk.
    """
    from esp_idf_nvs_partition_gen import nvs_partition_gen as generator

    if size % _PAGE_BYTES or size < _MIN_PAGES * _PAGE_BYTES:
        raise ConfigError(f"nvs partition: {size:#x} bytes; must be a multiple of 0x1000 and at least 0x3000")
    image = io.BytesIO()
    # The generator adds the one page that NVS keeps free for itself to the size it is asked for.
    with generator.nvs_open(image, size - _PAGE_BYTES, version=generator.Page.VERSION2) as nvs:
        generator.write_entry(nvs, "coaps", "namespace", "", "")
        generator.write_entry(nvs, "identity", "data", "string", entries.identity)
        generator.write_entry(nvs, "psk", "data", "hex2bin", entries.psk.hex())
        generator.write_entry(nvs, "wifi", "namespace", "", "")
        generator.write_entry(nvs, "ssid", "data", "string", entries.wifi_ssid)
        generator.write_entry(nvs, "passphrase", "data", "string", entries.wifi_passphrase)
    return image.getvalue()


def _check_text(name: str, text: str, shortest: int, longest: int) -> None:
    """Complain about a length without showing the text, which may be a secret."""
    length = len(text.encode())
    if not shortest <= length <= longest:
        raise ConfigError(f"{name}: has {length} bytes of UTF-8, must have {shortest} to {longest}")
    if "\0" in text:
        raise ConfigError(f"{name}: holds a NUL character; remove it")
