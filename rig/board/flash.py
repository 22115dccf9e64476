"""Flashing through esptool's Python API: identity first, then only what differs, then proof by MD5.

What differs is found by MD5 sums that the chip makes of its own flash. Of each part as a whole, by the mask ROM: where
all are right, nothing has to be uploaded to the chip. Then, by esptool's stub, of blocks of 64 KiB and of sectors of
4 KiB in them. At 460800 baud a sector costs 90 ms on the wire and 45 ms to erase, asking for the sum of one a round
trip of some milliseconds. On a virtual board with the line's and the flash's own times, an application of 1 MiB with
three sectors changed took 3 s instead of 25 s, and one changed everywhere no longer than without asking. (What a real
chip needs for a sum is not in these figures.)
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from rig.board.loader import FAILURES, Progress, check_mac, connect, esptool_output_to, first_line, read_mac, tell
from rig.board.recovery import Recovery
from rig.board.serialport import SerialPort
from rig.clock import now_s
from rig.errors import BenchError, ConfigError, DeviceError
from rig.formats.checks import check_image_set
from rig.formats.flasher_args import ImageSet
from rig.formats.image import AppDescriptor, read_app_descriptor

Mode = Literal["auto", "always", "never"]
After = Literal["hard-reset", "no-reset"]
Action = Literal["written", "skipped", "not checked"]
FLASH_BAUDRATE = 460_800  # what `idf.py flash` uses
SECTOR_BYTES = 0x1000  # the least that flash can erase
_BLOCK_BYTES = 0x10000
MAX_FLASH_BYTES = 16 << 20  # what an ESP32-C3 can address
_WORD_BYTES = 4  # esptool writes and verifies whole words
# An interrupted flash should leave a board that does not start and says why, never one that runs a mixture and looks
# well. So the application goes first: from its first sector on, until its last one is written, the bootloader refuses
# it by its SHA-256. After that the new application runs at worst with what was there before; the other way round the
# old one would run with the new key, and answer as if it were the new one. Partition table and bootloader come last:
# with the old ones a new application still starts or is refused by name, while with a new table and old contents a
# board could find the wrong data where its own should be. The mask ROM's loader is there whatever the flash holds.
_WRITING_ORDER = {"app": 0, "partition-table": 2, "bootloader": 3}
_ALL_THE_REST = 1
# What the ROM (01xx) and the stub (Cx00) answer when it is the flash chip that does not do what it is told.
_FLASH_FAILURE = re.compile(
    r"result was (?:0106|0108|0109|010A|C400|C500)|MD5 of file|Write failed|Guru Meditation", re.IGNORECASE
)


@dataclass(frozen=True)
class ImagePart:
    """Bytes for flash that are no file of the image set; ``repr`` does not show them."""

    name: str
    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class FlashedPart:
    """What became of one part.

    ``sha256`` is that of its bytes, in hexadecimal. ``written_bytes`` is how much of it had to be written: all, only
    the sectors that differed, or nothing. ``verified_md5`` is the MD5, in hexadecimal, that the chip gave for the whole
    part in flash at the end and that is right; None where the chip was not asked.
    """

    name: str
    offset: int
    size: int
    sha256: str
    action: Action
    written_bytes: int
    verified_md5: str | None


@dataclass(frozen=True)
class FlashReport:
    """What was flashed. ``mac`` is as read from the chip, None where the loader was not entered.

    ``app`` is what the application's image says about itself.
    """

    mac: str | None
    chip: str
    parts: tuple[FlashedPart, ...]
    duration_s: float
    app: AppDescriptor


def flash(
    port: SerialPort,
    images: ImageSet,
    *,
    mac: str,
    extra: Sequence[ImagePart] = (),
    mode: Mode = "auto",
    on_progress: Progress | None = None,
    on_esptool: Progress | None = None,
    after: After = "hard-reset",
    recovery: Recovery | None = None,
) -> FlashReport:
    """Bring the board's flash to *images* and *extra*.

    The chip's type and MAC are compared, and the image set is checked against its flash and revision, before anything
    is written. Mode ``auto`` writes only what differs, down to sectors of 4 KiB, ``always`` writes all, ``never``
    neither enters the loader nor touches the port. Every part is verified as a whole by its MD5. Flash parameters in
    the bootloader's header are kept as built. *extra* takes the place of what the image set has under the same name.

    *after* is esptool's word: ``no-reset`` leaves the chip in the loader, for callers that want to listen before it
    starts; so does a port without modem lines. *on_progress* is told a line for each part, *on_esptool* all that
    esptool has to say. Nothing else may read the port meanwhile. *recovery*: what may be used to reach a board that
    does not answer, and who is told of it.

    What breaks off half-way is finished by the next call: it asks the flash, not a memory of its own.

    Raises ConfigError (image set), WrongBoard, BoardDead, BenchError (port, connection), DeviceError (the chip refused
    or failed to store).
    """
    started_s = now_s()
    parts = _collect(images, extra)
    if mode == "never":
        check_image_set(images, flash_bytes=MAX_FLASH_BYTES)
        return _report(images, None, [_flashed(part, "not checked") for part in parts], started_s)
    with esptool_output_to(on_esptool), _lent(port, after):
        rom = connect(port, recovery)
        found = read_mac(port, rom)
        check_mac(port, expected=mac, found=found)
        loader = _prepared(port, rom)
        _check_against_chip(port, loader, images, parts)
        flashed = _update(port, rom, loader, parts, mode, on_progress)
    return _report(images, found, flashed, started_s)


def overwrite(
    port: SerialPort, part: ImagePart, *, mac: str, recovery: Recovery | None = None, after: After = "hard-reset"
) -> None:
    """Write one part as it is: nothing asks whether the board will start with it.

    For tests of what a board refuses to start. The rest is as for :func:`flash`, which puts the board right again.
    """
    with esptool_output_to(None), _lent(port, after):
        rom = connect(port, recovery)
        check_mac(port, expected=mac, found=read_mac(port, rom))
        _update(port, rom, _prepared(port, rom), [part], "auto", None)


def read_flash(
    port: SerialPort,
    places: Sequence[tuple[int, int]],
    *,
    mac: str,
    recovery: Recovery | None = None,
    after: After = "hard-reset",
) -> tuple[bytes, ...]:
    """Read flash at each of *places*, offset and size in bytes; the board restarts as *after* says.

    Raises WrongBoard, BoardDead, BenchError.
    """
    from esptool.cmds import read_flash as read

    with esptool_output_to(None), _lent(port, after):
        rom = connect(port, recovery)
        check_mac(port, expected=mac, found=read_mac(port, rom))
        _prepared(port, rom)
        try:
            loader = _with_stub(rom)
            return tuple(bytes(read(loader, offset, size, no_progress=True)) for offset, size in places)
        except FAILURES as error:
            raise BenchError(f"port {port.url}: flash cannot be read: {first_line(error)}; check the cable") from error


@contextmanager
def _lent(port: SerialPort, after: After) -> Iterator[None]:
    """Bring the port back to the console's settings and start the board, whatever happens meanwhile."""
    try:
        yield
    except BaseException:
        with suppress(BenchError):  # what went wrong first is what counts
            port.close()  # the connection may be a broken one
            _give_back(port, after)
        raise
    _give_back(port, after)


