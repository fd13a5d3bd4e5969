"""What replacing salient neurons does in the running model, as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.salience.looks import ELSEWHERE, MATCHED, OWN, SALIENT
from neuronatlas.atlas.salience.names import CLASS_MASS, measure_name, short_name
from neuronatlas.atlas.salience.reading import ALPHA
from neuronatlas.atlas.style import Look
from neuronatlas.atlas.wording import number

__all__ = ["MOST_CLASSES", "class_effects", "own_effects"]

MOST_CLASSES = 20
_ALL = "all classes"
_ENDS = {"change": ("low", "high"), "control_mean": ("control_low", "control_high")}
_SHIFTS = {1: (-0.16, 0.16), 2: (-0.24, 0.0, 0.24)}
"""How far from a class's line its dots lie, by how many kinds stand beside the random ones."""

_SHORT = {CLASS_MASS: "P(right class)", "top word of the class": "the share of right top words"}


def class_effects(rows: pl.DataFrame) -> Any:
    """Dots with whiskers: what replacing neurons changes in each class, beside matched random neurons.

    `rows` are interventions of one property, set, replacement and measure. The classes of most words are shown, the
    strongest change on top; a star marks an adjusted p up to ALPHA.
    """
    return _beside_random(rows, {SALIENT: "change"})


def own_effects(rows: pl.DataFrame) -> Any:
    """The same where each class lost its own neurons, with what these change in the other classes' words."""
    return _beside_random(rows, {OWN: "change", ELSEWHERE: "others_change"})


def _beside_random(rows: pl.DataFrame, found: Mapping[Look, str]) -> Any:
    shown = _chosen(rows)
    measure = measure_name(shown["measure"][0] or "") if shown.height else ""
    scale = 1 if measure.startswith("log") else 100
    figure = charts.blank(130 + 26 * shown.height)
    places = list(range(shown.height))
    for (look, name), shift in zip([*found.items(), (MATCHED, "control_mean")], _SHIFTS[len(found)], strict=True):
        values = shown.select(pl.col(name, *_ENDS.get(name, ())) * scale)
        _dots(figure, look, values, [place + shift for place in places], shown)
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
    """Dots, with whiskers where the values come with their low and high ends."""
    middle, *ends = values.get_columns()
    texts = [
        f"{short_name(row['class'] or _ALL)} ({row['n_words'] or 0:,} words), {look.name.lower()}: {_told(numbers)}"
        for row, numbers in zip(rows.iter_rows(named=True), values.iter_rows(), strict=True)
    ]
    whiskers: dict[str, Any] = {"symmetric": False, "width": 0, "thickness": 1.5}
    if ends:
        low, high = ends
        whiskers |= {"array": (high - middle).to_list(), "arrayminus": (middle - low).to_list()}
    figure.add_scatter(
        x=middle.to_list(),
        y=list(heights),
        error_x=whiskers if ends else None,
        mode="markers",
        name=look.name,
        marker=charts.marker(look),
        hovertext=[text.replace("<", "&lt;") for text in texts],
        hoverinfo="text",
    )


def _told(numbers: Sequence[float | None]) -> str:
    value, *ends = (number(one, 2) for one in numbers)
    return f"{value} [{', '.join(ends)}]" if ends else value
