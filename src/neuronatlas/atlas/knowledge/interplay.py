"""Figures of what neurons do together: a matrix of the pairs of one fact."""

from __future__ import annotations

from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.style import BLUE, VERMILION
from neuronatlas.atlas.wording import number

__all__ = ["pair_matrix"]

_VALUES = {"interaction": "both less alone", "shapley": "Shapley index", "joint": "both"}
_UNITS = {"log_odds": "nats", "p": "of P"}
_SIGNS = {"redundancy": "\N{MINUS SIGN}", "degenerate": "=", "synergy": "+", "mixed": "?"}
# See-through in the middle, so that the page shows, light or dark.
_DIVERGING = [[0.0, VERMILION], [0.5, "rgba(213,94,0,0)"], [0.5, "rgba(0,114,178,0)"], [1.0, BLUE]]
_MOST_SIGNS = 24


def pair_matrix(pairs: pl.DataFrame, measure: str = "log_odds", value: str = "interaction") -> Any:
    """Heat map: a value of every pair of neurons of one fact; beside each name, in brackets, what it does alone.

    `pairs` has the pairs of one fact (and condition). A cell's sign tells its kind: a minus for redundancy, = for
    degenerate (a redundancy of more than half), + for synergy, ? for mixed, and none where no interaction was found.
    """
    rows = pairs.filter(pl.col("measure") == measure)
    names = list(dict.fromkeys([*rows["a"], *rows["b"]]))
    cells: list[list[float | None]] = [[None] * len(names) for _ in names]
    signs = [[""] * len(names) for _ in names]
    hover = [[""] * len(names) for _ in names]
    alone: dict[str, float] = {}
    for row in rows.iter_rows(named=True):
        i, j = names.index(row["a"]), names.index(row["b"])
        alone |= {row["a"]: row["a_alone"], row["b"]: row["b_alone"]}
        for at, other in ((i, j), (j, i)):
            cells[at][other], signs[at][other], hover[at][other] = row[value], _SIGNS.get(row["kind"], ""), _told(row)
    labels = [f"{name} ({number(alone[name], 2)})" for name in names]
    figure = charts.heatmap(labels, cells, hover)
    most = max((abs(cell) for line in cells for cell in line if cell is not None), default=0.0) or 1.0
    figure.update_traces(zmin=-most, zmax=most, autocolorscale=False, colorscale=_DIVERGING, hoverongaps=False)
    if len(names) <= _MOST_SIGNS:
        figure.update_traces(text=signs, texttemplate="%{text}")
    figure.update_xaxes(**charts.ticks(names), tickangle=-45)
    charts.colour_title(figure, f"{_VALUES.get(value, value)} ({_UNITS[measure]})")
    figure.update_layout(height=max(320, figure.layout.height))
    return figure


def _told(row: dict[str, Any]) -> str:
    alone = f"alone {number(row['a_alone'], 3)} and {number(row['b_alone'], 3)}, both {number(row['joint'], 3)}"
    more = f"interaction {number(row['interaction'], 3)}, Shapley {number(row['shapley'], 3)}: {row['kind']}"
    return f"{row['a']} and {row['b']}: {alone}; {more}"
