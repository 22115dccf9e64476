"""Flashing through esptool's Python API: identity first, then only what differs, then proof by MD5."""

import hashlib
import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from rig.board.errors import WrongBoard
from rig.board.serialport import CONSOLE_BAUDRATE, SerialPort
from rig.clock import now_s
from rig.errors import BenchError, ConfigError, DeviceError
from rig.formats.flasher_args import ImageFile, ImageSet

Mode = Literal["auto", "always", "never"]
Progress = Callable[[str], None]

FLASH_BAUDRATE = 460_800  # what `idf.py flash` uses
_CHIP = "esp32c3"
# esptool's errors are RuntimeErrors, pyserial's OSErrors, and ValueError where an RFC 2217 server refuses a request.
_FAILURES = (RuntimeError, OSError, ValueError)
# Each of esptool's four reset sequences for a local port once; the two for RFC 2217 twice.
_CONNECT_ATTEMPTS = 4
_DESCRIPTOR = struct.Struct("<I12x32s32s32x32s32s")  # esp_app_desc_t: magic, version, project, idf_ver, elf sha256
_DESCRIPTOR_OFFSET = 0x20
_DESCRIPTOR_MAGIC = 0xABCD5432


@dataclass(frozen=True)
class ImagePart:
    """Bytes for flash that are no file of the image set; ``repr`` does not show them."""

    name: str
    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class FlashedPart:
    """What became of one part. ``sha256`` is that of its bytes, in hexadecimal."""

    name: str
    offset: int
    size: int
    sha256: str
    action: Literal["written", "skipped", "not checked"]


@dataclass(frozen=True)
class AppInfo:
    """The application's descriptor (``esp_app_desc_t``). Empty texts where the image has none."""

    project: str
    version: str
    idf_version: str
    elf_sha256: str


@dataclass(frozen=True)
class FlashReport:
    """What was flashed. ``mac`` is as read from the chip, None where the loader was not entered."""

    mac: str | None
    chip: str
    parts: tuple[FlashedPart, ...]
    duration_s: float
    app: AppInfo


def flash(
    port: SerialPort,
    images: ImageSet,
    *,
    mac: str,
    extra: Sequence[ImagePart] = (),
    mode: Mode = "auto",
    on_progress: Progress | None = None,
    on_esptool: Progress | None = None,
    after: Literal["hard-reset", "no-reset"] = "hard-reset",
) -> FlashReport:
    """Bring the board's flash to *images* and *extra*.

    The chip's type and MAC are compared before anything is written. Mode ``auto`` leaves parts alone whose MD5 in flash
    is already right, ``always`` writes all, ``never`` neither enters the loader nor touches the port. What is written
    is verified by its MD5. Flash parameters in the bootloader's header are kept as built. *after* is esptool's word:
    ``no-reset`` leaves the chip in the loader, for callers that want to listen before it starts. *on_progress* is
    told a line for each part, *on_esptool* all that esptool has to say. Nothing else may read the port meanwhile.

    Raises WrongBoard, BenchError (port, connection, image set), DeviceError (the chip refused or failed to store).
    """
    started_s = now_s()
    parts = _collect(images, extra)
    app = _app_info(images)
    if mode == "never":
        flashed = tuple(_flashed(part, "not checked") for part in parts)
        return FlashReport(mac=None, chip=images.chip, parts=flashed, duration_s=now_s() - started_s, app=app)
    with _esptool_output_to(on_esptool):
        try:
            loader = _connect(port)
            found = _read_mac(port, loader)
            _check_mac(port, expected=mac, found=found)
            flashed = tuple(_update(port, loader, parts, mode, on_progress))
        finally:
            port.restore()
            if after == "hard-reset":
                port.hard_reset()
    return FlashReport(mac=found, chip=images.chip, parts=flashed, duration_s=now_s() - started_s, app=app)


def _collect(images: ImageSet, extra: Sequence[ImagePart]) -> list[ImagePart]:
    if images.chip != _CHIP:
        raise ConfigError(f"{images.directory}: is built for {images.chip}; this rig flashes {_CHIP}, build for that")
    files = [ImagePart(file.name, file.offset, _read(file)) for file in images.files]
    parts = sorted([*files, *extra], key=lambda part: part.offset)
    for first, second in itertools.pairwise(parts):
        if first.offset + len(first.data) > second.offset:
            raise ConfigError(
                f"{images.directory}: {second.name} at {second.offset:#x} starts before {first.name} ends; "
                "correct the partition table"
            )
    return parts


def _read(file: ImageFile) -> bytes:
    try:
        return file.path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file.path}: cannot be read ({error.strerror}); build the firmware again") from None


def _app_info(images: ImageSet) -> AppInfo:
    """Read the descriptor only, not the image: whether the image is sound is for the device to judge."""
    data = _read(images.app)[_DESCRIPTOR_OFFSET:]
    if len(data) < _DESCRIPTOR.size:
        return AppInfo("", "", "", "")
    magic, version, project, idf_version, elf_sha256 = _DESCRIPTOR.unpack_from(data)
    if magic != _DESCRIPTOR_MAGIC:
        return AppInfo("", "", "", "")
    return AppInfo(_text(project), _text(version), _text(idf_version), elf_sha256.hex())


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def _flashed(part: ImagePart, action: Literal["written", "skipped", "not checked"]) -> FlashedPart:
    sha256 = hashlib.sha256(part.data).hexdigest()
    return FlashedPart(name=part.name, offset=part.offset, size=len(part.data), sha256=sha256, action=action)


