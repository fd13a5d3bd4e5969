"""The figures of a study: properties by model, as dots, curves and lines over depth, and matrices of models.

Each function takes the study's own tables and returns a `plotly.graph_objects.Figure` without a title. Whiskers are
95 % intervals; every model has one colour and symbol in all figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.matrices import overlap_matrix
from neuronatlas.atlas.page import Tables
from neuronatlas.atlas.salience.names import short_name
from neuronatlas.atlas.salient_study.reading import Row, both_read, labels, looks, models, rows, spanned
from neuronatlas.atlas.style import GREY, Look
from neuronatlas.atlas.wording import percent

__all__ = ["accuracy_by_size", "depth_lines", "dots", "mean_depths", "model_matrix", "property_matrix"]

_FAINT = "rgba(128,128,128,0.4)"


def dots(
    found: Mapping[str, Sequence[Row]],
    column: str,
    names: Sequence[str],
    of: str,
    series: Mapping[str, Look],
    title: str,
    *,
    scale: float = 1.0,
) -> Any:
    """Dots with whiskers: a group of rows for each name (the value of column `of`), a series for each key of `found`.

    `column` has the numbers, `column`_low and `column`_high their bounds where there are any.
    """
    step = len(series) + 1
    figure = charts.blank(110 + (24 if len(names) < 3 else 15) * step * len(names))
    for place, (key, look) in enumerate(series.items()):
        own = {row[of]: row for row in found.get(key, ()) if row[column] is not None}
        shown = [name for name in names if name in own]
        figure.add_scatter(
            x=[scale * own[name][column] for name in shown],
            y=[names.index(name) * step + place for name in shown],
            error_x=_whiskers([own[name] for name in shown], column, scale),
            mode="markers",
            name=look.name,
            marker=charts.marker(look),
            hovertext=[
                f"{escape(name, quote=False)}<br>{look.name}: {_told(own[name], column, scale)}" for name in shown
            ],
            hoverinfo="text",
        )
    middles = [index * step + (len(series) - 1) / 2 for index in range(len(names))]
    figure.update_yaxes(**charts.ticks(names) | {"tickvals": middles}, range=[step * len(names) - 1.3, -0.7])
    for index in range(1, len(names)):
        figure.add_hline(y=index * step - 1, line_width=0.5, line_color=_FAINT)
    figure.update_layout(showlegend=len(series) > 1)
    return charts.value_axis(figure, "x", title)


def _whiskers(found: Sequence[Row], column: str, scale: float) -> dict[str, Any]:
    def away(row: Row, end: str, sign: int) -> float | None:
        bound = row.get(f"{column}_{end}")
        return None if bound is None else max(0.0, sign * scale * (bound - row[column]))

    up, down = ([away(row, end, sign) for row in found] for end, sign in (("high", 1), ("low", -1)))
    return {"array": up, "arrayminus": down, "symmetric": False, "width": 0, "thickness": 1.5}


def _told(row: Row, column: str, scale: float) -> str:
    ends = {column + end: None if row.get(column + end) is None else scale * row[column + end] for end in _ENDS}
    return spanned(ends, column, 1 if scale > 1 else 2)


_ENDS = ("", "_low", "_high")


def accuracy_by_size(tables: Tables, label: str) -> Any:
    """Lines: accuracy on dev by the share of top neurons that was tried, one a model; rings mark minimal sets."""
    figure = charts.blank(330)
    sizes = {row["model"]: row["set_size"] for row in rows(tables, "minimal_sets", label=label)}
    for model, look in looks(tables).items():
        own = sorted(rows(tables, "curves", label=label, model=model, which="searched"), key=lambda row: row["share"])
        figure.add_scatter(
            x=[100 * row["share"] for row in own],
            y=[100 * row["accuracy"] for row in own],
            error_y=_whiskers(own, "accuracy", 100),
            mode="lines+markers",
            name=look.name,
            line={"color": look.colour, "width": 1.5},
            marker=charts.marker(look),
            hovertext=[f"{row['n_neurons']:,} neurons: {percent(row['accuracy'], 1)}" for row in own],
            hoverinfo="text+name",
        )
        ring = [row for row in own if row["n_neurons"] == sizes[model]]
        figure.add_scatter(
            x=[100 * row["share"] for row in ring],
            y=[100 * row["accuracy"] for row in ring],
            mode="markers",
            marker={"symbol": "circle-open", "size": 17, "color": look.colour, "line": {"width": 1.5}},
            showlegend=False,
            hoverinfo="skip",
        )
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    figure.update_xaxes(
        type="log", title_text="Share of all neurons (%)", tickvals=ticks, ticktext=[f"{t:g}" for t in ticks]
    )
    return charts.value_axis(figure, "y", "Accuracy (%)")


def depth_lines(tables: Tables, label: str, of: str = "top") -> Any:
    """Lines: of a property's neurons, how many times more lie at each depth than an even spread would put there."""
    figure = charts.blank(300)
    for model, look in looks(tables).items():
        found = tables["layer_shares"].filter(
            pl.col("model") == model, pl.col("label") == label, pl.col("of") == of, pl.col("share").is_not_null()
        )
        total = max(1, found["width"].sum())
        own = list(found.sort("layer").iter_rows(named=True))
        figure.add_scatter(
            x=[row["depth"] for row in own],
            y=[row["share"] * total / row["width"] for row in own],
            mode="lines+markers",
            name=look.name,
            line={"color": look.colour, "width": 1.5},
            marker=charts.marker(look),
            hovertext=[f"layer {row['layer']}: {percent(row['share'], 1)} ({row['n']:,} neurons)" for row in own],
            hoverinfo="text+name",
        )
    figure.add_hline(y=1, line_width=1, line_dash="dash", line_color=GREY)
    figure.update_xaxes(title_text="Depth (0 is the lowest layer, 1 the highest)", range=[-0.04, 1.04])
    figure.update_yaxes(rangemode="tozero")
    return charts.value_axis(figure, "y", "Times an even spread")


def mean_depths(tables: Tables, of: str = "top") -> Any:
    """Dots with whiskers: the mean depth of each property's neurons in each model."""
    found = {model: list(rows(tables, "localisation", of=of, model=model)) for model in models(tables)}
    figure = dots(found, "mean_depth", labels(tables), "label", looks(tables), "Mean depth (0 lowest, 1 highest layer)")
    figure.update_xaxes(range=[-0.03, 1.03])
    return figure


def model_matrix(tables: Tables, of: str = "top") -> Any:
    """Heat map with a tree: the share of their histograms over depth that two models share, mean over what is read."""
    pairs = both_read(tables["model_pairs"].filter(pl.col("of") == of, pl.col("overlap").is_not_null()))
    means = pairs.group_by("model", "other", maintain_order=True).agg(pl.mean("overlap"))
    return overlap_matrix(
        means.rename({"model": "first", "other": "second"}),
        value="overlap",
        title="% in common",
        spelled={name: short_name(name) for name in models(tables)},
    )


def property_matrix(tables: Tables, model: str, of: str = "top") -> Any:
    """Heat map with a tree: the neurons that two properties share, of those in either; a star where beyond chance."""
    named = {"label": "first", "other": "second", "p_in_layers_adjusted": "q_value"}
    pairs = tables["property_pairs"].filter(pl.col("of") == of, pl.col("model") == model).rename(named)
    return overlap_matrix(pairs, spelled={name: short_name(name) for name in labels(tables)})
