"""The lists of a report on salient neurons: properties, sets, interventions, neurons, classes; as rows of text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from neuronatlas.addresses import address_columns, neurons_in
from neuronatlas.atlas.charts import shortened
from neuronatlas.atlas.page import Example, Listing, Tables
from neuronatlas.atlas.salience.names import MEASURES, measure_name, short_name
from neuronatlas.atlas.salience.reading import (
    ALPHA,
    difference,
    main_interventions,
    main_method,
    own_interventions,
    rows_of,
    score,
)
from neuronatlas.atlas.wording import Score, number, percent
from neuronatlas.neurons import Neuron

__all__ = [
    "class_effect_listing",
    "class_listing",
    "effect_listing",
    "neuron_listing",
    "note_listing",
    "own_effect_listing",
    "score_listing",
    "set_listing",
    "side_by_side",
]

_MOST_ADDRESSES = 8
_MOST_ROWS = 1000
_MOST_NEURONS = 400
_MOST_CONTEXTS = 5
_SIDE = 70
_WORD = 160
_DASH = "\N{EN DASH}"

Row = dict[str, Any]


def _listing(tables: Tables, columns: list[str], rows: list[list[str]], caption: str, search: str) -> Listing:
    """A list to search in; a heading that starts with # is of numbers. One property alone needs no column."""
    listing = Listing([name.lstrip("#") for name in columns], [name.startswith("#") for name in columns], rows, caption)
    if tables["properties"].height == 1:
        place = columns.index("Property")
        kept = [index for index in range(len(columns)) if index != place]
        listing = replace(
            listing,
            headings=[listing.headings[index] for index in kept],
            numeric=[listing.numeric[index] for index in kept],
            rows=[[row[index] for index in kept] for row in rows],
        )
        search = search.replace(" property,", "")
    return replace(listing, search=search)


def _text(found: Score | None) -> str:
    """A score in a table: its heading says in which unit."""
    return str(found).replace("\N{NO-BREAK SPACE}%", "").replace(" points", "") if found else _DASH


def _count(n: int | None) -> str:
    return _DASH if n is None else f"{n:,}"


def score_listing(tables: Tables) -> Listing:
    """All accuracies of each property, in %."""
    rows = [
        [
            short_name(row["label"]),
            _count(row["n_classes"]),
            f"{_count(row['n_train'])} / {_count(row['n_test'])}",
            *[_text(score(row, name)) for name in ("accuracy", "minimal_accuracy", "random_weights")],
            *[_text(score(row, name)) for name in ("word_majority", "majority", "control_accuracy")],
            _text(difference(row, "selectivity", "selectivity_low", "selectivity_high")),
            *[_text(score(row, name)) for name in ("seen_accuracy", "unseen_accuracy")],
            _text(score(row, "by_type_accuracy")),
        ]
        for row in rows_of(tables)
    ]
    headings = ["Property", "Classes", "Train / test", "All neurons, %", "Minimal set", "Random weights"]
    headings += ["Word's class", "Largest class", "Control task", "Selectivity, points", "Seen", "Unseen"]
    headings += ["No type shared"]
    return Listing(headings, [False, *[True] * (len(headings) - 1)], rows)


def set_listing(tables: Tables) -> Listing:
    """The minimal set of each property, and how redundant it is."""
    rows = [
        [
            short_name(row["label"]),
            _count(row["minimal_size"]) + ("" if row["minimal_reached"] is not False else "\N{DAGGER}"),
            number(None if row["minimal_share"] is None else 100 * row["minimal_share"], 2),
            _text(score(row, "minimal_accuracy")),
            _text(score(row, "accuracy")),
            _count(row["n_nonzero"]),
            _count(row["n_disjoint"]) + ("+" if row["disjoint_bound"] else ""),
            percent(row["redundant_share"]),
            _addresses(tables, row["label"]),
        ]
        for row in rows_of(tables)
    ]
    headings = ["Property", "Minimal set", "% of all", "Accuracy, %", "With all", "With a weight", "Disjoint sets"]
    headings += ["Redundant", "First neurons of the minimal set"]
    return Listing(headings, [False, *[True] * (len(headings) - 2), False], rows)


