"""Where neurons lie and what they share, as figures: layers by property and class, overlap, agreement."""

from __future__ import annotations

from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.page import Tables
from neuronatlas.atlas.salience.looks import ABLATED, SALIENT
from neuronatlas.atlas.salience.names import short_name
from neuronatlas.atlas.salience.reading import main_method, shown_agreement, total_layers
from neuronatlas.atlas.wording import number, percent

__all__ = [
    "MOST_CLASSES",
    "TOP_SHARE",
    "agreement_heatmap",
    "class_heatmap",
    "layer_bars",
    "layer_heatmap",
    "overlap_heatmap",
    "top_layers",
]

MOST_CLASSES = 20
TOP_SHARE = 0.05
_MOST_CELL_LABELS = 14

Found = dict[tuple[str, int], float]


def layer_bars(tables: Tables) -> Any:
    """Bars: the share of the minimal set in each layer (%), with what an even spread would give as a line."""
    figure = charts.blank(340)
    rows = tables["layers"].filter(pl.col("class").is_null()).sort("layer")
    total, width = max(1, rows["n"].sum()), rows["width"].sum()
    figure.add_bar(
        x=rows["layer"].to_list(),
        y=[100 * (n or 0) / total for n in rows["n"]],
        customdata=rows["n"].to_list(),
        marker_color=SALIENT.colour,
        name="Minimal set",
        hovertemplate="layer %{x}: %{y:.1f} % (%{customdata:,} neurons)<extra></extra>",
    )
    if width:
        even = ABLATED["random"]
        figure.add_scatter(
            x=rows["layer"].to_list(),
            y=[100 * (own or 0) / width for own in rows["width"]],
            mode="lines+markers" if total_layers(tables) <= _MOST_CELL_LABELS else "lines",
            line={"color": even.colour, "dash": "dot", "width": 1.5},
            marker=charts.marker(even),
            name="Even spread",
            hovertemplate="layer %{x}: %{y:.1f} % of all neurons<extra></extra>",
        )
    charts.layer_axis(figure, total_layers(tables))
    return charts.value_axis(figure, "y", "Share of the minimal set (%)")


def layer_heatmap(tables: Tables) -> Any:
    """Heat map: for each property, the share of its minimal set in each layer (%)."""
    whole = tables["layers"].filter(pl.col("class").is_null())
    return _layers(tables, whole.select("label", "layer", "n", "width"), "% of the set")


def top_layers(tables: Tables) -> Any:
    """Heat map: the same for the top neurons of the ranking, equally many for every property."""
    own = tables["rankings"].filter(pl.col("method") == main_method(tables["rankings"]))
    place = pl.col("rank").rank("ordinal").over("label")
    top = own.filter(place <= pl.max_horizontal(1, (pl.len().over("label") * TOP_SHARE).round()))
    widths = own.group_by("label", "layer").agg(width=pl.len())
    counts = top.group_by("label", "layer").agg(n=pl.len())
    return _layers(tables, widths.join(counts, on=["label", "layer"], how="left"), "% of the top")


def _layers(tables: Tables, rows: pl.DataFrame, title: str) -> Any:
    """Cells from label, layer, n and width; hovering tells how much more there are than in an even spread."""
    rows = rows.with_columns(pl.col("n").fill_null(0)).with_columns(
        share=pl.col("n") / pl.col("n").sum().over("label"), even=pl.col("width") / pl.col("width").sum().over("label")
    )
    names = [label for label in tables["properties"]["label"] if label in rows["label"]]
    levels = total_layers(tables)
    found = {(row["label"], row["layer"]): row for row in rows.iter_rows(named=True)}
    cells = [[_percentage(found.get((name, layer))) for layer in range(levels)] for name in names]
    hover = [[_layer_text(name, layer, found.get((name, layer))) for layer in range(levels)] for name in names]
    figure = charts.heatmap(names, cells, hover)
    if levels <= _MOST_CELL_LABELS:
        labels = [["" if value < 0.5 else f"{value:.0f}" for value in row] for row in cells]
        figure.update_traces(text=labels, texttemplate="%{text}")
    charts.colour_title(figure, title)
    charts.layer_axis(figure, levels)
    return figure


def _percentage(row: dict[str, Any] | None) -> float:
    return 100 * row["share"] if row and row["share"] is not None else 0.0


def _layer_text(name: str, layer: int, row: dict[str, Any] | None) -> str:
    text = f"{short_name(name)}, layer {layer}: {_percentage(row):.1f} %"
    if not row or not row["even"] or row["share"] is None:
        return text
    return f"{text} ({row['n']:,} neurons), {row['share'] / row['even']:.1f} times an even spread"


