"""A virtual meter in a process of its own; the test plays the board on the supply wire."""

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rig.meter import Accuracy, Meter, load_accuracy, open_meter
from rig.meter.drivers import Driver
from rig.meter.scpi.meter import Output
from rig.virtual.meter.bench import VirtualMeter
from rig.virtual.meter.models import MODELS


@dataclass
class SupplyPlayer:
    """The board's end of the supply wire."""

    wire: socket.socket

    def current(self, amps: float, t_ns: int | None = None) -> int:
        """Draw *amps* from *t_ns* (now) on; return that instant."""
        t_ns = time.monotonic_ns() if t_ns is None else t_ns
        self.wire.send(f"{t_ns} i {amps!r}".encode())
        return t_ns

    def line(self, level: int, t_ns: int | None = None) -> int:
        """Set the trigger line; return the instant."""
        t_ns = time.monotonic_ns() if t_ns is None else t_ns
        self.wire.send(f"{t_ns} gpio {level}".encode())
        return t_ns

    def voltages(self) -> list[float]:
        """Return the voltages announced since the last call."""
        found = []
        while select.select([self.wire], [], [], 0.05)[0]:
            t_text, verb, volts = self.wire.recv(4096).decode().split()
            assert verb == "v"
            assert int(t_text) <= time.monotonic_ns()
            found.append(float(volts))
        return found


@contextlib.contextmanager
def play_board(supply: Path) -> Iterator[SupplyPlayer]:
    """Be the board at the supply wire *supply*."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as wire:
        wire.connect(str(supply))
        yield SupplyPlayer(wire)


@dataclass
class VirtualMeterProcess:
    """A running ``python -m rig.virtual.meter``."""

    process: subprocess.Popen[str]
    visa: str
    supply: Path

    def board(self) -> contextlib.AbstractContextManager[SupplyPlayer]:
        return play_board(self.supply)


@pytest.fixture
def driver() -> Driver:
    """Return which instrument is tested; a module with another one has a fixture of the same name."""
    return "keysight-34465a"


@pytest.fixture
def document(driver: Driver) -> Path:
    return MODELS[driver].accuracy


@pytest.fixture
def virtual(tmp_path: Path, driver: Driver, document: Path) -> Iterator[VirtualMeterProcess]:
    supply = tmp_path / "supply"
    config = {
        "name": "m1",
        "model": driver,
        "accuracy": str(document),
        "supply": str(supply),
        "seed": 3,
        "serial": "T3",
        "supply_voltage_v": 3.3,
    }
    (tmp_path / "meter.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "rig.virtual.meter", "--config", str(tmp_path / "meter.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        assert facts["name"] == "m1"
        yield VirtualMeterProcess(process, facts["visa"], supply)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) in (0, -9)
    assert process.returncode == -9 or not supply.exists()


@dataclass
class FeedingMeter:
    """A virtual instrument that feeds the board, in this process: the test sees its output and plays the board."""

    here: VirtualMeter
    driver: Driver
    accuracy: Accuracy

    def opened(self, output: Output | None = Output(3.3, 0.5)) -> Meter:  # noqa: B008
        return open_meter(self.driver, self.here.facts["visa"], self.accuracy, output=output)

    def current(self, amps: float, t_ns: int | None = None) -> int:
        """Draw *amps* from *t_ns* (now) on; return that instant."""
        t_ns = time.monotonic_ns() if t_ns is None else t_ns
        with self.here.instrument.lock:
            self.here.instrument.timeline.set_current(t_ns, amps)
        return t_ns

    def line(self, level: int, t_ns: int | None = None) -> int:
        """Set the trigger line; return the instant."""
        t_ns = time.monotonic_ns() if t_ns is None else t_ns
        with self.here.instrument.lock:
            self.here.instrument.timeline.set_level(t_ns, level)
        return t_ns

    @property
    def voltage_v(self) -> float:
        with self.here.instrument.lock:
            return self.here.instrument.board_voltage_v()


@pytest.fixture
def oddities() -> dict[str, Any]:
    """Return what is provoked; a test that provokes something is parametrized with it."""
    return {}


@pytest.fixture
def feeding(
    tmp_path: Path, driver: Driver, document: Path, accuracy: Accuracy, oddities: dict[str, Any]
) -> Iterator[FeedingMeter]:
    here = VirtualMeter(
        model=driver,
        accuracy=document,
        supply=tmp_path / "supply",
        seed=3,
        serial="T3",
        supply_voltage_v=0.0,
        oddities=oddities,
    )
    here.start()
    with closing(here):
        yield FeedingMeter(here, driver, accuracy)


@pytest.fixture
def board(virtual: VirtualMeterProcess) -> Iterator[SupplyPlayer]:
    with virtual.board() as player:
        yield player


@pytest.fixture
def connected() -> Callable[[Path], contextlib.AbstractContextManager[SupplyPlayer]]:
    """Return what plays the board at a supply wire, for a test with meters of its own."""
    return play_board


@pytest.fixture
def accuracy(document: Path) -> Accuracy:
    return load_accuracy(document)


@pytest.fixture
def meter(virtual: VirtualMeterProcess, accuracy: Accuracy, driver: Driver) -> Iterator[Meter]:
    with open_meter(driver, virtual.visa, accuracy) as opened:
        yield opened
