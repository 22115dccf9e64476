"""ESP32-C3 application and bootloader images: parse, verify, build, and the host program carried in one.

Layout (ESP-IDF, `esp_app_format.h`, `esp_app_desc.h` and `esp_bootloader_desc.h`; esptool, "Firmware Image Format"): a
header of 24 bytes; for each segment its load address, its length and its data; one XOR checksum in the last byte of a
block of 16; the SHA-256 of all that. The descriptor of an application or a bootloader is the first thing in the first
segment.

An image for the virtual bench is a valid ESP32-C3 image whose read-only data holds, after the descriptor, an ELF
program for the host. Its RISC-V code is an endless loop: a real chip that boots it does nothing.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rig.errors import BenchError

IMAGE_MAGIC = 0xE9
CHIP_ID_ESP32C3 = 5
MAX_SEGMENTS = 16
MAX_SEGMENT_BYTES = 0x1000000
NO_MAX_REVISION = (0, 0xFFFF)
APP_DESCRIPTOR_MAGIC = 0xABCD5432
BOOTLOADER_DESCRIPTOR_MAGIC = 0x50
CHIP_NAMES = {
    0: "esp32",
    2: "esp32s2",
    CHIP_ID_ESP32C3: "esp32c3",
    9: "esp32s3",
    12: "esp32c2",
    13: "esp32c6",
    16: "esp32h2",
    18: "esp32p4",
    20: "esp32c61",
    23: "esp32c5",
    25: "esp32h21",
    28: "esp32h4",
}
"""``esp_chip_id_t``, in the words of ``idf.py set-target``."""

_HEADER = struct.Struct("<BBBBIB3sHBHH4sB")
_SEGMENT = struct.Struct("<II")
_APP_DESCRIPTOR = struct.Struct("<II8x32s32s16s16s32s32s80x")
_BOOTLOADER_DESCRIPTOR = struct.Struct("<B3xI32s24s16x")
_HOST_MAGIC = b"HOST-ELF"
_HOST_HEADER = struct.Struct("<8sI32s")
_HASH_BYTES = 32

_DESCRIPTOR_OFFSET = _HEADER.size + _SEGMENT.size
_SECURE_VERSION_OFFSET = _DESCRIPTOR_OFFSET + 4
DESCRIPTOR_DATE_OFFSET = _DESCRIPTOR_OFFSET + 96
_FLASH_MODES = {0: "QIO", 1: "QOUT", 2: "DIO", 3: "DOUT", 4: "FAST_READ", 5: "SLOW_READ"}
_FLASH_FREQUENCIES = {0x0: "40m", 0x1: "26m", 0x2: "20m", 0xF: "80m"}
_MAX_FLASH_SIZE_CODE = 7  # 128 MB
# ESP32-C3 Technical Reference Manual, "System and Memory"; names as esptool prints them.
_MEMORY = (
    (0x00000000, 0x00010000, "PADDING"),
    (0x3C000000, 0x3C800000, "DROM"),
    (0x3FC80000, 0x3FCE0000, "DRAM"),
    (0x4037C000, 0x403E0000, "IRAM"),
    (0x42000000, 0x42800000, "IROM"),
    (0x50000000, 0x50002000, "RTC_IRAM"),
)
_MAPPED = ("DROM", "IROM")

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
        super().__init__(
            f"image: magic byte is 0x{found:02x}, not 0x{IMAGE_MAGIC:02x}; "
            "this is no ESP32 image, or a damaged one: build it again"
        )


class ImageChipError(ImageError):
    """The image was built for another chip; ``found`` is its chip id."""

    def __init__(self, found: int) -> None:
        self.found = found
        super().__init__(f"image: built for chip id {found}, not {CHIP_ID_ESP32C3} (ESP32-C3); rebuild for esp32c3")


class ImageRevisionError(ImageError):
    """The chip's silicon revision is outside the image's range; revisions are major * 100 + minor.

    ``detail`` is worded as ESP-IDF's loader words it. ``bound`` is what the chip's revision would have to be.
    """

    def __init__(self, required: int, revision: int, bound: Literal[">=", "<="]) -> None:
        self.required = required
        self.revision = revision
        self.bound = bound
        needed, chip = revision_text(required), revision_text(revision)
        self.detail = f"Image requires chip rev {bound} {needed}, but chip is {chip}"
        option = "lower CONFIG_ESP32C3_REV_MIN" if bound == ">=" else "build it with an ESP-IDF that knows the chip"
        super().__init__(f"image: needs chip revision {bound} {needed}, the chip is {chip}; {option}")


class ImageSegmentError(ImageError):
    """A segment is impossible. ``detail`` is worded as ESP-IDF's loader words it."""

    def __init__(self, detail: str, advice: str = "the file is damaged, build it again") -> None:
        self.detail = detail
        super().__init__(f"image: {detail}; {advice}")


