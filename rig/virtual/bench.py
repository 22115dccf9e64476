"""A whole virtual bench as processes, and the files that describe it: boards with a meter and a router each.

In place of boards it may have scripted devices, which the rig can neither flash nor reset, behind a router each.
"""

import json
import os
import random
import secrets
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Literal, Self, get_args

import yaml

from rig.errors import BenchError
from rig.formats import partitions
from rig.formats.packet_rule import psks_to_dict
from rig.virtual.board.flash import Flash
from rig.virtual.faults import FAULTS, Fault, fault_named
from rig.virtual.firmware import SBOM, SECURE_VERSION, build_image_set
from rig.virtual.meter.models import model_named

_DECLARATION = Path(__file__).parents[1] / "firmware" / "dut.yaml"
_DEVICE_DECLARATION = Path(__file__).parent / "device" / "dut.yaml"
_SUPPLY_VOLTAGE_V = 3.3
_CURRENT_LIMIT_A = 1.0

BoardCarrier = Literal["firmware", "small-firmware", "device"]
CARRIERS = get_args(BoardCarrier)
Profile = Literal["lab", "release"]
_SMALL_SESSIONS = 8
_SSID = "virtual-bench"
_LAB_FUSES = {"SECURE_VERSION": (1 << SECURE_VERSION) - 1}
# What a maker burns before a device leaves, but for what would lock the bench out: the loader stays open and the ROM
# goes on printing (ENABLE_SECURITY_DOWNLOAD, UART_PRINT_CONTROL), so that the board can be provisioned and heard.
_RELEASE_FUSES = {
    **_LAB_FUSES,
    "SECURE_BOOT_EN": 1,
    "SECURE_BOOT_KEY_REVOKE1": 1,
    "SECURE_BOOT_KEY_REVOKE2": 1,
    "KEY_PURPOSE_0": 9,  # SECURE_BOOT_DIGEST0
    "KEY_PURPOSE_1": 4,  # XTS_AES_128_KEY
    "RD_DIS": 1 << 1,
    "WR_DIS": 0b11 << 23,  # both key blocks
    "SPI_BOOT_CRYPT_CNT": 7,
    "DIS_DOWNLOAD_MANUAL_ENCRYPT": 1,
    "DIS_DOWNLOAD_ICACHE": 1,
    "DIS_PAD_JTAG": 1,
    "DIS_USB_JTAG": 1,
    "SOFT_DIS_JTAG": 7,
    "DIS_DIRECT_BOOT": 1,
}


@dataclass(frozen=True)
class Unit:
    """One board of the virtual bench with its wiring and credentials."""

    name: str
    mac: str
    address: str
    identity: str
    psk: bytes
    wifi_passphrase: str
    seed: int


def draw_unit(number: int) -> Unit:
    """Draw the identity of board *number* (from 1): MAC, network address, credentials, the errors of its meter."""
    octets = [random.randrange(16, 240), random.randrange(1, 255), random.randrange(1, 255)]
    return Unit(
        name=f"board{number}",
        mac="7c:df:a1:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3)),
        address=".".join(str(octet) for octet in [127, *octets]),
        identity=f"light-{secrets.token_hex(4)}",
        psk=bytes(random.SystemRandom().randrange(1, 256) for _ in range(16)),
        wifi_passphrase=secrets.token_hex(10),
        seed=secrets.randbelow(2**31),
    )


def _drawn(boards: int, fault: Fault | None) -> list[Unit]:
    """Draw *boards* units, or as many as *fault* needs; with one key where that is what is wrong with them."""
    of_bench = fault.bench if fault else {}
    units = [draw_unit(number) for number in range(1, max(boards, of_bench.get("boards", 1)) + 1)]
    return [replace(unit, psk=units[0].psk) for unit in units] if of_bench.get("one_key") else units