def _give_back(port: SerialPort, after: After) -> None:
    port.restore()
    if after == "hard-reset" and port.has_reset_lines:
        port.hard_reset()


def _report(images: ImageSet, mac: str | None, parts: Sequence[FlashedPart], started_s: float) -> FlashReport:
    app = read_app_descriptor(images.app.read())
    assert app is not None  # an image set without one has been refused
    return FlashReport(mac=mac, chip=images.chip, parts=tuple(parts), duration_s=now_s() - started_s, app=app)


def _collect(images: ImageSet, extra: Sequence[ImagePart]) -> list[ImagePart]:
    replaced = {part.name for part in extra}
    files = [ImagePart(file.name, file.offset, file.read()) for file in images.files if file.name not in replaced]
    parts = sorted([*files, *extra], key=lambda part: part.offset)
    for first, second in itertools.pairwise(parts):
        if first.offset + len(first.data) > second.offset // SECTOR_BYTES * SECTOR_BYTES:
            raise ConfigError(
                f"{images.source}: {second.name} at {second.offset:#x} starts before {first.name} ends, or in the "
                "same sector of 4 KiB, which is erased as a whole; correct the partition table"
            )
    return parts


def _prepared(port: SerialPort, rom: Any) -> Any:
    """Make the flash chip ready, and return the loader that runs: the ROM's, or a stub that nothing has reset."""
    from esptool.cmds import run_stub

    _speed_up_esptool()
    try:
        loader = run_stub(rom) if rom.sync_stub_detected else rom
        _attach(loader)
    except FAILURES as error:
        raise BenchError(
            f"port {port.url}: no access to the flash chip: {first_line(error)}; check the cable"
        ) from error
    return loader


