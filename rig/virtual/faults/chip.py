"""Faults of the board: its supply, its fuses, its boot, its key."""

from rig.virtual.faults.fault import Fault

CHIP_FAULTS = (
    Fault(
        "deep-sleep-800ua",
        "draws 800 uA in deep sleep: a part of the board stays powered",
        "MD5",
        ("ENE-04",),
        "chip",
        board={"sleep_current_a": 800e-6},
    ),
    Fault(
        "deep-sleep-12ua",
        "draws 12 uA in deep sleep, a little above the limit of 10 uA",
        "MD5",
        ("ENE-04",),
        "chip",
        board={"sleep_current_a": 12e-6},
    ),
    Fault(
        "boots-altered-image",
        "starts an image whose checksum and SHA-256 do not fit",
        "MS33",
        ("PLT-07",),
        "chip",
        board={"verify_images": False},
    ),
    Fault(
        "boots-older-image",
        "starts an image of an older secure version than its fuses ask for",
        "MS33",
        ("PLT-07",),
        "chip",
        board={"anti_rollback": False},
    ),
    Fault(
        "fuses-not-burnt",
        "left its maker with secure boot off, flash readable and JTAG open",
        "MS31",
        ("PLT-03", "PLT-04", "PLT-05"),
        "chip",
        board={"fuses": {}},
        profile="release",
    ),
    Fault(
        "one-key-for-all",
        "has the same key as every other board of its maker",
        "MS4",
        ("PSK-07",),
        "chip",
        bench={"boards": 2, "one_key": True},
    ),
)
