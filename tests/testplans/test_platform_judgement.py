"""What the platform's plan judges by: fuses, consoles and nonces of devices that ought to fail it."""

from dataclasses import replace

import pytest

from rig.board.fuses import KeyBlock, SecurityFuses
from rig.dtls.records import ContentType
from rig.dtls.session import SeenRecord
from rig.testplans.platform.test_console import PANIC
from rig.testplans.platform.test_fuses import flash_encryption, secure_boot, ways_in
from rig.testplans.security.test_sleep import device_nonces

RELEASE = SecurityFuses(
    mac="7c:df:a1:00:00:01",
    revision="v0.4",
    secure_boot_en=True,
    secure_boot_aggressive_revoke=False,
    secure_boot_key_revoke=(False, True, True),
    spi_boot_crypt_cnt=7,
    dis_download_manual_encrypt=True,
    dis_download_icache=True,
    dis_pad_jtag=True,
    dis_usb_jtag=True,
    soft_dis_jtag=7,
    dis_usb_serial_jtag=False,
    dis_download_mode=True,
    enable_security_download=False,
    dis_usb_serial_jtag_download_mode=True,
    dis_force_download=True,
    dis_direct_boot=True,
    uart_print_control=3,
    dis_usb_serial_jtag_rom_print=True,
    secure_version=1,
    key_blocks=(
        KeyBlock(0, "SECURE_BOOT_DIGEST0", read_protected=False, write_protected=True),
        KeyBlock(1, "XTS_AES_128_KEY", read_protected=True, write_protected=True),
    ),
)
DIGEST, KEY = RELEASE.key_blocks


def test_a_release_is_as_it_should_be() -> None:
    for wanted in (secure_boot, flash_encryption, ways_in):
        assert all(wanted(RELEASE).values())


@pytest.mark.parametrize(
    ("wanted", "change"),
    [
        (secure_boot, {"secure_boot_en": False}),
        (secure_boot, {"secure_boot_key_revoke": (False, False, True)}),
        (secure_boot, {"key_blocks": (KEY,)}),
        (secure_boot, {"key_blocks": (replace(DIGEST, write_protected=False), KEY)}),
        (secure_boot, {"key_blocks": (replace(DIGEST, read_protected=True), KEY)}),
        (flash_encryption, {"spi_boot_crypt_cnt": 0}),
        (flash_encryption, {"spi_boot_crypt_cnt": 1}),
        (flash_encryption, {"dis_download_manual_encrypt": False}),
        (flash_encryption, {"dis_download_icache": False}),
        (flash_encryption, {"key_blocks": (DIGEST,)}),
        (flash_encryption, {"key_blocks": (DIGEST, replace(KEY, read_protected=False))}),
        (ways_in, {"dis_pad_jtag": False}),
        (ways_in, {"dis_usb_jtag": False}),
        (ways_in, {"soft_dis_jtag": 3}),
        (ways_in, {"dis_direct_boot": False}),
        (ways_in, {"dis_download_mode": False}),
        (ways_in, {"uart_print_control": 1}),
    ],
)
def test_one_fuse_that_is_missing_is_seen(wanted, change) -> None:
    assert not all(wanted(replace(RELEASE, **change)).values())


@pytest.mark.parametrize(
    "text",
    ["Guru Meditation Error: Core  0 panic'ed", "MEPC    : 0x42000", "Stack memory:", "abort() was called at PC"],
)
def test_panic_text_is_known(text: str) -> None:
    assert PANIC.search(f"I (1) x\n{text}\n")


def record(sequence: int, *, epoch: int = 1, from_client: bool = False) -> SeenRecord:
    nonce = (epoch << 48 | sequence).to_bytes(8, "big")
    return SeenRecord(0.0, from_client, ContentType.APPLICATION_DATA, epoch, sequence, 40, nonce, b"")


def test_a_nonce_of_the_device_that_comes_again_is_counted() -> None:
    records = (record(1), record(2), record(1), record(1, from_client=True), record(1, epoch=2))
    assert sorted(device_nonces(records).values()) == [1, 1, 2]
