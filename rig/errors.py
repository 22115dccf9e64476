"""The errors that cross module borders.

Two families, because a report must say which of the two failed: the bench (cabling, instrument, router,
file, package) or the device under test. Every message names the thing and what to do about it.
"""


class RigError(Exception):
    """Root of everything that the rig raises on purpose."""


class BenchError(RigError):
    """The bench failed: nothing is known about the device from this."""


class ConfigError(BenchError):
    """A file that a person wrote is wrong. The message names file, line and key."""


class DeviceError(RigError):
    """The device under test failed: the bench was able to tell."""
