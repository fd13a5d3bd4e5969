"""What a report says of classes whose own neurons were replaced in the running model: a sentence, figures, a note."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from neuronatlas.atlas.page import Plot, Tables
from neuronatlas.atlas.salience import effects
from neuronatlas.atlas.salience.names import MEASURES, measure_name, property_name, short_name
from neuronatlas.atlas.salience.reading import ALPHA, own_interventions
from neuronatlas.atlas.wording import count, listed, percent

__all__ = ["left_out_sentence", "own_note", "own_plot", "own_sentence"]


def own_sentence(tables: Tables) -> str:
    """How many classes, and which, fall further without their own neurons than without random ones."""
    told = []
    for label in tables["properties"]["label"]:
        own = own_interventions(tables, label)
        tested = own.filter(pl.col("class").is_not_null(), pl.col("p_adjusted").is_not_null())
        moved = tested.filter(pl.col("p_adjusted") <= ALPHA).sort("change", "class")["class"].to_list()
        if tested.height:
            named = f" ({listed([short_name(name) for name in moved], 6)})" if moved else ""
            told.append(f"{len(moved)} of {count(tested.height, 'class', 'classes')} of {short_name(label)}{named}")
    if not told:
        return ""
    return f"When each class loses its own neurons instead, this many fall beyond random ones: {listed(told, 8)}."


def own_plot(tables: Tables, place: int) -> Iterator[Plot]:
    """The figure of the property at a place in the atlas, if its classes were asked for."""
    label = tables["properties"]["label"][place]
    own = own_interventions(tables, label)
    if own.is_empty():
        return
    one = own.row(0, named=True)
    put = {"mean": "their mean", "zero": "0"}.get(one["replacement"], one["replacement"])
    what = MEASURES.get(measure_name(one["measure"]), one["measure"])
    caption = f"{property_name(label)}: the classes one after another, each with its own {_sizes(own)} "
    caption += f"replaced by {put}. Filled: change of the {what} for the class's own words; open: for the words of the "
    caption += f"other classes meanwhile. * Adjusted p ≤ {ALPHA:g}."
    yield Plot(f"own-interventions-{place}", effects.own_effects(own), caption)


def _sizes(own: pl.DataFrame) -> str:
    sizes = sorted(own["set_size"].drop_nulls())
    if not sizes or sizes[0] == sizes[-1]:
        return count(sizes[0], "neuron") if sizes else "neurons"
    return f"{sizes[0]:,} to {sizes[-1]:,} neurons"


def own_note(tables: Tables) -> str:
    """Which neurons are a class's own, what they are compared with, and which classes were not asked for."""
    asked = tables["class_interventions"].filter(pl.col("change").is_not_null())
    if asked.is_empty():
        return ""
    masses = sorted(set(tables["classes"]["mass"].drop_nulls()))
    which = f" at a mass of {percent(masses[0])}" if len(masses) == 1 else ""
    most = asked["n_controls"].max()
    sets = f"up to {count(most, 'random set')}" if isinstance(most, int) else "random sets"
    text = f"A class's own neurons: its top ones{which}; each class is compared with {sets} for these: fewer where the "
    text += "first ones lower its probability as much."
    return f"{text} {left_out_sentence(tables)}".rstrip()


def left_out_sentence(tables: Tables) -> str:
    """How many classes were not asked for, by property and reason."""
    rows = tables["class_interventions"].filter(pl.col("left_out").is_not_null())
    groups = rows.group_by("label", "left_out", maintain_order=True).len().iter_rows()
    several = tables["properties"].height > 1
    told = [
        f"{count(n, 'class', 'classes')}{f' of {short_name(label)}' if several else ''} ({why})"
        for label, why, n in groups
    ]
    return f"Left out: {listed(told, 8)}." if told else ""
