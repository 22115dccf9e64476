"""The chip while its application runs: what the application says, its watchdog, and the faults it is made to suffer."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from rig.errors import BenchError
from rig.virtual.board import boot, power
from rig.virtual.board.alarms import Alarms
from rig.virtual.board.application import Application, Environment, Message, died_of
from rig.virtual.board.boot import Cause
from rig.virtual.board.config import BoardConfig
from rig.virtual.board.panic import Dying
from rig.virtual.board.supply import Supply
from rig.virtual.board.uart import Uart

_RADIO_STATES_A = {
    "wifi_connect": power.RECEIVER_CURRENT_A,
    "wifi_idle": power.WIFI_IDLE_CURRENT_A,
    "wifi_busy": power.CPU_CURRENT_A,  # modem sleep while the processor works on
}
_OTHER_STATES_A = {"cpu": power.CPU_CURRENT_A, "light_sleep": power.LIGHT_SLEEP_CURRENT_A}
_WATCHDOG, _FLOOD, _RESET = "task watchdog", "flood", "hardware reset"
_FLOOD_STEP_S = 0.02
_FLOOD_LINE = "I ({ms}) flood: the console has more to say than anybody wants to read\n"
_MAX_BACKLOG_BYTES = 4096


@dataclass(frozen=True)
class Endings:
    """What the chip does when the application is done, or asks for its flash."""

    sleep: Callable[[Message], None]  # it has gone to deep sleep with this message
    restart: Callable[[], None]
    die: Callable[[list[str], Cause], None]  # the last words, and the cause of the reset that follows
    reset: Callable[[Cause], None]  # the hardware resets it
    store: Callable[[int], None]  # so many bytes go into its NVS partition; this one ends nothing


class Running:
    """An application that runs, from its start to its end; *started_s* is when the chip was started."""

    def __init__(
        self,
        config: BoardConfig,
        supply: Supply,
        uart: Uart,
        elf: bytes,
        environment: Environment,
        started_s: float,
        endings: Endings,
    ) -> None:
        self._config = config
        self._supply = supply
        self._uart = uart
        self._loop = asyncio.get_running_loop()
        self._started_s = started_s
        self._endings = endings
        self._elf_sha256 = hashlib.sha256(elf).digest()
        self._alarms = Alarms()
        self._watchdog_s: float | None = None
        self._farewell: Message | None = None
        self._application = Application(elf, environment, self._transmit, self._obey, self._ended)
        self._flooded_bytes = 0
        self._over = False
        if config.flood_bytes_per_s:
            self._flood(self._loop.time())
        fault = config.hardware_reset
        if fault is not None:
            self._alarms.set(_RESET, fault.after_s, lambda: endings.reset(boot.HARDWARE_RESETS[fault.cause]))

    @property
    def exit_fd(self) -> int:
        """The process, as a pidfd."""
        return self._application.exit_fd

    def write(self, data: bytes) -> None:
        """Give the application bytes on its UART."""
        self._application.write(data)

    def kill(self) -> None:
        """Stop the application at once, as a reset does."""
        self._alarms.clear()
        if not self._over:
            self._application.kill()

    def _transmit(self, data: bytes) -> None:
        self._uart.send(data.replace(b"\n", b"\r\n"))  # what ESP-IDF's UART driver does by default

    def _uptime_ms(self) -> int:
        return int((self._loop.time() - self._started_s) * 1000)

    def _obey(self, message: Message) -> None:
        match message.verb, message.arguments:
            case "state", (str(name),) if name in _OTHER_STATES_A or name in _RADIO_STATES_A:
                self._change_state(name, message.t_ns)
            case "tx", (int(size),):
                self._supply.transmit(message.t_ns, size)
            case "rx", (int(),):
                self._supply.receive(message.t_ns)
            case "gpio", (int(number), int(level)):
                if number == self._config.trigger_gpio:
                    self._supply.trigger(bool(level), message.t_ns)
            case "nvs", (int(size),):
                self._endings.store(size)
            case "wdt", (0,):
                self._watchdog_s = None
                self._alarms.forget(_WATCHDOG)
            case "wdt", (int(timeout_ms),):
                self._watchdog_s = timeout_ms / 1000
                self._watch()
            case "sleep", (int(),):
                self._supply.state(self._config.sleep_current_a, t_ns=message.t_ns)
                self._say_farewell(message)
            case "restart", ():
                self._say_farewell(message)
            case _:
                raise BenchError(f"chip wire: {message} is not known here; the host build does not fit the board")

    def _change_state(self, name: str, t_ns: int) -> None:
        if name in _RADIO_STATES_A:
            self._supply.state(_RADIO_STATES_A[name], radio=True, t_ns=t_ns)
        else:
            self._supply.state(_OTHER_STATES_A[name], t_ns=t_ns)
        if name == "light_sleep":
            self._alarms.forget(_WATCHDOG)  # the timers that it counts with stand still
        elif _WATCHDOG not in self._alarms:
            self._watch()

    def _say_farewell(self, message: Message) -> None:
        self._farewell = message
        self._alarms.clear()

    def _watch(self) -> None:
        if self._watchdog_s is not None and self._farewell is None:
            self._alarms.set(_WATCHDOG, self._watchdog_s, self._starve)

    def _starve(self) -> None:
        self._application.read_messages()  # it may have fed the watchdog, and the board has not heard it yet
        if _WATCHDOG in self._alarms or self._farewell is not None:
            return
        dying = Dying(self._elf_sha256, "the application did not feed the task watchdog, and is killed")
        self._endings.die(dying.starved(self._uptime_ms()), boot.TASK_WATCHDOG)

    def _flood(self, began_s: float) -> None:
        """Print whole lines until as much has been said as the time asks for; never more than the line can carry."""
        due_bytes = int((self._loop.time() - began_s) * self._config.flood_bytes_per_s)
        line = _FLOOD_LINE.format(ms=self._uptime_ms()).encode()
        lines = (due_bytes - self._flooded_bytes) // len(line)
        if lines > 0 and self._uart.backlog_bytes < _MAX_BACKLOG_BYTES:
            self._transmit(line * lines)
        self._flooded_bytes += lines * len(line)
        self._alarms.set(_FLOOD, _FLOOD_STEP_S, lambda: self._flood(began_s))

    def _ended(self, status: int) -> None:
        self._over = True
        self._alarms.clear()
        farewell = self._farewell
        if status != 0 or farewell is None:
            dying = Dying(self._elf_sha256, f"the application ended with {died_of(status)}")
            self._endings.die(dying.crashed(status), boot.PANIC)
        elif farewell.verb == "sleep":
            self._endings.sleep(farewell)
        else:
            self._endings.restart()
