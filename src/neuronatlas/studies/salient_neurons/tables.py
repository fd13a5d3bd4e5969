"""The tables of a study of salient neurons: their columns, and how rows become a frame.

Those of a study have the name of the model first, those that the study adds to a model's own atlas the property. Scores
are shares from 0 to 1; `low` and `high` are bounds of 95 %; null is what was not measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from neuronatlas.studies.salience.tables import framed

__all__ = ["ADDED", "SCHEMAS", "over_seeds", "ranged", "table"]


def ranged(*names: str) -> dict[str, type[pl.DataType]]:
    """Columns of numbers with their bounds.

    >>> list(ranged("accuracy"))
    ['accuracy', 'accuracy_low', 'accuracy_high']
    """
    return {f"{name}{end}": pl.Float64 for name in names for end in ("", "_low", "_high")}


def over_seeds(*names: str) -> dict[str, type[pl.DataType]]:
    """Columns of means over seeds with the least and the most.

    >>> list(over_seeds("kept"))
    ['kept', 'kept_least', 'kept_most']
    """
    return {f"{name}{end}": pl.Float64 for name in names for end in ("", "_least", "_most")}


_LABEL: dict[str, type[pl.DataType]] = {"label": pl.String}
_MODEL: dict[str, type[pl.DataType]] = {"model": pl.String} | _LABEL
_SET: dict[str, type[pl.DataType]] = {"n_neurons": pl.Int64, "set_size": pl.Int64, "set_share": pl.Float64}
_CLASS_SET: dict[str, type[pl.DataType]] = (
    {"class": pl.String, "n_train": pl.Int64, "n_test": pl.Int64}
    | _SET
    | {"reached": pl.Boolean}
    | ranged("accuracy", "set_accuracy", "selectivity")
    | {"left_out": pl.String}
)
_CHILD: dict[str, type[pl.DataType]] = dict.fromkeys(("model", "base", "role"), pl.String) | {"child_seed": pl.Int64}
_TRANSFER: dict[str, type[pl.DataType]] = (
    {"label": pl.String, "trained": pl.String, "tested": pl.String, "n_test": pl.Int64, "n_unknown": pl.Int64}
    | ranged("accuracy")
    | {"majority": pl.Float64, "n_new": pl.Int64}
    | ranged("new_accuracy")
    | {"new_majority": pl.Float64}
    | ranged("random_weights")
    | {"random_weights_new": pl.Float64, "read": pl.Boolean}
)
_READ: dict[str, type[pl.DataType]] = {"read": pl.Boolean}
"""Whether a probe reads the property on both sides: nothing is claimed where it does not."""
_SHARED: dict[str, type[pl.DataType]] = dict.fromkeys(
    ("p", "p_adjusted", "p_in_layers", "p_in_layers_adjusted"), pl.Float64
)
_EXPECTED: dict[str, type[pl.DataType]] = dict.fromkeys(
    ("expected", "expected_jaccard", "expected_in_layers"), pl.Float64
)
_MOVED: dict[str, type[pl.DataType]] = dict.fromkeys(
    ("p_distance", "p_distance_adjusted", "p_moved", "p_moved_adjusted"), pl.Float64
)
_PLACE: dict[str, type[pl.DataType]] = {"layer": pl.Int64, "n": pl.Int64, "width": pl.Int64}

ADDED: dict[str, dict[str, type[pl.DataType]]] = {
    # A class against equally many words of the others, or why it was not asked for, `left_out`.
    "class_sets": _LABEL | _CLASS_SET,
    "class_set_layers": _LABEL | {"class": pl.String} | _PLACE,
    # The top neurons of a probe that was trained on labels in random order.
    "shuffled_layers": _LABEL | _PLACE,
    "likeness": _LABEL | {"n_set": pl.Int64, "n_clusters": pl.Int64, "n_alike": pl.Int64, "threshold": pl.Float64},
}
"""Tables that a study adds to the atlas of each model."""

SCHEMAS: dict[str, dict[str, type[pl.DataType]]] = {
    "members": {"model": pl.String, "role": pl.String, "base": pl.String, "kind": pl.String, "site": pl.String}
    | {"n_layers": pl.Int64, "n_neurons": pl.Int64, "digest": pl.String, "folder": pl.String},
    "minimal_sets": _MODEL
    | dict.fromkeys(("n_classes", "n_train", "n_test"), pl.Int64)
    | _SET
    | {"reached": pl.Boolean, "read": pl.Boolean}
    | ranged("accuracy", "set_accuracy", "selectivity", "random_weights", "shuffled")
    | dict.fromkeys(("majority", "word_majority", "control_accuracy"), pl.Float64),
    "class_sets": _MODEL | _CLASS_SET,
    "curves": _MODEL | {"which": pl.String, "n_neurons": pl.Int64, "share": pl.Float64} | ranged("accuracy"),
    # `of`: the minimal set, the top neurons of the ranking, the set of a class, or the top ones on shuffled labels.
    "layer_shares": _MODEL
    | {"of": pl.String, "class": pl.String, "layer": pl.Int64, "depth": pl.Float64}
    | {"n": pl.Int64, "share": pl.Float64, "width": pl.Int64},
    "localisation": _MODEL
    | {"of": pl.String, "class": pl.String, "n": pl.Int64}
    | ranged("mean_depth", "index", "chance", "excess")
    | dict.fromkeys(("p", "p_adjusted"), pl.Float64)
    | ranged("shuffled_moved", "shuffled_distance")
    | dict.fromkeys(("shuffled_expected", "shuffled_p"), pl.Float64),
    "layer_probes": _MODEL | {"layer": pl.Int64, "depth": pl.Float64, "upto": pl.Boolean} | ranged("accuracy"),
    "redundancy": _MODEL
    | {"set_size": pl.Int64, "n_disjoint": pl.Int64, "disjoint_bound": pl.Boolean, "share_in_sets": pl.Float64}
    | {"n_clusters": pl.Int64, "redundant_share": pl.Float64, "threshold": pl.Float64}
    | {"set_clusters": pl.Int64, "n_alike": pl.Int64, "copies": pl.Float64}
    | {"n_layers": pl.Int64, "lowest_enough": pl.Int64, "n_can_go": pl.Int64, "share_can_go": pl.Float64}
    | {"best_layer": pl.Int64}
    | ranged("best_layer_accuracy", "enough_accuracy", "all_layers_accuracy"),
    "disjoint_sets": _MODEL | {"set": pl.Int64, "n_neurons": pl.Int64, "reached": pl.Boolean} | ranged("accuracy"),
    "property_pairs": _MODEL
    | {"other": pl.String, "of": pl.String, "n_first": pl.Int64, "n_second": pl.Int64, "n_shared": pl.Int64}
    | ranged("jaccard")
    | _EXPECTED
    | _SHARED
    | {"distance": pl.Float64}
    | _READ,
    "model_pairs": _LABEL
    | {"of": pl.String, "model": pl.String, "other": pl.String, "n_first": pl.Int64, "n_second": pl.Int64}
    | ranged("overlap", "moved", "distance")
    | dict.fromkeys(("expected", "p", "p_moved", "p_adjusted", "excess_difference"), pl.Float64)
    | _READ,
    # A child against its base; `kept` are shares of the base's set.
    "child_pairs": _CHILD
    | {"label": pl.String, "of": pl.String, "n_base": pl.Int64, "n_child": pl.Int64, "n_kept": pl.Int64}
    | ranged("kept")
    | {"kept_expected": pl.Float64}
    | ranged("jaccard")
    | _SHARED
    | ranged("moved", "distance")
    | dict.fromkeys(("signed_distance", "distance_expected"), pl.Float64)
    | _MOVED
    | dict.fromkeys(("base_accuracy", "accuracy", "accuracy_change"), pl.Float64)
    | _READ,
    "child_seeds": {"base": pl.String, "role": pl.String, "label": pl.String, "of": pl.String}
    | {"n_seeds": pl.Int64, "n_left_out": pl.Int64, "n_down": pl.Int64}
    | over_seeds("kept", "kept_expected", "moved", "signed_distance", "accuracy_change")
    | dict.fromkeys(("control_kept", "control_moved"), pl.Float64),
    "child_agreement": {"base": pl.String, "role": pl.String, "model": pl.String, "other": pl.String}
    | {"label": pl.String, "of": pl.String, "n_first": pl.Int64, "n_second": pl.Int64, "n_shared": pl.Int64}
    | ranged("jaccard")
    | _EXPECTED
    | _SHARED
    | _READ,
    "child_task": _CHILD
    | {"task": pl.String, "which": pl.String, "layer": pl.Int64, "depth": pl.Float64}
    | ranged("accuracy")
    | {"chance": pl.Float64},
    # One model on the sentences of two languages.
    "language_pairs": {"label": pl.String, "of": pl.String, "language": pl.String, "other": pl.String}
    | dict.fromkeys(("n_first", "n_second", "n_shared"), pl.Int64)
    | ranged("jaccard")
    | _EXPECTED
    | {"correlation": pl.Float64}
    | _SHARED
    | ranged("overlap", "moved", "distance")
    | {"distance_expected": pl.Float64}
    | _MOVED
    | _READ,
    "language_halves": {"label": pl.String, "language": pl.String, "n_neurons": pl.Int64, "n_shared": pl.Int64}
    | dict.fromkeys(("jaccard", "expected_jaccard", "correlation"), pl.Float64)
    | {"note": pl.String}
    | _READ,
    "transfer": _TRANSFER,
    # The same of the model in random weights; its columns of these are null.
    "transfer_untrained": _TRANSFER,
}
"""Tables of the study itself."""


def table(name: str, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as one of the study's own tables; what a row lacks, or has as NaN, is null.

    >>> table("members", [{"model": "specimen", "n_layers": 5}]).select("model", "n_layers", "kind").row(0)
    ('specimen', 5, None)
    """
    return framed(name, SCHEMAS[name], rows)
