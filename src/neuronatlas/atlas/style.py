"""How every figure looks: two templates, for light and dark pages, and a set of colours.

The colours are of the Okabe and Ito set, told apart under every common colour blindness, and have a contrast of at
least 3 to 1 against a white page; `DARK_COLOURS` are their lighter likes. Symbols differ as well as colours.
"""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

__all__ = [
    "BLUE",
    "DARK",
    "DARK_COLOURS",
    "FAMILY",
    "GREEN",
    "GREY",
    "LIGHT",
    "PURPLE",
    "VERMILION",
    "Look",
    "download_config",
]

FAMILY = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
BLUE, VERMILION, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#c0699a", "#808080"
DARK_COLOURS = {BLUE: "#4ba3de", VERMILION: "#f0863f", GREEN: "#2fbf95", PURPLE: "#dd8fbb", GREY: "#a0a6ad"}


@dataclass(frozen=True)
class Look:
    """A name in figures, its colour, and its symbol where it is a point."""

    name: str
    colour: str
    symbol: str = "circle"
    size: int = 8


def _template(ink: str, soft: str, grid: str, page: str, ramp: list[str]) -> Any:
    axis = {
        "color": soft,
        "gridcolor": grid,
        "linecolor": soft,
        "tickcolor": soft,
        "tickfont": {"color": soft},
        "title": {"font": {"color": ink, "size": 13}, "standoff": 10},
        "zerolinecolor": soft,
        "zerolinewidth": 1,
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "ticklabelstandoff": 6,
        "automargin": True,
        "fixedrange": True,
    }
    bar = {
        "outlinewidth": 0,
        "thickness": 12,
        "xpad": 12,
        "ypad": 0,
        "tickfont": {"color": soft},
        "title": {"font": {"color": ink, "size": 12}},
    }
    layout = {
        "font": {"family": FAMILY, "size": 13, "color": ink},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": [BLUE, VERMILION, GREEN, PURPLE, GREY],
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "xaxis": axis,
        "yaxis": axis,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "hoverlabel": {"bgcolor": page, "bordercolor": soft, "font": {"family": FAMILY, "color": ink}},
        "colorscale": {"sequential": [[index / (len(ramp) - 1), colour] for index, colour in enumerate(ramp)]},
        "barcornerradius": 2,
        "bargap": 0.3,
        "bargroupgap": 0.08,
    }
    return go.layout.Template(layout=layout, data={"heatmap": [{"colorbar": bar}]})


LIGHT = _template("#1b2430", "#5b6675", "#e6e9ee", "#ffffff", ["#f2f5f9", "#c3daec", "#7fb2d9", "#3585bd", "#0b4f86"])
DARK = _template("#e8ecf1", "#9aa5b4", "#2a323d", "#12171e", ["#1b2430", "#1d3c59", "#235985", "#2e72a8", "#3d8ac4"])


def download_config(name: str) -> dict[str, Any]:
    """The `config` of a figure in a page or notebook: no tool bar but a button that saves an SVG named `name`.

    >>> download_config("layers")["toImageButtonOptions"]["format"]
    'svg'
    """
    return {
        "displaylogo": False,
        "responsive": True,
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": {"format": "svg", "filename": name},
    }