class Child:
    """One process of the virtual bench; it ends when its standard input closes, whoever closes it."""

    def __init__(self, module: str, config: dict[str, Any], directory: Path) -> None:
        name = f"{config['name']}-{module}"
        path = directory / "config" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        _write_private(path, json.dumps(config))
        log = directory / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        self._log = log
        self._module = module
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"rig.virtual.{module}", "--config", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def facts(self) -> dict[str, Any]:
        """Wait until the process is ready and return what it announces."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            why = last[-1] if last else "it said nothing"
            raise BenchError(f"virtual bench: the {self._module} process did not start: {why} (log: {self._log})")
        facts: dict[str, Any] = json.loads(line)
        return facts


@dataclass(frozen=True)
class _Entries:
    """What the bench file and ``endpoints.json`` say of the devices."""

    boards: list[dict[str, Any]]
    meters: list[dict[str, Any]]
    endpoints: list[dict[str, Any]]


class VirtualBench:
    """Starts the processes, writes ``bench.yaml`` and ``endpoints.json`` into *directory*, and stops them on leaving.

    The boards are empty, as new ones are; ``fault`` names the faulty device of :mod:`rig.virtual.faults` they all are.
    ``carrier`` says whether they run the firmware or are scripted devices; without it the fault decides. The small
    firmware holds 8 sessions. Boards of the ``profile`` release are programmed and their fuses burnt already. ``meter``
    is the driver whose instrument measures them.
    """

    def __init__(
        self,
        directory: Path,
        *,
        boards: int,
        fault: str | None,
        carrier: BoardCarrier | None,
        profile: Profile,
        meter: str,
        cache: Path,
    ) -> None:
        self._directory = directory
        self._meter = meter
        self._model = model_named(meter, {})
        self._profile = profile
        self._fault = _known_fault(fault)
        self._units = _drawn(boards, self._fault)
        self._carrier = _carrier_of(self._fault, carrier)
        self._cache = cache
        self._sockets = directory
        self._stack = ExitStack()
        self.bench_file = directory / "bench.yaml"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._write_secrets()
            relays = [self._start(stack, "relay", self._relay_config(unit)) for unit in self._units]
            entries = self._start_devices(stack) if self._carrier == "device" else self._start_boards(stack)
            self._write_files(entries, [relay.facts() for relay in relays])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start_boards(self, stack: ExitStack) -> _Entries:
        # A socket's path holds 107 bytes, and the caller's folder may be deeper than that.
        self._sockets = Path(stack.enter_context(TemporaryDirectory(prefix="rig-supply-", dir="/tmp")))
        images = self._images()
        if self._profile == "release":
            self._program(images)
        meters = [self._start(stack, "meter", self._meter_config(unit)) for unit in self._units]
        meter_facts = [meter.facts() for meter in meters]
        boards = [self._start(stack, "board", self._board_config(unit)) for unit in self._units]
        rows = list(zip(self._units, [board.facts() for board in boards], meter_facts, strict=True))
        built: dict[str, Any] = {"sbom": str(images / SBOM), "update": {"anti_rollback": True}}
        if self._carrier == "small-firmware":
            built["dtls"] = {"sessions": _SMALL_SESSIONS}
        return _Entries(
            [
                _board_entry(unit, board, images, self._declaration(unit, _DECLARATION, built))
                for unit, board, _ in rows
            ],
            [self._meter_entry(unit, meter) for unit, _, meter in rows],
            [_endpoints(unit, board, meter) for unit, board, meter in rows],
        )

    def _start_devices(self, stack: ExitStack) -> _Entries:
        devices = [self._start(stack, "device", self._device_config(unit)) for unit in self._units]
        rows = list(zip(self._units, [device.facts() for device in devices], strict=True))
        return _Entries(
            [_device_entry(unit, device, self._declaration(unit, _DEVICE_DECLARATION, {})) for unit, device in rows],
            [],
            [_device_endpoints(unit, device) for unit, device in rows],
        )

    def _images(self) -> Path:
        fault = self._fault.firmware if self._fault else None
        sessions = _SMALL_SESSIONS if self._carrier == "small-firmware" else None
        signed = self._profile == "release"
        name = "-".join([fault or "plain", *(["small"] if sessions else []), *(["signed"] if signed else [])])
        return build_image_set(self._cache / name / "build", fault=fault, sessions=sessions, signed=signed)

    def _start(self, stack: ExitStack, module: str, config: dict[str, Any]) -> Child:
        return stack.enter_context(Child(module, config, self._directory))

    def _supply(self, unit: Unit) -> str:
        return str(self._sockets / unit.name)

    def _meter_config(self, unit: Unit) -> dict[str, Any]:
        return {
            "name": unit.name,
            "model": self._meter,
            "accuracy": str(self._model.accuracy),
            "supply": self._supply(unit),
            "seed": unit.seed,
            "serial": f"VB{unit.seed:010d}",
            "supply_voltage_v": _SUPPLY_VOLTAGE_V,
        }

    def _meter_entry(self, unit: Unit, facts: dict[str, Any]) -> dict[str, Any]:
        address = {"resource": facts["visa"]} if "visa" in facts else {"port": facts["port"]}
        output = {"voltage_v": _SUPPLY_VOLTAGE_V, "current_limit_a": _CURRENT_LIMIT_A}
        return {
            "name": f"meter-{unit.name}",
            "driver": self._meter,
            **address,
            "accuracy": str(self._model.accuracy),
            **({"output": output} if self._model.feeds else {}),
        }

    def _relay_config(self, unit: Unit) -> dict[str, Any]:
        first, *rest = unit.address.split(".")
        # The front is a neighbour of the board's address, so that a scan of the board does not find the router.
        front = ".".join([first, *rest[:2], str(int(rest[2]) % 254 + 1)])
        config = {"name": unit.name, "host": front}
        if self._fault is None or not self._fault.relay:
            return config
        psks = psks_to_dict({unit.identity.encode(): unit.psk})
        return {**config, "board_rules": list(self._fault.relay), "psks": psks}

    def _board_config(self, unit: Unit) -> dict[str, Any]:
        truth = self._directory / "truth"
        truth.mkdir(exist_ok=True)
        return {
            "name": unit.name,
            "mac": unit.mac,
            "address": unit.address,
            "flash": str(self._directory / f"{unit.name}.flash"),
            "truth": str(truth / f"{unit.name}.csv"),
            "supply": self._supply(unit),
            "fuses": _RELEASE_FUSES if self._profile == "release" else _LAB_FUSES,
            **(self._fault.board if self._fault else {}),
        }

    def _program(self, images: Path) -> None:
        """Write the flash of every board, as its maker does: with its fuses burnt no loader writes it any more."""
        files = json.loads((images / "flasher_args.json").read_text(encoding="utf-8"))["flash_files"]
        parts = {int(offset, 16): (images / name).read_bytes() for offset, name in files.items()}
        slot = partitions.credentials(partitions.parse_table(parts[partitions.TABLE_OFFSET]))
        assert slot is not None
        for unit in self._units:
            credentials = {slot.offset: _credentials(unit, self._directory / "secrets", slot.size)}
            with Flash(self._directory / f"{unit.name}.flash") as flash:
                for offset, data in (parts | credentials).items():
                    flash.program(offset, data)

    def _device_config(self, unit: Unit) -> dict[str, Any]:
        return {
            "name": unit.name,
            "address": unit.address,
            "identity": unit.identity,
            "psk": unit.psk.hex(),
            "switches": dict(self._fault.device) if self._fault else {},
        }

    def _declaration(self, unit: Unit, of_product: Path, of_build: Mapping[str, Any]) -> str:
        """Write what the maker declares of this device, and return the file's name."""
        declared = _merged(yaml.safe_load(of_product.read_text(encoding="utf-8")), of_build)
        name = f"dut-{unit.name}.yaml"
        text = yaml.safe_dump(_merged(declared, self._fault.declares if self._fault else {}), sort_keys=False)
        (self._directory / name).write_text(text, encoding="utf-8")
        return name

    def _write_secrets(self) -> None:
        secret = self._directory / "secrets"
        secret.mkdir(mode=0o700, exist_ok=True)
        for unit in self._units:
            _write_private(secret / f"{unit.name}.psk", unit.psk.hex())
            _write_private(secret / f"{unit.name}.wifi", unit.wifi_passphrase)

    def _write_files(self, entries: _Entries, relays: list[dict[str, Any]]) -> None:
        bench = {
            "boards": entries.boards,
            "meters": entries.meters,
            "routers": [_router_entry(unit, relay) for unit, relay in zip(self._units, relays, strict=True)],
        }
        self.bench_file.write_text(yaml.safe_dump(bench, sort_keys=False), encoding="utf-8")
        _write_private(self._directory / "endpoints.json", json.dumps({"boards": entries.endpoints}, indent=1) + "\n")


