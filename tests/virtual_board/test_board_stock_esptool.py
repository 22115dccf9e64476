"""The loader against esptool's own command line, with nothing of ours between."""

MAC = "7c:df:a1:0a:ff:c0"


def test_command_line_flashes_and_the_board_boots_what_was_flashed(flashing, probe_flash: bytes):
    board, esptool_process = flashing
    said, _ = esptool_process.communicate()
    assert esptool_process.returncode == 0, said
    assert "ESP32-C3 (QFN32) (revision v0.3)" in said
    assert MAC in said
    assert "Hash of data verified." in said
    assert board.flash.read_bytes() == probe_flash
    with board.console() as console:
        console.reset()
        console.expect("probe pid=")
