"""``bench.yaml``: what stands on the bench and what is wired to what, as a checked model.

Secrets are named by file or environment variable and read only when a board is provisioned; they are never part of
the model's text.
"""

import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from rig.errors import ConfigError
from rig.formats.checked_yaml import CheckedModel, load_checked
from rig.meter import Driver

_MAC = re.compile(r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")


def _mac(text: str) -> str:
    if not _MAC.match(text.lower()):
        raise ValueError(f"{text!r} is not a MAC address such as 7c:df:a1:00:00:01")
    return text.lower()


def _held_by_the_client(identity: str) -> str:
    if len(identity.encode()) > 32:
        raise ValueError(f"has {len(identity.encode())} bytes; the rig's coaps client holds 32")
    return identity


def _command(value: object) -> object:
    """Split a command that stands in one line as a shell would; no shell will see it."""
    return shlex.split(value) if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Mac = Annotated[str, AfterValidator(_mac)]
Command = Annotated[tuple[str, ...], BeforeValidator(_command), Field(min_length=1)]


class Secret(CheckedModel):
    """Where a secret is: in a file or in an environment variable."""

    file: Path | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("name exactly one of file and env")
        return self

    def read(self, directory: Path, what: str) -> str:
        """Return the secret's text; *directory* is what a relative file is relative to."""
        if self.env is not None:
            value = os.environ.get(self.env)
            if value is None:
                raise ConfigError(f"{what}: the environment variable {self.env} is not set")
            return value.strip()
        assert self.file is not None
        try:
            return (directory / self.file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{what}: cannot read {directory / self.file}: {error}") from None


class WifiConfig(CheckedModel):
    """The network that the board joins."""

    ssid: str = Field(min_length=1, max_length=32)
    passphrase: Secret


class PowerConfig(CheckedModel):
    """The commands that switch the board's supply, run without a shell in the bench file's directory."""

    off: Command
    on: Command
    settle_s: float = Field(1.0, ge=0, le=60, description="how long the supply takes to run down")


class DeviceConfig(CheckedModel):
    """What every device under test has: a name, credentials, what its maker declares, and what it is wired to."""

    name: Name
    identity: str = Field(min_length=1)
    psk: Secret
    dut: Path | None = Field(None, description="the maker's declaration of the device (dut.yaml)")
    meter: Name | None = None
    router: Name | None = None
    supply_voltage_v: float = Field(3.3, gt=0, le=5)
    supply_voltage_uncertainty_v: float = Field(0.01, ge=0, description="standard uncertainty of the supply")


class BoardConfig(DeviceConfig):
    """One board: who it is (MAC), where its console is, and what it is flashed with."""

    type: Literal["esp32c3"] = "esp32c3"
    identity: Annotated[str, Field(min_length=1), AfterValidator(_held_by_the_client)]
    mac: Mac
    port: str = Field(description="console: a device path or rfc2217://HOST:PORT")
    address: str | None = Field(None, description="network address; without it, the console's network_up mark tells")
    coaps_port: int = Field(5684, ge=1, le=65535)
    firmware: Path | None = Field(
        None, description="an ESP-IDF build directory, its flasher_args.json, or a merged image"
    )
    psk: Secret = Field(description="16 bytes, written as 32 hexadecimal digits")
    wifi: WifiConfig | None = None
    power: PowerConfig | None = Field(None, description="without it a board that hangs stays as it is")


class NetworkBoardConfig(DeviceConfig):
    """A device that the rig can neither flash nor reset: it is there, and answers on its network address."""

    type: Literal["network"]
    host: str = Field(min_length=1)
    port: int = Field(5684, ge=1, le=65535, description="the device's coaps port")
    console: str | None = Field(None, description="its console, where there is one: a device path or pyserial URL")
    psk: Secret = Field(description="1 to 64 bytes, written as hexadecimal digits")

    @property
    def address(self) -> str:
        """The device's network address."""
        return self.host

    @property
    def coaps_port(self) -> int:
        """The device's coaps port."""
        return self.port


def _type_of(board: Any) -> str:
    found = board.get("type", "esp32c3") if isinstance(board, dict) else getattr(board, "type", "esp32c3")
    return str(found)


AnyBoard = Annotated[
    Annotated[BoardConfig, Tag("esp32c3")] | Annotated[NetworkBoardConfig, Tag("network")],
    Discriminator(_type_of),
]


class OutputConfig(CheckedModel):
    """The supply that an instrument gives the board."""

    voltage_v: float = Field(gt=0, le=5)
    current_limit_a: float = Field(gt=0, le=10)


class MeterConfig(CheckedModel):
    """One instrument that measures current."""

    name: Name
    driver: Driver
    resource: str | None = Field(None, description="VISA resource, such as TCPIP::192.168.1.20::5025::SOCKET")
    port: str | None = Field(None, description="serial port of an instrument that has one")
    accuracy: Path | None = Field(None, description="accuracy document; without it no figure gets an uncertainty")
    calibration: Path | None = Field(None, description="this instrument's calibration certificate")
    temperature_c: float | None = Field(None, ge=-40, le=85, description="at the instrument; unknown without it")
    output: OutputConfig | None = Field(None, description="what an instrument that feeds the board feeds it with")

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.resource is None) == (self.port is None):
            raise ValueError("name resource, or port for an instrument with a serial port")
        if self.accuracy is None and self.calibration is not None:
            raise ValueError("calibration: needs accuracy, the maker's document that it stands beside")
        return self

    @property
    def address(self) -> str:
        """Where the instrument answers."""
        address = self.resource or self.port
        assert address is not None
        return address


class RouterConfig(CheckedModel):
    """One router that impairs the network between client and board."""

    name: Name
    driver: Literal["relay"]
    control: str = Field(pattern=r"^[^\s:]+:\d+$", description="HOST:PORT of the relay's control connection")


class BenchConfig(CheckedModel):
    """A whole bench."""

    boards: tuple[AnyBoard, ...]
    meters: tuple[MeterConfig, ...] = ()
    routers: tuple[RouterConfig, ...] = ()

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if not self.boards:
            raise ValueError("boards: the bench has no board")
        for kind, parts in (("boards", self.boards), ("meters", self.meters), ("routers", self.routers)):
            names = [part.name for part in parts]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind}: names that stand twice: {', '.join(twice)}")
        for board in self.boards:
            _refuse_unknown(board.name, "meter", board.meter, [meter.name for meter in self.meters])
            _refuse_unknown(board.name, "router", board.router, [router.name for router in self.routers])
        return self


