"""The numbers at the head of a report on salient neurons: of one property its four main ones, of several one each."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from neuronatlas.atlas.page import Tables, Tile, whiskers
from neuronatlas.atlas.salience.names import CLASS_MASS, items_of, measure_name, property_name
from neuronatlas.atlas.salience.reading import Row, difference, main_interventions, n_neurons, rows_of, score
from neuronatlas.atlas.wording import Difference, Score, count, percent

__all__ = ["tiles"]


def tiles(tables: Tables) -> Iterator[Tile]:
    """One property: accuracy, minimal set, selectivity, effect in the model. Several: the accuracy of each."""
    rows = rows_of(tables)
    if len(rows) != 1:
        yield from (tile for row in rows for tile in _accuracy(row, property_name(row["label"]), _size_note(row)))
        return
    (row,) = rows
    yield from _accuracy(row, "Accuracy", "")
    yield from _minimal(tables, row)
    yield from _selectivity(row)
    yield from _effect(tables, row)


def _accuracy(row: Row, label: str, note: str) -> Iterator[Tile]:
    found = score(row, "accuracy")
    if found is None:
        return
    baseline = _baseline(row)
    control = {"control": baseline[1]} if baseline else {}
    zero, drawn = whiskers({"found": found} | control)
    against = f"{baseline[0]} {baseline[1].size}" if baseline else "no baseline"
    yield Tile(label, found.size, f"{against}{note}", found.interval, zero, drawn)


def _baseline(row: Row) -> tuple[str, Score] | None:
    """The best of what can be said without a model."""
    named = {"word_majority": f"each {items_of(row['level'])}'s most frequent class", "majority": "most frequent class"}
    found = {what: Score(row[name]) for name, what in named.items() if row[name] is not None}
    return max(found.items(), key=lambda item: item[1].value, default=None)


def _size_note(row: Row) -> str:
    if row["minimal_size"] is None:
        return ""
    if row["minimal_reached"] is False:
        return "; no smaller set does as well"
    verb = "suffices" if row["minimal_size"] == 1 else "suffice"
    return f"; {count(row['minimal_size'], 'neuron')} ({percent(row['minimal_share'], 1)}) {verb}"


def _minimal(tables: Tables, row: Row) -> Iterator[Tile]:
    if row["minimal_size"] is None:
        return
    whole = tables["layers"].filter(pl.col("class").is_null()).sort("layer")
    n = [value or 0 for value in whole["n"]]
    bars = tuple(round(100 * value / max(1, *n), 1) for value in n) if n else ()
    total = n_neurons(tables, row["label"])
    detail = f"{percent(row['minimal_share'], 1)} of {total:,} neurons" if total else percent(row["minimal_share"], 1)
    note = f"by layer, from 0 to {len(n) - 1}" if len(n) > 1 else "in the only layer" if n else ""
    if row["minimal_reached"] is False:
        note = "no smaller set does as well"
    yield Tile("Minimal set", f"{row['minimal_size']:,}", note, detail, bars=bars)


def _selectivity(row: Row) -> Iterator[Tile]:
    found = difference(row, "selectivity", "selectivity_low", "selectivity_high")
    if found is None:
        return
    zero, drawn = whiskers({"found": found})
    note = f"control task {Score(row['control_accuracy'])}" if row["control_accuracy"] is not None else ""
    yield Tile("Selectivity", found.size, note, found.interval, zero, drawn)


def _effect(tables: Tables, row: Row) -> Iterator[Tile]:
    own = main_interventions(tables, row["label"]).filter(pl.col("class").is_null(), pl.col("change").is_not_null())
    for effect in own.head(1).iter_rows(named=True):
        if measure_name(effect["measure"]) != CLASS_MASS:
            return
        found = Difference(effect["change"], effect["low"], effect["high"])
        control = difference(effect, "control_mean", "control_low", "control_high")
        zero, drawn = whiskers({"found": found} | ({"control": control} if control else {}))
        note = f"matched random neurons {control.size}" if control else "no control"
        size = count(effect["set_size"], "neuron") if effect["set_size"] is not None else "neurons"
        yield Tile(f"P(right class), {size} replaced", found.size, note, found.interval, zero, drawn)