class ImageLengthError(ImageSegmentError):
    """The image is longer than its partition; both numbers in bytes."""

    def __init__(self, needed: int, available: int) -> None:
        self.needed = needed
        self.available = available
        super().__init__(
            f"Image length {needed} doesn't fit in partition length {available}",
            "make the partition larger or the application smaller",
        )


class ImageEndError(ImageSegmentError):
    """The bytes end before the image does; it needs ``needed`` of them or more."""

    def __init__(self, needed: int, available: int) -> None:
        self.needed = needed
        self.available = available
        super().__init__(
            f"Image length {needed} doesn't fit in length {available}", "the file is cut short, build it again"
        )


class ImageChecksumError(ImageError):
    """The XOR checksum over the segments' data does not match."""

    def __init__(self, calculated: int, stored: int) -> None:
        self.calculated = calculated
        self.stored = stored
        super().__init__(
            f"image: checksum is 0x{stored:02x}, the data give 0x{calculated:02x}; the image is damaged, build it again"
        )


class ImageHashError(ImageError):
    """The appended SHA-256 does not match."""

    def __init__(self, calculated: bytes, stored: bytes) -> None:
        self.calculated = calculated
        self.stored = stored
        super().__init__(
            f"image: the appended SHA-256 is {stored.hex()[:16]}..., the data give {calculated.hex()[:16]}...; "
            "the image is damaged, build it again"
        )


@dataclass(frozen=True)
class AppDescriptor:
    """What the application says about itself (``esp_app_desc_t``)."""

    project: str
    version: str
    idf_version: str
    elf_sha256: bytes
    date: str
    time: str
    secure_version: int


@dataclass(frozen=True)
class BootloaderDescriptor:
    """What the second-stage bootloader says about itself (``esp_bootloader_desc_t``)."""

    version: int
    idf_version: str
    date_time: str


@dataclass(frozen=True)
class Segment:
    """One segment: where it is loaded, where its data start in the image, and the data."""

    load_address: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Header:
    """The first 24 bytes. Revisions are major * 100 + minor; no field is judged."""

    segment_count: int
    flash_mode: int
    flash_size_frequency: int
    entry: int
    chip_id: int
    min_revision: int
    max_revision: int
    hash_appended: bool

    @property
    def chip(self) -> str:
        """The chip's name, for example esp32c3, or its number where that is unknown."""
        return CHIP_NAMES.get(self.chip_id, f"chip id {self.chip_id}")

    @property
    def flash_bytes(self) -> int | None:
        """The flash size the image was built for, None where the code for it is unknown."""
        code = self.flash_size_frequency >> 4
        return 1 << (20 + code) if code <= _MAX_FLASH_SIZE_CODE else None

    @property
    def flash_mode_name(self) -> str:
        """The flash mode in esptool's words, or its number."""
        return _FLASH_MODES.get(self.flash_mode, f"0x{self.flash_mode:02x}")

    @property
    def flash_frequency(self) -> str:
        """The flash clock in esptool's words, or its code."""
        code = self.flash_size_frequency & 0xF
        return _FLASH_FREQUENCIES.get(code, f"0x{code:x}")


