"""What is flashed: PLT-06, PLT-07."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rig.bench.bench import Bench
from rig.bench.config import BoardConfig
from rig.board import Board, BootFailure, ConsoleTimeout, ImagePart
from rig.coap.probe import Prober
from rig.evidence.declaration import Declaration
from rig.fixtures.measure import Measure
from rig.fixtures.secrets import secrets_of
from rig.formats import image
from rig.formats.flasher_args import ImageSet
from rig.formats.leaks import find_leaks
from rig.formats.signature import is_signed

START_S = 5.0
"""How long a board with a bad image is listened to; a good one has joined its network long before."""
OPTIONS = {
    "MBEDTLS_DEBUG": (False, "debug output of mbedTLS, which holds plaintext"),
    "MBEDTLS_SSL_DTLS_ANTI_REPLAY": (True, "replay protection"),
    "COMPILER_STACK_CHECK": (True, "stack protector"),
    "ESP_SYSTEM_PANIC_GDBSTUB": (False, "a debugger on the console after a panic"),
}
"""Of ESP-IDF's Kconfig: what each has to be, and what it means. Those that a build does not know are left out."""


@pytest.mark.requirement("PLT-06")
def test_image_holds_no_secret_and_is_built_with_care(
    request: pytest.FixtureRequest, bench: Bench, measure: Measure
) -> None:
    images = _images(bench)
    app = image.parse(images.app.read())
    findings = [*_leaks(bench, images), *_wrong_options(images)]
    if app.app is None or not app.app.version:
        findings.append("no version in the application's descriptor")
    if request.config.getoption("--rig-profile") == "release" and not is_signed(images.app.read(), app.length):
        findings.append("the application is not signed")
    told = f"version {app.app.version!r}, secure version {app.app.secure_version}" if app.app else "no descriptor"
    measure.check(
        "PLT-06",
        "no secret in application, bootloader and ELF; built with the toolchain's protections; version named; "
        "signed for release",
        not findings,
        observed=f"{told}; {'; '.join(findings) or 'nothing was found'}",
        evidence=[measure.facts("image", _facts(images))],
        notes=[] if _options(images) else ["no config/sdkconfig.json beside the image: its options were not read"],
    )


@pytest.mark.requirement("PLT-07")
def test_altered_and_older_images_do_not_start(
    request: pytest.FixtureRequest, bench: Bench, board: Board, probe: Prober, dut: Declaration, measure: Measure
) -> None:
    if request.config.getoption("--rig-profile") == "release":
        pytest.skip("a release board takes no other image from the loader; --rig-profile=lab tries this on a lab board")
    probe.prove_alive()
    images = _images(bench)
    candidates = {"one bit altered": altered(images.app.read())}
    older = older_version(images.app.read()) if dut.update.anti_rollback else None
    if older is not None:
        candidates["an older secure version"] = older
    with _put_right(bench, board):
        outcomes = {what: _start(board, images, data) for what, data in candidates.items()}
    probe.prove_alive()
    started = [what for what, outcome in outcomes.items() if outcome is None]
    measure.check(
        "PLT-07",
        "an image with one bit altered and one with an older secure version do not start; the right one does again",
        not started,
        observed="; ".join(f"{what}: {outcome or 'it started'}" for what, outcome in outcomes.items()),
        evidence=[board.console.logfile],
        notes=[]
        if older is not None
        else ["no older image was tried: no anti-rollback is declared, or the secure version is 0"],
    )


def altered(app: bytes) -> bytes:
    """Return *app* with one bit changed in the date of its descriptor, which nothing that runs depends on.

    A board that does not verify its image runs this one as well as the right one, and so is found out.
    """
    changed = bytearray(app)
    changed[image.DESCRIPTOR_DATE_OFFSET] ^= 1
    return bytes(changed)


def older_version(app: bytes) -> bytes | None:
    """Return *app*, whole and sound, with the secure version before its own; None where that is 0."""
    described = image.read_app_descriptor(app)
    if described is None or described.secure_version == 0:
        return None
    return image.with_secure_version(app, described.secure_version - 1)


def _start(board: Board, images: ImageSet, data: bytes) -> str | None:
    """Flash *data* in the application's place; return how the board refuses it, None when it runs it."""
    board.overwrite(ImagePart("app", images.app.offset, data))
    try:
        board.wait_network(START_S)
    except BootFailure as error:
        return str(error)
    except ConsoleTimeout:
        return "no start in the network"
    return None


@contextmanager
def _put_right(bench: Bench, board: Board) -> Iterator[None]:
    """Flash the board's own image again, whatever happens in the block."""
    try:
        yield
    finally:
        bench.flash("auto")
        board.wait_network()


def _images(bench: Bench) -> ImageSet:
    config = bench.board_config
    if not isinstance(config, BoardConfig) or config.firmware is None:
        pytest.skip(f"board {config.name} has no firmware in {bench.path}")
    return bench.images()


def _leaks(bench: Bench, images: ImageSet) -> Iterator[str]:
    for path, data in _searched(images):
        yield from (f"{path.name} holds {leak}" for leak in find_leaks(data, secrets_of(bench)))


def _searched(images: ImageSet) -> Iterator[tuple[Path, bytes]]:
    yield from ((file.path, file.read()) for file in images.files)
    yield from ((path, path.read_bytes()) for path in sorted(images.directory.glob("*.elf")))


def _options(images: ImageSet) -> dict[str, Any]:
    path = images.directory / "config" / "sdkconfig.json"
    options: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return options


def _wrong_options(images: ImageSet) -> Iterator[str]:
    options = _options(images)
    for name, (wanted, meaning) in OPTIONS.items():
        if name in options and bool(options[name]) is not wanted:
            yield f"CONFIG_{name} is {'off' if wanted else 'on'}: {meaning}"


def _facts(images: ImageSet) -> dict[str, Any]:
    options = _options(images)
    return {
        "searched": [str(path) for path, _ in _searched(images)],
        "options": {name: options[name] for name in OPTIONS if name in options},
    }
