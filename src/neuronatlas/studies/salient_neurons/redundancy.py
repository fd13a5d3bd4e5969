"""(iii) How redundantly a property is kept: disjoint minimal sets, neurons alike, and layers that can go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from neuronatlas.probing.layers import lowest_layers
from neuronatlas.studies.salient_neurons.reading import labels_of, widths
from neuronatlas.studies.salient_neurons.study import Member, Study
from neuronatlas.studies.salient_neurons.tables import table

__all__ = ["answered"]

_MEASURES = {
    "minimal_size": "set_size",
    "n_disjoint": "n_disjoint",
    "disjoint_bound": "disjoint_bound",
    "n_clusters": "n_clusters",
    "redundant_share": "redundant_share",
    "cluster_threshold": "threshold",
}
_COUNTS = ("set_size", "n_disjoint", "n_clusters")


def answered(study: Study) -> dict[str, pl.DataFrame]:
    """Tables `redundancy`, a row a model and property, and `disjoint_sets`.

    `share_in_sets` is the share of all neurons that some disjoint set holds. `set_clusters` are the clusters of alike
    neurons that hold the minimal set, `n_alike` all neurons in these, and `copies` how many a cluster has on average:
    1 where no other neuron behaves like one of the set. `lowest_enough` is the lowest layer up to which the layers
    together lose no more accuracy than a minimal set may; those above it can go. It and `best_layer` are chosen on dev;
    their accuracies are on test, `all_layers` with all of them.
    """
    members = study.members
    return {
        "redundancy": table("redundancy", [row for member in members for row in _rows(member, study)]),
        "disjoint_sets": table("disjoint_sets", [row for member in members for row in _disjoint(member)]),
    }


def _rows(member: Member, study: Study) -> Iterator[dict[str, Any]]:
    measures, likeness = member.table("measures"), member.table("likeness")
    for label in labels_of(member):
        found = dict(measures.filter(pl.col("label") == label).select("measure", "value").iter_rows())
        row: dict[str, Any] = {column: found.get(name) for name, column in _MEASURES.items()}
        row |= {name: None if row[name] is None else round(row[name]) for name in _COUNTS}
        row["disjoint_bound"] = None if row["disjoint_bound"] is None else bool(row["disjoint_bound"])
        sets = member.table("disjoint").filter(pl.col("label") == label, pl.col("reached"))
        row["share_in_sets"] = int(sets["n_neurons"].sum()) / int(widths(member).sum())
        own = likeness.filter(pl.col("label") == label) if likeness.height else likeness
        if own.height:
            alike, clusters = int(own["n_alike"][0]), int(own["n_clusters"][0])
            row |= {"set_clusters": clusters, "n_alike": alike, "copies": alike / clusters}
        yield {"model": member.name, "label": label} | row | _layers(member, label, study)


def _layers(member: Member, label: str, study: Study) -> dict[str, Any]:
    own = member.table("layer_probes").filter(pl.col("label") == label)
    up_to, alone = (own.filter(pl.col("upto") == upto).sort("layer") for upto in (True, False))
    if up_to.is_empty():
        return {}
    enough = lowest_layers(up_to, study.settings.salience.delta)
    above = up_to.filter(pl.col("layer") > enough).height
    best = alone.sort("dev_accuracy", "layer", descending=[True, False]).row(0, named=True)
    judged = {"best_layer": best, "enough": up_to.row(by_predicate=pl.col("layer") == enough, named=True)}
    judged["all_layers"] = up_to.row(-1, named=True)
    scores = {
        f"{name}_accuracy{end}": row[column]
        for name, row in judged.items()
        for end, column in (("", "accuracy"), ("_low", "low"), ("_high", "high"))
    }
    return {
        "n_layers": up_to.height,
        "lowest_enough": enough,
        "n_can_go": above,
        "share_can_go": above / up_to.height,
        "best_layer": best["layer"],
        **scores,
    }


def _disjoint(member: Member) -> Iterator[dict[str, Any]]:
    for row in member.table("disjoint").iter_rows(named=True):
        ends = {"accuracy": row["accuracy"], "accuracy_low": row["low"], "accuracy_high": row["high"]}
        place = {name: row[name] for name in ("label", "set", "n_neurons", "reached")}
        yield {"model": member.name} | place | ends
