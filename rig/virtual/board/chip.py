"""The chip: reset circuit, modes, boot sequence, deep sleep, brownout."""

import asyncio
import enum
import hashlib
import signal
import time
from collections.abc import Callable

from rig.errors import BenchError
from rig.formats import image, nvs, partitions
from rig.virtual.board import boot, bootloader, power
from rig.virtual.board.application import Application, Environment, Message, RtcMemory, died_of
from rig.virtual.board.boot import Cause, Stage, Then
from rig.virtual.board.config import BoardConfig
from rig.virtual.board.efuse import Efuse
from rig.virtual.board.flash import Flash
from rig.virtual.board.loader import Loader, Surroundings
from rig.virtual.board.panic import Dying
from rig.virtual.board.registers import REVISION
from rig.virtual.board.supply import Supply
from rig.virtual.board.uart import Uart

ROM_S = 0.024
BOOTLOADER_S = 0.2
BOOT_LOOP_S = 0.3  # real chips are faster; nobody needs to read it faster
BOOT_WATCHDOG_S = 1.0
RESET_CIRCUIT_S = 0.3  # how long the capacitor at EN holds it low after DTR and RTS have released it
BROWNOUT_VOLTAGE_V = 2.8
RTC_LOSS_VOLTAGE_V = 2.0

_RADIO_STATES_A = {"wifi_connect": power.RECEIVER_CURRENT_A, "wifi_idle": power.WIFI_IDLE_CURRENT_A}
_OTHER_STATES_A = {"cpu": power.CPU_CURRENT_A, "light_sleep": power.LIGHT_SLEEP_CURRENT_A}
_WAKE_BY_TIMER = 4  # esp_sleep_source_t
_FLOOD_STEP_S = 0.02
_FLOOD_LINE = "I ({ms}) flood: the console has more to say than anybody wants to read\n"
_MAX_BACKLOG_BYTES = 4096
_RISCV_IMAGE = (
    "virtual bench: the application in flash is a RISC-V image, which a virtual board cannot run; "
    "flash the host build of the firmware"
)


class Mode(enum.Enum):
    """What the chip is doing."""

    OFF = enum.auto()  # no supply, or not enough of it
    RESET = enum.auto()  # EN low
    LOADER = enum.auto()
    BOOT = enum.auto()
    RUN = enum.auto()
    SLEEP = enum.auto()
    STOPPED = enum.auto()  # the ROM or the bootloader has given up


_AWAKE = (Mode.LOADER, Mode.BOOT, Mode.RUN, Mode.STOPPED)


