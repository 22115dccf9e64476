"""Flashing through esptool's Python API: identity first, then only what differs, then proof by MD5."""

import hashlib
import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rig.board.loader import CHIP, FAILURES, Progress, check_mac, connect, esptool_output_to, first_line, read_mac, tell
from rig.board.recovery import Recovery
from rig.board.serialport import SerialPort
from rig.clock import now_s
from rig.errors import BenchError, ConfigError, DeviceError
from rig.formats.flasher_args import ImageFile, ImageSet

Mode = Literal["auto", "always", "never"]
FLASH_BAUDRATE = 460_800  # what `idf.py flash` uses
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
    recovery: Recovery | None = None,
) -> FlashReport:
    """Bring the board's flash to *images* and *extra*.

    The chip's type and MAC are compared before anything is written. Mode ``auto`` leaves parts alone whose MD5 in flash
    is already right, ``always`` writes all, ``never`` neither enters the loader nor touches the port. What is written
    is verified by its MD5. Flash parameters in the bootloader's header are kept as built. *after* is esptool's word:
    ``no-reset`` leaves the chip in the loader, for callers that want to listen before it starts. *on_progress* is
    told a line for each part, *on_esptool* all that esptool has to say. Nothing else may read the port meanwhile.
    *recovery*: what may be used to reach a board that does not answer, and who is told of it.

    Raises WrongBoard, BoardDead, BenchError (port, connection, image set), DeviceError (the chip refused or failed to
    store).
    """
    started_s = now_s()
    parts = _collect(images, extra)
    app = _app_info(images)
    if mode == "never":
        flashed = tuple(_flashed(part, "not checked") for part in parts)
        return FlashReport(mac=None, chip=images.chip, parts=flashed, duration_s=now_s() - started_s, app=app)
    with esptool_output_to(on_esptool):
        try:
            loader = connect(port, recovery)
            found = read_mac(port, loader)
            check_mac(port, expected=mac, found=found)
            flashed = tuple(_update(port, loader, parts, mode, on_progress))
        finally:
            port.restore()
            if after == "hard-reset":
                port.hard_reset()
    return FlashReport(mac=found, chip=images.chip, parts=flashed, duration_s=now_s() - started_s, app=app)


def _collect(images: ImageSet, extra: Sequence[ImagePart]) -> list[ImagePart]:
    if images.chip != CHIP:
        raise ConfigError(f"{images.directory}: is built for {images.chip}; this rig flashes {CHIP}, build for that")
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
                tell(on_progress, f"{part.name} at {part.offset:#x}: already in flash")
                yield _flashed(part, "skipped")
                continue
            if loader.get_baud() < FLASH_BAUDRATE:
                loader.change_baud(FLASH_BAUDRATE)
            tell(on_progress, f"{part.name} at {part.offset:#x}: writing {len(part.data)} bytes")
            # Verifies by MD5 and raises where it differs; all parameters of the header default to "keep".
            write_flash(loader, [(part.offset, part.data)])
            yield _flashed(part, "written")
    except FAILURES as error:
        raise _flash_error(port, part, error) from error


def _in_flash(loader: Any, part: ImagePart) -> bool:
    digest = hashlib.md5(part.data, usedforsecurity=False).hexdigest()
    return bool(loader.flash_md5sum(part.offset, len(part.data)) == digest)


def _flash_error(port: SerialPort, part: ImagePart, error: Exception) -> BenchError | DeviceError:
    """Tell a chip that answered "failed", or stored something else, from a link that broke."""
    text = first_line(error)
    if any(word in str(error) for word in ("result was", "MD5 of file", "Write failed", "Guru Meditation")):
        return DeviceError(f"port {port.url}: the board failed to store {part.name} at {part.offset:#x}: {text}")
    link_broke = isinstance(error, OSError) or "serial" in text.lower() or "packet" in text.lower()
    hint = "check the cable" if link_broke else "check the image set"
    return BenchError(f"port {port.url}: flashing {part.name} at {part.offset:#x} broke off: {text}; {hint}")
