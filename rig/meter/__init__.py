"""Instruments: a capture goes in, a waveform comes out; accuracy data are files. Knows no board."""

from rig.meter.accuracy import Accuracy, load_accuracy
from rig.meter.floor import BOARD_RANGE_A, Floor, FloorStep, measure_floor
from rig.meter.keysight import Keysight34465A
from rig.meter.protocol import (
    Capabilities,
    Capture,
    CaptureInvalid,
    CaptureTimeout,
    Identity,
    Meter,
    MeterError,
    Settings,
    Trigger,
    Zero,
)

__all__ = [
    "BOARD_RANGE_A",
    "Accuracy",
    "Capabilities",
    "Capture",
    "CaptureInvalid",
    "CaptureTimeout",
    "Floor",
    "FloorStep",
    "Identity",
    "Keysight34465A",
    "Meter",
    "MeterError",
    "Settings",
    "Trigger",
    "Zero",
    "load_accuracy",
    "measure_floor",
]
