"""Checks a bench part by part: each finding with what was seen and how to mend it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rig.bench.bench import board_of, meter_of
from rig.bench.config import (
    BenchConfig,
    BoardConfig,
    MeterConfig,
    NetworkBoardConfig,
    RouterConfig,
    load_bench,
    read_psk,
)
from rig.board import Board
from rig.board.flash import MAX_FLASH_BYTES
from rig.clock import now_s
from rig.coap.probe import Prober
from rig.errors import BenchError, RigError
from rig.evidence.declaration import load_declaration
from rig.formats.checks import check_image_set
from rig.formats.flasher_args import read_image_set
from rig.meter import load_accuracy, load_certificate
from rig.router import RelayRouter


@dataclass(frozen=True)
class Finding:
    """One thing that was checked; ``detail`` is what was seen, or what is wrong and how to mend it."""

    part: str
    check: str
    ok: bool
    detail: str


def examine(path: Path, log_directory: Path) -> list[Finding]:
    """Check the bench file *path* and every part that it names; console output is logged in *log_directory*."""
    try:
        config = load_bench(path)
    except RigError as error:
        return [Finding("bench file", "is valid", False, str(error))]
    findings = [Finding("bench file", "is valid", True, f"{path}: {_inventory(config)}")]
    # The meters first: one that feeds a board switches it on.
    for meter in config.meters:
        findings += _meter(meter, path)
    for board in config.boards:
        findings += _board(board, path, log_directory)
    for router in config.routers:
        findings.append(_check(router.name, "answers on its control connection", partial(_hello, router)))
    return findings


def _inventory(config: BenchConfig) -> str:
    return f"boards: {len(config.boards)}, meters: {len(config.meters)}, routers: {len(config.routers)}"


def _check(part: str, check: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(part, check, True, look())
    except RigError as error:
        return Finding(part, check, False, str(error))


def _board(board: BoardConfig | NetworkBoardConfig, path: Path, log_directory: Path) -> list[Finding]:
    findings = [_check(board.name, "key can be read", lambda: f"{len(read_psk(board, path))} bytes")]
    if board.dut is not None:
        dut = path.parent / board.dut
        findings.append(_check(board.name, "declaration is valid", lambda: load_declaration(dut).product))
    if isinstance(board, NetworkBoardConfig):
        return [*findings, _check(board.name, "answers a request", lambda: _answers(board, path))]
    if board.firmware is not None:
        firmware = path.parent / board.firmware
        findings.append(_check(board.name, "firmware is sound", lambda: _sound(firmware)))
    log = log_directory / f"console-{board.name}.log"
    findings.append(_check(board.name, "is free and boots", lambda: _boots(board_of(board, path, log))))
    if board.power is not None:
        findings.append(
            _check(board.name, "loses its power and gets it back", lambda: _loses_power(board_of(board, path, log)))
        )
    return findings


def _answers(board: NetworkBoardConfig, path: Path) -> str:
    endpoint = board.host, board.port
    with Prober(lambda: endpoint, board.identity.encode(), read_psk(board, path)) as prober:
        prober.prove_alive()
    return f"handshake and request at {board.host}:{board.port}"


def _sound(firmware: Path) -> str:
    images = read_image_set(firmware)
    check_image_set(images, flash_bytes=MAX_FLASH_BYTES)
    return f"{len(images.files)} images"


def _boots(board: Board) -> str:
    with board:
        since_s = now_s()
        board.hard_reset()
        address = board.wait_network(15.0, since_s=since_s)
    return f"network up at {address.host}:{address.port} after {address.at_s - since_s:.1f} s"


def _loses_power(board: Board) -> str:
    """A board without power starts from no reset, and starts by itself when the power comes back."""
    with board:
        board.power_off()
        if board.starts_from_reset():
            raise BenchError(
                "the command for off ran, and the board still starts from a reset: correct power: in the bench file, "
                "or look what else feeds the board (its USB cable, its console's lines)"
            )
        board.power_on()
        address = board.wait_network(15.0)
    return f"silent while off; network up at {address.host}:{address.port} after power came on"


def _meter(meter: MeterConfig, path: Path) -> list[Finding]:
    findings = [_check(meter.name, "answers", lambda: _identity(meter, path))]
    if meter.accuracy is None:
        detail = "none named: figures get no uncertainty and verdicts on them are inconclusive; name one (accuracy:)"
        return [*findings, Finding(meter.name, "accuracy document", False, detail)]
    accuracy = path.parent / meter.accuracy
    findings.append(_check(meter.name, "accuracy document", lambda: load_accuracy(accuracy).document))
    if meter.calibration is not None:
        calibration = path.parent / meter.calibration
        findings.append(_check(meter.name, "calibration is in force", lambda: _in_force(calibration)))
    return findings


def _in_force(calibration: Path) -> str:
    certificate = load_certificate(calibration)
    if certificate.overdue:
        raise BenchError(
            f"{certificate.name}: was due on {certificate.due_on}; until the instrument is calibrated again, verdicts "
            "on its figures are inconclusive"
        )
    return f"{certificate.name}, due on {certificate.due_on}"


def _identity(meter: MeterConfig, path: Path) -> str:
    with meter_of(meter, path) as opened:
        who = opened.identity
    return f"{who.manufacturer} {who.model}, serial {who.serial}, firmware {who.firmware}"


def _hello(router: RouterConfig) -> str:
    with RelayRouter(control=router.control) as opened:
        opened.clear()
        return f"no impairment in force at {router.control}"
