"""The chip: reset circuit, modes, boot sequence, deep sleep, brownout."""

import asyncio
import enum
import signal
import time
from collections.abc import Callable

from rig.formats import image, nvs, partitions
from rig.virtual.board import boot, bootloader, power
from rig.virtual.board.alarms import Alarms
from rig.virtual.board.application import Environment, Message, RtcMemory
from rig.virtual.board.boot import Cause, Stage, Then
from rig.virtual.board.bootloader import Policy
from rig.virtual.board.config import BoardConfig
from rig.virtual.board.efuse import Efuse
from rig.virtual.board.flash import SECTOR_BYTES, Flash
from rig.virtual.board.loader import Loader, Surroundings
from rig.virtual.board.registers import REVISION
from rig.virtual.board.reset_lines import Pulse, ResetLines
from rig.virtual.board.running import Endings, Running
from rig.virtual.board.supply import Supply
from rig.virtual.board.uart import Uart

ROM_S = 0.024
BOOTLOADER_S = 0.2
BOOT_LOOP_S = 0.3  # real chips are faster; nobody needs to read it faster
BOOT_WATCHDOG_S = 1.0
RESET_CIRCUIT_S = 0.3  # how long the capacitor at EN holds it low after DTR and RTS have released it
BROWNOUT_VOLTAGE_V = 2.8
RTC_LOSS_VOLTAGE_V = 2.0

