"""What can go wrong with a board, as types. Those under DeviceError are findings about the device."""

from rig.errors import BenchError, DeviceError


class ConsoleTimeout(DeviceError):
    """The device did not print in time what was expected of it."""


class BootFailure(DeviceError):
    """The device did not start; the message quotes what its ROM, loader or application said."""


class WrongBoard(BenchError):
    """The board on this port is not the one that the bench names. Nothing was written to it."""


class BoardDead(BenchError):
    """The chip answers to nothing that was tried; the message tells each step.

    An error of the bench: the mask ROM answers whatever the flash holds, so that a silent chip says nothing about its
    firmware. A missing supply, a cut line and a broken chip look the same from here.
    """


class BoardBusy(BenchError):
    """Another process holds the board."""
