"""Instruments: a capture goes in, a waveform comes out; accuracy data are files. Knows no board."""

from rig.meter.accuracy import Accuracy, load_accuracy
from rig.meter.calibration import load_certificate
from rig.meter.drivers import Driver, open_meter
from rig.meter.floor import Floor, FloorStep, measure_floor, waking_range_a
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
from rig.meter.scpi.meter import Output

__all__ = [
    "Accuracy",
    "Capabilities",
    "Capture",
    "CaptureInvalid",
    "CaptureTimeout",
    "Driver",
    "Floor",
    "FloorStep",
    "Identity",
    "Meter",
    "MeterError",
    "Output",
    "Settings",
    "Trigger",
    "Zero",
    "load_accuracy",
    "load_certificate",
    "measure_floor",
    "open_meter",
    "waking_range_a",
]
