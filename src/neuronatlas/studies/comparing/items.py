"""What is compared, one row each: facts, relations, properties and classes with their overlap and their shift."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from neuronatlas.depths import layer_shift, localisation, mean_depth
from neuronatlas.overlaps import Overlap, overlap_of_counts
from neuronatlas.statistics import adjusted_in_groups, benjamini_hochberg
from neuronatlas.studies.comparing.sides import Address, Side

__all__ = ["ITEMS", "PAIRS", "corrected", "counted_item", "layer_rows", "overlap_pairs", "set_item"]

Row = dict[str, Any]
Layers = tuple[int, ...]

_NUMBER = pl.Float64
ITEMS: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("level", "group", "name"), pl.String),
    **dict.fromkeys(("n_first", "n_second", "n_shared"), pl.Int64),
    **dict.fromkeys(("jaccard", "of_first", "of_second", "expected", "expected_jaccard", "p_value"), _NUMBER),
    **dict.fromkeys(("expected_in_layers", "p_in_layers", "other_jaccard"), _NUMBER),
    **{f"{side}{end}": _NUMBER for side in ("depth_first", "depth_second") for end in ("", "_low", "_high")},
    **{f"{side}{end}": _NUMBER for side in ("moved", "distance") for end in ("", "_low", "_high")},
    **dict.fromkeys(("expected_distance", "p_distance", "p_moved"), _NUMBER),
    **{f"{side}{end}": _NUMBER for side in ("excess_first", "excess_second") for end in ("", "_low", "_high")},
    **dict.fromkeys(("p_local_first", "p_local_second"), _NUMBER),
    **dict.fromkeys(("q_value", "q_in_layers", "q_distance", "q_moved", "q_local_first", "q_local_second"), _NUMBER),
}
"""The columns of the table `comparison`."""

PAIRS: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("first", "second"), pl.String),
    "n_shared": pl.Int64,
    **dict.fromkeys(("jaccard", "expected", "p_value", "q_value"), _NUMBER),
}
"""The columns of the table `pairs`: every two sets of both atlases."""


def set_item(
    names: Mapping[str, str],
    sides: tuple[Side, Side],
    sets: tuple[Collection[Address], Collection[Address]],
    *,
    together: bool,
    placed: bool,
    seed: int,
) -> Row:
    """A row about two sets; `together` compares them neuron by neuron, `placed` over depth."""
    first, second = (side.histogram(own) for side, own in zip(sides, sets, strict=True))
    row: Row = dict(names) | {"n_first": len(sets[0]), "n_second": len(sets[1])}
    shared = sides[0].histogram(set(sets[0]) & set(sets[1])) if together else None
    if shared is not None:
        row |= _overlap(shared, first, second, sides[0].widths or sides[1].widths)
    return row | (_places((first, second), shared, sides, seed) if placed else {})


def counted_item(
    names: Mapping[str, str], sides: tuple[Side, Side], counts: tuple[Sequence[int], Sequence[int]], *, seed: int
) -> Row:
    """A row about two histograms over layers, of which the neurons themselves are not known."""
    row: Row = dict(names) | {"n_first": sum(counts[0]), "n_second": sum(counts[1])}
    return row | _places(counts, None, sides, seed)


def corrected(rows: Sequence[Row]) -> pl.DataFrame:
    """The rows as a table, with p-values corrected by Benjamini and Hochberg over the rows of a level."""
    frame = pl.DataFrame([[row.get(name) for name in ITEMS] for row in rows], schema=ITEMS, orient="row")
    floats = [name for name, kind in ITEMS.items() if kind == _NUMBER]
    frame = frame.with_columns(pl.col(floats).fill_nan(None))
    for q in (name for name in ITEMS if name.startswith("q_")):
        frame = frame.with_columns(_corrected(frame, "p_" + q.removeprefix("q_"), q))
    return frame


def _corrected(frame: pl.DataFrame, p: str, q: str) -> pl.Series:
    given = frame[p].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return pl.Series(q, adjusted_in_groups(given, frame["level"].to_list()), dtype=pl.Float64).fill_nan(None)


def layer_rows(
    names: Mapping[str, str], sides: tuple[Side, Side], sets: tuple[Collection[Address], Collection[Address]]
) -> Iterator[Row]:
    """Numbers of neurons layer by layer; null in a layer that a model does not have."""
    shared = set(sets[0]) & set(sets[1])
    ours, theirs = (side.histogram(own) for side, own in zip(sides, sets, strict=True))
    for layer in range(max(len(ours), len(theirs))):
        yield dict(names) | {
            "layer": layer,
            "first": ours[layer] if layer < len(ours) else None,
            "second": theirs[layer] if layer < len(theirs) else None,
            "shared": sum(neuron[0] == layer for neuron in shared),
        }


def overlap_pairs(side: Side, sets: Mapping[str, Collection[Address]]) -> pl.DataFrame:
    """How every two sets overlap; the p-value is over all neurons."""
    rows = []
    for (one, ours), (other, theirs) in combinations(sets.items(), 2):
        both = side.histogram(set(ours) & set(theirs))
        found = _overlap(both, side.histogram(ours), side.histogram(theirs), side.widths)
        rows.append({"first": one, "second": other} | found)
    frame = pl.DataFrame([[row.get(name) for name in PAIRS] for row in rows], schema=PAIRS, orient="row")
    known = frame["p_value"].is_not_null().all()
    q = benjamini_hochberg(frame["p_value"].to_numpy()) if known and frame.height else [None] * frame.height
    return frame.with_columns(q_value=pl.Series(q, dtype=pl.Float64))


def _overlap(shared: Sequence[int], first: Sequence[int], second: Sequence[int], widths: Sequence[int]) -> Row:
    n_first, n_second, n_shared = sum(first), sum(second), sum(shared)
    if widths:
        found = _measured(tuple(shared), tuple(first), tuple(second), tuple(widths))
        return {name: value for name, value in vars(found).items() if name in ITEMS}
    return {
        "n_shared": n_shared,
        "jaccard": n_shared / max(1, n_first + n_second - n_shared),
        "of_first": n_shared / n_first if n_first else None,
        "of_second": n_shared / n_second if n_second else None,
    }


@lru_cache(maxsize=4096)
def _measured(
    shared: tuple[int, ...], first: tuple[int, ...], second: tuple[int, ...], widths: tuple[int, ...]
) -> Overlap:
    """The few neurons of thousands of facts lie in the same few ways."""
    return overlap_of_counts(np.array(shared), np.array(first), np.array(second), np.array(widths))


def _places(
    counts: tuple[Sequence[int], Sequence[int]], shared: Sequence[int] | None, sides: tuple[Side, Side], seed: int
) -> Row:
    first, second = (np.array(own) for own in counts)
    both = None if shared is None else np.array(shared)
    found = layer_shift(first, second, shared=both, seed=seed)
    row = found.moved.columns("moved") | found.distance.columns("distance")
    row |= {"expected_distance": found.expected, "p_distance": found.p_value, "p_moved": found.p_moved}
    for side, own, name in zip(sides, (first, second), ("first", "second"), strict=True):
        row |= mean_depth(own, seed=seed).columns(f"depth_{name}")
        if side.widths:
            local = localisation(own, np.array(side.widths), seed=seed)
            row |= local.excess.columns(f"excess_{name}") | {f"p_local_{name}": local.p_value}
    return row
