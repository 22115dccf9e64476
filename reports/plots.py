"""Current, phases, packets and marks on one time axis, as Bokeh figures for a page that loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.embed import json_item
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, CrosshairTool, HoverTool, NumeralTickFormatter, Range1d
from bokeh.models.annotations.geometry import BoxAnnotation, Span
from bokeh.models.text import BaseText
from bokeh.plotting import figure
from numpy.typing import NDArray

from rig.reports.messages import KINDS
from rig.reports.model import Mark, Phase, Waveform
from rig.reports.packets import Packet
from rig.reports.text import number, scale, visible
from rig.reports.waveforms import Trace

TRACE_COLOUR = "#2f7ed8"
PHASE_COLOURS = ("#2f9e8f", "#c9822b", "#8a63c9", "#5c7fa6", "#b4577e", "#7d8f2f")
_LOOK = dict(
    zip(KINDS, (("diamond", "#c9722b"), ("circle", "#2a9d76"), ("triangle", "#d64545"), ("x", "#868e96")), strict=True)
)
_LABELS_UA: dict[float | str, str | BaseText] = {
    step * 10.0**power: number(step * 10.0**power * 1e-6, "A") for power in range(-3, 8) for step in range(1, 10)
}
_LANES = {"phase": 3.5, "board sends": 2.0, "board receives": 1.0, "console mark": 0.0}
_AXIS_WIDTH_PX = 96


@dataclass(frozen=True)
class Plot:
    """One capture to draw: its trace, and what happened during it, all on the rig's clock."""

    id: str
    waveform: Waveform
    trace: Trace
    phases: Sequence[Phase]
    packets: Sequence[Packet]
    marks: Sequence[Mark]
    colours: dict[str, str]

    @property
    def logarithmic(self) -> bool:
        """True where the current spans so much that one of sleep and work would be a flat line on a linear axis."""
        positive = self.trace.current_a[self.trace.current_a > 0]
        return bool(positive.size) and float(positive.max()) > 300 * float(np.quantile(positive, 0.05))

    @property
    def floor_a(self) -> float:
        """What a logarithmic axis shows samples at and below zero as, in amperes."""
        positive = self.trace.current_a[self.trace.current_a > 0]
        return float(np.quantile(positive, 0.05)) / 10 if positive.size else 0.0


def item(plot: Plot) -> dict[str, Any]:
    """Return the JSON by which Bokeh draws *plot* into the element ``plot.id``; the same plot gives the same JSON."""
    end_s = plot.trace.duration_s or 1.0
    x_range = Range1d(start=0, end=end_s, bounds=(0, end_s), name=f"{plot.id}-time")
    cursor = Span(dimension="height", line_color="#868e96", line_dash="dashed")
    figures = [_current(plot, x_range), _events(plot, x_range)]
    for one in figures:
        one.add_tools(CrosshairTool(overlay=cursor))
        _shade(one, plot)
    layout = column(*figures, sizing_mode="stretch_width")
    return _stable_ids({**json_item(layout), "target_id": plot.id}, plot.id)


def _figure(x_range: Range1d, height: int, tools: str, **options: Any) -> figure:
    return figure(
        x_range=x_range,
        height=height,
        sizing_mode="stretch_width",
        min_border_left=_AXIS_WIDTH_PX,
        tools=tools,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        **options,
    )


def _current(plot: Plot, x_range: Range1d) -> figure:
    log = plot.logarithmic
    current_a = np.maximum(plot.trace.current_a, plot.floor_a) if log else plot.trace.current_a
    factor, unit = (1e-6, "µA") if log else scale(_largest(current_a), "A")
    one = _figure(
        x_range,
        300,
        "xpan,xbox_zoom,xzoom_in,xzoom_out,undo,reset,save",
        y_axis_type="log" if log else "linear",
        y_range=_y_range(plot, current_a / factor),
        active_drag="xbox_zoom",
        toolbar_location="above",
    )
    one.toolbar.logo = None
    data = ColumnDataSource(
        {"time": plot.trace.time_s, "current": (current_a / factor).astype(np.float32)}, name=f"{plot.id}-samples"
    )
    line = one.line("time", "current", source=data, line_color=TRACE_COLOUR, line_width=1.2)
    tips = [("time", "@time{0.000000} s"), ("current", f"@current{{0,0.000}} {unit}")]
    one.add_tools(HoverTool(renderers=[line], tooltips=tips, mode="vline", line_policy="nearest"))
    one.yaxis.axis_label = f"current ({unit}{', logarithmic' if log else ''})"
    if log:
        one.yaxis.major_label_overrides = _LABELS_UA
        one.yaxis.formatter = NumeralTickFormatter(format="0,0.[000]")
    one.xaxis.visible = False
    return one


