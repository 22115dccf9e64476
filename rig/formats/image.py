"""ESP32-C3 application and bootloader images: parse, verify, build, and the host program carried in one.

Layout (ESP-IDF, `esp_app_format.h` and `esp_app_desc.h`; esptool, "Firmware Image Format"): a header of 24 bytes; for
each segment its load address, its length and its data; one XOR checksum in the last byte of a block of 16; the
SHA-256 of all that. The application descriptor is the first thing in the first segment.

An image for the virtual bench is a valid ESP32-C3 image whose read-only data holds, after the descriptor, an ELF
program for the host. Its RISC-V code is an endless loop: a real chip that boots it does nothing.
"""

import hashlib
import struct
from dataclasses import dataclass

from rig.errors import BenchError

IMAGE_MAGIC = 0xE9
CHIP_ID_ESP32C3 = 5
MAX_SEGMENTS = 16
MAX_SEGMENT_BYTES = 0x1000000
APP_DESCRIPTOR_MAGIC = 0xABCD5432
BOOTLOADER_DESCRIPTOR_MAGIC = 0x50

_HEADER = struct.Struct("<BBBBIB3sHBHH4sB")
_SEGMENT = struct.Struct("<II")
_APP_DESCRIPTOR = struct.Struct("<II8x32s32s16s16s32s32s80x")
_BOOTLOADER_DESCRIPTOR = struct.Struct("<B3xI32s24s16x")
_HOST_MAGIC = b"HOST-ELF"
_HOST_HEADER = struct.Struct("<8sI32s")

_DROM_ADDRESS = 0x3C000020
_IROM_ADDRESS = 0x42000000
_IRAM_ADDRESS = 0x40380000
_MMU_PAGE_BYTES = 0x10000
_ENDLESS_LOOP = bytes.fromhex("6f000000")  # RISC-V "j ."
_IDF_VERSION = "v5.3.1"
_DIO_MODE = 2
_SIZE_4MB_FREQ_80MHZ = 0x2F
_MIN_REVISION = 3
_MAX_REVISION = 199


class ImageError(BenchError):
    """The bytes are not a sound ESP32-C3 image."""


class ImageMagicError(ImageError):
    """The first byte is not the magic of an image. ``found`` is that byte (0xFF where nothing is flashed)."""

    def __init__(self, found: int) -> None:
        self.found = found
        super().__init__(f"image: magic byte is 0x{found:02x}, not 0x{IMAGE_MAGIC:02x}; this is no ESP32 image")


class ImageChipError(ImageError):
    """The image was built for another chip; ``found`` is its chip id."""

    def __init__(self, found: int) -> None:
        self.found = found
        super().__init__(f"image: built for chip id {found}, not {CHIP_ID_ESP32C3} (ESP32-C3); rebuild for esp32c3")


class ImageRevisionError(ImageError):
    """The image needs a later silicon revision. Both revisions are major * 100 + minor."""

    def __init__(self, required: int, revision: int) -> None:
        self.required = required
        self.revision = revision
        super().__init__(
            f"image: needs chip revision {revision_text(required)} or later, the chip is {revision_text(revision)}; "
            "lower CONFIG_ESP32C3_REV_MIN"
        )


class ImageSegmentError(ImageError):
    """A segment is impossible. ``detail`` is worded as ESP-IDF's loader words it."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(f"image: {detail}; the file is cut short or damaged")


class ImageChecksumError(ImageError):
    """The XOR checksum over the segments' data does not match."""

    def __init__(self, calculated: int, stored: int) -> None:
        self.calculated = calculated
        self.stored = stored
        super().__init__(f"image: checksum is 0x{stored:02x}, the data give 0x{calculated:02x}; the image is damaged")


class ImageHashError(ImageError):
    """The appended SHA-256 does not match."""

    def __init__(self) -> None:
        super().__init__("image: the appended SHA-256 does not match; the image is damaged")


@dataclass(frozen=True)
class AppDescriptor:
    """What the application says about itself (``esp_app_desc_t``)."""

    project: str
    version: str
    idf_version: str
    elf_sha256: bytes
    date: str
    time: str


@dataclass(frozen=True)
class Segment:
    """One segment: where it is loaded, where its data start in the image, and the data."""

    load_address: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Image:
    """A verified image. ``length`` counts all of its bytes, the checksum and the SHA-256 included."""

    entry: int
    flash_mode: int
    flash_size_frequency: int
    min_revision: int
    max_revision: int
    segments: tuple[Segment, ...]
    checksum: int
    sha256: bytes | None
    length: int
    app: AppDescriptor | None


