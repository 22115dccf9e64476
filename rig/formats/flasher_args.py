"""ESP-IDF's ``build/flasher_args.json``: which files belong into flash, and where.

The file is what `idf.py build` leaves for flashing tools (ESP-IDF, API Guides, "Build System", "Flashing"). Read here:
``flash_files`` (offset to file), the named entries that give the files their names (``bootloader``, ``app``,
``partition-table``, ...), and ``extra_esptool_args.chip``.
"""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.errors import ConfigError

FILE_NAME = "flasher_args.json"


@dataclass(frozen=True)
class ImageFile:
    """One file of an image set. ``offset`` is its first byte in flash."""

    name: str
    path: Path
    offset: int


@dataclass(frozen=True)
class ImageSet:
    """What one build puts into flash. ``files`` are in the order of their offsets; ``app`` is one of them."""

    directory: Path
    files: tuple[ImageFile, ...]
    chip: str
    app: ImageFile

    def file(self, name: str) -> ImageFile:
        """Return the file of this name. Raises ConfigError that lists the names there are."""
        for file in self.files:
            if file.name == name:
                return file
        names = ", ".join(file.name for file in self.files)
        raise ConfigError(f"{self.directory / FILE_NAME}: no entry {name!r} among {names}; rebuild the project")


def read_image_set(directory: Path) -> ImageSet:
    """Read the build directory's ``flasher_args.json``. Raises ConfigError that names the file and the key."""
    path = directory / FILE_NAME
    data = _load(path)
    flash_files = _mapping(path, data, "flash_files")
    names = _names(path, data)
    files = sorted((_image_file(path, offset, file, names) for offset, file in flash_files.items()), key=_offset)
    _refuse_overlap(path, files)
    app = next((file for file in files if file.name == "app"), None)
    if app is None:
        raise ConfigError(f"{path}: key 'app': is missing, or its file is not in flash_files; build the project")
    chip = _mapping(path, data, "extra_esptool_args").get("chip")
    if not isinstance(chip, str):
        raise ConfigError(f"{path}: key 'extra_esptool_args.chip': must be the name of a chip, for example esp32c3")
    return ImageSet(directory=directory, files=tuple(files), chip=chip, app=app)


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); build the firmware first") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold one JSON object")
    return data


def _mapping(path: Path, data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: key {key!r}: must be an object; this is no {FILE_NAME} of ESP-IDF")
    return value


def _names(path: Path, data: Mapping[str, Any]) -> dict[str, str]:
    """Return file -> name. An entry with a file is one with a name, whatever else ESP-IDF may put beside it."""
    names: dict[str, str] = {}
    for key, value in data.items():
        if not isinstance(value, dict) or "file" not in value:
            continue
        if not isinstance(value["file"], str):
            raise ConfigError(f"{path}: key '{key}.file': must be a file name")
        if str(value.get("encrypted", "false")).lower() == "true":
            raise ConfigError(f"{path}: key '{key}.encrypted': is true; the rig writes plain images only")
        names[value["file"]] = key
    return names


def _image_file(path: Path, offset_text: str, file: object, names: Mapping[str, str]) -> ImageFile:
    key = f"flash_files.{offset_text}"
    try:
        offset = int(offset_text, 0)
    except ValueError:
        raise ConfigError(f"{path}: key '{key}': the offset must be a number such as 0x10000") from None
    if offset < 0 or not isinstance(file, str):
        raise ConfigError(f"{path}: key '{key}': must map an offset in flash to a file name")
    image = path.parent / file
    if not image.is_file() or image.stat().st_size == 0:
        raise ConfigError(f"{path}: key '{key}': {image} is missing or empty; build the firmware again")
    return ImageFile(name=names.get(file, image.stem), path=image, offset=offset)


def _refuse_overlap(path: Path, files: list[ImageFile]) -> None:
    for first, second in itertools.pairwise(files):
        if first.offset + first.path.stat().st_size > second.offset:
            raise ConfigError(
                f"{path}: key 'flash_files.{second.offset:#x}': {second.name} starts before {first.name} ends; "
                "correct the partition table"
            )


def _offset(file: ImageFile) -> int:
    return file.offset
