"""Build the firmware for the virtual bench: the host build of ``firmware/``, packed as `idf.py build` would leave it.

The result is a build directory that esptool flashes like any other. Nothing is written into ``firmware/`` itself.
"""

import contextlib
import fcntl
import hashlib
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rig.errors import BenchError
from rig.formats import image, partitions

_SOURCES = Path(__file__).parents[1] / "firmware"

FAULTS = tuple(sorted(path.stem for path in (_SOURCES / "host" / "faults").glob("*.c")))
"""Devices that are wrong on purpose: names of ``firmware/host/faults/*.c``."""

PROJECT = "coaps_server"
SECURE_VERSION = 1
"""Of the images: boards of the virtual bench have one bit burnt, and start nothing older."""
SBOM = "sbom.spdx.json"
"""What the program is linked with, beside the images."""
DEBIAN_PACKAGES = "cmake make gcc libc6-dev pkgconf libcoap3-dev libssl-dev"

_STAMP = ".rig-firmware"
_APP_OFFSET = 0x10000
_LIGHT_VALUES = ("off", "on")


@dataclass(frozen=True)
class _Variant:
    fault: str | None
    light_initial: str
    payload_encryption: bool
    sessions: int | None
    signed: bool

    @property
    def name(self) -> str:
        sessions = f"-{self.sessions}-sessions" if self.sessions else ""
        payload = "-payload" if self.payload_encryption else ""
        return f"{self.fault or 'good'}-light-{self.light_initial}{payload}{sessions}"

    @property
    def cmake_options(self) -> list[str]:
        return [
            f"-DFAULT={self.fault or ''}",
            f"-DLIGHT_INITIAL_ON={'ON' if self.light_initial == 'on' else 'OFF'}",
            f"-DPAYLOAD_ENCRYPTION={'ON' if self.payload_encryption else 'OFF'}",
            *([f"-DMAX_SESSIONS={self.sessions}"] if self.sessions else []),
        ]

    @property
    def libraries(self) -> dict[str, str]:
        """Return the pkg-config names of what is linked, each with its plain name."""
        libcoap = {"libcoap-3-openssl": "libcoap", "libssl": "libssl"}
        return libcoap | {"libcrypto": "libcrypto"} if self.payload_encryption else libcoap


def build_image_set(
    out: Path,
    *,
    fault: str | None = None,
    light_initial: str = "off",
    payload_encryption: bool = False,
    sessions: int | None = None,
    signed: bool = False,
) -> Path:
    """Build the firmware into the directory *out*, laid out as ESP-IDF's build directory, and return *out*.

    *fault* is None or one of FAULTS; *light_initial* is the first value of ``/light``, "on" or "off";
    *payload_encryption* chooses the profile that has plain CoAP with encrypted payloads instead of coaps; *sessions* is
    how many sessions are kept, None for the firmware's own number; *signed* adds secure boot's signature to the
    application, made with a key that is drawn beside *out* and protects nothing. CMake's own trees go beside *out*.
    When nothing has changed since the last call, nothing runs. Processes that build at once take turns. Raises
    BenchError when a tool or a header is missing or the build fails.
    """
    variant = _variant(_Variant(fault, light_initial, payload_encryption, sessions, signed))
    out = out.absolute()
    fingerprint = _fingerprint(variant)
    with _turn(out.parent):
        if not _is_current(out, fingerprint):
            elf = _build_elf(out.parent / f"cmake-{variant.name}", variant)
            _write_image_set(out, elf, variant)
            if signed:
                _sign(out / _flash_files()["app"], out.parent / "signing-key.pem")
            (out / _STAMP).write_text(fingerprint, encoding="ascii")
    return out


def _variant(variant: _Variant) -> _Variant:
    if variant.fault is not None and variant.fault not in FAULTS:
        raise BenchError(f"firmware: no fault is named {variant.fault!r}; there are {', '.join(FAULTS)}")
    if variant.light_initial not in _LIGHT_VALUES:
        raise BenchError(f"firmware: light_initial is {variant.light_initial!r}; it must be 'on' or 'off'")
    return variant


def _sign(app: Path, key: Path) -> None:
    """Sign an application as `idf.py secure-sign-data` does, with espsecure."""
    espsecure = [sys.executable, "-m", "espsecure"]
    if not key.exists():
        _run([*espsecure, "generate-signing-key", "--version", "2", "--scheme", "rsa3072", str(key)])
    draft = app.with_name(f".{app.name}.signed")
    _run([*espsecure, "sign-data", "--version", "2", "--keyfile", str(key), "--output", str(draft), str(app)])
    draft.replace(app)


