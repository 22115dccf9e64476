"""Security fuses of a virtual board, through espefuse."""

import dataclasses
import io
import json
import subprocess
import sys
import threading

import pytest
import yaml

from rig.board import BoardBusy, BoardLock, SerialPort, WrongBoard, read_fuses_at
from rig.board.fuses import KeyBlock
from rig.board.loader import connect
from rig.errors import BenchError

RELEASE = {
    "SECURE_BOOT_EN": 1,
    "SECURE_BOOT_KEY_REVOKE1": 1,
    "SPI_BOOT_CRYPT_CNT": 7,
    "DIS_PAD_JTAG": 1,
    "SOFT_DIS_JTAG": 3,
    "DIS_DIRECT_BOOT": 1,
    "UART_PRINT_CONTROL": 3,
    "SECURE_VERSION": 7,
}


def rig(*arguments):
    command = [sys.executable, "-m", "rig.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def explained(fuses):
    return {row.subject: row.state for row in fuses.explained()}


def test_a_new_chip_has_nothing_burnt_and_runs_on(virtual_boards, firmware_content, tmp_path):
    virtual = virtual_boards("dut", firmware_content)
    with virtual.open(tmp_path / "console.log") as board:
        fuses = board.fuses()
        board.wait_network()
    assert (fuses.mac, fuses.revision) == (virtual.mac, "v0.3")
    assert not fuses.secure_boot_en
    assert not fuses.flash_encrypted
    assert [key.purpose for key in fuses.key_blocks] == ["USER"] * 6
    words = explained(fuses)
    assert words["secure boot"] == "off"
    assert words["flash encryption"] == "off (SPI_BOOT_CRYPT_CNT = 0)"
    assert words["serial loader"] == words["JTAG at the pads"] == "open"
    assert words["ROM prints on UART0"] == "always"


def test_fuses_burnt_at_the_factory_are_those_that_espefuse_reads(virtual_boards, firmware_content, tmp_path):
    burnt = {"SECURE_BOOT_EN": 1, "KEY_PURPOSE_0": 9, "WR_DIS": 1 << 23, "SOFT_DIS_JTAG": 7, "SECURE_VERSION": 1}
    burnt |= {"SPI_BOOT_CRYPT_CNT": 7, "KEY_PURPOSE_1": 4, "RD_DIS": 2, "DIS_DIRECT_BOOT": 1, "DIS_USB_JTAG": 1}
    virtual = virtual_boards("dut", firmware_content, fuses=burnt)
    with virtual.open(tmp_path / "console.log") as board:
        fuses = board.fuses()
    assert (fuses.secure_boot_en, fuses.dis_direct_boot, fuses.dis_usb_jtag) == (True, True, True)
    assert (fuses.soft_dis_jtag, fuses.spi_boot_crypt_cnt, fuses.secure_version) == (7, 7, 1)
    assert fuses.key_blocks[0] == KeyBlock(0, "SECURE_BOOT_DIGEST0", read_protected=False, write_protected=True)
    assert fuses.key_blocks[1] == KeyBlock(1, "XTS_AES_128_KEY", read_protected=True, write_protected=False)
    assert (fuses.dis_pad_jtag, fuses.secure_boot_key_revoke) == (False, (False, False, False))


@pytest.mark.filterwarnings("ignore:'parser:DeprecationWarning")  # espefuse, of click
def test_burnt_fuses_are_told_in_words_and_no_key_is_shown(virtual_boards, firmware_content, tmp_path):
    virtual = virtual_boards("dut", firmware_content, efuse=str(tmp_path / "efuse"))
    key = bytes(range(100, 132))
    with SerialPort(virtual.url) as port:
        _burn(port, RELEASE, [("BLOCK_KEY2", key, "XTS_AES_128_KEY"), ("BLOCK_KEY4", key, "SECURE_BOOT_DIGEST0")])
    efuse = (tmp_path / "efuse").read_bytes()
    with virtual.open(tmp_path / "console.log") as board:
        fuses = board.fuses()
    assert (tmp_path / "efuse").read_bytes() == efuse
    assert fuses.secure_boot_en
    assert fuses.secure_boot_key_revoke == (False, True, False)
    assert fuses.flash_encrypted
    assert fuses.secure_version == 3
    assert fuses.key_blocks[2] == KeyBlock(2, "XTS_AES_128_KEY", read_protected=True, write_protected=True)
    words = explained(fuses)
    assert words["secure boot"] == "on"
    assert words["revoked digest slots"] == "1"
    assert words["flash encryption"] == "on (SPI_BOOT_CRYPT_CNT = 7)"
    assert words["flash encryption key"] == "block 2: XTS_AES_128_KEY, read- and write-protected"
    assert words["digests of signing keys"] == "block 4: SECURE_BOOT_DIGEST0, write-protected"
    assert words["JTAG at the pads"] == words["direct boot"] == "closed"
    assert words["JTAG until unlocked by HMAC"] == "open (SOFT_DIS_JTAG = 3)"
    assert words["ROM prints on UART0"] == "never"
    assert key.hex() not in repr(fuses)


def _burn(port, fuses, keys=()):
    """Burn fuses and keys (block, key, purpose) with espefuse, as whoever makes a release board does."""
    from espefuse import init_commands

    commands = init_commands(esp=connect(port), do_not_confirm=True)
    for block, key, purpose in keys:
        commands.burn_key([block], [io.BytesIO(key)], [purpose])
    commands.burn_efuse(fuses)


def test_secure_download_mode_is_told_as_such(virtual_boards, firmware_content, tmp_path):
    efuse = tmp_path / "efuse"
    # What a running chip no longer allows: espefuse's own emulator works on the same file.
    command = [sys.executable, "-m", "espefuse", "--virt", "--chip", "esp32c3", "--path-efuse-file", str(efuse)]
    subprocess.run([*command, "--do-not-confirm", "burn-efuse", "ENABLE_SECURITY_DOWNLOAD", "1"], check=True)
    virtual = virtual_boards("dut", firmware_content, efuse=str(efuse))
    with virtual.open(tmp_path / "console.log") as board:
        with pytest.raises(BenchError, match="secure download mode"):
            board.fuses()
        board.wait_network()  # it was left running


def test_flash_is_not_touched(virtual_boards, firmware_content, tmp_path):
    virtual = virtual_boards("dut", firmware_content)
    with virtual.open(tmp_path / "console.log") as board:
        board.fuses()
    assert virtual.flash_path.read_bytes() == firmware_content


def test_every_fact_names_a_requirement_of_the_catalogue(virtual_board, tmp_path):
    with virtual_board.open(tmp_path / "console.log") as board:
        rows = list(board.fuses().explained())
    assert {row.requirement for row in rows} == {"PLT-03", "PLT-04", "PLT-05"}
    assert all(row.state and row.release for row in rows)


def test_another_board_on_the_port_is_refused(virtual_boards, firmware_content, tmp_path):
    virtual = virtual_boards("dut", firmware_content)
    impostor = dataclasses.replace(virtual, mac="02:fe:00:00:00:01")
    with impostor.open(tmp_path / "console.log") as board:
        with pytest.raises(WrongBoard, match=virtual.mac):
            board.fuses()
        board.wait_network()  # it was left running
    BoardLock(impostor.mac).path.unlink()


def test_a_board_held_through_another_port_is_refused(virtual_boards, firmware_content):
    virtual = virtual_boards("dut", firmware_content)
    with BoardLock(virtual.mac), pytest.raises(BoardBusy, match=virtual.mac):
        read_fuses_at(virtual.url)


def test_boards_are_read_in_threads_of_their_own(virtual_boards):
    boards = [virtual_boards("one"), virtual_boards("two")]
    read = {}
    threads = [
        threading.Thread(target=lambda url=one.url: read.update({url: read_fuses_at(url).mac})) for one in boards
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == {one.url: one.mac for one in boards}


def test_the_command_line_for_a_port(virtual_board):
    ended = rig("fuses", "--port", virtual_board.url)
    assert ended.returncode == 0, ended.stderr
    assert f"{virtual_board.mac}, ESP32-C3 v0.3" in ended.stdout
    assert "PLT-04" in ended.stdout
    machine = json.loads(rig("fuses", "--port", virtual_board.url, "--json").stdout)
    (board,) = machine["boards"]
    assert board["mac"] == virtual_board.mac
    assert board["spi_boot_crypt_cnt"] == 0
    assert len(board["key_blocks"]) == 6
    assert board["explained"][0] == {
        "requirement": "PLT-03",
        "subject": "secure boot",
        "state": "off",
        "release": "on",
    }


def test_the_command_line_for_a_bench(virtual_board, tmp_path):
    bench = tmp_path / "bench.yaml"
    board = {
        "name": "light1",
        "mac": virtual_board.mac,
        "port": virtual_board.url,
        "identity": "x",
        "psk": {"env": "X"},
    }
    bench.write_text(yaml.safe_dump({"boards": [board]}))
    ended = rig("fuses", "--bench", bench, "--board", "light1", "--json")
    assert json.loads(ended.stdout)["boards"][0]["board"] == "light1", ended.stderr
    ended = rig("fuses", "--bench", bench, "--board", "light2")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "no board called 'light2'" in ended.stderr
    ended = rig("fuses", "--port", "x", "--board", "light1")
    assert (ended.returncode, "does not go with --port" in ended.stderr) == (2, True)
