"""From current waveforms to charge, energy and time, each with its uncertainty. Knows no instrument."""

from rig.energy.alignment import Bounds, Contradiction
from rig.energy.phases import Mark, Phase, phases_between
from rig.energy.uncertainty import (
    Contribution,
    Measurement,
    charge,
    combine_repeats,
    duration,
    energy,
    mean_current,
    mean_of_readings,
)
from rig.energy.waveform import RangeAccuracy, Statistics, Supply, Waveform, WaveformError, Window

__all__ = [
    "Bounds",
    "Contradiction",
    "Contribution",
    "Mark",
    "Measurement",
    "Phase",
    "RangeAccuracy",
    "Statistics",
    "Supply",
    "Waveform",
    "WaveformError",
    "Window",
    "charge",
    "combine_repeats",
    "duration",
    "energy",
    "mean_current",
    "mean_of_readings",
    "phases_between",
]
