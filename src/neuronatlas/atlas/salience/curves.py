"""Scores of probes as figures: dots against baselines, curves over shares of neurons, sets and layers.

Each function takes the atlas's own tables and returns a `plotly.graph_objects.Figure` without a title, for the caption
says what it shows. Whiskers and bands are bootstrap 95 % intervals over sentences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.page import Tables
from neuronatlas.atlas.salience.looks import ABLATED, ALONE, UP_TO, property_look
from neuronatlas.atlas.salience.names import short_name
from neuronatlas.atlas.salience.reading import rows_of, score
from neuronatlas.atlas.style import GREY, Look
from neuronatlas.atlas.wording import Score

__all__ = ["ablation_curves", "disjoint_sizes", "layer_probes", "method_curves", "minimal_curves", "score_dots"]

_BAND = "22"
"""Opacity of a band, as the last two digits of its colour."""

_MOST_MARKERS = 30
_LOW = 330  # pixels, for figures of which there are many

_SHARE = "Share of all neurons (%)"
_ACCURACY = "Accuracy (%)"


def score_dots(tables: Tables, looks: Mapping[str, Look]) -> Any:
    """Dots with whiskers: scores from columns of `properties`, a row for each, under their property's name."""
    rows = rows_of(tables)
    present = [name for name in looks if any(row[name] is not None for row in rows)]
    step = len(present) + 1
    figure = charts.blank(90 + 34 * len(present) if len(rows) == 1 else 120 + 15 * step * len(rows))
    for place, name in enumerate(present):
        found = {index * step + place: one for index, row in enumerate(rows) if (one := score(row, name))}
        labels = [short_name(rows[height // step]["label"]) for height in found]
        _score_dots(figure, looks[name], found, labels)
    if len(rows) == 1:
        figure.update_yaxes(tickvals=list(range(len(present))), ticktext=[looks[name].name for name in present])
        figure.update_layout(showlegend=False)
    else:
        middles = [index * step + (len(present) - 1) / 2 for index in range(len(rows))]
        figure.update_yaxes(**charts.ticks([row["label"] for row in rows]) | {"tickvals": middles})
    for index in range(1, len(rows)):
        figure.add_hline(y=index * step - 1, line_width=0.5, line_color="rgba(128,128,128,0.4)")
    figure.update_yaxes(range=[step * len(rows) - 1.3, -0.7])
    return charts.value_axis(figure, "x", _ACCURACY)


def _score_dots(figure: Any, look: Look, found: Mapping[int, Score], labels: Sequence[str]) -> None:
    figure.add_scatter(
        x=[100 * one.value for one in found.values()],
        y=list(found),
        error_x=_whiskers(list(found.values())),
        mode="markers",
        name=look.name,
        marker=charts.marker(look),
        hovertext=[
            f"{escape(label, quote=False)}<br>{look.name}: {one}"
            for label, one in zip(labels, found.values(), strict=True)
        ],
        hoverinfo="text",
    )


def _whiskers(scores: Sequence[Score]) -> dict[str, Any]:
    up = [None if one.high is None else 100 * (one.high - one.value) for one in scores]
    down = [None if one.low is None else 100 * (one.value - one.low) for one in scores]
    return {"array": up, "arrayminus": down, "symmetric": False, "width": 0, "thickness": 1.5}


def ablation_curves(rows: pl.DataFrame, accuracy: float | None, majority: float | None) -> Any:
    """Lines with bands: accuracy by the share of neurons that is kept, or dropped; top, random and bottom ones."""
    figure = charts.blank(_LOW)
    for which, look in ABLATED.items():
        _curve(figure, look, rows.filter(pl.col("which") == which).sort("share"), "share")
    _reference(figure, accuracy, "all neurons", "top left")
    _reference(figure, majority, "most frequent class", "bottom right")
    return _share_axis(figure, rows)


def method_curves(rows: pl.DataFrame, accuracy: float | None, majority: float | None) -> Any:
    """Lines: the same for the top neurons of several rankings, with a band about the first one alone."""
    figure = charts.blank(_LOW)
    for place, method in enumerate(rows["method"].unique(maintain_order=True)):
        own = rows.filter(pl.col("method") == method).sort("share")
        _curve(figure, property_look(place, method), own, "share", spread="band" if place == 0 else "")
    _reference(figure, accuracy, "all neurons", "top left")
    _reference(figure, majority, "most frequent class", "bottom right")
    return _share_axis(figure, rows)


def _share_axis(figure: Any, rows: pl.DataFrame, title: str = _ACCURACY) -> Any:
    _log_axis(figure, "x", rows["share"] * 100)
    figure.update_xaxes(title_text=_SHARE)
    return charts.value_axis(figure, "y", title)


def minimal_curves(tables: Tables) -> Any:
    """Lines with whiskers: accuracy on dev by the share of top neurons that was tried; a ring marks the minimal set."""
    figure = charts.blank(380)
    tried = tables["minimal"].filter(pl.col("accuracy").is_not_null()).sort("n_neurons")
    several = tables["properties"].height > 1
    for place, row in enumerate(rows_of(tables)):
        own = tried.filter(pl.col("label") == row["label"])
        if own.is_empty():
            continue
        look = property_look(place, short_name(row["label"]))
        _curve(figure, look, own, "share", spread="whiskers" if several else "band")
        chosen = (
            own.filter(pl.col("n_neurons") == row["minimal_size"])
            if row["minimal_reached"] is not False
            else own.head(0)
        )
        ring = {"symbol": "circle-open", "size": 17, "color": look.colour, "line": {"width": 1.5}}
        figure.add_scatter(
            x=[100 * share for share in chosen["share"]],
            y=[100 * value for value in chosen["accuracy"]],
            mode="markers",
            marker=ring,
            legendgroup=look.name,
            showlegend=False,
            hoverinfo="skip",
        )
    figure.update_layout(showlegend=several)
    return _share_axis(figure, tried, "Accuracy on development sentences (%)")


def disjoint_sizes(tables: Tables) -> Any:
    """Lines: the size of each further set without a common neuron; open where it no longer does as well as all."""
    figure = charts.blank(380)
    sets = tables["disjoint"].filter(pl.col("n_neurons") > 0).sort("set")
    several = tables["properties"].height > 1
    for place, label in enumerate(tables["properties"]["label"]):
        own = sets.filter(pl.col("label") == label)
        look = property_look(place, short_name(label))
        symbol = look.symbol.removesuffix("-open")
        filled = own["reached"].fill_null(value=True).to_list()
        marker = charts.marker(look) | {"symbol": [symbol if reached else f"{symbol}-open" for reached in filled]}
        marker |= {"size": 9, "line": {"width": 1.5, "color": look.colour}}
        scores = [score(row, "accuracy") for row in own.iter_rows(named=True)]
        hover = [
            f"set {number + 1}: {n:,} neurons, {one}"
            for number, n, one in zip(own["set"], own["n_neurons"], scores, strict=True)
        ]
        figure.add_scatter(
            x=[number + 1 for number in own["set"]],
            y=own["n_neurons"].to_list(),
            mode="lines+markers",
            name=look.name,
            line={"color": look.colour, "width": 1.5, "dash": _dash(look)},
            marker=marker,
            hovertext=hover,
            hoverinfo="text+name",
        )
    figure.update_layout(showlegend=several)
    _log_axis(figure, "y", sets["n_neurons"])
    figure.update_xaxes(title_text="Set, in the order found (1 is the minimal set)", dtick=1)
    return charts.value_axis(figure, "y", "Neurons in the set")


def layer_probes(tables: Tables, *, upto: bool | None = None) -> Any:
    """Lines with bands: accuracy of a probe by layer.

    Of one property both alone and with all layers below; of several one of the two, as `upto` says.
    """
    figure = charts.blank(380)
    rows = tables["layer_probes"].filter(pl.col("accuracy").is_not_null()).sort("layer")
    labels = tables["properties"]["label"].to_list()
    if upto is None:
        for look, kind in ((ALONE, False), (UP_TO, True)):
            _curve(figure, look, rows.filter(pl.col("upto") == kind), "layer")
        _reference(figure, tables["properties"]["accuracy"][0], "all layers", "bottom right")
    else:
        rows = rows.filter(pl.col("upto") == upto)
        for place, label in enumerate(labels):
            own = rows.filter(pl.col("label") == label)
            _curve(figure, property_look(place, short_name(label)), own, "layer", spread="whiskers")
    charts.layer_axis(figure, 1 + max(rows["layer"], default=0))
    return charts.value_axis(figure, "y", _ACCURACY)


def _curve(figure: Any, look: Look, rows: pl.DataFrame, column: str, *, spread: str = "band") -> None:
    """Add a line through accuracies, with its intervals as a band, as whiskers, or without."""
    if rows.is_empty():
        return
    scale = 100 if column == "share" else 1
    scores = [Score(*row) for row in rows.select("accuracy", "low", "high").iter_rows()]
    places = [scale * place for place in rows[column]]
    if spread == "band":
        bounded = [(x, one.bounds) for x, one in zip(places, scores, strict=True)]
        figure.add_scatter(
            x=[x for x, _ in bounded] + [x for x, _ in reversed(bounded)],
            y=[100 * high for _, (_, high) in bounded] + [100 * low for _, (low, _) in reversed(bounded)],
            mode="lines",
            fill="toself",
            fillcolor=look.colour + _BAND,
            line={"width": 0, "color": look.colour},
            legendgroup=look.name,
            showlegend=False,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=places,
        y=[100 * one.value for one in scores],
        error_y=_whiskers(scores) if spread == "whiskers" else {},
        mode="lines+markers" if len(places) <= _MOST_MARKERS else "lines",
        name=look.name,
        legendgroup=look.name,
        line={"color": look.colour, "width": 2, "dash": _dash(look)},
        marker=charts.marker(look),
        hovertext=[_place_text(row, one) for row, one in zip(rows.iter_rows(named=True), scores, strict=True)],
        hoverinfo="text+name",
    )


def _place_text(row: Mapping[str, Any], one: Score) -> str:
    if "n_neurons" in row:
        return f"{row['n_neurons']:,} neurons ({100 * row['share']:.3g} %): {one}"
    return f"layer {row['layer']}: {one}"


def _dash(look: Look) -> str:
    return "dot" if look.symbol.endswith("-open") else "solid"


def _reference(figure: Any, value: float | None, text: str, position: str) -> None:
    if value is not None:
        line = {"line_width": 1, "line_dash": "dash", "line_color": GREY}
        figure.add_hline(
            y=100 * value, annotation_text=text, annotation_position=position, annotation_font_size=11, **line
        )


def _log_axis(figure: Any, axis: str, values: pl.Series) -> None:
    """A logarithmic axis whose ticks are 1, 2 and 5 times powers of ten, or these alone where there are many."""
    update = figure.update_xaxes if axis == "x" else figure.update_yaxes
    positive = values.drop_nulls().filter(values.drop_nulls() > 0)
    if positive.is_empty():
        return
    low, high = float(positive.to_numpy().min()), float(positive.to_numpy().max())
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    span = math.log10(high / low)
    steps = range(1, 10) if span < 0.7 else (1, 2, 5) if span <= 2.2 else (1,)
    ticks = [step * 10.0**power for power in powers for step in steps]
    margin = 0.06 * max(span, 0.5)
    ends = [math.log10(low) - margin, math.log10(high) + margin]
    shown = [tick for tick in ticks if ends[0] <= math.log10(tick) <= ends[1]] or [low]
    update(type="log", range=ends, tickvals=shown, ticktext=[f"{tick:,.10g}" for tick in shown], tickangle=0)
