"""Figures of a study: dots with whiskers in rows, and lines with whiskers over a setting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from neuronatlas.atlas import charts
from neuronatlas.atlas.style import Look

__all__ = ["Axis", "Dot", "dot_rows", "lines"]

_ROW, _SPREAD = 34, 0.52


@dataclass(frozen=True)
class Axis:
    """What an axis of values shows: its title, what values are multiplied by, and how one is written."""

    title: str
    scale: float = 100.0
    form: str = "+.1f"
    zeroline: bool = True

    def text(self, value: float) -> str:
        """A value as the pointer shows it."""
        return format(value * self.scale, self.form).replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Dot:
    """A value with its interval, where it has one: the row or the place that it stands at, and its look."""

    place: str | float
    look: Look
    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """The ends of the interval, where it has any width."""
        if self.value is None or self.low is None or self.high is None or not self.low < self.high:
            return None
        return self.low, self.high


def dot_rows(dots: Iterable[Dot], axis: Axis, *, row: int = _ROW) -> Any:
    """Dots with whiskers, a row for each place, the first on top; looks that share a row stand below one another."""
    shown = [dot for dot in dots if dot.value is not None]
    names = list(dict.fromkeys(str(dot.place) for dot in shown))
    beside = {name: list(dict.fromkeys(d.look for d in shown if str(d.place) == name)) for name in names}
    most = max((len(looks) for looks in beside.values()), default=1)
    legend = 18 * max(0, len({dot.look.name for dot in shown}) - 2)  # in a narrow page it has a line for each name
    figure = charts.blank(104 + legend + len(names) * max(row, 17 * most + 8))
    for look, mine in _by_look(shown):
        heights = [
            names.index(str(d.place)) + _shift(beside[str(d.place)].index(look), len(beside[str(d.place)]))
            for d in mine
        ]
        _add(figure, look, mine, axis, heights, "x")
    for place in range(1, len(names)):
        figure.add_hline(y=place - 0.5, line_width=0.5, line_color="rgba(128,128,128,0.3)")
    figure.update_yaxes(**charts.ticks(names), range=[len(names) - 0.4, -0.6])
    figure.update_layout(showlegend=len({dot.look.name for dot in shown}) > 1)
    return charts.value_axis(figure, "x", axis.title, zeroline=axis.zeroline)


def lines(dots: Iterable[Dot], axis: Axis, title: str, *, height: int = 340, ticks: Sequence[float] = ()) -> Any:
    """Lines with whiskers over the places of the dots, which are numbers."""
    shown = [dot for dot in dots if dot.value is not None]
    figure = charts.blank(height)
    for look, mine in _by_look(shown):
        _add(figure, look, mine, axis, [float(dot.place) for dot in mine], "y")
    figure.update_traces(mode="lines+markers")
    figure.update_xaxes(title_text=title, **({"tickvals": list(ticks)} if ticks else {}))
    figure.update_layout(showlegend=len({dot.look.name for dot in shown}) > 1)
    return charts.value_axis(figure, "y", axis.title, zeroline=axis.zeroline)


def _by_look(dots: Sequence[Dot]) -> list[tuple[Look, list[Dot]]]:
    return [(look, [dot for dot in dots if dot.look == look]) for look in dict.fromkeys(dot.look for dot in dots)]


def _shift(index: int, count: int) -> float:
    return 0.0 if count == 1 else _SPREAD * (index / (count - 1) - 0.5)


def _add(figure: Any, look: Look, dots: Sequence[Dot], axis: Axis, places: Sequence[float], along: str) -> None:
    """Add the dots of one look, their values along one axis and their places along the other."""
    values = [axis.scale * (dot.value or 0.0) for dot in dots]
    ends = [(dot.ends or (dot.value or 0.0, dot.value or 0.0)) for dot in dots]
    error = {
        "array": [axis.scale * high - value for (_, high), value in zip(ends, values, strict=True)],
        "arrayminus": [value - axis.scale * low for (low, _), value in zip(ends, values, strict=True)],
        "symmetric": False,
        "width": 0,
        "thickness": 1.5,
    }
    across = "y" if along == "x" else "x"
    figure.add_scatter(
        **{along: values, across: list(places), f"error_{along}": error},
        mode="markers",
        name=look.name,
        line={"color": look.colour, "width": 2},
        marker=charts.marker(look),
        text=[_hover(dot, axis) for dot in dots],
        hovertemplate="%{text}<extra></extra>",
    )


def _hover(dot: Dot, axis: Axis) -> str:
    place = dot.place if isinstance(dot.place, str) else f"{dot.place:g}"
    interval = f" [{axis.text(dot.ends[0])}, {axis.text(dot.ends[1])}]" if dot.ends else ""
    return escape(f"{dot.look.name}, {place}: {axis.text(dot.value or 0.0)}{interval}", quote=False)
