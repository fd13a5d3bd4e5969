"""Neurons as columns of tables: `layer`, `expert` and `unit`.

Only tables about a model with experts have the column `expert`; it is null where a layer has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

import numpy as np
import polars as pl
from jaxtyping import Int

from neuronatlas.neurons import Layout, Neuron

__all__ = [
    "address_columns",
    "address_names",
    "address_of",
    "address_schema",
    "address_series",
    "indices_in",
    "neurons_in",
]

_COLUMNS = ("layer", "expert", "unit")


def address_schema(layout: Layout) -> dict[str, type[pl.DataType]]:
    """The columns that tell neurons of a layout apart, in the order by which neurons are sorted.

    >>> list(address_schema(Layout("ffn", (4, 4)))), list(address_schema(Layout("ffn", (4, 4), experts=((), (2, 2)))))
    (['layer', 'unit'], ['layer', 'expert', 'unit'])
    """
    return {name: pl.Int64 for name in _COLUMNS if name != "expert" or layout.experts}


def address_of(layout: Layout, neuron: Neuron) -> dict[str, int | None]:
    """What a neuron of a layout has in those columns.

    >>> address_of(Layout("ffn", (4, 4), experts=((), (2, 2))), Neuron(1, 0, expert=1))
    {'layer': 1, 'expert': 1, 'unit': 0}
    """
    values = {"layer": neuron.layer, "expert": neuron.expert, "unit": neuron.unit}
    return {name: values[name] for name in address_schema(layout)}


def address_series(layout: Layout, neurons: Iterable[Neuron]) -> dict[str, pl.Series]:
    """Those columns for some neurons of a layout.

    >>> {name: list(column) for name, column in address_series(Layout("ffn", (4, 4)), [Neuron(1, 3)]).items()}
    {'layer': [1], 'unit': [3]}
    """
    rows = [tuple(address_of(layout, neuron).values()) for neuron in neurons]
    return pl.DataFrame(rows, schema=address_schema(layout), orient="row").to_dict()


def address_columns(frame: pl.DataFrame) -> list[str]:
    """Those of the columns that a table has; a join by them needs `nulls_equal`."""
    return [name for name in _COLUMNS if name in frame.columns]


def address_names(frame: pl.DataFrame) -> pl.Expr:
    """The addresses of a table's neurons as text, in a column `neuron`.

    >>> table = pl.DataFrame({"layer": [0, 1], "expert": [None, 3], "unit": [5, 7]})
    >>> table.select(address_names(table))["neuron"].to_list()
    ['L0.U5', 'L1.E3.U7']
    """
    named = pl.format("L{}.U{}", "layer", "unit")
    if "expert" in frame.columns:
        named = pl.coalesce(pl.format("L{}.E{}.U{}", "layer", "expert", "unit"), named)
    return named.alias("neuron")


def neurons_in(frame: pl.DataFrame) -> Iterator[Neuron]:
    """The neuron of each row of a table.

    >>> [str(neuron) for neuron in neurons_in(pl.DataFrame({"layer": [0], "unit": [5]}))]
    ['L0.U5']
    """
    for row in frame.select(address_columns(frame)).iter_rows(named=True):
        yield Neuron(row["layer"], row["unit"], row.get("expert"))


def indices_in(frame: pl.DataFrame, layout: Layout) -> Int[np.ndarray, " row"]:
    """The flat index in a layout of each row's neuron.

    >>> mixed = Layout("ffn", (4, 4), experts=((), (1, 3)))
    >>> indices_in(pl.DataFrame({"layer": [0, 1], "expert": [None, 1], "unit": [2, 0]}), mixed).tolist()
    [2, 5]
    """
    starts = {
        (layer, expert): offset + start
        for layer, offset in enumerate(layout.offsets[:-1])
        for expert, start in enumerate(accumulate(layout.experts_of(layer)[:-1], initial=0))
    }
    groups = frame.select("layer", pl.col("expert").fill_null(0) if "expert" in frame.columns else pl.lit(0))
    first = np.array([starts[group] for group in groups.iter_rows()], dtype=np.int64)
    flat: Int[np.ndarray, " row"] = first + frame["unit"].to_numpy()
    return flat