@contextlib.contextmanager
def _turn(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".firmware.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fingerprint(variant: _Variant) -> str:
    """Return a hash of everything that the result depends on: sources, options, packing code, operating system."""
    if not (_SOURCES / "host" / "CMakeLists.txt").is_file():
        raise BenchError(f"firmware: its sources are not at {_SOURCES}; run from a checkout of the project")
    digest = hashlib.sha256(f"{variant} {_SOURCES} {platform.platform()}".encode())
    packing = [Path(__file__), Path(image.__file__), Path(partitions.__file__), Path("/etc/os-release")]
    for path in [*_source_files(), *(path for path in packing if path.is_file())]:
        digest.update(f"\0{path}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _source_files() -> list[Path]:
    roots = [_SOURCES / "host", _SOURCES / "main" / "app"]
    found = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return [*sorted(found), _SOURCES / "partitions.csv", _SOURCES / "version.txt"]


def _is_current(out: Path, fingerprint: str) -> bool:
    try:
        stamp = (out / _STAMP).read_text(encoding="ascii")
    except OSError:
        return False
    return stamp == fingerprint and all((out / name).is_file() for name in _flash_files().values())


def _build_elf(tree: Path, variant: _Variant) -> bytes:
    _require_tools(variant)
    if tree.exists():
        shutil.rmtree(tree)
    _run(["cmake", "-S", str(_SOURCES / "host"), "-B", str(tree), *variant.cmake_options])
    _run(["cmake", "--build", str(tree), "--parallel"])
    return (tree / PROJECT).read_bytes()


def _require_tools(variant: _Variant) -> None:
    missing = [name for name in ("cmake", "make", "cc", "pkg-config") if shutil.which(name) is None]
    if missing:
        raise BenchError(f"firmware: {', '.join(missing)} not found; {_install_hint()}")
    for name, plain_name in variant.libraries.items():
        if subprocess.run(["pkg-config", "--exists", name], check=False).returncode != 0:
            raise BenchError(f"firmware: {plain_name}'s headers ({name}) not found; {_install_hint()}")


def _install_hint() -> str:
    return f"install it with: apt-get install -y --no-install-recommends {DEBIAN_PACKAGES}"


def _version(library: str) -> str:
    """Return a library's version, or nothing where its headers are not there to tell."""
    asked = ["pkg-config", "--modversion", library]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()
        raise BenchError(
            f"firmware: '{' '.join(command)}' failed:\n{output}\nif a package is missing, {_install_hint()}"
        )


def _write_image_set(out: Path, elf: bytes, variant: _Variant) -> None:
    version = (_SOURCES / "version.txt").read_text(encoding="utf-8").strip()
    table = partitions.table_from_csv((_SOURCES / "partitions.csv").read_text(encoding="utf-8"))
    files = _flash_files()
    contents = {
        files["bootloader"]: image.build_bootloader(),
        files["partition-table"]: table,
        files["app"]: image.build_host_image(elf, project=PROJECT, version=version, secure_version=SECURE_VERSION),
        f"{PROJECT}.elf": elf,
        "flasher_args.json": json.dumps(_flasher_args(), indent=4).encode() + b"\n",
        "flash_args": _flash_args().encode(),
        SBOM: json.dumps(_sbom(variant, version), indent=1).encode() + b"\n",
    }
    (out / _STAMP).unlink(missing_ok=True)
    for name, content in contents.items():
        _replace(out / name, content)
    (out / f"{PROJECT}.elf").chmod(0o755)


def _sbom(variant: _Variant, version: str) -> dict[str, object]:
    """Return the program and the libraries that it is linked with, as SPDX 2.3."""
    libraries = variant.libraries | {"libssl": "OpenSSL"}
    versions = {PROJECT: version} | {plain_name: _version(name) for name, plain_name in libraries.items()}
    return {
        "spdxVersion": "SPDX-2.3",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": PROJECT,
        "packages": [
            {"SPDXID": f"SPDXRef-{name}", "name": name, "versionInfo": found, "downloadLocation": "NOASSERTION"}
            for name, found in versions.items()
        ],
    }


def _replace(path: Path, content: bytes) -> None:
    """Write the file so that a reader sees the old bytes or the new ones, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)


def _flash_files() -> dict[str, str]:
    return {
        "bootloader": "bootloader/bootloader.bin",
        "app": f"{PROJECT}.bin",
        "partition-table": "partition_table/partition-table.bin",
    }


def _offsets() -> dict[str, str]:
    return {"bootloader": "0x0", "app": hex(_APP_OFFSET), "partition-table": hex(partitions.TABLE_OFFSET)}


def _flasher_args() -> dict[str, object]:
    """Return the content of ``flasher_args.json`` in the layout of ESP-IDF 5.3 (``flasher_args.json.in``)."""
    files, offsets = _flash_files(), _offsets()
    return {
        "write_flash_args": ["--flash_mode", "dio", "--flash_size", "4MB", "--flash_freq", "80m"],
        "flash_settings": {"flash_mode": "dio", "flash_size": "4MB", "flash_freq": "80m"},
        "flash_files": {offsets[name]: files[name] for name in files},
        **{name: {"offset": offsets[name], "file": files[name], "encrypted": "false"} for name in files},
        "extra_esptool_args": {"after": "hard_reset", "before": "default_reset", "stub": True, "chip": "esp32c3"},
    }


def _flash_args() -> str:
    """Return the content of ``flash_args``, for ``esptool write-flash @flash_args``."""
    files, offsets = _flash_files(), _offsets()
    lines = [
        "--flash_mode dio --flash_freq 80m --flash_size 4MB",
        *(f"{offsets[name]} {files[name]}" for name in files),
    ]
    return "\n".join(lines) + "\n"