def _y_range(plot: Plot, current: NDArray[np.float64]) -> Range1d:
    """Return the range that the page's script then fits to the samples in view; its tag tells the kind of axis."""
    finite = current[np.isfinite(current)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    tag = "logarithmic" if plot.logarithmic else "linear"
    return Range1d(start=low, end=high if high > low else low + 1.0, name=f"{plot.id}-current", tags=[tag])


def _largest(current_a: NDArray[np.float64]) -> float:
    finite = np.abs(current_a[np.isfinite(current_a)])
    return float(finite.max()) if finite.size else 0.0


def _events(plot: Plot, x_range: Range1d) -> figure:
    one = _figure(x_range, 236, "xpan,xbox_zoom", y_range=Range1d(start=-0.6, end=4.4), toolbar_location=None)
    _draw_phases(one, plot)
    for kind in KINDS:
        _draw_packets(one, plot, kind)
    _draw_marks(one, plot)
    one.yaxis.ticker = list(_LANES.values())
    one.yaxis.major_label_overrides = {place: name for name, place in _LANES.items()}
    one.ygrid.visible = False
    one.xaxis.axis_label = "seconds since the first sample"
    if one.legend:
        one.add_layout(one.legend[0], "below")
        one.legend.orientation = "horizontal"
        one.legend.location = "center"
        one.legend.margin = 0
        one.legend.background_fill_alpha = 0
        one.legend.border_line_alpha = 0
    return one


def _draw_phases(one: figure, plot: Plot) -> None:
    t0_s = plot.waveform.t0_s
    places = [_LANES["phase"] + (0.25 if index % 2 else -0.25) for index in range(len(plot.phases))]
    source = ColumnDataSource(
        {
            "name": [visible(phase.name) for phase in plot.phases],
            "start": [phase.start_s - t0_s for phase in plot.phases],
            "end": [phase.end_s - t0_s for phase in plot.phases],
            "y": places,
            "colour": [plot.colours[phase.name] for phase in plot.phases],
            "energy": [number(phase.energy_j, "J") for phase in plot.phases],
            "mean": [number(phase.mean_a, "A") for phase in plot.phases],
            "length": [number(phase.end_s - phase.start_s, "s") for phase in plot.phases],
        }
    )
    bars = one.hbar("y", left="start", right="end", height=0.42, source=source, color="colour", fill_alpha=0.45)
    one.text("start", "y", "name", source=source, x_offset=4, text_baseline="middle", text_font_size="11px")
    tips = [("phase", "@name"), ("length", "@length"), ("energy", "@energy"), ("mean current", "@mean")]
    one.add_tools(HoverTool(renderers=[bars], tooltips=tips))


def _draw_packets(one: figure, plot: Plot, kind: str) -> None:
    packets = [packet for packet in plot.packets if packet.kind == kind]
    if not packets:
        return
    lanes = ["board sends" if packet.from_board else "board receives" for packet in packets]
    source = ColumnDataSource(
        {
            "time": [packet.t_s - plot.waveform.t0_s for packet in packets],
            "lane": [_LANES[lane] for lane in lanes],
            "direction": lanes,
            "name": [visible(packet.name) for packet in packets],
            "size": [packet.size for packet in packets],
        }
    )
    marker, colour = _LOOK[kind]
    dots = one.scatter(
        "time", "lane", source=source, marker=marker, size=10, color=colour, fill_alpha=0.7, legend_label=kind
    )
    tips = [
        ("direction", "@direction"),
        ("message", "@name"),
        ("payload", "@size bytes"),
        ("time", "@time{0.000000} s"),
    ]
    one.add_tools(HoverTool(renderers=[dots], tooltips=tips))


def _draw_marks(one: figure, plot: Plot) -> None:
    source = ColumnDataSource(
        {
            "time": [mark.at_s - plot.waveform.t0_s for mark in plot.marks],
            "lane": [_LANES["console mark"]] * len(plot.marks),
            "name": [visible(mark.name) for mark in plot.marks],
        }
    )
    dashes = one.scatter("time", "lane", source=source, marker="dash", angle=np.pi / 2, size=16, color="#868e96")
    one.add_tools(HoverTool(renderers=[dashes], tooltips=[("mark", "@name"), ("time", "@time{0.000000} s")]))


def _shade(one: figure, plot: Plot) -> None:
    for phase in plot.phases:
        left, right = phase.start_s - plot.waveform.t0_s, phase.end_s - plot.waveform.t0_s
        colour = plot.colours[phase.name]
        band = BoxAnnotation(left=left, right=right, fill_color=colour, fill_alpha=0.09, line_color=None)
        band.level = "underlay"
        one.add_layout(band)


def _stable_ids(value: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return Bokeh's JSON with its ids, which count on through the life of a process, numbered from one."""
    names: dict[str, str] = {}

    def collect(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("id"), str):
                names.setdefault(node["id"], f"{prefix}-{len(names) + 1}")
            for child in node.values():
                collect(child)
        elif isinstance(node, list):
            for child in node:
                collect(child)

    def rename(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: names.get(child, child) if key == "id" else rename(child) for key, child in node.items()}
        return [rename(child) for child in node] if isinstance(node, list) else node

    collect(value)
    return {key: rename(child) if key != "root_id" else names[child] for key, child in value.items()}


def palette(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each phase name, the same in every plot of a report."""
    return {name: PHASE_COLOURS[index % len(PHASE_COLOURS)] for index, name in enumerate(dict.fromkeys(names))}
