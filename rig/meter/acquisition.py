"""One acquisition of an instrument: what a driver gives, and what the capture makes a recording of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rig.energy import RangeAccuracy
from rig.energy.recording import Change
from rig.meter.protocol import Identity, Trigger

Readings = NDArray[np.float64] | NDArray[np.float32]


@dataclass(frozen=True)
class CapturePlan:
    """What will be recorded, with interval and aperture as the instrument read them back.

    ``ranges_a`` and ``accuracy`` are as in :class:`rig.energy.Waveform`. ``count`` holds the ``pretrigger`` samples
    too; None: until the capture is stopped. ``zero_a`` is what is subtracted of the readings of each range.
    """

    path: Path
    ranges_a: tuple[float, ...]
    interval_s: float
    aperture_s: float
    count: int | None
    pretrigger: int
    trigger: Trigger
    trigger_latency_s: float
    identity: Identity
    accuracy: tuple[RangeAccuracy, ...]
    voltage: bool
    zero_a: dict[float, float]


@dataclass(frozen=True)
class Block:
    """Readings in ampere, shape (n,), and where it is measured the voltage in volt beside them.

    ``lost`` samples are missing before the first. ``changes`` are (what, samples counted from the first reading of this
    block, values), see :class:`rig.energy.recording.Change`.
    """

    current_a: Readings
    voltage_v: Readings | None = None
    lost: int = 0
    changes: tuple[tuple[Change, NDArray[Any], NDArray[Any]], ...] = ()


@dataclass(frozen=True)
class Drained:
    """What has arrived; *finished* when nothing will follow."""

    blocks: Sequence[Block]
    finished: bool


@dataclass(frozen=True)
class Conclusion:
    """What the instrument says at the end: why nothing may be judged by the recording, and which sample was triggered.

    ``trigger_index`` is None where nobody knows, and for an immediate trigger.
    """

    reasons: tuple[str, ...]
    trigger_index: int | None


class Acquisition(Protocol):
    """One acquisition, set up and not yet started. Every method but ``abort`` may raise MeterError."""

    poll_s: float
    """How often ``drain`` is called."""

    def start(self) -> tuple[float, float]:
        """Arm; return two rig times between which it happened. Returns when a trigger can be taken."""

    def drain(self) -> Drained:
        """Return what has arrived since the last call; after ``abort`` what is left."""

    def conclude(self, received: int) -> Conclusion:
        """Say how it went, *received* samples having been drained; called once, when nothing will follow."""

    def abort(self) -> None:
        """Stop taking samples."""
