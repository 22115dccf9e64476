"""What is burnt into the chip: PLT-03, PLT-04, PLT-05. They hold for a board that is judged as a release."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

import pytest

from rig.board import Board, SecurityFuses
from rig.fixtures.measure import Measure

Wanted = Mapping[str, bool]
"""What a release wants, in words, and whether it is burnt."""

DIGEST_SLOTS = 3
PRINT_NEVER = 3
CRYPT_FOR_GOOD = 7


@pytest.mark.requirement("PLT-03")
def test_secure_boot_is_on(board: Board, measure: Measure) -> None:
    _judge("PLT-03", "secure boot is on and its digests are protected", secure_boot, board, measure)


@pytest.mark.requirement("PLT-04")
def test_flash_is_encrypted(board: Board, measure: Measure) -> None:
    _judge("PLT-04", "flash encryption is on for good and its key cannot be read", flash_encryption, board, measure)


@pytest.mark.requirement("PLT-05")
def test_debug_and_download_are_closed(board: Board, measure: Measure) -> None:
    _judge("PLT-05", "JTAG, direct boot and the open loader are switched off", ways_in, board, measure)


def secure_boot(fuses: SecurityFuses) -> Wanted:
    """An unused digest slot that is not revoked could be filled by somebody else."""
    digests = [key for key in fuses.key_blocks if key.purpose.startswith("SECURE_BOOT_DIGEST")]
    used = {int(key.purpose.removeprefix("SECURE_BOOT_DIGEST")) for key in digests}
    unused = set(range(DIGEST_SLOTS)) - used
    return {
        "SECURE_BOOT_EN": fuses.secure_boot_en,
        "a key block with a digest": bool(digests),
        "digests write-protected and readable": all(key.write_protected and not key.read_protected for key in digests),
        "unused digest slots revoked": all(fuses.secure_boot_key_revoke[slot] for slot in unused),
    }


def flash_encryption(fuses: SecurityFuses) -> Wanted:
    """Three bits of the counter: with one, the two left would turn encryption off again."""
    keys = [key for key in fuses.key_blocks if key.purpose.startswith("XTS_AES")]
    return {
        "SPI_BOOT_CRYPT_CNT = 7": fuses.spi_boot_crypt_cnt == CRYPT_FOR_GOOD,
        "DIS_DOWNLOAD_MANUAL_ENCRYPT": fuses.dis_download_manual_encrypt,
        "DIS_DOWNLOAD_ICACHE": fuses.dis_download_icache,
        "a key block with the key, protected against reading": bool(keys) and all(key.read_protected for key in keys),
    }


def ways_in(fuses: SecurityFuses) -> Wanted:
    """An odd number of bits in SOFT_DIS_JTAG closes JTAG until an HMAC opens it."""
    return {
        "DIS_PAD_JTAG": fuses.dis_pad_jtag,
        "DIS_USB_JTAG": fuses.dis_usb_jtag,
        "SOFT_DIS_JTAG": fuses.soft_dis_jtag.bit_count() % 2 == 1,
        "DIS_DIRECT_BOOT": fuses.dis_direct_boot,
        "ENABLE_SECURITY_DOWNLOAD or DIS_DOWNLOAD_MODE": fuses.enable_security_download or fuses.dis_download_mode,
        "UART_PRINT_CONTROL = 3": fuses.uart_print_control == PRINT_NEVER,
    }


def _judge(
    requirement: str, statement: str, wanted: Callable[[SecurityFuses], Wanted], board: Board, measure: Measure
) -> None:
    fuses = board.fuses()
    rows = wanted(fuses)
    missing = [name for name, burnt in rows.items() if not burnt]
    measure.check(
        requirement,
        statement,
        not missing,
        observed=f"not as a release wants it: {', '.join(missing) or 'nothing'}; burnt: "
        f"{', '.join(name for name in rows if name not in missing) or 'nothing'}",
        evidence=[measure.facts("fuses", asdict(fuses))],
    )
