"""The configuration of one virtual board, as JSON. What each switch stands for: docs/virtual-bench.md."""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.errors import ConfigError
from rig.virtual.board.boot import HARDWARE_RESETS
from rig.virtual.board.efuse import FUSES

DEEP_SLEEP_CURRENT_A = 5e-6  # ESP32-C3 datasheet, table 5-9
TRIGGER_GPIO = 4
PORTS = ("rfc2217", "socket", "pty")

_REQUIRED = ("name", "mac", "address", "flash", "truth", "supply")
_OPTIONAL = {
    "sleep_current_a": DEEP_SLEEP_CURRENT_A,
    "trigger_gpio": TRIGGER_GPIO,
    "ports": ["rfc2217"],
    "boot_strap": "normal",
    "reset_lines": "wired",
    "usb_jtag": False,
    "stuck_at": None,
    "write_latency": False,
    "pace_baud": False,
    "efuse": None,
    "fuses": {},
    "verify_images": True,
    "anti_rollback": True,
    "flood_bytes_per_s": 0,
    "boot_watchdog": False,
    "hardware_reset": None,
}
_CHOICES = {"boot_strap": ("normal", "download"), "reset_lines": ("wired", "absent", "hung")}
_FLAGS = ("usb_jtag", "write_latency", "pace_baud", "boot_watchdog", "verify_images", "anti_rollback")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)


@dataclass(frozen=True)
class HardwareReset:
    """A reset that hits every application ``after_s`` after its start; ``cause`` is the ROM's name for it."""

    cause: str
    after_s: float


@dataclass(frozen=True)
class BoardConfig:
    """``supply`` is the path of the meter's socket, None for a board on a plain 3.3 V supply.

    ``stuck_at`` is the flash offset of a sector that does not store, ``efuse`` the file of the eFuse blocks; without
    one they are lost with the process. ``fuses`` are burnt into a new chip, by espefuse's names.
    """

    name: str
    mac: bytes
    address: str
    flash: Path
    truth: Path
    supply: str | None
    sleep_current_a: float
    trigger_gpio: int
    ports: tuple[str, ...]
    boot_strap: str
    reset_lines: str
    usb_jtag: bool
    stuck_at: int | None
    write_latency: bool
    pace_baud: bool
    efuse: Path | None
    fuses: Mapping[str, int]
    verify_images: bool
    anti_rollback: bool
    flood_bytes_per_s: int
    boot_watchdog: bool
    hardware_reset: HardwareReset | None


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
    _check_switches(path, raw)
    return BoardConfig(
        name=str(raw["name"]),
        mac=bytes.fromhex(raw["mac"].replace(":", "")),
        address=str(address),
        flash=Path(raw["flash"]),
        truth=Path(raw["truth"]),
        supply=None if raw["supply"] is None else str(raw["supply"]),
        sleep_current_a=float(raw["sleep_current_a"]),
        trigger_gpio=int(raw["trigger_gpio"]),
        ports=tuple(raw["ports"]),
        boot_strap=raw["boot_strap"],
        reset_lines=raw["reset_lines"],
        usb_jtag=raw["usb_jtag"],
        stuck_at=raw["stuck_at"],
        write_latency=raw["write_latency"],
        pace_baud=raw["pace_baud"],
        efuse=None if raw["efuse"] is None else Path(raw["efuse"]),
        fuses=_fuses(path, raw["fuses"]),
        verify_images=raw["verify_images"],
        anti_rollback=raw["anti_rollback"],
        flood_bytes_per_s=int(raw["flood_bytes_per_s"]),
        boot_watchdog=raw["boot_watchdog"],
        hardware_reset=_hardware_reset(path, raw["hardware_reset"]),
    )


def _check_switches(path: Path, raw: dict[str, Any]) -> None:
    ports = raw["ports"]
    if not isinstance(ports, list) or not ports or len(set(map(str, ports))) != len(ports) or set(ports) - set(PORTS):
        raise ConfigError(f"{path}: key 'ports': {ports!r} is no list of some of {', '.join(PORTS)}, each once")
    for key, allowed in _CHOICES.items():
        if raw[key] not in allowed:
            raise ConfigError(f"{path}: key {key!r}: {raw[key]!r} is none of {', '.join(allowed)}")
    for key in _FLAGS:
        if not isinstance(raw[key], bool):
            raise ConfigError(f"{path}: key {key!r}: {raw[key]!r} is neither true nor false")
    if raw["stuck_at"] is not None and not isinstance(raw["stuck_at"], int):
        raise ConfigError(f"{path}: key 'stuck_at': {raw['stuck_at']!r} is no offset in bytes")


def _fuses(path: Path, raw: Any) -> dict[str, int]:
    if not isinstance(raw, dict) or not all(isinstance(value, int) for value in raw.values()):
        raise ConfigError(f"{path}: key 'fuses': {raw!r} is no object of names and numbers")
    unknown = [name for name in raw if name not in FUSES]
    if unknown:
        raise ConfigError(f"{path}: key 'fuses': no fuse is called {unknown[0]!r}; known: {', '.join(FUSES)}")
    return raw


def _hardware_reset(path: Path, raw: Any) -> HardwareReset | None:
    if raw is None:
        return None
    if not isinstance(raw, dict) or set(raw) != {"cause", "after_s"} or raw["cause"] not in HARDWARE_RESETS:
        names = ", ".join(HARDWARE_RESETS)
        raise ConfigError(f"{path}: key 'hardware_reset': {raw!r} is no {{cause, after_s}}; causes: {names}")
    return HardwareReset(raw["cause"], float(raw["after_s"]))
