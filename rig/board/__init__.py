"""The device under test: serial port, console, marks, power, fuses, flashing, provisioning, and the lock.

This wing knows no meter, no router and no bench file. esptool and the NVS generator are imported when first used.
"""

from rig.board.board import Board, NetworkAddress
from rig.board.console import Console, Line
from rig.board.errors import BoardBusy, BoardDead, BootFailure, ConsoleTimeout, WrongBoard
from rig.board.flash import FlashedPart, FlashReport, ImagePart, flash
from rig.board.fuses import SecurityFuses, read_fuses, read_fuses_at
from rig.board.lock import BoardLock
from rig.board.marks import Mark, estimate_device_clock, parse_mark
from rig.board.power import CommandPower, PowerSwitch
from rig.board.provision import Provisioning, nvs_image
from rig.board.recovery import Recovery, Step
from rig.board.serialport import SerialPort

__all__ = [
    "Board",
    "BoardBusy",
    "BoardDead",
    "BoardLock",
    "BootFailure",
    "CommandPower",
    "Console",
    "ConsoleTimeout",
    "FlashReport",
    "FlashedPart",
    "ImagePart",
    "Line",
    "Mark",
    "NetworkAddress",
    "PowerSwitch",
    "Provisioning",
    "Recovery",
    "SecurityFuses",
    "SerialPort",
    "Step",
    "WrongBoard",
    "estimate_device_clock",
    "flash",
    "nvs_image",
    "parse_mark",
    "read_fuses",
    "read_fuses_at",
]
