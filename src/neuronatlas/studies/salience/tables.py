"""The tables of an atlas of salient neurons: their columns, and how rows become a frame.

Each has the property, `label`, as its first column. Only tables about a model with experts have the column `expert`.
Scores are shares from 0 to 1; `low` and `high` are bounds of 95 % from a bootstrap over sentences; null is what was not
measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from neuronatlas.addresses import address_schema
from neuronatlas.neurons import Layout
from neuronatlas.statistics import Interval

__all__ = ["SCHEMAS", "bounds", "frame", "framed", "named"]

_SCORE = {"accuracy": pl.Float64, "low": pl.Float64, "high": pl.Float64}
_PLACE = {"layer": pl.Int64, "expert": pl.Int64, "unit": pl.Int64}
_LABEL = {"label": pl.String}

SCHEMAS: dict[str, dict[str, Any]] = {
    # One number each; the table `properties` has the same ones, a row a property.
    "measures": _LABEL | {"measure": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64},
    "notes": _LABEL | {"stage": pl.String, "note": pl.String},
    "classes": _LABEL
    | {"class": pl.String, "n_train": pl.Int64, "n_test": pl.Int64}
    | {"recall": pl.Float64, "recall_low": pl.Float64, "recall_high": pl.Float64}
    | {"n_top": pl.Int64, "mass": pl.Float64},
    "dropped_classes": _LABEL | {"class": pl.String, "n": pl.Int64},
    "rankings": _LABEL | {"method": pl.String, "rank": pl.Int64} | _PLACE,
    "agreement": _LABEL
    | {"method_a": pl.String, "method_b": pl.String, "k": pl.Int64, "overlap": pl.Float64, "chance": pl.Float64},
    "ablation": _LABEL
    | {"method": pl.String, "which": pl.String, "mode": pl.String, "retrained": pl.Boolean}
    | {"share": pl.Float64, "n_neurons": pl.Int64}
    | _SCORE,
    "minimal": _LABEL | {"n_neurons": pl.Int64, "share": pl.Float64} | _SCORE,
    "sets": _LABEL | {"set": pl.Int64} | _PLACE,
    "disjoint": _LABEL | {"set": pl.Int64, "n_neurons": pl.Int64} | _SCORE | {"reached": pl.Boolean},
    "layers": _LABEL | {"class": pl.String, "layer": pl.Int64, "n": pl.Int64, "share": pl.Float64, "width": pl.Int64},
    "layer_probes": _LABEL | {"layer": pl.Int64, "upto": pl.Boolean, "dev_accuracy": pl.Float64} | _SCORE,
    "interventions": _LABEL
    | {"set_size": pl.Int64, "replacement": pl.String, "class": pl.String, "n_words": pl.Int64, "measure": pl.String}
    | dict.fromkeys(("before", "after", "change", "low", "high"), pl.Float64)
    | dict.fromkeys(("control_mean", "control_low", "control_high"), pl.Float64)
    | {"n_controls": pl.Int64, "p": pl.Float64, "p_adjusted": pl.Float64},
    # Each class with its own neurons replaced; or why it was not asked for, `left_out`, and nothing else.
    "class_interventions": _LABEL
    | {"set_size": pl.Int64, "replacement": pl.String, "class": pl.String, "n_words": pl.Int64, "measure": pl.String}
    | dict.fromkeys(("before", "after", "change", "low", "high"), pl.Float64)
    | dict.fromkeys(("control_mean", "control_low", "control_high"), pl.Float64)
    | {"n_controls": pl.Int64, "variance_ratio": pl.Float64, "others_change": pl.Float64}
    | {"p": pl.Float64, "p_adjusted": pl.Float64, "left_out": pl.String},
    "neurons": _LABEL
    | {"rank": pl.Int64}
    | _PLACE
    | {"class": pl.String, "direction": pl.Int64, "auc": pl.Float64}
    | {"eta_squared": pl.Float64, "eta_squared_words": pl.Float64}
    | {"words_up": pl.List(pl.String), "words_down": pl.List(pl.String)},
    "contexts": _LABEL
    | _PLACE
    | {"direction": pl.Int64, "place": pl.Int64, "value": pl.Float64}
    | dict.fromkeys(("word", "before", "after", "source"), pl.String),
    "overlaps": _LABEL
    | {"other": pl.String, "n_shared": pl.Int64, "jaccard": pl.Float64, "expected": pl.Float64, "p": pl.Float64},
}


def frame(table: str, rows: Iterable[Mapping[str, Any]], layout: Layout | None = None) -> pl.DataFrame:
    """Rows as one of the tables; what a row lacks, or has as NaN, is null. One of neurons needs their `layout`.

    >>> frame("dropped_classes", [{"label": "upos", "class": "X", "n": 3}]).row(0)
    ('upos', 'X', 3)
    """
    schema, listed = SCHEMAS[table], list(rows)
    if "expert" in schema:
        assert layout is not None, f"table {table} is of neurons: give their layout"
        left_out = _PLACE.keys() - address_schema(layout).keys()
        schema = {name: kind for name, kind in schema.items() if name not in left_out}
    return framed(table, schema, listed)


def framed(table: str, schema: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as a table of a schema; what a row lacks, or has as NaN, is null.

    >>> framed("sizes", {"label": pl.String, "size": pl.Float64}, [{"label": "upos", "size": float("nan")}]).row(0)
    ('upos', None)
    """
    listed = list(rows)
    unknown = {name for row in listed for name in row} - set(schema)
    assert not unknown, f"table {table} has no column {', '.join(sorted(unknown))}"
    values = [tuple(_plain(row.get(name)) for name in schema) for row in listed]
    return pl.DataFrame(values, schema=dict(schema), orient="row")


def bounds(found: Interval, name: str = "accuracy", prefix: str = "") -> dict[str, float]:
    """An interval as columns: the estimate under its name, then low and high."""
    return {name: found.estimate, f"{prefix}low": found.low, f"{prefix}high": found.high}


def named(label: str, measures: Mapping[str, Interval | float]) -> pl.DataFrame:
    """Numbers by name, with or without an interval, as rows of the table `measures`."""
    rows = []
    for name, found in measures.items():
        row = bounds(found, "value") if isinstance(found, Interval) else {"value": float(found)}
        rows.append({"label": label, "measure": name} | row)
    return frame("measures", rows)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
