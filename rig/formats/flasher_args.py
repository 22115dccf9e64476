"""What one build puts into flash: a build directory's ``flasher_args.json``, or all of it merged into one file.

``flasher_args.json`` is what `idf.py build` leaves for flashing tools (ESP-IDF, API Guides, "Build System",
"Flashing"). Read here: ``flash_files`` (offset to file), the named entries that give the files their names
(``bootloader``, ``app``, ``partition-table``, ...), and ``extra_esptool_args.chip``. A merged image is what
`idf.py merge-bin` makes of the same files.
"""

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.errors import BenchError, ConfigError
from rig.formats import image, merged_image

FILE_NAME = "flasher_args.json"
_MERGE_HINT = "name a build directory, its flasher_args.json, or a merged image (idf.py merge-bin)"


@dataclass(frozen=True)
class ImageFile:
    """One part of an image set: a file, or a stretch of a merged one. ``offset`` is its first byte in flash.

    The part is ``size`` bytes from ``start`` in the file at ``path``; None: to the end of the file.
    """

    name: str
    path: Path
    offset: int
    start: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """Return the part's bytes. Raises ConfigError when the file cannot be read."""
        data = _read_file(self.path)[self.start :]
        return data if self.size is None else data[: self.size]


@dataclass(frozen=True)
class ImageSet:
    """What one build puts into flash. ``files`` are in the order of their offsets; ``app`` is one of them.

    ``source`` is the file that says so: a ``flasher_args.json`` or a merged image.
    """

    source: Path
    files: tuple[ImageFile, ...]
    chip: str
    app: ImageFile

    @property
    def directory(self) -> Path:
        """The folder that ``source`` lies in."""
        return self.source.parent

    def file(self, name: str) -> ImageFile:
        """Return the file of this name. Raises ConfigError that lists the names there are."""
        for file in self.files:
            if file.name == name:
                return file
        names = ", ".join(file.name for file in self.files)
        raise ConfigError(f"{self.source}: no entry {name!r} among {names}; rebuild the project")


def read_image_set(path: Path) -> ImageSet:
    """Read a build directory, its ``flasher_args.json``, or a merged image. Nothing in the files is judged.

    Raises ConfigError that names the file, and line and key where it has them.
    """
    if path.suffix == ".json" or path.is_dir():
        return _FlasherArgs.load(path if path.suffix == ".json" else path / FILE_NAME).image_set()
    return _read_merged(path)


def _read_merged(path: Path) -> ImageSet:
    data = _read_file(path)
    if not merged_image.looks_merged(data):
        raise ConfigError(f"{path}: has no partition table at 0x8000 and is no image set; {_MERGE_HINT}")
    try:
        found = merged_image.regions(data)
        app = merged_image.boot_region(data, found)
        chip = image.read_header(data[app.offset :]).chip
    except BenchError as error:
        raise ConfigError(f"{path}: {error}") from None
    files = {region: _part(path, region, "app" if region == app else region.name) for region in found if region.size}
    return ImageSet(source=path, files=tuple(files.values()), chip=chip, app=files[app])


def _part(path: Path, region: merged_image.Region, name: str) -> ImageFile:
    return ImageFile(name, path, region.offset, start=region.offset, size=region.size)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); build the firmware first") from None


@dataclass(frozen=True)
class _FlasherArgs:
    """The JSON file: where it is, its text, and what it says."""

    path: Path
    text: str
    data: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path) -> "_FlasherArgs":
        raw = _read_file(path)
        try:
            text = raw.decode("utf-8")
            data = json.loads(text, object_pairs_hook=lambda pairs: _unique(path, pairs))
        except json.JSONDecodeError as error:
            what = f"is not valid JSON: {error.msg}; build the firmware again"
            raise ConfigError(f"{path}:{error.lineno}: {what}") from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: is not valid JSON: {error}; build the firmware again") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{path}: must hold one JSON object; this is no {FILE_NAME} of ESP-IDF")
        return cls(path, text, data)

    def image_set(self) -> ImageSet:
        flash_files = self._mapping("flash_files")
        keys = {self._offset(f"flash_files.{key}", key): key for key in flash_files}
        names = self._names({offset: flash_files[key] for offset, key in keys.items()})
        files = [self._file(f"flash_files.{keys[at]}", at, flash_files[keys[at]], names) for at in sorted(keys)]
        self._refuse_overlap(files)
        app = next((file for file in files if file.name == "app"), None)
        if app is None:
            raise self._error("app", "is missing; build the project")
        chip = self._mapping("extra_esptool_args").get("chip")
        if not isinstance(chip, str):
            raise self._error("extra_esptool_args.chip", "must be the name of a chip, for example esp32c3")
        return ImageSet(source=self.path, files=tuple(files), chip=chip, app=app)

    def _names(self, flash_files: Mapping[int, object]) -> dict[int, str]:
        """Return offset -> name. An entry with a file is one with a name, whatever else may stand beside it."""
        names: dict[int, str] = {}
        for key, entry in self.data.items():
            if not isinstance(entry, dict) or "file" not in entry:
                continue
            if str(entry.get("encrypted", "false")).lower() == "true":
                raise self._error(f"{key}.encrypted", "is true; the rig writes plain images only")
            offset = self._offset(f"{key}.offset", entry.get("offset"))
            if flash_files.get(offset) != entry["file"]:
                what = f"flash_files has no {entry['file']!r} at {offset:#x}; build the project again"
                raise self._error(f"{key}.file", what)
            names[offset] = key
        return names

    def _file(self, key: str, offset: int, file: object, names: Mapping[int, str]) -> ImageFile:
        if not isinstance(file, str):
            raise self._error(key, "must map an offset in flash to a file name")
        path = self.path.parent / file
        try:
            usable = path.is_file() and path.stat().st_size > 0
        except (OSError, ValueError):
            usable = False
        if not usable:
            raise self._error(key, f"{path} is missing or empty; build the firmware again")
        return ImageFile(name=names.get(offset, path.stem), path=path, offset=offset)

    def _offset(self, key: str, text: object) -> int:
        try:
            offset = int(str(text), 0)
        except ValueError:
            offset = -1
        if offset < 0:
            raise self._error(key, f"{text!r} must be an offset in flash such as 0x10000")
        return offset

    def _refuse_overlap(self, files: list[ImageFile]) -> None:
        for first, second in itertools.pairwise(files):
            if first.offset + first.path.stat().st_size > second.offset:
                where = f"{second.name} at {second.offset:#x} starts before {first.name} ends"
                raise self._error("flash_files", f"{where}; correct the partition table")

    def _mapping(self, key: str) -> Mapping[str, Any]:
        value = self.data.get(key)
        if not isinstance(value, dict):
            raise self._error(key, f"must be an object; this is no {FILE_NAME} of ESP-IDF")
        return value

    def _error(self, key: str, what: str) -> ConfigError:
        """Return the error for a dotted key, with the line on which the deepest part of it stands."""
        position = 0
        for part in key.split("."):
            found = re.compile(re.escape(json.dumps(part)) + r"\s*:").search(self.text, position)
            position = found.start() if found else position
        line = self.text.count("\n", 0, position) + 1
        return ConfigError(f"{self.path}:{line}: key {key!r}: {what}")


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ConfigError(f"{path}: key {twice!r}: stands twice; build the firmware again")
    return found
