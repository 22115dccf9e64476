"""A bench file opened: one board with its console, meter and router, in order, and put back in reverse order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rig.bench.config import (
    AnyBoard,
    BenchConfig,
    BoardConfig,
    MeterConfig,
    NetworkBoardConfig,
    RouterConfig,
    load_bench,
    read_psk,
)
from rig.board import Board, BoardLock, CommandPower, Console, FlashReport, Mark, Provisioning, SerialPort, Step
from rig.errors import ConfigError
from rig.formats.flasher_args import ImageSet, read_image_set
from rig.meter import Meter, Output, load_accuracy, load_certificate, open_meter
from rig.router import RelayRouter, Router

FlashMode = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Listeners:
    """Who is told what happens on the bench while it is open."""

    mark: Callable[[str, Mark], None]
    """Called with the board's name for each mark on its console."""
    instrument_errors: Callable[[str, Sequence[str]], None]
    """Called with the meter's name for each group of errors taken from an instrument's queue."""
    step: Callable[[str, Step], None]
    """Called with the board's name for each step that is taken because it did not answer."""
    progress: Callable[[str], None]
    """Called with a line of text while something long runs."""


class Bench:
    """One board of a bench and what is wired to it, opened.

    A context manager. ``board``, ``console``, ``meter`` and ``router`` are None where the bench file has none; a device
    of type ``network`` is no ``board``, but may have a console.
    """

    def __init__(
        self, config: BenchConfig, path: Path, board: AnyBoard, *, log_path: Path, listeners: Listeners
    ) -> None:
        """*board* is the one of *config* that is opened; *path* is the file that *config* comes from."""
        self.config = config
        self.path = path
        self.board_config = board
        self.board: Board | None = None
        self.console: Console | None = None
        self.meter: Meter | None = None
        self.router: Router | None = None
        self._log_path = log_path
        self._listeners = listeners
        self._stack = ExitStack()
        self.may_provision = False
        """Whether the rig gives the board its credentials: it flashed the board, and may do so again."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # The board first: its lock is what says that this bench is ours to touch.
            self.board = self._open_board(stack)
            self.console = self.board.console if self.board else self._open_console(stack)
            self.meter = self._open_meter(stack)
            self.router = self._open_router(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def psk(self) -> bytes:
        """The board's pre-shared key, read from where the bench file says it is."""
        return read_psk(self.board_config, self.path)

    def flash(self, mode: FlashMode) -> FlashReport | None:
        """Flash and provision the board, and start it; None where nothing is flashed.

        Nothing is flashed where the bench file names no console or no firmware, or *mode* is ``never``.
        """
        config = self.board_config
        if self.board is None or not isinstance(config, BoardConfig):
            return None
        if config.firmware is None or mode == "never":
            self.reset()
            return None
        self.may_provision = True
        images = self.images()
        provisioning = provisioning_of(config, self.path)
        with self._log_path.with_name(f"esptool-{config.name}.log").open("a", encoding="utf-8") as log:
            return self.board.flash(
                images,
                provisioning,
                mode,
                on_progress=self._listeners.progress,
                on_esptool=lambda line: print(line, file=log),
            )

    @contextmanager
    def provisioned(self, identity: str, psk: bytes) -> Iterator[None]:
        """Give the board other credentials while the block runs, and its own back after it; each starts it again.

        For benches that `may_provision`.
        """
        assert self.board is not None
        assert isinstance(self.board_config, BoardConfig)
        own = provisioning_of(self.board_config, self.path)
        images = self.images()
        try:
            self.board.flash(images, replace(own, identity=identity, psk=psk))
            yield
        finally:
            self.board.flash(images, own)

    def images(self) -> ImageSet:
        """Return the images that the bench file names for the board."""
        assert isinstance(self.board_config, BoardConfig)
        assert self.board_config.firmware is not None
        return read_image_set(self.path.parent / self.board_config.firmware)

    def reset(self) -> None:
        """Start the board from reset, or with whatever it takes (see rig.board.Board.recover)."""
        assert self.board is not None
        self.board.recover()

    def address(self, *, timeout_s: float = 20.0) -> tuple[str, int]:
        """Return the board's network address and coaps port: the bench file's, else what the console tells.

        Raises DeviceError when the board does not come up.
        """
        port = self.board_config.coaps_port
        if self.board is not None:
            told = self.board.wait_network(timeout_s)
            return self.board_config.address or told.host, port
        assert self.board_config.address is not None
        return self.board_config.address, port

    def endpoint(self) -> tuple[str, int]:
        """Return host and port by which a client reaches the board's coaps service: through the router, if any."""
        host, port = self.address()
        return self.router.endpoint_for(host, port) if self.router is not None else (host, port)

    def _open_board(self, stack: ExitStack) -> Board | None:
        config = self.board_config
        if not isinstance(config, BoardConfig):
            # A device that the rig cannot flash is known by its address alone.
            stack.enter_context(BoardLock(f"{config.host}-{config.port}"))
            return None
        board = board_of(
            config,
            self.path,
            self._log_path,
            on_mark=lambda mark: self._listeners.mark(config.name, mark),
            on_step=lambda step: self._listeners.step(config.name, step),
        )
        return stack.enter_context(board)

    def _open_console(self, stack: ExitStack) -> Console | None:
        config = self.board_config
        if not isinstance(config, NetworkBoardConfig) or config.console is None:
            return None
        port = stack.enter_context(SerialPort(config.console))
        on_mark = self._listeners.mark
        return stack.enter_context(Console(port, self._log_path, lambda mark: on_mark(config.name, mark)))

    def _open_meter(self, stack: ExitStack) -> Meter | None:
        config = self.meter_config
        if config is None:
            return None
        listener = self._listeners.instrument_errors
        return stack.enter_context(meter_of(config, self.path, lambda errors: listener(config.name, errors)))

    def _open_router(self, stack: ExitStack) -> Router | None:
        config = self.router_config
        return stack.enter_context(RelayRouter(control=config.control)) if config is not None else None

    @property
    def in_use(self) -> BenchConfig:
        """The part of the bench file that is open: the board and what is wired to it."""
        meter, router = self.meter_config, self.router_config
        return BenchConfig(
            boards=(self.board_config,), meters=(meter,) if meter else (), routers=(router,) if router else ()
        )

    @property
    def meter_config(self) -> MeterConfig | None:
        """The meter that the board is wired to."""
        return next((one for one in self.config.meters if one.name == self.board_config.meter), None)

    @property
    def router_config(self) -> RouterConfig | None:
        """The router that the board is behind."""
        return next((one for one in self.config.routers if one.name == self.board_config.router), None)


