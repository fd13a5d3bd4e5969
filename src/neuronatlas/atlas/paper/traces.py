"""The parts of a plotly figure, one function each: what they look like in matplotlib."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from neuronatlas.atlas.provenance import AtlasError

__all__ = ["add_bars", "add_heatmap", "add_note", "add_scatter", "add_shape", "numbers", "plain_text"]

Trace = Mapping[str, Any]

_SYMBOLS = {
    **{
        "circle": "o",
        "square": "s",
        "diamond": "D",
        "x": "X",
        "cross": "P",
        "star": "*",
        "pentagon": "p",
        "hexagon": "h",
    },
    **{"triangle-up": "^", "triangle-down": "v", "triangle-left": "<", "triangle-right": ">"},
    **{"x-thin": "x", "cross-thin": "+", "line-ew": "_", "line-ns": "|"},
}
_THIN = {"x", "+", "_", "|"}
_DASHES = {"solid": "-", "dot": (0, (1, 1.6)), "dash": (0, (4, 2)), "dashdot": (0, (4, 1.5, 1, 1.5))}
_PT_A_PIXEL = 0.55
_HATCHES = ("", "//////", "......")


def plain_text(text: Any) -> str:
    """Text without the little HTML that plotly reads, which matplotlib would print.

    >>> plain_text("<b>Two</b> facts<br>of &lt;one&gt;").splitlines()
    ['Two facts', 'of <one>']
    """
    broken = re.sub(r"<br\s*/?>", "\n", str(text))
    # A dollar sign would begin a formula.
    return html.unescape(re.sub(r"</?(?:b|i|sub|sup|span)[^>]*>", "", broken)).replace("$", r"\$")


def numbers(values: Any) -> Float[np.ndarray, "*place"]:
    """Numbers as plotly writes them, as lists or packed; NaN where there is none."""
    if isinstance(values, Mapping):
        flat = np.frombuffer(base64.b64decode(values["bdata"]), dtype=np.dtype(values["dtype"]).newbyteorder("<"))
        shape = values.get("shape")
        return (flat.reshape([int(n) for n in shape.split(",")]) if shape else flat).astype(np.float64)
    return np.array(
        [
            [np.nan if cell is None else cell for cell in row]
            if isinstance(row, list)
            else np.nan
            if row is None
            else row
            for row in values
        ],
        dtype=np.float64,
    )


def add_scatter(axes: Axes, trace: Trace) -> None:
    """Lines, points with whiskers, or a filled outline."""
    x, y = numbers(trace.get("x", ())), numbers(trace.get("y", ()))
    name = _label(trace)
    if trace.get("fill") == "toself":
        axes.fill(x, y, facecolor=_colour(trace["fillcolor"]), edgecolor="none", linewidth=0, label=name, zorder=1.5)
        return
    line, marker, mode = trace.get("line", {}), trace.get("marker", {}), trace.get("mode", "lines")
    look: dict[str, Any] = {"linestyle": "none", "color": _colour(line.get("color") or marker.get("color"))}
    if "lines" in mode:
        look |= {"linestyle": _DASHES[line.get("dash", "solid")], "linewidth": 0.65 * line.get("width", 2)}
    symbols = marker.get("symbol")
    several = isinstance(symbols, list)
    if "markers" in mode and not several:
        look |= _marker(marker)
    for which in ("error_x", "error_y"):
        error = trace.get(which)
        if error and error.get("array") is not None:
            spread = np.stack([numbers(error["arrayminus"]), numbers(error["array"])])
            spread = np.nan_to_num(np.maximum(spread, 0))
            axes.errorbar(
                x,
                y,
                **{which.replace("error_", "") + "err": spread},
                fmt="none",
                ecolor=look["color"],
                elinewidth=0.55 * error.get("thickness", 1.5),
                zorder=2,
            )
    axes.plot(x, y, label="_" if several and "lines" not in mode else name, zorder=2.5, **look)
    for symbol in dict.fromkeys(symbols) if several else ():
        own = np.array([each == symbol for each in symbols])
        shown = look | {"linestyle": "none"} | _marker({**marker, "symbol": symbol})
        axes.plot(x[own], y[own], label="_", zorder=2.6, **shown)


def _marker(marker: Mapping[str, Any]) -> dict[str, Any]:
    symbol, colour = str(marker.get("symbol", "circle")), _colour(marker.get("color"))
    edge = 0.6 * (marker.get("line") or {}).get("width", 0)
    hollow = symbol.endswith("-open")
    shape = _SYMBOLS.get(symbol.removesuffix("-open"))
    if shape is None:
        raise AtlasError(f"no way to draw the symbol {symbol!r} for a paper: {', '.join(_SYMBOLS)} expected")
    return {
        "marker": shape,
        "markersize": _PT_A_PIXEL * marker.get("size", 7),
        # A ring about a point must let it be seen.
        "markerfacecolor": ("none" if marker.get("size", 7) > 12 else "white") if hollow else colour,
        "markeredgecolor": colour,
        "markeredgewidth": max(edge, 0.9) if hollow or shape in _THIN else 0,
    }


def add_bars(axes: Axes, trace: Trace, all_bars: Sequence[Trace]) -> None:
    """Bars beside those of the other traces, hatched where there are several, so that they differ without colour."""
    named = all(isinstance(place, str) for trace in all_bars for place in _listed(trace["x"]))
    if named:
        places = list(dict.fromkeys(place for trace in all_bars for place in _listed(trace["x"])))
        x = np.array([places.index(place) for place in _listed(trace["x"])], dtype=float)
        axes.set_xticks(range(len(places)), [plain_text(place) for place in places])
        axes.set_xlim(-0.6, len(places) - 0.4)
        beside, order = 1, 0
    else:
        x, beside, order = numbers(trace["x"]), len(all_bars), [bar is trace for bar in all_bars].index(True)
    width = trace.get("width") or 0.74 / beside
    shift = (order - (beside - 1) / 2) * width
    look: dict[str, Any] = {
        "facecolor": _colour(trace["marker"]["color"]),
        "hatch": _HATCHES[order % 3],
        "edgecolor": "white",
        "linewidth": 0.4,
    }
    drawn = axes.bar(x + shift, numbers(trace["y"]), 0.95 * width, label=_label(trace), **look)
    if trace.get("text") is not None:
        axes.bar_label(drawn, [str(text) for text in _listed(trace["text"])], padding=1.5, fontsize=6.5)
        axes.margins(y=0.14)


def add_heatmap(made: Figure, axes: Axes, trace: Trace, scale: Sequence[Sequence[Any]]) -> None:
    """Cells on the page's ramp, which is even in lightness, with their numbers and a bar of the colours."""
    cells = np.ma.masked_invalid(numbers(trace["z"]))
    ramp = LinearSegmentedColormap.from_list("ramp", [(float(at), str(colour)) for at, colour in scale])
    drawn = axes.imshow(
        cells, cmap=ramp.with_extremes(bad="white"), vmin=trace.get("zmin", 0), vmax=trace.get("zmax"), aspect="auto"
    )
    rows, columns = cells.shape
    # Thin lines of paper between the cells, as in the page.
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.7)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    top = trace.get("zmax") or float(cells.max() or 1)
    for row, texts in enumerate(trace.get("text") or ()):
        for column, text in enumerate(texts):
            dark = not cells.mask.all() and not np.ma.is_masked(cells[row, column]) and cells[row, column] > 0.55 * top
            colour = "white" if dark else "#1b2430"
            axes.text(column, row, plain_text(text), ha="center", va="center", fontsize=6, color=colour)
    if trace.get("showscale", True):
        bar = made.colorbar(drawn, ax=axes, fraction=0.045, pad=0.02, aspect=22)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
        bar.set_label((trace.get("colorbar", {}).get("title") or {}).get("text", ""))


