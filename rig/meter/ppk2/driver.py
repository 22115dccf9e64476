"""Nordic Power Profiler Kit II: an ammeter, or the board's supply, that streams 100 000 samples a second.

It ranges by itself over five shunts, and no command fixes a range. It sets the board's voltage in source mode and
measures none in either mode. Its maker states typical figures only, so that it has an accuracy only where the user's
document gives one. Nothing is published about the aperture of a sample: it is taken to fill the interval.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rig.energy import RangeAccuracy, Waveform
from rig.meter.accuracy import Accuracy
from rig.meter.acquisition import CapturePlan
from rig.meter.capture import MeterCapture
from rig.meter.ppk2.acquisition import MAX_A, Ppk2Acquisition
from rig.meter.ppk2.port import AMPERE, MODE, REGULATOR, RUNNING, SOURCE, Ppk2Port
from rig.meter.ppk2.words import ADC_FULL_SCALE, INTERVAL_S, UNCERTAIN_SAMPLES, Metadata, parse_metadata
from rig.meter.protocol import Capabilities, Identity, MeterError, Settings, Trigger, Zero
from rig.meter.scpi.meter import Output

#: The five ranges by their nominal upper ends; the instrument chooses them by limits of its own.
RANGES_A = (50e-6, 500e-6, 5e-3, 50e-3, MAX_A)
MIN_V, MAX_V = 0.8, 5.0
#: Ten seconds: 4 MB.
MAX_PRETRIGGER = 1_000_000
ZERO_S = 0.2
ZERO_BATCHES = 20
#: More than this share of the lowest range is no offset: something draws current.
MAX_ZERO_SHARE = 0.02


class Ppk2:
    """The PPK2 at the serial port *port*.

    *accuracy* is its accuracy document (None: values without uncertainty). *on_errors* is called with what is noted
    about the instrument. With *output* it feeds the board (source mode), without it it stands in the board's supply
    line (ampere mode). On entering, the board's supply is switched on where it is off; leaving leaves it on.
    """

    def __init__(
        self,
        port: str,
        accuracy: Accuracy | None,
        on_errors: Callable[[list[str]], None] | None = None,
        output: Output | None = None,
    ) -> None:
        self._port = Ppk2Port(port)
        self._accuracy = accuracy
        self._on_errors = on_errors
        self._output = output
        self._errors: list[str] = []
        self._metadata: Metadata | None = None
        self._identity: Identity | None = None
        self._zeros: dict[float, Zero] = {}

    @property
    def identity(self) -> Identity:
        if self._identity is None:
            raise MeterError(f"{self._port.where}: is not open")
        return self._identity

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            ranges_a=(),
            min_interval_s=INTERVAL_S,
            max_samples=None,
            max_pretrigger=MAX_PRETRIGGER,
            triggers=("immediate", "external", "level"),
            seamless=True,
            output=True,
        )

    @property
    def accuracy(self) -> Accuracy | None:
        return self._accuracy

    @property
    def errors(self) -> tuple[str, ...]:
        """Return what was noted about the instrument; it has no error queue."""
        return tuple(self._errors)

    def __enter__(self) -> Self:
        try:
            self._port.open()
            found = parse_metadata(self._port.metadata())
            self._metadata = self._set_up(found)
            self._identity = self._identify(self._metadata)
            self.switch(True)
        except BaseException:
            self._port.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._port.close()

    def switch(self, on: bool) -> None:
        """Switch the board's supply. While a capture runs this costs it samples, and makes it invalid."""
        self._port.command(RUNNING, int(on))

    def set_range(self, range_a: float) -> None:
        """Refuse: no command fixes a range."""
        raise MeterError(f"{self._port.where}: ranges by itself and has no fixed range, not even one of {range_a:g} A")

    def configure(self, *, range_a: float | None, interval_s: float) -> Settings:
        """Return what is in force: it always takes a sample every 10 us, and ranges by itself.

        Raises:
            MeterError: a range was named, or a shorter interval.
        """
        if range_a is not None:
            self.set_range(range_a)
        if interval_s < INTERVAL_S * (1 - 1e-9):
            raise MeterError(f"{self._port.where}: {interval_s:g} s between samples is less than its {INTERVAL_S:g} s")
        return Settings(None, INTERVAL_S, INTERVAL_S)

    @contextmanager
    def capture(
        self,
        *,
        range_a: float | None,
        interval_s: float,
        duration_s: float | None,
        path: Path,
        pretrigger_s: float = 0.0,
        trigger: Trigger | None = None,
    ) -> Iterator[MeterCapture]:
        """Record into *path* while samples arrive; see ``rig.meter.protocol.Meter.capture``.

        The samples come every 10 us whatever *interval_s*. An external trigger is an edge on the logic input D0. All
        eight logic inputs are in the recording's changes, on the clock of the current.

        Raises:
            MeterError: the settings are impossible, or the instrument does not send samples.
        """
        self.configure(range_a=range_a, interval_s=interval_s)
        plan = self._plan(duration_s, pretrigger_s, trigger or Trigger.immediate(), path)
        acquisition = Ppk2Acquisition(self._port, plan, self._table())
        with MeterCapture(self._port.where, plan, acquisition, self._errors) as capture:
            yield capture

    def read_current(self, *, range_a: float | None, aperture_s: float, count: int) -> Waveform:
        """Take *count* readings, one after the other, each the mean of the samples of *aperture_s*.

        Raises:
            CaptureInvalid: samples were lost, or one was beyond the limit.
        """
        self.configure(range_a=range_a, interval_s=aperture_s)
        each = max(round(aperture_s / INTERVAL_S), 1)
        stream = self._stream_for(each * count * INTERVAL_S)
        readings = np.asarray(stream.samples).reshape(count, each).mean(axis=1, dtype=np.float64)
        used_a = max(_ranges_used(stream))
        figures = self._figures(used_a, each * INTERVAL_S)
        return replace(
            stream,
            samples=readings.astype(np.float32),
            interval_s=each * INTERVAL_S,
            aperture_s=each * INTERVAL_S,
            ranges_a=(used_a,),
            accuracy=() if figures is None else (figures,),
            spans=None,
            path=None,
        )

    def zero(self, ranges_a: Sequence[float]) -> Mapping[float, Zero]:
        """Read the lowest of the ranges with no current flowing, and subtract it from what comes after.

        Without current the instrument is on its lowest range: no other one can be zeroed, nor is it in the answer.

        Raises:
            MeterError: more than a fiftieth of the range flows, or *ranges_a* names others only.
        """
        lowest_a = RANGES_A[0]
        if ranges_a and not any(math.isclose(range_a, lowest_a, rel_tol=1e-6) for range_a in ranges_a):
            raise MeterError(f"{self._port.where}: only its {lowest_a:g} A range can be zeroed")
        self._zeros.clear()
        stream = self._stream_for(ZERO_S)
        samples = np.asarray(stream.samples, np.float64)
        mean_a = float(samples.mean())
        if _ranges_used(stream) != [lowest_a] or abs(mean_a) > MAX_ZERO_SHARE * lowest_a:
            raise MeterError(f"{self._port.where}: {mean_a:.3g} A is no zero: switch the board off, or disconnect it")
        # Neighbouring samples are not independent: the spread is that of the means of stretches.
        means = samples[: len(samples) // ZERO_BATCHES * ZERO_BATCHES].reshape(ZERO_BATCHES, -1).mean(axis=1)
        spread_a = float(means.std(ddof=1)) / math.sqrt(ZERO_BATCHES)
        self._zeros[lowest_a] = Zero(mean_a, spread_a, len(samples))
        return dict(self._zeros)

    def _set_up(self, found: Metadata) -> Metadata:
        """Set mode and voltage where they are others than wanted: setting them again could disturb the board."""
        mode = AMPERE if self._output is None else SOURCE
        supply_v = found.supply_v
        if self._output is not None:
            supply_v = self._wanted_v(self._output)
        if mode != found.mode:
            self._port.command(MODE, mode)
        if abs(supply_v - found.supply_v) > 5e-4:
            self._port.command(REGULATOR, *round(supply_v * 1000).to_bytes(2, "big"))
        if not found.calibrated:
            self._note("its metadata say that it is not calibrated")
        return replace(found, mode=mode, supply_v=supply_v)

    def _wanted_v(self, output: Output) -> float:
        if not MIN_V <= output.voltage_v <= MAX_V:
            raise MeterError(
                f"{self._port.where}: feeds {MIN_V:g} V to {MAX_V:g} V, not {output.voltage_v:g} V: see output: in "
                "bench.yaml"
            )
        if output.current_limit_a < MAX_A:
            raise MeterError(
                f"{self._port.where}: cannot limit the current to {output.current_limit_a:g} A: give "
                f"current_limit_a: {MAX_A:g} and protect the board otherwise"
            )
        return output.voltage_v

    def _identify(self, metadata: Metadata) -> Identity:
        mode = "ampere mode" if metadata.mode == AMPERE else f"source mode at {metadata.supply_v:g} V"
        return Identity("Nordic Semiconductor", "PPK2", self._port.serial_number(), f"HW {metadata.hardware}", (mode,))

    def _note(self, text: str) -> None:
        self._errors.append(text)
        if self._on_errors is not None:
            self._on_errors([text])

    def _table(self) -> NDArray[np.float32]:
        if self._metadata is None:
            raise MeterError(f"{self._port.where}: is not open")
        table = self._metadata.calibration.table(self._metadata.supply_v)
        for index, range_a in enumerate(RANGES_A):
            if range_a in self._zeros:
                first = index * (ADC_FULL_SCALE + 1)
                table[first : first + ADC_FULL_SCALE + 1] -= np.float32(self._zeros[range_a].mean_a)
        return table

    def _plan(self, duration_s: float | None, pretrigger_s: float, trigger: Trigger, path: Path) -> CapturePlan:
        before = math.ceil(pretrigger_s / INTERVAL_S - 1e-6)
        count = None if duration_s is None else math.ceil(duration_s / INTERVAL_S - 1e-6) + before
        where = self._port.where
        if (trigger.source == "level") != (trigger.level_a is not None):
            raise MeterError(f"{where}: a level trigger has a level_a, and no other trigger has one")
        if before and trigger.source == "immediate":
            raise MeterError(f"{where}: an immediate trigger has no time before it: leave pretrigger_s at 0")
        if before > MAX_PRETRIGGER or (count is not None and count <= before):
            raise MeterError(f"{where}: at most {MAX_PRETRIGGER} samples before a trigger, and at least one after it")
        # See Ppk2Acquisition: the first sample after an edge begins up to two intervals after it, of which the capture
        # adds one where there are samples before; a level is seen only after what a range change made uncertain.
        late = 2 if trigger.source == "external" else 2 + UNCERTAIN_SAMPLES
        figures = [self._figures(range_a, INTERVAL_S) for range_a in RANGES_A]
        return CapturePlan(
            path=path,
            ranges_a=RANGES_A,
            interval_s=INTERVAL_S,
            aperture_s=INTERVAL_S,
            count=count,
            pretrigger=before,
            trigger=trigger,
            trigger_latency_s=(late - bool(before)) * INTERVAL_S,
            identity=self.identity,
            accuracy=tuple(one for one in figures if one is not None),
            voltage=False,
            zero_a={range_a: zero.mean_a for range_a, zero in self._zeros.items()},
        )

    def _figures(self, range_a: float, aperture_s: float) -> RangeAccuracy | None:
        return self._accuracy.of_range(range_a, aperture_s) if self._accuracy else None

    def _stream_for(self, duration_s: float) -> Waveform:
        """Return a capture of so long, its samples in memory."""
        with TemporaryDirectory(prefix="readings-") as folder:
            path = Path(folder) / "readings.f32"
            with self.capture(range_a=None, interval_s=INTERVAL_S, duration_s=duration_s, path=path) as capture:
                waveform = capture.result(timeout_s=duration_s + 5.0)
            return replace(waveform, samples=np.array(waveform.samples), path=None)


def _ranges_used(waveform: Waveform) -> list[float]:
    """Return the ranges that hold somewhere in *waveform*, ascending."""
    if waveform.spans is None:
        return [waveform.ranges_a[0]]
    return [waveform.ranges_a[index] for index in np.unique(waveform.spans.index)]
