"""What the virtual instrument is specified to be (the accuracy document), and what this one specimen is (drawn)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rig.errors import ConfigError

#: The 3 A jacks carry the board; the 10 A range uses jacks of its own, to which nothing is wired.
WIRED_RANGE_A = 3.0
OVERLOAD_RATIO = 1.2
OVERLOAD_READING = 9.9e37
REFERENCE_APERTURE_S = 20e-6


@dataclass(frozen=True)
class Channel:
    """One current range of one specimen, with the errors that this specimen has."""

    range_a: float
    gain_error: float
    offset_a: float
    noise_rms_a: float
    series_ohm: float

    @property
    def wired(self) -> bool:
        return self.range_a <= WIRED_RANGE_A

    def noise_a(self, aperture_s: float) -> float:
        """Return the rms noise of one reading: white, so it falls with the root of the aperture."""
        return self.noise_rms_a * float(np.sqrt(REFERENCE_APERTURE_S / aperture_s))


@dataclass(frozen=True)
class Specimen:
    """One instrument: its ranges, its crystal and its trigger, drawn once when it is switched on."""

    channels: tuple[Channel, ...]
    clock_error: float
    trigger_latency_ns: float

    def channel(self, range_a: float) -> Channel:
        """Return the lowest range that holds *range_a*."""
        return next((c for c in self.channels if c.range_a >= range_a * (1 - 1e-9)), self.channels[-1])


def draw_specimen(path: Path, rng: np.random.Generator) -> Specimen:
    """Read the accuracy document at *path* and draw one instrument that meets it.

    Raises:
        ConfigError: the document cannot be read or lacks a figure.
    """
    try:
        document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _draw(document, rng)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: accuracy document cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: accuracy document lacks or misstates {error}") from error


def _draw(document: dict[str, Any], rng: np.random.Generator) -> Specimen:
    coverage = document["coverage"]

    def error_within(limit: float) -> float:
        if "k" in coverage:
            return float(rng.normal(0.0, limit / float(coverage["k"])))
        return float(rng.uniform(-limit, limit))

    series_scale = 1 + float(rng.uniform(-1, 1)) * float(document["series_tolerance_ppm"]) * 1e-6
    channels = [
        Channel(
            range_a=float(entry["range_a"]),
            gain_error=error_within(float(entry["reading_ppm"]) * 1e-6),
            offset_a=error_within(float(entry["range_ppm"]) * 1e-6 * float(entry["range_a"])),
            noise_rms_a=float(entry["noise_rms_a"]),
            series_ohm=(float(entry["shunt_ohm"]) + float(document["lead_ohm"])) * series_scale,
        )
        for entry in sorted(document["ranges"], key=lambda entry: float(entry["range_a"]))
    ]
    return Specimen(
        channels=tuple(channels),
        clock_error=float(rng.uniform(-1, 1)) * float(document["timebase_ppm"]) * 1e-6,
        trigger_latency_ns=float(rng.uniform(1e3, 6e3)),
    )
