"""What is read from the tables of an atlas of salient neurons by every part of its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from neuronatlas.atlas.page import Tables
from neuronatlas.atlas.salience.names import MEASURES, measure_name
from neuronatlas.atlas.wording import Difference, Score

__all__ = [
    "ALPHA",
    "Row",
    "difference",
    "is_beyond",
    "main_interventions",
    "main_method",
    "n_neurons",
    "own_interventions",
    "rows_of",
    "score",
    "shown_agreement",
    "total_layers",
]

ALPHA = 0.05
"""An adjusted p-value up to this counts as a difference."""

Row = Mapping[str, Any]


def rows_of(tables: Tables) -> list[dict[str, Any]]:
    """The properties of the atlas, in its order."""
    return list(tables["properties"].iter_rows(named=True))


def score(row: Row, name: str) -> Score | None:
    """A score with its interval from the columns NAME, NAME_low and NAME_high; None where it was not measured."""
    stem = name.removesuffix("_accuracy")
    if row.get(name) is None:
        return None
    return Score(row[name], row.get(f"{stem}_low"), row.get(f"{stem}_high"))


def difference(row: Row, name: str, low: str, high: str) -> Difference | None:
    """A difference with its interval from three columns; None where it was not measured."""
    return None if row.get(name) is None else Difference(row[name], row.get(low), row.get(high))


def is_beyond(row: Row, name: str) -> bool:
    """Whether the whole interval of the accuracy lies above a baseline and its interval."""
    own, other = score(row, "accuracy"), score(row, name)
    return own is not None and other is not None and own.bounds[0] > other.bounds[1]


def main_method(frame: pl.DataFrame) -> str:
    """The ranking that a table is about first of all: LCA's if it is there, else the first.

    >>> main_method(pl.DataFrame({"method": ["probeless", "lca"]}))
    'lca'
    """
    methods = frame["method"].drop_nulls().unique(maintain_order=True).to_list()
    return "lca" if "lca" in methods else methods[0] if methods else ""


def n_neurons(tables: Tables, label: str) -> int | None:
    """How many neurons a property was read from."""
    ranked = tables["rankings"].filter(pl.col("label") == label)
    if ranked.height:
        return ranked.filter(pl.col("method") == main_method(ranked)).height
    widths = tables["layers"].filter(pl.col("label") == label).select("layer", "width").unique()
    total = widths["width"].drop_nulls().sum()
    if total:
        return int(total)
    row = tables["properties"].filter(pl.col("label") == label).row(0, named=True)
    return round(row["minimal_size"] / row["minimal_share"]) if row["minimal_size"] and row["minimal_share"] else None


def total_layers(tables: Tables) -> int:
    """How many layers there are, from any table that counts them."""
    tops = [tables[name]["layer"].max() for name in ("layers", "rankings", "sets", "layer_probes")]
    return 1 + max((int(top) for top in tops if isinstance(top, int)), default=-1)


def main_interventions(tables: Tables, label: str) -> pl.DataFrame:
    """The interventions to show first: the class mass, the mean put in place, the set nearest to the minimal one."""
    own = _shown_first(tables["interventions"].filter(pl.col("label") == label))
    sizes = own["set_size"].drop_nulls().unique().to_list()
    rows = tables["properties"].filter(pl.col("label") == label)["minimal_size"].drop_nulls().to_list()
    if sizes:
        nearest = min(sizes, key=lambda size: (abs(size - rows[0]) if rows else -size, size))
        own = own.filter(pl.col("set_size") == nearest)
    return own


def own_interventions(tables: Tables, label: str) -> pl.DataFrame:
    """Each class with its own neurons replaced: the class mass, the mean put in place; without the classes left out."""
    own = tables["class_interventions"].filter(pl.col("label") == label, pl.col("change").is_not_null())
    return _shown_first(own)


def _shown_first(rows: pl.DataFrame) -> pl.DataFrame:
    for column, wanted in (("measure", list(MEASURES)), ("replacement", ["mean"])):
        names = rows[column].drop_nulls().unique(maintain_order=True).to_list()
        known = sorted(names, key=lambda name: wanted.index(found) if (found := measure_name(name)) in wanted else 99)
        rows = rows.filter(pl.col(column) == known[0]) if known else rows
    return rows


def shown_agreement(tables: Tables) -> pl.DataFrame:
    """Agreement at the number of top neurons that is nearest to each property's minimal set."""
    sizes = tables["properties"].select("label", size=pl.col("minimal_size"))
    away = (pl.col("k") - pl.col("size").fill_null(0)).abs()
    rows = tables["agreement"].filter(pl.col("overlap").is_not_null(), pl.col("k").is_not_null())
    rows = rows.join(sizes, on="label", how="left", maintain_order="left").with_columns(away=away)
    return rows.filter(pl.col("away") == pl.col("away").min().over("label"))