def _addresses(tables: Tables, label: str) -> str:
    """The first neurons of the minimal set by their rank, or by address where there is no ranking."""
    own = tables["sets"].filter(pl.col("label") == label, pl.col("set") == 0)
    ranked = tables["rankings"].filter(pl.col("label") == label)
    address = address_columns(own)
    ranked = ranked.filter(pl.col("method") == main_method(ranked)).select(*address, "rank")
    ordered = own.join(ranked, on=address, how="left", nulls_equal=True).sort("rank", *address, nulls_last=True)
    names = list(map(str, neurons_in(ordered)))
    rest = len(names) - _MOST_ADDRESSES
    return " ".join(names[:_MOST_ADDRESSES]) + (f" +{rest:,}" if rest > 0 else "")


def side_by_side(tables: Tables) -> Listing:
    """What the probe reads from a set of neurons beside what the model does without it, a row for each property."""
    rows = []
    for row in rows_of(tables):
        together = main_interventions(tables, row["label"]).filter(pl.col("class").is_null()).head(1)
        effect = next(together.iter_rows(named=True), None)
        replaced = effect["set_size"] if effect else None
        rows.append(
            [
                short_name(row["label"]),
                _text(score(row, "accuracy")),
                _count(row["minimal_size"]),
                _text(score(row, "minimal_accuracy")),
                _dropped(tables, row["label"], replaced or row["minimal_size"]),
                *(_effect_cells(effect) if effect else [_DASH] * 5),
            ]
        )
    headings = ["Property", "Probe: all neurons, %", "Minimal set", "Probe: these alone", "Probe: without the top"]
    headings += ["Replaced", "Model: P before → after, %", "Change, points", "Matched random", "p"]
    caption = "Encoded and used, side by side"
    return Listing(headings, [False, *[True] * (len(headings) - 1)], rows, caption)


def _dropped(tables: Tables, label: str, size: int | None) -> str:
    """Accuracy of the unchanged probe without the top neurons, about as many as were replaced."""
    rows = (
        tables["ablation"]
        .filter(pl.col("label") == label, mode="drop", which="top", retrained=False)
        .drop_nulls(["accuracy", "n_neurons"])
    )
    rows = rows.filter(pl.col("method") == main_method(rows))
    if rows.is_empty() or size is None:
        return _DASH
    nearest = rows.sort((pl.col("n_neurons") - size).abs(), "n_neurons").row(0, named=True)
    found = Score(nearest["accuracy"], nearest["low"], nearest["high"])
    return f"{nearest['n_neurons']:,}: {_text(found)}"


def _effect_cells(effect: Row) -> list[str]:
    before, after = (_value(effect, name) for name in ("before", "after"))
    return [
        _count(effect["set_size"]),
        f"{before} → {after}",
        _change(effect, "change", "low", "high"),
        _change(effect, "control_mean", "control_low", "control_high"),
        number(effect["p"], 3),
    ]


def _in_nats(effect: Row) -> bool:
    return measure_name(effect["measure"] or "").startswith("log")


def _value(effect: Row, name: str) -> str:
    if effect[name] is None or _in_nats(effect):
        return number(effect[name], 2)
    return number(100 * effect[name], 1)


def _change(effect: Row, name: str, low: str, high: str) -> str:
    if effect[name] is None or not _in_nats(effect):
        return _text(difference(effect, name, low, high))
    ends = f" [{number(effect[low], 2)}, {number(effect[high], 2)}]" if effect[low] is not None else ""
    return f"{number(effect[name], 2)}{ends}"


