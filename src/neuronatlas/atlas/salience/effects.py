"""What replacing salient neurons does in the running model, as figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.salience.looks import MATCHED, SALIENT
from neuronatlas.atlas.salience.names import CLASS_MASS, measure_name, short_name
from neuronatlas.atlas.salience.reading import ALPHA
from neuronatlas.atlas.style import Look
from neuronatlas.atlas.wording import number

__all__ = ["MOST_CLASSES", "class_effects"]

MOST_CLASSES = 20
_ALL = "all classes"
_SHORT = {CLASS_MASS: "P(right class)", "top word of the class": "the share of right top words"}


def class_effects(rows: pl.DataFrame) -> Any:
    """Dots with whiskers: what replacing neurons changes in each class, beside matched random neurons.

    `rows` are interventions of one property, set, replacement and measure. The classes of most words are shown, the
    strongest change on top; a star marks an adjusted p up to ALPHA.
    """
    shown = _chosen(rows)
    measure = measure_name(shown["measure"][0] or "") if shown.height else ""
    scale = 1 if measure.startswith("log") else 100
    figure = charts.blank(130 + 26 * shown.height)
    places = list(range(shown.height))
    for look, columns, shift in (
        (SALIENT, ("change", "low", "high"), -0.16),
        (MATCHED, ("control_mean", "control_low", "control_high"), 0.16),
    ):
        _dots(figure, look, shown.select(pl.col(columns) * scale), [place + shift for place in places], shown)
    for place in places[1:]:
        figure.add_hline(y=place - 0.5, line_width=0.5, line_color="rgba(128,128,128,0.3)")
    ticks = charts.ticks([_name(row) for row in shown.iter_rows(named=True)])
    figure.update_yaxes(**ticks, range=[shown.height - 0.4, -0.6])
    unit = "nats" if scale == 1 else "points"
    return charts.value_axis(figure, "x", f"Change of {_SHORT.get(measure, measure)} ({unit})", zeroline=True)


def _chosen(rows: pl.DataFrame) -> pl.DataFrame:
    """All classes together first, then the ones with the most words, those that lose the most first."""
    classes = rows.filter(pl.col("class").is_not_null(), pl.col("change").is_not_null())
    classes = classes.sort("n_words", "class", descending=[True, False], nulls_last=True).head(MOST_CLASSES)
    together = rows.filter(pl.col("class").is_null(), pl.col("change").is_not_null()).head(1)
    return pl.concat([together, classes.sort("change", "class")])


def _name(row: dict[str, Any]) -> str:
    if row["class"] is None:
        return _ALL
    star = " *" if row["p_adjusted"] is not None and row["p_adjusted"] <= ALPHA else ""
    return f"{charts.shortened(row['class'], 24)}{star}"


def _dots(figure: Any, look: Look, values: pl.DataFrame, heights: Sequence[float], rows: pl.DataFrame) -> None:
    middle, low, high = values.get_columns()
    texts = [
        f"{short_name(row['class'] or _ALL)} ({row['n_words'] or 0:,} words), {look.name.lower()}: {number(value, 2)} "
        f"[{number(down, 2)}, {number(up, 2)}]"
        for row, (value, down, up) in zip(rows.iter_rows(named=True), values.iter_rows(), strict=True)
    ]
    figure.add_scatter(
        x=middle.to_list(),
        y=list(heights),
        error_x={
            "array": (high - middle).to_list(),
            "arrayminus": (middle - low).to_list(),
            "symmetric": False,
            "width": 0,
            "thickness": 1.5,
        },
        mode="markers",
        name=look.name,
        marker=charts.marker(look),
        hovertext=[text.replace("<", "&lt;") for text in texts],
        hoverinfo="text",
    )
