"""What the virtual instrument is specified to be (the accuracy document), and what this one specimen is (drawn)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from rig.errors import ConfigError

OVERLOAD_RATIO = 1.2
OVERLOAD_READING = 9.9e37
REFERENCE_APERTURE_S = 20e-6
#: Rms noise of a voltage reading over the reference aperture, of its range.
VOLTAGE_NOISE_REL = 20e-6


@dataclass(frozen=True)
class Channel:
    """One current range of one specimen, with the errors that this specimen has.

    ``series_ohm`` is what shunt and leads put between the supply and the board; ``wired`` is False for a range on
    jacks of its own, to which nothing is wired.
    """

    range_a: float
    gain_error: float
    offset_a: float
    noise_rms_a: float
    series_ohm: float
    wired: bool = True

    def noise_a(self, aperture_s: float) -> float:
        """Return the rms noise of one reading: white, so it falls with the root of the aperture."""
        return self.noise_rms_a * float(np.sqrt(REFERENCE_APERTURE_S / aperture_s))

    def overloaded(self, current_a: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which of the true currents are beyond what the range can show."""
        return np.asarray(np.abs(self._through(current_a)) > self.range_a * OVERLOAD_RATIO)

    def read(self, current_a: NDArray[np.float64], aperture_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the readings of the true mean currents *current_a*; what is beyond the range reads 9.9e37."""
        current_a = self._through(current_a)
        noise = self.noise_a(aperture_s)
        readings = current_a * (1 + self.gain_error) + self.offset_a + rng.normal(0.0, noise, len(current_a))
        # The converter's step is a quarter of the noise of a reading, so that averages go below it.
        step = noise / 4
        readings = np.round(readings / step) * step
        return np.where(self.overloaded(current_a), np.copysign(OVERLOAD_READING, current_a), readings)

    def _through(self, current_a: NDArray[np.float64]) -> NDArray[np.float64]:
        return current_a if self.wired else np.zeros_like(current_a)


@dataclass(frozen=True)
class VoltageChannel:
    """The voltmeter at the sense point of an instrument that feeds the board."""

    range_v: float
    gain_error: float
    offset_v: float
    noise_rms_v: float

    def read(self, voltage_v: NDArray[np.float64], aperture_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the readings of the true voltages *voltage_v*."""
        noise = self.noise_rms_v * float(np.sqrt(REFERENCE_APERTURE_S / aperture_s))
        return voltage_v * (1 + self.gain_error) + self.offset_v + rng.normal(0.0, noise, len(voltage_v))


@dataclass(frozen=True)
class Specimen:
    """One instrument: its ranges (ascending), its crystal and its trigger, drawn once when it is switched on."""

    channels: tuple[Channel, ...]
    clock_error: float
    trigger_latency_ns: float
    voltage: VoltageChannel | None = None

    def channel(self, range_a: float) -> Channel:
        """Return the lowest range that holds *range_a*."""
        return next((c for c in self.channels if c.range_a >= range_a * (1 - 1e-9)), self.channels[-1])


def ranges_followed(
    channels: Sequence[Channel], current_a: NDArray[np.float64], hold: int, before: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return which of *channels* (ascending) a seamlessly ranging instrument is on at each of *current_a*.

    It goes up at once and down when *hold* samples in a row have fitted the lower range. *before* is what was needed
    in the samples before these (at most *hold* of them count); ``ranges_needed`` gives it.
    """
    needed = np.concatenate((before[len(before) - min(hold, len(before)) :], ranges_needed(channels, current_a)))
    reach, highest = 1, needed
    while reach < hold + 1:  # the maximum over the last hold + 1 samples, doubling what it reaches back
        step = min(reach, hold + 1 - reach)
        highest = np.maximum(highest, np.concatenate((highest[:1].repeat(step), highest[:-step]))[: len(highest)])
        reach += step
    return highest[len(highest) - len(current_a) :]


def ranges_needed(channels: Sequence[Channel], current_a: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the index of the lowest of *channels* (ascending) that holds each of *current_a*."""
    limits = np.array([channel.range_a for channel in channels[:-1]])
    return np.searchsorted(limits, np.abs(current_a), side="left").astype(np.uint8)


def draw_specimen(path: Path, rng: np.random.Generator, *, jacks_a: float = math.inf) -> Specimen:
    """Read the accuracy document at *path* and draw one instrument that meets it.

    Ranges above *jacks_a* are on jacks of their own, to which nothing is wired.

    Raises:
        ConfigError: the document cannot be read or lacks a figure.
    """
    try:
        document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _draw(document, rng, jacks_a)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: accuracy document cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: accuracy document lacks or misstates {error}") from error


def _draw(document: dict[str, Any], rng: np.random.Generator, jacks_a: float) -> Specimen:
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
            wired=float(entry["range_a"]) <= jacks_a,
        )
        for entry in sorted(document["ranges"], key=lambda entry: float(entry["range_a"]))
    ]
    return Specimen(
        channels=tuple(channels),
        clock_error=float(rng.uniform(-1, 1)) * float(document["timebase_ppm"]) * 1e-6,
        trigger_latency_ns=float(rng.uniform(1e3, 6e3)),
        voltage=_draw_voltage(document.get("voltage", []), error_within),
    )


def _draw_voltage(lines: list[dict[str, Any]], error_within: Callable[[float], float]) -> VoltageChannel | None:
    if not lines:
        return None
    entry = lines[0]
    range_v = float(entry["range_v"])
    return VoltageChannel(
        range_v=range_v,
        gain_error=error_within(float(entry["reading_ppm"]) * 1e-6),
        offset_v=error_within(float(entry["range_ppm"]) * 1e-6 * range_v),
        noise_rms_v=VOLTAGE_NOISE_REL * range_v,
    )
