"""Faults of the board: its supply, its fuses, its boot."""

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
)