_WAKE_BY_TIMER = 4  # esp_sleep_source_t
_NEXT, _FLASH, _WATCHDOG = "next", "flash", "watchdog"
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
        self._fuses = Efuse(config.efuse, config.mac, REVISION, config.fuses)
        self._rtc = RtcMemory()
        self._mode = Mode.OFF
        self._voltage_v = 0.0
        self._start_cause = boot.POWER_ON
        self._lines = ResetLines(usb=config.usb_jtag)
        self._hung = config.reset_lines == "hung"
        self._alarms = Alarms()
        self._loader: Loader | None = None
        self._running: Running | None = None
        self._started_s = 0.0
        self._stored_bytes = 0

    def close(self) -> None:
        """Stop everything."""
        self._enter(Mode.OFF)
        self.supply.close()
        self._rtc.close()

    def kill_application(self) -> None:
        """Kill the application from another thread, on the way out."""
        running = self._running
        if running is not None:
            signal.pidfd_send_signal(running.exit_fd, signal.SIGKILL)

    # The pins

    def receive(self, data: bytes) -> None:
        """Take bytes on UART0 RX."""
        if self._hung:
            return
        if self._loader is not None:
            self._loader.feed(data)
        elif self._running is not None:
            self._running.write(data)

    def set_lines(self, dtr: bool, rts: bool) -> None:
        """Take the levels of DTR and RTS, which reset the chip and choose what it starts."""
        if self._hung or self._config.reset_lines == "absent":
            return
        match self._lines.set(dtr, rts):
            case Pulse.HOLD if self._voltage_v > 0:
                self._hold_in_reset()
            case Pulse.RELEASE if self._mode is Mode.RESET:
                self._leave_reset()
            case Pulse.RELEASE_SLOWLY if self._mode is Mode.RESET:
                self._after(RESET_CIRCUIT_S, self._leave_reset)
            case Pulse.RESTART if self._mode in _AWAKE:
                self._restart(boot.USB_RESET)

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
        elif self._lines.holds_reset:
            self._hold_in_reset()
        else:
            self._restart(self._start_cause)

    def _restart(self, cause: Cause) -> None:
        """Leave a reset that samples the strapping pins."""
        if self._lines.asks_for_download or self._config.boot_strap == "download":
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
            after=lambda delay_s, action: self._alarms.set(_FLASH, delay_s, action),
            run_user_code=lambda: self._boot(boot.SOFTWARE),
            start_watchdog=lambda delay_s: self._watch(delay_s, boot.RTC_WATCHDOG),
        )
        self._loader = Loader(self._flash, self._fuses, around, latency=self._config.write_latency)

    def _reset_by(self, cause: Cause) -> None:
        """Reset by hardware: of the whole chip, or of its digital part, which keeps the RTC memory and the straps."""
        if cause.samples_straps:
            self._rtc.clear()
            self._restart(cause)
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

    def _watch(self, delay_s: float, cause: Cause) -> None:
        self._alarms.set(_WATCHDOG, delay_s, lambda: self._reset_by(cause))

    def _watch_boot(self) -> None:
        if self._config.boot_watchdog:
            self._watch(BOOT_WATCHDOG_S, boot.BOOT_WATCHDOG)

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
                self._after(ROM_S, lambda: self._follow(self._bootloader_stage(), cause))
            case Then.APPLICATION:
                self._after(BOOTLOADER_S, lambda: self._run(stage, cause))
            case Then.REPEAT:
                self._after(BOOT_LOOP_S, lambda: self._follow(stage, cause))
            case Then.RESET:
                self._after(BOOT_LOOP_S, lambda: self._boot(boot.BOOTLOADER_RESET))
            case Then.STOP:
                self._stop_booting()

    def _bootloader_stage(self) -> Stage:
        oldest = self._fuses.secure_version if self._config.anti_rollback else 0
        return bootloader.bootloader_stage(self._flash, Policy(self._config.verify_images, oldest))

    def _run(self, stage: Stage, cause: Cause) -> None:
        assert stage.app is not None
        self._alarms.forget(_WATCHDOG)
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
        endings = Endings(
            sleep=self._sleep,
            restart=lambda: self._boot(boot.SOFTWARE),
            die=self._die,
            reset=self._reset_by,
            store=lambda size: self._store(stage, size),
        )
        self._running = Running(self._config, self.supply, self._uart, elf, environment, self._started_s, endings)

    def _read_nvs(self, stage: Stage) -> dict[tuple[str, str], nvs.NvsValue]:
        slot = partitions.credentials(stage.table)
        if slot is None:
            return {}
        whole_pages = slot.size - slot.size % nvs.PAGE_BYTES
        return nvs.read_nvs(self._flash.read(slot.offset, whole_pages))

    def _store(self, stage: Stage, size: int) -> None:
        """Append to the partition that ESP-IDF calls nvs, one page of it after the other."""
        slot = next((entry for entry in stage.table if entry.label == "nvs"), None)
        if slot is None:
            return
        place = slot.offset + self._stored_bytes % slot.size
        if place % SECTOR_BYTES + size > SECTOR_BYTES or place % SECTOR_BYTES == 0:
            self._stored_bytes += -self._stored_bytes % SECTOR_BYTES
            place = slot.offset + self._stored_bytes % slot.size
            self._flash.erase(place, SECTOR_BYTES)
        self._flash.program(place, bytes(size))
        self._stored_bytes += size

    # The end of an application

    def _sleep(self, message: Message) -> None:
        self._enter(Mode.SLEEP)
        if self._config.usb_jtag:
            self._uart.vanish()
        duration_ms = int(message.arguments[0])
        wake_ns = message.t_ns + duration_ms * 1_000_000
        self._after((wake_ns - time.monotonic_ns()) / 1e9, lambda: self._boot(boot.DEEP_SLEEP))

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
        self._alarms.clear()
        if self._running is not None:
            self._running.kill()
            self._running = None
        if mode is not Mode.RUN:
            self.supply.trigger(False)

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do *action* later, unless the mode changes before."""
        self._alarms.set(_NEXT, delay_s, action)

    def _waits(self) -> bool:
        return _NEXT in self._alarms

    def _print_rom(self, *lines: str) -> None:
        if not self._fuses.rom_is_silent:
            self._print(*lines)

    def _print(self, *lines: str) -> None:
        self._uart.send("".join(f"{line}\r\n" for line in lines).encode())
