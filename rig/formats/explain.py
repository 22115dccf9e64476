"""What a file of flash content is, and what can be said of it, sound or damaged.

Values of strings and blobs in NVS are never told, only their lengths: keys and passphrases are among them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rig.errors import ConfigError
from rig.formats import image, merged_image, nvs, otadata, partitions
from rig.formats.checks import load_findings, table_findings
from rig.formats.merged_image import Region
from rig.formats.partitions import Partition

_LOOKED_FOR = (
    "an application or bootloader image (first byte 0xe9), a partition table (aa 50 first, or .csv), an NVS partition, "
    "OTA data, a merged image or flash dump (partition table at 0x8000), a build directory (flasher_args.json)"
)
_OTHER_FORMATS = {
    b"\x7fELF": "is an ELF program; name the .bin that idf.py build made of it",
    b"UF2\n": "is a UF2 file; merge the build with esptool merge-bin --format raw",
    b":0": "is an Intel HEX file; merge the build with esptool merge-bin --format raw",
}


@dataclass(frozen=True)
class Explanation:
    """What some bytes are. ``facts`` hold JSON values, a list of objects being a table; ``findings`` what is wrong."""

    kind: str
    size_bytes: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    parts: tuple["Part", ...] = ()

    @property
    def sound(self) -> bool:
        """True where nothing is wrong, here and in the parts."""
        return not self.findings and all(part.explanation.sound for part in self.parts)


@dataclass(frozen=True)
class Part:
    """A part of an image set or of a flash's content, at ``offset`` in flash."""

    name: str
    offset: int
    explanation: Explanation


def explain(data: bytes) -> Explanation:
    """Explain bytes of any of the formats that flash holds. Raises ConfigError, without a file name, for others."""
    if not data:
        raise ConfigError("is empty")
    for look in (_merged, _image, _table, _nvs, _otadata, _erased):
        found = look(data)
        if found is not None:
            return found
    for magic, what in _OTHER_FORMATS.items():
        if data.startswith(magic):
            raise ConfigError(what)
    raise ConfigError(f"is none of what was looked for: {_LOOKED_FOR}")