def board_of(
    config: BoardConfig,
    path: Path,
    log_path: Path,
    *,
    on_mark: Callable[[Mark], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Board:
    """Return a board of the bench file *path*, to be entered."""
    switch = config.power
    power = CommandPower(switch.off, switch.on, settle_s=switch.settle_s, directory=path.parent) if switch else None
    return Board(config.name, config.port, config.mac, log_path, on_mark, power=power, on_step=on_step)


def meter_of(config: MeterConfig, path: Path, on_errors: Callable[[list[str]], None] | None = None) -> Meter:
    """Return a meter of the bench file *path*, to be entered.

    Raises ConfigError where its accuracy document or its calibration certificate cannot be used.
    """
    folder, output = path.parent, config.output
    certificate = load_certificate(folder / config.calibration) if config.calibration else None
    accuracy = None
    if config.accuracy is not None:
        accuracy = load_accuracy(folder / config.accuracy, certificate=certificate, temperature_c=config.temperature_c)
    return open_meter(
        config.driver,
        config.address,
        accuracy,
        on_errors,
        Output(output.voltage_v, output.current_limit_a) if output else None,
    )


@contextmanager
def fed(board: BoardConfig, path: Path) -> Iterator[None]:
    """Keep the meter open while the block runs that is the supply of *board*, where one is: it switches it on."""
    feeding = [meter for meter in load_bench(path).meters if meter.name == board.meter and meter.output is not None]
    with ExitStack() as stack:
        for meter in feeding:
            stack.enter_context(meter_of(meter, path))
        yield


def provisioning_of(board: BoardConfig, path: Path) -> Provisioning:
    """Return what a board of the bench file *path* is provisioned with: identity, key, network."""
    if board.wifi is None:
        raise ConfigError(f"{path}: board {board.name}: wifi: is missing, and the board is to be provisioned")
    passphrase = board.wifi.passphrase.read(path.parent, f"{path}: board {board.name}: wifi.passphrase")
    return Provisioning(
        identity=board.identity, psk=read_psk(board, path), wifi_ssid=board.wifi.ssid, wifi_passphrase=passphrase
    )
