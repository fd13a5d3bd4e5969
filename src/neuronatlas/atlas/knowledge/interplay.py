"""Figures of what neurons do together: a matrix of the pairs of one fact."""

from __future__ import annotations

from html import escape
from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.style import BLUE, VERMILION
from neuronatlas.atlas.wording import number

__all__ = ["pair_matrix"]

_VALUES = {
    "interaction": "joint less single effects",
    "shapley": "Shapley interaction index",
    "joint": "joint effect",
}
_UNITS = {"log_odds": "log-odds (nats)", "p": "P(answer)"}
_SIGNS = {"redundancy": "\N{MINUS SIGN}", "degenerate": "=", "synergy": "+", "mixed": "?"}
# Nothing in the middle, so that the page shows through, light or dark.
_DIVERGING = [[0.0, VERMILION], [0.5, "rgba(128,128,128,0.06)"], [1.0, BLUE]]
_MOST_SIGNS = 24


def pair_matrix(pairs: pl.DataFrame, measure: str = "log_odds", value: str = "interaction") -> Any:
    """Heat map: a value of every pair of neurons of one fact, with what each does alone in a column of its own.

    `pairs` has the pairs of one fact (and condition). A cell's sign tells its kind: a minus for redundancy, = for
    degenerate (a redundancy of more than half), + for synergy, ? for mixed, and none where no interaction was found.
    """
    rows = pairs.filter(pl.col("measure") == measure)
    names = list(dict.fromkeys([*rows["a"], *rows["b"]]))
    cells: list[list[float | None]] = [[None] * (len(names) + 2) for _ in names]
    signs = [[""] * (len(names) + 2) for _ in names]
    hover = [[""] * (len(names) + 2) for _ in names]
    for row in rows.iter_rows(named=True):
        i, j = names.index(row["a"]), names.index(row["b"])
        for at, other in ((i, j), (j, i)):
            cells[at][other + 2], signs[at][other + 2] = row[value], _SIGNS.get(row["kind"], "")
            hover[at][other + 2] = _told(row)
        for at, alone in ((i, row["a_alone"]), (j, row["b_alone"])):
            cells[at][0], hover[at][0] = alone, f"{names[at]} alone: {number(alone, 3)}"
    figure = charts.heatmap(names, cells, hover)
    most = max((abs(cell) for line in cells for cell in line if cell is not None), default=0.0) or 1.0
    figure.update_traces(zmin=-most, zmax=most, autocolorscale=False, colorscale=_DIVERGING, hoverongaps=False)
    if len(names) <= _MOST_SIGNS:
        figure.update_traces(text=signs, texttemplate="%{text}")
    labels = ["alone", "", *(escape(charts.shortened(name), quote=False) for name in names)]
    places = [place for place, label in enumerate(labels) if label]
    figure.update_xaxes(tickvals=places, ticktext=[labels[place] for place in places], tickangle=-45)
    charts.colour_title(figure, f"{_VALUES.get(value, value)}, {_UNITS[measure]}")
    figure.update_layout(height=max(300, figure.layout.height))
    return figure


def _told(row: dict[str, Any]) -> str:
    alone = f"alone {number(row['a_alone'], 3)} and {number(row['b_alone'], 3)}, both {number(row['joint'], 3)}"
    more = f"interaction {number(row['interaction'], 3)}, Shapley {number(row['shapley'], 3)}: {row['kind']}"
    return f"{row['a']} and {row['b']}: {alone}; {more}"