def explain_part(data: bytes) -> Explanation:
    """Explain a part of a flash's content; what is not recognised is plain data."""
    try:
        return explain(data)
    except ConfigError:
        return Explanation("data", len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def explain_table(entries: Sequence[Partition], size_bytes: int, findings: Sequence[str] = ()) -> Explanation:
    """Explain the entries of a partition table; *findings* are those of whoever read it."""
    rows = [
        {
            "label": entry.label,
            "type": partitions.type_name(entry),
            "subtype": partitions.subtype_name(entry),
            "offset": f"0x{entry.offset:x}",
            "end": f"0x{entry.end:x}",
            "size_bytes": entry.size,
            "flags": " ".join(partitions.flag_names(entry)),
        }
        for entry in entries
    ]
    facts = {"needs_flash_bytes": max((entry.end for entry in entries), default=0), "partitions": rows}
    return Explanation("partition table", size_bytes, facts, (*findings, *table_findings(entries)))


def _merged(data: bytes) -> Explanation | None:
    if not merged_image.looks_merged(data):
        return None
    try:
        found = merged_image.regions(data)
    except partitions.PartitionTableError:
        # The bootloader and the damaged table are what is left to tell.
        found = merged_image.fixed_regions(data)
    parts = [Part(one.name, one.offset, _region(data[one.offset : one.offset + one.size], one)) for one in found]
    return Explanation("merged image or flash dump", len(data), {}, (), tuple(parts))


def _region(content: bytes, region: Region) -> Explanation:
    if not content:
        return Explanation("erased", 0)
    slot = region.partition
    is_otadata = slot is not None and (slot.type, slot.subtype) == (partitions.TYPE_DATA, partitions.SUBTYPE_OTA_DATA)
    if is_otadata and len(content) == otadata.OTADATA_BYTES:
        return _explain_otadata(content)
    return explain_part(content)


def _image(data: bytes) -> Explanation | None:
    app, bootloader = image.read_app_descriptor(data), image.read_bootloader_descriptor(data)
    if data[0] != image.IMAGE_MAGIC and app is None and bootloader is None:
        return None
    try:
        found = image.examine(data)
    except image.ImageEndError as error:
        return Explanation("image", len(data), {}, (str(error),))
    facts = {**_descriptor_facts(app, bootloader), **_header_facts(found.header), **_sum_facts(found)}
    elf = _host_elf_facts(image.host_elf(found))
    rows = [
        {
            "segment": number,
            "load_address": f"0x{segment.load_address:08x}",
            "file_offset": f"0x{segment.offset - 8:x}",
            "size_bytes": len(segment.data),
            "memory": _memory(found.header, segment),
        }
        for number, segment in enumerate(found.segments)
    ]
    after = {"bytes_after_image": len(data) - found.length} if found.length is not None else {}
    findings = [str(error).removeprefix("image: ") for error in found.errors]
    if found.length is not None and found.header.chip_id == image.CHIP_ID_ESP32C3:
        findings += load_findings(found.header, found.segments)
    kind = "application" if app is not None else "bootloader" if bootloader is not None else "image"
    return Explanation(kind, len(data), {**facts, **elf, **after, "segments": rows}, tuple(findings))


def _memory(header: image.Header, segment: image.Segment) -> str:
    if header.chip_id != image.CHIP_ID_ESP32C3:
        return "unknown"
    return image.memory_region(segment.load_address) or "none"


def _descriptor_facts(
    app: image.AppDescriptor | None, bootloader: image.BootloaderDescriptor | None
) -> dict[str, object]:
    if app is not None:
        return {
            "project": app.project,
            "version": app.version,
            "esp_idf": app.idf_version,
            "compiled": f"{app.date} {app.time}".strip() or "not told",
            "elf_sha256": app.elf_sha256.hex(),
            "secure_version": app.secure_version,
        }
    if bootloader is not None:
        compiled = bootloader.date_time or "not told"
        return {"version": bootloader.version, "esp_idf": bootloader.idf_version, "compiled": compiled}
    return {"descriptor": "none"}


def _header_facts(header: image.Header) -> dict[str, object]:
    highest = header.max_revision
    return {
        "chip": header.chip,
        "min_chip_revision": image.revision_text(header.min_revision),
        "max_chip_revision": image.revision_text(highest) if highest not in image.NO_MAX_REVISION else "any",
        "flash_bytes": header.flash_bytes,
        "flash_mode": header.flash_mode_name,
        "flash_frequency": header.flash_frequency,
        "entry": f"0x{header.entry:08x}",
    }


def _sum_facts(found: image.Examination) -> dict[str, object]:
    facts: dict[str, object] = {"length_bytes": found.length}
    if found.checksum is not None:
        stored, calculated = found.checksum
        facts["checksum"] = _sum(f"0x{stored:02x}", f"0x{calculated:02x}")
    if found.sha256 is not None:
        facts["sha256"] = _sum(found.sha256[0].hex(), found.sha256[1].hex())
    elif not found.header.hash_appended:
        facts["sha256"] = "none"
    return facts


def _sum(stored: str, calculated: str) -> dict[str, object]:
    return {"stored": stored, "calculated": calculated, "valid": stored == calculated}


def _host_elf_facts(elf: bytes | None) -> dict[str, object]:
    if elf is None:
        return {}
    return {"host_program": {"size_bytes": len(elf), "sha256": hashlib.sha256(elf).hexdigest()}}


def _table(data: bytes) -> Explanation | None:
    if partitions.ENTRY_MAGIC not in (data[:2], data[32:34]):
        return None
    entries, error = partitions.examine_table(data)
    return explain_table(entries, len(data), [error.detail] if error is not None else [])


def _nvs(data: bytes) -> Explanation | None:
    if len(data) % nvs.PAGE_BYTES:
        return None
    found = nvs.examine_nvs(data)
    if not found.pages:
        return None
    readable = {page.offset for page in found.pages}
    findings = [
        f"page at 0x{offset:x} has a damaged header"
        for offset in range(0, len(data), nvs.PAGE_BYTES)
        if offset not in readable and data[offset : offset + nvs.PAGE_BYTES].strip(b"\xff")
    ]
    findings += [
        f"page at 0x{page.offset:x}: {page.unreadable} entries cannot be read: damaged, or encrypted"
        for page in found.pages
        if page.unreadable
    ]
    pages = [{"page": f"0x{page.offset:x}", "sequence": page.sequence, "state": page.state} for page in found.pages]
    values = [_nvs_row(*key, value) for key, value in found.values.items()]
    return Explanation("NVS partition", len(data), {"pages": pages, "values": values}, tuple(findings))


def _nvs_row(namespace: str, key: str, value: nvs.NvsValue) -> dict[str, object]:
    told = f"({len(value.data)} bytes, not shown)" if value.type in ("str", "blob") else value.value
    return {"namespace": namespace, "key": key, "type": value.type, "size_bytes": len(value.data), "value": told}


def _otadata(data: bytes) -> Explanation | None:
    if len(data) != otadata.OTADATA_BYTES or not any(entry.crc_ok for entry in otadata.read_otadata(data).entries):
        return None
    return _explain_otadata(data)


def _explain_otadata(data: bytes) -> Explanation:
    found = otadata.read_otadata(data)
    rows = [
        {"sector": number, "sequence": "blank" if entry.blank else entry.sequence, "state": entry.state_name}
        for number, entry in enumerate(found.entries)
    ]
    active = found.active.sequence if found.active is not None else "none"
    findings = [
        f"sector {number}: the CRC does not fit sequence number {entry.sequence}"
        for number, entry in enumerate(found.entries)
        if not entry.blank and not entry.crc_ok
    ]
    return Explanation("OTA data", len(data), {"active_sequence": active, "entries": rows}, tuple(findings))


def _erased(data: bytes) -> Explanation | None:
    return Explanation("erased flash", len(data)) if not data.strip(b"\xff") else None