def _credentials(unit: Unit, secret: Path, size: int) -> bytes:
    """Return a board's NVS partition, made with Espressif's generator."""
    rows = [
        "key,type,encoding,value",
        *("coaps,namespace,,", f"identity,data,string,{unit.identity}", f"psk,data,hex2bin,{unit.psk.hex()}"),
        *("wifi,namespace,,", f"ssid,data,string,{_SSID}", f"passphrase,data,string,{unit.wifi_passphrase}"),
    ]
    table, made = secret / f"{unit.name}.csv", secret / f"{unit.name}.bin"
    _write_private(table, "\n".join(rows) + "\n")
    generator = [sys.executable, "-m", "esp_idf_nvs_partition_gen", "generate", str(table), str(made), hex(size)]
    subprocess.run(generator, check=True, stdout=subprocess.DEVNULL)
    return made.read_bytes()


def _known_fault(name: str | None) -> Fault | None:
    if name is None:
        return None
    fault = fault_named(name)
    if fault is None:
        raise BenchError(f"no faulty device is called {name!r}; there are: {', '.join(one.name for one in FAULTS)}")
    return fault


def _carrier_of(fault: Fault | None, wanted: BoardCarrier | None) -> BoardCarrier:
    """Return what the devices are. Raises BenchError for a fault that such a device cannot have."""
    if fault is None or fault.carrier == "relay":
        return wanted or "firmware"
    carrier: BoardCarrier = "device" if fault.carrier == "device" else "firmware"
    if (wanted == "device") != (carrier == "device") and wanted is not None:
        raise BenchError(f"{fault.name} is a fault of the carrier {carrier}, not {wanted}: leave the carrier to it")
    return wanted or carrier