@dataclass(frozen=True)
class Image(Header):
    """A verified image. ``length`` counts all of its bytes, the checksum and the SHA-256 included."""

    segments: tuple[Segment, ...]
    checksum: int
    sha256: bytes | None
    length: int
    app: AppDescriptor | None


@dataclass(frozen=True)
class Examination:
    """All that can be read of an image, sound or not.

    ``segments`` are those that can be read; ``checksum`` and ``sha256`` are (stored, calculated), None where there is
    none or the segments cannot be read; ``length`` in bytes, None where it cannot be told. ``errors`` is empty for a
    sound image, else in the order in which ESP-IDF's loader would find them.
    """

    header: Header
    segments: tuple[Segment, ...]
    checksum: tuple[int, int] | None
    sha256: tuple[bytes, bytes] | None
    length: int | None
    errors: tuple[ImageError, ...]


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


def read_header(data: bytes) -> Header:
    """Return the header at the start of *data*, unjudged. Raises ImageEndError where that is shorter."""
    if len(data) < _HEADER.size:
        raise ImageEndError(_HEADER.size, len(data))
    fields = _HEADER.unpack_from(data)
    _, count, mode, size_frequency, entry, _, _, chip_id, _, min_revision, max_revision, _, hash_appended = fields
    return Header(
        segment_count=count,
        flash_mode=mode,
        flash_size_frequency=size_frequency,
        entry=entry,
        chip_id=chip_id,
        min_revision=min_revision,
        max_revision=max_revision,
        hash_appended=bool(hash_appended),
    )


def read_app_descriptor(data: bytes) -> AppDescriptor | None:
    """Return the application descriptor of the image at the start of *data*, or None; nothing is verified."""
    if len(data) < _DESCRIPTOR_OFFSET + _APP_DESCRIPTOR.size:
        return None
    fields = _APP_DESCRIPTOR.unpack_from(data, _DESCRIPTOR_OFFSET)
    magic, secure_version, version, project, time, date, idf_version, elf_sha256 = fields
    if magic != APP_DESCRIPTOR_MAGIC:
        return None
    return AppDescriptor(
        project=_string(project),
        version=_string(version),
        idf_version=_string(idf_version),
        elf_sha256=elf_sha256,
        date=_string(date),
        time=_string(time),
        secure_version=secure_version,
    )


def read_bootloader_descriptor(data: bytes) -> BootloaderDescriptor | None:
    """Return the bootloader descriptor of the image at the start of *data*, or None; nothing is verified."""
    if len(data) < _DESCRIPTOR_OFFSET + _BOOTLOADER_DESCRIPTOR.size:
        return None
    magic, version, idf_version, date_time = _BOOTLOADER_DESCRIPTOR.unpack_from(data, _DESCRIPTOR_OFFSET)
    # The magic is one byte, which a stray file has by chance; the version is never empty, and text.
    idf_text = _string(idf_version)
    if magic != BOOTLOADER_DESCRIPTOR_MAGIC or not idf_text or not idf_text.isprintable():
        return None
    return BootloaderDescriptor(version, idf_text, _string(date_time))


def memory_region(address: int) -> str | None:
    """Return the name of the ESP32-C3's memory at *address*, as esptool names it, or None where there is none."""
    return next((name for start, end, name in _MEMORY if start <= address < end), None)


def is_mapped(segment: Segment) -> bool:
    """Tell whether *segment* stays in flash and is mapped into the address space, rather than loaded."""
    return memory_region(segment.load_address) in _MAPPED


