"""The firmware's build: what `build_image_set` leaves, and that both builds take the same sources."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rig.errors import BenchError
from rig.formats import image, partitions
from rig.formats.flasher_args import read_image_set
from rig.formats.sbom import read_components
from rig.formats.signature import is_signed
from rig.virtual.firmware import FAULTS, SBOM, build_image_set

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
APP_SOURCES = sorted((FIRMWARE / "main" / "app").glob("*.c"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_image_set(tmp_path_factory.mktemp("build") / "good")


@pytest.fixture(scope="module")
def payload_built(built: Path) -> Path:
    return build_image_set(built.parent / "payload", payload_encryption=True)


def test_image_set_reads_as_one_of_esp_idf(built: Path) -> None:
    images = read_image_set(built)
    assert [(file.name, hex(file.offset)) for file in images.files] == [
        ("bootloader", "0x0"),
        ("partition-table", "0x8000"),
        ("app", "0x10000"),
    ]
    assert images.chip == "esp32c3"
    args = json.loads((built / "flasher_args.json").read_text())
    assert args["flash_settings"] == {"flash_mode": "dio", "flash_size": "4MB", "flash_freq": "80m"}
    assert args["write_flash_args"] == ["--flash_mode", "dio", "--flash_size", "4MB", "--flash_freq", "80m"]
    extra = {"after": "hard_reset", "before": "default_reset", "stub": True, "chip": "esp32c3"}
    assert args["extra_esptool_args"] == extra


def test_app_image_carries_the_program_and_fits_its_partition(built: Path) -> None:
    content = (built / "coaps_server.bin").read_bytes()
    app = image.parse(content)
    assert image.host_elf(app) == (built / "coaps_server.elf").read_bytes()
    assert app.app is not None
    assert (app.app.project, app.app.version) == ("coaps_server", (FIRMWARE / "version.txt").read_text().strip())
    table = partitions.parse_table((built / "partition_table" / "partition-table.bin").read_bytes())
    factory = next(entry for entry in table if entry.label == "factory")
    assert factory.offset == 0x10000
    assert factory.size >= 1536 * 1024 > len(content)
    assert all(entry.offset + entry.size <= 4 * 1024 * 1024 for entry in table)


def test_stock_esptool_finds_the_images_valid(built: Path) -> None:
    for name in ("coaps_server.bin", "bootloader/bootloader.bin"):
        command = [sys.executable, "-m", "esptool", "--chip", "esp32c3", "image-info", str(built / name)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert re.search(r"Checksum: 0x\w+ \(valid\)", output)
        assert re.search(r"Validation hash: \w+ \(valid\)", output)


def test_equal_sources_give_equal_bytes(built: Path, tmp_path: Path) -> None:
    again = build_image_set(tmp_path / "elsewhere" / "out")
    for file in read_image_set(again).files:
        assert file.path.read_bytes() == (built / file.path.relative_to(again)).read_bytes()


def test_nothing_runs_when_nothing_changed(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert build_image_set(built) == built


def test_a_lost_file_is_built_again_and_the_sources_stay_untouched(built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in FIRMWARE.rglob("*")}
    (built / "coaps_server.bin").unlink()
    build_image_set(built)
    assert image.parse((built / "coaps_server.bin").read_bytes())
    assert {path: path.stat().st_mtime_ns for path in FIRMWARE.rglob("*")} == before


def test_first_value_of_light_is_a_build_option(tmp_path: Path, power_up: Callable[..., Any], built: Path) -> None:
    on = build_image_set(tmp_path / "on", light_initial="on")
    assert (on / "coaps_server.bin").read_bytes() != (built / "coaps_server.bin").read_bytes()
    chip = power_up(elf_path=on / "coaps_server.elf")
    chip.wait_until_up()
    assert ":: 'on'" in chip.coap("get", "/light")


def test_payload_encryption_is_a_build_of_its_own(built: Path, payload_built: Path) -> None:
    assert (payload_built / "coaps_server.bin").read_bytes() != (built / "coaps_server.bin").read_bytes()


def test_processes_that_build_at_once_take_turns(tmp_path: Path) -> None:
    program = "import sys, pathlib; from rig.virtual.firmware import build_image_set as b; b(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    builders = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    failures = [builder.communicate()[1] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0, 0], failures
    assert image.parse((tmp_path / "out" / "coaps_server.bin").read_bytes())


def test_missing_tools_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BenchError, match=r"cmake, make, cc, pkg-config not found.*libcoap3-dev"):
        build_image_set(tmp_path / "out")


def test_missing_libcoap_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKG_CONFIG_LIBDIR", str(tmp_path))
    with pytest.raises(BenchError, match=r"libcoap's headers .* not found.*libcoap3-dev"):
        build_image_set(tmp_path / "out")


def test_missing_openssl_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libcoap = subprocess.run(
        ["pkg-config", "--variable=pcfiledir", "libcoap-3-openssl"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / "libcoap-3-openssl.pc").write_bytes((Path(libcoap) / "libcoap-3-openssl.pc").read_bytes())
    monkeypatch.setenv("PKG_CONFIG_LIBDIR", str(tmp_path))
    with pytest.raises(BenchError, match=r"libssl's headers .* not found.*libssl-dev"):
        build_image_set(tmp_path / "out", payload_encryption=True)


def test_the_small_firmware_keeps_fewer_sessions_and_a_signed_one_carries_its_signature(built: Path) -> None:
    small = build_image_set(built.parent / "small", sessions=8, signed=True)
    options = (built.parent / "cmake-good-light-off-8-sessions" / "sdkconfig.h").read_text()
    assert "#define CONFIG_MAX_SESSIONS 8\n" in options
    signed, plain = (small / "coaps_server.bin").read_bytes(), (built / "coaps_server.bin").read_bytes()
    assert is_signed(signed, image.parse(signed).length)
    assert not is_signed(plain, image.parse(plain).length)
    altered = signed[:0x400] + bytes([signed[0x400] ^ 1]) + signed[0x401:]
    assert not is_signed(altered, image.parse(signed).length)


def test_what_is_linked_is_listed_beside_the_images(built: Path) -> None:
    versions = {one.name: one.version for one in read_components(built / SBOM)}
    said = subprocess.run(
        ["pkg-config", "--modversion", "libcoap-3-openssl"], capture_output=True, text=True, check=True
    )
    assert versions["libcoap"] == said.stdout.strip()
    assert versions["coaps_server"] == (FIRMWARE / "version.txt").read_text().strip()


def test_unknown_variants_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no fault is named 'plain'; there are any-psk-identity, busy-with-hellos"):
        build_image_set(tmp_path / "out", fault="plain")
    with pytest.raises(BenchError, match=r"light_initial is 'ON'"):
        build_image_set(tmp_path / "out", light_initial="ON")
    assert not (tmp_path / "out").exists()


# --- the sources -----------------------------------------------------------------------------------------------------


def test_faults_are_the_files() -> None:
    assert sorted(path.stem for path in (FIRMWARE / "host" / "faults").glob("*.c")) == sorted(FAULTS)


@pytest.mark.parametrize("profile", ["", "-payload"])
def test_no_compiler_warning(built: Path, payload_built: Path, profile: str) -> None:
    assert payload_built.parent == built.parent
    tree = next(built.parent.glob(f"cmake-good-light-off{profile}"))
    flags = subprocess.run(
        ["pkg-config", "--cflags", "libcoap-3-openssl", "libcrypto"], capture_output=True, text=True, check=True
    ).stdout.split()
    warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wformat=2"]
    includes = [f"-I{FIRMWARE / 'main' / 'app'}", f"-I{FIRMWARE / 'host'}", f"-I{tree}"]
    sources = [*APP_SOURCES, *(FIRMWARE / "host").rglob("*.c")]
    command = ["cc", "-std=gnu11", "-O2", "-fsyntax-only", "-D_GNU_SOURCE", "-Werror", *warnings, *includes, *flags]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_application_includes_no_header_of_the_chip() -> None:
    allowed = re.compile(r'<(coap3/coap|arpa/inet|inttypes|std\w+|string)\.h>|"sdkconfig\.h"')
    own = {f'"{path.name}"' for path in (FIRMWARE / "main" / "app").glob("*.h")}
    for path in (FIRMWARE / "main" / "app").iterdir():
        for name in re.findall(r"#\s*include\s+(\S+)", path.read_text()):
            assert name in own or allowed.fullmatch(name), f"{path.name} includes {name}"


def test_both_builds_list_the_same_application_sources() -> None:
    names = {path.name for path in APP_SOURCES}
    for listing in (FIRMWARE / "main" / "CMakeLists.txt", FIRMWARE / "host" / "CMakeLists.txt"):
        assert set(re.findall(r"app/(\w+\.c)", listing.read_text())) == names


def test_chip_build_has_the_same_platform_for_either_network() -> None:
    listed = re.findall(r"platform_esp32c3/(\w+\.c)", (FIRMWARE / "main" / "CMakeLists.txt").read_text())
    assert sorted(listed) == sorted(path.name for path in (FIRMWARE / "main" / "platform_esp32c3").glob("*.c"))


# --- the configuration -----------------------------------------------------------------------------------------------


def kconfig_defaults() -> dict[str, str]:
    """Return the application's own symbols, each with its default: a number, or y or n."""
    text = (FIRMWARE / "main" / "Kconfig.projbuild").read_text()
    chosen = set(re.findall(r"default (NETWORK_\w+)", text))
    entries = re.findall(r"^\s*config (\w+)\n((?:(?!^\s*(?:config|endchoice|endmenu)).*\n)*)", text, re.M)
    values = {name: re.search(r"default (\w+)", body) for name, body in entries}
    return {name: found[1] if found else "y" if name in chosen else "n" for name, found in values.items()}


