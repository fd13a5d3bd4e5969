"""What every part of the report of a study reads: its models and properties, and one model as an atlas of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from neuronatlas.atlas.page import Listing, Tables
from neuronatlas.atlas.salience.looks import property_look
from neuronatlas.atlas.salience.names import short_name
from neuronatlas.atlas.salience.tables import completed
from neuronatlas.atlas.style import Look
from neuronatlas.atlas.wording import Score, count, listed, number, percent

__all__ = [
    "Row",
    "as_salience",
    "both_read",
    "dash",
    "is_read",
    "labels",
    "left_out",
    "listing",
    "looks",
    "models",
    "reach",
    "readable",
    "rows",
    "spanned",
    "unread",
]

Row = dict[str, Any]

_SET = {"set_size": "minimal_size", "set_share": "minimal_share", "reached": "minimal_reached"}
_SET |= {"set_accuracy": "minimal_accuracy", "set_accuracy_low": "minimal_low", "set_accuracy_high": "minimal_high"}
_SPAN = {"accuracy_low": "low", "accuracy_high": "high"}


def models(tables: Tables) -> list[str]:
    """The models that are compared with each other, in the order given."""
    return tables["members"].filter(pl.col("role") == "model")["model"].to_list()


def labels(tables: Tables) -> list[str]:
    """The properties, in the order given."""
    return tables["minimal_sets"]["label"].unique(maintain_order=True).to_list()


def looks(tables: Tables) -> dict[str, Look]:
    """How each model looks in every figure: the same colour and symbol."""
    return {name: property_look(place, name) for place, name in enumerate(models(tables))}


def rows(tables: Tables, table: str, **wanted: Any) -> Iterator[Row]:
    """The rows of a table about the models that are compared, with these values in these columns."""
    if table not in tables:
        return
    found = tables[table].filter(pl.col("model").is_in(models(tables)))
    for column, value in wanted.items():
        found = found.filter(pl.col(column) == value)
    yield from found.iter_rows(named=True)


def unread(tables: Tables) -> list[Row]:
    """Properties that a probe reads no better than labels in random order: of these nothing else can be said."""
    return [row for row in rows(tables, "minimal_sets") if not is_read(row)]


def readable(tables: Tables, found: Iterable[Row]) -> list[Row]:
    """Those of some rows, of a model and a property each, whose property the model's probe reads."""
    blind = {(row["model"], row["label"]) for row in unread(tables)}
    names = ("model", "other")
    return [row for row in found if not any((row.get(name), row["label"]) in blind for name in names)]


def is_read(row: Row) -> bool:
    """Whether the accuracy, with its interval, lies above those of the most frequent class and of shuffled labels."""
    return row["read"] is not False


def both_read(rows: pl.DataFrame) -> pl.DataFrame:
    """Those of some pairs whose property can be read on either side."""
    return rows.filter(pl.col("read").fill_null(value=True))


def left_out(rows: pl.DataFrame, of: str = "comparison") -> str:
    """A sentence on the pairs that are left out since a property cannot be read on one of both sides; "" of none."""
    missing = rows.height - both_read(rows).height
    if not missing:
        return ""
    names = listed(sorted({short_name(label) for label in rows.filter(pl.col("read").not_())["label"]}), 6)
    return f" {count(missing, of)} left out, where a probe reads {names} no better than chance on one of both sides."


def as_salience(tables: Tables, model: str, of: str = "set") -> dict[str, pl.DataFrame]:
    """The tables of one model as those of an atlas of its own, for the figures that there are for these.

    `of` says whose layers and overlaps: those of the minimal sets (`set`) or of equally many top neurons (`top`).
    """
    mine = {name: frame.filter(pl.col("model") == model) for name, frame in tables.items() if "model" in frame.columns}
    curves = mine["curves"].rename(_SPAN)
    ablated = curves.filter(pl.col("which") != "searched").with_columns(
        method=pl.lit("lca"), mode=pl.lit("keep"), retrained=pl.lit(value=True)
    )
    found = completed(
        {
            "properties": mine["minimal_sets"].rename(_SET).with_columns(level=pl.lit("word")),
            "minimal": curves.filter(pl.col("which") == "searched"),
            "ablation": ablated,
            "layers": mine["layer_shares"]
            .filter(pl.col("of") == of)
            .with_columns(pl.lit(None, pl.String).alias("class")),
            "layer_probes": mine["layer_probes"].rename(_SPAN),
            "disjoint": mine["disjoint_sets"].rename(_SPAN),
            "overlaps": mine["property_pairs"].filter(pl.col("of") == of),
        }
    )
    extra = mine["minimal_sets"].select("shuffled", "shuffled_low", "shuffled_high")
    return found | {"properties": found["properties"].hstack(extra)}


def spanned(row: Row, name: str, digits: int = 2) -> str:
    """A number with its interval.

    >>> spanned({"excess": 0.25, "excess_low": 0.125, "excess_high": 0.5}, "excess").replace("\N{NO-BREAK SPACE}", " ")
    '0.25 [0.12, 0.50]'
    """
    value, low, high = (row.get(name + end) for end in ("", "_low", "_high"))
    text = number(value, digits)
    return (
        text
        if low is None or high is None
        else f"{text} [{number(low, digits)},\N{NO-BREAK SPACE}{number(high, digits)}]"
    )


def dash(row: Row, name: str) -> str:
    """A score in a table, in %, with its interval; a dash where there is none."""
    if row.get(name) is None:
        return "\N{EN DASH}"
    return str(Score(row[name], row.get(f"{name}_low"), row.get(f"{name}_high"))).replace("\N{NO-BREAK SPACE}%", "")


def reach(values: list[float], digits: int = 1) -> str:
    """Shares from the least to the greatest, or the one that all are.

    >>> reach([0.1, 0.25], 0).replace("\N{NO-BREAK SPACE}", " "), reach([0.1]).replace("\N{NO-BREAK SPACE}", " ")
    ('10 % to 25 %', '10.0 %')
    """
    return " to ".join(dict.fromkeys(percent(end, digits) for end in (min(values), max(values))))


def listing(headings: list[str], found: list[list[str]], caption: str, search: str = "") -> Listing:
    """A list whose headings say with a # which columns hold numbers; a long one can be searched."""
    names, numeric = [name.lstrip("#") for name in headings], [name.startswith("#") for name in headings]
    return Listing(names, numeric, found, caption, search if len(found) > 12 else "")