def examine(
    data: bytes, *, revision: int | None = None, partition_bytes: int | None = None, address: int = 0
) -> Examination:
    """Read the image at the start of *data* and collect everything that ESP-IDF's loader would refuse.

    What follows the image is ignored. *revision* is the chip's (major * 100 + minor), None to accept any;
    *partition_bytes* is the room that the image has in flash, None for any; *address* is its place there, which some
    of the loader's texts name. Raises ImageEndError where there is not even a header, and no other error.
    """
    header = read_header(data)
    errors = list(_header_errors(data[0], header, revision))
    segments: list[Segment] = []
    try:
        for segment in _segments(data, header.segment_count, address):
            segments.append(segment)
        end = _end(segments) | 0xF
        _require(data, end + 1 + (_HASH_BYTES if header.hash_appended else 0))
    except ImageSegmentError as error:
        return Examination(header, tuple(segments), None, None, None, (*errors, error))
    checksum = data[end], _segments_checksum([segment.data for segment in segments])
    length, sha256 = end + 1, None
    if header.hash_appended:
        sha256 = bytes(data[length : length + _HASH_BYTES]), hashlib.sha256(data[:length]).digest()
        length += _HASH_BYTES
    errors += _mapping_errors(segments, address)
    if checksum[0] != checksum[1]:
        errors.append(ImageChecksumError(stored=checksum[0], calculated=checksum[1]))
    if partition_bytes is not None and length > partition_bytes:
        errors.append(ImageLengthError(length, partition_bytes))
    if sha256 is not None and sha256[0] != sha256[1]:
        errors.append(ImageHashError(stored=sha256[0], calculated=sha256[1]))
    return Examination(header, tuple(segments), checksum, sha256, length, tuple(errors))


def parse(
    data: bytes,
    *,
    revision: int | None = None,
    verify_hash: bool = True,
    verify_data: bool = True,
    partition_bytes: int | None = None,
    address: int = 0,
) -> Image:
    """Read and verify the image at the start of *data*; what follows it is ignored.

    The checks are those of `examine`, and so are the arguments; ``verify_hash=False`` is what the mask ROM does with
    the bootloader, ``verify_data=False`` looks at neither checksum nor SHA-256. Raises the subclass of ImageError for
    what ESP-IDF's loader would find first.
    """
    if data[:1] != bytes([IMAGE_MAGIC]):
        raise ImageMagicError(data[0] if data else 0xFF)
    found = examine(data, revision=revision, partition_bytes=partition_bytes, address=address)
    unasked: tuple[type[ImageError], ...] = () if verify_hash and verify_data else (ImageHashError,)
    unasked += () if verify_data else (ImageChecksumError,)
    for error in found.errors:
        if not isinstance(error, unasked):
            raise error
    assert found.checksum is not None
    assert found.length is not None
    return Image(
        **vars(found.header),
        segments=found.segments,
        checksum=found.checksum[0],
        sha256=found.sha256[0] if found.sha256 is not None else None,
        length=found.length,
        app=read_app_descriptor(data),
    )


def host_elf(image: Image | Examination) -> bytes | None:
    """Return the host program that *image* carries, or None when it is an ordinary RISC-V image."""
    data = image.segments[0].data if image.segments else b""
    start = _APP_DESCRIPTOR.size + _HOST_HEADER.size
    if len(data) < start:
        return None
    magic, length, sha256 = _HOST_HEADER.unpack_from(data, _APP_DESCRIPTOR.size)
    elf = data[start : start + length]
    if magic != _HOST_MAGIC or hashlib.sha256(elf).digest() != sha256:
        return None
    return elf


def build_host_image(elf: bytes, *, project: str, version: str, secure_version: int = 0) -> bytes:
    """Return an ESP32-C3 application image that carries the host program *elf*.

    *project* and *version* go into the application descriptor (31 bytes of UTF-8 each; more is an ImageError). Date
    and time stay empty, as in ESP-IDF's reproducible builds: equal input gives equal bytes.
    """
    sha256 = hashlib.sha256(elf).digest()
    descriptor = _APP_DESCRIPTOR.pack(
        APP_DESCRIPTOR_MAGIC,
        secure_version,
        _text(version, 32),
        _text(project, 32),
        b"",
        b"",
        _text(_IDF_VERSION, 32),
        sha256,
    )
    rodata = _padded(descriptor + _HOST_HEADER.pack(_HOST_MAGIC, len(elf), sha256) + elf)
    loop = _ENDLESS_LOOP * 4
    # The MMU maps whole pages, so an address in flash must equal its place in the image modulo the page size; data and
    # code share one table of pages, so the code's page comes after the last one of the data.
    code_offset = _HEADER.size + 3 * _SEGMENT.size + len(rodata) + len(loop)
    code_page = (_DROM_ADDRESS + len(rodata)) // _MMU_PAGE_BYTES % 0x80 + 1
    code_address = _IROM_ADDRESS + code_page * _MMU_PAGE_BYTES + code_offset % _MMU_PAGE_BYTES
    return _build(_IRAM_ADDRESS, [(_DROM_ADDRESS, rodata), (_IRAM_ADDRESS, loop), (code_address, loop)])