def _check_against_chip(port: SerialPort, loader: Any, images: ImageSet, parts: Sequence[ImagePart]) -> None:
    """Raise ConfigError when the flash or the chip cannot take the image set."""
    try:
        flash_bytes = _flash_bytes(loader)
        revision = loader.get_chip_revision()
    except FAILURES as error:
        raise BenchError(
            f"port {port.url}: the chip cannot be examined: {first_line(error)}; check the cable"
        ) from error
    check_image_set(images, flash_bytes=flash_bytes, revision=revision)
    for part in parts:
        if part.offset + len(part.data) > flash_bytes:
            raise ConfigError(
                f"{part.name} at {part.offset:#x}: {len(part.data)} bytes do not fit into the board's flash of "
                f"{flash_bytes} bytes; correct the partition table, nothing was written"
            )


def _flashed(part: ImagePart, action: Action, written_bytes: int = 0) -> FlashedPart:
    return FlashedPart(
        name=part.name,
        offset=part.offset,
        size=len(part.data),
        sha256=hashlib.sha256(part.data).hexdigest(),
        action=action,
        written_bytes=written_bytes,
        verified_md5=None if action == "not checked" else _md5(_stored(part)),
    )


def _update(
    port: SerialPort, rom: Any, loader: Any, parts: Sequence[ImagePart], mode: Mode, on_progress: Progress | None
) -> list[FlashedPart]:
    """Bring *parts*, which are in the order of their offsets, into flash, and return what became of each."""
    from esptool.cmds import reset_chip

    flashed: dict[int, FlashedPart] = {}
    part = parts[0]
    try:
        for part in parts:
            if mode == "auto" and _in_flash(loader, part.offset, _stored(part)):
                tell(on_progress, f"{part.name} at {part.offset:#x}: already in flash")
                flashed[part.offset] = _flashed(part, "skipped")
        differing = [part for part in parts if part.offset not in flashed]
        if differing:
            loader = _with_stub(rom)
        for part in sorted(differing, key=lambda part: _WRITING_ORDER.get(part.name, _ALL_THE_REST)):
            flashed[part.offset] = _flashed(part, "written", _write(port, loader, part, mode, on_progress))
        if not port.has_reset_lines:
            reset_chip(loader, "no-reset")  # out of the stub, into the ROM's loader: the next session begins there
    except FAILURES as error:
        raise _flash_error(port, part, error) from error
    return [flashed[part.offset] for part in parts]


def _speed_up_esptool() -> None:
    """Spare esptool the texts of its trace, which it makes of every packet and then drops: 0.8 s for each MiB.

    Replaced for the whole process and for good, because boards are flashed in several threads.
    """
    import esptool.loader

    esptool.loader.HexFormatter = len


def _attach(loader: Any) -> None:
    """Make the flash chip ready and tell the loader its size, as esptool's command line does."""
    from esptool.cmds import attach_flash

    attach_flash(loader)
    loader.flash_set_parameters(_flash_bytes(loader))


def _flash_bytes(loader: Any) -> int:
    """Return the size that the flash chip tells. Raises RuntimeError where esptool does not know the chip."""
    from esptool.cmds import detect_flash_size
    from esptool.util import flash_size_bytes

    size = detect_flash_size(loader)
    if size is None:
        raise RuntimeError(f"flash chip {loader.flash_id():#08x} does not tell its size")
    return int(flash_size_bytes(size))