def revision_text(revision: int) -> str:
    """Return a revision number (major * 100 + minor) as people write it: ``v0.4``."""
    return f"v{revision // 100}.{revision % 100}"


def xor_checksum(data: bytes, seed: int = 0xEF) -> int:
    """Return the XOR of all bytes of *data* and *seed* (esptool's ``ESP_CHECKSUM_MAGIC``).

    The number is folded in halves, which costs two passes over the data instead of a step of Python for each byte.
    """
    bits = 8
    while bits < len(data) * 8:
        bits *= 2
    folded = int.from_bytes(data, "little")
    while bits > 8:
        bits //= 2
        folded = (folded >> bits) ^ (folded & ((1 << bits) - 1))
    return folded ^ seed


def parse(data: bytes, *, revision: int | None = None, verify_hash: bool = True) -> Image:
    """Read and verify the image at the start of *data*; what follows it is ignored.

    The checks come in the order of ESP-IDF's second-stage loader: magic, chip id, revision, segments, checksum,
    SHA-256. *revision* is the chip's (major * 100 + minor), None to accept any; ``verify_hash=False`` is what the mask
    ROM does with the bootloader. Raises a subclass of ImageError.
    """
    if not data or data[0] != IMAGE_MAGIC:
        raise ImageMagicError(data[0] if data else 0xFF)
    if len(data) < _HEADER.size:
        raise ImageSegmentError(f"header needs {_HEADER.size} bytes, there are {len(data)}")
    header = _HEADER.unpack_from(data)
    _, count, mode, size_frequency, entry, _, _, chip_id, _, min_revision, max_revision, _, hash_appended = header
    if chip_id != CHIP_ID_ESP32C3:
        raise ImageChipError(chip_id)
    if revision is not None and revision < min_revision:
        raise ImageRevisionError(min_revision, revision)
    segments, end = _read_segments(data, count)
    checksum, end = _verify_checksum(data, segments, end)
    sha256 = _read_hash(data, end, verify=verify_hash) if hash_appended == 1 else None
    return Image(
        entry=entry,
        flash_mode=mode,
        flash_size_frequency=size_frequency,
        min_revision=min_revision,
        max_revision=max_revision,
        segments=segments,
        checksum=checksum,
        sha256=sha256,
        length=end + (len(sha256) if sha256 is not None else 0),
        app=_read_app_descriptor(segments[0].data) if segments else None,
    )


def host_elf(image: Image) -> bytes | None:
    """Return the host program that *image* carries, or None when it is an ordinary RISC-V image."""
    if image.app is None:
        return None
    data = image.segments[0].data
    start = _APP_DESCRIPTOR.size + _HOST_HEADER.size
    if len(data) < start:
        return None
    magic, length, sha256 = _HOST_HEADER.unpack_from(data, _APP_DESCRIPTOR.size)
    elf = data[start : start + length]
    if magic != _HOST_MAGIC or hashlib.sha256(elf).digest() != sha256:
        return None
    return elf


def build_host_image(elf: bytes, *, project: str, version: str) -> bytes:
    """Return an ESP32-C3 application image that carries the host program *elf*.

    *project* and *version* go into the application descriptor (31 bytes of UTF-8 each; more is an ImageError). Date
    and time stay empty, as in ESP-IDF's reproducible builds: equal input gives equal bytes.
    """
    sha256 = hashlib.sha256(elf).digest()
    descriptor = _APP_DESCRIPTOR.pack(
        APP_DESCRIPTOR_MAGIC, 0, _text(version, 32), _text(project, 32), b"", b"", _text(_IDF_VERSION, 32), sha256
    )
    rodata = _padded(descriptor + _HOST_HEADER.pack(_HOST_MAGIC, len(elf), sha256) + elf)
    loop = _ENDLESS_LOOP * 4
    # The MMU maps whole pages, so an address in flash must equal its place in the image modulo the page size; data and
    # code share one table of pages, so the code's page comes after the last one of the data.
    code_offset = _HEADER.size + 3 * _SEGMENT.size + len(rodata) + len(loop)
    code_page = (_DROM_ADDRESS + len(rodata)) // _MMU_PAGE_BYTES % 0x80 + 1
    code_address = _IROM_ADDRESS + code_page * _MMU_PAGE_BYTES + code_offset % _MMU_PAGE_BYTES
    return _build(_IRAM_ADDRESS, [(_DROM_ADDRESS, rodata), (_IRAM_ADDRESS, loop), (code_address, loop)])