def with_secure_version(app: bytes, secure_version: int) -> bytes:
    """Return the application image *app* with another secure version, its checksum and SHA-256 made right again.

    What follows the image is dropped. Raises the errors of :func:`parse`, and ImageError without a descriptor.
    """
    found = parse(app)
    if found.app is None:
        raise ImageError("image: has no application descriptor, so no secure version to change")
    changed = bytearray(app[: found.length])
    struct.pack_into("<I", changed, _SECURE_VERSION_OFFSET, secure_version)
    end = _end(list(found.segments)) | 0xF
    parts = [bytes(changed[one.offset : one.offset + len(one.data)]) for one in found.segments]
    changed[end] = _segments_checksum(parts)
    if found.hash_appended:
        changed[end + 1 :] = hashlib.sha256(changed[: end + 1]).digest()
    return bytes(changed)


def build_bootloader() -> bytes:
    """Return a second-stage bootloader image: real layout and load addresses, no code worth running."""
    descriptor = _BOOTLOADER_DESCRIPTOR.pack(BOOTLOADER_DESCRIPTOR_MAGIC, 1, _text(_IDF_VERSION, 32), b"")
    data = descriptor + bytes(0x1738 - len(descriptor))
    code = _ENDLESS_LOOP * (0x968 // 4)
    loader = _ENDLESS_LOOP * (0x2F9C // 4)
    return _build(0x403CC71A, [(0x3FCD5820, data), (0x403CC710, code), (0x403CE710, loader)])


def _header_errors(magic: int, header: Header, revision: int | None) -> Iterator[ImageError]:
    if magic != IMAGE_MAGIC:
        yield ImageMagicError(magic)
    if header.chip_id != CHIP_ID_ESP32C3:
        yield ImageChipError(header.chip_id)
    if revision is None:
        return
    if revision < header.min_revision:
        yield ImageRevisionError(header.min_revision, revision, ">=")
    if header.max_revision not in NO_MAX_REVISION and revision > header.max_revision:
        yield ImageRevisionError(header.max_revision, revision, "<=")


def _segments(data: bytes, count: int, address: int) -> Iterator[Segment]:
    if count > MAX_SEGMENTS:
        raise ImageSegmentError(f"image at 0x{address:x} segment count {count} exceeds max {MAX_SEGMENTS}")
    position = _HEADER.size
    for _ in range(count):
        _require(data, position + _SEGMENT.size)
        load_address, length = _SEGMENT.unpack_from(data, position)
        position += _SEGMENT.size
        if length % 4 or length >= MAX_SEGMENT_BYTES:
            raise ImageSegmentError(f"invalid segment length 0x{length:x}")
        _require(data, position + length)
        yield Segment(load_address, position, bytes(data[position : position + length]))
        position += length


def _require(data: bytes, length: int) -> None:
    if length > len(data):
        raise ImageEndError(length, len(data))


def _end(segments: list[Segment]) -> int:
    return segments[-1].offset + len(segments[-1].data) if segments else _HEADER.size


def _mapping_errors(segments: list[Segment], address: int) -> Iterator[ImageError]:
    """The MMU maps whole pages: a mapped segment must lie in flash as it lies in its page."""
    for number, segment in enumerate(segments):
        place = address + segment.offset
        if is_mapped(segment) and place % _MMU_PAGE_BYTES != segment.load_address % _MMU_PAGE_BYTES:
            where = f"load address 0x{segment.load_address:08x}, doesn't match data 0x{place:08x}"
            yield ImageSegmentError(f"Segment {number} {where}")


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