def _refuse_unknown(board: str, key: str, name: str | None, known: list[str]) -> None:
    if name is not None and name not in known:
        have = ", ".join(known) or "none"
        raise ValueError(f"board {board}: {key} {name!r} is not on this bench (there: {have})")


def load_bench(path: Path) -> BenchConfig:
    """Read and check *path*; raises ConfigError with one line per finding, each as ``file:line: key: reason``."""
    return load_checked(path, BenchConfig)


def read_psk(board: DeviceConfig, path: Path) -> bytes:
    """Read a device's pre-shared key, written in hexadecimal digits; raises ConfigError where it cannot be one.

    A board that the rig provisions has 16 bytes, none of them zero; any other device 1 to 64 (RFC 4279 5.3).
    """
    what = f"{path}: board {board.name}: psk"
    text = board.psk.read(path.parent, what)
    try:
        psk = bytes.fromhex(text)
    except ValueError:
        psk = b""
    if isinstance(board, BoardConfig) and (len(psk) != 16 or 0 in psk):
        raise ConfigError(f"{what}: must be 32 hexadecimal digits, 16 bytes of which none is zero")
    if not 1 <= len(psk) <= 64:
        raise ConfigError(f"{what}: must be 1 to 64 bytes, written as 2 to 128 hexadecimal digits")
    return psk
