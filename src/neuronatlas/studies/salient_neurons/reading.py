"""What the questions read of a model's atlas: where sets of neurons lie, and which neurons two of them share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int

from neuronatlas.overlaps import Overlap, overlap_of_counts
from neuronatlas.statistics import share_interval
from neuronatlas.studies.salient_neurons.study import Member

__all__ = [
    "SETS",
    "class_counts",
    "compared_sets",
    "counts",
    "is_read",
    "labels_of",
    "members_in",
    "overlap_columns",
    "shared_in",
    "shuffled_counts",
    "widths",
]

Counts = Int[np.ndarray, " layer"]

SETS = ("top", "set")
"""The sets of a property that are compared: equally many top neurons of the ranking, and the minimal set."""


def labels_of(member: Member) -> list[str]:
    """The properties of a model's atlas, in order."""
    labels: list[str] = member.table("properties")["label"].to_list()
    return labels


def is_read(member: Member, label: str) -> bool:
    """Whether a probe reads a property better than chance: sets, layers and copies of what cannot be read mean nothing.

    The interval of its accuracy has to lie above the most frequent class and above the interval on shuffled labels. A
    property that the model's atlas does not have is not read.
    """
    rows = member.table("measures").filter(pl.col("label") == label)
    found = {row["measure"]: row for row in rows.iter_rows(named=True)}
    chance = [found.get("majority", {}).get("value"), found.get("shuffled", {}).get("high")]
    if "accuracy" not in found:
        return False
    low = found["accuracy"]["low"]
    return low is None or bool(low > max((value for value in chance if value is not None), default=0.0))


def widths(member: Member) -> Counts:
    """How many neurons were read in each layer of the site: 0 in one that was left out."""
    return _by_layer(member.table("shuffled_layers"), labels_of(member)[0], "width")


def shuffled_counts(member: Member, label: str) -> Counts:
    """How many of the top neurons on shuffled labels lie in each layer."""
    return _by_layer(member.table("shuffled_layers"), label, "n")


def class_counts(member: Member, label: str) -> Iterator[tuple[str, Counts]]:
    """How many neurons of each class's minimal set lie in each layer."""
    rows = member.table("class_set_layers")
    if rows.is_empty():
        return
    rows = rows.filter(pl.col("label") == label)
    for name in rows["class"].unique(maintain_order=True):
        yield name, _by_layer(rows.filter(pl.col("class") == name), label, "n")


def members_in(member: Member, label: str, of: str, top: float) -> pl.DataFrame:
    """The neurons of one of the SETS, as the columns of their addresses; `top` is the share of all that is on top."""
    if of == "set":
        rows = member.table("sets").filter(pl.col("label") == label, pl.col("set") == 0)
    else:
        ranked = member.table("rankings").filter(pl.col("label") == label, pl.col("method") == "lca")
        rows = ranked.sort("rank").head(max(1, round(top * ranked.height)))
    return rows.select([name for name in ("layer", "expert", "unit") if name in rows.columns])


def shared_in(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """The neurons that two tables of addresses have in common."""
    return first.join(second, on=first.columns, how="inner", nulls_equal=True)


def compared_sets(
    first: pl.DataFrame, second: pl.DataFrame, width: Sequence[int] | Counts
) -> tuple[Overlap, Counts, Counts, Counts]:
    """How two sets of addresses overlap, and by layer: the shared ones, the first set and the second."""
    both, ours, theirs = (counts(neurons, len(width)) for neurons in (shared_in(first, second), first, second))
    return overlap_of_counts(both, ours, theirs, np.asarray(width)), both, ours, theirs


def overlap_columns(found: Overlap, *, seed: int, draws: int) -> dict[str, Any]:
    """An overlap as the columns of a table of pairs, its Jaccard with an interval over the neurons of either set."""
    either = found.n_first + found.n_second - found.n_shared
    return {
        **{"n_first": found.n_first, "n_second": found.n_second, "n_shared": found.n_shared},
        **share_interval(found.n_shared, either, seed=seed, draws=draws).columns("jaccard"),
        **{"expected": found.expected, "expected_jaccard": found.expected_jaccard, "p": found.p_value},
        **{"expected_in_layers": found.expected_in_layers, "p_in_layers": found.p_in_layers},
    }


def counts(neurons: pl.DataFrame, n_layers: int) -> Counts:
    """How many neurons lie in each layer."""
    return np.bincount(neurons["layer"].to_numpy(), minlength=n_layers).astype(np.int64)


def _by_layer(rows: pl.DataFrame, label: str, column: str) -> Counts:
    found: Counts = rows.filter(pl.col("label") == label).sort("layer")[column].to_numpy()
    return found.astype(np.int64)
