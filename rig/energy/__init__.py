"""From current waveforms to charge, energy and time, each with its uncertainty. Knows no instrument."""

from rig.energy.alignment import Bounds, Contradiction
from rig.energy.phases import Mark, Phase, phases_between
from rig.energy.recording import Header, RecordingWriter, load_recording
from rig.energy.uncertainty import (
    MOST_LOST,
    Contribution,
    Measurement,
    charge,
    combine_repeats,
    duration,
    energy,
    mean_current,
    mean_of_readings,
)
from rig.energy.waveform import (
    InvalidRecording,
    RangeAccuracy,
    RangeSpans,
    Statistics,
    Supply,
    Waveform,
    WaveformError,
    Window,
)

__all__ = [
    "MOST_LOST",
    "Bounds",
    "Contradiction",
    "Contribution",
    "Header",
    "InvalidRecording",
    "Mark",
    "Measurement",
    "Phase",
    "RangeAccuracy",
    "RangeSpans",
    "RecordingWriter",
    "Statistics",
    "Supply",
    "Waveform",
    "WaveformError",
    "Window",
    "charge",
    "combine_repeats",
    "duration",
    "energy",
    "load_recording",
    "mean_current",
    "mean_of_readings",
    "phases_between",
]
