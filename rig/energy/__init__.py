"""From current waveforms to charge, energy and time, each with its uncertainty. Knows no instrument."""

from rig.energy.alignment import Bounds, Contradiction
from rig.energy.bursts import Bursts, find_bursts
from rig.energy.capture_clock import (
    AlignmentError,
    AmbiguousMatch,
    CaptureClock,
    TooFewMatches,
    WireComparison,
    compare_with_wire,
    match_bursts,
)
from rig.energy.change_points import Segment, segment
from rig.energy.measurement import Contribution, Measurement, combine_repeats
from rig.energy.phases import Mark, Phase, phases_between, phases_of
from rig.energy.recording import Header, RecordingWriter, load_recording
from rig.energy.regression import Difference, compare
from rig.energy.uncertainty import (
    charge,
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
    "AlignmentError",
    "AmbiguousMatch",
    "Bounds",
    "Bursts",
    "CaptureClock",
    "Contradiction",
    "Contribution",
    "Difference",
    "Header",
    "InvalidRecording",
    "Mark",
    "Measurement",
    "Phase",
    "RangeAccuracy",
    "RangeSpans",
    "RecordingWriter",
    "Segment",
    "Statistics",
    "Supply",
    "TooFewMatches",
    "Waveform",
    "WaveformError",
    "Window",
    "WireComparison",
    "charge",
    "combine_repeats",
    "compare",
    "compare_with_wire",
    "duration",
    "energy",
    "find_bursts",
    "load_recording",
    "match_bursts",
    "mean_current",
    "mean_of_readings",
    "phases_between",
    "phases_of",
    "segment",
]