def test_host_configuration_is_kconfigs_default(built: Path) -> None:
    header = next(built.parent.glob("cmake-good-light-off")) / "sdkconfig.h"
    host = dict(re.findall(r"#define CONFIG_(\w+) (\w+)", header.read_text()))
    on = {name: {"y": "1"}.get(value, value) for name, value in kconfig_defaults().items() if value != "n"}
    assert host == on


def test_application_asks_only_for_symbols_of_its_own() -> None:
    asked = {
        name for path in (FIRMWARE / "main" / "app").iterdir() for name in re.findall(r"CONFIG_(\w+)", path.read_text())
    }
    offered = set(re.findall(r"CONFIG_(\w+)", (FIRMWARE / "host" / "sdkconfig.h.in").read_text()))
    assert asked <= offered <= set(kconfig_defaults())


def test_additions_to_the_defaults_name_symbols_of_the_application() -> None:
    for name in ("sdkconfig.emulator", "sdkconfig.payload"):
        set_here = re.findall(r"^CONFIG_(\w+)=y$", (FIRMWARE / name).read_text(), re.M)
        assert set_here
        assert set(set_here) <= set(kconfig_defaults())


def test_dtls_on_the_chip_is_one_cipher_suite() -> None:
    project = (FIRMWARE / "CMakeLists.txt").read_text()
    assert '"MBEDTLS_SSL_CIPHERSUITES=MBEDTLS_TLS_PSK_WITH_AES_128_CCM_8" APPEND' in project
    assert project.index("project.cmake") < project.index("MBEDTLS_SSL_CIPHERSUITES=") < project.index("project(coaps")


def test_ci_builds_with_files_that_exist() -> None:
    workflow = yaml.safe_load((FIRMWARE.parent / ".github" / "workflows" / "firmware.yml").read_text())
    matrix = workflow["jobs"]["build"]["strategy"]["matrix"]
    assert [version.rsplit(".", 1)[0] for version in matrix["idf"]] == ["v5.3", "v5.5"]
    names = {name for variant in matrix["variant"] for name in variant["defaults"].split(";")}
    assert names == {path.name for path in FIRMWARE.glob("sdkconfig.*")}
