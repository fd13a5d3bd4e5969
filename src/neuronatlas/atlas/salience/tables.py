"""The tables of an atlas of salient neurons as a report reads them: all there, all columns there, null for no number.

A study may measure less than all, such as no interventions for labels of whole sentences: a table or a column that an
atlas lacks reads as one without rows, or without numbers.
"""

from __future__ import annotations

import polars as pl

from neuronatlas.atlas.page import Tables
from neuronatlas.atlas.provenance import AtlasError

__all__ = ["COLUMNS", "completed"]

_SPAN = "low:f high:f"
_FIELDS = {
    "properties": "label level corpus n_sentences:i n_items:i n_unlabelled:i n_vanished:i n_truncated:i n_train:i "
    "n_dev:i n_test:i n_classes:i l1:f l2:f gap:f n_nonzero:i accuracy:f accuracy_low:f accuracy_high:f majority:f "
    "word_majority:f random_weights:f random_weights_low:f random_weights_high:f control_accuracy:f selectivity:f "
    "selectivity_low:f selectivity_high:f seen_accuracy:f unseen_accuracy:f n_unseen:i by_type_accuracy:f "
    "by_type_low:f by_type_high:f minimal_size:i minimal_share:f minimal_reached:b minimal_accuracy:f minimal_low:f "
    "minimal_high:f delta:f n_disjoint:i disjoint_bound:b n_clusters:i redundant_share:f cluster_threshold:f",
    "classes": "label class n_train:i n_test:i recall:f recall_low:f recall_high:f n_top:i mass:f",
    "dropped_classes": "label class n:i",
    "rankings": "label method rank:i layer:i expert:i unit:i",
    "agreement": "label method_a method_b k:i overlap:f chance:f",
    "ablation": f"label method which mode retrained:b share:f n_neurons:i accuracy:f {_SPAN}",
    "minimal": f"label n_neurons:i share:f accuracy:f {_SPAN}",
    "sets": "label set:i layer:i expert:i unit:i",
    "disjoint": f"label set:i n_neurons:i accuracy:f {_SPAN} reached:b",
    "layers": "label class layer:i n:i share:f width:i",
    "layer_probes": f"label layer:i upto:b dev_accuracy:f accuracy:f {_SPAN}",
    "interventions": f"label set_size:i replacement class n_words:i measure before:f after:f change:f {_SPAN} "
    "control_mean:f control_low:f control_high:f n_controls:i p:f p_adjusted:f",
    "class_interventions": f"label set_size:i replacement class n_words:i measure before:f after:f change:f {_SPAN} "
    "control_mean:f control_low:f control_high:f n_controls:i variance_ratio:f others_change:f p:f p_adjusted:f "
    "left_out",
    "neurons": "label rank:i layer:i expert:i unit:i class direction:i auc:f eta_squared:f eta_squared_words:f "
    "words_up:w words_down:w",
    "contexts": "label layer:i expert:i unit:i direction:i place:i value:f word before after source",
    "notes": "label stage note",
    "overlaps": "label other n_shared:i jaccard:f expected:f p:f",
}
_KINDS: dict[str, pl.DataType] = {
    "": pl.String(),
    "i": pl.Int64(),
    "f": pl.Float64(),
    "b": pl.Boolean(),
    "w": pl.List(pl.String),
}


def _columns(fields: str) -> dict[str, pl.DataType]:
    pairs = (field.partition(":") for field in fields.split())
    return {name: _KINDS[kind] for name, _, kind in pairs}


COLUMNS = {table: _columns(fields) for table, fields in _FIELDS.items()}
"""The columns of each table that a report reads, with their types."""


def completed(tables: Tables) -> dict[str, pl.DataFrame]:
    """Every table with every column a report reads; NaN becomes null.

    Errors: AtlasError for a column of another type.

    >>> found = completed({"properties": pl.DataFrame({"label": ["upos"], "accuracy": [float("nan")]})})
    >>> found["properties"]["accuracy"].to_list(), found["properties"]["delta"].to_list(), found["sets"].height
    ([None], [None], 0)
    """
    return {name: _completed(name, tables.get(name, pl.DataFrame()), columns) for name, columns in COLUMNS.items()}


def _completed(name: str, frame: pl.DataFrame, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    if not frame.width:
        return pl.DataFrame(schema=columns)
    series = []
    for column, kind in columns.items():
        given = frame[column] if column in frame.columns else pl.Series(column, [None] * frame.height, dtype=kind)
        if given.dtype.is_float():
            given = given.fill_nan(None)
        try:
            series.append(given.cast(kind))
        except pl.exceptions.PolarsError:
            raise AtlasError(
                f"table {name!r} has {given.dtype} in column {column!r}, expected {kind}: make the atlas again"
            ) from None
    return pl.DataFrame(series)