def add_shape(axes: Axes, shape: Mapping[str, Any]) -> None:
    """A line across, or a filled rectangle."""
    line = shape.get("line", {})
    look = {"color": _colour(line.get("color")), "linewidth": 0.7 * line.get("width", 1)}
    look["linestyle"] = _DASHES[line.get("dash", "solid")]
    if shape["type"] == "rect":
        size = (shape["x1"] - shape["x0"], shape["y1"] - shape["y0"])
        axes.add_patch(Rectangle((shape["x0"], shape["y0"]), *size, color=_colour(shape["fillcolor"]), linewidth=0))
    elif "domain" in str(shape.get("xref")):
        axes.axhline(shape["y0"], zorder=1, **look)
    elif "domain" in str(shape.get("yref")):
        axes.axvline(shape["x0"], zorder=1, **look)
    else:
        axes.plot([shape["x0"], shape["x1"]], [shape["y0"], shape["y1"]], zorder=1, **look)


def add_note(axes: Axes, note: Mapping[str, Any]) -> None:
    """A word at a place of the figure, or along a line at its edge."""
    domain = "domain" in str(note.get("xref"))
    across = {"left": "left", "right": "right", "center": "center"}[note.get("xanchor", "center")]
    down = {"top": "top", "bottom": "bottom", "middle": "center"}[note.get("yanchor", "middle")]
    where = axes.get_yaxis_transform() if domain else axes.transData
    aside = {"left": 2, "right": -2, "center": 0}[across] if domain else 0
    look: dict[str, Any] = {"ha": across, "va": down, "fontsize": 6, "annotation_clip": False}
    place = (note["x"], note["y"])
    axes.annotate(plain_text(note["text"]), place, (aside, 0), xycoords=where, textcoords="offset points", **look)


def _listed(values: Any) -> list[Any]:
    return numbers(values).tolist() if isinstance(values, Mapping) else list(values)


def _label(trace: Trace) -> str:
    hidden = trace.get("showlegend") is False or not trace.get("name")
    return "_" if hidden else plain_text(trace["name"])


def _colour(colour: Any) -> tuple[float, ...]:
    """A colour of plotly's: #rrggbb, #rrggbbaa or rgba(r,g,b,a)."""
    if found := re.fullmatch(r"rgba?\(([^)]+)\)", str(colour)):
        red, green, blue, *alpha = (float(part) for part in found[1].split(","))
        return (red / 255, green / 255, blue / 255, *(alpha or [1.0]))
    return to_rgba(str(colour or "#808080"))