def _with_stub(rom: Any) -> Any:
    from esptool.cmds import run_stub

    loader = run_stub(rom)
    _attach(loader)
    # esptool would answer a broken link with a connection of its own, to whatever board is there then.
    loader.WRITE_FLASH_ATTEMPTS = 1
    if loader.get_baud() < FLASH_BAUDRATE:
        loader.change_baud(FLASH_BAUDRATE)
    return loader


def _write(port: SerialPort, loader: Any, part: ImagePart, mode: Mode, on_progress: Progress | None) -> int:
    """Write what differs, verify the whole part, and return how many bytes of it were written."""
    from esptool.cmds import write_flash

    data = _stored(part)
    runs = [range(len(data))]
    if mode == "auto" and part.offset % SECTOR_BYTES == 0:
        runs = _differing(len(data), lambda run: _in_flash(loader, part.offset + run.start, data[run.start : run.stop]))
    written_bytes = min(sum(map(len, runs)), len(part.data))
    of_all = "" if written_bytes == len(part.data) else f" of {len(part.data)}"
    tell(on_progress, f"{part.name} at {part.offset:#x}: writing {written_bytes}{of_all} bytes")
    # Verifies each run by its MD5 and raises where it differs; all parameters of the header default to "keep".
    write_flash(loader, [(part.offset + run.start, data[run.start : run.stop]) for run in runs])
    if of_all and not _in_flash(loader, part.offset, data):
        raise DeviceError(f"{_failed_to_store(port, part)}: what was not written has changed meanwhile")
    return written_bytes


def _differing(size_bytes: int, in_flash: Callable[[range], bool]) -> list[range]:
    """Return the runs of sectors that have to be written, where *in_flash* says whether a run is right already."""
    runs: list[range] = []
    for block in _pieces(range(size_bytes), _BLOCK_BYTES):
        for sector in [] if in_flash(block) else _differing_sectors(block, in_flash):
            if runs and runs[-1].stop == sector.start:
                runs[-1] = range(runs[-1].start, sector.stop)
            else:
                runs.append(sector)
    return runs


def _differing_sectors(block: range, in_flash: Callable[[range], bool]) -> list[range]:
    """Return the sectors of a block that differ; all of them when first, middle and last do.

    A change that moves what comes after it leaves hardly a sector as it was, and one in place seldom meets all three.
    """
    sectors = _pieces(block, SECTOR_BYTES)
    samples = {sectors[0], sectors[len(sectors) // 2], sectors[-1]}
    same = {sector for sector in samples if in_flash(sector)}
    if not same:
        return sectors
    return [sector for sector in sectors if sector not in same and (sector in samples or not in_flash(sector))]


def _pieces(whole: range, size_bytes: int) -> list[range]:
    return [range(start, min(start + size_bytes, whole.stop)) for start in range(whole.start, whole.stop, size_bytes)]


def _in_flash(loader: Any, offset: int, data: bytes) -> bool:
    return bool(loader.flash_md5sum(offset, len(data)) == _md5(data))


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _stored(part: ImagePart) -> bytes:
    """Return the bytes of a part as esptool stores and verifies them: filled up to a whole word."""
    return part.data + b"\xff" * (-len(part.data) % _WORD_BYTES)


def _flash_error(port: SerialPort, part: ImagePart, error: Exception) -> BenchError | DeviceError:
    """Tell a chip that answered "failed", or stored something else, from a link that broke."""
    text = first_line(error)
    if _FLASH_FAILURE.search(str(error)):
        return DeviceError(f"{_failed_to_store(port, part)}: {text}")
    link_broke = isinstance(error, OSError | ValueError) or "serial" in text.lower() or "packet" in text.lower()
    hint = "check the cable, and flash again: what is in flash already will not be written twice"
    return BenchError(
        f"port {port.url}: flashing {part.name} at {part.offset:#x} broke off: {text}; "
        f"{hint if link_broke else 'check the image set'}"
    )


def _failed_to_store(port: SerialPort, part: ImagePart) -> str:
    return f"port {port.url}: the board failed to store {part.name} at {part.offset:#x}"
