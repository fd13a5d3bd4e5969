"""Base, children and controls side by side over layers: where top neurons sat and sit, and what each layer tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.page import Plot, Tables, level
from neuronatlas.atlas.salience.names import property_name, short_name
from neuronatlas.atlas.salient_study.reading import both_read, labels
from neuronatlas.atlas.slopes import slopes
from neuronatlas.atlas.style import BLUE, GREEN, VERMILION, Look

__all__ = ["CHILD", "CONTROL", "SERIES", "accuracy_lines", "plots"]

CHILD, CONTROL = "child", "shuffled child"
SERIES: Mapping[str, Look] = {
    "base": Look("Base", GREEN, "triangle-up", 8),
    CHILD: Look("Children", BLUE, "circle", 8),
    CONTROL: Look("On shuffled labels", VERMILION, "square", 7),
}
"""How base, children and controls look in every figure over layers."""

_DEPTH = "Mean depth (0 lowest, 1 highest layer)"


def plots(tables: Tables) -> Iterator[Plot]:
    """Slopes of the shift; then for each property the layers of its top neurons, and what each layer alone tells."""
    bases = tables["child_pairs"]["base"].unique(maintain_order=True).to_list()
    for place, base in enumerate(bases):
        of_which = f" of {base}" if len(bases) > 1 else ""
        end = f"-{place}" if len(bases) > 1 else ""
        yield from level(_on_one_axis(list(_slopes(tables, base, of_which, end))))
        for asked in (_HISTOGRAMS, _PROBES):
            yield from level([*_layer_by_layer(tables, asked, base, of_which, end)])


def _slopes(tables: Tables, base: str, of_which: str, end: str) -> Iterator[Plot]:
    """From the mean depth in the base to that in its children, mean over seeds; grey where one seed's is chance."""
    if "localisation" not in tables:
        return
    places = tables["localisation"].filter(pl.col("of") == "top").select("model", "label", "mean_depth")
    pairs = both_read(tables["child_pairs"].filter(pl.col("of") == "top", pl.col("base") == base))
    both = pairs.join(places, on=["model", "label"]).join(
        places.rename({"model": "base", "mean_depth": "first"}), on=["base", "label"]
    )
    for role, whose in ((CHILD, "children"), (CONTROL, "children on shuffled labels")):
        second = pl.col("mean_depth")
        moved = (
            both.filter(pl.col("role") == role)
            .group_by("label", maintain_order=True)
            .agg(
                pl.first("first"),
                second.mean().alias("second"),
                second.min().alias("second_low"),
                second.max().alias("second_high"),
                pl.max("p_moved_adjusted").alias("q_value"),
            )
        )
        named = moved.with_columns(name=pl.col("label").map_elements(short_name, pl.String))
        if named.height:
            caption = (
                f"Mean depth of each property's top neurons in the base{of_which} and in its {whose}, mean over seeds "
                "with the least and the most; grey where chance could have moved those of some seed as far."
            )
            name = "child-slopes" if role == CHILD else "control-slopes"
            yield Plot(f"{name}{end}", slopes(named, "Base", whose.capitalize(), _DEPTH), caption)


def _on_one_axis(shown: list[Plot]) -> list[Plot]:
    ends = [end for plot in shown for end in plot.figure.layout.yaxis.range]
    for plot in shown:
        plot.figure.update_yaxes(range=[min(ends), max(ends)])
    return shown


def _layer_by_layer(tables: Tables, asked: _Asked, base: str, of_which: str, end: str) -> Iterator[Plot]:
    """A figure a property: a column of a table by layer, for base, children and controls, means over seeds."""
    if asked.table not in tables:
        return
    found = tables[asked.table].filter(asked.rows)
    for place, label in enumerate(labels(tables)):
        own = _by_series(tables, found, base, label)
        means = own.group_by("series", "layer").agg(pl.mean(asked.column)).sort("layer")
        if means.height:
            caption = f"{property_name(label)}: {asked.caption.format(of_which=of_which)}; means over seeds."
            yield Plot(f"{asked.name}{end}-{place}", asked.drawn(means), caption)


def _by_series(tables: Tables, found: pl.DataFrame, base: str, label: str) -> pl.DataFrame:
    """The rows of a base and of its children in which the property is read, with the series that each belongs to."""
    pairs = tables["child_pairs"].filter(pl.col("of") == "top", pl.col("base") == base, pl.col("label") == label)
    series = {row["model"]: row["role"] for row in both_read(pairs).iter_rows(named=True)}
    series |= {base: "base"} if series else {}
    own = found.filter(pl.col("label") == label, pl.col("model").is_in(list(series)))
    return own.with_columns(series=pl.col("model").replace_strict(series, default=None, return_dtype=pl.String))


def _bars(means: pl.DataFrame) -> Any:
    figure = charts.blank(300)
    for name, look in SERIES.items():
        rows = means.filter(pl.col("series") == name)
        figure.add_bar(
            x=rows["layer"].to_list(),
            y=(100 * rows["share"]).to_list(),
            name=look.name,
            marker={"color": look.colour},
            hovertemplate="layer %{x}: %{y:.1f} %",
            visible=bool(rows.height),
        )
    figure.update_layout(barmode="group")
    charts.layer_axis(figure, means["layer"].n_unique())
    return charts.value_axis(figure, "y", "Top neurons (%)")


def accuracy_lines(means: pl.DataFrame, height: int = 300, title: str = "Accuracy (%)") -> Any:
    """Accuracy by layer, a line for each of `SERIES` that has rows. Columns: series, layer, accuracy."""
    figure = charts.blank(height)
    for name, look in SERIES.items():
        rows = means.filter(pl.col("series") == name)
        figure.add_scatter(
            x=rows["layer"].to_list(),
            y=(100 * rows["accuracy"]).to_list(),
            mode="lines+markers",
            name=look.name,
            line={"color": look.colour, "width": 1.5},
            marker=charts.marker(look),
            hovertemplate="layer %{x}: %{y:.1f} %",
            visible=bool(rows.height),
        )
    charts.layer_axis(figure, means["layer"].n_unique())
    return charts.value_axis(figure, "y", title)


@dataclass(frozen=True)
class _Asked:
    """What of a table is drawn by layer: which rows and column, how, and in words."""

    table: str
    rows: pl.Expr
    column: str
    name: str
    caption: str
    drawn: Callable[[pl.DataFrame], Any]


_HISTOGRAMS = _Asked(
    "layer_shares",
    (pl.col("of") == "top") & pl.col("share").is_not_null(),
    "share",
    "child-layers",
    "share of the top neurons in every layer of the base{of_which}, of its children and of those on shuffled labels",
    _bars,
)
_PROBES = _Asked(
    "layer_probes",
    pl.col("upto").not_(),
    "accuracy",
    "child-probes",
    "accuracy of a probe on one layer alone, in the base{of_which}, its children and those on shuffled labels",
    accuracy_lines,
)
