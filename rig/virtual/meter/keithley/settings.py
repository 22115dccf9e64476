"""What the instrument is set to, with the limits of the functions that it has."""

from dataclasses import dataclass, field

LINE_HZ = 50.0
MIN_APERTURE_S = 10e-6
MAX_APERTURE_S = 0.24
MIN_RATE = 1_000.0
MAX_RATE = 1_000_000.0
#: The digitizer counts its intervals and apertures in microseconds.
TICK_S = 1e-6
CURRENT = "CURR:DC"

#: Measure functions with their ranges; () has no range.
FUNCTIONS: dict[str, tuple[float, ...]] = {
    CURRENT: (10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0, 3.0, 10.0),
    "CURR:AC": (1e-3, 10e-3, 100e-3, 1.0, 3.0, 10.0),
    "VOLT:DC": (0.1, 1.0, 10.0, 100.0, 1000.0),
    "VOLT:AC": (0.1, 1.0, 10.0, 100.0, 750.0),
    "RES": (10.0, 100.0, 1e3, 10e3, 100e3, 1e6, 10e6, 100e6),
    "FRES": (1.0, 10.0, 100.0, 1e3, 10e3, 100e3, 1e6, 10e6, 100e6),
    "CAP": (1e-9, 10e-9, 100e-9, 1e-6, 10e-6, 100e-6, 1e-3),
    "VOLT:DC:RAT": (0.1, 1.0, 10.0, 100.0, 1000.0),
    "FREQ:VOLT": (),
    "PER:VOLT": (),
    "TEMP": (),
    "DIOD": (),
    "CONT": (),
}


@dataclass
class Sense:
    """The settings of one measure function."""

    range_upper: float
    autorange: bool = True
    aperture_s: float = 1 / LINE_HZ
    autozero: bool = True
    relative: float = 0.0
    relative_on: bool = False
    average_on: bool = False
    average_count: int = 10
    average_type: str = "REP"
    bandwidth_hz: float = 3.0
    digits: int = 6


@dataclass
class Settings:
    """All settings as after ``*RST``. One of ``function`` and ``digitize`` is NONE."""

    function: str = "VOLT:DC"
    digitize: str = "NONE"
    sense: dict[str, Sense] = field(
        default_factory=lambda: {name: Sense(ranges[-1] if ranges else 1.0) for name, ranges in FUNCTIONS.items()}
    )
    digitize_range_a: float = 3.0
    digitize_ticks: int = 10
    aperture_ticks: int | None = None
    count: int = 1
    digitize_count: int = 1
    external_edge: str = "FALL"
    analog_mode: str = "OFF"
    analog_level_a: float = 0.0
    analog_slope: str = "RIS"
    format: str = "ASC"
    swapped: bool = True

    @property
    def interval_s(self) -> float:
        """Return the time from one digitized reading to the next."""
        return self.digitize_ticks * TICK_S

    @property
    def digitize_aperture_s(self) -> float:
        return (self.digitize_ticks if self.aperture_ticks is None else self.aperture_ticks) * TICK_S

    def set_rate(self, per_s: float) -> None:
        """Set the sample rate on the grid of the digitizer; a longer aperture is shortened to fit."""
        self.digitize_ticks = round(1 / per_s / TICK_S)
        if self.aperture_ticks is not None:
            self.aperture_ticks = min(self.aperture_ticks, self.digitize_ticks)
