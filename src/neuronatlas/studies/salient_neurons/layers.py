"""(ii) How localised or distributed a property is over layers: where its neurons lie, against an even spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import polars as pl

from neuronatlas.depths import depth_distance, layer_depths, layer_shift, localisation, mean_depth
from neuronatlas.statistics import adjusted_in_groups
from neuronatlas.studies.salient_neurons.reading import (
    SETS,
    Counts,
    class_counts,
    compared_sets,
    counts,
    is_read,
    labels_of,
    members_in,
    overlap_columns,
    shuffled_counts,
    widths,
)
from neuronatlas.studies.salient_neurons.settings import StudySettings
from neuronatlas.studies.salient_neurons.study import Member, Study
from neuronatlas.studies.salient_neurons.tables import table

__all__ = ["ADJUSTED", "adjusted", "answered"]

ADJUSTED = ("p", "p_in_layers", "p_distance", "p_moved")
"""What is adjusted of two sets of neurons of one shape: how many they share, and how far apart they lie."""


def answered(study: Study) -> dict[str, pl.DataFrame]:
    """Tables `layer_shares`, `localisation`, `layer_probes`, and `property_pairs` (what properties share).

    The localisation index and its chance level are those of `depths.localisation`. The shuffled baseline are the top
    neurons of a probe on labels in random order; how far the property's own top neurons lie from these is a
    `depths.layer_shift`. p is adjusted over the properties of all models, for each kind of set.
    """
    shares: list[dict[str, Any]] = []
    places: list[dict[str, Any]] = []
    for member in study.members:
        for label, of, name, found in _sets(member, study.settings):
            about = {"model": member.name, "label": label, "of": of, "class": name}
            shares += [about | row for row in _shares(found, widths(member))]
            places.append(about | _place(member, label, of, found, study.settings))
    probes = [row for member in study.members for row in _probes(member)]
    pairs = [row for member in study.members for row in _pairs(member, study.settings)]
    return {
        "layer_shares": table("layer_shares", shares),
        "localisation": adjusted(table("localisation", places), "of"),
        "layer_probes": table("layer_probes", probes),
        "property_pairs": adjusted(table("property_pairs", pairs), "of", of=("p", "p_in_layers")),
    }


def _sets(member: Member, settings: StudySettings) -> Iterator[tuple[str, str, str | None, Counts]]:
    n_layers = len(widths(member))
    for label in labels_of(member):
        for of in SETS:
            yield label, of, None, counts(members_in(member, label, of, settings.top), n_layers)
        yield label, "shuffled", None, shuffled_counts(member, label)
        for name, found in class_counts(member, label):
            yield label, "class", name, found


def _shares(found: Counts, width: Counts) -> Iterator[dict[str, Any]]:
    for layer, depth in enumerate(layer_depths(len(found))):
        if width[layer]:
            share = found[layer] / found.sum() if found.sum() else None
            yield {"layer": layer, "depth": float(depth), "n": int(found[layer]), "share": share} | {
                "width": int(width[layer])
            }


def _place(member: Member, label: str, of: str, found: Counts, settings: StudySettings) -> dict[str, Any]:
    given: dict[str, Any] = {"seed": settings.seed, "draws": settings.draws}
    place = localisation(found, widths(member), **given)
    row: dict[str, Any] = {"n": place.n, "p": place.p_value} | mean_depth(found, **given).columns("mean_depth")
    for name in ("index", "chance", "excess"):
        row |= getattr(place, name).columns(name)
    if of == "shuffled":
        return row
    shift = layer_shift(shuffled_counts(member, label), found, **given)
    row |= shift.moved.columns("shuffled_moved") | shift.distance.columns("shuffled_distance")
    return row | {"shuffled_expected": shift.expected, "shuffled_p": shift.p_value}


def _probes(member: Member) -> Iterator[dict[str, Any]]:
    depths = layer_depths(len(widths(member)))
    for row in member.table("layer_probes").iter_rows(named=True):
        ends = {"accuracy": row["accuracy"], "accuracy_low": row["low"], "accuracy_high": row["high"]}
        place = {"layer": row["layer"], "depth": float(depths[row["layer"]]), "upto": row["upto"]}
        yield {"model": member.name, "label": row["label"]} | place | ends


def _pairs(member: Member, settings: StudySettings) -> Iterator[dict[str, Any]]:
    width = widths(member)
    for of in SETS:
        own = {label: members_in(member, label, of, settings.top) for label in labels_of(member)}
        for first, second in combinations(own, 2):
            ours, theirs = own[first], own[second]
            found, _, one, two = compared_sets(ours, theirs, width)
            yield {
                **{"model": member.name, "label": first, "other": second, "of": of},
                **overlap_columns(found, seed=settings.seed, draws=settings.draws),
                "distance": depth_distance(one, two),
                "read": is_read(member, first) and is_read(member, second),
            }


def adjusted(rows: pl.DataFrame, *groups: str, of: Sequence[str] = ("p",)) -> pl.DataFrame:
    """Fill the columns `..._adjusted` with what Benjamini and Hochberg make of each p in each group of rows.

    Rows of what cannot be read (`read` is false) take no part: nothing is claimed of them.

    >>> given = pl.DataFrame({"of": ["top", "top", "set"], "p": [0.01, 0.04, None], "p_adjusted": [None] * 3})
    >>> adjusted(given, "of")["p_adjusted"].to_list()
    [0.02, 0.04, None]
    """
    keys = rows.select(groups).rows()
    read = pl.col("read").fill_null(value=True) if "read" in rows.columns else pl.lit(value=True)
    claimed = rows.select(pl.when(read).then(pl.col(name)).cast(pl.Float64).fill_null(float("nan")) for name in of)
    return rows.with_columns(
        pl.Series(f"{name}_adjusted", adjusted_in_groups(claimed[name].to_numpy(), keys)).fill_nan(None) for name in of
    )