class Chip:
    """An ESP32-C3 with its flash, its serial line *uart* and its ``supply``."""

    def __init__(self, config: BoardConfig, flash: Flash, uart: Uart) -> None:
        self._config = config
        self._flash = flash
        self._uart = uart
        self._loop = asyncio.get_running_loop()
        self.supply = Supply(config.supply, config.truth, self.set_voltage)
        self._fuses = Efuse(config.efuse, config.mac, REVISION)
        self._rtc = RtcMemory()
        self._mode = Mode.OFF
        self._voltage_v = 0.0
        self._start_cause = boot.POWER_ON
        self._dtr = False
        self._rts = False
        self._usb_download = False  # what the USB-Serial-JTAG has been told for the next reset
        self._hung = config.reset_lines == "hung"
        self._alarms: dict[str, asyncio.TimerHandle] = {}
        self._loader: Loader | None = None
        self._application: Application | None = None
        self._elf_sha256 = b""
        self._started_s = 0.0
        self._farewell: Message | None = None

    def close(self) -> None:
        """Stop everything."""
        self._enter(Mode.OFF)
        self.supply.close()
        self._rtc.close()

    def kill_application(self) -> None:
        """Kill the application from another thread, on the way out."""
        if self._application is not None:
            signal.pidfd_send_signal(self._application.exit_fd, signal.SIGKILL)

    # The pins

    def receive(self, data: bytes) -> None:
        """Take bytes on UART0 RX."""
        if self._hung:
            return
        if self._loader is not None:
            self._loader.feed(data)
        elif self._application is not None:
            self._application.write(data)

    def set_lines(self, dtr: bool, rts: bool) -> None:
        """Take the levels of DTR and RTS, which reset the chip and choose what it starts."""
        if self._hung or self._config.reset_lines == "absent":
            return
        before = self._dtr, self._rts
        self._dtr, self._rts = dtr, rts
        if self._config.usb_jtag:
            self._follow_usb(before)
        else:
            self._follow_transistors()

    def _follow_transistors(self) -> None:
        """Pull EN and GPIO9 low as the two transistors of a DevKit do.

        EN is low while RTS is asserted and DTR is not; GPIO9 while DTR is asserted and RTS is not. When both become
        asserted, the capacitor keeps EN low until the next edge or until it is charged.
        """
        if self._rts and not self._dtr:
            self._hold_in_reset()
        elif self._mode is not Mode.RESET:
            return
        elif self._rts and self._dtr:
            self._after(RESET_CIRCUIT_S, self._leave_reset)
        else:
            self._leave_reset()

    def _follow_usb(self, before: tuple[bool, bool]) -> None:
        """Act as the USB-Serial-JTAG: DTR alone asks for download mode, none for flash; RTS alone resets at once."""
        if not self._rts:
            self._usb_download = self._dtr
        elif not self._dtr and before != (self._dtr, self._rts) and self._mode in _AWAKE:
            self._restart(boot.USB_RESET, download=self._usb_download)

    def set_voltage(self, voltage_v: float | None) -> None:
        """Take the voltage at the supply pins, None for an open supply."""
        self._voltage_v = voltage_v if voltage_v is not None else 0.0
        if self._voltage_v < RTC_LOSS_VOLTAGE_V and self._mode is not Mode.OFF:
            self._hung = False
        if voltage_v is None:
            self._lose_power(power.OFF_CURRENT_A, boot.POWER_ON)
        elif self._mode is Mode.OFF:
            self._start_if_powered()
        elif self._mode is Mode.SLEEP and self._voltage_v < RTC_LOSS_VOLTAGE_V:
            self._lose_power(power.RESET_CURRENT_A, boot.POWER_ON)
        elif self._mode in _AWAKE and self._voltage_v < BROWNOUT_VOLTAGE_V:
            self._print("", "Brownout detector was triggered", "")
            self._lose_power(power.RESET_CURRENT_A, boot.BROWNOUT)
            self._after(BOOT_LOOP_S, self._start_if_powered)

    # Resets

    def _hold_in_reset(self) -> None:
        self._enter(Mode.RESET)
        self._rtc.clear()
        self.supply.state(power.RESET_CURRENT_A)

    def _leave_reset(self) -> None:
        self._enter(Mode.OFF)
        self._start_cause = boot.POWER_ON
        self._start_if_powered()

    def _lose_power(self, current_a: float, next_cause: Cause) -> None:
        self._enter(Mode.OFF)
        self._rtc.clear()
        self._start_cause = next_cause
        self.supply.state(current_a)
        if self._config.usb_jtag:
            self._uart.vanish()

    def _start_if_powered(self) -> None:
        if self._voltage_v < BROWNOUT_VOLTAGE_V or self._waits():
            return
        if self._hung:
            self._enter(Mode.STOPPED)
            self.supply.state(power.CPU_CURRENT_A)
        elif self._config.usb_jtag:
            self._restart(self._start_cause, download=False)
        elif self._rts and not self._dtr:
            self._hold_in_reset()
        else:
            self._restart(self._start_cause, download=self._dtr and not self._rts)

    def _restart(self, cause: Cause, *, download: bool) -> None:
        """Leave a reset that samples the strapping pins."""
        if download or self._config.boot_strap == "download":
            self._start_loader(cause)
        else:
            self._boot(cause)

    def _start_loader(self, cause: Cause) -> None:
        self._fuses.latch()
        self._enter(Mode.LOADER)
        self._uart.appear()
        self._uart.reset(detect_baud=True)
        self.supply.state(power.CPU_CURRENT_A)
        self._print_rom(*boot.banner(cause, download=True))
        if self._fuses.download_disabled:
            self._print_rom("Download boot modes disabled")
            self._stop_booting()
            return
        secure = self._fuses.secure_download
        self._print_rom("wait uart download(secure mode)" if secure else "waiting for download")
        around = Surroundings(
            send=self._uart.send,
            set_baud=self._uart.set_baud,
            after=lambda delay_s, action: self._after(delay_s, action, "flash"),
            run_user_code=lambda: self._boot(boot.SOFTWARE),
            start_watchdog=lambda delay_s: self._after(delay_s, lambda: self._reset_by(boot.RTC_WATCHDOG), "watchdog"),
        )
        self._loader = Loader(self._flash, self._fuses, around, latency=self._config.write_latency)

    def _reset_by(self, cause: Cause) -> None:
        """Reset by hardware: of the whole chip, or of its digital part, which keeps the RTC memory and the straps."""
        if cause.samples_straps:
            self._rtc.clear()
            self._restart(cause, download=self._dtr and not self._rts and not self._config.usb_jtag)
        else:
            self._boot(cause)

    # Booting

    def _boot(self, cause: Cause) -> None:
        self._fuses.latch()
        self._enter(Mode.BOOT)
        self._uart.appear()
        self._uart.reset()
        self.supply.state(power.CPU_CURRENT_A)
        self._print_rom(*boot.banner(cause, download=False))
        self._started_s = self._loop.time()
        self._watch_boot()
        self._follow(boot.rom_stage(self._flash), cause)

    def _watch_boot(self) -> None:
        if self._config.boot_watchdog:
            self._after(BOOT_WATCHDOG_S, lambda: self._reset_by(boot.BOOT_WATCHDOG), "watchdog")

    def _stop_booting(self) -> None:
        self._enter(Mode.STOPPED)
        self._watch_boot()

    def _follow(self, stage: Stage, cause: Cause) -> None:
        if stage.then in (Then.APPLICATION, Then.RESET):
            self._print(*stage.lines)
        else:
            self._print_rom(*stage.lines)
        match stage.then:
            case Then.BOOTLOADER:
                self._after(ROM_S, lambda: self._follow(bootloader.bootloader_stage(self._flash), cause))
            case Then.APPLICATION:
                self._after(BOOTLOADER_S, lambda: self._run(stage, cause))
            case Then.REPEAT:
                self._after(BOOT_LOOP_S, lambda: self._follow(stage, cause))
            case Then.RESET:
                self._after(BOOT_LOOP_S, lambda: self._boot(boot.BOOTLOADER_RESET))
            case Then.STOP:
                self._stop_booting()

    def _run(self, stage: Stage, cause: Cause) -> None:
        assert stage.app is not None
        self._forget("watchdog")
        elf = image.host_elf(stage.app)
        if elf is None:
            self._print(_RISCV_IMAGE)
            self._enter(Mode.STOPPED)
            return
        self._enter(Mode.RUN)
        environment = Environment(
            nvs=self._read_nvs(stage),
            rtc_fd=self._rtc.fd,
            reset_reason=cause.reason,
            wake_cause=_WAKE_BY_TIMER if cause is boot.DEEP_SLEEP else 0,
            address=self._config.address,
        )
        self._farewell = None
        self._elf_sha256 = hashlib.sha256(elf).digest()
        self._application = Application(elf, environment, self._transmit, self._obey, self._application_ended)
        self._break()

    def _break(self) -> None:
        """Begin with the faults that a running application of this board suffers."""
        if self._config.flood_bytes_per_s:
            self._flood(self._loop.time(), 0)
        fault = self._config.hardware_reset
        if fault is not None:
            self._after(fault.after_s, lambda: self._suffer(boot.HARDWARE_RESETS[fault.cause]), "hardware reset")

    def _suffer(self, cause: Cause) -> None:
        if self._mode is Mode.RUN:
            self._reset_by(cause)

    def _flood(self, began_s: float, sent_bytes: int) -> None:
        """Print whole lines until as much has been said as the time asks for; never more than the line can carry."""
        now_s = self._loop.time()
        due_bytes = int((now_s - began_s) * self._config.flood_bytes_per_s)
        line = _FLOOD_LINE.format(ms=self._uptime_ms()).encode()
        if self._uart.backlog_bytes < _MAX_BACKLOG_BYTES and due_bytes > sent_bytes:
            self._transmit(line * -(-(due_bytes - sent_bytes) // len(line)))
        self._after(_FLOOD_STEP_S, lambda: self._flood(began_s, max(due_bytes, sent_bytes)), "flood")

    def _uptime_ms(self) -> int:
        return int((self._loop.time() - self._started_s) * 1000)

    def _read_nvs(self, stage: Stage) -> dict[tuple[str, str], nvs.NvsValue]:
        slot = partitions.credentials(stage.table)
        if slot is None:
            return {}
        whole_pages = slot.size - slot.size % nvs.PAGE_BYTES
        return nvs.read_nvs(self._flash.read(slot.offset, whole_pages))

    # The application

    def _transmit(self, data: bytes) -> None:
        self._uart.send(data.replace(b"\n", b"\r\n"))  # what ESP-IDF's UART driver does by default

    def _obey(self, message: Message) -> None:
        match message.verb, message.arguments:
            case "state", (str(name),) if name in _OTHER_STATES_A:
                self.supply.state(_OTHER_STATES_A[name], t_ns=message.t_ns)
            case "wdt", (int(timeout_ms),):
                self._after(timeout_ms / 1000, self._starve, "task watchdog")
            case "state", (str(name),) if name in _RADIO_STATES_A:
                self.supply.state(_RADIO_STATES_A[name], radio=True, t_ns=message.t_ns)
            case "tx", (int(size),):
                self.supply.transmit(message.t_ns, size)
            case "rx", (int(),):
                self.supply.receive(message.t_ns)
            case "gpio", (int(number), int(level)):
                if number == self._config.trigger_gpio:
                    self.supply.trigger(bool(level), message.t_ns)
            case "sleep", (int(),):
                self.supply.state(self._config.sleep_current_a, t_ns=message.t_ns)
                self._farewell = message
            case "restart", ():
                self._farewell = message
            case _:
                raise BenchError(f"chip wire: {message} is not known here; the host build does not fit the board")

    def _application_ended(self, status: int) -> None:
        self._application = None
        farewell = self._farewell
        if status != 0 or farewell is None:
            self._panic(status)
        elif farewell.verb == "sleep":
            self._sleep(farewell)
        else:
            self._boot(boot.SOFTWARE)

    def _sleep(self, message: Message) -> None:
        self._enter(Mode.SLEEP)
        if self._config.usb_jtag:
            self._uart.vanish()
        duration_ms = int(message.arguments[0])
        wake_ns = message.t_ns + duration_ms * 1_000_000
        self._after((wake_ns - time.monotonic_ns()) / 1e9, lambda: self._boot(boot.DEEP_SLEEP))

    def _panic(self, status: int) -> None:
        dying = Dying(self._elf_sha256, f"the application ended with {died_of(status)}")
        self._die(dying.crashed(status), boot.PANIC)

    def _starve(self) -> None:
        if self._mode is Mode.RUN:
            dying = Dying(self._elf_sha256, "the application did not feed the task watchdog, and is killed")
            self._die(dying.starved(self._uptime_ms()), boot.TASK_WATCHDOG)

    def _die(self, lines: list[str], cause: Cause) -> None:
        self._enter(Mode.BOOT)
        self.supply.state(power.CPU_CURRENT_A)
        self._print(*lines)
        self._after(BOOT_LOOP_S, lambda: self._boot(cause))

    # What all of them need

    def _enter(self, mode: Mode) -> None:
        """Change the mode; what belongs to the mode before ends."""
        self._mode = mode
        self._loader = None
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()
        if self._application is not None:
            self._application.kill()
            self._application = None
        if mode is not Mode.RUN:
            self.supply.trigger(False)

    def _after(self, delay_s: float, action: Callable[[], None], name: str = "next") -> None:
        """Do *action* later, unless the mode changes before, or something else is to be done under that *name*."""
        self._forget(name)

        def act() -> None:
            del self._alarms[name]
            action()

        self._alarms[name] = self._loop.call_later(max(delay_s, 0), act)

    def _forget(self, name: str) -> None:
        alarm = self._alarms.pop(name, None)
        if alarm is not None:
            alarm.cancel()

    def _waits(self) -> bool:
        return "next" in self._alarms

    def _print_rom(self, *lines: str) -> None:
        if not self._fuses.rom_is_silent:
            self._print(*lines)

    def _print(self, *lines: str) -> None:
        self._uart.send("".join(f"{line}\r\n" for line in lines).encode())
