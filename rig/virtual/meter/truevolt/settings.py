"""What the instrument is set to, with the limits and the couplings of a 34465A that has the DIG and MEM options."""

from dataclasses import dataclass

from rig.virtual.meter.scpi import ScpiError
from rig.virtual.meter.truevolt.sampler import Source

TIME_STEP_S = 2e-6
MIN_APERTURE_S = 20e-6
MAX_APERTURE_S = 1.0
MAX_INTERVAL_S = 3600.0
MEMORY_READINGS = 2_000_000
MAX_SAMPLES = 1_000_000_000
LINE_PERIOD_S = 1 / 50
NPLC_CHOICES = (0.001, 0.002, 0.006, 0.02, 0.06, 0.2, 1.0, 10.0, 100.0)


def on_time_grid(value_s: float) -> float:
    """Round to the step of 2 us in which the instrument counts apertures and sample intervals."""
    return round(value_s / TIME_STEP_S) * 2 / 1_000_000


@dataclass
class Settings:
    """The measurement, trigger and format settings. Defaults are those after *RST."""

    function: str = "VOLT"
    range_a: float = 3.0
    autorange: bool = True
    aperture_s: float = 10 * LINE_PERIOD_S
    autozero: bool = True
    trigger_source: Source = Source.IMMEDIATE
    trigger_rising: bool = False
    trigger_level_a: float = 0.0
    trigger_count: float = 1
    trigger_delay_s: float = 0.0
    sample_count: int = 1
    pretrigger_count: int = 0
    sample_timer: bool = False
    timer_s: float = 1.0
    binary_bytes: int = 0
    little_endian: bool = False

    @property
    def reading_time_s(self) -> float:
        """Return how long one reading occupies the converter: with autozero each is followed by a zero reading."""
        return self.aperture_s * (2 if self.autozero else 1)

    @property
    def interval_s(self) -> float:
        """Return the time from one sample to the next."""
        return max(self.timer_s, self.reading_time_s) if self.sample_timer else self.reading_time_s

    @property
    def timing_violated(self) -> bool:
        """Whether the sample timer asks for more than the converter can do."""
        return self.sample_timer and self.timer_s < self.reading_time_s - TIME_STEP_S / 2

    def configure_current(self, autorange: bool) -> None:
        """Act as CONFigure:CURRent:DC: all but range and format returns to its default."""
        kept = {name: getattr(self, name) for name in ("range_a", "binary_bytes", "little_endian")}
        self.__dict__.update(Settings(function="CURR", autorange=autorange).__dict__ | kept)

    def set_aperture(self, value_s: float) -> None:
        """Set the aperture; a sample timer that became too short is lengthened, with error -221."""
        self.aperture_s = value_s
        self._lengthen_timer()

    def set_timer(self, value_s: float) -> None:
        """Set the sample timer on the grid of 2 us; less than the aperture is raised to it, with error -221."""
        self.timer_s = on_time_grid(value_s)
        self._lengthen_timer()

    def set_counts(self, samples: int, pretrigger: int) -> None:
        """Set sample and pretrigger counts; the pretrigger readings are part of the samples."""
        if pretrigger >= samples or (pretrigger and samples > MEMORY_READINGS):
            raise ScpiError(-221, "SAMP:COUN:PRET must be less than SAMP:COUN, which must fit the memory")
        self.sample_count, self.pretrigger_count = samples, pretrigger

    def _lengthen_timer(self) -> None:
        if self.timer_s < self.aperture_s - TIME_STEP_S / 2:
            self.timer_s = on_time_grid(self.aperture_s)
            raise ScpiError(-221, "SAMP:TIM changed")
