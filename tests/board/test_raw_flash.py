"""Flash read and written as it is, and what a board makes of images that are not its own."""

import pytest

from rig.board import BootFailure, ImagePart
from rig.formats import image
from rig.testplans.platform.test_image import altered, older_version


def app_of(images):
    return images.app.read()


def test_what_is_written_raw_is_read_back_and_the_next_flash_puts_it_right(
    virtual_boards, firmware_content, images, provisioning, tmp_path
):
    virtual = virtual_boards("dut", firmware_content)
    with virtual.open(tmp_path / "console.log") as board:
        board.overwrite(ImagePart("app", images.app.offset, altered(app_of(images))))
        with pytest.raises(BootFailure, match="Checksum failed"):
            board.wait_network()
        head, magic = board.read_flash((images.app.offset, 0x200), (0x8000, 2))
        assert (head, magic) == (altered(app_of(images))[:0x200], b"\xaa\x50")
        report = board.flash(images, provisioning)
        board.wait_network()
    written = {part.name: part.written_bytes for part in report.parts}
    assert written["app"] == 0x1000
    assert not any(size for name, size in written.items() if name != "app")


@pytest.mark.parametrize(
    ("switches", "starts"),
    [
        ({"fuses": {"SECURE_VERSION": 1}}, False),
        ({"fuses": {"SECURE_VERSION": 1}, "anti_rollback": False}, True),
        ({}, True),
    ],
    ids=["burnt", "not asked for", "not burnt"],
)
def test_an_older_secure_version_starts_only_where_nobody_forbids_it(
    virtual_boards, firmware_content, images, tmp_path, switches, starts
):
    virtual = virtual_boards("dut", firmware_content, **switches)
    with virtual.open(tmp_path / "console.log") as board:
        board.hard_reset()
        board.wait_network()
        board.overwrite(ImagePart("app", images.app.offset, older_version(app_of(images))))
        if starts:
            board.wait_network()
        else:
            with pytest.raises(BootFailure, match="not bootable"):
                board.wait_network()


def test_a_bootloader_that_skips_validation_starts_an_altered_image(virtual_boards, firmware_content, images, tmp_path):
    virtual = virtual_boards("dut", firmware_content, verify_images=False)
    with virtual.open(tmp_path / "console.log") as board:
        board.overwrite(ImagePart("app", images.app.offset, altered(app_of(images))))
        board.wait_network()


def test_another_secure_version_leaves_a_sound_image(images):
    app = app_of(images)
    older = image.parse(older_version(app))
    assert older.app.secure_version == image.parse(app).app.secure_version - 1
    assert image.host_elf(older) == image.host_elf(image.parse(app))
    assert older_version(image.with_secure_version(app, 0)) is None
