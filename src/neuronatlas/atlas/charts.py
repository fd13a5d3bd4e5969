"""What figures of every kind of report are drawn with: an empty figure in the one look, axes, markers, heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from neuronatlas.atlas.style import LIGHT, Look

__all__ = ["blank", "colour_title", "heatmap", "layer_axis", "marker", "shortened", "ticks", "value_axis"]

_MOST_LAYER_TICKS = 16
_LONGEST_NAME = 28


def blank(height: int) -> Any:
    """An empty figure, as wide as its place in the page, `height` pixels high."""
    return go.Figure(layout={"template": LIGHT, "height": height, "autosize": True})


def value_axis(figure: Any, axis: str, title: str, *, zeroline: bool = False) -> Any:
    """Let `axis` ("x" or "y") carry values: title and grid lines there, none on the other one."""
    figure.update_xaxes(showgrid=axis == "x")
    figure.update_yaxes(showgrid=axis == "y")
    update = figure.update_xaxes if axis == "x" else figure.update_yaxes
    update(title_text=title, zeroline=zeroline)
    return figure


def layer_axis(figure: Any, levels: int) -> None:
    """Let the x axis count layers, all of them named where there is room."""
    dtick = 1 if levels <= _MOST_LAYER_TICKS else None
    figure.update_xaxes(title_text="Layer (0 is the lowest)", dtick=dtick, tickangle=0)


def marker(look: Look) -> dict[str, Any]:
    """The symbol of a look; an open one has an edge."""
    edge = {"width": 2 if look.symbol.endswith("-open") else 0, "color": look.colour}
    return {"symbol": look.symbol, "color": look.colour, "size": look.size, "line": edge}


def heatmap(names: Sequence[str], cells: list[list[Any]], hover: list[list[str]]) -> Any:
    """Cells on a scale from 0, a row for each name, the first on top."""
    highest = max((cell for row in cells for cell in row if cell), default=1)
    figure = blank(110 + 26 * len(names))
    figure.add_heatmap(
        x=list(range(len(cells[0]) if cells else 0)),
        y=list(range(len(names))),
        z=cells,
        zmin=0,
        zmax=highest,  # without it plotly takes no notice of zmin
        autocolorscale=True,
        xgap=2,
        ygap=2,
        hovertext=[[escape(text, quote=False) for text in row] for row in hover],
        hoverinfo="text",
        colorbar={"nticks": max(3, min(8, len(names)))},
    )
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(**ticks(names), showgrid=False, autorange="reversed")
    return figure


def colour_title(figure: Any, text: str) -> None:
    """Say what the colours measure, along their bar."""
    figure.update_traces(colorbar={"title": {"text": text, "side": "right"}})


def ticks(names: Sequence[str]) -> dict[str, Any]:
    """Names at heights 0, 1, 2, ...: as plain text, for plotly takes `<` for the begin of a tag, and not too long."""
    shown = [escape(shortened(name), quote=False) for name in names]
    return {"tickvals": list(range(len(names))), "ticktext": shown}


def shortened(name: str, longest: int = _LONGEST_NAME) -> str:
    """The name, cut where it is too long for its place.

    >>> shortened("adposition", 5), shortened("noun", 5)
    ('adpo…', 'noun')
    """
    return name if len(name) <= longest else name[: longest - 1] + "…"
