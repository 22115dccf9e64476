"""What is red on a carrier of faults when it is healthy, and why: data beside this file."""

from pathlib import Path
from typing import Literal

from rig.formats.checked_yaml import CheckedModel, load_checked
from rig.virtual.faults.fault import Carrier


class Red(CheckedModel):
    """One requirement that the healthy carrier does not meet."""

    state: Literal["fail", "deviation", "error", "inconclusive"]
    cause: str


class Baseline(CheckedModel):
    """The requirements that are red on a healthy carrier, by id."""

    reds: dict[str, Red]


def load_baseline(carrier: Carrier) -> Baseline:
    """Return the baseline of a carrier; chip and relay are those of the firmware that runs behind them."""
    name = "device" if carrier == "device" else "firmware"
    return load_checked(Path(__file__).with_name(f"baseline-{name}.yaml"), Baseline)