def _merged(declared: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return *declared* with *changes*: mappings are merged, everything else is replaced."""
    merged = dict(declared)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)


def _board_entry(unit: Unit, facts: dict[str, Any], images: Path, declaration: str) -> dict[str, Any]:
    switch = [sys.executable, "-m", "rig.virtual.power", facts["power"]]
    return {
        "name": unit.name,
        "mac": unit.mac,
        "port": facts["console"],
        "firmware": str(images),
        "identity": unit.identity,
        "psk": {"file": f"secrets/{unit.name}.psk"},
        "wifi": {"ssid": _SSID, "passphrase": {"file": f"secrets/{unit.name}.wifi"}},
        "meter": f"meter-{unit.name}",
        "router": f"router-{unit.name}",
        "dut": declaration,
        "power": {"off": [*switch, "off"], "on": [*switch, "on"], "settle_s": 0.0},
        "supply_voltage_v": _SUPPLY_VOLTAGE_V,
    }


def _device_entry(unit: Unit, facts: dict[str, Any], declaration: str) -> dict[str, Any]:
    return {
        "name": unit.name,
        "type": "network",
        "host": facts["host"],
        "port": facts["port"],
        "identity": unit.identity,
        "psk": {"file": f"secrets/{unit.name}.psk"},
        "router": f"router-{unit.name}",
        "dut": declaration,
    }


def _router_entry(unit: Unit, facts: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"router-{unit.name}", "driver": "relay", "control": facts["control"]}


def _endpoints(unit: Unit, board: dict[str, Any], meter: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": unit.name,
        "mac": unit.mac,
        "console": board["console"],
        "coaps": {"host": board["address"], "port": board["coaps_port"]},
        "identity": unit.identity,
        "psk_hex": unit.psk.hex(),
        "meter": {key: meter[key] for key in ("visa", "port") if key in meter},
    }


def _device_endpoints(unit: Unit, device: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": unit.name,
        "coaps": {"host": device["host"], "port": device["port"]},
        "identity": unit.identity,
        "psk_hex": unit.psk.hex(),
    }
