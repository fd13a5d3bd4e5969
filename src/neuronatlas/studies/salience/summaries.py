"""The tables that a reader looks at first, from those that the stages left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from neuronatlas.neurons import NeuronSet
from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.redundancy import overlaps
from neuronatlas.studies.salience.tables import frame

__all__ = ["overlaps_table", "properties_table"]

_INTERVALS = ("accuracy", "random_weights", "selectivity", "by_type", "minimal")
"""Measures that go into the table with their bounds."""

_ORDER: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("n_sentences", "n_items", "n_unlabelled", "n_vanished", "n_truncated"), pl.Int64),
    **dict.fromkeys(("n_train", "n_dev", "n_test", "n_classes"), pl.Int64),
    **dict.fromkeys(("l1", "l2", "gap"), pl.Float64),
    "n_nonzero": pl.Int64,
    **dict.fromkeys(("accuracy", "majority", "word_majority", "random_weights", "control_accuracy"), pl.Float64),
    **dict.fromkeys(("selectivity", "seen_accuracy", "unseen_accuracy"), pl.Float64),
    "n_unseen": pl.Int64,
    "by_type": pl.Float64,
    "minimal_size": pl.Int64,
    "minimal_share": pl.Float64,
    "minimal_reached": pl.Boolean,
    "minimal": pl.Float64,
    "delta": pl.Float64,
    "n_disjoint": pl.Int64,
    "disjoint_bound": pl.Boolean,
    "n_clusters": pl.Int64,
    **dict.fromkeys(("redundant_share", "cluster_threshold"), pl.Float64),
}
"""Measures in the order of the columns; an interval's bounds follow it."""

_RENAMED = {"by_type": "by_type_accuracy", "minimal": "minimal_accuracy"}


def properties_table(corpora: Sequence[Corpus], measures: pl.DataFrame) -> pl.DataFrame:
    """One row a property: its corpus, its sizes, and every number that was measured of it as a whole."""
    rows = []
    for corpus in corpora:
        mine = measures.filter(pl.col("label") == corpus.label)
        found = {row["measure"]: row for row in mine.iter_rows(named=True)}
        rows.append({"label": corpus.label, "level": corpus.level, "corpus": corpus.name} | _columns(found))
    schema: dict[str, type[pl.DataType]] = {"label": pl.String, "level": pl.String, "corpus": pl.String}
    for name, kind in _ORDER.items():
        schema[_RENAMED.get(name, name)] = kind
        if name in _INTERVALS:
            schema |= {f"{name}_low": pl.Float64, f"{name}_high": pl.Float64}
    return pl.DataFrame(rows, schema={name: _loose(kind) for name, kind in schema.items()}).cast(pl.Schema(schema))


def _columns(found: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    columns: dict[str, float | None] = {}
    for name in _ORDER:
        row = found.get(name, {})
        columns[_RENAMED.get(name, name)] = row.get("value")
        if name in _INTERVALS:
            columns |= {f"{name}_low": row.get("low"), f"{name}_high": row.get("high")}
    return columns


def _loose(kind: type[pl.DataType]) -> type[pl.DataType]:
    """Numbers come as floats, whatever they count."""
    return pl.String if kind == pl.String else pl.Float64


def overlaps_table(sets: dict[str, NeuronSet], pool: NeuronSet) -> pl.DataFrame:
    """How many neurons of their minimal sets each two properties share, against chance."""
    rows = [
        {"label": row["first"], "other": row["second"], "n_shared": row["n_both"], "jaccard": row["jaccard"]}
        | {"expected": row["expected_both"], "p": row["p_value"]}
        for row in overlaps(sets, pool).iter_rows(named=True)
    ]
    return frame("overlaps", rows)