def effect_listing(tables: Tables) -> Listing:
    """Interventions over all classes together: every set, replacement and measure."""
    together = tables["interventions"].filter(pl.col("class").is_null())
    rows = [
        [
            short_name(row["label"]),
            row["replacement"] or _DASH,
            _measure(row),
            _count(row["n_words"]),
            *_effect_cells(row),
        ]
        for row in together.iter_rows(named=True)
    ]
    headings = ["Property", "Replaced by", "Measure", "Words", "Neurons", "Before → after", "Change"]
    headings += ["Matched random", "p"]
    return Listing(headings, [False] * 3 + [True] * 6, rows, "All classes together, in points of a hundred")


def _measure(row: Row) -> str:
    measure = measure_name(row["measure"] or "")
    return MEASURES.get(measure, measure) + (" (nats)" if _in_nats(row) else "")


def class_effect_listing(tables: Tables) -> Listing:
    """Interventions class by class: the ones that the figures show, with every class."""
    rows = []
    for label in tables["properties"]["label"]:
        own = main_interventions(tables, label).filter(pl.col("class").is_not_null())
        for row in own.sort("p_adjusted", "change", "class", nulls_last=True).iter_rows(named=True):
            cells = [short_name(label), shortened(row["class"], 60), _count(row["n_words"]), *_effect_cells(row)]
            rows.append([*cells, _adjusted(row)])
    columns = ["Property", "Class", "#Words", "#Neurons", "#P before → after, %", "#Change, points"]
    columns += ["#Matched random", "#p", "#Adjusted p"]
    caption = _cut("Class by class", len(rows))
    return _listing(tables, columns, rows[:_MOST_ROWS], caption, "Search: property, class …")


def _adjusted(row: Row) -> str:
    star = "*" if row["p_adjusted"] is not None and row["p_adjusted"] <= ALPHA else ""
    return f"{number(row['p_adjusted'], 3)}{star}"


def own_effect_listing(tables: Tables) -> Listing:
    """Each class with its own neurons replaced, and how far these and their random sets are alike in variance."""
    rows = []
    for label in tables["properties"]["label"]:
        own = own_interventions(tables, label).filter(pl.col("class").is_not_null())
        for row in own.sort("p_adjusted", "change", "class", nulls_last=True).iter_rows(named=True):
            *effect, p = _effect_cells(row)
            named = [short_name(label), shortened(row["class"], 60), _count(row["n_words"])]
            fair = number(row["variance_ratio"], 2)
            others = _text(difference(row, "others_change", "", ""))
            rows.append([*named, *effect, fair, others, p, _adjusted(row)])
    columns = ["Property", "Class", "#Words", "#Own neurons", "#P before → after, %", "#Change, points"]
    columns += ["#Matched random", "#Variance ratio", "#In other classes", "#p", "#Adjusted p"]
    caption = _cut("Class by class, each without its own neurons", len(rows))
    return _listing(tables, columns, rows[:_MOST_ROWS], caption, "Search: property, class …")


def _cut(caption: str, n: int) -> str:
    return caption if n <= _MOST_ROWS else f"{caption}: the first {_MOST_ROWS:,} of {n:,}; the tables have them all"


def neuron_listing(tables: Tables) -> Listing:
    """The described neurons with their words, and the contexts that drive them to unfold."""
    contexts = _contexts(tables)
    rows, examples = [], []
    order = {label: place for place, label in enumerate(tables["properties"]["label"])}
    found = sorted(
        tables["neurons"].iter_rows(named=True), key=lambda row: (row["rank"] or 0, order.get(row["label"], 0))
    )
    for row in found[:_MOST_NEURONS]:
        rows.append(
            [
                str(_neuron(row)),
                short_name(row["label"]),
                _count(None if row["rank"] is None else row["rank"] + 1),
                _selected(row),
                number(row["auc"], 2),
                number(row["eta_squared"], 2),
                number(row["eta_squared_words"], 2),
                _words(row),
            ]
        )
        examples.append(tuple(contexts.get((row["label"], _neuron(row)), ())))
    columns = ["Neuron", "Property", "#Rank", "Class", "#AUC", "#η² label", "#η² word", "Words and contexts"]
    rest = len(found) - len(rows)
    caption = f"The first {len(rows):,} of {len(found):,} by rank; neurons.parquet has them all" if rest else ""
    listing = _listing(tables, columns, rows, caption, "Search: neuron, property, class, word …")
    return replace(listing, examples=tuple(examples))