def _connect(port: SerialPort) -> Any:
    from esptool.targets import ESP32C3ROM

    try:
        rom = ESP32C3ROM(port.raw, CONSOLE_BAUDRATE)
        rom.USES_RFC2217 = port.url.lower().startswith("rfc2217:")
        rom.connect("default-reset", _CONNECT_ATTEMPTS)
    except _FAILURES as error:
        raise BenchError(
            f"port {port.url}: no connection to the chip's loader: {_first_line(error)}; check the cable, that the "
            "board has power, and that DTR and RTS reach EN and GPIO9 (or hold BOOT while resetting)"
        ) from error
    return rom


def _read_mac(port: SerialPort, loader: Any) -> str:
    try:
        return ":".join(f"{byte:02x}" for byte in loader.read_mac("BASE_MAC"))
    except _FAILURES as error:
        raise BenchError(
            f"port {port.url}: the chip does not tell its MAC: {_first_line(error)}; check the cable"
        ) from error


def _check_mac(port: SerialPort, *, expected: str, found: str) -> None:
    if found != expected.lower():
        raise WrongBoard(
            f"port {port.url}: the board there is {found}, the bench names {expected.lower()}; nothing was written. "
            "Correct the port or the MAC in the bench file"
        )


def _update(
    port: SerialPort, rom: Any, parts: Sequence[ImagePart], mode: Mode, on_progress: Progress | None
) -> Iterator[FlashedPart]:
    from esptool.cmds import attach_flash, run_stub, write_flash

    part = parts[0]
    try:
        loader = run_stub(rom)
        attach_flash(loader)
        for part in parts:
            if mode == "auto" and _in_flash(loader, part):
                _tell(on_progress, f"{part.name} at {part.offset:#x}: already in flash")
                yield _flashed(part, "skipped")
                continue
            if loader.get_baud() < FLASH_BAUDRATE:
                loader.change_baud(FLASH_BAUDRATE)
            _tell(on_progress, f"{part.name} at {part.offset:#x}: writing {len(part.data)} bytes")
            # Verifies by MD5 and raises where it differs; all parameters of the header default to "keep".
            write_flash(loader, [(part.offset, part.data)])
            yield _flashed(part, "written")
    except _FAILURES as error:
        raise _flash_error(port, part, error) from error


def _in_flash(loader: Any, part: ImagePart) -> bool:
    digest = hashlib.md5(part.data, usedforsecurity=False).hexdigest()
    return bool(loader.flash_md5sum(part.offset, len(part.data)) == digest)


def _flash_error(port: SerialPort, part: ImagePart, error: Exception) -> BenchError | DeviceError:
    """Tell a chip that answered "failed", or stored something else, from a link that broke."""
    text = _first_line(error)
    if any(word in str(error) for word in ("result was", "MD5 of file", "Write failed", "Guru Meditation")):
        return DeviceError(f"port {port.url}: the board failed to store {part.name} at {part.offset:#x}: {text}")
    link_broke = isinstance(error, OSError) or "serial" in text.lower() or "packet" in text.lower()
    hint = "check the cable" if link_broke else "check the image set"
    return BenchError(f"port {port.url}: flashing {part.name} at {part.offset:#x} broke off: {text}; {hint}")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")


def _tell(on_progress: Progress | None, text: str) -> None:
    if on_progress is not None:
        on_progress(text)


_listener: ContextVar[Progress | None] = ContextVar("esptool_listener", default=None)


@contextmanager
def _esptool_output_to(listener: Progress | None) -> Iterator[None]:
    """Send what esptool would print to *listener*, for this thread.

    esptool has one logger for the whole process, so it is replaced once, for good, by one that asks who listens: two
    boards can then be flashed at a time.
    """
    from esptool.logger import EsptoolLogger, TemplateLogger

    TemplateLogger.register(_RoutedLogger)
    EsptoolLogger().set_logger(_RoutedLogger())
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class _RoutedLogger:
    """esptool's logger interface (esptool, "Scripting", "Redirecting Output with a Custom Logger")."""

    def print(self, *args: object, **_: object) -> None:
        text = " ".join(str(arg) for arg in args).strip(" .\n")
        if text:
            _tell(_listener.get(), text)

    def note(self, message: str) -> None:
        self.print(f"note: {message}")

    def warning(self, message: str) -> None:
        self.print(f"warning: {message}")

    def error(self, message: str) -> None:
        self.print(f"error: {message}")

    def warn(self, message: str, **_: object) -> None:
        self.warning(message)

    def err(self, message: str, **_: object) -> None:
        self.error(message)

    def debug(self, *args: object) -> None:
        """Drop what esptool itself shows only when asked to be verbose."""

    def stage(self, finish: bool = False) -> None:
        """Nothing to fold: there is no terminal behind this."""

    def progress_bar(self, cur_iter: int, total_iters: int, prefix: str = "", **_: object) -> None:
        self.print(f"{prefix} {100 * cur_iter // max(total_iters, 1)} %")

    def set_verbosity(self, verbosity: str) -> None:
        """Keep telling all: whoever listens chooses what to show."""
