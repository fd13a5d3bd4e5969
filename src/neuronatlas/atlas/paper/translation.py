"""Draw a plotly figure of this package again with matplotlib: bars, lines with intervals, heat maps, notes.

Only what the package's own figures use is known; anything else is refused, so that no figure is left half drawn.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator, NullLocator

from neuronatlas.atlas.paper import traces
from neuronatlas.atlas.provenance import AtlasError

__all__ = ["STYLE", "translated"]

_INK, _SOFT, _GRID = "#1b2430", "#5b6675", "#e6e9ee"
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "figure.constrained_layout.use": True,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
}
_INCHES_A_PIXEL = 0.0062
"""Heights come in pixels, with rows of 26 of them: so the letters of a row have room at 7 points."""

_KNOWN = {"bar", "scatter", "heatmap"}


def translated(figure: Any, width: float) -> Figure:
    """The same figure, `width` inches wide.

    Errors: AtlasError for kinds of traces that the package does not use.
    """
    plain = json.loads(figure.to_json(engine="json"))
    data, layout = plain["data"], plain["layout"]
    if unknown := sorted({trace["type"] for trace in data} - _KNOWN):
        raise AtlasError(f"no way to draw {', '.join(unknown)} for a paper: {', '.join(sorted(_KNOWN))} expected")
    height = max(1.3, layout.get("height", 340) * _INCHES_A_PIXEL)
    made = Figure(figsize=(width, height))
    main, above = _axes(made, layout)
    names = [trace.get("name") for trace in data]
    for trace in data:
        axes = above if above is not None and trace.get("yaxis") == "y2" else main
        if trace["type"] == "heatmap":
            traces.add_heatmap(made, axes, trace, figure.layout.template.layout.colorscale.sequential)
        elif trace["type"] == "bar":
            traces.add_bars(axes, trace, [t for t in data if t["type"] == "bar"])
        else:
            traces.add_scatter(axes, trace)
    for shape in layout.get("shapes", ()):
        traces.add_shape(main, shape)
    for note in layout.get("annotations", ()):
        traces.add_note(main, note)
    heat = any(trace["type"] == "heatmap" for trace in data)
    _set_axis(main, "x", layout.get("xaxis", {}), heat=heat)
    _set_axis(main, "y", layout.get("yaxis", {}), heat=heat)
    if above is not None:
        _set_axis(above, "y", layout["yaxis2"], heat=True)
        above.xaxis.set_visible(False)
        above.spines["bottom"].set_visible(False)
        above.set_xlim(main.get_xlim())
    if layout.get("showlegend", len({name for name in names if name}) > 1):
        _add_legend(made, main, width)
    return made


def _axes(made: Figure, layout: Mapping[str, Any]) -> tuple[Axes, Axes | None]:
    """The place of the figure, and of a tree above it."""
    if "yaxis2" not in layout:
        return made.add_subplot(), None
    share = layout["yaxis2"]["domain"][1] - layout["yaxis2"]["domain"][0]
    grid = made.add_gridspec(2, 2, height_ratios=[share, 1 - share], width_ratios=[1, 0.05], hspace=0.02)
    main = made.add_subplot(grid[1, 0])
    main.set_label("main")
    return main, made.add_subplot(grid[0, 0])


def _set_axis(axes: Axes, which: str, axis: Mapping[str, Any], *, heat: bool) -> None:
    """Title, scale, range and ticks, as the page has them."""
    own = axes.xaxis if which == "x" else axes.yaxis
    set_limits = axes.set_xlim if which == "x" else axes.set_ylim
    if axis.get("type") == "log":
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        own.set_minor_locator(NullLocator())
    if title := axis.get("title", {}).get("text"):
        own.set_label_text(_wrapped(title, axes, which))
    if (ends := axis.get("range")) is not None:
        set_limits(*(10.0**end if axis.get("type") == "log" else end for end in ends))
    elif axis.get("autorange") == "reversed" and not heat:
        own.set_inverted(True)
    elif axis.get("rangemode") == "tozero":
        set_limits(left=0) if which == "x" else set_limits(bottom=0)  # type: ignore[call-arg]
    _set_ticks(own, which, axis, heat=heat)
    if heat:
        own.set_tick_params(length=0)
    elif axis.get("showgrid", True):
        axes.grid(visible=True, axis="x" if which == "x" else "y")
    if axis.get("zeroline"):
        (axes.axvline if which == "x" else axes.axhline)(0, color=_SOFT, linewidth=0.6, zorder=1)


def _set_ticks(own: Any, which: str, axis: Mapping[str, Any], *, heat: bool) -> None:
    if (places := axis.get("tickvals")) is not None:
        own.set_ticks(traces.numbers(places), [traces.plain_text(text) for text in axis.get("ticktext") or places])
        if axis.get("tickangle"):
            for label in own.get_ticklabels():
                label.set(rotation=-axis["tickangle"], ha="right", va="top", rotation_mode="anchor")
    elif axis.get("dtick"):
        own.set_major_locator(MultipleLocator(axis["dtick"]))
    elif heat:
        own.set_major_locator(MaxNLocator(8, integer=True) if which == "x" else MaxNLocator(axis.get("nticks", 4)))
    if axis.get("showticklabels") is False:
        own.set_ticks([])


def _add_legend(made: Figure, axes: Axes, width: float) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    n_columns = next(n for n in range(len(labels), 0, -1) if n == 1 or _row_of(labels, n) <= 16 * width)
    made.legend(handles, labels, loc="outside upper left", ncols=n_columns, columnspacing=1.2, handletextpad=0.5)


def _row_of(labels: list[str], n_columns: int) -> int:
    """How many letters wide a legend is in so many columns, which are filled one after the other."""
    least, more = divmod(len(labels), n_columns)
    ends = [column * least + min(column, more) for column in range(n_columns + 1)]
    columns = [labels[start:end] for start, end in pairwise(ends)]
    return sum(max(map(len, column)) + 5 for column in columns)


def _wrapped(title: str, axes: Axes, which: str) -> str:
    """A title in as many lines as it takes along its axis, of about 16 letters an inch."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    room = 0.8 * figure.get_figwidth() if which == "x" else figure.get_figheight() - 0.7
    return "\n".join(textwrap.wrap(traces.plain_text(title), max(12, int(16 * room))))
