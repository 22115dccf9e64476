"""The configuration of one virtual board, as JSON."""

import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.errors import ConfigError

DEEP_SLEEP_CURRENT_A = 5e-6  # ESP32-C3 datasheet, table 5-9
TRIGGER_GPIO = 4

_REQUIRED = ("name", "mac", "address", "flash", "truth", "supply")
_OPTIONAL = {"sleep_current_a": DEEP_SLEEP_CURRENT_A, "trigger_gpio": TRIGGER_GPIO}
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)


@dataclass(frozen=True)
class BoardConfig:
    """``supply`` is the path of the meter's socket, None for a board on a plain 3.3 V supply."""

    name: str
    mac: bytes
    address: str
    flash: Path
    truth: Path
    supply: str | None
    sleep_current_a: float
    trigger_gpio: int


def read_config(path: Path) -> BoardConfig:
    """Read the file. Raises ConfigError that names file and key."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be one JSON object")
    missing = [key for key in _REQUIRED if key not in raw]
    unknown = [key for key in raw if key not in _REQUIRED and key not in _OPTIONAL]
    if missing or unknown:
        raise ConfigError(f"{path}: missing keys: {missing}, unknown keys: {unknown}")
    return _checked(path, _OPTIONAL | raw)


def _checked(path: Path, raw: dict[str, Any]) -> BoardConfig:
    if not isinstance(raw["mac"], str) or not _MAC.fullmatch(raw["mac"]):
        raise ConfigError(f"{path}: key 'mac': {raw['mac']!r} is no MAC address (aa:bb:cc:dd:ee:ff)")
    try:
        address = ipaddress.IPv4Address(raw["address"])
    except ValueError as error:
        raise ConfigError(f"{path}: key 'address': {error}") from error
    if not address.is_loopback:
        raise ConfigError(f"{path}: key 'address': {address} is not in 127.0.0.0/8")
    return BoardConfig(
        name=str(raw["name"]),
        mac=bytes.fromhex(raw["mac"].replace(":", "")),
        address=str(address),
        flash=Path(raw["flash"]),
        truth=Path(raw["truth"]),
        supply=None if raw["supply"] is None else str(raw["supply"]),
        sleep_current_a=float(raw["sleep_current_a"]),
        trigger_gpio=int(raw["trigger_gpio"]),
    )
