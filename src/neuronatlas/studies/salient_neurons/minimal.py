"""(i) Which subsets of neurons capture a property, and each of its classes: minimal sets, against their controls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from neuronatlas.studies.salient_neurons.reading import is_read
from neuronatlas.studies.salient_neurons.study import Member, Study
from neuronatlas.studies.salient_neurons.tables import table

__all__ = ["answered"]

_INTERVALS = {"accuracy": "accuracy", "minimal": "set_accuracy", "selectivity": "selectivity"}
_INTERVALS |= {"random_weights": "random_weights", "shuffled": "shuffled"}
_NUMBERS = {"minimal_size": "set_size", "minimal_share": "set_share"}
_NUMBERS |= {name: name for name in ("n_classes", "n_train", "n_test", "majority", "word_majority", "control_accuracy")}


def answered(study: Study) -> dict[str, pl.DataFrame]:
    """Tables `members`, `minimal_sets`, `class_sets` and `curves` (accuracy of probes on so many neurons alone)."""
    members = study.members
    return {
        "members": table("members", [_about(member) for member in members]),
        "minimal_sets": table("minimal_sets", [row for member in members for row in _sets(member)]),
        "class_sets": table("class_sets", [row for member in members for row in _class_sets(member)]),
        "curves": table("curves", [row for member in members for row in _curves(member)]),
    }


def _about(member: Member) -> dict[str, Any]:
    model, settings = member.atlas.meta["model"], member.atlas.meta["settings"]
    widths = member.table("layers").filter(pl.col("class").is_null()).unique("layer")
    return {
        "model": member.name,
        "role": member.source.role,
        "base": member.source.base or None,
        "kind": model["kind"],
        "site": settings["site"],
        "n_layers": widths.height,
        "n_neurons": int(widths["width"].sum()),
        "digest": model["digest"],
        "folder": member.folder.parent.name + "/" + member.folder.name,
    }


def _sets(member: Member) -> Iterator[dict[str, Any]]:
    measures = member.table("measures")
    for label in member.table("properties")["label"]:
        mine = measures.filter(pl.col("label") == label)
        found = {row["measure"]: row for row in mine.iter_rows(named=True)}
        row: dict[str, Any] = {"model": member.name, "label": label}
        for name, column in _INTERVALS.items():
            for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                row[column + end] = found.get(name, {}).get(key)
        for name, column in _NUMBERS.items():
            row[column] = found.get(name, {}).get("value")
        reached = found.get("minimal_reached", {}).get("value")
        row["read"] = is_read(member, label)
        row["reached"] = None if reached is None else bool(reached)
        if row["set_size"] and row["set_share"]:
            row["n_neurons"] = round(row["set_size"] / row["set_share"])
        for name in ("n_classes", "n_train", "n_test", "set_size"):
            row[name] = None if row[name] is None else round(row[name])
        yield row


def _class_sets(member: Member) -> Iterator[dict[str, Any]]:
    for row in member.table("class_sets").iter_rows(named=True):
        yield {"model": member.name} | row


def _curves(member: Member) -> Iterator[dict[str, Any]]:
    """Sizes that the search for a minimal set tried, on dev; and the ablations that were retrained, on test."""
    for row in member.table("minimal").iter_rows(named=True):
        yield _point(member, row, "searched")
    ablation = member.table("ablation")
    kept = ablation.filter(pl.col("method") == "lca", pl.col("mode") == "keep", pl.col("retrained"))
    for row in kept.iter_rows(named=True):
        yield _point(member, row, row["which"])


def _point(member: Member, row: dict[str, Any], which: str) -> dict[str, Any]:
    ends = {"accuracy": row["accuracy"], "accuracy_low": row["low"], "accuracy_high": row["high"]}
    place = {"n_neurons": row["n_neurons"], "share": row["share"]}
    return {"model": member.name, "label": row["label"], "which": which} | place | ends