def _selected(row: Row) -> str:
    """The class that the neuron tells best, and whether its values are high or low there."""
    if row["class"] is None:
        return _DASH
    arrow = {1: "↑ ", -1: "↓ "}.get(row["direction"], "")
    return f"{arrow}{shortened(row['class'], 60)}"


def _words(row: Row) -> str:
    lines = [
        f"{arrow} {', '.join(shortened(word, 40) for word in row[name])}"
        for arrow, name in (("↑", "words_up"), ("↓", "words_down"))
        if row[name]
    ]
    return "\n".join(lines)


def _neuron(row: Row) -> Neuron:
    return Neuron(row["layer"], row["unit"], row["expert"])


def _contexts(tables: Tables) -> dict[tuple[str, Neuron], list[Example]]:
    found: dict[tuple[str, Neuron], list[Example]] = {}
    rows = tables["contexts"].filter(pl.col("place") < _MOST_CONTEXTS)
    falling = [False] * (1 + len(address_columns(rows)))
    rows = rows.sort("label", *address_columns(rows), "direction", "place", descending=[*falling, True, False])
    for row in rows.iter_rows(named=True):
        key = (row["label"], _neuron(row))
        found.setdefault(key, []).append(_example(row))
    return found


def _example(row: Row) -> Example:
    before, word, after = (row[name] or "" for name in ("before", "word", "after"))
    before = before if len(before) <= _SIDE else f"…{before[-_SIDE:]}"
    after = after if len(after) <= _SIDE else f"{after[:_SIDE]}…"
    return Example(number(row["value"], 2), before, shortened(word, _WORD), after, row["source"] or "")


def class_listing(tables: Tables) -> Listing:
    """Every class: how many examples, how well it is found, how many top neurons it has."""
    order = {label: place for place, label in enumerate(tables["properties"]["label"])}
    found = tables["classes"].sort("n_train", "class", descending=[True, False], nulls_last=True)
    rows = [
        [
            short_name(row["label"]),
            shortened(row["class"] or "", 60),
            _count(row["n_train"]),
            _count(row["n_test"]),
            _text(score(row | {"recall_accuracy": row["recall"]}, "recall_accuracy")),
            _count(row["n_top"]),
        ]
        for row in sorted(found.iter_rows(named=True), key=lambda row: order.get(row["label"], 0))
    ]
    masses = sorted(set(tables["classes"]["mass"].drop_nulls()))
    mass = f" (mass {masses[0]:g})" if len(masses) == 1 else ""
    columns = ["Property", "Class", "#Train", "#Test", "#Recall, %", f"#Top neurons{mass}"]
    caption = (
        f"The first {_MOST_ROWS:,} of {len(rows):,}; classes.parquet has them all" if len(rows) > _MOST_ROWS else ""
    )
    return _listing(tables, columns, rows[:_MOST_ROWS], caption, "Search: property, class …")


def note_listing(tables: Tables) -> Listing:
    """What the stages of the study noted; the same note on several properties once."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in tables["notes"].iter_rows(named=True):
        found.setdefault((row["stage"] or "", row["note"] or ""), []).append(short_name(row["label"]))
    rows = [[", ".join(dict.fromkeys(labels)), stage, note] for (stage, note), labels in found.items()]
    return _listing(tables, ["Property", "Stage", "Note"], rows, "", "")
