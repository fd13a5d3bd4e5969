"""What sets have in common, as matrices whose rows a tree orders: like sets stand side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.cluster.hierarchy import dendrogram, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from neuronatlas.atlas import charts
from neuronatlas.atlas.provenance import AtlasError
from neuronatlas.atlas.style import GREY
from neuronatlas.atlas.wording import number, percent

__all__ = ["Tree", "overlap_matrix", "tree_of"]

_FEWEST_LEAVES = 3
_MOST_CELL_LABELS = 12
_ALPHA = 0.05
_ROW = 30  # pixels
_TREE = 74  # pixels

Line = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Tree:
    """Names ordered so that like ones are neighbours, and the lines of the tree that joins them.

    Each of `lines` is an arch: four places (0 is the first name) and four heights (distances, 0 for a name).
    """

    names: tuple[str, ...]
    lines: tuple[Line, ...] = ()


def tree_of(pairs: pl.DataFrame, value: str = "jaccard") -> Tree:
    """Join names by average linkage at the distances 1 - `value`, each branch turned so that like ones are neighbours.

    `pairs` has the names in `first` and `second`, one row a pair, and in `value` a likeness from 0 to 1; a pair without
    one counts as not alike. Fewer than three names keep their order and have no tree.

    Errors: AtlasError for a pair that stands twice, or a likeness that is none.

    >>> pairs = pl.DataFrame({"first": ["a", "a", "b"], "second": ["b", "c", "c"], "jaccard": [0.1, 0.8, 0.2]})
    >>> tree_of(pairs).names
    ('b', 'c', 'a')
    """
    names = tuple(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    if len(names) < _FEWEST_LEAVES:
        return Tree(names)
    likeness = _likeness(pairs, value, names)
    distances = squareform(1 - likeness, checks=False)
    joined = optimal_leaf_ordering(linkage(distances, method="average"), distances)
    drawn = dendrogram(joined, no_plot=True)
    # scipy puts the leaves at 5, 15, 25, ...
    lines = tuple(
        (tuple((x - 5) / 10 for x in places), tuple(map(float, heights)))
        for places, heights in zip(drawn["icoord"], drawn["dcoord"], strict=True)
    )
    return Tree(tuple(names[leaf] for leaf in drawn["leaves"]), lines)


def overlap_matrix(
    pairs: pl.DataFrame,
    *,
    value: str = "jaccard",
    title: str = "% of those in either",
    alpha: float = _ALPHA,
    spelled: Mapping[str, str] | None = None,
) -> Any:
    """Heat map of what each two sets have in common (%), ordered by a tree that stands above.

    `pairs` is as for `tree_of`. Where it has `n_shared` and `expected` hovering tells them; where it has `q_value` a
    cell gets a star at `alpha` or less. `spelled` are the names to show.
    """
    tree, spelled = tree_of(pairs, value), spelled or {}
    found = {frozenset((row["first"], row["second"])): row for row in pairs.iter_rows(named=True)}
    rows = [[found.get(frozenset((a, b))) if a != b else None for a in tree.names] for b in tree.names]
    cells = [[_percentage(row, value) for row in line] for line in rows]
    shown = [spelled.get(name, name) for name in tree.names]
    hover = [
        [_text(f"{one} and {other}", row, value) for other, row in zip(shown, line, strict=True)]
        for one, line in zip(shown, rows, strict=True)
    ]
    figure = charts.heatmap(shown, cells, hover)
    if len(shown) <= _MOST_CELL_LABELS:
        labels = [
            [_label(cell, row, alpha) for cell, row in zip(*lines, strict=True)]
            for lines in zip(cells, rows, strict=True)
        ]
        figure.update_traces(text=labels, texttemplate="%{text}")
    charts.colour_title(figure, title)
    figure.update_xaxes(**charts.ticks(shown), tickangle=-45, range=[-0.5, len(shown) - 0.5])
    figure.update_yaxes(range=[len(shown) - 0.5, -0.5], autorange=False)
    figure.update_layout(height=130 + _ROW * len(shown) + (_TREE if tree.lines else 0))
    if tree.lines:
        _add_tree(figure, tree)
    return figure


def _likeness(pairs: pl.DataFrame, value: str, names: Sequence[str]) -> Float[np.ndarray, "name name"]:
    place = {name: index for index, name in enumerate(names)}
    matrix = np.eye(len(names))
    seen = set()
    for first, second, alike in pairs.select("first", "second", value).iter_rows():
        pair = frozenset((first, second))
        if pair in seen or first == second:
            raise AtlasError(f"{first!r} and {second!r} stand twice among the pairs: one row a pair expected")
        if alike is not None and not 0 <= alike <= 1:
            raise AtlasError(f"{value} of {first!r} and {second!r} is {alike}: a share from 0 to 1 expected")
        seen.add(pair)
        matrix[place[first], place[second]] = matrix[place[second], place[first]] = alike or 0.0
    return matrix


def _percentage(row: Mapping[str, Any] | None, value: str) -> float | None:
    return None if row is None or row[value] is None else 100 * row[value]


def _label(cell: float | None, row: Mapping[str, Any] | None, alpha: float) -> str:
    if cell is None or row is None:
        return ""
    q = row.get("q_value")
    return number(cell, 0) + ("*" if q is not None and q <= alpha else "")


def _text(names: str, row: Mapping[str, Any] | None, value: str) -> str:
    if row is None or row[value] is None:
        return ""
    text = f"{names}: {percent(row[value], 1)}"
    if row.get("n_shared") is not None:
        text += f", {row['n_shared']:,} shared"
    if row.get("expected") is not None:
        text += f", {number(row['expected'], 1)} by chance"
    return text + (f", q = {row['q_value']:.2g}" if row.get("q_value") is not None else "")


def _add_tree(figure: Any, tree: Tree) -> None:
    """Above the matrix, on the same places; its height is the distance at which two branches join."""
    height = figure.layout.height
    below = 1 - _TREE / (height - 110)
    xs: list[float | None] = []
    ys: list[float | None] = []
    for places, heights in tree.lines:
        xs += [*places, None]
        ys += [*(100 * each for each in heights), None]
    figure.add_scatter(
        x=xs,
        y=ys,
        xaxis="x",
        yaxis="y2",
        mode="lines",
        line={"color": GREY, "width": 1.2},
        hoverinfo="skip",
        showlegend=False,
    )
    top = max(max(heights) for _, heights in tree.lines)
    figure.update_layout(
        yaxis={"domain": [0, below - 0.02]},
        yaxis2={
            "domain": [below, 1],
            "anchor": "x",
            "range": [0, 100 * top * 1.04 or 1],
            "showgrid": False,
            "nticks": 3,
            "title": {"text": "% apart", "font": {"size": 11}},
        },
    )
