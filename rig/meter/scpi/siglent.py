"""What is odd about Siglent's SDM3065X: a slow meter, for the sleep floor only.

Source: SDM Series Digital Multimeter Programming Guide EN02A. Its aperture is set in periods of the line, from a short
list (page 72); it has no sample timer, no status registers and no binary format; ``R?`` answers with a block of text
(page 20). Siglent's operating tip "SDM ranging in current measurement modes" says that a range chosen by hand is left
upwards when the current exceeds it, so that the range is asked for once more after the readings.
"""

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import numpy as np

from rig.clock import now_s
from rig.energy import Waveform
from rig.meter.acquisition import Block, CapturePlan, Conclusion, Drained
from rig.meter.protocol import MeterError, Settings, Trigger
from rig.meter.scpi.meter import ScpiMeter, in_memory
from rig.meter.visa import compound

LINE_PERIOD_S = 0.02
NPLC_CHOICES = (0.5, 1.0, 10.0, 100.0)
#: With the automatic zero every reading is followed by one of the offset, as long as itself (page 74).
READINGS_PER_VALUE = 2
#: What a range can show: a tenth more than its name (data sheet DataSheet-2021.05, table DC Characteristics).
OVERRANGE = 1.1
OVERLOAD = 9.9e37
#: How much longer than its apertures the instrument may take for its readings, besides a share of one half.
SLACK_S = 10.0


class Siglent(ScpiMeter):
    """An SDM3065X measuring DC current, reading by reading."""

    def capture(self, *, interval_s: float, **_: Any) -> NoReturn:
        """Refuse: without a sample timer a recording has no time axis.

        Raises:
            MeterError: always.
        """
        raise MeterError(
            f"{self.where}: {self.declaration.title} cannot take a sample every {interval_s:g} s: it has no sample "
            "timer and does not digitize. It is for slow readings such as the sleep floor; captures need another meter"
        )

    def read_current(self, *, range_a: float | None, aperture_s: float, count: int) -> Waveform:
        """See ``rig.meter.protocol.Meter.read_current``; the apertures are 10, 20, 200 ms and 2 s.

        Its ``interval_s`` is what the apertures and automatic zeros take; the instrument adds some milliseconds each.
        """
        interval_s = READINGS_PER_VALUE * aperture_s
        seconds = count * interval_s
        with (
            TemporaryDirectory(prefix="readings-") as folder,
            super().capture(
                range_a=range_a, interval_s=interval_s, duration_s=seconds, path=Path(folder) / "readings.f32"
            ) as capture,
        ):
            return in_memory(capture.result(timeout_s=1.5 * seconds + SLACK_S))

    def acquisition(self, plan: CapturePlan) -> "SiglentAcquisition":
        return SiglentAcquisition(self, plan)

    def _sampling(
        self, range_a: float | None, interval_s: float, count: int | None, pretrigger: int, trigger: Trigger
    ) -> Settings:
        aperture_s = interval_s / READINGS_PER_VALUE
        nplc = self._nplc(aperture_s)
        commands = self.declaration.filled(
            self.declaration.commands.sampling, trigger.source, count=count, pretrigger=pretrigger
        )
        self.group("sampling", f"CURR:DC:NPLC {nplc:g}", *commands)
        told = self.session.query_float("CURR:DC:NPLC?"), self.session.query_float("CURR:DC:AZ?")
        if told != (nplc, 1.0):
            raise MeterError(
                f"{self.where}: made {told[0]:g} periods of the line and automatic zero {told[1]:g} of {nplc:g} and 1: "
                "is its line frequency 50 Hz?"
            )
        return Settings(range_a, interval_s, aperture_s)

    def _nplc(self, aperture_s: float) -> float:
        for nplc in NPLC_CHOICES:
            if math.isclose(aperture_s, nplc * LINE_PERIOD_S, rel_tol=1e-6):
                return nplc
        known = ", ".join(f"{nplc * LINE_PERIOD_S:g}" for nplc in NPLC_CHOICES)
        raise MeterError(f"{self.where}: has no aperture of {aperture_s:g} s (it has {known})")


class SiglentAcquisition:
    """See ``rig.meter.acquisition.Acquisition``."""

    poll_s = 0.05

    def __init__(self, meter: Siglent, plan: CapturePlan) -> None:
        assert plan.count is not None
        self._meter = meter
        self._session = meter.session
        self._plan = plan
        self._missing = plan.count

    def start(self) -> tuple[float, float]:
        before_s = now_s()
        self._session.query(compound(*self._meter.declaration.commands.start, "DATA:POIN?"))
        armed = before_s, now_s()
        if refused := self._session.drain_errors("starting"):
            raise MeterError(f"{self._meter.where}: refused the readings: {'; '.join(refused)}")
        return armed

    def drain(self) -> Drained:
        points = self._points()
        if not points:
            # Nothing follows when somebody has changed the function, nor anything that says so.
            return Drained((), finished=self._missing <= 0 or not self._measures_current())
        text = self._session.query_block(f"R? {points}").decode("ascii", "replace")
        readings = self._numbers(text)
        # Those that it took after it left the range upwards are of no range that was asked for.
        readings[np.abs(readings) > OVERRANGE * self._plan.ranges_a[0]] = OVERLOAD
        self._missing -= len(readings)
        return Drained((Block(readings),), finished=self._missing <= 0)

    def conclude(self, received: int) -> Conclusion:
        range_a = self._session.query_float("CURR:DC:RANG?")
        self._session.drain_errors("readings")
        reasons = []
        if not self._measures_current():
            reasons.append("it does not measure DC current any more: somebody changed its function")
        if not math.isclose(range_a, self._plan.ranges_a[0], rel_tol=1e-6):
            reasons.append(f"it is on its {range_a:g} A range now: it went there by itself, or somebody did it")
        if self._missing:
            reasons.append(f"{received} readings instead of {self._plan.count}")
        return Conclusion(tuple(reasons), None)

    def abort(self) -> None:
        self._session.command("aborting", *self._meter.declaration.commands.abort)

    def _points(self) -> int:
        (points,) = self._session.query_integers("DATA:POIN?")
        return points

    def _measures_current(self) -> bool:
        return self._session.query("FUNC?").strip('"') in ("CURR", "CURR:DC")

    def _numbers(self, text: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        try:
            return np.array([float(number) for number in text.split(",")])
        except ValueError as error:
            raise MeterError(f"{self._meter.where}: readings that are no numbers: {text[:60]!r}") from error
