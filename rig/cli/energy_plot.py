"""A recording as one HTML page that loads nothing: its outline, which loses no peak, and its phases."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.embed import file_html
from bokeh.models import HoverTool
from bokeh.models.annotations.geometry import BoxAnnotation
from bokeh.models.annotations.labels import Label
from bokeh.plotting import figure
from bokeh.resources import INLINE

from rig.energy import Waveform
from rig.errors import BenchError
from rig.reports.plots import palette
from rig.reports.text import scale, visible

if TYPE_CHECKING:
    from rig.cli.energy import Stretch

#: Twice as many points are drawn: about what a screen has.
BINS = 3000
#: A current that spans more than this would be a flat line with spikes on a linear axis.
SPAN = 300


def write_plot(waveform: Waveform, stretches: Sequence["Stretch"], out: Path) -> None:
    """Write the page to *out*.

    Raises:
        BenchError: it cannot be written.
    """
    name = waveform.path.name if waveform.path else "current"
    page = file_html(_drawn(waveform, stretches, name), INLINE, visible(name))
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{out}: cannot be written: {error.strerror}") from error


def _drawn(waveform: Waveform, stretches: Sequence["Stretch"], name: str) -> Any:
    outline = waveform.envelope(0, len(waveform), BINS)
    middle = (outline.borders[:-1] + outline.borders[1:] - 1) / 2
    time_s = np.repeat(middle * waveform.interval_s, 2)
    current_a = np.column_stack((outline.low, outline.high)).ravel().astype(np.float64)
    positive = current_a[current_a > 0]
    logarithmic = bool(positive.size) and float(positive.max()) > SPAN * float(np.quantile(positive, 0.05))
    if logarithmic:
        # A logarithmic axis has no place for what is not above zero.
        current_a = np.maximum(current_a, np.quantile(positive, 0.05) / 10)
    factor, unit = scale(float(np.nanmax(np.abs(current_a), initial=0.0)), "A")
    one = figure(
        title=visible(name),
        height=520,
        sizing_mode="stretch_width",
        y_axis_type="log" if logarithmic else "linear",
        x_axis_label="seconds after the first sample",
        y_axis_label=f"current ({unit})",
        tools="xpan,xwheel_zoom,xbox_zoom,undo,reset,save",
        active_drag="xbox_zoom",
    )
    line = one.line(time_s, current_a / factor, line_color="#2f7ed8")
    tips = [("time", "@x{0.000000} s"), ("current", f"@y{{0,0.0000}} {unit}")]
    one.add_tools(HoverTool(renderers=[line], tooltips=tips, mode="vline"))
    colours = palette([stretch.name for stretch in stretches])
    for stretch in stretches:
        colour = colours[stretch.name]
        band = BoxAnnotation(left=stretch.start_s, right=stretch.end_s, fill_color=colour, fill_alpha=0.12)
        one.add_layout(band)
        label = Label(x=stretch.start_s, y=4, y_units="screen", text=visible(stretch.name), text_color=colour)
        one.add_layout(label)
    return one
