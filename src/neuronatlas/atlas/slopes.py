"""What moved from one place to another: slopes between two numbers, and ribbons between two histograms over layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from neuronatlas.atlas import charts
from neuronatlas.atlas.style import BLUE, GREY, VERMILION, Look
from neuronatlas.atlas.wording import number, percent

__all__ = ["Ribbon", "layer_flows", "ribbons_of", "slopes"]

Shares = Float[np.ndarray, " layer"]

DOWN, UP = Look("Lower", BLUE, "circle", 8), Look("Higher", VERMILION, "square", 7)
STILL = Look("Not told from chance", GREY, "diamond", 7)
_GAP = 2.0  # between the layers of a flow, in per cent of all
_BEND = 24  # points along a ribbon's edge
_ALPHA = 0.05


@dataclass(frozen=True)
class Ribbon:
    """A share of the neurons (%) and the layers it lies in at either side; `kept` are neurons that are in both sets."""

    left: int
    right: int
    share: float
    kept: bool
    left_base: float
    right_base: float


def slopes(rows: pl.DataFrame, left: str, right: str, title: str, *, alpha: float = _ALPHA) -> Any:
    """Lines from one number to another, a row each: what went up, what down, and what chance could have moved.

    `rows` has `name`, `first` and `second`, and where they are known the bounds `first_low`, `first_high`,
    `second_low` and `second_high`, drawn as whiskers, and `q_value`: rows above `alpha` are grey. `left` and `right`
    name the two sides, `title` the axis with its unit.

    >>> rows = pl.DataFrame({"name": ["upos"], "first": [0.6], "second": [0.4]})
    >>> slopes(rows, "base", "child", "Mean depth").data[0].name
    'Lower'
    """
    rows = rows.filter(pl.col("first").is_not_null(), pl.col("second").is_not_null())
    figure = charts.blank(max(340, 150 + 22 * rows.height))
    looks = [_look(row, alpha) for row in rows.iter_rows(named=True)]
    for look in (DOWN, UP, STILL):
        own = [row for row, its in zip(rows.iter_rows(named=True), looks, strict=True) if its is look]
        for place, row in enumerate(own):
            _add_slope(figure, look, row, first=place == 0)
    _name_ends(figure, rows, title)
    figure.update_xaxes(
        tickvals=[0, 1],
        ticktext=[f"<b>{escape(charts.shortened(name), quote=False)}</b>" for name in (left, right)],
        range=[-0.12, 1.75],
        showgrid=False,
    )
    figure.update_layout(showlegend=True)
    return charts.value_axis(figure, "y", title)


def _look(row: dict[str, Any], alpha: float) -> Look:
    q = row.get("q_value")
    if (q is not None and not q <= alpha) or row["first"] == row["second"]:
        return STILL
    return DOWN if row["second"] < row["first"] else UP


def _add_slope(figure: Any, look: Look, row: dict[str, Any], *, first: bool) -> None:
    values = [row["first"], row["second"]]
    highs, lows = ([row.get(f"{side}_{end}") for side in ("first", "second")] for end in ("high", "low"))
    q = row.get("q_value")
    text = f"{escape(row['name'], quote=False)}: {number(values[0], 3)} to {number(values[1], 3)}"
    figure.add_scatter(
        x=[0, 1],
        y=values,
        error_y={
            "array": [None if high is None else high - value for high, value in zip(highs, values, strict=True)],
            "arrayminus": [None if low is None else value - low for low, value in zip(lows, values, strict=True)],
            "symmetric": False,
            "width": 0,
            "thickness": 1,
        },
        mode="lines+markers",
        line={"color": look.colour, "width": 1.2 if look is STILL else 2, "dash": "dot" if look is STILL else "solid"},
        marker=charts.marker(look),
        name=look.name,
        legendgroup=look.name,
        showlegend=first,
        hovertext=text + (f", q = {q:.2g}" if q is not None else ""),
        hoverinfo="text",
    )


def _name_ends(figure: Any, rows: pl.DataFrame, title: str) -> None:
    """Names at the right, moved apart where lines end close to each other, each with a thin line to its end."""
    rows = rows.sort("second")
    ends, names = rows["second"].to_list(), rows["name"].to_list()
    if not ends:
        return
    everything = [*rows["first"], *ends, *_bounds(rows)]
    span = (max(everything) - min(everything)) or 1.0
    room = figure.layout.height - 110
    places = apart(ends, 17 * span / room)
    for name, end, place in zip(names, ends, places, strict=True):
        figure.add_scatter(
            x=[1.03, 1.11],
            y=[end, place],
            mode="lines",
            line={"color": GREY, "width": 0.7},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_annotation(
            x=1.13,
            y=place,
            text=escape(charts.shortened(name), quote=False),
            showarrow=False,
            xanchor="left",
            yanchor="middle",
            font={"size": 12},
        )
    margin = 0.06 * span
    figure.update_yaxes(
        range=[min(*everything, *places) - margin, max(*everything, *places) + margin], title_text=title
    )


def _bounds(rows: pl.DataFrame) -> list[float]:
    names = ("first_low", "first_high", "second_low", "second_high")
    return [value for name in names if name in rows.columns for value in rows[name].drop_nulls()]


def apart(places: Sequence[float], least: float) -> list[float]:
    """Rising places moved as little as it takes to lie at least so far from each other.

    >>> apart([0.0, 0.1, 5.0], 1.0)
    [-0.45, 0.55, 5.0]
    """
    groups: list[list[float]] = []  # sum of places less their offsets, number of places
    for place in places:
        groups.append([place, 1.0])
        while len(groups) > 1 and _middle(groups[-2], least)[1] + least > _middle(groups[-1], least)[0]:
            (total, n), (more, m) = groups[-2:]
            groups[-2:] = [[total + more, n + m]]
    return [
        round(low + least * index, 12)
        for group in groups
        for low in (_middle(group, least)[0],)
        for index in range(int(group[1]))
    ]


def _middle(group: list[float], least: float) -> tuple[float, float]:
    middle, half = group[0] / group[1], least * (group[1] - 1) / 2
    return middle - half, middle + half


def ribbons_of(layers: pl.DataFrame) -> list[Ribbon]:
    """How the neurons of one set would have to move to lie as those of another, with the least way in all.

    `layers` has `layer` and in `first` and `second` numbers of neurons; either is null where that model has no such
    layer. With `shared`, neurons that are in both sets stay where they are and only the others move.

    >>> layers = pl.DataFrame({"layer": [0, 1], "first": [0, 4], "second": [1, 3]})
    >>> [(ribbon.left, ribbon.right, ribbon.share) for ribbon in ribbons_of(layers)]
    [(1, 0, 25.0), (1, 1, 75.0)]
    """
    layers = layers.sort("layer")
    names = layers["layer"].to_list()
    ours, theirs = _counts(layers, "first"), _counts(layers, "second")
    if not ours.sum() or not theirs.sum():
        return []
    kept = _counts(layers, "shared") if "shared" in layers.columns else np.zeros(len(ours))
    # Of sets of different sizes the smaller share of a kept neuron is what can stay.
    kept = 100 * kept / max(ours.sum(), theirs.sum())
    ours, theirs = 100 * ours / ours.sum(), 100 * theirs / theirs.sum()
    kept = np.minimum(kept, np.minimum(ours, theirs))
    moved = _least_moves(ours - kept, theirs - kept)
    links = [(n, n, share, True) for n, share in enumerate(kept) if share > 0]
    links += [(left, right, share, False) for left, right, share in moved]
    return _stacked(links, _bases(ours), _bases(theirs), names)


def _counts(layers: pl.DataFrame, side: str) -> Shares:
    return layers[side].cast(pl.Float64).fill_null(0).to_numpy()


def _least_moves(ours: Shares, theirs: Shares) -> list[tuple[int, int, float]]:
    """The optimal transport on a line: what lies lowest goes to where the lowest is wanted."""
    left, right, moves = ours.copy(), theirs.copy(), []
    i = j = 0
    while i < len(left) and j < len(right):
        share = float(min(left[i], right[j]))
        if share > 1e-9:
            moves.append((i, j, share))
        left[i] -= share
        right[j] -= share
        i, j = (i + 1, j) if left[i] <= right[j] else (i, j + 1)
    return moves


def _bases(shares: Shares) -> Shares:
    """Where each layer begins: one above the other, with a gap between those that have any."""
    summed = np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    return np.asarray(summed + _GAP * np.concatenate([[0], np.cumsum(shares > 0)[:-1]]))


def _stacked(links: list[tuple[int, int, float, bool]], left: Shares, right: Shares, names: list[int]) -> list[Ribbon]:
    at_left, at_right = left.copy(), right.copy()
    begins, ends = {}, {}
    for link in sorted(links, key=lambda link: (link[0], link[1], link[3])):
        begins[link] = float(at_left[link[0]])
        at_left[link[0]] += link[2]
    for link in sorted(links, key=lambda link: (link[1], link[0], link[3])):
        ends[link] = float(at_right[link[1]])
        at_right[link[1]] += link[2]
    ordered = sorted(links, key=lambda link: (link[0], link[1], link[3]))
    return [Ribbon(names[a], names[b], round(s, 9), k, begins[a, b, s, k], ends[a, b, s, k]) for a, b, s, k in ordered]


def layer_flows(layers: pl.DataFrame, left: str, right: str) -> Any:
    """Ribbons from each layer of a set to the layers in which another one lies (%), with the least way in all.

    `layers` is as for `ribbons_of`. Blue ribbons go down, red ones up, grey ones stay; the dark ones are kept neurons.
    """
    ribbons = ribbons_of(layers)
    n_layers = layers.height
    figure = charts.blank(max(340, 140 + 24 * n_layers))
    for ribbon in ribbons:
        _add_ribbon(figure, ribbon)
    for side, place in (("left", 0.0), ("right", 1.0)):
        _add_bars(figure, ribbons, side, place)
    _add_key(figure, ribbons)
    figure.update_xaxes(
        tickvals=[0, 1],
        ticktext=[f"<b>{escape(charts.shortened(name), quote=False)}</b>" for name in (left, right)],
        range=[-0.24, 1.24],
        showgrid=False,
    )
    figure.update_yaxes(showgrid=False, showticklabels=False, title_text="Share of the neurons, layer by layer")
    return figure


def _kind(ribbon: Ribbon) -> tuple[str, str]:
    """What a ribbon says, and its colour."""
    if ribbon.kept:
        return "The same neurons", "rgba(70,70,70,0.75)"
    if ribbon.left == ribbon.right:
        return "Other neurons of the layer", "rgba(128,128,128,0.35)"
    return ("Lower", "rgba(0,114,178,0.55)") if ribbon.right < ribbon.left else ("Higher", "rgba(213,94,0,0.55)")


def _add_ribbon(figure: Any, ribbon: Ribbon) -> None:
    along = np.linspace(0, 1, _BEND)
    rise = along * along * (3 - 2 * along)
    low = ribbon.left_base + (ribbon.right_base - ribbon.left_base) * rise
    name, colour = _kind(ribbon)
    xs = 0.025 + 0.95 * along
    figure.add_scatter(
        x=[*xs.round(4).tolist(), *xs[::-1].round(4).tolist()],
        y=[*low.round(4).tolist(), *(low[::-1] + ribbon.share).round(4).tolist()],
        mode="lines",
        fill="toself",
        fillcolor=colour,
        line={"width": 0, "color": colour},
        hoveron="fills",
        text=f"layer {ribbon.left} to layer {ribbon.right}: {percent(ribbon.share / 100, 1)} ({name.lower()})",
        hoverinfo="text",
        showlegend=False,
    )


def _add_bars(figure: Any, ribbons: list[Ribbon], side: str, place: float) -> None:
    spans: dict[int, tuple[float, float]] = {}
    for ribbon in ribbons:
        base = getattr(ribbon, f"{side}_base")
        low, high = spans.get(getattr(ribbon, side), (base, base))
        spans[getattr(ribbon, side)] = (min(low, base), max(high, base + ribbon.share))
    for layer, (low, high) in spans.items():
        figure.add_shape(
            type="rect", x0=place - 0.025, x1=place + 0.025, y0=low, y1=high, fillcolor=GREY, line={"width": 0}
        )
        figure.add_annotation(
            x=place + (-0.04 if side == "left" else 0.04),
            y=(low + high) / 2,
            text=f"L{layer}  {number(high - low, 0)} %",
            showarrow=False,
            xanchor="right" if side == "left" else "left",
            yanchor="middle",
            font={"size": 11},
        )


def _add_key(figure: Any, ribbons: list[Ribbon]) -> None:
    for name, colour in dict.fromkeys(map(_kind, ribbons)):
        marker = {"symbol": "square", "size": 11, "color": colour, "line": {"width": 0}}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name, hoverinfo="skip")