def build_bootloader() -> bytes:
    """Return a second-stage bootloader image: real layout and load addresses, no code worth running."""
    descriptor = _BOOTLOADER_DESCRIPTOR.pack(BOOTLOADER_DESCRIPTOR_MAGIC, 1, _text(_IDF_VERSION, 32), b"")
    data = descriptor + bytes(0x1738 - len(descriptor))
    code = _ENDLESS_LOOP * (0x968 // 4)
    loader = _ENDLESS_LOOP * (0x2F9C // 4)
    return _build(0x403CC71A, [(0x3FCD5820, data), (0x403CC710, code), (0x403CE710, loader)])


def _read_segments(data: bytes, count: int) -> tuple[tuple[Segment, ...], int]:
    if count > MAX_SEGMENTS:
        raise ImageSegmentError(f"segment count {count} exceeds max {MAX_SEGMENTS}")
    segments = []
    position = _HEADER.size
    for _ in range(count):
        if position + _SEGMENT.size > len(data):
            raise ImageSegmentError(f"Image length {position + _SEGMENT.size} doesn't fit in length {len(data)}")
        address, length = _SEGMENT.unpack_from(data, position)
        position += _SEGMENT.size
        if length % 4 or length >= MAX_SEGMENT_BYTES:
            raise ImageSegmentError(f"invalid segment length 0x{length:x}")
        if position + length > len(data):
            raise ImageSegmentError(f"Image length {position + length} doesn't fit in length {len(data)}")
        segments.append(Segment(address, position, bytes(data[position : position + length])))
        position += length
    return tuple(segments), position


def _verify_checksum(data: bytes, segments: tuple[Segment, ...], end: int) -> tuple[int, int]:
    position = end | 0xF
    if position >= len(data):
        raise ImageSegmentError(f"Image length {position + 1} doesn't fit in length {len(data)}")
    calculated = _segments_checksum([segment.data for segment in segments])
    if calculated != data[position]:
        raise ImageChecksumError(calculated, data[position])
    return calculated, position + 1


def _read_hash(data: bytes, end: int, *, verify: bool) -> bytes:
    stored = bytes(data[end : end + 32])
    if len(stored) < 32:
        raise ImageSegmentError(f"Image length {end + 32} doesn't fit in length {len(data)}")
    if verify and hashlib.sha256(data[:end]).digest() != stored:
        raise ImageHashError
    return stored


def _read_app_descriptor(data: bytes) -> AppDescriptor | None:
    if len(data) < _APP_DESCRIPTOR.size:
        return None
    magic, _, version, project, time, date, idf_version, elf_sha256 = _APP_DESCRIPTOR.unpack_from(data)
    if magic != APP_DESCRIPTOR_MAGIC:
        return None
    return AppDescriptor(
        project=_string(project),
        version=_string(version),
        idf_version=_string(idf_version),
        elf_sha256=elf_sha256,
        date=_string(date),
        time=_string(time),
    )


def _build(entry: int, segments: list[tuple[int, bytes]]) -> bytes:
    header = _HEADER.pack(
        IMAGE_MAGIC,
        len(segments),
        _DIO_MODE,
        _SIZE_4MB_FREQ_80MHZ,
        entry,
        0xEE,  # no write-protect pin
        bytes(3),
        CHIP_ID_ESP32C3,
        _MIN_REVISION,
        _MIN_REVISION,
        _MAX_REVISION,
        bytes(4),
        1,
    )
    body = header + b"".join(_SEGMENT.pack(address, len(data)) + data for address, data in segments)
    body += bytes(15 - len(body) % 16) + bytes([_segments_checksum([data for _, data in segments])])
    return body + hashlib.sha256(body).digest()


def _segments_checksum(parts: list[bytes]) -> int:
    checksum = 0xEF
    for part in parts:
        checksum = xor_checksum(part, checksum)
    return checksum


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _text(text: str, size: int) -> bytes:
    encoded = text.encode()
    if len(encoded) >= size or b"\0" in encoded:
        raise ImageError(f"image: {text!r} does not fit into a descriptor field of {size - 1} bytes; shorten it")
    return encoded


def _string(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")
