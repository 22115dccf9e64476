"""What the energy tests share: recordings of current, the packets that place windows in them, repeated exchanges."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rig.bench.bench import Bench
from rig.board import Console
from rig.clock import now_s
from rig.energy import Bounds, Mark, Measurement, Phase, Waveform, combine_repeats, energy
from rig.errors import DeviceError
from rig.fixtures.measure import Measure
from rig.meter import Capture as CurrentCapture
from rig.meter import Trigger
from rig.router import Capture

RADIO_TAIL_S = 0.05
"""How long after the last packet the receiver is counted to what it was switched on for."""
FINE_S, COARSE_S = 20e-6, 1e-3
"""Sample intervals: for an exchange of milliseconds, and for what lasts."""
BEFORE_S, AFTER_S = 0.05, 0.25
CONSOLE_LATENCY_S = 0.005
"""Half-width of the time from the chip's first letter to the rig's stamp: one line at 115200 baud, and the host."""
WAKE = r"rst:0x5 \(DSLEEP\)"
"""What the ROM prints when the chip comes out of deep sleep."""
UNKNOWN = "nobody-of-this-bench"
ROOT_3 = 3**0.5


@dataclass(frozen=True)
class Exchange:
    """A client's packets at the board: the first one to it, the first and the last one back, on the rig's clock."""

    first_s: float
    first_back_s: float
    last_back_s: float
    uncertainty_s: float

    @property
    def reaction(self) -> Bounds:
        """The bounds of the trigger's edge: after the packet that caused it, before the board's answer."""
        earliest_s, latest_s = self.first_s - self.uncertainty_s, self.first_back_s + self.uncertainty_s
        return Bounds(earliest_s, latest_s, "the packets at the board")

    def on_the_air(self, name: str) -> Phase:
        """Return the phase from the first packet to the radio's tail after the last one."""
        return Phase(
            name,
            Mark("first packet at the board", self.first_s, self.uncertainty_s),
            Mark("end of the radio's tail", self.last_back_s + RADIO_TAIL_S, self.uncertainty_s),
        )


def exchange_of(packets: Capture, board_port: int) -> Exchange:
    """Return the exchange that the first packet to *board_port* begins."""
    seen = [packet for packet in packets.packets() if packet.side == "board"]
    first = next((packet for packet in seen if packet.destination[1] == board_port), None)
    if first is None:
        raise DeviceError(f"no packet has reached port {board_port} of the board: there is no exchange to measure")
    back_s = [packet.t_s for packet in seen if packet.destination == first.source]
    if not back_s:
        raise DeviceError("the board has answered no packet of the exchange: there is no energy of one to measure")
    return Exchange(first.t_s, min(back_s), max(back_s), packets.clock.uncertainty_s)


def triggered(
    measure: Measure, name: str, duration_s: float = AFTER_S, *, before_s: float = BEFORE_S, interval_s: float = FINE_S
) -> AbstractContextManager[CurrentCapture]:
    """Record finely, around the next rising edge of the board's trigger line."""
    return measure.current(
        name,
        interval_s=interval_s,
        duration_s=duration_s,
        pretrigger_s=before_s,
        trigger=Trigger.external_rising(),
    )


def steady(
    measure: Measure, name: str, duration_s: float, interval_s: float = COARSE_S
) -> AbstractContextManager[CurrentCapture]:
    """Record from now on, coarsely."""
    return measure.current(name, interval_s=interval_s, duration_s=duration_s)


@dataclass(frozen=True)
class Result:
    """The combined repeats of one exchange, and the files that they were measured from."""

    measurement: Measurement
    evidence: Sequence[Path]
    notes: Sequence[str]


class Exchanges:
    """Measures the energy of one exchange, several times over: the spread of the repeats is part of the result."""

    def __init__(self, bench: Bench, console: Console, measure: Measure) -> None:
        self._bench = bench
        self._console = console
        self._measure = measure

    def repeated(
        self,
        name: str,
        phase: str,
        act: Callable[[], AbstractContextManager[object]],
        *,
        mark: str,
        repeats: int,
        duration_s: float = AFTER_S,
        port: int | None = None,
    ) -> Result:
        """Return the energy in joule of what entering *act* does; leaving it ends what the window is not about.

        *mark* is the console's name of the edge that starts the capture, which lasts *duration_s* from there. *port* is
        the board's, its coaps port unless said otherwise.
        """
        port = self._bench.board_config.coaps_port if port is None else port
        single: list[Measurement] = []
        evidence: list[Path] = []
        for _ in range(repeats):
            packets, waveform, window = self._once(phase, act, mark, duration_s, port)
            single.append(energy(name, window.window(waveform), self._measure.supply))
            evidence += [packets, self._measure.keep(waveform, [window])]
        notes = [
            f"mean of {repeats}: {phase}" if repeats > 1 else f"one {phase}, whose own spread is not known",
            f"with a radio tail of {RADIO_TAIL_S * 1000:g} ms after the last packet",
        ]
        return Result(combine_repeats(name, single), evidence, notes)

    def _once(
        self, phase: str, act: Callable[[], AbstractContextManager[object]], mark: str, duration_s: float, port: int
    ) -> tuple[Path, Waveform, Phase]:
        label = phase.replace(" ", "-")
        with (
            ExitStack() as afterwards,
            self._measure.packets(label) as packets,
            triggered(self._measure, label, duration_s) as current,
        ):
            began_s = now_s()
            afterwards.enter_context(act())
            started = self._console.wait_mark(mark, since_s=began_s)
            recorded = current.result(timeout_s=duration_s + 10)
        exchange = exchange_of(packets, port)
        waveform = self._measure.align(recorded, started, exchange.reaction)
        return packets.path, waveform, exchange.on_the_air(phase)


def per(measurement: Measurement, name: str, amount: float, unit: str) -> Measurement:
    """Return *measurement* divided by *amount*, which is exact, as *name* in *unit*."""
    budget = [
        replace(one, standard_uncertainty=one.standard_uncertainty / amount, unit=unit) for one in measurement.budget
    ]
    doubt = measurement.expanded_uncertainty
    return replace(
        measurement,
        name=name,
        value=measurement.value / amount,
        unit=unit,
        expanded_uncertainty=None if doubt is None else doubt / amount,
        budget=tuple(budget),
    )