def class_heatmap(tables: Tables, label: str) -> Any:
    """Heat map: for the most frequent classes of a property, the share of their top neurons in each layer (%)."""
    own = tables["layers"].filter(pl.col("label") == label, pl.col("class").is_not_null())
    order = tables["classes"].filter(pl.col("label") == label).sort("n_train", descending=True, nulls_last=True)
    known = dict.fromkeys([*order["class"].to_list(), *own["class"].unique(maintain_order=True).to_list()])
    names = [name for name in known if name in own["class"]][:MOST_CLASSES]
    levels = total_layers(tables)
    found: Found = {(name, layer): share for name, layer, share in own.select("class", "layer", "share").iter_rows()}
    counts = {(name, layer): n for name, layer, n in own.select("class", "layer", "n").iter_rows()}
    cells = [[100 * (found.get((name, layer)) or 0.0) for layer in range(levels)] for name in names]
    hover = [
        [
            f"{short_name(name)}, layer {layer}: {value:.0f} % ({counts.get((name, layer)) or 0} neurons)"
            for layer, value in enumerate(row)
        ]
        for name, row in zip(names, cells, strict=True)
    ]
    figure = charts.heatmap(names, cells, hover)
    figure.update_layout(height=110 + 22 * len(names))
    charts.colour_title(figure, "% of the class")
    charts.layer_axis(figure, levels)
    return figure


def overlap_heatmap(tables: Tables) -> Any:
    """Heat map: how many neurons two properties share, as a share of those in either (Jaccard, %)."""
    names = tables["properties"]["label"].to_list()
    rows = {frozenset((row["label"], row["other"])): row for row in tables["overlaps"].iter_rows(named=True)}
    pairs = [[rows.get(frozenset((a, b))) if a != b else None for a in names] for b in names]
    cells = [[100 * row["jaccard"] if row and row["jaccard"] is not None else None for row in line] for line in pairs]
    hover = [
        [_overlap_text(f"{short_name(b)} and {short_name(a)}", row) for a, row in zip(names, line, strict=True)]
        for b, line in zip(names, pairs, strict=True)
    ]
    labels = [
        [
            "" if row is None or row["n_shared"] is None else f"{row['n_shared']:,}<br>({number(row['expected'], 1)})"
            for row in line
        ]
        for line in pairs
    ]
    figure = charts.heatmap(names, cells, hover)
    figure.update_layout(height=150 + 44 * len(names))
    figure.update_traces(text=labels, texttemplate="%{text}")
    charts.colour_title(figure, "% of those in either")
    figure.update_xaxes(**charts.ticks(names), tickangle=-45)
    return figure


def _overlap_text(names: str, row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    chance = f"chance {number(row['expected'], 1)}" if row["expected"] is not None else "chance unknown"
    p = f", p = {row['p']:.2g}" if row["p"] is not None else ""
    return f"{names}: {row['n_shared']} neurons shared, {percent(row['jaccard'], 1)} of those in either ({chance}{p})"


def agreement_heatmap(tables: Tables) -> Any:
    """Heat map: the share of the top neurons that two rankings have in common (%), mean over properties."""
    rows = shown_agreement(tables)
    means = rows.group_by("method_a", "method_b", maintain_order=True).agg(pl.mean("overlap", "chance"))
    names = list(dict.fromkeys([*rows["method_a"], *rows["method_b"]]))
    found = {frozenset((a, b)): (overlap, chance) for a, b, overlap, chance in means.iter_rows()}
    pairs = [[found.get(frozenset((a, b))) if a != b else None for a in names] for b in names]
    cells = [[None if pair is None else 100 * pair[0] for pair in line] for line in pairs]
    hover = [
        [
            "" if pair is None else f"{b} and {a}: {percent(pair[0], 1)} (chance {percent(pair[1], 1)})"
            for a, pair in zip(names, line, strict=True)
        ]
        for b, line in zip(names, pairs, strict=True)
    ]
    figure = charts.heatmap(names, cells, hover)
    labels = [["" if pair is None else f"{100 * pair[0]:.0f}" for pair in line] for line in pairs]
    figure.update_traces(text=labels, texttemplate="%{text}", zmax=100)
    charts.colour_title(figure, "% in common")
    figure.update_layout(height=150 + 34 * len(names))
    figure.update_xaxes(**charts.ticks(names), tickangle=-45)
    return figure
